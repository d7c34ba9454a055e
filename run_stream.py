#!/usr/bin/env python3
"""Camera in, world-space human poses out over ZeroMQ: options -> open everything -> the loop."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Ctrl-C ends the program at once while its libraries load and its source connects
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import logging
import os
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path

from calibration_cache.files import calibration_from_focal, calibration_from_fov, read_calibration_file
from calibration_cache.store import CalibrationStore
from engines.blazepose import BlazePose
from engines.mediapipe_reference import MediaPipeReference
from pipeline.body import BodyModel, open_body
from pipeline.calibration import ESTIMATOR, Calibrator
from pipeline.console import StatusLine, configure_logging
from pipeline.detector import MediaPipeDetector, PersonDetector
from pipeline.options import parser
from pipeline.overlay import FPS_RANGE, OverlayWriter, Viewer
from pipeline.publisher import Publisher
from pipeline.recorder import Recorder
from pipeline.recovery import LandmarkRecovery
from pipeline.sinks import OverlaySink, PrintSink, PublishSink, RecordSink, ViewSink
from pipeline.smoothing import PoseSmoother
from pipeline.source import Source, SourceState, open_source, sanitize_camera_id
from pipeline.source_spec import parse_spec, slug
from pipeline.stream import Detector, Sink, Stream
from pipeline.types import CameraCalibration
from pipeline.video_file import check_readable

log = logging.getLogger("run_stream")


def open_detector(options: argparse.Namespace, stack: ExitStack) -> Detector:
    """The networks that find people, built and warmed."""
    if options.detector == "mediapipe":
        return MediaPipeDetector(stack.enter_context(closing(MediaPipeReference(options.max_people))))
    blazepose = BlazePose.open(
        device=options.device, backend=options.backend, threads=options.threads, max_batch=options.max_people
    )
    return PersonDetector(stack.enter_context(closing(blazepose)), options.max_people)


def supplied_calibration(options: argparse.Namespace, source: Source) -> CameraCalibration | None:
    """What the user says of the camera."""
    if options.calibration is not None:
        return read_calibration_file(options.calibration, source.camera_id, source.size_wh)
    if options.focal is not None:
        return calibration_from_focal(source.camera_id, source.size_wh, options.focal)
    if options.fov is not None:
        return calibration_from_fov(source.camera_id, source.size_wh, options.fov)
    return None


def open_stream(options: argparse.Namespace, source: Source, detector: Detector, body: BodyModel) -> Stream:
    """Every stage behind the source."""
    supplied = supplied_calibration(options, source)
    recovery = LandmarkRecovery(body, options.height)
    # A file's result must not depend on earlier runs, so only cameras have a cache unless one is named
    camera = source.live and not options.realtime
    cached = supplied is None and not options.no_cache and (camera or options.calibration_dir is not None)
    store = CalibrationStore(options.calibration_dir) if cached else None

    def calibrator_for(camera_id: str, size_wh: tuple[int, int]) -> Calibrator:
        initial = store.load(camera_id, size_wh, ESTIMATOR) if store else supplied
        return Calibrator(camera_id, size_wh, initial, recovery.metric_scale)

    keep = store.save if store else lambda calibration: None
    return Stream(detector, calibrator_for, recovery, PoseSmoother(body, options.smoothing), keep)


def open_sinks(options: argparse.Namespace, source: Source, stop: threading.Event, stack: ExitStack) -> list[Sink]:
    """The recording, the overlay and the window that were asked for."""
    sinks: list[Sink] = []
    if options.print:
        sinks.append(PrintSink())
    if options.record:
        sinks.append(RecordSink(stack.enter_context(Recorder(options.record))))
    if options.overlay:
        fps = min(max(source.fps or 30.0, FPS_RANGE[0]), FPS_RANGE[1])
        writer = OverlayWriter(options.overlay, fps, source.size_wh)
        sinks.append(stack.enter_context(closing(OverlaySink(writer, lossless=not source.live))))
    if options.view:
        sinks.append(stack.enter_context(closing(ViewSink(Viewer(f"{source.camera_id} (q quits)"), stop))))
    return sinks


def run(options: argparse.Namespace, stop: threading.Event) -> None:
    """Opens everything, runs until the source ends or `stop` is set, closes everything."""
    with ExitStack() as stack:
        target = parse_spec(options.source).target
        if isinstance(target, Path):
            check_readable(target)  # a wrong name is said at once, not after the networks are built
        camera_id = slug(options.camera_id) if options.camera_id else sanitize_camera_id(options.source)
        body = open_body(options.body)
        publisher = Publisher(camera_id, options.bind, options.curve_keys)
        publish = stack.enter_context(closing(PublishSink(publisher)))
        detector = open_detector(options, stack)
        source = stack.enter_context(
            open_source(options.source, camera_id=camera_id, size_wh=options.size, fps=options.fps,
                        realtime=options.realtime, loop=options.loop)
        )  # fmt: skip
        stream = open_stream(options, source, detector, body)
        # Until here a signal ends the program at once, even inside a driver; from here there is something to lose
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        sinks = [publish, *open_sinks(options, source, stop, stack)]
        line = stack.enter_context(StatusLine(live=False if options.print else None))
        sinks.append(lambda frame, result: line.update(result, state=str(source.state)))

        def idle(source: Source) -> None:
            publish.idle(source)
            if line.live and source.state in (SourceState.STALE, SourceState.RECONNECTING):
                line.message(f"{source.state} · waiting for {source.camera_id}")

        log.info("%s: %dx%d, poses on %s", source.camera_id, *source.size_wh, publisher.address)
        stream.run(source, sinks, stop, idle)
        log.info("%s: %s after %d frames", source.camera_id, "stopped" if stop.is_set() else "ended", publish.frames)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    configure_logging(options.verbose)
    stop = threading.Event()
    try:
        run(options, stop)
    except BrokenPipeError:
        # whoever read our output is gone; without this Python complains again when it flushes at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError) as error:
        log.debug("Where it failed:", exc_info=True)
        sys.stderr.write(f"run_stream.py: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
