"""Weak-supervised camera calibration from the people in view: focal length, gravity and camera height, with spreads.

W-HMR (paper section 3.2) learns a focal length from nothing but full-perspective reprojection of the body. Here the
same supervision is a measurement: bodies of people whose ways of standing are known are fitted to their landmarks in
full perspective, all with one focal length, one vertical and one floor a person (`pipeline.calibration_bundle`). A
bounded window of samples gives each estimate and its spread.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration_blend import Following, angle, with_focal
from pipeline.calibration_bundle import Before, Bundle
from pipeline.calibration_exact import STARTS, Exact, solve_exact, vertical_from_floor
from pipeline.calibration_lines import LineWitness
from pipeline.calibration_opinion import Opinion, keep, pooled_focal, pooled_up
from pipeline.calibration_prior import PosePrior
from pipeline.calibration_sample import BODY, SOLES_AT, Sample, make_sample
from pipeline.calibration_standing import camera_height, mean_axis, soles_camera, upright_axes
from pipeline.calibration_unknown import (
    ESTIMATOR,
    FOCAL_PRIOR_SIGMA,
    GRAVITY_PRIOR_SIGMA_RAD,
    ROLL_PRIOR_SIGMA_RAD,
    uncalibrated,
)
from pipeline.frames import Array, R_world_camera_from_up, normalize
from pipeline.landmark_net import LandmarkReader
from pipeline.types import CalibrationStatus, CameraCalibration, Detection, Frame

log = logging.getLogger(__name__)

#: Landmark networks err alike in every frame of a clip: what no number of samples takes away.
FOCAL_FLOOR, GRAVITY_FLOOR_RAD = 0.15, np.radians(3.5)
#: A lens this wide (focal length over the long side, 90 degrees) bends straight lines visibly.
WIDE = 0.5

WINDOW = 32
MIN_SAMPLES = 15
#: Who stands still gives few samples: as many as these from so many seconds do too.
CALM_SAMPLES, CALM_S = 5, 1.4
MAX_FOCAL_SPREAD, MAX_GRAVITY_SPREAD_RAD = 0.40, np.radians(14.0)
NOVELTY = 0.01  # root mean square change of the landmarks over the picture's long side
REPEAT_S = 2.0
#: Seconds between looks: at first, when there are samples enough, and with a full window.
LOOK_S = 0.12, 0.4, 0.8
TRY_EXACT = 8  # samples after which it is clear that landmarks are not exact
PLANTED_M_S = 0.04  # speed across the view under which a sole rests
MOVED_SAMPLES, MOVED_SPAN_S, MOVED_RAD, AGREE_RAD = 6, 2.0, np.radians(15.0), np.radians(12.0)
#: How much a jolt may have changed the focal length (a zoom is rare); relative.
MOVED_FOCAL = 0.10


class Calibrator:
    """The accumulator: people in, the camera's calibration out.

    initial      a supplied calibration (its K is kept; gravity and height go on being refined when their spread is
                 large), a cached one (a prior that the samples may overrule), or None
    metric_scale gives the true size of a person over the one the metric landmarks assume, by track id
    reader       the trained networks, whose opinion is what an unknown camera starts from; None: common priors
    lines        whether straight lines of the picture are a witness too; they are once it is shown by `see`
    """

    def __init__(
        self,
        camera_id: str,
        size_wh: tuple[int, int],
        initial: CameraCalibration | None = None,
        metric_scale: Callable[[int], float] = lambda track_id: 1.0,
        reader: LandmarkReader | None = None,
        lines: bool = False,
    ) -> None:
        self._reader = reader
        self._image: NDArray[np.uint8] | None = None
        self._opinions: list[Opinion] = []
        self._start = initial.for_size(size_wh) if initial else uncalibrated(camera_id, size_wh)
        self._scale = metric_scale
        self._samples: list[Sample] = []
        self._next_s = -np.inf
        self._looks = 0
        self._before_this: tuple[float, dict[int, Detection]] = (-np.inf, {})
        self._said_wide = False
        self._inexact_until = WINDOW
        self._unsure = CalibrationStatus.CALIBRATING
        self._exact: Exact | None = None
        self._axes: Array | None = None
        self.gates: Counter[str] = Counter()
        self.supplied = self._start.status is CalibrationStatus.SUPPLIED
        self._shown = Following(self._start, keep_K=self.supplied)
        self._gravity_given = self.supplied and self._start.gravity_spread_rad < np.radians(3.5)
        # Samples are taken before this camera, whatever is found
        self._K = self._start.K
        self._bundle = self._new_bundle()
        self._lines = LineWitness(self._K, self._start, self.supplied) if lines else None

    @property
    def current(self) -> CameraCalibration:
        """The calibration as it stands."""
        return self._shown.current

    def see(self, frame: Frame) -> None:
        """Takes the picture that the next `update` is about."""
        self._image = frame.image

    def update(self, t_s: float, detections: Sequence[Detection]) -> CameraCalibration:
        """Looks at most at one of the people, and only now and then; returns the calibration as it stands.

        What a look means for the camera is worked out in the frame after it, so that no frame waits for both.
        """
        image, self._image = self._image, None
        # A vertical is given only with its K: then lines have nothing to say
        if self._lines is not None and image is not None and not self._gravity_given:
            self._lines.look(t_s, image, detections)
        if self._axes is not None:
            self._shown.target, self._axes = self._estimate(self._axes), None
        elif t_s >= self._next_s and detections:
            self._look(t_s, detections)
        self._before_this = t_s, {d.track_id: d for d in detections}
        return self._shown.step(t_s)

    def camera_moved(self, t_s: float) -> CameraCalibration:
        """The picture's background just jumped: what was known of gravity and height is void; t_s in seconds.

        Status goes to `moved`, the samples are dropped and the next person seen is looked at. The focal length stays
        as a prior, a little wider; the world turns toward the new estimate as it comes. Returns the calibration.
        """
        log.warning("Camera %s moved: its picture jumped; calibrating again.", self._shown.current.camera_id)
        self._samples = []
        self._forget(self._shown.current.up_camera)
        self._shown.target, self._axes, self._exact, self._next_s = None, None, None, t_s
        self._shown.current = dataclasses.replace(
            self._shown.current, status=CalibrationStatus.MOVED, n_samples=0, focal_spread=self._start.focal_spread,
            gravity_spread_rad=GRAVITY_PRIOR_SIGMA_RAD,
        )  # fmt: skip
        return self._shown.current

    def set_floor(self, points_m: Array, above_m: Array) -> CameraCalibration:
        """Points (n, 3) in the camera are (n,) metres above the floor: that is its height until the camera moves."""
        return self._shown.stand_on(points_m, above_m)

    def resize(self, grown: dict[int, float]) -> None:
        """People turned out so many times as large, by track id; what was seen of others goes."""
        self._samples = [s.grown(grown[s.track_id]) for s in self._samples if s.track_id in grown]
        self._start = dataclasses.replace(self._start, camera_height_m=None, height_spread_m=None)
        self._axes = self._exact = None
        self._shown.grow(float(np.median(list(grown.values()))) if grown else 1.0)

    def _forget(self, up: Array) -> None:
        """Starts again from a vertical that nobody vouches for; the focal length stays, a little wider."""
        spread = self._shown.current.focal_spread
        self._gravity_given, self._unsure, self._shown.floor = False, CalibrationStatus.MOVED, None
        self._opinions = []
        if self._lines is not None:
            self._lines.forget()
        self._start = dataclasses.replace(
            self._start, K=self._shown.current.K, R_world_camera=R_world_camera_from_up(up), camera_height_m=None,
            focal_spread=spread if self.supplied else min(float(np.hypot(spread, MOVED_FOCAL)), FOCAL_PRIOR_SIGMA),
            gravity_spread_rad=GRAVITY_PRIOR_SIGMA_RAD, height_spread_m=None, n_samples=0,
            status=CalibrationStatus.UNCALIBRATED,
        )  # fmt: skip
        self._bundle = self._new_bundle()

    def _new_bundle(self) -> Bundle:
        start = self._start
        sigma = max(start.gravity_spread_rad, 1e-3)
        return Bundle(PosePrior.load(), Before(
            0.0 if self.supplied else start.focal_spread, start.up_camera, (sigma, min(sigma, ROLL_PRIOR_SIGMA_RAD)),
            float(np.log(start.K[0, 0] / self._K[0, 0])),
        ))  # fmt: skip

    def _look(self, t_s: float, detections: Sequence[Detection]) -> None:
        n = len(self._samples)
        known = self._shown.current.status is CalibrationStatus.CALIBRATED or n >= MIN_SAMPLES
        # Uneven intervals, or the samples could fall into step with somebody's walk
        self._looks += 1
        self._next_s = t_s + LOOK_S[int(known) + (n >= WINDOW)] * (0.6 + 0.8 * (self._looks * 0.618 % 1.0))
        person = detections[self._looks % len(detections)]
        if person.landmarks is None:
            return
        scale = self._scale(person.track_id)
        if self._reader is not None:
            reading = self._reader.read(detections, t_s, self._start.size_wh).get(person.track_id)
            if reading is not None:
                keep(self._opinions, Opinion.of(reading, self._start.size_wh), self._looks)
        sample = make_sample(person.landmarks, person.track_id, t_s, self._K, self._start.distortion,
                             self._start.size_wh, scale)  # fmt: skip
        if isinstance(sample, str):
            self.gates[sample] += 1
        elif not self._is_new(sample):
            self.gates["repeated"] += 1
        else:
            self.gates["accepted"] += 1
            self._keep(self._with_planted(sample, person))
            axes = upright_axes(self._samples, self._bundle.log_focal)
            moved = self._moved(axes)
            self._axes = axes if moved is None else axes[-MOVED_SAMPLES:]
            self._exact = self._look_for_exact()
            if moved is not None:
                self._shown.current, self._shown.target = moved, None
            elif self._shown.current.status is CalibrationStatus.UNCALIBRATED:
                self._shown.target, self._axes = self._estimate(self._axes), None

    def _keep(self, sample: Sample) -> None:
        """The window holds the newest and, ever thinner, the older ones."""
        self._samples.append(sample)
        if len(self._samples) > WINDOW:
            del self._samples[self._looks * 7 % (WINDOW - 2 * MOVED_SAMPLES)]

    def _is_new(self, sample: Sample) -> bool:
        last = next((s for s in reversed(self._samples) if s.track_id == sample.track_id), None)
        if last is None or sample.t_s - last.t_s > REPEAT_S:
            return True
        change = np.sqrt(np.mean((sample.signature - last.signature) ** 2))
        return bool(change > NOVELTY)

    def _with_planted(self, sample: Sample, person: Detection) -> Sample:
        """Which soles did not move since the frame before."""
        t_s, people = self._before_this
        before = people.get(person.track_id)
        if before is None or before.landmarks is None or person.landmarks is None or not t_s < sample.t_s < t_s + 0.5:
            return sample
        soles = BODY[SOLES_AT]
        moved = np.linalg.norm(person.landmarks.points_px[soles] - before.landmarks.points_px[soles], axis=-1)
        speed = moved / self._K[0, 0] * sample.distance_m / (sample.t_s - t_s)
        return dataclasses.replace(sample, planted=speed < PLANTED_M_S)

    def _estimate(self, axes: Array) -> CameraCalibration:
        samples = self._samples
        self._heed_opinions()
        found = self._bundle.solve(samples, mean_axis(axes), 2 if len(samples) < MIN_SAMPLES else 1)
        log_focal, focal_spread = found.log_focal, float(np.hypot(found.log_focal_sigma, FOCAL_FLOOR))
        up, up_spread = found.up, float(np.hypot(found.up_sigma_rad, GRAVITY_FLOOR_RAD))
        exact = self._exact
        if exact is not None:
            log_focal, focal_spread = exact.log_focal, exact.log_focal_sigma
            up, up_spread = vertical_from_floor(samples, exact.soles_m, found.up, up_spread)
        elif self._lines is not None:
            log_focal, focal_spread, up, up_spread = self._lines.fused(log_focal, focal_spread, up, up_spread)
        if self.supplied:
            log_focal, focal_spread = float(np.log(self._start.K[0, 0] / self._K[0, 0])), self._start.focal_spread
        if self._gravity_given:
            up, up_spread = self._start.up_camera, self._start.gravity_spread_rad
        K = self._start.K if self.supplied else with_focal(self._K, self._K[0, 0] * np.exp(log_focal))
        soles = soles_camera(samples, log_focal) if exact is None else exact.soles_m
        height, height_spread = camera_height(samples, soles, up, focal_spread, up_spread)
        if height is None or (height_spread or 0.0) > (self._start.height_spread_m or np.inf):
            height, height_spread = self._start.camera_height_m, self._start.height_spread_m
        n = len(samples) + self._start.n_samples
        calm = len(samples) >= CALM_SAMPLES and samples[-1].t_s - samples[0].t_s >= CALM_S
        good = (calm or n >= MIN_SAMPLES) and focal_spread < MAX_FOCAL_SPREAD and up_spread < MAX_GRAVITY_SPREAD_RAD
        status = CalibrationStatus.CALIBRATED if good else self._unsure
        if good:
            self._unsure = CalibrationStatus.CALIBRATING
            self._say_wide(K[0, 0], focal_spread)
        return dataclasses.replace(
            self._start, K=K, R_world_camera=R_world_camera_from_up(up), camera_height_m=height,
            focal_spread=focal_spread, gravity_spread_rad=up_spread, height_spread_m=height_spread, n_samples=n,
            estimator=ESTIMATOR, status=CalibrationStatus.SUPPLIED if self.supplied else status,
        )  # fmt: skip

    def _heed_opinions(self) -> None:
        """An unknown camera starts from what the networks make of it."""
        if not self._opinions or self.supplied or self._start.status is not CalibrationStatus.UNCALIBRATED:
            return
        log_focal, sigma = pooled_focal(self._opinions)
        up, up_sigma = pooled_up(self._opinions, log_focal)
        ratio = log_focal + float(np.log(max(self._start.size_wh) / self._K[0, 0]))
        # What opinions err by on cameras unlike those they learned from says nothing against what is common; that
        # counts half, since they have learned it too
        share = 1.0 / (1.0 + 0.5 * (sigma / self._start.focal_spread) ** 2)
        self._bundle.before = Before(sigma * float(np.sqrt(share)), up, (up_sigma, up_sigma), share * ratio)

    def _look_for_exact(self) -> Exact | None:
        """What exact landmarks say; networks' are found out within a few looks and cost nothing after."""
        n = len(self._samples)
        if self.supplied or n > self._inexact_until:
            return None
        near = None if self._exact is None else self._exact.log_focal
        exact = solve_exact(self._samples, STARTS[self._looks % len(STARTS)] if near is None else near)
        if exact is None and near is None and n >= TRY_EXACT:
            self._inexact_until = 0
        return exact

    def _say_wide(self, focal_px: float, focal_spread: float) -> None:
        """Once: people alone do not show how a lens bends lines, but that it is a wide one."""
        share = focal_px / max(self._start.size_wh)
        known = self._said_wide or self.supplied or self._start.distortion.any()
        if known or share * (1.0 + focal_spread) > WIDE:
            return
        self._said_wide = True
        log.warning(
            "Camera %s has a very wide lens (focal length about %.2f of the picture's long side); such lenses bend "
            "straight lines, so calibrate it with a chessboard and pass the file with --calibration.",
            self._shown.current.camera_id, share)  # fmt: skip

    def _moved(self, standing: Array) -> CameraCalibration | None:
        """The calibration with status `moved` when the newest bodies all stand along another vertical."""
        recent, older = standing[-MOVED_SAMPLES:], standing[:-MOVED_SAMPLES]
        known = self._start.status in (CalibrationStatus.CALIBRATED, CalibrationStatus.SUPPLIED)
        if self._gravity_given or len(recent) < MOVED_SAMPLES or not (known or len(older) >= MOVED_SAMPLES):
            return None
        times = [s.t_s for s in self._samples if s.axis_m is not None]
        # Somebody may lean for a moment, the vertical does not
        if times[-1] - times[-MOVED_SAMPLES] < MOVED_SPAN_S:
            return None
        # Older bodies err as the new ones do, so they tell better than the estimate whether something changed
        before = normalize(np.median(older, axis=0)) if len(older) >= MOVED_SAMPLES else self._start.up_camera
        middle = normalize(np.median(recent, axis=0))
        off = angle(middle, before)
        agree = max(angle(axis, middle) for axis in recent) < AGREE_RAD
        if not agree or off < max(MOVED_RAD, 2.0 * self._start.gravity_spread_rad if known else 0.0):
            return None
        log.warning("Camera %s seems to have moved: bodies stand %.0f degrees off its vertical; calibrating again.",
                    self._shown.current.camera_id, np.degrees(off))  # fmt: skip
        self._samples = [s for s in self._samples if s.axis_m is not None][-MOVED_SAMPLES:]
        self._forget(middle)
        return dataclasses.replace(self._shown.current, status=CalibrationStatus.MOVED)
