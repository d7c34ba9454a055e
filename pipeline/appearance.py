"""What tells people apart: where they go (a Kalman filter of place and size) and the colours they wear."""

from __future__ import annotations

from copy import deepcopy

import cv2
import numpy as np
from filterpy.kalman import KalmanFilter
from numpy.typing import NDArray

from pipeline.frames import Array
from pipeline.types import LANDMARK, Landmarks

_TORSO = [LANDMARK[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
_KNEES = [LANDMARK[n] for n in ("left_knee", "right_knee")]
#: Where colours are read: fractions across and down the torso, and down the thighs.
_ACROSS, _DOWN, _THIGH = np.linspace(0.25, 0.75, 4), np.linspace(0.1, 0.9, 8), np.linspace(0.15, 0.75, 6)
_MIN_TORSO_PX = 8.0
#: Lab units at which two looks are surely of different people; lightness counts half, it changes with the light.
_LOOK_UNIT, _LAB_WEIGHTS = 35.0, np.array([0.5, 1.0, 1.0])
#: Sizes a second squared by which people change their velocity, sizes of noise in a measured place, and seconds for
#: which a velocity is believed when nobody is seen.
_ACCELERATION, _NOISE, _BLURRED_NOISE, _CARRY_S = 3.0, 0.01, 0.08, 0.6

#: What a rate adds to its own coordinate, and which pairs of the state belong to one coordinate.
_EYE, _RATES, _SAME_AXIS = np.eye(6), np.eye(6, k=3), np.kron(np.ones((2, 2)), np.eye(3))


def body_center(landmarks: Landmarks) -> Array:
    """Middle of the torso (2,), pixels."""
    return landmarks.points_px[_TORSO].mean(0)


def body_size(landmarks: Landmarks) -> float:
    """The longer side of the landmarks' extent, pixels, at least 1."""
    return max(float(np.ptp(landmarks.points_px, axis=0).max()), 1.0)


class Motion:
    """Place (pixels) and size of a person with constant velocity, in time: state u, v, log size and their rates."""

    def __init__(self, t_ns: int, center: Array, size: float) -> None:
        self._filter = KalmanFilter(dim_x=6, dim_z=3)
        self._filter.x = np.array([*center, np.log(size), 0.0, 0.0, 0.0])
        self._filter.H = np.eye(3, 6)
        self._filter.P = np.diag([(_NOISE * size) ** 2] * 2 + [_NOISE**2] + [size**2] * 2 + [1.0])
        self._t_ns = t_ns

    @property
    def size(self) -> float:
        """Pixels."""
        return float(np.exp(self._filter.x[2]))

    def copy(self) -> Motion:
        """The same motion, to be carried on apart from this one."""
        return deepcopy(self)

    def update(self, t_ns: int, center: Array, size: float, blurred: bool) -> None:
        """Takes in a sighting; `blurred` when it may be partly somebody else's."""
        dt, scale = max((t_ns - self._t_ns) / 1e9, 1e-3), self.size
        units = np.array([scale, scale, 1.0])
        change = np.concatenate([units * (dt**2 / 2), units * dt]) * _ACCELERATION
        noise = (_BLURRED_NOISE if blurred else _NOISE) * units
        self._filter.predict(F=_EYE + dt * _RATES, Q=_SAME_AXIS * np.outer(change, change))
        self._filter.update(np.array([*center, np.log(size)]), R=_EYE[:3, :3] * noise**2)
        self._t_ns = t_ns

    @property
    def velocity(self) -> Array:
        """Pixels a second (2,)."""
        return self._filter.x[3:5]

    def center(self, t_ns: int) -> Array:
        """Expected place (2,) at a time at or after the last sighting, pixels."""
        dt = np.clip((t_ns - self._t_ns) / 1e9, 0.0, _CARRY_S)
        return self._filter.x[:2] + dt * self._filter.x[3:5]

    def distance(self, t_ns: int, center: Array) -> float:
        """How far a place is from the expected one, in sizes."""
        return float(np.hypot(*(self.center(t_ns) - center)) / self.size)


def look_at(image: NDArray[np.uint8], landmarks: Landmarks) -> Array | None:
    """Colours (3, 3) of upper torso, lower torso and thighs, Lab 0..255; None when too small or out of the picture."""
    p = landmarks.points_px
    left_shoulder, right_shoulder, left_hip, right_hip = p[_TORSO]
    if max(np.hypot(*(left_shoulder - left_hip)), np.hypot(*(right_shoulder - right_hip))) < _MIN_TORSO_PX:
        return None
    across, down = _ACROSS[None, :, None], _DOWN[:, None, None]
    top = left_shoulder + across * (right_shoulder - left_shoulder)
    bottom = left_hip + across * (right_hip - left_hip)
    torso = (top + down * (bottom - top)).reshape(-1, 2)
    hips, knees = p[_TORSO[2:]], p[_KNEES]
    thighs = (hips + _THIGH[:, None, None] * (knees - hips)).reshape(-1, 2)
    where = np.rint(np.concatenate([torso, thighs])).astype(np.int64)
    inside = ((where >= 0) & (where < (image.shape[1], image.shape[0]))).all(1)
    if np.count_nonzero(inside) < len(where) // 2:
        return None
    where = np.clip(where, 0, (image.shape[1] - 1, image.shape[0] - 1))
    lab = cv2.cvtColor(image[where[:, 1], where[:, 0]][None], cv2.COLOR_RGB2LAB)[0]
    half = len(torso) // 2
    return np.stack([np.median(part, axis=0) for part in (lab[:half], lab[half : 2 * half], lab[2 * half :])])


def look_distance(a: Array | None, b: Array | None) -> float | None:
    """How unlike two looks are: 0 the same, 1 surely two people; None when one is unknown."""
    if a is None or b is None:
        return None
    return float(np.linalg.norm((a - b) * _LAB_WEIGHTS, axis=1).mean() / _LOOK_UNIT)
