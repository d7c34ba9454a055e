"""The records on the wire. `docs/wire.md` is the page for readers, `pipeline.messages` turns them into bytes and back.

Names follow `pipeline.frames`: ``p_a = R_a_b @ p_b + t_a_b``, quaternions in the order x y z w. Everything that
comes after version 1 has a default, so that an old message stays readable.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, Any, get_type_hints

import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from pipeline import frames
from pipeline.frames import Array
from pipeline.types import (
    JOINT_NAMES,
    JOINT_PARENTS,
    BodyPose,
    CalibrationStatus,
    CameraCalibration,
    FrameResult,
    Person,
    WorldPose,
)

#: Raised only by a change that an old reader would misread; new fields with a default do not raise it.
SCHEMA_VERSION = 1
WORLD_AXES = (
    "right-handed, metres, y up, x the camera's right, z toward the camera, origin on the floor under the camera "
    "(at the camera while camera_height_m is null); an upright person who faces the camera has the identity as root"
)


def _shape(*shape: int) -> Meta:
    count = math.prod(shape)
    return Meta(extra_json_schema={"minItems": count, "maxItems": count, "x-shape": list(shape)})


Vec3 = Annotated[Array, _shape(3)]
Vec4 = Annotated[Array, _shape(4)]
Vec5 = Annotated[Array, _shape(5)]
Vec10 = Annotated[Array, _shape(10)]
Vec24 = Annotated[Array, _shape(24)]
Mat3 = Annotated[Array, _shape(3, 3)]
JointQuats = Annotated[Array, _shape(23, 4)]
JointPoints = Annotated[Array, _shape(24, 3)]
#: Indices of vertices on the wire; in msgpack a blob of little-endian uint32.
Indices = NDArray[np.uint32]
Points = Annotated[NDArray[np.floating[Any]], Meta(extra_json_schema={"x-shape": ["V", 3]})]
Triangles = Annotated[Indices, Meta(extra_json_schema={"x-shape": ["F", 3]})]


@functools.cache
def array_shapes(record: type[Struct]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array field of a record on the wire."""
    shapes = {}
    for name, hint in get_type_hints(record, include_extras=True).items():
        for meta in getattr(hint, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.extra_json_schema:
                shapes[name] = tuple(meta.extra_json_schema["x-shape"])
    return shapes


class _Arrays(Struct, frozen=True, eq=False):
    """Gives every array field the shape it is declared with; ValueError where the count of numbers is another."""

    def __post_init__(self) -> None:
        for name, shape in array_shapes(type(self)).items():
            value = getattr(self, name)
            if value.shape != shape:
                if value.size != math.prod(shape):
                    raise ValueError(f"{name}: expected {math.prod(shape)} numbers {shape}, got {value.size}")
                force_setattr(self, name, value.reshape(shape))


class Calibration(_Arrays, frozen=True, eq=False):
    """`CameraCalibration` on the wire; a spread that is not known is null. Docstring of the record: pipeline.types."""

    id: str
    status: str
    size_wh: tuple[int, int]
    focal_px: float
    focal_spread: float | None
    K: Mat3
    distortion: Vec5
    quat_world_camera_xyzw: Vec4
    t_world_camera_m: Vec3
    pitch_rad: float
    roll_rad: float
    gravity_spread_rad: float | None
    camera_height_m: float | None
    height_spread_m: float | None
    n_samples: int
    estimator: str

    def record(self, camera_id: str) -> CameraCalibration:
        """The record of pipeline.types; ValueError when its numbers are no calibration."""
        return CameraCalibration(
            camera_id=camera_id,
            size_wh=self.size_wh,
            K=self.K,
            distortion=self.distortion,
            R_world_camera=frames.from_quat_xyzw(self.quat_world_camera_xyzw),
            camera_height_m=self.camera_height_m,
            focal_spread=math.inf if self.focal_spread is None else self.focal_spread,
            gravity_spread_rad=math.inf if self.gravity_spread_rad is None else self.gravity_spread_rad,
            height_spread_m=self.height_spread_m,
            status=CalibrationStatus(self.status),
            n_samples=self.n_samples,
            estimator=self.estimator,
        )


class PersonMessage(_Arrays, frozen=True, eq=False):
    """One person of a frame, in the camera frame and in the world; shapes and units in docs/wire.md."""

    id: int
    score: float
    predicted: bool
    box_xyxy: Vec4
    confidence: Vec24
    betas: Vec10
    quat_camera_root_xyzw: Vec4
    t_camera_root_m: Vec3
    quat_world_root_xyzw: Vec4
    t_world_root_m: Vec3
    velocity_world_m_s: Vec3
    quats_parent_joint_xyzw: JointQuats
    joints_camera_m: JointPoints
    joints_world_m: JointPoints

    @property
    def yaw_rad(self) -> float:
        """Heading in the world: 0 faces the camera, positive turns toward the world's x (the camera's right)."""
        forward = frames.from_quat_xyzw(self.quat_world_root_xyzw)[:, 2]
        return math.atan2(forward[0], forward[2])

    def record(self) -> Person:
        """The record of pipeline.types; ValueError when its numbers are no pose."""
        q = np.vstack([self.quat_camera_root_xyzw, self.quat_world_root_xyzw, self.quats_parent_joint_xyzw])
        Rs = frames.from_quat_xyzw(q)
        return Person(
            track_id=self.id,
            box_xyxy=self.box_xyxy,
            score=self.score,
            camera=BodyPose(Rs[0], self.t_camera_root_m, Rs[2:], self.betas, self.joints_camera_m, self.confidence),
            world=WorldPose(
                Rs[1],
                self.t_world_root_m,
                Rs[2:],
                self.betas,
                self.joints_world_m,
                self.confidence,
                self.velocity_world_m_s,
            ),
            predicted=self.predicted,
        )


class PoseMessage(Struct, frozen=True, eq=False):
    """One frame: `pose/` and `pose_json/`. Times are nanoseconds; `*_wall_ns` are Unix time, the rest monotonic."""

    v: int
    camera: str
    index: int
    size_wh: tuple[int, int]
    t_capture_ns: int
    t_wall_ns: int
    t_grab_ns: int
    t_publish_ns: int
    t_publish_wall_ns: int
    dropped: int
    stages_ms: dict[str, float]
    calibration: Calibration
    people: tuple[PersonMessage, ...]

    def record(self) -> FrameResult:
        """The record of pipeline.types; ValueError when its numbers are no result."""
        return FrameResult(
            camera_id=self.camera,
            index=self.index,
            t_capture_ns=self.t_capture_ns,
            t_wall_ns=self.t_wall_ns,
            t_grab_ns=self.t_grab_ns,
            size_wh=self.size_wh,
            dropped=self.dropped,
            stages_ms=self.stages_ms,
            calibration=self.calibration.record(self.camera),
            people=tuple(p.record() for p in self.people),
        )


class CalibrationMessage(Struct, frozen=True, eq=False):
    """`calibration/`: the camera, and the tables that make pose messages readable without this project."""

    v: int
    camera: str
    t_publish_ns: int
    t_publish_wall_ns: int
    calibration: Calibration
    joint_names: tuple[str, ...] = JOINT_NAMES
    joint_parents: tuple[int, ...] = JOINT_PARENTS
    world_axes: str = WORLD_AXES


class StatusMessage(Struct, frozen=True, eq=False):
    """`status/`: how the stream is. `state` is starting, running, lost (the source is being reconnected) or ended."""

    v: int
    camera: str
    t_publish_ns: int
    t_publish_wall_ns: int
    state: str
    fps: float
    people: int
    frames: int
    dropped: int
    pose_age_ms: float | None
    calibration_id: str | None
    calibration_status: str
    program: str
    uptime_s: float
    detail: str = ""


def _rows_of_three(name: str, value: NDArray[Any]) -> NDArray[Any]:
    if value.size % 3:
        raise ValueError(f"{name}: expected rows of three numbers, got {value.size} numbers")
    return value.reshape(-1, 3)


class MeshPerson(Struct, frozen=True, eq=False):
    """One person's surface: `vertices_world_m` (V, 3), in the order that `MeshMessage.topology` names."""

    id: int
    vertices_world_m: Points

    def __post_init__(self) -> None:
        force_setattr(self, "vertices_world_m", _rows_of_three("vertices_world_m", self.vertices_world_m))


class MeshMessage(Struct, frozen=True, eq=False):
    """`mesh/`: the people of one frame as surfaces. `faces` (F, 3) comes now and then; keep it by `topology`."""

    v: int
    camera: str
    index: int
    t_capture_ns: int
    t_wall_ns: int
    t_publish_ns: int
    t_publish_wall_ns: int
    body: str
    topology: str
    n_vertices: int
    people: tuple[MeshPerson, ...]
    faces: Triangles | None = None

    def __post_init__(self) -> None:
        for person in self.people:
            if len(person.vertices_world_m) != self.n_vertices:
                got = len(person.vertices_world_m)
                raise ValueError(f"vertices_world_m: expected {self.n_vertices} vertices, got {got}")
        if self.faces is not None:
            force_setattr(self, "faces", _rows_of_three("faces", self.faces))
            if self.faces.size and int(self.faces.max()) >= self.n_vertices:
                raise ValueError(f"faces: expected indices below {self.n_vertices}, got {int(self.faces.max())}")
