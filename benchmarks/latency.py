"""How long a pose takes, beside MediaPipe's own PoseLandmarker on the same frames in the same run.

    python -m benchmarks.latency CLIP [--people 1 2 4] [--frames 200] [--overload 60] [--json]

Several people are the clip's person beside themselves, each at another moment, cut out so that they fill their part
of the picture: bare MediaPipe misses small people, and what it does not find costs it nothing. Ours is everything from
the decoded picture to the message on the socket, with a subscriber that reads; theirs is PoseLandmarker in VIDEO mode
alone, asked for as many people as there are. The two take turns in blocks, so that the machine's other work meets
both. The overload run feeds the clip four times as fast as it was taken, and looks whether the pose's age grows.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.readers import subscribers
from benchmarks.replay import open_stream
from engines.blazepose import BlazePose
from engines.landmark_networks import open_networks
from engines.mediapipe_reference import MediaPipeReference
from pipeline.body import BodyModel
from pipeline.detector import PersonDetector
from pipeline.landmark_net import NETWORK_FILE, Networks
from pipeline.publisher import Publisher
from pipeline.source import open_source
from pipeline.types import Frame

BLOCK = 75
#: Pictures at the start of each block that do not count: the other's threads are still at work.
WARM = 15
MAX_BYTES = 1_500_000_000
OVERLOAD_SPEED = 4

Image = NDArray[np.uint8]


def read_clip(path: str, frames: int) -> tuple[list[Image], float]:
    """The first pictures of a clip, RGB, and its frame rate; fewer where they would not fit in memory."""
    with open_source(path) as source:
        images: list[Image] = []
        for frame in source.frames():
            images.append(frame.image)
            if len(images) >= frames or len(images) * frame.image.nbytes > MAX_BYTES:
                break
        return images, source.fps or 30.0


def around_the_person(images: list[Image], blazepose: BlazePose) -> list[Image]:
    """The part of the pictures, with the pictures' shape, in which the first person of the clip acts."""
    h, w = images[0].shape[:2]
    boxes = []
    for image in images[:: max(1, len(images) // 20)]:
        regions = blazepose.detect(image)[:1]
        boxes += [marks.points_px for marks, _ in blazepose.landmarks(image, [region for region, _ in regions])]
    if not boxes:
        return images
    low, high = np.concatenate(boxes).min(0), np.concatenate(boxes).max(0)
    share = min(1.0, 1.1 * float(((high - low) / (w, h)).max()))
    cut_w, cut_h = int(share * w), int(share * h)
    middle = (low + high) / 2
    x = int(np.clip(middle[0] - cut_w / 2, 0, w - cut_w))
    y = int(np.clip(middle[1] - cut_h / 2, 0, h - cut_h))
    return [image[y : y + cut_h, x : x + cut_w] for image in images]


def beside_itself(images: list[Image], people: int, blazepose: BlazePose) -> list[Image]:
    """Pictures with `people` copies of the person in a grid, each an equal part of the clip ahead, at the clip's size.

    One person is the clip as it is.
    """
    if people == 1:
        return images
    full_h, full_w = images[0].shape[:2]
    images = [
        np.asarray(cv2.resize(image, (full_w, full_h), interpolation=cv2.INTER_AREA), np.uint8)
        for image in around_the_person(images, blazepose)
    ]
    columns = int(np.ceil(np.sqrt(people)))
    rows = int(np.ceil(people / columns))
    h, w = images[0].shape[:2]
    cell_w, cell_h = w // columns, h // rows
    scale = min(cell_w / w, cell_h / h)
    size = (max(1, int(w * scale)), max(1, int(h * scale)))
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    out = []
    for i in range(len(small)):
        canvas = np.zeros((h, w, 3), np.uint8)
        for p in range(people):
            x, y = p % columns * cell_w, p // columns * cell_h
            canvas[y : y + size[1], x : x + size[0]] = small[(i + p * len(small) // people) % len(small)]
        out.append(canvas)
    return out


class Ours:
    """Everything between a decoded picture and its message."""

    def __init__(self, blazepose: BlazePose, publisher: Publisher, max_people: int = 4) -> None:
        self._publisher = publisher
        with ExitStack() as stack:
            networks = Networks(*open_networks((NETWORK_FILE,), stack, max_batch=max_people))
            self._open = stack.pop_all()
        self.stream = open_stream(PersonDetector(blazepose, max_people), BodyModel.load(), networks=networks)

    def __call__(self, image: Image, index: int, fps: float) -> tuple[float, dict[str, float], int]:
        """Milliseconds in all, by stage, and people found."""
        start = time.monotonic_ns()
        t_ns = round(index / fps * 1e9)
        result = self.stream.process(Frame(self._publisher.camera_id, index, t_ns, t_ns, start, image))
        published = time.monotonic_ns()
        self._publisher.publish(result)
        end = time.monotonic_ns()
        return (end - start) / 1e6, {**result.stages_ms, "publish": (end - published) / 1e6}, len(result.people)


def compare(images: list[Image], fps: float, people: int, blazepose: BlazePose) -> dict[str, Any]:
    """Both on the same pictures, taking turns in blocks."""
    ours_ms: list[float] = []
    bare_ms: list[float] = []
    stages: list[dict[str, float]] = []
    found: list[int] = []
    bare_found: list[int] = []
    with (
        Publisher("bench", "tcp://127.0.0.1:*") as publisher,
        subscribers(publisher.address, 1),
        closing(MediaPipeReference(people)) as bare,
    ):
        ours = Ours(blazepose, publisher)
        for first in range(0, len(images), BLOCK):
            block = list(enumerate(images[first : first + BLOCK], first))
            for index, image in block:
                total, parts, n = ours(image, index, fps)
                ours_ms.append(total)
                stages.append(parts)
                found.append(n)
            for index, image in block:
                start = time.perf_counter()
                bare_found.append(len(bare(image, index * 1000 / fps)))
                bare_ms.append((time.perf_counter() - start) * 1e3)
    counts = [i for i in range(len(images)) if i % BLOCK >= WARM]
    p50, p95, p99 = np.percentile([ours_ms[i] for i in counts], [50, 95, 99])
    names = dict.fromkeys(name for s in stages for name in s)
    by_stage = {name: float(np.median([stages[i].get(name, 0.0) for i in counts])) for name in names}
    bare_p50 = float(np.median([bare_ms[i] for i in counts]))
    return {
        "people": people,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "bare_p50_ms": bare_p50,
        "ratio_p50": float(p50) / bare_p50,
        "stages": by_stage,
        "not_network_ms": float(np.median([sum(stages[i].values()) - _networks(stages[i]) for i in counts])),
        "found_mean": float(np.mean(found[WARM:])),
        "bare_found_mean": float(np.mean(bare_found[WARM:])),
    }


def _networks(stages: dict[str, float]) -> float:
    return stages.get("detect", 0.0) + stages.get("landmarks", 0.0)


def faster(images: list[Image], fps: float, folder: Path) -> str:
    """The clip as a file that plays OVERLOAD_SPEED times as fast."""
    path = folder / "fast.mp4"
    h, w = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps * OVERLOAD_SPEED, (w, h))
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return str(path)


def run_live(spec: str, seconds: float, blazepose: BlazePose, reading: int = 1, stalled: int = 0) -> dict[str, Any]:
    """A paced source into the stream for a while: the poses' ages when published, and rates."""
    ages: list[tuple[float, float]] = []
    stop = threading.Event()
    with (
        Publisher("bench", "tcp://127.0.0.1:*") as publisher,
        subscribers(publisher.address, reading, stalled) as counts,
        open_source(spec, camera_id="bench", realtime=True, loop=True) as source,
    ):
        ours = Ours(blazepose, publisher)
        start = time.monotonic()

        def publish(frame: Frame, result: Any) -> None:
            publisher.publish(result)
            now = time.monotonic_ns()
            ages.append((now / 1e9 - start, (now - frame.t_grab_ns) / 1e6))
            if now / 1e9 - start > seconds:
                stop.set()

        ours.stream.run(source, [publish], stop)
        dropped = source.dropped
    at, age = np.array(ages[WARM:]).T
    return {
        "seconds": float(at[-1]),
        "fps": len(at) / float(at[-1] - at[0]),
        "dropped": dropped,
        "age_p50_ms": float(np.median(age)),
        "age_p95_ms": float(np.percentile(age, 95)),
        "age_max_ms": float(age.max()),
        "age_slope_ms_per_min": float(np.polyfit(at, age, 1)[0] * 60),
        "age_by_10s_ms": [float(np.median(age[(at >= t) & (at < t + 10)])) for t in range(0, int(at[-1]), 10)],
        "received": counts,
    }


def describe(report: dict[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield "people  ours p50   p95   p99 ms   bare p50 ms   ratio   found  bare found   not network"
    for r in report["runs"]:
        yield (
            f"{r['people']:6d}  {r['p50_ms']:8.1f} {r['p95_ms']:5.1f} {r['p99_ms']:5.1f}      {r['bare_p50_ms']:8.1f}"
            f"    {r['ratio_p50']:5.2f}   {r['found_mean']:5.2f}  {r['bare_found_mean']:10.2f}   "
            f"{r['not_network_ms']:8.2f} ms"
        )
        yield "        " + "  ".join(f"{name} {ms:.2f}" for name, ms in r["stages"].items())
    for name, title in (
        ("overload", "overload"),
        ("one_subscriber", "1 subscriber"),
        ("five_subscribers", "5, 1 stalled"),
    ):
        if name in report:
            r = report[name]
            yield (
                f"{title}: {r['seconds']:.0f} s at {r['fps']:.1f} fps, {r['dropped']} dropped, age p50 "
                f"{r['age_p50_ms']:.1f} p95 {r['age_p95_ms']:.1f} max {r['age_max_ms']:.1f} ms, slope "
                f"{r['age_slope_ms_per_min']:+.2f} ms/min, by 10 s: {[round(a, 1) for a in r['age_by_10s_ms']]}"
            )


def measure(clip: str, people: Sequence[int], frames: int, overload_s: float, subscribers_s: float) -> dict[str, Any]:
    """Everything the command line prints."""
    images, fps = read_clip(clip, frames)
    with closing(BlazePose.open()) as blazepose, tempfile.TemporaryDirectory() as folder:
        runs = [compare(beside_itself(images, n, blazepose), fps, n, blazepose) for n in people]
        report: dict[str, Any] = {"clip": clip, **runs[0], "age_slope_ms_per_min": None, "runs": runs}
        spec = faster(images, fps, Path(folder))
        if overload_s > 0:
            report["overload"] = run_live(spec, overload_s, blazepose)
            report["age_slope_ms_per_min"] = report["overload"]["age_slope_ms_per_min"]
        if subscribers_s > 0:
            report["one_subscriber"] = run_live(clip, subscribers_s, blazepose)
            report["five_subscribers"] = run_live(clip, subscribers_s, blazepose, reading=4, stalled=1)
    return report


def main(arguments: list[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("clip", help="a video file, or demo")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--frames", type=int, default=250, help="of the clip, for the comparison (default 250)")
    parser.add_argument("--overload", type=float, default=60.0, metavar="S", help="seconds, 0 for none (default 60)")
    parser.add_argument("--subscribers", type=float, default=15.0, metavar="S", help="seconds, 0 for none (default 15)")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    try:
        report = measure(options.clip, options.people, options.frames, options.overload, options.subscribers)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"benchmarks.latency: {error}\n")
        return 2
    sys.stdout.write(json.dumps(report) + "\n" if options.json else "\n".join(describe(report)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
