"""Every record that crosses a stage. Frozen; shapes and units in the docstring; validated where it enters.

The frames (`image`, `camera`, `world`, `root`) are those of `pipeline.frames`. Arrays inside a record are made
read-only, so a record may be kept and shared between threads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.frames import Array
from pipeline.names import JOINT as JOINT
from pipeline.names import JOINT_NAMES as JOINT_NAMES
from pipeline.names import JOINT_PARENTS as JOINT_PARENTS
from pipeline.names import LANDMARK as LANDMARK
from pipeline.names import LANDMARK_NAMES as LANDMARK_NAMES


def checked(name: str, value: ArrayLike, shape: tuple[int | None, ...], finite: bool = True) -> Array:
    """`value` as a read-only float64 array of `shape` (None: any length).

    Raises ValueError, naming `name`, what was expected and what came, for another shape or (if `finite`) a nan.
    """
    a = np.array(value, dtype=np.float64)
    if a.shape != shape and (
        a.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, a.shape, strict=True))
    ):
        raise ValueError(f"{name}: expected shape {shape}, got {a.shape}.")
    # One sum tells for nearly every array that all of it is finite
    if finite and not math.isfinite(a.sum()) and not np.isfinite(a).all():
        raise ValueError(f"{name}: expected finite numbers, got {np.count_nonzero(~np.isfinite(a))} that are not.")
    a.flags.writeable = False
    return a


def _plain(record: object, kind: type, *names: str) -> None:
    """Turns numpy's scalars into Python's own, which encoders know; None stays."""
    for name in names:
        value = getattr(record, name)
        if value is not None:
            object.__setattr__(record, name, kind(value))


def _check(record: object, finite: bool = True, **shapes: tuple[int | None, ...]) -> None:
    for name, shape in shapes.items():
        value = getattr(record, name)
        if value is not None:
            object.__setattr__(record, name, checked(f"{type(record).__name__}.{name}", value, shape, finite))


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of one camera.

    camera_id     names the camera in topics and in the cache
    index         counts the camera's frames, those dropped before the pipeline included
    t_capture_ns  when it was taken, monotonic clock; for a file that is not paced: its time in the file
    t_wall_ns     the same moment on the wall clock (Unix time); for a file that is not paced: its time in the file
    t_grab_ns     monotonic clock when the program got it; ages are counted from here
    image         (H, W, 3) uint8, RGB
    """

    camera_id: str
    index: int
    t_capture_ns: int
    t_wall_ns: int
    t_grab_ns: int
    image: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"Frame.image: expected (H, W, 3) uint8 RGB, got {self.image.shape} {self.image.dtype}.")

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """MediaPipe's 33 pose landmarks of one person in one picture.

    points_px   (33, 2) image pixels
    depth_px    (33,) depth relative to the hips' middle at the scale of `points_px`, smaller is nearer
    visibility  (33,) 0..1, in the picture and not hidden
    points_m    (33, 3) metres from the hips' middle; x right, y down, z away along the ray to the hips, as measured
                (docs/landmarks.md), which near the picture's middle are the camera's axes
    score       0..1, that there is a person at all
    """

    points_px: Array
    depth_px: Array
    visibility: Array
    points_m: Array
    score: float

    def __post_init__(self) -> None:
        _check(self, points_px=(33, 2), depth_px=(33,), visibility=(33,), points_m=(33, 3))
        _plain(self, float, "score")


@dataclass(frozen=True, eq=False)
class Detection:
    """One tracked person in one picture.

    box_xyxy   (4,) pixels: left, top, right, bottom; may reach outside the picture
    score      0..1
    track_id   stays with the person; ids are never used again
    landmarks  what the landmark network found, or None in a detector that gives boxes only
    """

    box_xyxy: Array
    score: float
    track_id: int
    landmarks: Landmarks | None = None

    def __post_init__(self) -> None:
        _check(self, box_xyxy=(4,))
        _plain(self, float, "score")
        _plain(self, int, "track_id")


def _is_rotation(R: Array) -> bool:
    """Whether (3, 3) has orthonormal rows of which the third is the cross product of the others, to 1e-4."""
    (a, b, c), (d, e, f), (g, h, i) = R.tolist()
    off = (a * a + b * b + c * c - 1, d * d + e * e + f * f - 1, a * d + b * e + c * f,
           b * f - c * e - g, c * d - a * f - h, a * e - b * d - i)  # fmt: skip
    return max(map(abs, off)) < 1e-4


