"""People with known truth: the project's body in known poses before a known camera, as exact landmarks.

Single poses (`arms_down`, `walking`) and whole performances (`act`): somebody bends, reaches, sits down, gets up, walks
with planted feet and turns, in a space that a camera can see.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from benchmarks.demo_motion import Motion, Script, perform, window
from pipeline.body import BodyModel, PosedBody, ShapedBody
from pipeline.calibration_unknown import pinhole
from pipeline.frames import (
    Array,
    R_world_camera_from_up,
    exp_so3,
    in_picture,
    log_so3,
    normalize,
    project,
    shortest_rotation,
    up_from_pitch_roll,
)
from pipeline.types import JOINT, CalibrationStatus, CameraCalibration, Detection, Landmarks

SIZE_WH = (1280, 720)
#: Visibility of a landmark outside the picture; MediaPipe says about as much.
OUTSIDE = 0.1
_ACT_FPS = 30


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


def in_camera(points_world: Array, calibration: CameraCalibration) -> Array:
    """Points (..., 3) of the world in camera metres."""
    return (points_world - calibration.t_world_camera) @ calibration.R_world_camera


def see(
    posed_world: PosedBody,
    calibration: CameraCalibration,
    track_id: int = 1,
    noise_px: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Detection:
    """What a perfect landmark network would say of a body in the world, all 33 landmarks taken for visible."""
    points = in_camera(posed_world.landmarks, calibration)
    uv = project(points, calibration.K)
    if noise_px and rng is not None:
        uv = uv + rng.normal(0.0, noise_px, uv.shape)
    return detection(in_ray_axes(points), uv, np.ones(33), calibration, track_id)


def in_ray_axes(points: Array) -> Array:
    """Landmarks (..., 33, 3) in the camera turned until the ray through the hips is the z axis, as networks see."""
    middle = normalize(points[..., 23, :] + points[..., 24, :])
    Rs_ray_camera = shortest_rotation(middle, np.broadcast_to([0.0, 0.0, 1.0], middle.shape))
    return points @ np.swapaxes(Rs_ray_camera, -1, -2)


def detection(
    points_m: Array, points_px: Array, visibility: Array, calibration: CameraCalibration, track_id: int = 1
) -> Detection:
    """A Detection of landmarks (33, 3), axes of the ray to the hips, any origin before it, at pixels (33, 2)."""
    middle = (points_m[23] + points_m[24]) / 2
    depth_px = (points_m[:, 2] - middle[2]) * calibration.K[0, 0] / max(float(middle[2]), 0.1)
    landmarks = Landmarks(points_px, depth_px, visibility, points_m - middle, 1.0)
    return Detection(np.concatenate([points_px.min(0), points_px.max(0)]), 1.0, track_id, landmarks)


def visible(points_px: Array, size_wh: tuple[int, int]) -> Array:
    """Visibility (..., 33) of landmarks at pixels (..., 33, 2): 1 inside the picture, little outside."""
    return np.where(in_picture(points_px, size_wh), 1.0, OUTSIDE)


@dataclass(frozen=True)
class Space:
    """Where somebody acts: the middle of it is straight before the camera, `away_m` along the floor.

    half_width_m, half_depth_m  how far they go to the sides, and nearer and farther
    """

    away_m: float
    half_width_m: float
    half_depth_m: float


def act(body: BodyModel, betas: Array, space: Space, seconds: float, fps: float) -> PosedBody:
    """Somebody of shape `betas` (10,) in the world over T = seconds * fps frames; soles on the floor at y = 0.

    Bends down, reaches out, sits down, and after six seconds walks a round through the space, turning as they
    go. Made at 30 frames a second; `fps` must divide that.
    """
    shaped = body.shaped(betas)
    actor = dataclasses.replace(body, joints=shaped.joints_rest, landmarks=shaped.landmarks_rest, _tensors={})
    sole = float(shaped.vertices_rest[:, 1].min())
    script, bend_s, reach_s = _script(space)
    motion = perform(script, actor, sole, round(seconds * _ACT_FPS), _ACT_FPS)
    t = np.arange(len(motion.t_world_root)) / _ACT_FPS
    motion = _reaching(_bent(motion, shaped, window(t, bend_s, bend_s + 1.9, 0.8)), window(t, *reach_s, 0.6))
    keep = slice(None, None, round(_ACT_FPS / fps))
    return shaped.posed(motion.R_world_root[keep], motion.t_world_root[keep], motion.Rs_parent_joint[keep])


def _script(space: Space) -> tuple[Script, float, tuple[float, float]]:
    """The walk, when the bend begins, and from when to when the arms reach out."""
    w, d, z = space.half_width_m, space.half_depth_m, -space.away_m
    facing = 0.15
    script = Script(-0.6 * w, z + 0.8 * d, facing)
    script.wait(0.6)
    bend_s = script.now_s
    reach_s = (bend_s + 1.7, bend_s + 3.1)
    script.wait(2.8)
    seat = np.array([script.x - 0.36 * np.sin(facing), 0.55, script.z - 0.36 * np.cos(facing)])
    script.gesture("sit", 3.0, seat, 0.05).wait(3.0)
    script.walk([(0.2 * w, z + d), (w, z), (0.3 * w, z - d), (-w, z - 0.6 * d), (-0.8 * w, z + 0.6 * d)])
    return script, bend_s, reach_s


def _bent(motion: Motion, shaped: ShapedBody, amount: Array) -> Motion:
    """Hips and spine bent forward by `amount` (T,) of 0..1; the legs stay as they are."""
    hips, spine = exp_so3(np.multiply.outer(0.7 * amount, [1.0, 0.0, 0.0])), 0.25 * amount
    middle = shaped.joints_rest[[JOINT["left_hip"], JOINT["right_hip"]]].mean(0) - shaped.joints_rest[0]
    Rs = np.array(motion.Rs_parent_joint)
    for side in ("left", "right"):
        Rs[:, JOINT[f"{side}_hip"] - 1] = np.swapaxes(hips, 1, 2) @ Rs[:, JOINT[f"{side}_hip"] - 1]
    for name in ("spine1", "spine2", "spine3"):
        Rs[:, JOINT[name] - 1] = exp_so3(np.multiply.outer(spine, [1.0, 0.0, 0.0])) @ Rs[:, JOINT[name] - 1]
    shift = np.einsum("tab,tb->ta", motion.R_world_root, middle - hips @ middle)
    R = motion.R_world_root @ hips
    return dataclasses.replace(motion, R_world_root=R, t_world_root=motion.t_world_root + shift, Rs_parent_joint=Rs)


def _reaching(motion: Motion, amount: Array) -> Motion:
    """Both arms stretched forward and up by `amount` (T,) of 0..1."""
    Rs = np.array(motion.Rs_parent_joint)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        out = exp_so3([0.0, -1.0 * sign, 0.0]) @ exp_so3([0.0, 0.0, 0.4 * sign])
        for name, target in ((f"{side}_shoulder", out), (f"{side}_elbow", np.eye(3))):
            old = Rs[:, JOINT[name] - 1]
            Rs[:, JOINT[name] - 1] = old @ exp_so3(amount[:, None] * log_so3(np.swapaxes(old, 1, 2) @ target))
    return dataclasses.replace(motion, Rs_parent_joint=Rs)
