"""Where the things an overlay draws lie in the picture: lens, horizon, floor, clipping. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from pipeline.frames import Array, normalize, project
from pipeline.types import CameraCalibration

_NEAR_M = 0.05
_GRID_CELLS = 14


def pixels(points_camera: Array, calibration: CameraCalibration) -> Array:
    """Pixels (..., 2) of points (..., 3) in camera metres, lens distortion included (OpenCV's k1 k2 p1 p2 k3).

    nan where a point has no picture: at or behind the camera, or so far outside that the lens polynomial folds back.
    """
    normalised = project(points_camera, np.eye(3))
    k1, k2, p1, p2, k3 = calibration.distortion
    if calibration.distortion.any():
        x, y = normalised[..., 0], normalised[..., 1]
        r2 = x * x + y * y
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        bent = np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=-1,
        )
        normalised = np.where(r2[..., None] < _believed_radius(calibration) ** 2, bent, np.nan)
    return normalised @ calibration.K[:2, :2].T + calibration.K[:2, 2]


def _believed_radius(calibration: CameraCalibration) -> float:
    """The radius (z = 1) up to which the lens polynomial r + k1 r^3 + k2 r^5 + k3 r^7 grows, at most 5."""
    k1, k2, _, _, k3 = calibration.distortion
    r2 = np.roots([7 * k3, 5 * k2, 3 * k1, 1.0])
    turns = np.sqrt(r2.real[(np.abs(r2.imag) < 1e-9) & (r2.real > 0)])
    return float(min(5.0, *turns)) if len(turns) else 5.0


def horizon_camera(calibration: CameraCalibration) -> Array | None:
    """Horizontal directions (65, 3) across the view, z = 1 in the camera; None when it looks straight up or down."""
    up = calibration.up_camera
    ahead = np.array([0.0, 0.0, 1.0]) - up[2] * up
    if np.linalg.norm(ahead) < 0.02:
        return None
    ahead = ahead / ahead[2]
    side = normalize(np.cross(up, ahead))
    reach = 2.0 * np.hypot(*calibration.size_wh) / calibration.K[0, 0]
    return ahead + np.linspace(-reach, reach, 65)[:, None] * side


def floor_grid(calibration: CameraCalibration) -> tuple[Array, Array, float]:
    """The floor's squares as pieces of one side each: camera points (N, 2, 3), strengths (N,) 0..1, the side in m.

    Squares are of 1 m, from a camera height of 8 m on of 5 m; the strength falls to 0 at 14 squares from the camera.
    Raises ValueError while the camera's height is unknown.
    """
    if calibration.camera_height_m is None:
        raise ValueError("The floor grid needs a camera height; the calibration has none yet.")
    side_m = 1.0 if calibration.camera_height_m < 8.0 else 5.0
    n = _GRID_CELLS
    along, across = np.meshgrid(np.arange(-n, n), np.arange(-n, n + 1))
    start = np.stack([across, np.zeros_like(along), along], axis=-1).reshape(-1, 3).astype(np.float64)
    pieces = np.stack([start, start + np.array([0.0, 0.0, 1.0])], axis=1)
    pieces = np.concatenate([pieces, pieces[..., ::-1]])
    distance = np.hypot(*pieces.mean(axis=1)[:, [0, 2]].T)
    strengths = np.clip(1.0 - distance / n, 0.0, 1.0)
    keep = strengths > 0
    world = pieces[keep] * side_m - calibration.t_world_camera
    return world @ calibration.R_world_camera, strengths[keep], side_m


def clip_near(segments_camera: Array) -> Array:
    """Segments (N, 2, 3) cut at the near plane; those wholly behind it become nan."""
    a, b = segments_camera[:, 0], segments_camera[:, 1]
    za, zb = a[:, 2:], b[:, 2:]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cut = a + (b - a) * (_NEAR_M - za) / (zb - za)
    behind = (za < _NEAR_M) & (zb < _NEAR_M)
    clipped = np.stack([np.where(za < _NEAR_M, cut, a), np.where(zb < _NEAR_M, cut, b)], axis=1)
    return np.where(behind[:, None], np.nan, clipped)


def clip_to_picture(segments_px: Array, size_wh: tuple[int, int], margin_px: float = 32.0) -> Array:
    """Segments (M, 2, 2) in pixels: what of (N, 2, 2) lies in the picture and its margin (Liang-Barsky).

    A segment with a nan end is left out. Without this, far ends overflow the integers OpenCV draws with.
    """
    low_px, high_px = -margin_px, np.array(size_wh) + margin_px
    # the usual case; a nan is in no picture
    if ((segments_px >= low_px) & (segments_px <= high_px)).all():
        return segments_px
    segments = segments_px[np.isfinite(segments_px).all(axis=(1, 2))]
    start, step = segments[:, 0], segments[:, 1] - segments[:, 0]
    low, high = np.zeros(len(segments)), np.ones(len(segments))
    for axis, side in enumerate(size_wh):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            t = (np.array([[-margin_px], [side + margin_px]]) - start[:, axis]) / step[:, axis]
        inside = (start[:, axis] >= -margin_px) & (start[:, axis] <= side + margin_px)
        parallel = step[:, axis] == 0
        low = np.maximum(low, np.where(parallel, np.where(inside, 0.0, np.inf), t.min(axis=0)))
        high = np.minimum(high, np.where(parallel, 1.0, t.max(axis=0)))
    kept = low < high
    return start[kept, None] + step[kept, None] * np.stack([low, high], axis=1)[kept][..., None]
