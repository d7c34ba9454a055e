"""Ground truth of a clip in the stream's own frames (pipeline.frames), and published people compared with it.

The files' world is z up with a heading and an origin of its own; the stream's is y up, its heading is the camera's
and its origin lies on the floor under the camera. Both are tied by the camera: ``x_cam = R_camera_file @ x + t``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.truth import SCORED_JOINTS, read_camera
from pipeline.frames import Array, exp_so3, from_quat_xyzw, normalize, project
from pipeline.messages import PoseMessage
from pipeline.types import JOINT

CLIPS = Path(__file__).parents[2] / "benchmarks" / "clips"
#: A published pelvis farther from every true one, in picture widths, is somebody else.
NEAR = 0.06


@dataclass(frozen=True, eq=False)
class PersonTruth:
    """One person over T frames.

    joints_camera_m  (T, 24, 3) SMPL's joints
    joints_world_m   (T, 24, 3) the same in the stream's world
    Rs_world_root    (T, 3, 3)
    foot_contact     (T, 2) bool, left and right
    stature_m        bare-foot height
    """

    joints_camera_m: Array
    joints_world_m: Array
    Rs_world_root: Array
    foot_contact: NDArray[np.bool_]
    stature_m: float


@dataclass(frozen=True, eq=False)
class ClipTruth:
    """What is known of a clip: the camera as in CameraCalibration, and its people."""

    video: Path
    size_wh: tuple[int, int]
    fps: float
    n_frames: int
    K: Array
    R_world_camera: Array
    camera_height_m: float | None
    people: tuple[PersonTruth, ...]

    @property
    def focal_px(self) -> float:
        """Geometric mean of both focal lengths."""
        return float(np.sqrt(self.K[0, 0] * self.K[1, 1]))

    def gravity_error_rad(self, R_world_camera: Array) -> float:
        """Angle between the true and another idea of up."""
        return float(np.arccos(np.clip(R_world_camera[1] @ self.R_world_camera[1], -1.0, 1.0)))


def read_truth(folder: Path) -> ClipTruth:
    """The truth beside `folder`/video.mp4; people only where SMPL joints are given."""
    truth = read_camera(folder)
    record, R_world_camera, height = truth.record, truth.R_world_camera, truth.height_m
    assert truth.K is not None
    assert R_world_camera is not None
    people = []
    for path in sorted(folder.glob("joints*.npz")):
        with np.load(path) as z:
            if "smpl_joints" not in z.files:
                continue
            camera = z["smpl_joints"].astype(float) @ truth.R_camera_file.T + truth.t_camera_file_m
            Rs_root = R_world_camera @ truth.R_camera_file @ exp_so3(z["smpl_rotvecs"][:, 0].astype(float))
            world = camera @ R_world_camera.T + np.array([0.0, height or 0.0, 0.0])
            people.append(PersonTruth(camera, world, Rs_root, z["foot_contact"], float(z["stature_m"])))
    return ClipTruth(
        folder / "video.mp4", (record["image_size"][0], record["image_size"][1]), record["fps"], record["n_frames"],
        truth.K, R_world_camera, height, tuple(people),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Followed:
    """What was published of one true person, matched by place in the picture, in the N frames where somebody was.

    frames           (N,) index of the frame
    ids              (N,) id it was published under
    calibrated       (N,) bool
    joints_camera_m  (N, 24, 3), joints_world_m (N, 24, 3), Rs_world_root (N, 3, 3), speed_m_s (N,)
    truth            the person, cut to the same N frames
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    calibrated: NDArray[np.bool_]
    joints_camera_m: Array
    joints_world_m: Array
    Rs_world_root: Array
    speed_m_s: Array
    truth: PersonTruth

    def joint_errors_m(self) -> Array:
        """(N, 12) distances of the scored joints in the camera frame, both pelvises laid onto each other."""
        a, b = self.joints_camera_m, self.truth.joints_camera_m
        return np.linalg.norm((a - a[:, :1]) - (b - b[:, :1]), axis=-1)[:, SCORED_JOINTS]

    def yaw_errors_rad(self) -> Array:
        """(N,) difference of the headings, -pi..pi."""
        mine, true = self.Rs_world_root[:, :, 2], self.truth.Rs_world_root[:, :, 2]
        turn = np.arctan2(mine[:, 0], mine[:, 2]) - np.arctan2(true[:, 0], true[:, 2])
        return (turn + np.pi) % (2 * np.pi) - np.pi

    def bends_rad(self, part: str) -> tuple[Array, Array]:
        """Published and true angle (N,) at a joint such as "left_elbow": pi is straight."""
        return bend_rad(self.joints_camera_m, part), bend_rad(self.truth.joints_camera_m, part)

    def sides_agree(self, part: str) -> NDArray[np.bool_]:
        """(N,) whether left is where left is."""
        left, right = JOINT[f"left_{part}"], JOINT[f"right_{part}"]
        a, b = self.joints_camera_m, self.truth.joints_camera_m
        return np.sum((a[:, left] - a[:, right]) * (b[:, left] - b[:, right]), axis=-1) > 0


def bend_rad(joints: Array, part: str) -> Array:
    """Angle (N,) at an elbow or knee of joints (N, 24, 3)."""
    side, _, which = part.partition("_")
    above, below = ("shoulder", "wrist") if which == "elbow" else ("hip", "ankle")
    upper = normalize(joints[:, JOINT[f"{side}_{above}"]] - joints[:, JOINT[part]])
    lower = normalize(joints[:, JOINT[f"{side}_{below}"]] - joints[:, JOINT[part]])
    return np.arccos(np.clip(np.sum(upper * lower, axis=-1), -1.0, 1.0))


def follow(clip: ClipTruth, poses: Sequence[PoseMessage]) -> tuple[Followed, ...]:
    """Each person of the clip with what was published of them."""
    matches: list[list[tuple[PoseMessage, int]]] = [[] for _ in clip.people]
    for pose in poses:
        if not pose.people:
            continue
        seen = project(np.stack([p.t_camera_root_m for p in pose.people]), pose.calibration.K)
        true = project(np.stack([p.joints_camera_m[pose.index, 0] for p in clip.people]), clip.K)
        away = np.linalg.norm(true[:, None] - seen, axis=-1)
        for who, which in zip(*linear_sum_assignment(away), strict=True):
            if away[who, which] < NEAR * clip.size_wh[0]:
                matches[who].append((pose, which))
    return tuple(_followed(person, match) for person, match in zip(clip.people, matches, strict=True))


def _followed(person: PersonTruth, match: list[tuple[PoseMessage, int]]) -> Followed:
    frames = np.array([pose.index for pose, _ in match])
    people = [pose.people[which] for pose, which in match]
    return Followed(
        frames=frames,
        ids=np.array([p.id for p in people]),
        calibrated=np.array([pose.calibration.status == "calibrated" for pose, _ in match]),
        joints_camera_m=np.stack([p.joints_camera_m for p in people]),
        joints_world_m=np.stack([p.joints_world_m for p in people]),
        Rs_world_root=from_quat_xyzw(np.stack([p.quat_world_root_xyzw for p in people])),
        speed_m_s=np.linalg.norm([p.velocity_world_m_s for p in people], axis=-1),
        truth=PersonTruth(
            person.joints_camera_m[frames], person.joints_world_m[frames], person.Rs_world_root[frames],
            person.foot_contact[frames], person.stature_m,
        ),
    )  # fmt: skip
