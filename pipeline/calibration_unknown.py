"""A camera that nobody knows anything of: what is assumed of its focal length and its vertical, and how surely."""

from __future__ import annotations

import numpy as np

from pipeline.frames import Array, R_world_camera_from_up, up_from_pitch_roll
from pipeline.types import CalibrationStatus, CameraCalibration

ESTIMATOR = "body-bundle/1"
#: Focal lengths of webcams, phones and security cameras, over the picture's long side: median and log deviation.
#: Fields of view along that side from 90 degrees (0.5: action and wide security cameras) over 60 (0.87: phones and
#: webcams) to 33 (1.7: a phone's second lens, machine vision) lie within two deviations.
FOCAL_PRIOR, FOCAL_PRIOR_SIGMA = 0.85, 0.35
#: A camera nobody knows anything of looks a little down and is held level.
GRAVITY_PRIOR, GRAVITY_PRIOR_SIGMA_RAD = up_from_pitch_roll(np.radians(10.0), 0.0), np.radians(20.0)
ROLL_PRIOR_SIGMA_RAD = np.radians(15.0)


def uncalibrated(camera_id: str, size_wh: tuple[int, int]) -> CameraCalibration:
    """What is assumed of a camera before anything is known: the priors, with their spreads."""
    focal = FOCAL_PRIOR * max(size_wh)
    return CameraCalibration(
        camera_id=camera_id, size_wh=size_wh, K=pinhole(focal, size_wh), distortion=np.zeros(5),
        R_world_camera=R_world_camera_from_up(GRAVITY_PRIOR), camera_height_m=None, focal_spread=FOCAL_PRIOR_SIGMA,
        gravity_spread_rad=GRAVITY_PRIOR_SIGMA_RAD, height_spread_m=None, status=CalibrationStatus.UNCALIBRATED,
        n_samples=0, estimator=ESTIMATOR,
    )  # fmt: skip


def pinhole(focal_px: float, size_wh: tuple[int, int]) -> Array:
    """K (3, 3) of square pixels with the principal point at the picture's centre."""
    w, h = size_wh
    return np.array([[focal_px, 0.0, (w - 1) / 2], [0.0, focal_px, (h - 1) / 2], [0.0, 0.0, 1.0]])
