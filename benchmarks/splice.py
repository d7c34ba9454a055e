"""What happens when a camera is moved: the frames of one clip, then those of another, as one stream.

    python -m benchmarks.splice CLIP_A CLIP_B [--repeat N] [--seconds S] [--json]
    python -m benchmarks.splice CLIP --bump PERCENT

Prints the status over time, when `moved` and `calibrated` came after the splice, how far a person's world pose jumped
from one frame to the next (and how much of it the calibration alone did), and the camera against B's truth. B is
resized to A's pictures, K with it; choose clips of one shape. Short clips may be played forth and back (--repeat).
A bump is one clip seen through a window that is shifted half-way, by so many hundredths of the width; the same clip
given twice is the control, in which nothing may be noticed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import metrics
from benchmarks.accuracy import camera_errors, match
from benchmarks.replay import Run, open_stream
from benchmarks.truth import ClipTruth, PersonTruth, read_clip
from engines.blazepose import BlazePose
from pipeline.body import BodyModel
from pipeline.clock import StageClock
from pipeline.detector import PersonDetector
from pipeline.frames import Array, angle_between
from pipeline.source import open_source
from pipeline.source_base import Source
from pipeline.types import CalibrationStatus, Detection, Frame, FrameResult

#: A jump from one frame to the next counts as at the splice within so many seconds after it.
AT_SPLICE_S = 0.5
#: A true root slower than this stands still.
STILL_M_S = 0.3

Image = NDArray[np.uint8]


def pictures(source: Source, size_wh: tuple[int, int], seconds: float, repeat: int) -> Iterator[tuple[int, Image]]:
    """Pictures of a video at `size_wh`, each with its number; forth and back `repeat` times, so that nobody jumps."""
    images: list[Image] = []
    for frame in source.frames():
        if frame.t_capture_ns > seconds * 1e9:
            break
        same = frame.size_wh == size_wh
        image = frame.image if same else np.asarray(cv2.resize(frame.image, size_wh), np.uint8)
        if repeat > 1:
            images.append(image)
        yield frame.index, image
    for k in range(1, repeat):
        yield from list(enumerate(images))[:: -1 if k % 2 else 1]


@dataclass(frozen=True, eq=False)
class Splice:
    """Both clips as one run; frame `at` is the first of B, which `truth` is of, at A's size.

    true_turn_deg  how far up in the camera truly turned, None where it is not known
    """

    run: Run
    at: int
    truth: ClipTruth
    true_turn_deg: float | None


def run_splice(
    clip_a: ClipTruth, clip_b: ClipTruth, blazepose: BlazePose, seconds: float = np.inf, repeat: int = 1
) -> Splice:
    """A, then B, through one stream with continuous time. Raises ValueError when the shapes differ too much."""
    size = clip_a.size_wh
    scale = np.array(size) / clip_b.size_wh
    if abs(scale[0] / scale[1] - 1) > 0.02:
        raise ValueError(f"{clip_b.name} has pictures of {clip_b.size_wh[0]}x{clip_b.size_wh[1]} pixels; expected the "
                         f"shape of {clip_a.name}, {size[0]}x{size[1]}: choose two clips of one shape.")  # fmt: skip
    show = _Show(blazepose)
    for clip in (clip_a, clip_b):
        show.cut()
        with open_source(str(clip.video)) as source:
            for which, image in pictures(source, size, seconds, repeat):
                show(which, image, source.fps)
    K = None
    if clip_b.K is not None:
        K = np.diag([*scale, 1.0]) @ clip_b.K
        # (0, 0) is the centre of a pixel, so the picture's corner lies half a pixel before it
        K[:2, 2] += 0.5 * (scale - 1.0)
    turn = None
    if clip_a.R_world_camera is not None and clip_b.R_world_camera is not None:
        turn = float(np.degrees(np.arccos(np.clip(clip_a.R_world_camera[1] @ clip_b.R_world_camera[1], -1.0, 1.0))))
    return Splice(show.run, show.at, dataclasses.replace(clip_b, size_wh=size, K=K, people=show.people(clip_b)), turn)


def run_bump(clip: ClipTruth, percent: float, blazepose: BlazePose, seconds: float = np.inf) -> Splice:
    """One clip whose camera is pushed to the side in the middle. Raises ValueError unless 0 < percent <= 50."""
    if not 0.0 < percent <= 50.0:
        raise ValueError(f"--bump: expected more than 0 and at most 50 percent of the width, got {percent:g}.")
    by = max(1, round(clip.size_wh[0] * percent / 100))
    width = clip.size_wh[0] - by
    show = _Show(blazepose)
    with open_source(str(clip.video)) as source:
        images = list(pictures(source, clip.size_wh, seconds, 1))
        for n, (which, image) in enumerate(images):
            if n == len(images) // 2:
                show.cut()
            start = by if n >= len(images) // 2 else 0
            show(which, np.ascontiguousarray(image[:, start : start + width]), source.fps)
    K = None if clip.K is None else clip.K - np.array([[0, 0, by], [0, 0, 0], [0, 0, 0]])
    truth = dataclasses.replace(clip, size_wh=(width, clip.size_wh[1]), K=K, people=show.people(clip))
    return Splice(show.run, show.at, truth, 0.0)


class _Show:
    """Pictures through one stream with continuous time; `at` is the first frame after the last cut."""

    def __init__(self, blazepose: BlazePose) -> None:
        self.run, self.at = Run(), 0
        self._order: list[int] = []
        self._t_ns = 0
        self._detector = PersonDetector(blazepose)
        self._stream = open_stream(self._detect, BodyModel.load())

    def _detect(self, frame: Frame, clock: StageClock) -> tuple[Detection, ...]:
        found = self._detector(frame, clock)
        self.run.detections.append(found)
        return found

    def cut(self) -> None:
        """The next picture is another camera's."""
        self.at, self._order = len(self.run.results), []

    def __call__(self, which: int, image: Image, fps: float) -> None:
        """Frame `which` of its clip."""
        t = self._t_ns
        self.run.fps = fps
        self.run.results.append(self._stream.process(Frame("splice", len(self.run.results), t, t, t, image)))
        self._order.append(which)
        self._t_ns += round(1e9 / fps)

    def people(self, clip: ClipTruth) -> tuple[PersonTruth, ...]:
        """The truth of the frames since the cut, in their order."""
        return tuple(
            PersonTruth(p.joints_camera_m[[i for i in self._order if i < len(p.joints_camera_m)]]) for p in clip.people
        )


