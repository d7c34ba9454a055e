"""What renders with known truth say of the landmark network: places on the body, depth, perspective, noise, flips.

Everything metric is compared in the axes of the viewing ray through the hips' middle: R_camera_ray is the smallest
turn that takes the optical axis there. `measure_landmarks` runs the parts and writes their results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from pipeline.calibration_sample import BODY
from pipeline.frames import Array, normalize, shortest_rotation
from pipeline.types import JOINT, JOINT_NAMES, LANDMARK, LANDMARK_NAMES
from training.anny_rig import LANDMARK_JOINTS

Mask = np.ndarray

#: The landmark (33,) and the joint (24,) on the body's other side.
OTHER = np.array([
    LANDMARK[n.replace("left", "?").replace("right", "left").replace("?", "right")] for n in LANDMARK_NAMES
])  # fmt: skip
OTHER_JOINT = np.array([
    JOINT[n.replace("left", "?").replace("right", "left").replace("?", "right")] for n in JOINT_NAMES
])  # fmt: skip
MIRROR = np.array([-1.0, 1.0, 1.0])
GROUPS = {
    part: np.array([i for i, n in enumerate(LANDMARK_NAMES) if n.removeprefix("left_").removeprefix("right_") in names])
    for part, names in {
        "head": ("nose", "ear"), "shoulder": ("shoulder",), "elbow": ("elbow",), "wrist": ("wrist",), "hip": ("hip",),
        "knee": ("knee",), "ankle": ("ankle",), "foot": ("heel", "foot_index"),
    }.items()
}  # fmt: skip
VISIBILITY_EDGES = (0.0, 0.1, 0.5, 0.9, 1.0)
_LIMBS = np.array([i for i, n in enumerate(LANDMARK_NAMES) if 11 <= i <= 16 or 23 <= i <= 28])


@dataclass(frozen=True, eq=False)
class Looks:
    """N people as the network saw them, beside their truth: the arrays of training.landmark_renders' shards.

    data    name -> (N, ...)
    points  (33, 3) of each landmark from its guessed place, fractions of the stature, in its joint's axes
    """

    data: dict[str, np.ndarray]
    points: Array

    @classmethod
    def load(cls, folder: Path, name: str, points: Array | None = None) -> Looks:
        """All shards of a set; raises OSError when there is none."""
        files = sorted(folder.glob(f"{name}_*.npz"))
        if not files:
            raise OSError(f"{folder}: expected shards {name}_*.npz, found none; run training.landmark_renders first.")
        parts = [dict(np.load(f)) for f in files]
        data = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        data["shard"] = np.repeat(np.arange(len(parts)), [len(p["found"]) for p in parts])
        return cls(data, np.zeros((33, 3)) if points is None else points)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.data[name]

    def __len__(self) -> int:
        return len(self.data["found"])

    def where(self, mask: Mask) -> Looks:
        """Those of `mask` (N,)."""
        return replace(self, data={k: v[mask] for k, v in self.data.items()})

    @cached_property
    def truth(self) -> Array:
        """(N, 33, 3) the landmarks in the camera, metres."""
        offsets = self["landmarks_rest"] - self["joints_rest"][:, LANDMARK_JOINTS]
        offsets = offsets + self["stature_m"][:, None, None] * self.points
        turns = self["Rs_camera_joint"][:, LANDMARK_JOINTS]
        return self["joints"][:, LANDMARK_JOINTS] + (turns @ offsets[..., None])[..., 0]

    @cached_property
    def middle(self) -> Array:
        """(N, 3) between the hips, in the camera, metres."""
        return self.truth[:, 23:25].mean(1)

    @cached_property
    def Rs_camera_ray(self) -> Array:
        """(N, 3, 3)."""
        ray = normalize(self.middle)
        return shortest_rotation(np.broadcast_to([0.0, 0.0, 1.0], ray.shape), ray)

    @cached_property
    def true_ray(self) -> Array:
        """(N, 33, 3) true landmarks from the hips' middle in the ray's axes, metres."""
        return (self.truth - self.middle[:, None]) @ self.Rs_camera_ray

    @cached_property
    def error_px(self) -> Array:
        """(N, 33, 2) found minus true, pixels."""
        t = self.truth
        uv = np.einsum("nij,nkj->nki", self["K"][:, :2], t / np.maximum(t[..., 2:], 0.05))
        return self["points_px"] - uv

    @cached_property
    def error_m(self) -> Array:
        """(N, 33, 2) the same in metres at each landmark's depth."""
        return self.error_px * (self.truth[..., 2] / self["K"][:, :1, 0])[..., None]

    @cached_property
    def inside(self) -> Mask:
        """(N, 33) found inside the picture."""
        size = 2 * self["K"][:, None, :2, 2] + 1
        return np.asarray(((self["points_px"] >= 0) & (self["points_px"] <= size - 1)).all(-1))

    @cached_property
    def weights(self) -> Array:
        """(N, 33) 1 for the body's landmarks that are seen, inside the picture and no outliers."""
        w = np.zeros((len(self), 33))
        w[:, BODY] = (self["visibility"] > 0.5)[:, BODY]
        return w * self.inside * (np.linalg.norm(self.error_m, axis=-1) < 0.15)

    @cached_property
    def toward(self) -> Array:
        """(N,) how far the chest faces the camera: 1 front, 0 side, -1 back."""
        front = self["Rs_camera_joint"][:, JOINT["spine3"], :, 2]
        return -np.sum(front * normalize(self.middle), axis=-1)

    def swapped_error(self, which: Mask) -> tuple[Array, Array]:
        """Median distance (N,) in metres of landmarks `which` from the truth, as they are and with sides exchanged."""
        t = self.truth
        uv = np.einsum("nij,nkj->nki", self["K"][:, :2], t / np.maximum(t[..., 2:], 0.05))
        scale = (self.middle[:, 2] / self["K"][:, 0, 0])[:, None]
        own = np.linalg.norm(self["points_px"] - uv, axis=-1) * scale
        other = np.linalg.norm(self["points_px"] - uv[:, OTHER], axis=-1) * scale
        return np.median(own[:, which], axis=1), np.median(other[:, which], axis=1)

    def usable(self) -> Looks:
        """Those found, believed in, not flipped and less than 15 cm off in the middle of their landmarks."""
        found = self.where(self["found"] & (self["score"] > 0.5))
        own, other = found.swapped_error(_LIMBS)
        kept = found.where((own < 0.15) & (other > 0.7 * own))
        return kept.where(kept.weights.sum(1) >= 10)


