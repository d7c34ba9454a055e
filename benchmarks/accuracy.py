"""How right it is, on clips whose truth is known, beside raw MediaPipe on the same frames in the same run.

    python -m benchmarks.accuracy CLIP... [--json] [--plot DIR] [--seconds S]

Each clip is calibrated from scratch, by the default recovery and, on the same frames, by `--recovery
landmark-analytic` (`analytic_`), which has neither networks nor the picture's lines. Baseline (`raw_`): MediaPipe's
metric landmarks as they are, no smoothing, the camera taken to be level, its focal length the picture's diagonal.
Definitions: `benchmarks.metrics`. Ours `jitter` is of joints in the world; raw landmarks have no place in it, so
theirs is about the hips: `local_jitter` compares alike.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks import metrics
from benchmarks.replay import Run, run_side_by_side
from benchmarks.truth import SCORED, SCORED_JOINTS, ClipTruth, PersonTruth, read_clip
from engines.blazepose import BlazePose
from engines.landmark_networks import open_networks
from pipeline.frames import R_WORLD_LEVEL_CAMERA, Array, project
from pipeline.landmark_net import CORRECTOR_FILE, NETWORK_FILE, Networks
from pipeline.types import LANDMARK, CameraCalibration

#: Users wait for the calibration: how good it is after so many seconds of video.
AFTER_S = (1, 5, 20)
#: Seconds from one point of the convergence to the next.
EVERY_S = 0.25
#: A person whose pelvis is farther from the true one, in picture widths, is somebody else.
NEAR = 0.08

#: Where SCORED stand among the landmarks.
LANDMARKS = np.array([LANDMARK[name] for name in SCORED])


@dataclass(frozen=True, eq=False)
class Match:
    """One true person and what was said of them; joints (T, 12, 3), nan in frames where they were not found.

    camera, world  ours
    raw            MediaPipe's metric landmarks in camera axes
    truth          in the camera; truth_world in the gravity-aligned world with the camera's heading
    ids            (T,) track id, -1 where not found
    """

    camera: Array
    world: Array
    raw: Array
    truth: Array
    truth_world: Array
    ids: NDArray[np.int64]


def match(run: Run, clip: ClipTruth, person: PersonTruth) -> Match:
    """Finds the true person among those published, by place in the picture; nobody is two of the clip's people."""
    assert clip.K is not None
    assert clip.R_world_camera is not None
    n = min(len(run.results), len(person.joints_camera_m))
    rivals = [project(metrics.root(p.joints_camera_m[:n]), clip.K) for p in clip.people if p is not person]
    camera, world, raw = (np.full((n, len(SCORED), 3), np.nan) for _ in range(3))
    ids = np.full(n, -1, dtype=np.int64)
    truth = person.joints_camera_m[:n]
    where = project(metrics.root(truth), clip.K)
    for i in range(n):
        people = run.results[i].people
        if not people or not np.isfinite(where[i]).all():
            continue
        K = run.results[i].calibration.K
        seen_at = np.stack([project(p.camera.t_camera_root, K) for p in people])
        true_at = np.stack([where[i], *(r[i] for r in rivals if i < len(r) and np.isfinite(r[i]).all())])
        # Who is said to be behind the camera has no picture and is nobody's match
        away = np.nan_to_num(np.linalg.norm(true_at[:, None] - seen_at, axis=-1), nan=1e9)
        who, which = linear_sum_assignment(away)
        mine = which[who == 0]
        if not len(mine) or away[0, mine[0]] > NEAR * max(clip.size_wh):
            continue
        best = people[mine[0]]
        ids[i] = best.track_id
        camera[i], world[i] = best.camera.joints_camera_m[SCORED_JOINTS], best.world.joints_world_m[SCORED_JOINTS]
        seen = next((d for d in run.detections[i] if d.track_id == best.track_id), None)
        if seen is not None and seen.landmarks is not None:
            raw[i] = seen.landmarks.points_m[LANDMARKS]
    height = np.array([0.0, clip.camera_height_m or 0.0, 0.0])
    return Match(camera, world, raw, truth, truth @ clip.R_world_camera.T + height, ids)


