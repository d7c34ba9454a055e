"""What can be recovered and where it breaks: made-up people before cameras of every kind, without pictures.

    python -m benchmarks.sweep [--noisy] [--json] [--plot FILE]

Focal length x pitch x distance, ten seconds each through calibration, recovery, orientation correction and smoothing,
from exact landmarks, with smoothing off (at ten pictures a second its lag would be most of the error), or (--noisy)
from landmarks that err as `benchmarks.landmark_noise` says. People are filmed so
that as much of them is in the picture as the room allows: the camera is 0.15 to 7 m above their floor. The camera is
judged after the ten seconds, joints and roots (after aligning yaw and origin) over the last five.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.accuracy import body_errors, camera_errors, match
from benchmarks.landmark_noise import LandmarkNoise, observe
from benchmarks.replay import Run, replay
from benchmarks.sweep_report import report
from benchmarks.synthetic import OUTSIDE, SIZE_WH, Space, act, camera, in_camera
from benchmarks.truth import SCORED_JOINTS, ClipTruth, PersonTruth
from pipeline.body import BodyModel
from pipeline.landmark_model import LandmarkModel
from pipeline.types import CameraCalibration, Detection

FOCALS = (0.5, 0.75, 1.0, 1.5, 2.1, 3.0)  # x image height
PITCHES_DEG = (-30.0, -15.0, 0.0, 15.0, 30.0, 45.0)  # positive looks down
DISTANCES_M = (1.5, 2.5, 4.5, 8.0)  # from the camera to the person's middle
SECONDS, FPS = 10.0, 10.0
CAMERA_HEIGHTS_M = (0.15, 7.0)
WORKERS = 2


@dataclass(frozen=True)
class Cell:
    """One camera and the place of its person: focal length over the picture's height, pitch, distance."""

    focal: float
    pitch_deg: float
    distance_m: float

    @property
    def seed(self) -> int:
        """Always the same for the same cell."""
        return round(1000 * self.focal + 10 * (self.pitch_deg + 90) + 7 * self.distance_m)


@dataclass(frozen=True)
class Outcome:
    """What came of a cell; None where nobody was found or nothing is known.

    seen_pct            landmarks inside the picture
    focal_err_pct ...   as in `benchmarks.accuracy`; root_err_mm after aligning yaw and origin
    focal_within, gravity_within, height_within  whether the truth lies within two of the stated spreads
    """

    focal: float
    pitch_deg: float
    distance_m: float
    status: str
    seen_pct: float
    focal_err_pct: float | None = None
    gravity_err_deg: float | None = None
    height_err_m: float | None = None
    focal_spread_pct: float | None = None
    gravity_spread_deg: float | None = None
    height_spread_m: float | None = None
    focal_within: bool | None = None
    gravity_within: bool | None = None
    height_within: bool | None = None
    mpjpe_mm: float | None = None
    wmpjpe_mm: float | None = None
    root_err_mm: float | None = None
    pitch_bias_deg: float | None = None
    raw_mpjpe_mm: float | None = None
    raw_pa_mpjpe_mm: float | None = None


@cache
def _body() -> BodyModel:
    return BodyModel.load()


def film(cell: Cell, noise: LandmarkNoise | None = None, seconds: float = SECONDS) -> tuple[Run, ClipTruth]:
    """The person of a cell before its camera: what the stream said, and the truth."""
    rng = np.random.default_rng(cell.seed)
    calibration, space = _set_up(cell, float(rng.uniform(-4.0, 4.0)))
    body = _body()
    betas = body.betas_for_height(float(rng.uniform(1.60, 1.85)))
    posed = act(body, betas, space, seconds, FPS)
    detections = observe(posed, calibration, FPS, noise, cell.seed)
    smoothing, errors = ("off", LandmarkModel.exact()) if noise is None else ("default", None)
    run = replay(detections, SIZE_WH, FPS, body, smoothing, errors=errors)
    truth = PersonTruth(in_camera(np.asarray(posed.joints), calibration)[:, SCORED_JOINTS])
    R, height = calibration.R_world_camera, calibration.camera_height_m
    return run, ClipTruth("sweep", Path(), SIZE_WH, calibration.K, R, height, (truth,))