def _both_sides(k: int) -> list[tuple[int, Array]]:
    return [(k, np.ones(3))] + ([(int(OTHER[k]), MIRROR)] if OTHER[k] != k else [])


def robust_sigma(residuals: Array) -> float:
    """Standard deviation that outliers do not move: 1.4826 x the median of what is left over."""
    return float(1.4826 * np.median(np.abs(residuals))) if residuals.size else float("nan")


def fit_points(looks: Looks) -> tuple[Array, Array]:
    """Where the landmarks lie: offsets (33, 3) in fractions of the stature, and table (33, 3).

    The table's columns: views, median 2D distance in metres before and after. Least squares of the reprojection with
    a soft L1 loss of 2 cm over the views in which a landmark is seen; left and right are one fit.
    """
    offsets, table = np.zeros((33, 3)), np.zeros((33, 3))
    for k in range(33):
        if OTHER[k] < k:
            continue
        rows = []
        for j, mirror in _both_sides(k):
            hidden = looks["hidden_by_m"][:, j]
            near = np.isfinite(hidden) & ((hidden < 0.1) | (j in GROUPS["hip"]))
            m = (looks["visibility"][:, j] > 0.5) & near & looks.inside[:, j]
            R = looks["Rs_camera_joint"][m, LANDMARK_JOINTS[j]] * (looks["stature_m"][m, None, None] * mirror)
            rows.append((looks.truth[m, j], R, looks["K"][m], looks["points_px"][m, j]))
        P, R, K, uv = (np.concatenate(part) for part in zip(*rows, strict=True))

        def residual(x: Array, P: Array = P, R: Array = R, K: Array = K, uv: Array = uv) -> Array:
            moved = P + R @ x
            found = np.einsum("nij,nj->ni", K[:, :2], moved / moved[:, 2:])
            return np.asarray((found - uv) * (P[:, 2] / K[:, 0, 0])[:, None])

        free = [1, 2] if OTHER[k] == k else [0, 1, 2]

        def flat(x: Array, free: list[int] = free) -> Array:
            full = np.zeros(3)
            full[free] = x
            return residual(full).ravel()

        best = least_squares(flat, np.zeros(len(free)), loss="soft_l1", f_scale=0.02)
        offsets[k, free] = best.x
        before, after = (np.median(np.linalg.norm(residual(v), axis=1)) for v in (np.zeros(3), offsets[k]))
        for j, mirror in _both_sides(k):
            offsets[j], table[j] = offsets[k] * mirror, (len(uv), before, after)
    return offsets, table


