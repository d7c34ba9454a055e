"""The command line of `run_stream.py`, apart from what it does with it."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.publisher import DEFAULT_BIND
from pipeline.smoothing import LEVELS

RECOVERIES = ("auto", "landmark")
DETECTORS = ("blazepose", "mediapipe")

EXAMPLES = """examples:
  python run_stream.py --source 0                                 the first webcam
  python run_stream.py --source rtsp://user:password@host/stream  a network camera
  python run_stream.py --source clip.mp4 --overlay out/clip.mp4   a file, and a video to look at
  python run_stream.py --source demo                              no camera needed
  python -m pipeline.messages                                     in another terminal: what is published
"""


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) > 0 and int(height) > 0):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT like 1280x720, got {text!r}")
    return int(width), int(height)


def _number(low: float, high: float, unit: str) -> object:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low:g} to {high:g} {unit}, got {text!r}")
        return value

    return parse


def _people(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 8:
        raise argparse.ArgumentTypeError(f"expected 1 to 8 people, got {text!r}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The argument parser; every option says its unit and default."""
    p = argparse.ArgumentParser(
        prog="run_stream.py", description="Live world-space human motion capture from one camera.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    video = p.add_argument_group("video in")
    video.add_argument("--source", required=True, metavar="S",
                       help="webcam index or device, rtsp://, http://, video file, folder of images, demo, demo:two")
    video.add_argument("--camera-id", metavar="NAME", help="name in topics and cache (default: made from the source)")
    video.add_argument("--size", type=_size, metavar="WxH", help="ask the webcam for this size")
    video.add_argument("--fps", type=_number(1, 1000, "frames a second"), help="ask the webcam for this rate")
    video.add_argument("--realtime", action="store_true", help="pace a file like a camera, and drop frames like one")
    video.add_argument("--loop", action="store_true", help="start a file over at its end")
    people = p.add_argument_group("people")
    people.add_argument("--max-people", type=_people, default=4, metavar="N", help="1 to 8 (default 4)")
    people.add_argument("--height", type=_number(0.5, 2.5, "metres"), metavar="M",
                        help="true height of the people in metres; fixes the scale of everything")
    people.add_argument("--detector", choices=DETECTORS, default=DETECTORS[0],
                        help="mediapipe is MediaPipe's own PoseLandmarker, slower (default %(default)s)")
    people.add_argument("--recovery", choices=RECOVERIES, default="auto", help="auto takes the best there is: landmark")
    people.add_argument("--body", default="default", metavar="B",
                        help="default, or smpl=FILE for your own SMPL model (through smplx: not for commercial use)")
    people.add_argument("--smoothing", choices=tuple(LEVELS), default="default")
    camera = p.add_argument_group("calibration")
    given = camera.add_mutually_exclusive_group()
    given.add_argument("--calibration", type=Path, metavar="FILE", help="OpenCV FileStorage or ROS camera_info")
    given.add_argument("--focal", type=_number(1, 1e6, "pixels"), metavar="PX", help="focal length in pixels")
    given.add_argument("--fov", type=_number(1, 179, "degrees"), metavar="DEG", help="horizontal field of view")
    camera.add_argument("--calibration-dir", type=Path, metavar="DIR",
                        help="where calibrations are kept (default: calibration_cache/store, and none for files)")
    camera.add_argument("--no-cache", action="store_true", help="neither use nor keep a cached calibration")
    out = p.add_argument_group("out")
    out.add_argument("--bind", default=DEFAULT_BIND, metavar="ADDR", help="ZeroMQ address (default %(default)s)")
    out.add_argument("--curve-keys", type=Path, metavar="DIR", help="only clients with a key of this folder may listen")
    out.add_argument("--overlay", type=Path, metavar="MP4", help="write a video with skeletons, horizon and floor")
    out.add_argument("--view", action="store_true", help="show that in a window")
    out.add_argument("--print", action="store_true", help="print the poses, twice a second")
    out.add_argument("--record", type=Path, metavar="NPZ", help="keep every published pose")
    machine = p.add_argument_group("machine")
    machine.add_argument("--device", default="cpu", help="device of the networks (default %(default)s)")
    machine.add_argument("--backend", default="auto", help="auto, openvino or onnxruntime")
    machine.add_argument("--threads", type=int, metavar="N", help="threads of the networks (default: half the cores)")
    machine.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    return p
