"""What W-HMR's modules, trained on landmarks, read of the people in view: bodies, gravity, focal length.

The networks are made by `training` and ship with the project (pipeline/data, docs/model_card.md). They look at a second
of each person's landmarks at once; this module keeps that second, calls them for everybody in one batch and gives what
they say a name and a unit. Who asks first in a frame pays for the call, all others get the same readings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.flips import Sides
from pipeline.frames import Array
from pipeline.types import CameraCalibration, Detection, Landmarks

NETWORK_FILE = Path(__file__).parent / "data" / "landmark_net.onnx"
CORRECTOR_FILE = Path(__file__).parent / "data" / "orient_correct.onnx"
#: Seconds before now at which the network looks, newest first; people are of this stature to it (`training.network`).
TAPS_S = np.array([0.0, 0.1, 0.2, 0.4, 0.7])
STATURE_M = 1.72
#: What the network is told of a camera of which nothing is known: up in it, scale of its error in radians, log of the
#: focal length over the picture's long side, scale of its error.
UNKNOWN_CAMERA = (0.0, -1.0, 0.0, 1000.0, -0.16, 1000.0)
#: Nothing older is kept, and nothing is known across a longer gap.
MEMORY_S = 0.95


class Runs(Protocol):
    """An engine: arrays in, arrays out (`engines.runtime`)."""

    def __call__(self, feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Outputs by name; they may be overwritten by the next call."""
        ...


@dataclass(frozen=True, eq=False)
class Reading:
    """What the network reads of one person; "ray" is the camera turned to the ray through the middle of the hips.

    landmarks        what it looked at, sides kept apart (`pipeline.flips`)
    points_m         (33, 3) landmarks about the hips in ray axes, of a person of STATURE_M
    sigma_m          (33, 2) scale of their errors across and along the ray
    up_ray           (3,) unit; up_sigma_rad the scale of its error
    log_focal        log of the focal length over the picture's long side, log_focal_sigma the scale of its error
    feature          (W,) of the orientation corrector
    log_kappa        of the corrector too
    """

    landmarks: Landmarks
    points_m: Array
    sigma_m: Array
    up_ray: Array
    up_sigma_rad: float
    log_focal: float
    log_focal_sigma: float
    feature: NDArray[np.float32]
    log_kappa: float


@dataclass(eq=False)
class _Track:
    """One person's last second, oldest first."""

    sides: Sides = field(default_factory=Sides)
    times_s: list[float] = field(default_factory=list)
    seen: list[Landmarks] = field(default_factory=list)

    def add(self, landmarks: Landmarks, t_s: float) -> Landmarks:
        kept = self.sides.kept(landmarks, t_s)
        if self.times_s and not self.times_s[-1] < t_s <= self.times_s[-1] + MEMORY_S:
            self.times_s, self.seen = [], []
        while self.times_s and t_s - self.times_s[0] > MEMORY_S:
            del self.times_s[0], self.seen[0]
        self.times_s.append(t_s)
        self.seen.append(kept)
        return kept

    def window(self) -> tuple[list[Landmarks], list[float]]:
        """The pictures nearest to TAPS_S ago, and how old they are."""
        ages = self.times_s[-1] - np.array(self.times_s)
        at = np.abs(ages - TAPS_S[:, None]).argmin(1).tolist()
        return [self.seen[i] for i in at], [float(ages[i]) for i in at]


class LandmarkReader:
    """Reads everybody in a frame; remembers the last second of each person."""

    def __init__(self, network: Runs) -> None:
        self._network = network
        self._tracks: dict[int, _Track] = {}
        self._at: tuple[float, tuple[int, ...]] = (-np.inf, ())
        self._readings: dict[int, Reading] = {}
        self._camera = np.array(UNKNOWN_CAMERA, dtype=np.float32)

    def believe(self, calibration: CameraCalibration) -> None:
        """What bodies are read with from now on; gravity and focal length are read without it."""
        long_side = max(calibration.size_wh)
        self._camera = np.array([
            *calibration.up_camera, calibration.gravity_spread_rad, np.log(calibration.K[0, 0] / long_side),
            calibration.focal_spread,
        ], dtype=np.float32)  # fmt: skip

    def read(self, detections: Sequence[Detection], t_s: float, size_wh: tuple[int, int]) -> Mapping[int, Reading]:
        """Readings by track id of those detections of `t_s` seconds that carry landmarks."""
        people = [(d.track_id, d.landmarks) for d in detections if d.landmarks is not None]
        at = t_s, tuple(i for i, _ in people)
        if at == self._at:
            return self._readings
        self._at, self._readings = at, {}
        if people:
            kept = [self._tracks.setdefault(i, _Track()).add(marks, t_s) for i, marks in people]
            out = self._network(self._feed(at[1], size_wh))
            for row, ((track_id, _), landmarks) in enumerate(zip(people, kept, strict=True)):
                self._readings[track_id] = _reading(landmarks, out, row)
        return self._readings

    def latest(self, track_id: int) -> Reading | None:
        """What was read last, if it was in the frame that was read last."""
        return self._readings.get(track_id)

    def keep_only(self, track_ids: set[int]) -> None:
        """Forgets everybody else."""
        for gone in self._tracks.keys() - track_ids:
            del self._tracks[gone]

    def _feed(self, track_ids: tuple[int, ...], size_wh: tuple[int, int]) -> dict[str, NDArray[Any]]:
        windows = [self._tracks[i].window() for i in track_ids]
        marks = [marks for seen, _ in windows for marks in seen]
        n, taps = len(windows), len(TAPS_S)
        return {
            "points_px": np.array([m.points_px for m in marks], dtype=np.float32).reshape(n, taps, 33, 2),
            "visibility": np.array([m.visibility for m in marks], dtype=np.float32).reshape(n, taps, 33),
            "points_m": np.array([m.points_m for m in marks], dtype=np.float32).reshape(n, taps, 33, 3),
            "ages_s": np.array([ages for _, ages in windows], dtype=np.float32),
            "size_wh": np.array([size_wh] * n, dtype=np.float32),
            "camera": np.repeat(self._camera[None], n, 0),
        }


def _reading(landmarks: Landmarks, out: Mapping[str, NDArray[Any]], row: int) -> Reading:
    log_kappa = float(out["log_kappa"][row])
    log_focal, log_scale = out["log_focal"][row].tolist()
    return Reading(
        landmarks=landmarks,
        points_m=out["landmarks_m"][row].astype(np.float64),
        sigma_m=np.exp(out["log_sigma_m"][row].astype(np.float64)),
        up_ray=out["up_ray"][row].astype(np.float64),
        up_sigma_rad=float(np.exp(-log_kappa)),
        log_focal=log_focal,
        log_focal_sigma=float(np.exp(log_scale)),
        feature=out["feature"][row].copy(),
        log_kappa=log_kappa,
    )


@dataclass(frozen=True)
class Networks:
    """The trained networks, ready to run: what reads people, and what corrects their roots in the world.

    Without the second, roots are set upright by what standing says (`pipeline.orientation`).
    """

    reads: Runs
    corrects: Runs | None = None
