"""Straight lines as a second witness of the camera, beside the people: read now and then, weighed by what both say.

People err alike in all pictures of a clip, lines are right or altogether wrong (a shelf taken for the wall, a heading
taken for the vertical). So every way to read the lines stands beside the possibility that none is right, each with the
probability that what the people say gives it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration_unknown import (
    FOCAL_PRIOR_SIGMA,
    GRAVITY_PRIOR,
    GRAVITY_PRIOR_SIGMA_RAD,
    ROLL_PRIOR_SIGMA_RAD,
)
from pipeline.frames import Array, normalize, pitch_roll_rad
from pipeline.straight_lines import Guess, LineReading, Segments, find_segments, read_lines
from pipeline.types import CameraCalibration, Detection

#: Seconds after the first look at which the picture is looked at again: people have moved from before other lines.
LOOKS_S = 0.0, 0.5, 1.5, 4.0
#: Then from look to look: whether the lines are still there. Fewer of them seen again than this share: the camera is
#: carried, and what it shows now counts alone.
CHECK_S, STILL_THERE = 10.0, 0.3
#: How often lines are read altogether wrongly, though they seem to fit.
WRONG = 0.1
#: Segments nearer than this share of the long side and less turned (radians) are one seen again.
_SAME_PLACE, _SAME_TURN = 0.012, 0.03


class LineWitness:
    """Keeps the lines seen so far and what they say.

    K         (3, 3) of the camera that focal lengths are told in ratios to
    start     its size, its distortion, and how surely its focal length is known
    supplied  whether that is given
    """

    def __init__(self, K: Array, start: CameraCalibration, supplied: bool) -> None:
        self._K, self._distortion = K, start.distortion
        self._over_side = float(np.log(K[0, 0] / max(start.size_wh)))
        self._guess = Guess(float(np.log(start.K[0, 0] / max(start.size_wh))), 0.0 if supplied else FOCAL_PRIOR_SIGMA,
                            pitch_roll_rad(GRAVITY_PRIOR), (GRAVITY_PRIOR_SIGMA_RAD, ROLL_PRIOR_SIGMA_RAD))  # fmt: skip
        self.readings: tuple[LineReading, ...] = ()
        self.forget()

    def forget(self) -> None:
        """The camera stands otherwise from the next picture on."""
        self.readings, self._seen = (), Segments.joined([])
        self._first_s, self._looks = 0.0, 0

    def look(self, t_s: float, image: NDArray[np.uint8], people: Sequence[Detection]) -> None:
        """Looks at a picture (H, W, 3) where the time has come."""
        if self._looks == 0:
            self._first_s = t_s
        late = self._looks - len(LOOKS_S) + 1
        if t_s < self._first_s + (LOOKS_S[-1] + late * CHECK_S if late > 0 else LOOKS_S[self._looks]):
            return
        self._looks += 1
        found = find_segments(image, people, self._K, self._distortion)
        new = found.without(self._seen, _SAME_PLACE, _SAME_TURN)
        if len(new) > (1.0 - STILL_THERE) * len(found):
            self._seen = found
        elif late > 0 or not len(new):
            return
        else:
            self._seen = Segments.joined([self._seen, new])
        self.readings = read_lines(self._seen, self._guess)

    def fused(
        self, log_focal: float, focal_spread: float, up: Array, up_spread: float
    ) -> tuple[float, float, Array, float]:
        """What people say of the camera, with what its lines say: the same four again.

        log_focal of the ratio to K's focal length, up (3,) the vertical, each with its spread.
        """
        if not self.readings:
            return log_focal, focal_spread, up, up_spread
        people = np.array([max(focal_spread, 1e-3), up_spread, up_spread]) ** 2
        wide = np.array([max(self._guess.log_focal_sigma, 1e-3), *self._guess.pitch_roll_sigma]) ** 2
        log_focal += self._over_side
        logs, nothing = [], []
        values, ups, spreads = [log_focal], [up], [(focal_spread, up_spread)]
        for reading in self.readings:
            off = np.array([log_focal - reading.log_focal, *_between(reading, up)])
            lines = np.linalg.inv(reading.information + np.diag(1.0 / wide))
            logs.append(reading.log_evidence + np.log(1.0 - WRONG) + _log_normal(off, np.diag(people) + lines))
            nothing.append(reading.log_evidence + np.log(WRONG) + _log_normal(off, np.diag(people + wide)))
            covariance = np.linalg.inv(reading.information + np.diag(1.0 / people))
            at = covariance @ (off / people)
            values.append(reading.log_focal + at[0])
            ups.append(normalize(reading.up + at[1:] @ reading.across))
            deviations = np.sqrt(np.diag(covariance))
            spreads.append((float(deviations[0]), float(np.hypot(*deviations[1:]) / np.sqrt(2.0))))
        weights = np.exp(np.array([np.logaddexp.reduce(nothing), *logs]) - max(*nothing, *logs))
        weights /= weights.sum()
        log_focal, up = float(weights @ values), normalize(weights @ np.stack(ups))
        apart = np.column_stack(
            [np.array(values) - log_focal, np.linalg.norm(np.stack(ups) - up, axis=1) / np.sqrt(2.0)]
        )
        focal_spread, up_spread = np.sqrt(weights @ (np.array(spreads) ** 2 + apart**2)).tolist()
        return log_focal - self._over_side, focal_spread, up, up_spread


def _between(reading: LineReading, up: Array) -> Array:
    """How far (2,) `up` is from the reading's vertical along its `across`, radians."""
    along = reading.across @ up
    sine = float(np.hypot(*along))
    return np.asarray(along * (np.arctan2(sine, float(reading.up @ up)) / max(sine, 1e-9)))


def _log_normal(off: Array, covariance: Array) -> float:
    return float(-0.5 * off @ np.linalg.solve(covariance, off) - 0.5 * np.linalg.slogdet(covariance)[1])
