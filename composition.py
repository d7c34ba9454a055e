"""What `run_stream.py` puts together: networks, detector, calibrator and stages, as the options say."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack, closing
from functools import partial

from calibration_cache.store import CalibrationStore
from calibration_cache.supplied import supplied_calibration
from engines.blazepose import BlazePose
from engines.landmark_networks import open_networks
from engines.mediapipe_reference import MediaPipeReference
from engines.runtime import EngineError
from pipeline.body import BodyModel
from pipeline.calibration import Calibrator
from pipeline.calibration_unknown import ESTIMATOR
from pipeline.detector import MediaPipeDetector, PersonDetector
from pipeline.landmark_net import NETWORK_FILE, LandmarkReader, Networks
from pipeline.options import BACKENDS, recovery_of
from pipeline.recovery import LandmarkRecovery
from pipeline.smoothing import PoseSmoother
from pipeline.source import Source
from pipeline.stream import Calibrates, Detector, Stream
from pipeline.whmr_calibration import ESTIMATOR as WHMR_ESTIMATOR
from pipeline.whmr_calibration import WhmrCalibrator
from pipeline.whmr_orientation import NetworkOrientation
from pipeline.whmr_recovery import Network, WhmrRecovery

log = logging.getLogger(__name__)


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


def open_trained(options: argparse.Namespace, stack: ExitStack) -> Networks | None:
    """The networks trained on landmarks, built and warmed; None for another recovery."""
    if recovery_of(options) != "landmark":
        return None
    backend = options.backend if options.backend in BACKENDS else "auto"
    # The corrector is left out: on real clips standing says better what is upright (docs/model_card.md)
    return Networks(*open_networks((NETWORK_FILE,), stack, backend, max_batch=options.max_people))


def open_stream(
    options: argparse.Namespace,
    source: Source,
    detector: Detector,
    body: BodyModel,
    network: Network | None = None,
    trained: Networks | None = None,
) -> Stream:
    """Every stage behind the source.

    With W-HMR's recovery where there is its `network`, whose body `body` is; else from landmarks, with the networks
    `trained` on them or without.
    """
    supplied = supplied_calibration(source.camera_id, source.size_wh, options.calibration, options.focal, options.fov)
    reader = LandmarkReader(trained.reads) if trained else None
    whmr = WhmrRecovery(network, body, options.height) if network else None
    recovery = whmr or LandmarkRecovery(body, options.height, reader=reader)
    # A file's result must not depend on earlier runs, so only cameras have a cache unless one is named
    camera = source.live and not options.realtime
    cached = supplied is None and not options.no_cache and (camera or options.calibration_dir is not None)
    store = CalibrationStore(options.calibration_dir) if cached else None

    def calibrator_for(camera_id: str, size_wh: tuple[int, int]) -> Calibrates:
        initial = store.load(camera_id, size_wh, WHMR_ESTIMATOR if whmr else ESTIMATOR) if store else supplied
        # The analytic recovery is what landmarks alone say: no networks, no lines of the picture
        lines = network is not None or trained is not None
        calibrator = Calibrator(camera_id, size_wh, initial, recovery.metric_scale, reader, lines)
        return WhmrCalibrator(calibrator, network.camera, whmr.take_sightings) if network and whmr else calibrator

    return Stream(detector, calibrator_for, recovery, PoseSmoother(body, options.smoothing), store,
                  NetworkOrientation() if whmr else None)  # fmt: skip
