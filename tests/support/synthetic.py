"""People with known truth: the project's body in known poses before a known camera, as exact landmarks."""

from __future__ import annotations

import numpy as np

from pipeline.body import BodyModel, PosedBody
from pipeline.calibration import pinhole
from pipeline.frames import Array, R_world_camera_from_up, exp_so3, project, up_from_pitch_roll
from pipeline.types import JOINT, CalibrationStatus, CameraCalibration, Detection, Landmarks

SIZE_WH = (1280, 720)


def camera(
    focal_px: float = 1000.0,
    pitch_deg: float = 12.0,
    roll_deg: float = 3.0,
    height_m: float | None = 1.7,
    size_wh: tuple[int, int] = SIZE_WH,
    status: CalibrationStatus = CalibrationStatus.SUPPLIED,
) -> CameraCalibration:
    """A camera that is known exactly."""
    up = up_from_pitch_roll(np.radians(pitch_deg), np.radians(roll_deg))
    return CameraCalibration(
        camera_id="test", size_wh=size_wh, K=pinhole(focal_px, size_wh), distortion=np.zeros(5),
        R_world_camera=R_world_camera_from_up(up), camera_height_m=height_m, focal_spread=0.0, gravity_spread_rad=0.0,
        height_spread_m=0.0, status=status, n_samples=1, estimator="test",
    )  # fmt: skip


def arms_down(Rs: Array | None = None) -> Array:
    """Rs_parent_joint (23, 3, 3) of somebody who stands with hanging arms; `Rs` is changed and returned if given."""
    Rs = np.tile(np.eye(3), (23, 1, 1)) if Rs is None else Rs
    Rs[JOINT["left_shoulder"] - 1] = exp_so3([0.0, 0.0, -1.2])
    Rs[JOINT["right_shoulder"] - 1] = exp_so3([0.0, 0.0, 1.2])
    return Rs


def walking(phase: float) -> Array:
    """Rs_parent_joint (23, 3, 3) of a stride: thighs, knees and arms swing."""
    Rs = arms_down()
    swing = 0.35 * np.sin(phase)
    for side, turn, bend in (
        ("left", -swing, 0.15 + 0.15 * np.cos(phase)),
        ("right", swing, 0.15 - 0.15 * np.cos(phase)),
    ):
        # Half of the knee's bend in the hip keeps the ankle under it
        Rs[JOINT[f"{side}_hip"] - 1] = exp_so3([turn - bend / 2, 0.0, 0.0])
        Rs[JOINT[f"{side}_knee"] - 1] = exp_so3([bend, 0.0, 0.0])
    Rs[JOINT["left_elbow"] - 1] = exp_so3([0.0, -0.5, 0.0])
    Rs[JOINT["right_elbow"] - 1] = exp_so3([0.0, 0.5, 0.0])
    return Rs


def stand(body: BodyModel, Rs: Array, yaw: float, place_xz: tuple[float, float], floor_m: float = 0.0) -> PosedBody:
    """The mean body in the world, its lowest landmark on the floor."""
    shaped = body.shaped(np.zeros(10))
    R = exp_so3([0.0, yaw, 0.0])
    lowest = shaped.posed(R, np.zeros(3), Rs).landmarks[:, 1].min()
    return shaped.posed(R, np.array([place_xz[0], floor_m - lowest, place_xz[1]]), Rs)


def see(
    posed_world: PosedBody,
    calibration: CameraCalibration,
    track_id: int = 1,
    noise_px: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Detection:
    """What a perfect landmark network would say of a body in the world."""
    points = (posed_world.landmarks - calibration.t_world_camera) @ calibration.R_world_camera
    uv = project(points, calibration.K)
    if noise_px and rng is not None:
        uv = uv + rng.normal(0.0, noise_px, uv.shape)
    middle = (points[23] + points[24]) / 2
    depth_px = (points[:, 2] - middle[2]) * calibration.K[0, 0] / middle[2]
    landmarks = Landmarks(uv, depth_px, np.ones(33), points - middle, 1.0)
    return Detection(np.concatenate([uv.min(0), uv.max(0)]), 1.0, track_id, landmarks)
