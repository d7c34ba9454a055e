"""One person's motion, cut into takes and brought to a fixed rate: what every file format is written from.

The world, the root and the joints are those of `pipeline.frames`: metres, y up, T-pose at rest, facing +z.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import frames
from pipeline.frames import Array
from pipeline.types import JOINT_PARENTS

#: R_zup_yup: right-handed, a person who faces +z with y up faces -y with z up.
R_ZUP_YUP: Array = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_PARENTS = np.array(JOINT_PARENTS)


@dataclass(frozen=True, eq=False)
class Motion:
    """One person of one camera over T moments.

    camera            the camera's id
    person_id         the track's id on the wire
    times_s           (T,) strictly increasing, seconds since the recording's first frame
    t_world_root_m    (T, 3) pelvis joint, metres
    quats_xyzw        (T, 24, 4) row 0 R_world_root, rows 1..23 R_parent_joint; signs continue over time
    confidence        (T, 24) 0..1
    offsets_m         (24, 3) from the parent joint at rest, row 0 zeros
    betas             (10,) of the body model that the stream used
    """

    camera: str
    person_id: int
    times_s: Array
    t_world_root_m: Array
    quats_xyzw: Array
    confidence: Array
    offsets_m: Array
    betas: Array

    def __post_init__(self) -> None:
        """Raises ValueError for times that do not increase or shapes that do not fit."""
        count = len(self.times_s)
        shapes = {"times_s": (count,), "t_world_root_m": (count, 3), "quats_xyzw": (count, 24, 4),
                  "confidence": (count, 24), "offsets_m": (24, 3), "betas": (10,)}  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"Motion.{name}: expected shape {shape}, got {getattr(self, name).shape}.")
        if count == 0 or (np.diff(self.times_s) <= 0).any():
            raise ValueError("Motion.times_s: expected at least one time, each later than the one before.")

    def __len__(self) -> int:
        return len(self.times_s)

    @cached_property
    def Rs_parent_joint(self) -> Array:
        """(T, 24, 3, 3), row 0 is R_world_root."""
        return frames.from_quat_xyzw(self.quats_xyzw)

    @cached_property
    def Rs_world_joint(self) -> Array:
        """(T, 24, 3, 3)."""
        Rs = self.Rs_parent_joint.copy()
        for joint in range(1, 24):
            Rs[:, joint] = Rs[:, JOINT_PARENTS[joint]] @ Rs[:, joint]
        return Rs

    @cached_property
    def joints_world_m(self) -> Array:
        """(T, 24, 3) by forward kinematics of the constant skeleton `offsets_m`."""
        bones = (self.Rs_world_joint[:, _PARENTS[1:]] @ self.offsets_m[1:, :, None])[..., 0]
        joints = np.empty((len(self), 24, 3))
        joints[:, 0] = self.t_world_root_m
        for joint in range(1, 24):
            joints[:, joint] = joints[:, JOINT_PARENTS[joint]] + bones[:, joint - 1]
        return joints

    @cached_property
    def joints_rest_m(self) -> Array:
        """(24, 3) the T-pose with its pelvis at the origin."""
        return at_rest(self.offsets_m)

    def rows(self, which: slice | NDArray[Any]) -> Motion:
        """The moments that `which` picks; they must stay in order."""
        names = ("times_s", "t_world_root_m", "quats_xyzw", "confidence")
        return dataclasses.replace(self, **{name: getattr(self, name)[which] for name in names})

    def between(self, start_s: float, end_s: float) -> Motion | None:
        """The moments from `start_s` to `end_s`, both included, or None where there are none."""
        inside = (self.times_s >= start_s - 1e-9) & (self.times_s <= end_s + 1e-9)
        return self.rows(inside) if inside.any() else None

    def takes(self, max_gap_s: float) -> list[Motion]:
        """The motion cut wherever the person is missing for longer than `max_gap_s`."""
        cuts = np.nonzero(np.diff(self.times_s) > max_gap_s + 1e-9)[0] + 1
        edges = [0, *cuts.tolist(), len(self)]
        return [self.rows(slice(a, b)) for a, b in pairwise(edges)]

    def resampled(self, fps: float) -> Motion | None:
        """At the moments k / fps of the recording, so that all its people fall on the same frames.

        Rotations by slerp, places and confidences linearly; None where no such moment lies inside.
        """
        first = int(np.ceil(self.times_s[0] * fps - 1e-4))
        last = int(np.floor(self.times_s[-1] * fps + 1e-4))
        if last < first:
            return None
        times = np.arange(first, last + 1) / fps
        after = np.clip(np.searchsorted(self.times_s, times), 1, max(len(self) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(self) - 1)
        span = np.where(after > before, self.times_s[after] - self.times_s[before], 1.0)
        share = np.clip((times - self.times_s[before]) / span, 0.0, 1.0)
        return dataclasses.replace(
            self,
            times_s=times,
            t_world_root_m=_linear(self.t_world_root_m, before, after, share),
            quats_xyzw=continuous(_slerp(self.Rs_parent_joint[before], self.Rs_parent_joint[after], share)),
            confidence=_linear(self.confidence, before, after, share),
        )

    def z_up(self) -> Motion:
        """The same motion in the world turned to z up: (x, y, z) becomes (x, -z, y)."""
        quats = self.quats_xyzw.copy()
        quats[:, 0] = frames.quat_xyzw(R_ZUP_YUP @ self.Rs_parent_joint[:, 0])
        return dataclasses.replace(self, quats_xyzw=continuous(quats), t_world_root_m=self.t_world_root_m @ R_ZUP_YUP.T)


@dataclass(frozen=True, eq=False)
class Scene:
    """What goes into one file: people at one rate on common frames.

    people      for each person the takes, in order; all sampled at `fps`
    fps         frames a second
    up          "y" or "z", the world of the file
    body        "default" or "smpl=FILE", whose surface a file with a mesh shows
    """

    people: tuple[tuple[Motion, ...], ...]
    fps: float
    up: str = "y"
    body: str = "default"

    @property
    def takes(self) -> list[Motion]:
        """Every take of everybody."""
        return [take for takes in self.people for take in takes]

    @cached_property
    def first(self) -> int:
        """The recording's frame (of the file's rate) that is the file's frame 0."""
        return min(round(take.times_s[0] * self.fps) for take in self.takes)

    @cached_property
    def count(self) -> int:
        """Frames of the file."""
        return max(round(take.times_s[-1] * self.fps) for take in self.takes) - self.first + 1

    def span(self, take: Motion) -> slice:
        """Where the take's frames lie among the file's."""
        start = round(take.times_s[0] * self.fps) - self.first
        return slice(start, start + len(take))

    def spread(self, takes: tuple[Motion, ...], name: str) -> Array:
        """Attribute `name` of one person on all frames of the file, (count, ...), nan where the person is not."""
        sample = getattr(takes[0], name)
        values = np.full((self.count, *sample.shape[1:]), np.nan)
        for take in takes:
            values[self.span(take)] = getattr(take, name)
        return values

    def label(self, takes: tuple[Motion, ...]) -> str:
        """`person<id>`, the name of one person in files."""
        return f"person{takes[0].person_id}"


