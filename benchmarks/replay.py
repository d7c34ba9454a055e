"""The stream without its socket: over a file, or over detections that were kept or made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engines.blazepose import BlazePose
from pipeline.body import BodyModel
from pipeline.calibration import Calibrator
from pipeline.clock import StageClock
from pipeline.detector import PersonDetector
from pipeline.landmark_model import LandmarkModel
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
) -> Stream:
    """A stream as the program makes it, calibrated from scratch or from `initial`, for landmarks that err so."""
    recovery = LandmarkRecovery(body, errors=errors)
    return Stream(
        detector,
        lambda camera, size: Calibrator(camera, size, initial, recovery.metric_scale),
        recovery,
        PoseSmoother(body, smoothing),
    )


def run_clip(video: Path, blazepose: BlazePose, smoothing: str = "default", seconds: float = np.inf) -> Run:
    """The whole stream over a file."""
    detector = PersonDetector(blazepose)
    run = Run()

    def detect(frame: Frame, clock: StageClock) -> tuple[Detection, ...]:
        found = detector(frame, clock)
        run.detections.append(found)
        return found

    stream = open_stream(detect, BodyModel.load(), smoothing)
    with open_source(str(video)) as source:
        run.fps = source.fps
        for frame in source.frames():
            if frame.t_capture_ns > seconds * 1e9:
                break
            run.results.append(stream.process(frame))
    return run


def replay(
    detections: Sequence[tuple[Detection, ...]],
    size_wh: tuple[int, int],
    fps: float,
    body: BodyModel,
    smoothing: str = "default",
    initial: CameraCalibration | None = None,
    errors: LandmarkModel | None = None,
) -> Run:
    """The stream over detections of pictures of one size, one each 1 / fps seconds."""
    stream = open_stream(lambda frame, clock: detections[frame.index], body, smoothing, initial, errors)
    picture = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    results = []
    for i in range(len(detections)):
        t_ns = round(i / fps * 1e9)
        results.append(stream.process(Frame("replay", i, t_ns, t_ns, t_ns, picture)))
    return Run(fps, results, list(detections))