def _set_up(cell: Cell, roll_deg: float) -> tuple[CameraCalibration, Space]:
    """The camera, aimed at the person's middle, or at head and chest where not all of the body fits."""
    focal_px = cell.focal * SIZE_WH[1]
    pitch = np.radians(cell.pitch_deg)
    shown_m = 0.9 * cell.distance_m / cell.focal
    aim_m = max(0.88, 1.75 - shown_m / 2)
    height = float(np.clip(aim_m + cell.distance_m * np.sin(pitch), *CAMERA_HEIGHTS_M))
    away = float(np.sqrt(max(cell.distance_m**2 - (height - aim_m) ** 2, 0.5**2)))
    half_width = 0.5 * cell.distance_m / cell.focal * SIZE_WH[0] / SIZE_WH[1]
    space = Space(away, float(np.clip(0.7 * (half_width - 0.5), 0.08, 1.2)), float(np.clip(0.2 * away, 0.15, 1.0)))
    return camera(focal_px, cell.pitch_deg, roll_deg, height), space


def judge(cell: Cell, noisy: bool = False) -> Outcome:
    """A cell filmed and compared with its truth."""
    run, truth = film(cell, LandmarkNoise() if noisy else None)
    last = run.results[-1].calibration
    seen = _seen_pct(run.detections)
    if not any(run.detections):
        return Outcome(**asdict(cell), status=str(last.status), seen_pct=seen)
    values: dict[str, float | bool | None] = {**camera_errors(last, truth)}
    values["gravity_spread_deg"] = float(np.degrees(last.gravity_spread_rad))
    values["height_spread_m"] = last.height_spread_m
    values["focal_within"] = _within(np.log(last.K[0, 0] / (cell.focal * SIZE_WH[1])), last.focal_spread)
    values["gravity_within"] = _within(values["gravity_err_deg"], values["gravity_spread_deg"])
    values["height_within"] = _within(values["height_err_m"], last.height_spread_m)
    half = len(run.results) // 2
    late = Run(run.fps, run.results[half:], run.detections[half:])
    m = match(late, truth, PersonTruth(truth.people[0].joints_camera_m[half:]))
    # The origin goes from the camera to the floor when the height becomes known: a step, not an error of the path
    height_known = np.array(
        [(r.calibration.camera_height_m is None) == (last.camera_height_m is None) for r in late.results]
    )
    m.world[~height_known] = np.nan
    errors = {**body_errors(m, run.fps), **body_errors(m, run.fps, "raw_")}
    wanted = ("mpjpe_mm", "wmpjpe_mm", "root_err_mm", "pitch_bias_deg", "raw_mpjpe_mm", "raw_pa_mpjpe_mm")
    values.update({name: errors[name] if np.isfinite(errors[name]) else None for name in wanted})
    return Outcome(**asdict(cell), status=str(last.status), seen_pct=seen, **values)  # type: ignore[arg-type]


def _within(error: float | bool | None, spread: float | bool | None) -> bool | None:
    return None if error is None or spread is None else bool(abs(error) <= 2 * spread)


def _seen_pct(detections: Sequence[tuple[Detection, ...]]) -> float:
    seen = [d.landmarks.visibility > OUTSIDE for ds in detections for d in ds if d.landmarks is not None]
    return 100 * float(np.sum(seen)) / (33 * len(detections)) if seen else 0.0


def sweep(noisy: bool = False, workers: int = WORKERS) -> list[Outcome]:
    """Every cell, in the order focal, pitch, distance."""
    cells = [Cell(*values) for values in product(FOCALS, PITCHES_DEG, DISTANCES_M)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        return list(pool.map(judge, cells, [noisy] * len(cells), chunksize=4))


def _quiet() -> None:
    logging.basicConfig(level=logging.ERROR)


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noisy", action="store_true", help="landmarks that err like a network's, not exact ones")
    parser.add_argument("--json", action="store_true", help="one object a cell, a line each, instead of tables")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the tables (needs matplotlib)")
    options = parser.parse_args(arguments)
    outcomes = sweep(options.noisy)
    lines = [json.dumps(asdict(o)) for o in outcomes] if options.json else report(outcomes, options.noisy)
    sys.stdout.write("\n".join(lines) + "\n")
    if options.plot:
        from benchmarks.sweep_plot import plot

        plot(options.plot, outcomes, options.noisy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
