"""OpenCV's VideoCapture, opened right for webcams, streams and files, and its pictures as RGB uint8.

FFmpeg decodes inside `grab`, a webcam's driver inside `retrieve`.
"""

from __future__ import annotations

import glob
import logging
import math
import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.source_spec import SourceError, redact
from pipeline.stream_probe import why_no_picture

log = logging.getLogger(__name__)

Image = NDArray[np.uint8]

OPEN_TIMEOUT_S = 5.0
#: After so many pictures in a row that cannot be decoded a video is at its end.
END_AFTER_FAILURES = 64
OPEN_ATTEMPTS = 3
#: Measured on loopback with H.264 at 30 fps: the median age falls from 40 ms to 38 ms, the highest from 600 to 43 ms.
LOW_DELAY_RTSP = (
    "rtsp_transport;tcp|allowed_media_types;video|fflags;nobuffer|flags;low_delay|max_delay;0|reorder_queue_size;0"
    "|probesize;32768|analyzeduration;0"
)
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_WEBCAM_BACKENDS = {
    "Linux": (cv2.CAP_V4L2,),
    "Windows": (cv2.CAP_DSHOW, cv2.CAP_MSMF),
    "Darwin": (cv2.CAP_AVFOUNDATION,),
}
_open_lock = threading.Lock()


class Capture:
    """One opened device, stream or file. For use by one thread at a time; `release` may only come from that one.

    first        the first picture, (H, W, 3) uint8 RGB, already taken
    stamps_ns    of it, as `stamp` gives them
    first_s      its time in the file, as `position_s`
    size_wh      of that picture, after rotation
    fps          nominal frames a second, 30 when it says nothing usable
    frame_count  pictures in a file as its header says, 0 when unknown (streams)
    """

    def __init__(self, video: cv2.VideoCapture, name: str) -> None:
        """Takes the first picture; blocks for as long as the back end waits. Raises SourceError without one."""
        self._video = video
        first, attempts, deadline = None, 0, time.monotonic() + OPEN_TIMEOUT_S
        while first is None and attempts < END_AFTER_FAILURES and time.monotonic() < deadline:
            attempts += 1
            if self.grab():
                self.stamps_ns, self.first_s = self.stamp(), self.position_s()
                first = self.retrieve()
            else:
                time.sleep(0.01)
        if first is None:
            video.release()
            raise SourceError(f"{name} was opened, but gives no picture.")
        self.first = first
        self.size_wh = (first.shape[1], first.shape[0])
        fps = video.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if math.isfinite(fps) and 1.0 <= fps <= 1000.0 else 30.0
        count = video.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if math.isfinite(count) and count > 0 else 0

    def grab(self) -> bool:
        """Takes the next picture, blocking until there is one. False at the end, after an error or a time-out."""
        try:
            return self._video.grab()
        except cv2.error:
            return False

    def retrieve(self) -> Image | None:
        """The picture last grabbed, (H, W, 3) uint8 RGB, or None when it cannot be decoded."""
        try:
            ok, image = self._video.retrieve()
        except cv2.error:
            return None
        return to_rgb(image) if ok and image is not None and image.size else None

    def position_s(self) -> float:
        """Time of the picture last grabbed in its file, seconds; nan when the back end does not know."""
        milliseconds = self._video.get(cv2.CAP_PROP_POS_MSEC)
        return milliseconds / 1e3 if math.isfinite(milliseconds) else math.nan

    def stamp(self) -> tuple[int, int]:
        """When the picture just grabbed was taken, and now, both on the monotonic clock.

        V4L2 drivers stamp a picture when its exposure begins or ends; elsewhere it counts as taken now.
        """
        now = time.monotonic_ns()
        if self._video.getBackendName() != "V4L2":
            return now, now
        taken = int(self._video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return (taken if 0 <= now - taken < 500_000_000 else now), now

    def release(self) -> None:
        """Gives the device or connection back."""
        self._video.release()


def to_rgb(image: NDArray[Any]) -> Image:
    """RGB uint8 (H, W, 3) of what OpenCV decodes: grey, BGR or BGRA of 8 or 16 bits."""
    eight = np.asarray(image >> 8, np.uint8) if image.dtype == np.uint16 else np.asarray(image, np.uint8)
    channels = 1 if eight.ndim == 2 else eight.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    return np.asarray(cv2.cvtColor(eight, code), np.uint8)


def quiet_opencv() -> None:
    """Keeps OpenCV's and FFmpeg's own lines off the terminal, where the user's own settings do not ask for them.

    FFmpeg reads its variable once, when the first video is opened; so does V4L2 the seconds it waits for a picture.
    """
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")


def _open(target: int | str, backend: int, parameters: list[int], options: str | None = None) -> cv2.VideoCapture:
    """The one gate to VideoCapture. FFmpeg's options can only be given through the environment of the process, so
    they are set for the time of one opening, and no other opening of ours happens meanwhile (OpenCV's own lock would
    make it wait as well). What the user has set himself stays."""
    quiet_opencv()
    with _open_lock:
        if options is None or _OPTIONS in os.environ:
            return cv2.VideoCapture(target, backend, parameters)
        os.environ[_OPTIONS] = options
        try:
            return cv2.VideoCapture(target, backend, parameters)
        finally:
            del os.environ[_OPTIONS]


def open_file(path: Path | str) -> Capture:
    """A video file. Raises SourceError when it holds no video that can be decoded; says why where that can be seen."""
    threads = min(4, os.cpu_count() or 1)
    video = _open(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
    if not video.isOpened():
        raise SourceError(
            f"{path} is no video that can be decoded, or it is cut off; try it in a player, or convert it: "
            f"ffmpeg -i {Path(path).name} out.mp4."
        )
    return Capture(video, str(path))


def open_stream(address: str, read_timeout_s: float) -> Capture:
    """An RTSP or HTTP address. Blocks for at most `OPEN_TIMEOUT_S`, and some seconds more to find a failure's reason.

    One decoding thread, because FFmpeg's threads hold back a picture each. Raises SourceError with the reason.
    """
    parameters = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_TIMEOUT_S * 1e3),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(read_timeout_s * 1e3),
        cv2.CAP_PROP_N_THREADS, 1,
    ]  # fmt: skip
    options = LOW_DELAY_RTSP if address.lower().startswith("rtsp") else None
    attempts = 0
    while True:
        attempts += 1
        video = _open(address, cv2.CAP_FFMPEG, parameters, options)
        if not video.isOpened():
            raise SourceError(f"Cannot open {redact(address)}: {why_no_picture(address)}")
        try:
            return Capture(video, redact(address))
        except SourceError:
            # A server that has just begun may let the first picture wait for longer than a live one may
            if attempts == OPEN_ATTEMPTS:
                raise


