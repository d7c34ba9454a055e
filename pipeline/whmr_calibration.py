"""W-HMR's say in the calibration: its camera net's angles and its bodies' focal lengths, beside what people show.

Each is a measurement with a spread: the pictures' vertical and field of view (`camera`, once and then rarely), the
focal length under which the network's own depth of a person fits their size (paper section 3.2), and the calibration
that the people's landmarks give (`pipeline.calibration`). They are weighed by their spreads; where they contradict one
another the spread of the result grows. Bodies stand on the floor that their own feet show.

The spreads below are assumed, wider than what the authors of both networks report, until official weights are measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration import (
    ESTIMATOR as BUNDLE,
)
from pipeline.calibration import MAX_FOCAL_SPREAD, MAX_GRAVITY_SPREAD_RAD, MIN_SAMPLES, Calibrator
from pipeline.calibration_blend import Following, with_focal
from pipeline.calibration_standing import settled
from pipeline.contact import ABOVE_SOLE_M
from pipeline.frames import Array, R_world_camera_from_up, normalize
from pipeline.types import CalibrationStatus, CameraCalibration, Detection, Frame
from pipeline.whmr_geometry import up_camera
from pipeline.whmr_recovery import BodySighting

ESTIMATOR = f"whmr/1+{BUNDLE}"
#: Errors that all looks of one camera share: of the camera net's vertical, of its and the bodies' log focal length.
UP_FLOOR_RAD, VFOV_FLOOR, BODIES_FLOOR = math.radians(5.0), 0.25, 0.20
#: A calibration from the cache already holds what this network says; together they are never surer than this.
LEAST_FOCAL, LEAST_UP_RAD, LEAST_HEIGHT_M = 0.10, math.radians(2.5), 0.05
#: A vertical this sure was given; the camera net is not asked then.
GIVEN_RAD = math.radians(3.5)
#: Seconds to the second look of the camera net, and between any two when they have doubled long enough.
FIRST_LOOKS_S, LOOKS_S, LOOKS = 2.0, 60.0, 8
BODIES_S, BODIES, WORTH = 0.2, 64, 8

CameraNet = Callable[[NDArray[np.uint8]], tuple[float, float, float]]


class WhmrCalibrator:
    """The accumulator for W-HMR; wants the picture, so `see` it before every update.

    bundle     what the people's landmarks say, and what the user or the cache said at the start
    camera     the camera net: picture -> vertical field of view, pitch, roll in radians
    sightings  what the newest bodies say, handed out once (`WhmrRecovery.take_sightings`)
    """

    def __init__(self, bundle: Calibrator, camera: CameraNet, sightings: Callable[[], Sequence[BodySighting]]) -> None:
        self._bundle = bundle
        self._camera = camera
        self._sightings = sightings
        self._image: NDArray[np.uint8] | None = None
        self._ups: deque[Array] = deque(maxlen=LOOKS)
        self._vfovs: deque[float] = deque(maxlen=LOOKS)
        self._bodies: deque[BodySighting] = deque(maxlen=BODIES)
        self._next_look_s, self._looks_s = -math.inf, FIRST_LOOKS_S
        self._next_bodies_s = -math.inf
        self._base = bundle.current
        self._shown = Following(bundle.current, keep_K=bundle.supplied)

    @property
    def current(self) -> CameraCalibration:
        """The calibration as it stands."""
        return self._shown.current

    def see(self, frame: Frame) -> None:
        """Takes the picture that the next update may look at."""
        self._image = frame.image
        self._bundle.see(frame)

    def update(self, t_s: float, detections: Sequence[Detection]) -> CameraCalibration:
        """One step of the landmarks' calibration, and what the network said since; returns what they say together."""
        before, base = self._base, self._bundle.update(t_s, detections)
        self._base = base
        if base.status is CalibrationStatus.MOVED and before.status is not CalibrationStatus.MOVED:
            self._start_over(t_s)
        news = [self._look(t_s, base), self._take_bodies(t_s), base is not before]
        if any(news):
            self._shown.target = self._fused(base)
        return self._shown.step(t_s)

    def camera_moved(self, t_s: float) -> CameraCalibration:
        """The picture's background just jumped: what was known of gravity and height is void; t_s in seconds."""
        self._base = self._bundle.camera_moved(t_s)
        self._start_over(t_s)
        self._shown.current = dataclasses.replace(
            self._shown.current, status=CalibrationStatus.MOVED, n_samples=0, focal_spread=self._base.focal_spread,
            gravity_spread_rad=self._base.gravity_spread_rad,
        )  # fmt: skip
        return self._shown.current

    def set_floor(self, points_m: Array, above_m: Array) -> CameraCalibration:
        """Points (n, 3) in the camera are (n,) metres above the floor: that is its height until the camera moves."""
        return self._shown.stand_on(points_m, above_m)

    def resize(self, grown: dict[int, float]) -> None:
        """People turned out so many times as large, by track id; what their bodies said of the camera goes."""
        self._bundle.resize(grown)
        self._base = self._bundle.current
        self._bodies.clear()
        self._sightings()
        self._shown.grow(float(np.median(list(grown.values()))) if grown else 1.0)

    def _start_over(self, t_s: float) -> None:
        for window in (self._ups, self._vfovs, self._bodies):
            window.clear()
        self._sightings()
        self._next_look_s, self._looks_s = t_s, FIRST_LOOKS_S
        self._shown.target = self._shown.floor = None

    def _look(self, t_s: float, base: CameraCalibration) -> bool:
        """Asks the camera net where its time has come; whether it did."""
        image, self._image = self._image, None
        given = self._bundle.supplied and base.gravity_spread_rad < GIVEN_RAD
        if image is None or given or not (t_s >= self._next_look_s or t_s < self._next_look_s - 2 * LOOKS_S):
            return False
        vfov, pitch, roll = self._camera(image)
        self._next_look_s, self._looks_s = t_s + self._looks_s, min(2.0 * self._looks_s, LOOKS_S)
        if not all(map(math.isfinite, (vfov, pitch, roll))):
            return False
        self._ups.append(up_camera(pitch, roll))
        self._vfovs.append(vfov)
        return True

    def _take_bodies(self, t_s: float) -> bool:
        """Keeps what bodies say, now and then; whether any did."""
        sightings = self._sightings()
        if not sightings or self._next_bodies_s - BODIES_S <= t_s < self._next_bodies_s:
            return False
        self._next_bodies_s = t_s + BODIES_S
        self._bodies.extend(sightings)
        return True

    def _fused(self, base: CameraCalibration) -> CameraCalibration:
        """All measurements as one calibration."""
        n = len(self._ups) + len(self._bodies)
        if n == 0:
            return base
        K, focal_spread = self._focal(base)
        up, up_spread = self._up(base)
        height, height_spread = self._height(base, float(K[0, 0]), focal_spread, up, up_spread)
        enough = base.status is CalibrationStatus.CALIBRATED or (self._ups and len(self._bodies) >= MIN_SAMPLES)
        good = enough and focal_spread < MAX_FOCAL_SPREAD and up_spread < MAX_GRAVITY_SPREAD_RAD
        status = CalibrationStatus.CALIBRATED if good else CalibrationStatus.CALIBRATING
        if base.status is CalibrationStatus.SUPPLIED or (base.status is CalibrationStatus.MOVED and not good):
            status = base.status
        return dataclasses.replace(
            base, K=K, R_world_camera=R_world_camera_from_up(up), camera_height_m=height, focal_spread=focal_spread,
            gravity_spread_rad=up_spread, height_spread_m=height_spread, status=status, n_samples=base.n_samples + n,
            estimator=ESTIMATOR,
        )  # fmt: skip

    def _focal(self, base: CameraCalibration) -> tuple[Array, float]:
        """K (3, 3) and the relative spread of its focal length; a supplied K stays."""
        if self._bundle.supplied:
            return base.K, base.focal_spread
        said = [(float(np.log(base.K[0, 0])), base.focal_spread)]
        if self._vfovs:
            half = base.size_wh[1] / 2.0 * base.K[0, 0] / base.K[1, 1]
            said.append(_middle(np.log(half / np.tan(np.array(self._vfovs) / 2.0)), VFOV_FLOOR))
        if self._bodies:
            said.append(_middle(np.log([b.focal_px for b in self._bodies]), BODIES_FLOOR))
        values, spreads = np.array(said).T
        weights = spreads**-2 / np.sum(spreads**-2)
        log_focal = float(weights @ values)
        spread = _spread(spreads, values - log_focal, LEAST_FOCAL)
        return with_focal(base.K, math.exp(log_focal)), spread

    def _up(self, base: CameraCalibration) -> tuple[Array, float]:
        """The unit up vector (3,) in the camera and its spread, radians."""
        if not self._ups:
            return base.up_camera, base.gravity_spread_rad
        mean = normalize(np.mean(self._ups, axis=0))
        scatter = float(np.sqrt(np.mean(np.sum((np.array(self._ups) - mean) ** 2, axis=1)) / len(self._ups)))
        spreads = np.array([base.gravity_spread_rad, math.hypot(UP_FLOOR_RAD, scatter)])
        ups = np.stack([base.up_camera, mean])
        up = normalize(np.maximum(spreads, 1e-4) ** -2 @ ups)
        return up, _spread(spreads, np.linalg.norm(ups - up, axis=1), LEAST_UP_RAD)

    def _height(
        self, base: CameraCalibration, focal_px: float, focal_spread: float, up: Array, up_spread: float
    ) -> tuple[float | None, float | None]:
        """The camera's height over the lowest feet and its spread, metres; the landmarks' while bodies are few."""
        known = base.camera_height_m, base.height_spread_m
        if len(self._bodies) < 3 or (self._bundle.supplied and known[0] is not None):
            return known
        depths = np.array([b.per_px for b in self._bodies]) * focal_px
        feet = np.stack([b.feet_m for b in self._bodies]) + depths[:, None, None] * np.array([0.0, 0.0, 1.0])
        lowest = np.max(ABOVE_SOLE_M - feet @ up, axis=1)
        height, scatter = settled(lowest, WORTH)
        depth = float(np.median(depths))
        spread = math.hypot(LEAST_HEIGHT_M, scatter, float(up[2]) * depth * focal_spread, depth * up_spread)
        return max(height, 0.05), spread


def _middle(values: NDArray[Any], floor: float) -> tuple[float, float]:
    """Median of values (n,) and its spread, which is at least `floor`."""
    middle, scatter = settled(values, WORTH)
    return middle, math.hypot(scatter, floor)


def _spread(spreads: Array, off: Array, least: float) -> float:
    """Standard deviation of a mean weighted by `spreads` (n,), wider where the parts lie `off` (n,) it by more.

    Birge's ratio: the root of chi square over its degrees of freedom, where that is above one.
    """
    spreads = np.maximum(spreads, 1e-4)
    alone = float(np.sum(spreads**-2) ** -0.5)
    ratio = math.sqrt(float(np.sum((off / spreads) ** 2)) / max(len(spreads) - 1, 1))
    return max(alone * max(ratio, 1.0), min(least, float(spreads.min())))
