"""Messages of version 1 as they were first written: what the wire must stay."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pipeline import messages
from pipeline.messages import (
    Calibration,
    CalibrationMessage,
    MeshMessage,
    MeshPerson,
    PersonMessage,
    PoseMessage,
    StatusMessage,
)

GOLDEN = Path(__file__).parents[1] / "data" / "wire_v1"


def golden_messages() -> dict[str, messages.Message]:
    """One message of each kind, of numbers that every machine writes alike."""

    def ramp(*shape: int) -> np.ndarray:
        return np.arange(math.prod(shape)).reshape(shape) / 8 - 1

    calibration = Calibration(
        id="0123abcd",
        status="calibrated",
        size_wh=(1280, 720),
        focal_px=1000.5,
        focal_spread=0.03125,
        K=np.array([[1000.5, 0, 639.5], [0, 1000.5, 359.5], [0, 0, 1]]),
        distortion=ramp(5),
        quat_world_camera_xyzw=np.array([1.0, 0, 0, 0]),
        t_world_camera_m=np.array([0, 1.5, 0]),
        pitch_rad=0.25,
        roll_rad=-0.125,
        gravity_spread_rad=None,
        camera_height_m=1.5,
        height_spread_m=0.0625,
        n_samples=120,
        estimator="golden 1",
    )
    person = PersonMessage(
        id=7,
        score=0.875,
        predicted=False,
        box_xyxy=ramp(4),
        confidence=ramp(24),
        betas=ramp(10),
        quat_camera_root_xyzw=np.array([1.0, 0, 0, 0]),
        t_camera_root_m=ramp(3),
        quat_world_root_xyzw=np.array([0, 0, 0, 1.0]),
        t_world_root_m=ramp(3),
        velocity_world_m_s=ramp(3),
        quats_parent_joint_xyzw=ramp(23, 4),
        joints_camera_m=ramp(24, 3),
        joints_world_m=ramp(24, 3),
    )
    pose = PoseMessage(
        v=1,
        camera="cam",
        index=300,
        size_wh=(1280, 720),
        t_capture_ns=10_000_000_000,
        t_wall_ns=1_700_000_000_000_000_000,
        t_grab_ns=10_004_000_000,
        t_publish_ns=10_030_000_000,
        t_publish_wall_ns=1_700_000_000_030_000_000,
        dropped=2,
        stages_ms={"detector": 12.5},
        calibration=calibration,
        people=(person,),
    )
    status = StatusMessage(
        v=1,
        camera="cam",
        t_publish_ns=10_030_000_000,
        t_publish_wall_ns=1_700_000_000_030_000_000,
        state="running",
        fps=29.5,
        people=1,
        frames=298,
        dropped=2,
        pose_age_ms=26.5,
        calibration_id="0123abcd",
        calibration_status="calibrated",
        program="whmr-stream 0.1.0",
        uptime_s=10.25,
    )
    tables = CalibrationMessage(1, "cam", 10_030_000_000, 1_700_000_000_030_000_000, calibration)
    mesh = MeshMessage(
        v=1,
        camera="cam",
        index=300,
        t_capture_ns=10_000_000_000,
        t_wall_ns=1_700_000_000_000_000_000,
        t_publish_ns=10_031_000_000,
        t_publish_wall_ns=1_700_000_000_031_000_000,
        body="default",
        topology="89abcdef",
        n_vertices=4,
        people=(MeshPerson(7, ramp(4, 3)),),
        faces=np.array([[0, 1, 2], [0, 2, 3]], dtype=np.uint32),
    )
    return {"pose": pose, "pose_json": pose, "calibration": tables, "status": status, "mesh": mesh}


def golden_bytes(kind: str) -> bytes:
    """The bytes of that message, topic included, as committed."""
    return bytes.fromhex((GOLDEN / f"{kind}.hex").read_text())