def jumps(results: list[FrameResult]) -> tuple[Array, Array, Array, Array]:
    """Of each frame (T,) against the one before: how far people's roots went, metres, and turned, degrees, in the world
    (the worst of those in both, nan without), and how much of it comes from the calibration alone."""
    moved, turned, moved_by, turned_by = (np.full(len(results), np.nan) for _ in range(4))
    for i in range(1, len(results)):
        before, now = results[i - 1], results[i]
        a, b = before.calibration, now.calibration
        turned_by[i] = np.degrees(angle_between(a.R_world_camera, b.R_world_camera))
        for p in now.people:
            x = p.camera.t_camera_root
            by = (b.R_world_camera @ x + b.t_world_camera) - (a.R_world_camera @ x + a.t_world_camera)
            moved_by[i] = np.nanmax([moved_by[i], np.linalg.norm(by)])
            old = next((q for q in before.people if q.track_id == p.track_id), None)
            if old is not None:
                step = np.linalg.norm(p.world.t_world_root - old.world.t_world_root)
                turn = np.degrees(angle_between(old.world.R_world_root, p.world.R_world_root))
                moved[i], turned[i] = np.nanmax([moved[i], step]), np.nanmax([turned[i], turn])
    return moved, turned, moved_by, turned_by


def still(splice: Splice) -> NDArray[np.bool_]:
    """(T,) frames of B in which every true root stands still; all of them where nothing is known."""
    out = np.zeros(len(splice.run.results), bool)
    out[splice.at :] = True
    for person in splice.truth.people:
        root = metrics.root(person.joints_camera_m)
        speed = np.linalg.norm(np.diff(root, axis=0, prepend=root[:1]), axis=-1) * splice.run.fps
        n = min(len(speed), len(out) - splice.at)
        out[splice.at : splice.at + n] &= ~(speed[:n] > STILL_M_S)
    return out


