"""The command line of `run_stream.py`, apart from what it does with it."""

from __future__ import annotations

import argparse
import ctypes
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline.control import DEFAULT_CONTROL
from pipeline.publisher import DEFAULT_BIND
from pipeline.smoothing import LEVELS

log = logging.getLogger(__name__)

RECOVERIES = ("auto", "landmark", "landmark-analytic", "whmr")
DETECTORS = ("blazepose", "mediapipe")
BACKENDS = ("auto", "openvino", "onnx")
#: Those that run whmr's networks only; the detector's are then chosen by "auto".
NETWORK_BACKENDS = ("tensorrt", "torch", "torch_compile")

EXAMPLES = """examples:
  python run_stream.py --source 0                                 the first webcam
  python run_stream.py --source rtsp://user:password@host/stream  a network camera
  python run_stream.py --source clip.mp4 --overlay out/clip.mp4   a file, and a video to look at
  python run_stream.py --source demo                              no camera needed
  python -m pipeline.messages                                     in another terminal: what is published
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the dozen lines of usage that hide it; finds the device."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        options, rest = super().parse_known_args(args, namespace)
        if options.device is None:
            options.device = "cuda" if options.weights and options.recovery in ("auto", "whmr") and gpus() else "cpu"
        return options, rest

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; type --help for the options.\n")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) > 0 and int(height) > 0):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT like 1280x720, got {text!r}")
    return int(width), int(height)


def _number(low: float, high: float, unit: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low:g} to {high:g} {unit}, got {text!r}")
        return value

    return parse


def gpus() -> int:
    """How many NVIDIA GPUs there are, asked of the driver itself: 0 without one."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


