"""Recorded pictures: a video file or a folder of images, every frame in order or paced like a camera."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from pipeline.capture import END_AFTER_FAILURES, Capture, Image
from pipeline.handover import LatestSlot, LosslessQueue
from pipeline.limited_log import LimitedLog
from pipeline.source_base import Source, SourceState
from pipeline.source_spec import IMAGE_SUFFIXES, SourceError
from pipeline.types import Frame

log = logging.getLogger(__name__)


class Pictures(Protocol):
    """Recorded pictures that can be gone through again and again."""

    size_wh: tuple[int, int]
    fps: float

    def play(self) -> Iterator[tuple[float, Image | None]]:
        """Seconds from the start, strictly rising, and the picture, (H, W, 3) uint8 RGB, or None for a damaged one.

        Raises SourceError when the rest cannot be read.
        """

    def close(self) -> None:
        """Closes what a `play` that was not gone through to its end has open."""


class VideoFile:
    """A video, decoded as it is played. Times are those in the file, so variable frame rates come out right."""

    def __init__(self, capture: Capture, reopen: Callable[[], Capture], name: str) -> None:
        """Takes over an opened `capture`; `reopen` opens it again for another time through, or raises SourceError."""
        self._capture: Capture | None = capture
        self._reopen = reopen
        self._name = name
        self.size_wh, self.fps = capture.size_wh, capture.fps

    def play(self) -> Iterator[tuple[float, Image | None]]:
        capture = self._capture or self._reopen()
        self._capture = capture
        time_s, damaged, count = max(0.0, _or(capture.first_s, 0.0)), 0, 1
        yield time_s, capture.first
        while damaged < END_AFTER_FAILURES:
            image = capture.retrieve() if capture.grab() else None
            if image is None:
                damaged += 1
                continue
            position_s = capture.position_s()
            step_s = position_s - time_s if position_s > time_s else 1.0 / self.fps
            for lost in range(damaged):
                yield time_s + step_s * (lost + 1) / (damaged + 1), None
            time_s, count, damaged = time_s + step_s, count + damaged + 1, 0
            yield time_s, image
        if count < 0.9 * capture.frame_count:
            log.warning(
                "%s ends after %d of %d frames: the rest is damaged or missing", self._name, count, capture.frame_count
            )
        self.close()

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def _or(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


class ImageFolder:
    """The images of a folder in the order a person would number them (2 before 10), or one image."""

    def __init__(self, path: Path, fps: float = 30.0) -> None:
        """Raises SourceError when there is no image in the folder, or none that can be read."""
        self._paths = sorted(_images_in(path), key=_natural)
        if not self._paths:
            kinds = " ".join(sorted(IMAGE_SUFFIXES))
            raise SourceError(f"{path} has no image in it: expected a folder with files that end in {kinds}.")
        first = next((image for image in map(read_image, self._paths) if image is not None), None)
        if first is None:
            raise SourceError(f"{path}: none of its {len(self._paths)} images can be read; open one to see why.")
        self.size_wh, self.fps = (first.shape[1], first.shape[0]), fps

    def play(self) -> Iterator[tuple[float, Image | None]]:
        for index, path in enumerate(self._paths):
            image = read_image(path)
            if image is not None and (image.shape[1], image.shape[0]) != self.size_wh:
                raise SourceError(
                    f"{path} is {image.shape[1]}x{image.shape[0]}, the images before it are "
                    f"{self.size_wh[0]}x{self.size_wh[1]}: put the images of one camera into a folder of their own."
                )
            yield index / self.fps, image

    def close(self) -> None:
        """Nothing stays open between images."""


def _images_in(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def read_image(path: Path) -> Image | None:
    """(H, W, 3) uint8 RGB of an image file of any depth and number of channels, upright; None when it is none."""
    try:
        # not imread: it cannot open every path on Windows
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def check_readable(path: Path) -> None:
    """Raises SourceError, with what to do, for a file or folder that is missing, forbidden, empty or plain text."""
    # os.path answers for names that are too long or have a null in them, where Path raises
    if not os.path.exists(path):
        demo = "benchmarks" in path.parts and path.parent.name.startswith("demo_")
        todo = "type python -m benchmarks.make_demo to make it" if demo else "check the path"
        raise SourceError(f"There is no {path}: {todo}.")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise SourceError(f"{path} may not be read by you: type chmod u+r '{path}', or ask its owner.")
    if path.is_dir():
        return
    if not path.is_file():
        raise SourceError(f"{path} is neither a file nor a folder; a webcam is given as 0 or /dev/video0.")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes): copy or record it again.")
    # FFmpeg plays text as the picture of a terminal
    with path.open("rb") as file:
        head = file.read(4096)
    if all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head):
        raise SourceError(f"{path} is a text file: expected a video, a folder of images or a camera.")


class RecordedSource(Source):
    """Recorded pictures, decoded ahead by a thread of their own while the reader works.

    Not paced: every frame, in order, the same every time; `t_capture_ns` and `t_wall_ns` are the time in the file,
    `t_grab_ns` is when `read` gave the frame out. Paced (`live`): each frame comes when its time has come and is
    stamped like a camera's; a late reader skips frames. Pictures that cannot even be decoded in time slow the film
    down, they do not make it late.
    """

    def __init__(self, pictures: Pictures, camera_id: str, *, paced: bool = False, loop: bool = False) -> None:
        self.camera_id, self.live = camera_id, paced
        self.size_wh, self.fps = pictures.size_wh, pictures.fps
        self._pictures = pictures
        self._loop = loop
        self._buffer: LatestSlot[Frame] | LosslessQueue[Frame] = LatestSlot() if paced else LosslessQueue(2)
        self._damaged = 0
        self._limited = LimitedLog(log)
        self._stop = threading.Event()
        self._state = SourceState.CONNECTING
        self._thread = threading.Thread(target=self._run, name=f"decode-{camera_id}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._damaged + (self._buffer.dropped if isinstance(self._buffer, LatestSlot) else 0)

    @property
    def state(self) -> SourceState:
        return SourceState.ENDED if self._buffer.ended else self._state

    def read(self, timeout_s: float = 1.0) -> Frame | None:
        frame = self._buffer.take(timeout_s)
        if frame is None or self.live:
            return frame
        return dataclasses.replace(frame, t_grab_ns=time.monotonic_ns())

    def close(self) -> None:
        self._stop.set()
        self._buffer.close(discard=True)
        self._thread.join(1.0)

    def _run(self) -> None:
        try:
            for index, (time_s, image) in enumerate(self._paced() if self.live else self._played()):
                if self._stop.is_set():
                    return
                if image is None:
                    self._damaged += 1
                    self._limited.warning("%s: frame %d is damaged and left out", self.camera_id, index)
                elif not self._buffer.put(self._frame(index, time_s, image)):
                    return
                self._state = SourceState.STREAMING
        except SourceError as error:
            self._buffer.close(error)
        finally:
            self._buffer.close()
            self._pictures.close()

    def _frame(self, index: int, time_s: float, image: Image) -> Frame:
        now = time.monotonic_ns()
        if self.live:
            return Frame(self.camera_id, index, now, time.time_ns(), now, image)
        return Frame(self.camera_id, index, round(time_s * 1e9), round(time_s * 1e9), now, image)

    def _played(self) -> Iterator[tuple[float, Image | None]]:
        """The pictures, over and over where that is wanted, with times that go on rising."""
        start_s = 0.0
        while True:
            last_s = -1.0
            for time_s, image in self._pictures.play():
                last_s = time_s
                yield start_s + time_s, image
            if not self._loop or last_s < 0:
                return
            start_s += last_s + 1.0 / self.fps

    def _paced(self) -> Iterator[tuple[float, Image | None]]:
        """The same, each picture when it is due; a picture that comes late puts off those after it."""
        start = time.monotonic()
        for time_s, image in self._played():
            late = time.monotonic() - start - time_s
            if late > 1.0 / self.fps:
                start += late
            elif self._stop.wait(max(0.0, -late)):
                return
            yield time_s, image
