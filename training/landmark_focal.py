"""Focal lengths from the perspective in metric landmarks alone, on windows of renders: what it is worth."""

from __future__ import annotations

import numpy as np

from pipeline.calibration_sample import BODY
from pipeline.landmark_model import LandmarkModel
from pipeline.perspective import fit_perspective
from training.landmark_fit import Looks, Scaled, centred

FOCALS = np.exp(np.linspace(np.log(0.25), np.log(6.0), 48))


def windows(looks: Looks, at_least: int = 20) -> list[Looks]:
    """One Looks a camera, where enough of its pictures are usable."""
    groups = [looks.where(looks["shard"] == k) for k in np.unique(looks["shard"])]
    return [g for g in groups if len(g) >= at_least]


def rigid_focal(looks: Looks) -> float:
    """The focal length in pixels at which the metric landmarks, as rigid sets, reproject best over all pictures."""
    c = looks["K"][0, :2, 2]
    focals = FOCALS * (2 * c[1] + 1)
    total = np.zeros(len(focals))
    for uv, points, w in zip(
        looks["points_px"][:, BODY], looks["points_m"][:, BODY], looks.weights[:, BODY], strict=True
    ):
        total += fit_perspective(points, (uv - c) / focals[:, None, None], w).error_m2
    return float(focals[total.argmin()])


def law_focal(looks: Looks, model: LandmarkModel) -> float:
    """The focal length in pixels that the measured perspective law gives, in closed form: linear in 1 / focal."""
    s, w = Scaled.of(looks), looks.weights[..., None]
    strength = centred(s.picture * s.found[..., 2:], w)
    excess = s.found[..., :2] - s.picture - model.assumed_nearness[:, None] * strength
    px_per_m = (s.nearness * looks["K"][:, 0, 0])[:, None, None]
    per_inverse = model.nearness_share[:, None] * strength * px_per_m
    weight = w / model.sigma_across_m[:, None] ** 2
    inverse = (weight * per_inverse * np.clip(excess, -0.08, 0.08)).sum() / (weight * per_inverse**2).sum()
    limits = FOCALS[[0, -1]] * (2 * looks["K"][0, 1, 2] + 1)
    return float(np.clip(1.0 / inverse, *limits)) if inverse > 0 else float(limits[1])
