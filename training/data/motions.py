"""Motions as rotations of SMPL's joints over time, whatever they come from, and the one file that holds them all.

Everything is y up, metres, of one body: the project's own at STATURE_M. A motion's rotations come first; the pelvis
then goes where that body's hips would be, and up or down so that what stands, stands on y = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, Slerp

from pipeline.body import BodyModel, PosedBody, ShapedBody
from pipeline.frames import Array, from_quat_xyzw, quat_xyzw
from pipeline.types import JOINT, JOINT_PARENTS

FPS = 30.0
STATURE_M = 1.72
#: What is nearer to the floor than this is held to stand on it.
_TOUCH_M = 0.08
_SETTLE_S = 0.15


@dataclass(frozen=True, eq=False)
class Motion:
    """Somebody moving.

    name            unique, "source/file"
    fps             frames a second
    Rs_world_joint  (T, 24, 3, 3) float32, y up
    t_world_root    (T, 3) float32, the pelvis joint, metres, of a body of STATURE_M; the floor is at y = 0
    source          where it comes from
    kind            what is done; motions of one kind are alike
    held_out        kept aside for evaluation
    """

    name: str
    fps: float
    Rs_world_joint: NDArray[np.float32]
    t_world_root: NDArray[np.float32]
    source: str
    kind: str
    held_out: bool = False

    def __post_init__(self) -> None:
        T = len(self.t_world_root)
        if self.Rs_world_joint.shape != (T, 24, 3, 3) or self.t_world_root.shape != (T, 3) or T < 2:
            raise ValueError(
                f"Motion {self.name}: expected (T, 24, 3, 3) and (T, 3) with T > 1, got "
                f"{self.Rs_world_joint.shape} and {self.t_world_root.shape}."
            )

    def resampled(self, fps: float = FPS) -> Motion:
        """The same at another rate: rotations on the shortest way, places on straight lines."""
        T = len(self.t_world_root)
        times = np.arange(int((T - 1) * fps / self.fps + 1e-6) + 1) * (self.fps / fps)
        if len(times) < 2 or abs(fps - self.fps) < 1e-6:
            return self
        Rs = np.empty((len(times), 24, 3, 3), np.float32)
        for j in range(24):
            Rs[:, j] = Slerp(np.arange(T), Rotation.from_matrix(self.Rs_world_joint[:, j]))(times).as_matrix()
        t = np.stack([np.interp(times, np.arange(T), self.t_world_root[:, k]) for k in range(3)], 1)
        return replace(self, fps=fps, Rs_world_joint=Rs, t_world_root=t.astype(np.float32))


@lru_cache(maxsize=1)
def standard_body() -> ShapedBody:
    """The body that motions are made for, with a few hundred vertices: enough to tell what touches the floor."""
    model = BodyModel.load()
    low = np.argsort(model.vertices[:, 1], kind="stable")
    some = np.unique(np.concatenate([low[:400:10], np.arange(0, len(low), 53)]))
    thin = replace(
        model, vertices=model.vertices[some], vertices_dirs=model.vertices_dirs[some], weights=model.weights[some],
        faces=np.zeros((0, 3), np.int32), _tensors={},
    )  # fmt: skip
    return thin.shaped(thin.betas_for_height(STATURE_M))


def posed(Rs_world_joint: NDArray[np.floating], t_world_root: NDArray[np.floating]) -> PosedBody:
    """The standard body in world rotations (T, 24, 3, 3) with its pelvis at (T, 3)."""
    body, Rs = standard_body(), np.asarray(Rs_world_joint, dtype=np.float64)
    return PosedBody(body, np.asarray(t_world_root)[:, None] + body.joints_from_root(Rs), Rs, Rs[:, 1:])


def lowest(Rs_world_joint: NDArray[np.floating]) -> Array:
    """Height (T,) of the lowest point of the standard body above its pelvis, metres: a negative number."""
    Rs = np.asarray(Rs_world_joint)
    parts = [posed(Rs[k : k + 256], np.zeros((len(Rs[k : k + 256]), 3))).mesh() for k in range(0, len(Rs), 256)]
    return np.asarray(np.concatenate(parts)[..., 1].min(1))


def hips_m() -> Array:
    """(3,) from the pelvis joint to the middle of the hip joints, at rest."""
    joints = standard_body().joints_rest
    return np.asarray(joints[[JOINT["left_hip"], JOINT["right_hip"]]].mean(0) - joints[0])


def leg_m() -> float:
    """Thigh and shin of the standard body."""
    return float(standard_body().bone_lengths[[JOINT["left_knee"] - 1, JOINT["left_ankle"] - 1]].sum())


def placed(Rs_world_joint: Array, hips_world: Array, source_leg_m: float) -> Array:
    """Pelvis (T, 3) of the standard body, of somebody with other legs whose hips' middle went along (T, 3)."""
    return np.asarray(hips_world * (leg_m() / source_leg_m) - Rs_world_joint[:, 0] @ hips_m())


