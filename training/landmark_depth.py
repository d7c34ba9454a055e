"""The likeliest true depth of every landmark, as a linear function of all metric landmarks, from renders.

One landmark's found depth says little of its true one; where the others are says more: how the body stands and bends,
and which of its errors are shared. Ridge regression towards the depth as found, left and right fitted as one.
"""

from __future__ import annotations

import numpy as np

from pipeline.frames import Array
from pipeline.landmark_model import depth_as_found
from training.landmark_fit import MIRROR, OTHER, Looks, Scaled

RIDGE = 1.0  # how many looks (of 1 m landmarks) the depth as found is worth
HUBER_M = 0.12
#: Depth in pictures of real people is better than in renders (docs/landmarks.md): so much of the correction is made.
TRUST = 0.8
_HIPS = [23, 24]


def features(points_m: Array) -> Array:
    """(N, 100): metric landmarks (N, 33, 3) in a row, and 1."""
    return np.concatenate([points_m.reshape(len(points_m), -1), np.ones((len(points_m), 1))], axis=1)


def fit_depth_map(looks: Looks) -> Array:
    """(33, 100): depth_map @ features = true depth along the ray from the hips' middle, network's metres."""
    found, true = looks["points_m"], looks.true_ray[..., 2] * Scaled.of(looks).scale[:, None]
    X = np.concatenate([features(found), features(found[:, OTHER] * MIRROR)])
    Y = np.concatenate([true, true[:, OTHER]])
    # A landmark outside the picture is nowhere in particular
    seen = np.concatenate([looks.inside, looks.inside[:, OTHER]])
    plain = depth_as_found().T
    correction: Array = np.zeros_like(plain)
    weights: Array = np.ones(len(X))
    for _ in range(4):
        XtX = X.T @ (X * weights[:, None]) + RIDGE * np.eye(X.shape[1])
        rest = np.where(seen, Y - X @ plain, X @ correction)
        correction = np.asarray(np.linalg.solve(XtX, X.T @ (rest * weights[:, None])))
        error = np.sqrt(((rest - X @ correction) ** 2).mean(1))
        weights = np.asarray(1.0 / np.maximum(1.0, error / HUBER_M))
    full = plain + TRUST * correction
    return np.asarray((full - full[:, _HIPS].mean(1, keepdims=True)).T)
