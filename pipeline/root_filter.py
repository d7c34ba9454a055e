"""Where the root goes: a Kalman filter of constant velocity that knows in which direction one camera errs.

Depth errs in proportion to the distance, what lies across the view hardly does. Feet on the floor are a second witness
of where the root is: both are weighed along and across the view by their variances (legged robots do the same: Bloesch
et al., State estimation for legged robots, RSS 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from filterpy.kalman import KalmanFilter

from pipeline.frames import Array


@dataclass(frozen=True)
class RootNoise:
    """Standard deviations.

    across_m           of the root as the picture has it, across the view, metres
    along_per_m        the same along the view for each metre of distance
    acceleration_m_s2  of the root's acceleration
    held_across_m, held_along_m  of the root as one foot on the floor has it
    """

    across_m: float
    along_per_m: float
    acceleration_m_s2: float
    held_across_m: float = 0.03
    held_along_m: float = 0.15


_SENT = np.eye(3, 6)
_UNIT = np.eye(3)


class RootFilter:
    """Constant-velocity Kalman filter of a point in the world, metres and seconds; `noise` may be changed."""

    def __init__(self, position: Array, noise: RootNoise) -> None:
        self.noise = noise
        # filterpy's kinematic_kf has a wrong H for three dimensions, so the matrices are set here
        self._kf = KalmanFilter(dim_x=6, dim_z=3)
        self._kf.x[:3, 0] = position
        self._kf.H = _SENT
        self._kf.P = np.diag([0.05**2] * 3 + [1.0] * 3)
        self._F, self._Q = np.eye(6), np.zeros((6, 6))

    def predict(self, dt_s: float) -> Array:
        """Position (3,) `dt_s` later with nothing seen."""
        F, Q = self._F, self._Q
        power = self.noise.acceleration_m_s2**2
        F[:3, 3:] = dt_s * _UNIT
        Q[:3, :3], Q[3:, 3:] = (0.25 * dt_s**4 * power) * _UNIT, (dt_s**2 * power) * _UNIT
        Q[:3, 3:] = Q[3:, :3] = (0.5 * dt_s**3 * power) * _UNIT
        self._kf.predict(F=F, Q=Q)
        return self.position

    def update(
        self, position: Array, from_camera: Array, dt_s: float, held: Array | None = None, feet: int = 0
    ) -> Array:
        """Position (3,) after a measurement `dt_s` > 0 later; `from_camera` (3,) leads from the camera to it.

        held  (3,) where `feet` feet on the floor say the root is
        """
        self.predict(dt_s)
        noise = self.noise
        distance = float(np.sqrt(from_camera @ from_camera))
        view = from_camera / max(distance, 1e-6)
        across, along = noise.across_m**2, max(noise.across_m, noise.along_per_m * distance) ** 2
        if held is not None and feet > 0:
            share_across = across / (across + noise.held_across_m**2 / feet)
            share_along = along / (along + noise.held_along_m**2 / feet)
            off = held - position
            position = position + share_across * off + ((share_along - share_across) * float(off @ view)) * view
            across, along = across * (1.0 - share_across), along * (1.0 - share_along)
        self._kf.update(position, R=across * _UNIT + (along - across) * np.outer(view, view))
        return self.position

    def move(self, R: Array, t: Array) -> None:
        """Into another frame: `p_new = R @ p_old + t`."""
        x = self._kf.x[:, 0]
        self._kf.x[:, 0] = np.concatenate([R @ x[:3] + t, R @ x[3:]])

    @property
    def position(self) -> Array:
        """Metres (3,)."""
        return self._kf.x[:3, 0].copy()

    @property
    def velocity(self) -> Array:
        """Metres a second (3,)."""
        return self._kf.x[3:, 0].copy()
