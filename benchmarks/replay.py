"""The stream without its socket: over a file, or over detections that were kept or made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engines.blazepose import BlazePose
from pipeline.body import BodyModel
from pipeline.calibration import Calibrator
from pipeline.clock import StageClock
from pipeline.detector import PersonDetector
from pipeline.landmark_model import LandmarkModel
from pipeline.landmark_net import LandmarkReader, Networks
from pipeline.learned_orientation import LearnedOrientation
from pipeline.recovery import LandmarkRecovery
from pipeline.smoothing import PoseSmoother
from pipeline.source import open_source
from pipeline.stream import Detector, Stream
from pipeline.types import CameraCalibration, Detection, Frame, FrameResult


@dataclass(eq=False)
class Run:
    """What the stream said of a clip, frame by frame."""

    fps: float = 30.0
    results: list[FrameResult] = field(default_factory=list)
    detections: list[tuple[Detection, ...]] = field(default_factory=list)


def open_stream(
    detector: Detector,
    body: BodyModel,
    smoothing: str = "default",
    initial: CameraCalibration | None = None,
    errors: LandmarkModel | None = None,
    networks: Networks | None = None,
) -> Stream:
    """A stream as the program makes it, calibrated from scratch or from `initial`, for landmarks that err so.

    Without `networks` it is the analytic one.
    """
    reader = LandmarkReader(networks.reads) if networks else None
    recovery = LandmarkRecovery(body, errors=errors, reader=reader)
    return Stream(
        detector,
        lambda camera, size: Calibrator(camera, size, initial, recovery.metric_scale, reader, lines=reader is not None),
        recovery,
        PoseSmoother(body, smoothing),
        corrector=LearnedOrientation(reader, networks.corrects) if reader and networks and networks.corrects else None,
    )


def run_clip(video: Path, blazepose: BlazePose, smoothing: str = "default", seconds: float = np.inf) -> Run:
    """The whole analytic stream over a file."""
    return run_side_by_side(video, blazepose, {"": None}, smoothing, seconds)[""]


def run_side_by_side(
    video: Path,
    blazepose: BlazePose,
    variants: Mapping[str, Networks | None],
    smoothing: str = "default",
    seconds: float = np.inf,
) -> dict[str, Run]:
    """Several streams over a file, by name, all on the same detections of the same frames."""
    detector = PersonDetector(blazepose)
    found: list[tuple[Detection, ...]] = []
    runs = {name: Run() for name in variants}
    streams = {
        name: open_stream(lambda frame, clock: found[-1], BodyModel.load(), smoothing, networks=networks)
        for name, networks in variants.items()
    }
    with open_source(str(video)) as source:
        for frame in source.frames():
            if frame.t_capture_ns > seconds * 1e9:
                break
            found.append(detector(frame, StageClock()))
            for name, stream in streams.items():
                runs[name].results.append(stream.process(frame))
        for run in runs.values():
            run.fps, run.detections = source.fps, found
    return runs


def replay(
    detections: Sequence[tuple[Detection, ...]],
    size_wh: tuple[int, int],
    fps: float,
    body: BodyModel,
    smoothing: str = "default",
    initial: CameraCalibration | None = None,
    errors: LandmarkModel | None = None,
    networks: Networks | None = None,
) -> Run:
    """The stream over detections of pictures of one size, one each 1 / fps seconds."""
    stream = open_stream(lambda frame, clock: detections[frame.index], body, smoothing, initial, errors, networks)
    picture = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    results = []
    for i in range(len(detections)):
        t_ns = round(i / fps * 1e9)
        results.append(stream.process(Frame("replay", i, t_ns, t_ns, t_ns, picture)))
    return Run(fps, results, list(detections))