def open_webcam(device: int | str, size_wh: tuple[int, int] | None, fps: float | None) -> Capture:
    """A camera by number or, on Linux, device path, asked for `size_wh` and `fps`; what it gives instead is logged.

    Raises SourceError with what can be found out: no such device, no permission, in use.
    """
    backends = _WEBCAM_BACKENDS.get(platform.system(), (cv2.CAP_ANY,))
    for backend in backends:
        video = _open(device, backend, [])
        if video.isOpened():
            break
    else:
        raise SourceError(_why_no_webcam(device))
    # most USB cameras give more than 640x480 at full rate only as motion JPEG
    if (size_wh and size_wh[0] * size_wh[1] > 640 * 480) or (fps and fps > 30):
        video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    if size_wh:
        video.set(cv2.CAP_PROP_FRAME_WIDTH, size_wh[0])
        video.set(cv2.CAP_PROP_FRAME_HEIGHT, size_wh[1])
    if fps:
        video.set(cv2.CAP_PROP_FPS, fps)
    try:
        capture = Capture(video, f"Camera {device}")
    except SourceError as error:
        raise SourceError(f"{error} Another program may be using it: close that one and try again.") from None
    if (size_wh and size_wh != capture.size_wh) or (fps and abs(fps - capture.fps) > 0.5):
        asked = f"{size_wh[0]}x{size_wh[1]}" if size_wh else "any size"
        log.warning(
            "camera %s was asked for %s at %s fps and gives %dx%d at %g fps",
            device, asked, f"{fps:g}" if fps else "any", *capture.size_wh, capture.fps,
        )  # fmt: skip
    return capture


def _why_no_webcam(device: int | str) -> str:
    if platform.system() != "Linux":
        extra = " and allowed for this program in the privacy settings" if platform.system() == "Darwin" else ""
        return f"Camera {device} cannot be opened: check that it is plugged in, used by no other program{extra}."
    path = f"/dev/video{device}" if isinstance(device, int) else device
    present = sorted(glob.glob("/dev/video*"))
    others = f"the cameras here are {', '.join(present)}" if present else "there is no camera on this machine"
    if not os.path.exists(path):
        return f"There is no camera {path}: {others}; plug one in, or try --source demo."
    if not os.access(path, os.R_OK | os.W_OK):
        return f"You may not open {path}: type sudo usermod -aG video $USER, then log in again."
    return (
        f"{path} is there, but cannot be opened as a camera: {others} (a USB camera often has a second device without "
        "pictures), and no other program may be using it."
    )
