"""The camera from landmarks that are exact: a network or a marker system that has the perspective right.

MediaPipe's metric landmarks assume a camera a few metres away, so they are no use here (docs/landmarks.md) and are
told by their residual: 2 cm and more. Exact ones give the focal length by reprojection, and planted feet the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.calibration_sample import SOLES_AT, Sample
from pipeline.frames import Array, cross, exp_so3, normalize
from pipeline.perspective import fit_focal

#: Root mean square reprojection error under which landmarks count as exact, and what planted soles err at the least.
EXACT_M, SOLE_M = 0.008, 0.003
UNEVEN_M = 0.015
_ROUNDS = 6
#: Log focal lengths to begin with, for there are false minima.
STARTS = 0.0, -0.5, 0.5
FOCAL_FLOOR, GRAVITY_FLOOR_RAD = 0.02, np.radians(0.5)
MIN_SAMPLES = 3


@dataclass(frozen=True, eq=False)
class Exact:
    """log_focal is of the ratio to the camera of the samples; soles_m (N, 4, 3) heels and toes in the camera."""

    log_focal: float
    log_focal_sigma: float
    soles_m: Array


def solve_exact(samples: Sequence[Sample], near: float) -> Exact | None:
    """What exact landmarks say, or None when these are not exact or too few.

    `near` is the log focal length found before, or one of `STARTS`.
    """
    if len(samples) < MIN_SAMPLES:
        return None
    points, rays = np.stack([s.points_m for s in samples]), np.stack([s.rays for s in samples])
    weights = np.stack([s.visible for s in samples])
    fit, log_focal, sigma = fit_focal(points, rays, weights, near)
    if np.sqrt(np.median(fit.error_m2)) >= EXACT_M:
        return None
    soles = points[:, SOLES_AT] @ np.swapaxes(fit.Rs, 1, 2) + fit.ts[:, None]
    return Exact(log_focal, float(np.hypot(sigma, FOCAL_FLOOR)), soles)


def vertical_from_floor(
    samples: Sequence[Sample], soles_m: Array, up: Array, up_sigma_rad: float
) -> tuple[Array, float]:
    """The vertical (3,) and its sigma: planted heels lie in one plane, planted toes in another, both level.

    `up` and its sigma are what is known without the floor; where nobody walked about, or on stairs, they stay.
    """
    planted = np.stack([s.planted & (s.visible[SOLES_AT] > 0) for s in samples])
    groups = [soles_m[:, kind][planted[:, kind]] for kind in ((0, 1), (2, 3))]
    groups = [g for g in groups if len(g) > 2]
    if not groups:
        return up, up_sigma_rad
    before, normal, information, sole = up, up, np.eye(2), 0.0
    weights = [np.ones(len(g)) for g in groups]
    for _ in range(_ROUNDS):
        centred = [g - np.average(g, axis=0, weights=w) for g, w in zip(groups, weights, strict=True)]
        off = np.concatenate([c @ normal for c in centred])
        sole = max(SOLE_M, 1.4826 * float(np.median(np.abs(off))))
        weights = [1.0 / (1.0 + (c @ normal / (2.0 * sole)) ** 2) for c in centred]
        scatter = sum((w[:, None] * c).T @ c for w, c in zip(weights, centred, strict=True)) / sole**2
        # Two directions perpendicular to the vertical, about which it may turn
        a = normalize(cross(normal, np.array([0.0, 0.0, 1.0])), [1.0, 0.0, 0.0])
        turns = np.stack([a, cross(normal, a)])
        by_turn = cross(turns, np.broadcast_to(normal, (2, 3)))
        information = by_turn @ scatter @ by_turn.T + np.eye(2) / up_sigma_rad**2
        gradient = by_turn @ scatter @ normal + turns @ cross(before, normal) / up_sigma_rad**2
        normal = normalize(exp_so3(-np.linalg.solve(information, gradient) @ turns) @ normal)
    if sole > UNEVEN_M or float(normal @ before) < np.cos(3.0 * up_sigma_rad):
        return before, up_sigma_rad
    sigma = np.sqrt(np.trace(np.linalg.inv(information)) / 2)
    return normal, float(np.hypot(sigma, GRAVITY_FLOOR_RAD))