def camera_errors(calibration: CameraCalibration, clip: ClipTruth) -> dict[str, float | None]:
    """Focal length, gravity and height against the truth; None where there is none."""
    out: dict[str, float | None] = {"focal_err_pct": None, "gravity_err_deg": None, "height_err_m": None}
    if clip.K is not None:
        out["focal_err_pct"] = float(100 * (calibration.K[0, 0] / clip.K[0, 0] - 1))
    if clip.R_world_camera is not None:
        out["gravity_err_deg"] = _degrees_between(calibration.up_camera, clip.R_world_camera[1])
    if clip.camera_height_m is not None and calibration.camera_height_m is not None:
        out["height_err_m"] = calibration.camera_height_m - clip.camera_height_m
    out["focal_spread_pct"] = 100 * calibration.focal_spread
    return out


def body_errors(m: Match, fps: float, prefix: str = "") -> dict[str, float]:
    """The motion metrics of ours, or with prefix "raw_" of MediaPipe's landmarks before a level camera."""
    raw = prefix == "raw_"
    camera = m.raw if raw else m.camera
    world = m.raw @ R_WORLD_LEVEL_CAMERA.T if raw else m.world
    moving = steady(world, m.ids)
    root_mm, root_pct = (float("nan"), float("nan")) if raw else metrics.root_error(world, m.truth_world)
    found = m.ids >= 0
    known = np.isfinite(m.truth).all((1, 2))
    ids = m.ids[found]
    values = {
        "mpjpe_mm": metrics.mpjpe_mm(camera, m.truth),
        "pa_mpjpe_mm": metrics.pa_mpjpe_mm(camera, m.truth),
        "wmpjpe_mm": metrics.mpjpe_mm(world, m.truth_world),
        "root_err_mm": root_mm,
        "root_err_pct": root_pct,
        "pitch_bias_deg": metrics.pitch_bias_deg(world, m.truth_world),
        "jitter": metrics.jitter(moving, fps),
        "local_jitter": metrics.jitter(metrics.relative(moving), fps),
        "acceleration_err_m_s2": metrics.acceleration_error(moving, m.truth_world, fps),
        "lag_frames": metrics.lag_frames(world, m.truth_world),
        "foot_slide_mm": float("nan") if raw else metrics.foot_slide_mm(moving, m.truth_world),
        "found_pct": float(100 * found[known].mean()) if known.any() else float("nan"),
        "id_switches": float(metrics.id_switches(ids, fps)),
    }
    return {prefix + name: value for name, value in values.items()}


def steady(joints: Array, ids: NDArray[np.int64]) -> Array:
    """Joints (T, ...) without the frames in which the id is another than before: that step is no motion of anybody.

    `id_switches` and the errors of place count it.
    """
    out = joints.copy()
    out[1:][(ids[1:] != ids[:-1]) & (ids[1:] >= 0) & (ids[:-1] >= 0)] = np.nan
    return out


def compare(clip: ClipTruth, run: Run, analytic: Run) -> dict[str, Any]:
    """`measure` of both, the second under `analytic_` names where it is no baseline's."""
    other = measure(clip, analytic)
    return measure(clip, run) | {f"analytic_{k}": v for k, v in other.items() if not k.startswith(("raw_", "clip"))}


def measure(clip: ClipTruth, run: Run) -> dict[str, Any]:
    """All numbers of one clip."""
    calibrations = [r.calibration for r in run.results]
    report: dict[str, Any] = {"clip": clip.name, **dict.fromkeys(KEYS), **dict.fromkeys(f"raw_{key}" for key in KEYS)}
    report.update(camera_errors(calibrations[-1], clip))
    report["status"] = str(calibrations[-1].status)
    report["height_spread_m"] = calibrations[-1].height_spread_m
    report["gravity_spread_deg"] = float(np.degrees(calibrations[-1].gravity_spread_rad))
    for seconds in AFTER_S:
        at = round(seconds * run.fps)
        report[f"after_{seconds}s"] = camera_errors(calibrations[at], clip) if at < len(calibrations) else None
    report["convergence"] = convergence(clip, run)
    if clip.K is not None:
        report["raw_focal_err_pct"] = float(100 * (np.hypot(*clip.size_wh) / clip.K[0, 0] - 1))
    if clip.R_world_camera is not None:
        report["raw_gravity_err_deg"] = _degrees_between(R_WORLD_LEVEL_CAMERA[1], clip.R_world_camera[1])
    if clip.K is not None and clip.people:
        matches = [match(run, clip, person) for person in clip.people]
        for prefix in ("", "raw_"):
            each = [body_errors(m, run.fps, prefix) for m in matches]
            report.update({name: metrics.mean(np.array([e[name] for e in each])) for name in each[0]})
    else:
        report["found_pct"] = 100 * float(np.mean([len(r.people) > 0 for r in run.results]))
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in report.items()}