def measure(splice: Splice) -> dict[str, Any]:
    """All numbers of a splice: seconds count from it."""
    run, at = splice.run, splice.at
    t = [r.t_capture_ns / 1e9 - run.results[at].t_capture_ns / 1e9 for r in run.results]
    status = [r.calibration.status for r in run.results]
    changes = [0, *(i for i in range(1, len(status)) if status[i] is not status[i - 1])]
    moved = next((i for i in range(at, len(status)) if status[i] is CalibrationStatus.MOVED), None)
    again = None if moved is None else next(
        (i for i in range(moved, len(status)) if status[i] is CalibrationStatus.CALIBRATED), None)  # fmt: skip
    early = sum(status[i] is CalibrationStatus.MOVED for i in changes if i < at)
    report: dict[str, Any] = {
        "moved_before": early,
        "statuses": [(round(t[i], 2), str(status[i])) for i in changes],
        "true_turn_deg": splice.true_turn_deg,
        "moved_after_s": None if moved is None else t[moved],
        "calibrated_again_after_s": None if again is None else t[again],
        **camera_errors(run.results[-1].calibration, splice.truth),
        "gravity_spread_deg": float(np.degrees(run.results[-1].calibration.gravity_spread_rad)),
    }
    standing, when = still(splice), np.array(t)
    for name, values in zip(("moved_m", "turned_deg", "moved_by_calibration_m", "turned_by_calibration_deg"),
                            jumps(run.results), strict=True):  # fmt: skip
        usable = values if "calibration" in name else np.where(standing, values, np.nan)
        at_splice, after = usable[(when >= 0) & (when <= AT_SPLICE_S)], usable[when > AT_SPLICE_S]
        report[f"at_splice_{name}"], report[f"after_{name}"] = _largest(at_splice), _largest(after)
    if splice.truth.K is not None and splice.truth.R_world_camera is not None:
        late = Run(run.fps, run.results[at:], run.detections[at:])
        for k, person in enumerate(splice.truth.people):
            m = match(late, splice.truth, person)
            half = len(m.camera) // 2
            suffix = f"_{k}" if len(splice.truth.people) > 1 else ""
            report[f"wmpjpe_mm{suffix}"] = metrics.mpjpe_mm(m.world[half:], m.truth_world[half:])
            report[f"pitch_bias_deg{suffix}"] = metrics.pitch_bias_deg(m.world[half:], m.truth_world[half:])
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in report.items()}


def _largest(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else None


def lines(report: dict[str, Any], splice: Splice) -> Iterator[str]:
    """What to print."""
    if splice.true_turn_deg is not None:
        yield f"The camera's tilt truly changes by {splice.true_turn_deg:.1f} degrees."
    yield "Status, seconds from the splice:"
    yield "  " + ", ".join(f"{t:+.2f} {status}" for t, status in report["statuses"])
    for key, what in (("moved_after_s", "noticed as moved"), ("calibrated_again_after_s", "calibrated again")):
        value = report[key]
        yield f"{what[0].upper()}{what[1:]}: " + ("never" if value is None else f"{value:.2f} s after the splice")
    if report["moved_before"]:
        yield f"False alarms before the splice: {report['moved_before']}"
    yield ""
    yield f"{'Largest step in one frame':<42}{'at the splice':>15}{'after':>10}"
    for name, title, unit in (
        ("moved_m", "a person's place, standing", "m"), ("turned_deg", "a person's orientation, standing", "deg"),
        ("moved_by_calibration_m", "by the calibration alone", "m"),
        ("turned_by_calibration_deg", "by the calibration alone", "deg"),
    ):  # fmt: skip
        first, later = report[f"at_splice_{name}"], report[f"after_{name}"]
        cells = ("-" if v is None else f"{v:.2f} {unit}" for v in (first, later))
        yield f"  {title:<40}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (15, 10), strict=True))
    yield ""
    parts = (f"{k} {v:+.2f}" for k, v in report.items() if isinstance(v, float) and k.split("_")[0] in (
        "focal", "gravity", "height", "wmpjpe", "pitch"))  # fmt: skip
    yield f"At the end, against {splice.truth.name}: " + ", ".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.splice", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip_a", type=Path, metavar="CLIP_A", help="a folder with video.mp4 and camera.json")
    parser.add_argument("clip_b", type=Path, nargs="?", metavar="CLIP_B")
    parser.add_argument("--bump", type=float, metavar="PERCENT", help="of one clip's width, instead of CLIP_B")
    parser.add_argument("--seconds", type=float, default=np.inf, help="of each clip (default: all)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="play each N times, forth and back")
    parser.add_argument("--json", action="store_true", help="one object")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    if options.repeat < 1:
        parser.error(f"--repeat: expected 1 or more, got {options.repeat}.")
    if (options.clip_b is None) == (options.bump is None):
        parser.error("expected a second clip or --bump PERCENT, and not both.")
    try:
        with closing(BlazePose.open()) as blazepose:
            clip_a = read_clip(options.clip_a)
            if options.clip_b is None:
                splice = run_bump(clip_a, options.bump, blazepose, options.seconds)
            else:
                splice = run_splice(clip_a, read_clip(options.clip_b), blazepose, options.seconds, options.repeat)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"benchmarks.splice: {error}\n")
        return 2
    report = measure(splice)
    sys.stdout.write("\n".join([json.dumps(report)] if options.json else lines(report, splice)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