def held(takes: tuple[Motion, ...], fps: float, first: int, count: int) -> Motion:
    """One take of `count` frames from `first` on; where the person is missing the pose before (or after) stays."""
    scene = Scene((takes,), fps)
    wanted = np.arange(count) + first - scene.first
    rows = np.concatenate([np.arange(scene.count)[scene.span(take)] for take in takes])
    at = np.clip(np.searchsorted(rows, wanted, side="right") - 1, 0, len(rows) - 1)
    seen = rows[at] == wanted
    return dataclasses.replace(
        takes[0],
        times_s=(np.arange(count) + first) / fps,
        t_world_root_m=np.concatenate([take.t_world_root_m for take in takes])[at],
        quats_xyzw=continuous(np.concatenate([take.quats_xyzw for take in takes])[at]),
        confidence=np.concatenate([take.confidence for take in takes])[at] * seen[:, None],
    )


def motions(columns: Mapping[str, NDArray[Any]]) -> list[Motion]:
    """The people of a recording, by id. `columns` are those of docs/wire.md, "Recordings".

    Frames that the stream only predicted count as not seen: a converter knows what came after and interpolates.
    The skeleton is constant and read from joints and rotations, offset_j = R_world_parent^T (p_j - p_parent), so it
    is right for any body model; median over the frames that share the person's last betas, which rest on the most
    looks. Raises ValueError when frames' times do not increase.
    """
    times_ns = columns["t_capture_ns"]
    if len(times_ns) and (backward := np.nonzero(np.diff(times_ns) <= 0)[0]).size:
        row = int(backward[0]) + 1
        raise ValueError(
            f"Frame {columns['index'][row]} was captured before the one that precedes it: the recording holds two "
            "runs; convert each run's own file."
        )
    people = []
    for person_id in np.unique(columns["person_id"][~columns["predicted"]]).tolist():
        rows = np.nonzero((columns["person_id"] == person_id) & ~columns["predicted"])[0]
        times_s = (times_ns[columns["person_frame"][rows]] - times_ns[0]) / 1e9
        people.append(_motion(columns, person_id, rows, times_s))
    return people


