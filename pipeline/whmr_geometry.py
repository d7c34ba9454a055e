"""Where W-HMR's conventions meet those of `pipeline.frames`.

`level` is the network's world: the camera's axes turned upright, x right, y down, z forward, and
`R_camera_level = Rx(pitch) Rz(roll)`. It shares its vertical with `world`, and differs by a turn about it.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.frames import Array
from pipeline.perspective import rays_of
from pipeline.types import CameraCalibration


def up_camera(pitch_rad: float, roll_rad: float) -> Array:
    """Unit up vector in the camera (3,) of the network's angles: -R_camera_level's y axis."""
    c = math.cos(roll_rad)
    return np.array([math.sin(roll_rad), -c * math.cos(pitch_rad), -c * math.sin(pitch_rad)])


def R_camera_level(up: Array) -> Array:
    """Rx(pitch) Rz(roll) (3, 3) of a camera in which the unit vector `up` (3,) points up: inverse of `up_camera`."""
    x, y, z = np.asarray(up, dtype=np.float64).tolist()
    s, c = x, math.hypot(y, z)
    # a camera that looks along its own horizon's right has no pitch
    sp, cp = (-z / c, -y / c) if c > 1e-9 else (0.0, 1.0)
    return np.array([[c, -s, 0.0], [cp * s, cp * c, -sp], [sp * s, sp * c, cp]])


def focal_px(scale: Array, side_px: Array, Tz_m: Array) -> Array:
    """Focal lengths (B) in px that put people of weak scale (B) in squares of `side_px` (B) at depths `Tz_m` (B)."""
    return scale * side_px * Tz_m / 2.0


def translations(cam: Array, boxes: Array, calibration: CameraCalibration) -> Array:
    """Camera translations (B, 3) in metres under the calibrated K, of cam (B, 3) = s, tx, ty and boxes (B, 5) px.

    The size of a person in the picture gives the depth, z = 2 f / (s side); tx, ty are metres from the ray through the
    square's centre. At the network's own focal length this is its own translation.
    """
    K = calibration.K
    z = 2.0 * float(np.sqrt(K[0, 0] * K[1, 1])) / (cam[:, 0] * boxes[:, 2])
    rays = rays_of(boxes[:, :2], K, calibration.distortion)
    return np.concatenate([cam[:, 1:] + rays * z[:, None], z[:, None]], axis=1)
