"""How much jitter goes for how much lag: raw landmarks, One Euro filters on them, and our own smoothing.

    python -m benchmarks.smoothing_frontier CLIP... [--seconds S] [--json] [--plot FILE]

People are found once a clip; every smoothing replays the same detections. Jitter is of joints about the root, over
that of the raw landmarks. Lag is by cross-correlation on the wrist that tells (`metrics.lag_frames`), against the raw
landmarks with their noise taken out by a filter that has no lag of its own. Everybody who is followed for long counts;
no truth is needed, so any video or clip folder will do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from benchmarks import metrics
from benchmarks.accuracy import LANDMARKS
from benchmarks.replay import Run, replay, run_clip
from benchmarks.truth import SCORED_JOINTS
from engines.blazepose import BlazePose
from pipeline import smoothing
from pipeline.body import BodyModel
from pipeline.frames import Array

Params = tuple[tuple[float, float], ...]
#: Cut-off at rest, Hz, and what each m/s adds, of One Euro filters on raw landmarks.
ONE_EURO: Params = tuple((cutoff, beta) for beta in (0.5, 2.0, 8.0) for cutoff in (0.5, 1.0, 2.0, 4.0))
#: Shares that our filters take of what is new: the angle's, and of the low-pass after it.
OURS: Params = tuple((angle, output) for output in (0.5, 0.7, 0.9) for angle in (0.35, 0.55, 0.75, 0.9))
MIN_FOLLOWED_S = 1.0
ZERO_PHASE_S = 0.05
MAX_LAG_FRAMES = 1.0


@dataclass(frozen=True)
class Point:
    """One smoothing on one clip or (clip "all") the median over clips.

    family           "raw", "one euro", "ours" (a range of parameters) or "level" (the named ones)
    jitter           10 m/s^3, root-relative; jitter_ratio over the raw landmarks'
    lag_frames, lag_ms
    """

    clip: str
    family: str
    name: str
    jitter: float
    jitter_ratio: float
    lag_frames: float
    lag_ms: float


def one_euro(positions: Array, fps: float, cutoff_hz: float, beta: float) -> Array:
    """Casiez et al.'s One Euro filter (CHI 2012) of positions (T, ..., 3), by speed, started anew after nan."""
    out = np.full_like(positions, np.nan)
    dt, last, speed = 1.0 / fps, None, None
    for i, x in enumerate(positions):
        if not np.isfinite(x).all():
            last = None
        elif last is None or speed is None:
            last, speed = x, np.zeros((*x.shape[:-1], 1))
        else:
            speed = speed + _gain(1.0, dt) * (np.linalg.norm(x - last, axis=-1, keepdims=True) / dt - speed)
            last = last + _gain(cutoff_hz + beta * speed, dt) * (x - last)
        if last is not None:
            out[i] = last
    return out


def _gain(cutoff_hz: Array | float, dt: float) -> Array | float:
    r = 2 * np.pi * cutoff_hz * dt
    return r / (r + 1)


def tracks(run: Run) -> dict[int, tuple[Array, Array]]:
    """For each person followed for long: raw landmarks in world axes, and ours in the world, both (T, 12, 3)."""
    out: dict[int, tuple[Array, Array]] = {}
    n = len(run.results)
    for i, (result, detections) in enumerate(zip(run.results, run.detections, strict=True)):
        for d in detections:
            person = next((p for p in result.people if p.track_id == d.track_id), None)
            if d.landmarks is None or person is None:
                continue
            raw, ours = out.setdefault(d.track_id, (np.full((n, 12, 3), np.nan), np.full((n, 12, 3), np.nan)))
            raw[i] = d.landmarks.points_m[LANDMARKS] @ run.results[-1].calibration.R_world_camera.T
            ours[i] = person.world.joints_world_m[SCORED_JOINTS]
    long = max(MIN_FOLLOWED_S * run.fps, 8 * 8 + 2)
    return {k: v for k, v in out.items() if np.isfinite(v[0][:, 0, 0]).sum() >= long}