class CalibrationStatus(StrEnum):
    """What the calibration rests on."""

    SUPPLIED = "supplied"
    UNCALIBRATED = "uncalibrated"
    CALIBRATING = "calibrating"
    CALIBRATED = "calibrated"
    MOVED = "moved"


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """Everything known of one camera, and how well.

    camera_id           as in Frame
    size_wh             pixels of the pictures K belongs to
    K                   (3, 3) pinhole, pixels
    distortion          (5,) OpenCV k1 k2 p1 p2 k3; zeros when unknown
    R_world_camera      (3, 3)
    camera_height_m     metres from the floor to the camera; None while unknown
    focal_spread        relative standard deviation of the focal length (0.1 = 10 %)
    gravity_spread_rad  standard deviation of the up direction, radians
    height_spread_m     standard deviation of the height, metres; None while the height is unknown
    status              CalibrationStatus
    n_samples           how many samples the estimate rests on
    estimator           name and version of what made it
    """

    camera_id: str
    size_wh: tuple[int, int]
    K: Array
    distortion: Array
    R_world_camera: Array
    camera_height_m: float | None
    focal_spread: float
    gravity_spread_rad: float
    height_spread_m: float | None
    status: CalibrationStatus
    n_samples: int
    estimator: str

    def __post_init__(self) -> None:
        _check(self, K=(3, 3), distortion=(5,), R_world_camera=(3, 3))
        _plain(self, float, "camera_height_m", "focal_spread", "gravity_spread_rad", "height_spread_m")
        if not (self.K[0, 0] > 0 and self.K[1, 1] > 0):
            raise ValueError(
                f"CameraCalibration.K: expected positive focal lengths, got fx {self.K[0, 0]}, fy {self.K[1, 1]}."
            )
        if min(self.size_wh) < 1:
            raise ValueError(f"CameraCalibration.size_wh: expected a positive width and height, got {self.size_wh}.")
        if not _is_rotation(self.R_world_camera):
            raise ValueError("CameraCalibration.R_world_camera: expected a rotation, got a matrix that is none.")

    @cached_property
    def id(self) -> str:
        """Eight hex digits that change whenever anything of the estimate does."""
        height = math.nan if self.camera_height_m is None else self.camera_height_m
        values = [*self.K.ravel().tolist(), *self.distortion.tolist(), *self.R_world_camera.ravel().tolist(), height]
        # Adding zero makes one zero of the two that there are
        numbers = struct.pack("<24d", *(round(v, 6) + 0.0 for v in values))
        text = f"{self.camera_id} {self.size_wh} {self.estimator} "
        return hashlib.sha256(text.encode() + numbers).hexdigest()[:8]

    @property
    def up_camera(self) -> Array:
        """Unit up vector in the camera (3,)."""
        return self.R_world_camera[1]

    @property
    def t_world_camera(self) -> Array:
        """Place of the camera in the world (3,): above the origin by its height, or at it while that is unknown."""
        return np.array([0.0, self.camera_height_m or 0.0, 0.0])

    def for_size(self, size_wh: tuple[int, int]) -> CameraCalibration:
        """The same camera delivering pictures of another size: the only way to rescale K.

        Raises ValueError when the new size has another shape (aspect ratio), which is a crop and not a rescale.
        """
        if size_wh == self.size_wh:
            return self
        sx, sy = size_wh[0] / self.size_wh[0], size_wh[1] / self.size_wh[1]
        if abs(sx / sy - 1.0) > 0.02:
            raise ValueError(
                f"The calibration is for {self.size_wh[0]}x{self.size_wh[1]} pictures and cannot be rescaled to "
                f"{size_wh[0]}x{size_wh[1]}, which has another aspect ratio."
            )
        # (0, 0) is the centre of a pixel, so the picture's own corner lies half a pixel before it
        half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
        K = np.linalg.inv(half) @ np.diag([sx, sy, 1.0]) @ half @ self.K
        return dataclasses.replace(self, size_wh=size_wh, K=K)


@dataclass(frozen=True, eq=False)
class BodyPose:
    """One person in the camera frame.

    R_camera_root    (3, 3)
    t_camera_root    (3,) metres, the pelvis joint
    Rs_parent_joint  (23, 3, 3) of joints 1..23 in SMPL's order
    betas            (10,) shape components of the body model in use
    joints_camera_m  (24, 3) metres
    confidence       (24,) 0..1 for each joint
    """

    R_camera_root: Array
    t_camera_root: Array
    Rs_parent_joint: Array
    betas: Array
    joints_camera_m: Array
    confidence: Array

    def __post_init__(self) -> None:
        _check(self, R_camera_root=(3, 3), t_camera_root=(3,), Rs_parent_joint=(23, 3, 3), betas=(10,))
        _check(self, joints_camera_m=(24, 3), confidence=(24,))


@dataclass(frozen=True, eq=False)
class WorldPose:
    """One person in the gravity-aligned world: a type of its own, so that frames cannot be confused.

    R_world_root     (3, 3)
    t_world_root     (3,) metres, the pelvis joint
    Rs_parent_joint  (23, 3, 3) of joints 1..23 in SMPL's order
    betas            (10,) shape components of the body model in use
    joints_world_m   (24, 3) metres
    confidence       (24,) 0..1 for each joint
    velocity_m_s     (3,) of the pelvis joint in the world, metres a second
    """

    R_world_root: Array
    t_world_root: Array
    Rs_parent_joint: Array
    betas: Array
    joints_world_m: Array
    confidence: Array
    velocity_m_s: Array = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        _check(self, R_world_root=(3, 3), t_world_root=(3,), Rs_parent_joint=(23, 3, 3), betas=(10,))
        _check(self, joints_world_m=(24, 3), confidence=(24,), velocity_m_s=(3,))


@dataclass(frozen=True, eq=False)
class Person:
    """One person of a FrameResult: the same body in both frames.

    track_id   as in Detection
    box_xyxy   (4,) pixels
    score      0..1
    camera     BodyPose
    world      WorldPose
    predicted  true when nobody was seen in this frame and the pose is carried on from earlier ones
    """

    track_id: int
    box_xyxy: Array
    score: float
    camera: BodyPose
    world: WorldPose
    predicted: bool = False

    def __post_init__(self) -> None:
        _check(self, box_xyxy=(4,))
        _plain(self, float, "score")
        _plain(self, int, "track_id")


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What the stream says of one frame.

    camera_id, index, t_capture_ns, t_wall_ns, t_grab_ns  as in Frame
    size_wh      pixels
    dropped      frames of this camera that were never processed, since the start
    stages_ms    milliseconds each stage took
    calibration  the one that was used
    people       empty when nobody is in view
    """

    camera_id: str
    index: int
    t_capture_ns: int
    t_wall_ns: int
    t_grab_ns: int
    size_wh: tuple[int, int]
    dropped: int
    stages_ms: dict[str, float]
    calibration: CameraCalibration
    people: tuple[Person, ...]