def nominal_fps(times_ns: NDArray[Any]) -> float:
    """The whole number of frames a second nearest to the recording's usual interval; 30 for a single frame."""
    if len(times_ns) < 2:
        return 30.0
    return float(max(1, round(1e9 / float(np.median(np.diff(times_ns))))))


def _motion(columns: Mapping[str, NDArray[Any]], person_id: int, rows: NDArray[Any], times_s: Array) -> Motion:
    quats = np.concatenate(
        [columns["quat_world_root_xyzw"][rows][:, None], columns["quats_parent_joint_xyzw"][rows]], axis=1
    ).astype(np.float64)
    betas = columns["betas"][rows].astype(np.float64)
    motion = Motion(
        camera=str(columns["camera"]),
        person_id=person_id,
        times_s=times_s,
        t_world_root_m=columns["t_world_root_m"][rows].astype(np.float64),
        quats_xyzw=continuous(quats / np.linalg.norm(quats, axis=-1, keepdims=True)),
        confidence=columns["confidence"][rows].astype(np.float64),
        offsets_m=np.zeros((24, 3)),
        betas=betas[-1],
    )
    joints = columns["joints_world_m"][rows].astype(np.float64)
    bones = joints[:, 1:] - joints[:, _PARENTS[1:]]
    local = np.einsum("tjba,tjb->tja", motion.Rs_world_joint[:, _PARENTS[1:]], bones)
    offsets = np.zeros((24, 3))
    offsets[1:] = np.median(local[(betas == betas[-1]).all(axis=1)], axis=0)
    return dataclasses.replace(motion, offsets_m=offsets)


def at_rest(offsets_m: Array) -> Array:
    """Joints (24, 3) of the T-pose with its pelvis at the origin, of offsets (24, 3) from each joint's parent."""
    joints = np.zeros((24, 3))
    for joint in range(1, 24):
        joints[joint] = joints[JOINT_PARENTS[joint]] + offsets_m[joint]
    return joints


def continuous(quats: Array) -> Array:
    """Quaternions (T, ..., 4) with signs chosen so that each is nearest to the one before."""
    flips = np.where(np.sum(quats[1:] * quats[:-1], axis=-1, keepdims=True) < 0, -1.0, 1.0)
    signs = np.concatenate([np.ones_like(quats[:1, ..., :1]), np.cumprod(flips, axis=0)])
    return quats * signs


def _linear(values: Array, before: NDArray[Any], after: NDArray[Any], share: Array) -> Array:
    part = share.reshape(-1, *([1] * (values.ndim - 1)))
    return (1.0 - part) * values[before] + part * values[after]


def _slerp(Rs_a: Array, Rs_b: Array, share: Array) -> Array:
    turn = frames.log_so3(np.swapaxes(Rs_a, -1, -2) @ Rs_b)
    return frames.quat_xyzw(Rs_a @ frames.exp_so3(share[:, None, None] * turn))