def reference(raw: Array, fps: float) -> Array:
    """Raw landmarks (T, 12, 3) through a Gaussian of ZERO_PHASE_S, which has no lag; nan stays."""
    known = np.isfinite(raw).astype(float)
    weight = gaussian_filter1d(known, ZERO_PHASE_S * fps, axis=0)
    filled = gaussian_filter1d(np.nan_to_num(raw), ZERO_PHASE_S * fps, axis=0)
    return np.where(known > 0, filled / np.maximum(weight, 1e-9), np.nan)


@contextmanager
def our_level(angle: float, output: float) -> Iterator[str]:
    """The name of a smoothing level like the default one but for the filter of rotations."""
    default = smoothing.level("default")
    assert default is not None
    name = f"{angle:g}, {output:g}"
    speed = default.turns.speed * (angle / default.turns.angle) ** 2
    turns = dataclasses.replace(default.turns, angle=angle, speed=speed, output=output)
    smoothing.LEVELS[name] = dataclasses.replace(default, turns=turns)
    try:
        yield name
    finally:
        del smoothing.LEVELS[name]


def measure(name: str, run: Run, ours: Params = OURS, euros: Params = ONE_EURO) -> list[Point]:
    """Every smoothing on one clip, of which `run` has the detections."""
    fps, size_wh = run.fps, run.results[0].size_wh
    body = BodyModel.load()
    people = tracks(run)
    if not people:
        return []
    references = {k: reference(raw, fps) for k, (raw, _) in people.items()}
    raw_jitter = metrics.mean(np.array([metrics.jitter(metrics.relative(raw), fps) for raw, _ in people.values()]))

    def point(family: str, title: str, joints: dict[int, Array]) -> Point:
        jitter = metrics.mean(np.array([metrics.jitter(metrics.relative(j), fps) for j in joints.values()]))
        lag = metrics.mean(np.array([metrics.lag_frames(j, references[k]) for k, j in joints.items()]))
        return Point(name, family, title, jitter, jitter / raw_jitter, lag, 1e3 * lag / fps)

    def replayed(level: str) -> dict[int, Array]:
        again = tracks(replay(run.detections, size_wh, fps, body, level))
        return {k: again[k][1] for k in people if k in again}

    points = [point("raw", "raw landmarks", {k: raw for k, (raw, _) in people.items()})]
    for cutoff, beta in euros:
        filtered = {k: one_euro(raw, fps, cutoff, beta) for k, (raw, _) in people.items()}
        points.append(point("one euro", f"{cutoff:g} Hz, {beta:g}", filtered))
    for angle, output in ours:
        with our_level(angle, output) as level:
            points.append(point("ours", level, replayed(level)))
    return points + [point("level", level, replayed(level)) for level in smoothing.LEVELS]


def over_clips(points: Sequence[Point]) -> list[Point]:
    """The median over clips of each smoothing."""
    out = []
    for family, name in dict.fromkeys((p.family, p.name) for p in points):
        same = [p for p in points if (p.family, p.name) == (family, name)]
        values = (float(np.nanmedian([getattr(p, k) for p in same])) for k in
                  ("jitter", "jitter_ratio", "lag_frames", "lag_ms"))  # fmt: skip
        out.append(Point("all", family, name, *values))
    return out


def frontier(points: Sequence[Point]) -> list[Point]:
    """Those for which no other has both less jitter and less lag, by lag."""
    best: list[Point] = []
    for p in sorted(points, key=lambda p: (p.lag_frames, p.jitter_ratio)):
        if not best or p.jitter_ratio < best[-1].jitter_ratio:
            best.append(p)
    return best


def knee(points: Sequence[Point]) -> Point | None:
    """The point of the frontier farthest below the line between its ends (Satopaa et al., Kneedle, 2011)."""
    edge = frontier(points)
    if len(edge) < 3:
        return edge[-1] if edge else None
    lag = np.array([p.lag_frames for p in edge])
    jitter = np.log([p.jitter_ratio for p in edge])
    x = (lag - lag[0]) / (lag[-1] - lag[0])
    y = (jitter - jitter[-1]) / (jitter[0] - jitter[-1])
    return edge[int(np.argmax(1.0 - x - y))]


