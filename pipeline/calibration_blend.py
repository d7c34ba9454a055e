"""How the published calibration follows the estimate: smoothly, so that the world does not jump."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace

import numpy as np

from pipeline.calibration_standing import GivenFloor
from pipeline.frames import Array, R_world_camera_from_up
from pipeline.types import CalibrationStatus, CameraCalibration

#: Time constants in which the published calibration follows the estimate, how often, and when it has arrived.
APPROACH_S, EVERY_S, ARRIVED = 0.4, 0.1, 2e-3
UNSURE_HEIGHT_M = 0.5
_APPROACH_S = {CalibrationStatus.CALIBRATED: 2.0, CalibrationStatus.SUPPLIED: 1.0}


@dataclass(eq=False)
class Following:
    """The published calibration on its way to the newest estimate; `keep_K` as in `approach`.

    floor  what the user said the floor is; heights of estimates are set aside for it
    """

    current: CameraCalibration
    keep_K: bool
    target: CameraCalibration | None = None
    floor: GivenFloor | None = None
    _stepped_s: float = -np.inf

    def step(self, t_s: float) -> CameraCalibration:
        """The calibration at `t_s` seconds, a step further where one is due."""
        dt = t_s - self._stepped_s
        if self.target is not None and (dt >= EVERY_S or self.current.n_samples == 0 or dt < 0.0):
            self._stepped_s = t_s
            self.target = self.target if self.floor is None else self.floor.given(self.target)
            self.current, there = approach(self.current, self.target, dt, self.keep_K)
            self.target = None if there else self.target
        return self.current

    def stand_on(self, points_m: Array, above_m: Array) -> CameraCalibration:
        """Takes points (n, 3) in the camera, (n,) metres above the floor, for the floor; the calibration, at once."""
        self.floor = GivenFloor(points_m, above_m, float(self.current.K[0, 0]))
        self.current, self.target = self.floor.given(self.current), None
        return self.current

    def grow(self, ratio: float) -> None:
        """Everything seen turned out `ratio` times as large: so is the height over the floor."""
        self.floor, self.target = self.floor and self.floor.grown(ratio), None
        height, spread = self.current.camera_height_m, self.current.height_spread_m
        self.current = replace(self.current, camera_height_m=height and height * ratio,
                               height_spread_m=spread and spread * ratio)  # fmt: skip


def approach(
    old: CameraCalibration, new: CameraCalibration, dt_s: float, keep_K: bool
) -> tuple[CameraCalibration, bool]:
    """The calibration `dt_s` seconds after `old` on its way to `new`, and whether it is there.

    `keep_K` takes the matrix of `new` as it is. The first estimate of all is taken at once.
    """
    if old.n_samples == 0 and old.status is CalibrationStatus.UNCALIBRATED:
        return new, True
    if new.camera_height_m is None and old.camera_height_m is not None:
        # Until somebody shows the floor again the old height is nearer than none, and the world stays where it is
        spread = max(old.height_spread_m or 0.0, UNSURE_HEIGHT_M)
        new = dataclasses.replace(new, camera_height_m=old.camera_height_m, height_spread_m=spread)
    share = 1.0 - float(np.exp(-np.clip(dt_s, 0.0, 0.2) / _APPROACH_S.get(old.status, APPROACH_S)))
    log_ratio = float(np.log(new.K[0, 0] / old.K[0, 0]))
    height = new.camera_height_m
    if height is not None and old.camera_height_m is not None:
        height = old.camera_height_m + share * (height - old.camera_height_m)
    turned = angle(new.up_camera, old.up_camera)
    left = max(turned, abs(log_ratio), abs((new.camera_height_m or 0.0) - (height or 0.0)))
    status = _status_on_the_way(old, new, turned)
    if left < ARRIVED:
        # Near enough: the spreads are the new ones, the world stays where it is
        R = old.R_world_camera
        height = height if old.camera_height_m is None else old.camera_height_m
        return dataclasses.replace(new, status=status, K=old.K, R_world_camera=R, camera_height_m=height), True
    K = new.K if keep_K else with_focal(new.K, old.K[0, 0] * float(np.exp(share * log_ratio)))
    R = R_world_camera_from_up(old.up_camera + share * (new.up_camera - old.up_camera))
    return dataclasses.replace(new, K=K, R_world_camera=R, camera_height_m=height, status=status), False


def _status_on_the_way(old: CameraCalibration, new: CameraCalibration, turned: float) -> CalibrationStatus:
    """`moved` until the new estimate stands by itself, and not `calibrated` while far from it."""
    if turned <= new.gravity_spread_rad:
        return new.status
    if old.status is CalibrationStatus.MOVED:
        return old.status
    return CalibrationStatus.CALIBRATING if new.status is CalibrationStatus.CALIBRATED else new.status


def angle(a: Array, b: Array) -> float:
    """Radians between two unit vectors (3,)."""
    return float(np.arccos(np.clip(a @ b, -1.0, 1.0)))


def with_focal(K: Array, focal_px: float) -> Array:
    """K with another focal length, its ratio of pixel sides and principal point kept."""
    out = np.array(K)
    out[:2, :2] *= focal_px / K[0, 0]
    return out