def _people(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 8:
        raise argparse.ArgumentTypeError(f"expected 1 to 8 people, got {text!r}")
    return int(text)


def _threads(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more threads, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port, 1 to 65535, got {text!r}")
    return int(text)


def _video_in(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    inputs = "webcam index or device, rtsp://, http://, video file, folder of images, demo, demo:two"
    add("--source", required=True, metavar="S", help=inputs)
    add("--camera-id", metavar="NAME", help="name in topics and cache (default: made from the source)")
    add("--size", type=_size, metavar="WxH", help="ask the webcam for this size")
    rate = _number(1, 1000, "frames a second")
    add("--fps", type=rate, help="ask the webcam for this rate, or play a folder of images at it")
    add("--realtime", action="store_true", help="pace a file like a camera, and drop frames like one")
    add("--loop", action="store_true", help="start a file over at its end")


def _people_in_view(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--max-people", type=_people, default=4, metavar="N", help="1 to 8 (default 4)")
    height = "true height of the people in metres; fixes the scale of everything"
    add("--height", type=_number(0.5, 2.5, "metres"), metavar="M", help=height)
    detector = "mediapipe is MediaPipe's own PoseLandmarker, slower (default %(default)s)"
    add("--detector", choices=DETECTORS, default=DETECTORS[0], help=detector)
    recovery = (
        "auto: whmr where weights and a GPU are named, else landmark; landmark-analytic is without networks of ours"
    )
    add("--recovery", choices=RECOVERIES, default="auto", help=recovery)
    add("--weights", metavar="W", help="of whmr: checkpoint, .safetensors file, or synthetic (poses mean nothing)")
    add("--markers", type=Path, metavar="NPY", help="W-HMR's smpl_ssm.npy, unless the weights note it")
    add("--engines", type=Path, metavar="DIR", help="where whmr's engines lie (default: engines/store/whmr)")
    body = "default, or smpl=FILE for your own SMPL model (through smplx: not for commercial use)"
    add("--body", default="default", metavar="B", help=body)
    smoothing = "steadier and later, or livelier (default %(default)s)"
    add("--smoothing", choices=tuple(LEVELS), default="default", help=smoothing)


def _calibration(group: argparse._ArgumentGroup) -> None:
    given = group.add_mutually_exclusive_group()
    given.add_argument("--calibration", type=Path, metavar="FILE", help="OpenCV FileStorage or ROS camera_info")
    given.add_argument("--focal", type=_number(1, 1e6, "pixels"), metavar="PX", help="focal length in pixels")
    given.add_argument("--fov", type=_number(1, 179, "degrees"), metavar="DEG", help="horizontal field of view")
    folder = "where calibrations are kept (default: calibration_cache/store, and none for files)"
    group.add_argument("--calibration-dir", type=Path, metavar="DIR", help=folder)
    group.add_argument("--no-cache", action="store_true", help="neither use nor keep a cached calibration")


def _out(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--bind", default=DEFAULT_BIND, metavar="ADDR", help="ZeroMQ address (default %(default)s)")
    add("--curve-keys", type=Path, metavar="DIR", help="only clients with a key of this folder may listen")
    add("--overlay", type=Path, metavar="MP4", help="write a video with skeletons, horizon and floor")
    add("--view", action="store_true", help="show that in a window")
    add("--print", action="store_true", help="print the poses, twice a second")
    add("--record", type=Path, metavar="FILE", help="keep every pose: .npz (arrays) or .mcap (python -m bridges.play)")
    viewer = "show it live in a browser, at http://127.0.0.1:PORT (default port %(const)s; needs viser)"
    add("--viewer", type=_port, nargs="?", const=8080, metavar="PORT", help=viewer)
    add(
        "--control", metavar="ADDR", help="take commands of python -m pipeline.control, for instance " + DEFAULT_CONTROL
    )
    takes = "where recordings go that are started while it runs (default %(default)s)"
    add("--takes", type=Path, default=Path("out"), metavar="DIR", help=takes)


def _machine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", help="of the networks: cpu, cuda, cuda:1 (default: cuda where --weights and a GPU are, else cpu)")
    backend = "what runs the networks, tensorrt and torch whmr's only (default %(default)s)"
    add("--backend", choices=(*BACKENDS, *NETWORK_BACKENDS), default="auto", help=backend)
    precision = "of whmr's networks (default: fp16 on a GPU, else fp32)"
    add("--precision", choices=("fp32", "fp16"), help=precision)
    add("--threads", type=_threads, metavar="N", help="of the networks (default: one a physical core)")
    add("-v", "--verbose", action="count", default=0, help="say more")


def recovery_of(options: argparse.Namespace) -> str:
    """The recovery that the options ask for: "landmark", "landmark-analytic" or "whmr".

    Raises ValueError where they contradict one another.
    """
    landmarks = options.recovery.startswith("landmark")
    if landmarks and (options.weights or options.markers):
        raise ValueError(
            f"--weights and --markers are whmr's: expected --recovery whmr with them, got {options.recovery}."
        )
    if options.markers and not options.weights:
        raise ValueError("--markers belongs to --weights: expected --weights FILE beside it, got none.")
    if options.recovery == "whmr" and not options.weights:
        raise ValueError(
            "--recovery whmr: expected the network's weights, --weights FILE (README, Official weights) or "
            "--weights synthetic to try it without, got none."
        )
    if not options.weights and (options.backend in NETWORK_BACKENDS or options.precision):
        what = f"--backend {options.backend}" if options.backend in NETWORK_BACKENDS else "--precision"
        raise ValueError(
            f"{what} is for whmr's networks: expected --recovery whmr --weights FILE with it, got neither."
        )
    if options.recovery == "auto" and not (options.weights and options.device.startswith("cuda")):
        if options.weights:
            log.warning("--recovery auto takes whmr on a GPU only, and here is none: type --recovery whmr for it.")
        return "landmark"
    if landmarks:
        return str(options.recovery)
    if options.body != "default":
        raise ValueError(
            f"--body {options.body}: the whmr recovery brings the body that is inside its weights; leave out --body."
        )
    return "whmr"


_GROUPS = {
    "video in": _video_in,
    "people": _people_in_view,
    "calibration": _calibration,
    "out": _out,
    "machine": _machine,
}


def parser() -> argparse.ArgumentParser:
    """The argument parser; every option says its unit and default."""
    p = _Parser(
        prog="run_stream.py",
        description="Live world-space human motion capture from one camera.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for title, add_options in _GROUPS.items():
        add_options(p.add_argument_group(title))
    return p