def grounded(Rs_world_joint: Array, t_world_root: Array, fps: float, level: bool = True) -> Array:
    """The pelvis (T, 3) moved up or down so that the floor is at y = 0.

    `level` False: the ground is none, or not flat, and all moves alike. Otherwise what nearly touches the floor comes
    to touch it, smoothly, and jumps are carried along with what is before and after.
    """
    gap = t_world_root[:, 1] + lowest(Rs_world_joint)
    floor = _mode(gap) if level else np.percentile(gap, 2)
    gap = gap - floor
    if level:
        near = (gap < _TOUCH_M).astype(float)
        settle = _SETTLE_S * fps
        slow = gaussian_filter1d(near * gap, settle, truncate=8.0), gaussian_filter1d(near, settle, truncate=8.0)
        fix = np.where(slow[1] > 1e-6, slow[0] / np.maximum(slow[1], 1e-6), 0.0)
        # Nothing goes through the floor, not for a moment
        fix = fix - gaussian_filter1d(np.maximum(fix - gap, 0.0), 0.3 * settle) * 1.5
    else:
        fix = np.zeros_like(gap)
    out = t_world_root.copy()
    out[:, 1] -= floor + fix
    return np.asarray(out)


def _mode(values: Array, width: float = 0.03) -> float:
    """Middle of the `width` that holds the most values: where somebody stands for most of the time."""
    v = np.sort(values)
    inside = np.searchsorted(v, v + width, side="right") - np.arange(len(v))
    first = int(inside.argmax())
    return float(np.median(v[first : first + inside[first]]))


def without_jumps(motion: Motion, turn_rad_s: float = 45.0, shortest_s: float = 1.2) -> list[Motion]:
    """The pieces of a motion between frames in which a joint turns faster than anybody can: mixed-up markers."""
    Rs = motion.Rs_world_joint
    local = np.concatenate([Rs[:, :1], np.swapaxes(Rs[:, list(JOINT_PARENTS[1:])], -1, -2) @ Rs[:, 1:]], 1)
    trace = np.einsum("tjab,tjab->tj", local[:-1], local[1:])
    turn = np.arccos(np.clip((trace - 1) / 2, -1, 1)).max(1) * motion.fps
    cuts = [0, *(np.flatnonzero(turn > turn_rad_s) + 1).tolist(), len(Rs)]
    pieces = [(a, b) for a, b in pairwise(cuts) if b - a >= shortest_s * motion.fps or len(cuts) == 2]
    return [
        replace(motion, name=motion.name + (f"#{k}" if len(cuts) > 2 else ""), Rs_world_joint=Rs[a:b],
                t_world_root=motion.t_world_root[a:b])
        for k, (a, b) in enumerate(pieces)
    ]  # fmt: skip


def save(motions: Sequence[Motion], path: Path) -> None:
    """Writes motions, at FPS, into one .npz.

    quats_world_joint_xyzw (N, 24, 4) and t_world_root (N, 3) float32 of all frames in a row;
    starts, lengths (M,) int64, names, kind, source (M,) str and held_out (M,) bool of the motions; fps.
    """
    all_motions = [m.resampled() for m in motions]
    lengths = np.array([len(m.t_world_root) for m in all_motions])
    quats = np.concatenate([quat_xyzw(m.Rs_world_joint) for m in all_motions])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as handle:
        np.savez_compressed(
            handle, fps=np.float64(FPS), lengths=lengths, starts=np.cumsum(lengths) - lengths,
            quats_world_joint_xyzw=quats.astype(np.float32),
            t_world_root=np.concatenate([m.t_world_root for m in all_motions]).astype(np.float32),
            names=np.array([m.name for m in all_motions]), kind=np.array([m.kind for m in all_motions]),
            source=np.array([m.source for m in all_motions]), held_out=np.array([m.held_out for m in all_motions]),
        )  # fmt: skip
    part.rename(path)


def load(path: Path) -> list[Motion]:
    """The motions of a file of `save`. Raises OSError or KeyError for another file."""
    with np.load(path, allow_pickle=False) as z:
        data = {k: z[k] for k in z.files}
    Rs = from_quat_xyzw(data["quats_world_joint_xyzw"]).astype(np.float32)
    out = []
    for k, (start, length) in enumerate(zip(data["starts"], data["lengths"], strict=True)):
        rows = slice(int(start), int(start + length))
        out.append(
            Motion(str(data["names"][k]), float(data["fps"]), Rs[rows], data["t_world_root"][rows],
                   str(data["source"][k]), str(data["kind"][k]), bool(data["held_out"][k]))
        )  # fmt: skip
    return out
