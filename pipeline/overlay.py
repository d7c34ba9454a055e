"""The stream made visible: `draw` puts a result on its picture, `OverlayWriter` keeps it as video, `Viewer` shows it.

None of it is needed for poses to go out; a failure in here is a sentence in the log and the stream goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.drawing import Image, draw, drawing_size

__all__ = ["OverlayWriter", "Viewer", "draw", "drawing_size", "screen_problem"]

logger = logging.getLogger(__name__)

FPS_RANGE = (1.0, 240.0)
#: A longer silence of the source is not filled with still pictures.
LONGEST_STILL_S = 2.0

_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"
_PROBE_TIMEOUT_S = 20.0


class _Sink:
    """A file for the muxer that keeps its first error to itself and takes nothing after it.

    FFmpeg's MP4 muxer crashes the process when it is closed after a failed write, so it must not see one; what was
    written before stays a playable file.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError when the file cannot be made."""
        self._file = path.open("wb", buffering=0)
        self._at = 0
        self._whole = 0
        self.name = str(path)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        self._at += len(rest)
        try:
            while len(rest) and self.error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self.error is None:
            self._at = self._file.seek(offset, whence)
        else:
            self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def mark(self) -> None:
        """Says that the file is whole up to here: after an error it is cut to this length."""
        if self.error is None:
            self._whole = self._at

    def close(self) -> None:
        if self.error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._whole)
        self._file.close()


class OverlayWriter:
    """Writes pictures as H.264 in MP4 at a constant frame rate. Not for use by two threads.

    The file is written in fragments of one second and made an ordinary MP4 by `close`: browsers play it, and after a
    kill all but the last second or so can be played. The frame rate is kept by capture times: a picture is repeated
    where some are missing, and left out where there are too many.
    """

    def __init__(self, path: str | Path, fps: float, size_wh: tuple[int, int]) -> None:
        """`size_wh`: pixels of the source; the video has `drawing_size(size_wh)`, made even by repeating an edge.

        Makes the folder. Raises ValueError for a name that does not end in .mp4 or a frame rate outside FPS_RANGE,
        OSError when the file cannot be written.
        """
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"An overlay is written as MP4: expected a name that ends in .mp4, got {self.path}.")
        if not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
            raise ValueError(f"Overlay frame rate: expected {FPS_RANGE[0]:g} to {FPS_RANGE[1]:g}, got {fps}.")
        self.size_wh = drawing_size(size_wh)
        self.frames_written = 0
        self._rate = Fraction(fps).limit_denominator(1001)
        self._start_ns: int | None = None
        self._last: av.VideoFrame | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = _Sink(self.path)
        except OSError as error:
            raise OSError(
                f"The overlay {self.path} cannot be written ({error.strerror}); name a file in a folder of yours."
            ) from error
        options = {"movflags": "hybrid_fragmented", "flush_packets": "1"}
        self._container: av.container.OutputContainer | None = av.open(self._sink, "w", "mp4", options=options)
        self._stream = self._open_stream(self._container)

    def _open_stream(self, container: av.container.OutputContainer) -> av.VideoStream:
        stream = container.add_stream("libx264", rate=self._rate, options={"preset": "ultrafast", "crf": "23"})
        stream.width, stream.height = (side + side % 2 for side in self.size_wh)
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.gop_size = max(1, round(self._rate))
        codec.max_b_frames = 0
        codec.thread_count = 2
        # what OpenCV's RGB to I420 gives: BT.601, studio range
        codec.colorspace, codec.color_range = 6, 1
        codec.color_primaries, codec.color_trc = 6, 6
        return stream

    def write(self, image_rgb: Image, t_capture_ns: int) -> None:
        """Adds a picture (H, W, 3) uint8 RGB taken at `t_capture_ns`.

        A picture of another size is fitted in with black bars. A clock that goes back, or stands still for longer than
        LONGEST_STILL_S, goes on at once. A disk that is full ends the video with one logged error, never the stream.
        """
        if self._container is None:
            return
        if self._start_ns is None:
            self._start_ns = t_capture_ns
        slot = round((t_capture_ns - self._start_ns) * self._rate / 1_000_000_000)
        limit = round(LONGEST_STILL_S * self._rate)
        missing = slot - self.frames_written
        if missing > limit or missing < -limit:
            logger.info("The overlay leaves out %.1f s without pictures.", missing / self._rate)
            self._start_ns += round(missing / self._rate * 1_000_000_000)
            missing = 0
        if missing < 0:
            return
        frame = av.VideoFrame.from_ndarray(self._i420(image_rgb), format="yuv420p")
        for _ in range(missing):
            self._encode(self._last or frame)
        self._encode(frame)
        self._last = frame
        if self._sink.error:
            self.close()

    def _encode(self, frame: av.VideoFrame) -> None:
        if self._container is None:
            return
        frame.pts, frame.time_base = self.frames_written, 1 / self._rate
        self._container.mux(self._stream.encode(frame))
        self._sink.mark()
        self.frames_written += 1

    def _i420(self, image_rgb: Image) -> NDArray[np.uint8]:
        """I420 (3 H / 2, W) of the video's size; OpenCV converts five times faster than PyAV does."""
        width, height = self.size_wh
        if image_rgb.shape[:2] != (height, width):
            scale = min(width / image_rgb.shape[1], height / image_rgb.shape[0])
            inner = (max(1, round(image_rgb.shape[1] * scale)), max(1, round(image_rgb.shape[0] * scale)))
            fitted = cv2.resize(image_rgb, inner, interpolation=cv2.INTER_AREA)
            left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
            right, bottom = width - inner[0] - left, height - inner[1] - top
            image_rgb = np.pad(fitted, ((top, bottom), (left, right), (0, 0)))
        if width % 2 or height % 2:
            image_rgb = np.pad(image_rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        return np.asarray(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)

    def close(self) -> None:
        """Ends the file; a second call does nothing. Never raises: what could not be written is a logged error."""
        container, self._container = self._container, None
        if container is None:
            return
        container.mux(self._stream.encode(None))
        container.close()
        self._sink.close()
        if self._sink.error:
            logger.error("The overlay %s ends early, the stream goes on: %s", self.path, self._sink.error)

    def __enter__(self) -> OverlayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def screen_problem() -> str | None:
    """Why no window can be opened here, as a sentence, or None.

    On Linux a short-lived process opens one first: the window library ends the whole process when it cannot.
    """
    advice = "leave out --view, or write a video with --overlay out.mp4."
    if not sys.platform.startswith("linux"):
        return None
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return f"There is no screen (DISPLAY is not set); {advice}"
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"The screen {os.environ.get('DISPLAY', '')} does not answer; {advice}"
    if probe.returncode:
        logger.debug("The trial window ended with %d: %s", probe.returncode, probe.stderr.decode(errors="replace"))
        return f"No window can be opened on screen {os.environ.get('DISPLAY') or 'of Wayland'}; {advice}"
    return None


class Viewer:
    """A window with the latest picture. Made and used by the main thread only."""

    def __init__(self, title: str) -> None:
        """Raises OSError with one sentence where there is no screen."""
        problem = screen_problem()
        if problem:
            raise OSError(problem)
        self.title = title
        self._opened = False
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # it misses fonts that are not needed
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise OSError("This OpenCV has no windows; install opencv-contrib-python, or leave out --view.") from error

    def show(self, image_rgb: Image) -> bool:
        """Shows a picture (H, W, 3) uint8 RGB without waiting; False once q or Esc was typed or the window closed."""
        if self._opened and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1:
            return False
        if not self._opened:
            scale = min(1.0, 1280 / image_rgb.shape[1], 800 / image_rgb.shape[0])
            cv2.resizeWindow(self.title, round(image_rgb.shape[1] * scale), round(image_rgb.shape[0] * scale))
            self._opened = True
        cv2.imshow(self.title, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
        return cv2.pollKey() & 0xFF not in (ord("q"), ord("Q"), 27)

    def close(self) -> None:
        """Takes the window away; a second call does nothing."""
        if self._opened:
            self._opened = False
            cv2.destroyAllWindows()
            cv2.pollKey()