def report(points: Sequence[Point]) -> Iterator[str]:
    """The lines to print: medians over clips, and what they recommend."""
    yield f"{'':<28}{'jitter':>9}{'of raw':>9}{'lag':>9}{'lag':>9}"
    yield f"{'':<28}{'10 m/s3':>9}{'':>9}{'frames':>9}{'ms':>9}"
    for p in points:
        yield (f"{p.family + ': ' + p.name:<28}{p.jitter:>9.1f}{p.jitter_ratio:>9.2f}{p.lag_frames:>9.2f}"
               f"{p.lag_ms:>9.1f}")  # fmt: skip
    yield ""
    for family, title in (("ours", "our filters"), ("one euro", "One Euro on raw landmarks")):
        group = [p for p in points if p.family == family]
        quick = [p for p in group if p.lag_frames <= MAX_LAG_FRAMES]
        if at := knee(group):
            yield f"Knee of {title}: {at.name} ({at.jitter_ratio:.2f} of raw jitter, {at.lag_frames:.2f} frames)."
        if quick:
            least = min(quick, key=lambda p: p.jitter_ratio)
            yield (f"Least jitter of {title} at no more than {MAX_LAG_FRAMES:g} frame: {least.name} "
                   f"({least.jitter_ratio:.2f} of raw, {least.lag_frames:.2f} frames).")  # fmt: skip


def plot(file: Path, points: Sequence[Point]) -> Path:
    """Draws jitter against lag into `file`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    for family, colour, marker, label in (
        ("raw", "0.3", "s", "raw landmarks"), ("one euro", "#E69F00", "o", "One Euro on raw landmarks"),
        ("ours", "#56B4E9", "o", "ours, a range of parameters"), ("level", "#0072B2", "D", "--smoothing"),
    ):  # fmt: skip
        group = [p for p in points if p.family == family]
        ax.scatter([p.lag_frames for p in group], [p.jitter_ratio for p in group], color=colour, marker=marker,
                   label=label, zorder=3)  # fmt: skip
        edge = frontier(group)
        ax.plot([p.lag_frames for p in edge], [p.jitter_ratio for p in edge], color=colour, linewidth=1)
        for p in group if family == "level" else ():
            ax.annotate(p.name, (p.lag_frames, p.jitter_ratio), (7, 4), textcoords="offset points", color=colour)
    ax.axvline(MAX_LAG_FRAMES, color="0.7", linestyle=":")
    ax.axhline(1 / 3, color="0.7", linestyle=":")
    ax.set_yscale("log")
    ticks = (1.0, 0.7, 0.5, 1 / 3, 0.2, 0.1)
    ax.set_yticks(ticks, [f"{tick:.2g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("lag, frames")
    ax.set_ylabel("jitter about the root, over raw landmarks")
    ax.set_title("Jitter against lag, median over clips; dotted: a third of the jitter, one frame", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    return file


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoothing_frontier",
                                     description=(__doc__ or "").splitlines()[0])  # fmt: skip
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="a folder with video.mp4, or a video")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip (default: 10)")
    parser.add_argument("--json", action="store_true", help="one object a clip and smoothing, a line each")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it (needs matplotlib)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    points: list[Point] = []
    try:
        with closing(BlazePose.open()) as blazepose:
            for clip in options.clips:
                run = run_clip(clip / "video.mp4" if clip.is_dir() else clip, blazepose, "off", options.seconds)
                points += measure(clip.name, run)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"benchmarks.smoothing_frontier: {error}\n")
        return 2
    if not points:
        sys.stderr.write("benchmarks.smoothing_frontier: expected somebody in view for a second or longer; "
                         "give clips with people.\n")  # fmt: skip
        return 2
    medians = over_clips(points)
    lines = [json.dumps(asdict(p)) for p in points + medians] if options.json else report(medians)
    sys.stdout.write("\n".join(lines) + "\n")
    if options.plot:
        plot(options.plot, medians)
    return 0


if __name__ == "__main__":
    sys.exit(main())
