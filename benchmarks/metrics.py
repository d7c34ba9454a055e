"""What is measured of motion, each with its definition and where it comes from.

Joints are (T, 12, 3) in the order of `benchmarks.truth.SCORED`, metres, nan where unknown; frames count only where both
sides are known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.truth import SCORED
from pipeline.frames import Array, cross, exp_so3, normalize

_HIPS = [SCORED.index("left_hip"), SCORED.index("right_hip")]
_SHOULDERS = [SCORED.index("left_shoulder"), SCORED.index("right_shoulder")]
_ANKLES = [SCORED.index("left_ankle"), SCORED.index("right_ankle")]
_WRISTS = [SCORED.index("left_wrist"), SCORED.index("right_wrist")]


#: Wrists whose velocities agree less say nothing about the lag.
MIN_CORRELATION = 0.3


def root(joints: Array) -> Array:
    """Middle of the hips (T, 3)."""
    return joints[:, _HIPS].mean(1)


def relative(joints: Array) -> Array:
    """Joints from the middle of the hips (T, 12, 3)."""
    return joints - root(joints)[:, None]


def mpjpe_mm(joints: Array, truth: Array) -> float:
    """Mean per joint position error, root-relative (Ionescu et al., Human3.6M, PAMI 2014), millimetres."""
    return mean(np.linalg.norm(relative(joints) - relative(truth), axis=-1)) * 1e3


def pa_mpjpe_mm(joints: Array, truth: Array) -> float:
    """The same after the best similarity transform of each frame (Procrustes; Kanazawa et al., HMR, 2018)."""
    errors = []
    for a, b in zip(joints, truth, strict=True):
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            continue
        a, b = a - a.mean(0), b - b.mean(0)
        U, S, Vt = np.linalg.svd(a.T @ b)
        sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
        scale = (S * sign).sum() / (a**2).sum()
        errors.append(np.linalg.norm(scale * a @ (U * sign) @ Vt - b, axis=-1).mean())
    return mean(np.array(errors)) * 1e3


def root_error(joints: Array, truth: Array) -> tuple[float, float]:
    """Mean distance of the root's path from the true one, millimetres, and the same as % of the path's length.

    The paths are laid onto each other by a turn about the vertical (y) and a shift, nothing else: root translation
    error of WHAM (Shin et al., 2024) without its scale. A path shorter than half a metre has no percentage.
    """
    a, b = root(joints), root(truth)
    known = np.isfinite(a).all(-1) & np.isfinite(b).all(-1)
    if np.count_nonzero(known) < 2:
        return float("nan"), float("nan")
    a, b = aligned(a[known], b[known]), b[known] - b[known].mean(0)
    error = float(np.linalg.norm(a - b, axis=-1).mean())
    path = float(np.linalg.norm(np.diff(b, axis=0), axis=-1).sum())
    return error * 1e3, 100 * error / path if path > 0.5 else float("nan")


def aligned(path: Array, true: Array) -> Array:
    """`path` (N, 3) about its middle, turned about the vertical to lie best on `true` about its own; no nan."""
    a, b = path - path.mean(0), true - true.mean(0)
    turn = np.arctan2((a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]).sum(), (a[:, 0] * b[:, 0] + a[:, 2] * b[:, 2]).sum())
    return a @ exp_so3([0.0, turn, 0.0]).T


def pitch_bias_deg(joints_world: Array, truth_world: Array) -> float:
    """Mean forward lean (hips' middle to shoulders' middle, about the true hips' axis) beyond the true one, degrees."""
    across = truth_world[:, _HIPS[0]] - truth_world[:, _HIPS[1]]
    across = normalize(across * [1.0, 0.0, 1.0])
    forward = cross(across, np.broadcast_to([0.0, 1.0, 0.0], across.shape))

    def lean(joints: Array) -> Array:
        trunk = joints[:, _SHOULDERS].mean(1) - root(joints)
        return np.arctan2((trunk * forward).sum(-1), trunk[:, 1])

    difference = lean(joints_world) - lean(truth_world)
    return float(np.degrees(mean((difference + np.pi) % (2 * np.pi) - np.pi)))


def jitter(joints: Array, fps: float) -> float:
    """Mean third derivative of the joints' positions, 10 m/s^3 (Yi et al., TransPose, 2021; GVHMR, 2024).

    Of joints in the world it has the root's in it, of root-relative ones (as raw landmarks are) it has not.
    """
    return mean(np.linalg.norm(np.diff(joints, 3, axis=0), axis=-1)) * fps**3 / 10


def acceleration_error(joints: Array, truth: Array, fps: float) -> float:
    """Mean difference of the joints' root-relative accelerations, m/s^2 (Kanazawa et al., HMMR, 2019)."""
    a, b = np.diff(relative(joints), 2, axis=0), np.diff(relative(truth), 2, axis=0)
    return mean(np.linalg.norm(a - b, axis=-1)) * fps**2


def foot_slide_mm(joints_world: Array, truth: Array) -> float:
    """How far an ankle moves a frame while the true one moves less than 1 cm, millimetres (as in GVHMR, 2024)."""
    mine = np.linalg.norm(np.diff(joints_world[:, _ANKLES], axis=0), axis=-1)
    true = np.linalg.norm(np.diff(truth[:, _ANKLES], axis=0), axis=-1)
    return mean(np.where(true < 0.01, mine, np.nan)) * 1e3


def lag_frames(joints: Array, truth: Array, most: int = 8) -> float:
    """Frames by which a wrist comes after the true one: where the correlation of their velocities has its peak.

    Velocities relative to the root, as vectors and in the same axes; the wrist whose peak is higher, and nan where
    neither reaches MIN_CORRELATION. Parts of a frame by a parabola through the peak. `most` frames at most.
    """
    best, highest = float("nan"), MIN_CORRELATION
    for wrist in _WRISTS:
        a, b = np.diff(relative(joints)[:, wrist], axis=0), np.diff(relative(truth)[:, wrist], axis=0)
        known = np.isfinite(a + b).all(-1, keepdims=True)
        if np.count_nonzero(known) < 8 * most:
            continue
        a, b = np.where(known, a, 0.0), np.where(known, b, 0.0)
        shifts = list(range(-most, most + 1))
        match = [_cosine(a[max(0, k) : len(a) + min(0, k)], b[max(0, -k) : len(b) - max(0, k)]) for k in shifts]
        at = int(np.argmax(match))
        if match[at] < highest:
            continue
        best, highest = float(shifts[at]), match[at]
        if 0 < at < len(match) - 1:
            left, peak, right = match[at - 1 : at + 2]
            best += 0.5 * (left - right) / (left - 2 * peak + right)
    return best


def _cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-12))


def id_switches(ids: NDArray[np.int64], fps: float, least_s: float = 0.3) -> int:
    """How often a person's id (T,) became another one for `least_s` or longer (CLEAR MOT, 2008).

    Where two people cover each other in the picture, nobody can say for a few frames which pose is whose.
    """
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1)) if len(ids) else np.zeros(0, dtype=int)
    lengths = np.diff(np.append(starts, len(ids)))
    lasting = ids[starts[lengths >= least_s * fps]]
    return int(np.count_nonzero(np.diff(lasting)))


def mean(values: Array) -> float:
    """Mean of the finite ones; nan where there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
