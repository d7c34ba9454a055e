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
from functools import partial
from pathlib import Path

from calibration_cache.store import CalibrationStore
from calibration_cache.supplied import supplied_calibration
from engines.blazepose import BlazePose
from engines.mediapipe_reference import MediaPipeReference
from engines.runtime import EngineError
from pipeline.body import BodyModel, open_body
from pipeline.calibration import ESTIMATOR, Calibrator
from pipeline.commands import open_commands
from pipeline.console import StatusLine, configure_logging
from pipeline.detector import MediaPipeDetector, PersonDetector
from pipeline.options import BACKENDS, parser, recovery_of
from pipeline.publisher import Publisher
from pipeline.recovery import LandmarkRecovery
from pipeline.sinks import PublishSink, open_sinks
from pipeline.smoothing import PoseSmoother
from pipeline.source import Source, SourceState, open_source, sanitize_camera_id
from pipeline.source_spec import parse_spec, slug
from pipeline.stream import Calibrates, Detector, Sink, Stream
from pipeline.video_file import check_readable
from pipeline.whmr_body import body_of
from pipeline.whmr_calibration import ESTIMATOR as WHMR_ESTIMATOR
from pipeline.whmr_calibration import WhmrCalibrator
from pipeline.whmr_orientation import NetworkOrientation
from pipeline.whmr_recovery import Network, WhmrRecovery

log = logging.getLogger("run_stream")


def open_detector(options: argparse.Namespace, stack: ExitStack) -> Detector:
    """The networks that find people, built and warmed."""
    if options.detector == "mediapipe":
        return MediaPipeDetector(stack.enter_context(closing(MediaPipeReference(options.max_people))))
    backend = options.backend if options.backend in BACKENDS else "auto"
    open_on = partial(BlazePose.open, backend=backend, threads=options.threads, max_batch=options.max_people)
    try:
        blazepose = open_on(device=options.device)
    except EngineError as error:
        if not options.weights or options.device == "cpu":
            raise
        log.warning("The detector's networks run on the CPU, and whmr's alone on %s: %s", options.device, error)
        blazepose = open_on(device="cpu")
    return PersonDetector(stack.enter_context(closing(blazepose)), options.max_people)


def open_network(options: argparse.Namespace, stack: ExitStack) -> Network:
    """W-HMR's engines, built and warmed; PyTorch is imported for no other recovery."""
    try:
        from engines.whmr.live import WhmrEngines
    except ImportError as error:
        raise ImportError(f"--recovery whmr needs PyTorch ({error}): pip install -r requirements.txt") from error
    network = WhmrEngines.open(options.weights, options.markers, options.engines, options.device, options.backend,
        options.precision or ("fp32" if options.device == "cpu" else "fp16"), options.threads)  # fmt: skip
    stack.enter_context(closing(network)).warm(options.max_people)
    return network


def open_stream(
    options: argparse.Namespace, source: Source, detector: Detector, body: BodyModel, network: Network | None = None
) -> Stream:
    """Every stage behind the source; with W-HMR's recovery where there is its network, whose body `body` is."""
    supplied = supplied_calibration(source.camera_id, source.size_wh, options.calibration, options.focal, options.fov)
    whmr = WhmrRecovery(network, body, options.height) if network else None
    recovery = whmr or LandmarkRecovery(body, options.height)
    # A file's result must not depend on earlier runs, so only cameras have a cache unless one is named
    camera = source.live and not options.realtime
    cached = supplied is None and not options.no_cache and (camera or options.calibration_dir is not None)
    store = CalibrationStore(options.calibration_dir) if cached else None

    def calibrator_for(camera_id: str, size_wh: tuple[int, int]) -> Calibrates:
        initial = store.load(camera_id, size_wh, WHMR_ESTIMATOR if whmr else ESTIMATOR) if store else supplied
        calibrator = Calibrator(camera_id, size_wh, initial, recovery.metric_scale)
        return WhmrCalibrator(calibrator, network.camera, whmr.take_sightings) if network and whmr else calibrator

    return Stream(detector, calibrator_for, recovery, PoseSmoother(body, options.smoothing), store,
                  NetworkOrientation() if whmr else None)  # fmt: skip


def run(options: argparse.Namespace, stop: threading.Event) -> None:
    """Opens everything, runs until the source ends or `stop` is set, closes everything."""
    with ExitStack() as stack:
        if isinstance(target := parse_spec(options.source).target, Path):
            check_readable(target)  # a wrong name is said at once, not after the networks are built
        camera_id = slug(options.camera_id) if options.camera_id else sanitize_camera_id(options.source)
        network = open_network(options, stack) if recovery_of(options) == "whmr" else None
        body = body_of(network.smpl, str(options.weights)) if network else open_body(options.body)
        publisher = Publisher(camera_id, options.bind, options.curve_keys, body)
        publish = stack.enter_context(closing(PublishSink(publisher)))
        detector = open_detector(options, stack)
        opened = open_source(options.source, camera_id=camera_id, size_wh=options.size, fps=options.fps,
                             realtime=options.realtime, loop=options.loop)  # fmt: skip
        source = stack.enter_context(opened)
        stream = open_stream(options, source, detector, body, network)
        # Until here a signal ends the program at once, even inside a driver; from here there is something to lose
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        told, serve = open_commands(options, stream, camera_id, publisher.address, stack)
        sinks: list[Sink] = [publish, *told, *open_sinks(options, source, stop, stack)]
        line = stack.enter_context(StatusLine(live=False if options.print else None))
        sinks.append(lambda frame, result: line.update(result, state=str(source.state)))

        def idle(source: Source) -> None:
            serve()
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