def convergence(clip: ClipTruth, run: Run) -> list[dict[str, Any]]:
    """The calibration over time: `t_s` and the errors of `camera_errors`."""
    step = max(1, round(EVERY_S * run.fps))
    at = range(0, len(run.results), step)
    return [{"t_s": i / run.fps, **camera_errors(run.results[i].calibration, clip)} for i in at]


def _degrees_between(a: Array, b: Array) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b, -1.0, 1.0))))


#: What every report has, each again with `raw_` in front for the baseline; None where there is no truth or no such
#: thing (raw landmarks have no place in the world).
KEYS = (
    "focal_err_pct", "focal_spread_pct", "gravity_err_deg", "height_err_m", "mpjpe_mm", "pa_mpjpe_mm", "wmpjpe_mm",
    "root_err_mm", "root_err_pct", "pitch_bias_deg", "jitter", "local_jitter", "acceleration_err_m_s2", "lag_frames",
    "foot_slide_mm", "found_pct", "id_switches",
)  # fmt: skip

_COLUMNS = {
    "focal_err_pct": "f %", "focal_spread_pct": "±%", "gravity_err_deg": "grav°", "height_err_m": "h m",
    "mpjpe_mm": "MPJPE", "pa_mpjpe_mm": "PA", "wmpjpe_mm": "W", "root_err_mm": "root", "root_err_pct": "root%",
    "pitch_bias_deg": "lean°", "jitter": "jitter", "local_jitter": "local",
    "acceleration_err_m_s2": "acc", "lag_frames": "lag", "foot_slide_mm": "slide", "found_pct": "found",
    "id_switches": "ids",
}  # fmt: skip


def table(reports: list[dict[str, Any]]) -> Iterator[str]:
    """Three lines a clip, the default, analytic and raw, then the calibration over time."""
    width = max(len(r["clip"]) for r in reports) + 5
    yield " " * width + "".join(f"{title:>8}" for title in _COLUMNS.values())
    for r in reports:
        for prefix in ("", "analytic_", "raw_"):
            name = f"  {prefix[:-1]}" if prefix else r["clip"]
            cells = (r.get(prefix + key) for key in _COLUMNS)
            yield f"{name:<{width}}" + "".join(f"{'-' if c is None else format(c, '.1f'):>8}" for c in cells)
    yield ""
    for r in reports:
        parts = []
        for seconds in AFTER_S:
            if (at := r[f"after_{seconds}s"]) is not None:
                parts.append(f"after {seconds} s: " + "  ".join(
                    f"{key.split('_')[0]} {value:+.1f}" for key, value in at.items() if value is not None))  # fmt: skip
        yield f"{r['clip']:<{width}}" + " | ".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="a folder with video.mp4 and camera.json")
    parser.add_argument("--seconds", type=float, default=np.inf, help="of each clip (default: all)")
    parser.add_argument("--smoothing", default="default", help="off, low, default or high")
    parser.add_argument("--corrector", action="store_true", help="roots in the world by the trained corrector")
    parser.add_argument("--json", action="store_true", help="one object a clip, a line each")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write a picture a clip (needs matplotlib)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    reports = []
    try:
        with ExitStack() as stack:
            blazepose = stack.enter_context(closing(BlazePose.open()))
            files = (NETWORK_FILE, CORRECTOR_FILE) if options.corrector else (NETWORK_FILE,)
            networks = Networks(*open_networks(files, stack))
            variants = {"": networks, "analytic": None}
            for folder in options.clips:
                clip = read_clip(folder)
                runs = run_side_by_side(clip.video, blazepose, variants, options.smoothing, options.seconds)
                report, run = compare(clip, runs[""], runs["analytic"]), runs[""]
                reports.append(report)
                if options.json:
                    sys.stdout.write(json.dumps(report) + "\n")
                    sys.stdout.flush()
                if options.plot:
                    from benchmarks.accuracy_plot import plot

                    plot(options.plot, clip, run)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"benchmarks.accuracy: {error}\n")
        return 2
    if not options.json:
        sys.stdout.write("\n".join(table(reports)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
