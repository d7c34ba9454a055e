"""Weak-supervised camera calibration from the people in view: focal length, gravity and camera height, with spreads.

W-HMR (paper section 3.2) learns a focal length from nothing but full-perspective reprojection of the body. Here the
same supervision is used as a measurement: the reprojection error of the metric landmarks at every candidate focal
length, summed over frames that differ, has its minimum near the true one. Gravity is the axis of standing bodies,
the floor is where their feet are. A bounded window of samples gives each estimate and its spread.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence

import numpy as np
from scipy.interpolate import CubicSpline

from pipeline.calibration_sample import Sample, make_sample
from pipeline.frames import (
    Array,
    R_world_camera_from_up,
    normalize,
    up_from_pitch_roll,
)
from pipeline.types import CalibrationStatus, CameraCalibration, Detection

log = logging.getLogger(__name__)

ESTIMATOR = "landmark-reprojection/1"
#: Focal lengths of webcams, phones and security cameras, over the picture's long side: median and log deviation.
FOCAL_PRIOR, FOCAL_PRIOR_SIGMA = 0.85, 0.35
#: A camera nobody knows anything of looks a little down and is held level.
GRAVITY_PRIOR, GRAVITY_PRIOR_SIGMA_RAD = up_from_pitch_roll(np.radians(10.0), 0.0), np.radians(20.0)
#: Landmark networks err alike in every frame of a clip: what no number of samples takes away.
FOCAL_FLOOR, GRAVITY_FLOOR_RAD, HEIGHT_FLOOR_M = 0.20, np.radians(3.5), 0.08
UNSURE_HEIGHT_M = 0.2  # more where nobody stood yet
#: How many independent errors the points of one body, and the views of one clip, are worth.
POINTS_WORTH, VIEWS_WORTH = 6.0, 4.0

WINDOW = 200
MIN_SAMPLES = 15
MAX_FOCAL_SPREAD, MAX_GRAVITY_SPREAD_RAD = 0.40, np.radians(14.0)
NOVELTY = 0.01  # root mean square change of the landmarks over the picture's long side
REPEAT_S = 2.0
#: Time constants in which the published calibration follows the estimate, and when it has arrived.
APPROACH_S, CALM_EVERY_S, ARRIVED = 0.4, 0.1, 2e-3
_APPROACH_S = {CalibrationStatus.CALIBRATED: 2.0, CalibrationStatus.SUPPLIED: 1.0}
MOVED_SAMPLES, MOVED_RAD = 6, np.radians(12.0)
#: How much a jolt may have changed the focal length (a zoom is rare); relative.
MOVED_FOCAL = 0.10


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


class Calibrator:
    """The accumulator: people in, the camera's calibration out.

    initial      a supplied calibration (its K is kept; gravity and height go on being refined when their spread is
                 large), a cached one (a prior that the samples may overrule), or None
    metric_scale gives the true size of a person over the one the metric landmarks assume, by track id
    """

    def __init__(
        self,
        camera_id: str,
        size_wh: tuple[int, int],
        initial: CameraCalibration | None = None,
        metric_scale: Callable[[int], float] = lambda track_id: 1.0,
    ) -> None:
        self._start = initial.for_size(size_wh) if initial else uncalibrated(camera_id, size_wh)
        self._current = self._start
        self._target: CameraCalibration | None = None
        self._approached_s = -np.inf
        self._scale = metric_scale
        self._samples: deque[Sample] = deque(maxlen=WINDOW)
        self._next_s = -np.inf
        self._looks = 0
        self.gates: Counter[str] = Counter()
        self.supplied = self._start.status is CalibrationStatus.SUPPLIED
        self._gravity_given = self.supplied and self._start.gravity_spread_rad < GRAVITY_FLOOR_RAD
        focal = self._start.K[0, 0]
        grid = np.exp(np.linspace(np.log(0.35), np.log(3.5), 24)) * max(size_wh)
        self._log_focals = np.log([focal] if self.supplied else grid)
        self._Ks = np.stack([_with_focal(self._start.K, f) for f in np.exp(self._log_focals)])

    @property
    def current(self) -> CameraCalibration:
        """The calibration as it stands."""
        return self._current

    def update(self, t_s: float, detections: Sequence[Detection]) -> CameraCalibration:
        """Looks at most at one of the people, and only now and then; returns the calibration as it stands."""
        if t_s >= self._next_s and detections:
            self._look(t_s, detections)
        self._approach(t_s)
        return self._current

    def camera_moved(self, t_s: float) -> CameraCalibration:
        """The picture's background just jumped: what was known of gravity and height is void; t_s in seconds.

        Status goes to `moved`, the samples are dropped and the next person seen is looked at. The focal length stays
        as a prior, a little wider; the world turns toward the new estimate as it comes. Returns the calibration.
        """
        log.warning("Camera %s moved: its picture jumped; calibrating again.", self._current.camera_id)
        self._forget(self._current.up_camera)
        self._samples.clear()
        self._target, self._next_s = None, t_s
        self._current = dataclasses.replace(
            self._current, status=CalibrationStatus.MOVED, n_samples=0, gravity_spread_rad=GRAVITY_PRIOR_SIGMA_RAD,
            focal_spread=self._start.focal_spread,
        )  # fmt: skip
        return self._current

    def _forget(self, up: Array) -> None:
        """Starts again from a vertical that nobody vouches for; the focal length stays, a little wider."""
        spread = self._current.focal_spread
        self._gravity_given = False
        self._start = dataclasses.replace(
            self._start, K=self._current.K, R_world_camera=R_world_camera_from_up(up), camera_height_m=None,
            focal_spread=spread if self.supplied else min(float(np.hypot(spread, MOVED_FOCAL)), FOCAL_PRIOR_SIGMA),
            gravity_spread_rad=GRAVITY_PRIOR_SIGMA_RAD, height_spread_m=None, n_samples=0,
            status=CalibrationStatus.UNCALIBRATED,
        )  # fmt: skip

    def _look(self, t_s: float, detections: Sequence[Detection]) -> None:
        settled = self._current.status is CalibrationStatus.CALIBRATED or len(self._samples) >= MIN_SAMPLES
        # Uneven intervals, or the samples could fall into step with somebody's walk
        self._looks += 1
        self._next_s = t_s + (0.4 if settled else 0.12) * (0.6 + 0.8 * (self._looks * 0.618 % 1.0))
        person = detections[self._looks % len(detections)]
        if person.landmarks is None:
            return
        scale = self._scale(person.track_id)
        sample = make_sample(person.landmarks, person.track_id, t_s, self._Ks, self._start.distortion,
                             self._start.size_wh, scale)  # fmt: skip
        if isinstance(sample, str):
            self.gates[sample] += 1
        elif not self._is_new(sample):
            self.gates["repeated"] += 1
        else:
            self.gates["accepted"] += 1
            self._samples.append(sample)
            moved = self._moved()
            self._target = self._estimate()
            if moved is not None:
                self._current = moved

    def _is_new(self, sample: Sample) -> bool:
        last = next((s for s in reversed(self._samples) if s.track_id == sample.track_id), None)
        if last is None or sample.t_s - last.t_s > REPEAT_S:
            return True
        change = np.sqrt(np.mean((sample.signature - last.signature) ** 2))
        return bool(change > NOVELTY)

    def _focal(self) -> tuple[float, float]:
        """Log focal length and its standard deviation: a log-normal prior and the mean reprojection error."""
        if self.supplied:
            return float(self._log_focals[0]), self._start.focal_spread
        worth = np.array([s.worth for s in self._samples])
        coarse = np.average([s.error_m2 for s in self._samples], axis=0, weights=worth)
        log_focals = np.linspace(self._log_focals[0], self._log_focals[-1], 20 * len(coarse))
        curve = np.maximum(CubicSpline(self._log_focals, coarse)(log_focals), 0.0)
        views = min(len(worth) / 5.0, VIEWS_WORTH) * worth.mean()
        prior = (log_focals - np.log(self._start.K[0, 0])) / max(self._start.focal_spread, 1e-3)
        energy = 0.5 * prior**2 + 0.5 * POINTS_WORTH * views * curve / max(curve.min(), 1e-6)
        p = np.exp(energy.min() - energy)
        p /= p.sum()
        mean = float(p @ log_focals)
        return mean, float(np.hypot(np.sqrt(p @ (log_focals - mean) ** 2), FOCAL_FLOOR))

    def _estimate(self) -> CameraCalibration:
        log_focal, focal_spread = self._focal()
        at = int(np.argmin(np.abs(self._log_focals - log_focal)))
        up, up_spread = self._gravity(at)
        height, height_spread = self._height(at, up, focal_spread, up_spread)
        n = len(self._samples) + self._start.n_samples
        good = n >= MIN_SAMPLES and focal_spread < MAX_FOCAL_SPREAD and up_spread < MAX_GRAVITY_SPREAD_RAD
        status = CalibrationStatus.CALIBRATED if good else CalibrationStatus.CALIBRATING
        return dataclasses.replace(
            self._start,
            K=self._start.K if self.supplied else _with_focal(self._start.K, float(np.exp(log_focal))),
            R_world_camera=R_world_camera_from_up(up),
            camera_height_m=height, focal_spread=focal_spread, gravity_spread_rad=up_spread,
            height_spread_m=height_spread, n_samples=n, estimator=ESTIMATOR,
            status=CalibrationStatus.SUPPLIED if self.supplied else status,
        )  # fmt: skip

    def _gravity(self, at: int) -> tuple[Array, float]:
        """Robust mean (geometric median by reweighting) of the bodies' axes with the prior; its deviation, radians."""
        ups = [(s.axes_camera[at], s.axis_sigma_rad) for s in self._samples if s.axes_camera is not None]
        prior, sigma = self._start.up_camera, self._start.gravity_spread_rad
        if not ups or self._gravity_given:
            return prior, sigma
        axes, sigmas = np.stack([u for u, _ in ups]), np.array([s for _, s in ups])
        precision = 1.0 / sigmas**2
        # Errors of one clip's bodies are alike: together they are worth a few independent ones, not hundreds
        precision *= min(1.0, VIEWS_WORTH / len(ups))
        up = normalize(precision @ axes + prior / sigma**2)
        for _ in range(4):
            off = np.arccos(np.clip(axes @ up, -1.0, 1.0))
            weight = precision / np.maximum(1.0, off / (1.5 * sigmas))
            up = normalize(weight @ axes + prior / sigma**2)
        off = np.arccos(np.clip(axes @ up, -1.0, 1.0))
        scatter = float(np.sqrt(weight @ off**2 / weight.sum() / min(len(ups), VIEWS_WORTH)))
        return up, float(np.sqrt(1.0 / (weight.sum() + 1.0 / sigma**2) + GRAVITY_FLOOR_RAD**2 + scatter**2 / 4))

    def _height(self, at: int, up: Array, focal_spread: float, up_spread: float) -> tuple[float | None, float | None]:
        """Median distance of standing feet below the camera along gravity, and its standard deviation, metres."""
        known = [s for s in self._samples if s.feet_camera_m is not None]
        standing = [s for s in known if s.standing]
        if not known or (not standing and self._start.camera_height_m is not None):
            return self._start.camera_height_m, self._start.height_spread_m
        # Who does not stand has mostly one foot on the floor too: better than no floor, until somebody stands
        enough = len(standing) >= 3
        points = np.stack([s.feet_camera_m[at] for s in (standing if enough else known) if s.feet_camera_m is not None])
        lowest = np.max(-(points @ up), axis=1)
        height = float(np.median(lowest))
        depth = float(np.median(points[..., 2]))
        scatter = 1.4826 * float(np.median(np.abs(lowest - height))) / np.sqrt(min(len(points), VIEWS_WORTH))
        spread = np.sqrt(
            HEIGHT_FLOOR_M**2 + scatter**2 + (up[2] * depth * focal_spread) ** 2 + (depth * up_spread) ** 2
        )
        return max(height, 0.05), float(spread if enough else np.hypot(spread, UNSURE_HEIGHT_M))

    def _moved(self) -> CameraCalibration | None:
        """The calibration with status `moved` when the newest bodies all stand along another vertical."""
        standing = [s for s in self._samples if s.axes_camera is not None and s.standing]
        recent, older = standing[-MOVED_SAMPLES:], standing[:-MOVED_SAMPLES]
        known = self._start.status in (CalibrationStatus.CALIBRATED, CalibrationStatus.SUPPLIED)
        if self._gravity_given or len(recent) < MOVED_SAMPLES or not (known or len(older) >= MOVED_SAMPLES):
            return None
        at = int(np.argmin(np.abs(self._log_focals - np.log(self._current.K[0, 0]))))

        def middle_of(samples: list[Sample]) -> Array:
            return normalize(np.median([s.axes_camera[at] for s in samples if s.axes_camera is not None], axis=0))

        # Older bodies err as the new ones do, so they tell better than the estimate whether something changed
        before = middle_of(older) if len(older) >= MOVED_SAMPLES else self._start.up_camera
        middle = middle_of(recent)
        off = _angle(middle, before)
        agree = max(_angle(s.axes_camera[at], middle) for s in recent if s.axes_camera is not None) < MOVED_RAD
        if not agree or off < max(MOVED_RAD, 2.0 * self._start.gravity_spread_rad if known else 0.0):
            return None
        log.warning("Camera %s seems to have moved: bodies stand %.0f degrees off its vertical; calibrating again.",
                    self._current.camera_id, np.degrees(off))  # fmt: skip
        self._forget(middle)
        self._samples = deque(recent, maxlen=WINDOW)
        return dataclasses.replace(self._current, status=CalibrationStatus.MOVED)

    def _approach(self, t_s: float) -> None:
        """Moves the published calibration toward the estimate as time goes on, so that the world does not jump."""
        new, old = self._target, self._current
        if new is None or new is old:
            return
        dt = t_s - self._approached_s
        if old.status in _APPROACH_S and dt < CALM_EVERY_S:
            return
        self._approached_s = t_s
        if old.n_samples == 0 and old.status is CalibrationStatus.UNCALIBRATED:
            self._current = new
            return
        share = 1.0 - float(np.exp(-np.clip(dt, 0.0, 0.2) / _APPROACH_S.get(old.status, APPROACH_S)))
        log_ratio = float(np.log(new.K[0, 0] / old.K[0, 0]))
        height = new.camera_height_m
        if height is not None and old.camera_height_m is not None:
            height = old.camera_height_m + share * (height - old.camera_height_m)
        turned = _angle(new.up_camera, old.up_camera)
        left = max(turned, abs(log_ratio), abs((new.camera_height_m or 0.0) - (height or 0.0)))
        status = self._status_on_the_way(old, new, turned)
        if left < ARRIVED:
            # Near enough: the spreads are the new ones, the world stays where it is
            self._current, self._target = (
                dataclasses.replace(
                    new, status=status, K=old.K, R_world_camera=old.R_world_camera, camera_height_m=old.camera_height_m
                ),
                None,
            )
            return
        K = new.K if self.supplied else _with_focal(new.K, old.K[0, 0] * float(np.exp(share * log_ratio)))
        R = R_world_camera_from_up(old.up_camera + share * (new.up_camera - old.up_camera))
        self._current = dataclasses.replace(new, K=K, R_world_camera=R, camera_height_m=height, status=status)

    def _status_on_the_way(self, old: CameraCalibration, new: CameraCalibration, turned: float) -> CalibrationStatus:
        """`moved` until the new estimate stands by itself, and not `calibrated` while far from it."""
        if turned <= new.gravity_spread_rad:
            return new.status
        if old.status is CalibrationStatus.MOVED:
            return old.status
        return CalibrationStatus.CALIBRATING if new.status is CalibrationStatus.CALIBRATED else new.status


def _angle(a: Array, b: Array) -> float:
    """Radians between two unit vectors (3,)."""
    return float(np.arccos(np.clip(a @ b, -1.0, 1.0)))


def _with_focal(K: Array, focal_px: float) -> Array:
    """K with another focal length, its ratio of pixel sides and principal point kept."""
    out = np.array(K)
    out[:2, :2] *= focal_px / K[0, 0]
    return out