@dataclass(frozen=True, eq=False)
class Scaled:
    """Metric landmarks, truth and picture of the same people at one scale, each about its weighted mean.

    found, true  (N, 33, 3) in the ray's axes, metres of the network's own size
    picture      (N, 33, 2) image points brought to metres by least squares against `found`
    nearness     (N,) 1 / distance, in the network's metres
    scale        (N,) the network's size over the true one
    """

    found: Array
    true: Array
    picture: Array
    nearness: Array
    scale: Array

    @classmethod
    def of(cls, looks: Looks) -> Scaled:
        """From the looks, weighted as they say."""
        w = looks.weights[..., None]
        found = centred(looks["points_m"], w)
        true = centred(looks.true_ray, w)
        picture = centred(looks["points_px"], w)
        size = _ratio(true[..., :2], found[..., :2], w)
        px = _ratio(picture, found[..., :2], w)
        nearness = 1.0 / (px * looks["K"][:, 0, 0])
        return cls(found, true * size[:, None, None], picture * px[:, None, None], nearness, size)


def centred(points: Array, w: Array) -> Array:
    """`points` (N, 33, C) less their mean with weights w (N, 33, 1)."""
    return np.asarray(points - (w * points).sum(1, keepdims=True) / w.sum(1, keepdims=True))


def _ratio(a: Array, b: Array, w: Array) -> Array:
    """s (N,) for which s a is nearest to b."""
    return np.asarray((w * a * b).sum((1, 2)) / (w * a * a).sum((1, 2)))


def regression(columns: list[Array], y: Array, weights: Array, huber: float = 0.05) -> tuple[Array, float]:
    """Robust linear regression of y on the columns, all of one shape: coefficients, and sigma of the residual."""
    keep = weights.ravel() > 0
    A, b = np.stack([c.ravel()[keep] for c in columns], 1), y.ravel()[keep]
    q: Array = np.ones(len(b))
    x: Array = np.zeros(A.shape[1])
    for _ in range(8):
        root = np.sqrt(q)
        x = np.asarray(np.linalg.lstsq(A * root[:, None], b * root, rcond=None)[0])
        q = np.asarray(1.0 / np.maximum(1.0, np.abs(b - A @ x) / huber))
    return x, robust_sigma(b - A @ x)


def perspective_law(looks: Looks, which: Mask, rows: Mask | None = None) -> tuple[Array, float]:
    """(assumed, share) of landmarks `which`: found_xy = picture + (assumed + share / distance) picture found_z.

    `assumed` (1/m) is the nearness of a camera that the network takes for granted, `share` how much of the true one it
    sees. Translation and scale are taken out of both sides.
    """
    if rows is not None:
        looks = looks.where(rows)
    s, w = Scaled.of(looks), looks.weights[..., None]
    strength = centred(s.picture * s.found[..., 2:], w)
    excess = s.found[..., :2] - s.picture
    strength, excess = (v - s.picture * _ratio(s.picture, v, w)[:, None, None] for v in (strength, excess))
    ww = np.repeat(w, 2, axis=-1)[:, which]
    columns = [strength[:, which], (strength * s.nearness[:, None, None])[:, which]]
    return regression(columns, excess[:, which], ww, 0.03)


def depth_law(looks: Looks, which: Mask, rows: Mask | None = None) -> tuple[float, float, float, float]:
    """(share, sigma, gain, sigma) of depth: found_z = share true_z, and best guess of true_z = gain found_z; metres."""
    if rows is not None:
        looks = looks.where(rows)
    size = Scaled.of(looks).scale[:, None]
    true, found, w = looks.true_ray[..., 2] * size, looks["points_m"][..., 2], looks.weights
    (share,), sigma = regression([true[:, which]], found[:, which], w[:, which], 0.15)
    (gain,), back = regression([found[:, which]], true[:, which], w[:, which], 0.15)
    return float(share), sigma, float(gain), back


def leak_of(looks: Looks, which: Mask, rows: Mask | None = None) -> float:
    """alpha of found_xy = true_xy + alpha (picture_xy - true_xy), the picture's own errors taken apart."""
    if rows is not None:
        looks = looks.where(rows)
    s, w = Scaled.of(looks), looks.weights[..., None]
    t = looks.truth
    uv = np.einsum("nij,nkj->nki", looks["K"][:, :2], t / t[..., 2:])
    exact, true = (_at_size(v, s.found[..., :2], w) for v in (uv, s.true[..., :2]))
    ww = np.repeat(w, 2, axis=-1)[:, which]
    columns = [(exact - true)[:, which], (s.picture - exact)[:, which]]
    x, _ = regression(columns, (s.found[..., :2] - true)[:, which], ww, 0.03)
    return float(x[0])


def _at_size(points: Array, like: Array, w: Array) -> Array:
    """`points` about their mean, brought to the size of `like` by least squares."""
    p = points - (w * points).sum(1, keepdims=True) / w.sum(1, keepdims=True)
    return np.asarray(p * ((w * p * like).sum((1, 2)) / (w * p * p).sum((1, 2)))[:, None, None])
