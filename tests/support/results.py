"""Random but valid records for tests: a seed and a number of people give the same FrameResult every time."""

from __future__ import annotations

import dataclasses

import numpy as np

from pipeline import frames
from pipeline.types import (
    BodyPose,
    CalibrationStatus,
    CameraCalibration,
    FrameResult,
    Person,
    WorldPose,
)


def random_calibration(
    seed: int = 0, camera_id: str = "cam", status: CalibrationStatus = CalibrationStatus.CALIBRATED
) -> CameraCalibration:
    """A plausible tilted camera; without a height when `seed` is odd."""
    rng = np.random.default_rng([1, seed])
    focal = rng.uniform(500, 2000)
    up = frames.up_from_pitch_roll(rng.uniform(-0.6, 0.6), rng.uniform(-0.2, 0.2))
    known = seed % 2 == 0
    return CameraCalibration(
        camera_id=camera_id,
        size_wh=(1280, 720),
        K=np.array([[focal, 0.0, 639.5], [0.0, focal, 359.5], [0.0, 0.0, 1.0]]),
        distortion=rng.normal(0, 0.05, 5),
        R_world_camera=frames.R_world_camera_from_up(up),
        camera_height_m=float(rng.uniform(0.5, 3.0)) if known else None,
        focal_spread=float(rng.uniform(0.01, 0.2)),
        gravity_spread_rad=float(rng.uniform(0.001, 0.1)),
        height_spread_m=float(rng.uniform(0.01, 0.2)) if known else None,
        status=status,
        n_samples=int(rng.integers(1, 500)),
        estimator="test 1",
    )


def random_person(rng: np.random.Generator, calibration: CameraCalibration, track_id: int) -> Person:
    """One person 1.5 to 8 m before the camera, the same body in both frames; the joints are loose around the pelvis."""
    R_camera_root = frames.exp_so3(rng.normal(0, 1.5, 3))
    Rs = frames.exp_so3(rng.normal(0, 0.6, (23, 3)))
    z = rng.uniform(1.5, 8.0)
    root = np.array([rng.uniform(-0.5, 0.5) * z, rng.uniform(-0.3, 0.3) * z, z])
    joints = root + rng.normal(0, 0.4, (24, 3))
    joints[0] = root
    R, t = calibration.R_world_camera, calibration.t_world_camera
    betas, confidence = rng.normal(0, 1, 10), rng.uniform(0, 1, 24)
    box = np.sort(rng.uniform(0, 700, (2, 2)), axis=0).ravel()
    return Person(
        track_id=track_id,
        box_xyxy=box,
        score=float(rng.uniform(0.5, 1.0)),
        camera=BodyPose(R_camera_root, root, Rs, betas, joints, confidence),
        world=WorldPose(
            R @ R_camera_root, R @ root + t, Rs, betas, joints @ R.T + t, confidence, rng.normal(0, 0.5, 3)
        ),
        predicted=bool(rng.random() < 0.2),
    )


def random_result(
    people: int = 1,
    seed: int = 0,
    index: int = 0,
    camera_id: str = "cam",
    calibration: CameraCalibration | None = None,
) -> FrameResult:
    """A valid FrameResult with `people` people; frames are 1/30 s apart by `index`, ids are 1, 2, 3, ..."""
    rng = np.random.default_rng([2, seed, index])
    calibration = random_calibration(seed, camera_id) if calibration is None else calibration
    t = 5_000_000_000 + index * 33_333_333
    return FrameResult(
        camera_id=camera_id,
        index=index,
        t_capture_ns=t,
        t_wall_ns=1_700_000_000_000_000_000 + t,
        t_grab_ns=t + 4_000_000,
        size_wh=calibration.size_wh,
        dropped=int(rng.integers(0, 9)),
        stages_ms={"detector": float(rng.uniform(5, 20)), "recovery": float(rng.uniform(0.5, 2))},
        calibration=calibration,
        people=tuple(random_person(rng, calibration, i + 1) for i in range(people)),
    )


def with_camera(result: FrameResult, camera_id: str) -> FrameResult:
    """The same result of a camera with another id."""
    calibration = dataclasses.replace(result.calibration, camera_id=camera_id)
    return dataclasses.replace(result, camera_id=camera_id, calibration=calibration)
