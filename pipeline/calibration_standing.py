"""What people who stand upright say by themselves: the vertical, and how high over their floor the camera is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.calibration_sample import SOLES_AT, Sample
from pipeline.frames import Array, normalize, shortest_rotation
from pipeline.types import CameraCalibration

#: The axis of upright bodies as the network's depth has it: of one sample, and of all that err alike.
SIGMA_AXIS_RAD, AXIS_FLOOR_RAD = np.radians(5.0), np.radians(1.5)
#: How much of a lean along the view the network may have lost or made up: 0.42 of it on renders (docs/landmarks.md),
#: next to nothing on real pictures, which it was made for.
LEAN_DOUBT = 0.05
HEIGHT_FLOOR_M = 0.08
SOLE_M = 0.02  # heels and toes over the floor they stand on
UNSURE_HEIGHT_M = 0.2  # more where nobody stood yet
VIEWS_WORTH = 4.0
POINTED_OUT_M = 0.03  # of a floor that feet were said to stand on


def upright_axes(samples: Sequence[Sample], log_focal: float) -> Array:
    """Axes (N, 3) in the camera of those samples that stand upright; `log_focal` as in `calibration_bundle`."""
    standing = [(s.hip_ray, s.axis_m) for s in samples if s.axis_m is not None]
    if not standing:
        return np.zeros((0, 3))
    ratio = np.exp(log_focal)
    rays = np.stack([ray for ray, _ in standing]) / [ratio, ratio, 1.0]
    Rs_camera_ray = shortest_rotation(np.broadcast_to([0.0, 0.0, 1.0], rays.shape), normalize(rays))
    return np.asarray((Rs_camera_ray @ np.stack([axis for _, axis in standing])[..., None])[..., 0])


def mean_axis(axes: Array) -> tuple[Array, tuple[float, float]] | None:
    """Robust mean (3,) of axes (N, 3), geometric median by reweighting; None of none.

    With it its sigmas about the camera's x axis (pitch) and z axis (roll), radians.
    """
    if not len(axes):
        return None
    up = normalize(np.median(axes, axis=0))
    for _ in range(3):
        off = np.arccos(np.clip(axes @ up, -1.0, 1.0))
        up = normalize((1.0 / np.maximum(1.0, off / (1.5 * SIGMA_AXIS_RAD))) @ axes)
    sigma = float(np.hypot(SIGMA_AXIS_RAD / np.sqrt(min(len(axes), VIEWS_WORTH)), AXIS_FLOOR_RAD))
    return up, (float(np.hypot(sigma, LEAN_DOUBT * np.arcsin(up[2]))), sigma)


def settled(values: Array, worth: float) -> tuple[float, float]:
    """Median of values (n,) and its standard deviation, the values being worth `worth` independent ones at most."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle))) / np.sqrt(min(len(values), worth))


def soles_camera(samples: Sequence[Sample], log_focal: float) -> Array:
    """Heels and toes (N, 4, 3) in the camera, metres: on their rays, at the depth the metric landmarks have."""
    ratio = np.exp(log_focal)
    rays = np.stack([s.rays[SOLES_AT] for s in samples]) / ratio
    away = ratio * np.array([s.distance_m for s in samples])[:, None]
    depth = away + np.stack([s.points_m[SOLES_AT, 2] for s in samples])
    return np.concatenate([rays * depth[..., None], depth[..., None]], axis=-1)


def camera_height(
    samples: Sequence[Sample], soles_m: Array, up: Array, focal_spread: float, up_spread_rad: float
) -> tuple[float | None, float | None]:
    """Median distance of standing feet (N, 4, 3) below the camera along `up`, and its standard deviation, metres.

    None and None while no feet are seen.
    """
    known = np.array([bool(s.visible[SOLES_AT].all()) for s in samples])
    standing = known & np.array([s.axis_m is not None for s in samples])
    if not known.any():
        return None, None
    # Who does not stand has mostly one foot on the floor too: better than no floor, until somebody stands
    enough = np.count_nonzero(standing) >= 3
    points = soles_m[standing if enough else known]
    lowest = np.max(-(points @ up), axis=1) + SOLE_M
    height, scatter = settled(lowest, VIEWS_WORTH)
    depth = float(np.median(points[..., 2]))
    spread = np.sqrt(
        HEIGHT_FLOOR_M**2 + scatter**2 + (up[2] * depth * focal_spread) ** 2 + (depth * up_spread_rad) ** 2
    )
    return max(height, 0.05), float(spread if enough else np.hypot(spread, UNSURE_HEIGHT_M))


@dataclass(frozen=True, eq=False)
class GivenFloor:
    """A floor that the user pointed out by feet that stood on it.

    points_m  (n, 3) ankles and balls in the camera, metres
    above_m   (n,) how far above the floor each is, metres
    focal_px  of the camera that saw them so: at another focal length they are as much farther away
    """

    points_m: Array
    above_m: Array
    focal_px: float

    def given(self, calibration: CameraCalibration) -> CameraCalibration:
        """`calibration` with the height over this floor, and its spread."""
        points = self.points_m * [1.0, 1.0, calibration.K[0, 0] / self.focal_px]
        up, depth = calibration.up_camera, float(np.median(points[:, 2]))
        height = max(float(np.median(self.above_m - points @ up)), 0.05)
        of_focal, of_gravity = float(up[2]) * calibration.focal_spread, calibration.gravity_spread_rad
        spread = float(np.hypot(POINTED_OUT_M, depth * np.hypot(of_focal, of_gravity)))
        return dataclasses.replace(calibration, camera_height_m=height, height_spread_m=spread)

    def grown(self, ratio: float) -> GivenFloor:
        """The same floor when everything seen turns out `ratio` times as large."""
        return dataclasses.replace(self, points_m=self.points_m * ratio)
