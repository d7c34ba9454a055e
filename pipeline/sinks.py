"""What becomes of each result: pictures and windows made beside the stream, so that they never delay a pose."""

from __future__ import annotations

import argparse
import logging
import queue
import sys
import threading
import time
from contextlib import ExitStack, closing
from typing import TextIO

import cv2

from pipeline.drawing import draw
from pipeline.limited_log import LimitedLog
from pipeline.messages import pose_message, topic
from pipeline.overlay import FPS_RANGE, OverlayWriter, Viewer
from pipeline.publisher import Publisher
from pipeline.recording import Recording, open_recorder
from pipeline.source_base import Source, SourceState
from pipeline.stream import Sink
from pipeline.subscriber import describe
from pipeline.types import Frame, FrameResult

log = logging.getLogger(__name__)

STATUS_EVERY_S = 1.0
PRINT_EVERY_NS = 500_000_000


class OverlaySink:
    """Draws results and writes them as a video, in a thread of its own.

    lossless  a file's frames are all drawn, the stream waits where it must; a live camera's are skipped instead
    """

    def __init__(self, writer: OverlayWriter, lossless: bool) -> None:
        self._writer = writer
        self._lossless = lossless
        self._limited = LimitedLog(log)
        self._queue: queue.Queue[tuple[Frame, FrameResult, float | None] | None] = queue.Queue(maxsize=3)
        self._thread = threading.Thread(target=self._work, name="overlay", daemon=True)
        self._thread.start()

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Hands the picture over."""
        age_ms = None if self._lossless else (time.monotonic_ns() - frame.t_grab_ns) / 1e6
        if self._lossless:
            self._queue.put((frame, result, age_ms))
        elif not self._queue.full():
            self._queue.put_nowait((frame, result, age_ms))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            frame, result, age_ms = item
            try:
                self._writer.write(draw(frame.image, result, age_ms=age_ms), frame.t_capture_ns)
            except (ValueError, ArithmeticError, OSError, cv2.error) as error:
                # a thread that ended here would leave the stream waiting for room in the queue for ever
                self._limited.warning("Frame %d is not in the overlay: %s", frame.index, error)

    def close(self) -> None:
        """Draws what was handed over and finishes the file."""
        self._queue.put(None)
        self._thread.join()
        self._writer.close()


class ViewSink:
    """Shows results in a window; sets `stop` when the user closes it."""

    def __init__(self, viewer: Viewer, stop: threading.Event) -> None:
        self._viewer = viewer
        self._stop = stop

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Draws and shows the picture."""
        age_ms = (time.monotonic_ns() - frame.t_grab_ns) / 1e6
        if not self._viewer.show(draw(frame.image, result, age_ms=age_ms)):
            self._stop.set()

    def close(self) -> None:
        """Closes the window."""
        self._viewer.close()


class PrintSink:
    """Prints the poses of a frame every half second of video, as `python -m pipeline.messages` does."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._next_ns = 0

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Prints a line a person."""
        if result.t_capture_ns < self._next_ns:
            return
        self._next_ns = result.t_capture_ns + PRINT_EVERY_NS
        now_wall_ns = time.time_ns()
        message = pose_message(result, time.monotonic_ns(), now_wall_ns)
        for line in describe(topic("pose", result.camera_id), message, now_wall_ns):
            self._stream.write(line + "\n")
        self._stream.flush()


class RecordSink:
    """Keeps every pose; a disk that fills up is said now and then, and never stops the stream."""

    def __init__(self, recorder: Recording) -> None:
        self._recorder = recorder
        self._limited = LimitedLog(log)

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Writes one frame."""
        try:
            self._recorder.write(result)
        except OSError as error:
            self._limited.warning("%s", error)


class PublishSink:
    """Publishes poses as they come and the status once a second, frames or not; `frames` counts them."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._next_s = 0.0
        self._since_s = time.monotonic()
        self.frames = self._frames_before = 0
        self._people = self._dropped = 0
        self._age_ms: float | None = None

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Publishes one frame."""
        self._publisher.publish(result)
        self._age_ms = (time.monotonic_ns() - result.t_grab_ns) / 1e6
        self.frames += 1
        self._people, self._dropped = len(result.people), result.dropped

    def idle(self, source: Source) -> None:
        """Publishes the status when it is due."""
        now = time.monotonic()
        if now < self._next_s:
            return
        fps = (self.frames - self._frames_before) / max(now - self._since_s, 1e-3)
        self._next_s, self._since_s, self._frames_before = now + STATUS_EVERY_S, now, self.frames
        self._send(_STATES[source.state], fps, str(source.state))

    def close(self) -> None:
        """Says that the stream has ended."""
        self._send("ended", 0.0, "")
        self._publisher.close()

    def _send(self, state: str, fps: float, detail: str) -> None:
        self._publisher.publish_status(
            state, fps=fps, people=self._people, frames=self.frames, dropped=self._dropped,
            pose_age_ms=self._age_ms, detail=detail,
        )  # fmt: skip


_STATES = {
    SourceState.CONNECTING: "starting", SourceState.STREAMING: "running", SourceState.STALE: "lost",
    SourceState.RECONNECTING: "lost", SourceState.ENDED: "ended",
}  # fmt: skip


def open_sinks(options: argparse.Namespace, source: Source, stop: threading.Event, stack: ExitStack) -> list[Sink]:
    """The recording, the overlay and the window that were asked for."""
    sinks: list[Sink] = []
    if options.print:
        sinks.append(PrintSink())
    if options.record:
        sinks.append(RecordSink(stack.enter_context(open_recorder(options.record))))
    if options.overlay:
        fps = min(max(source.fps or 30.0, FPS_RANGE[0]), FPS_RANGE[1])
        writer = OverlayWriter(options.overlay, fps, source.size_wh)
        sinks.append(stack.enter_context(closing(OverlaySink(writer, lossless=not source.live))))
    if options.view:
        sinks.append(stack.enter_context(closing(ViewSink(Viewer(f"{source.camera_id} (q quits)"), stop))))
    return sinks
