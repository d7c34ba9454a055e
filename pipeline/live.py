"""A webcam or a network stream: its newest picture, and its reconnection.

A capture thread takes every picture as soon as the device has it and leaves it in one slot. It also decodes and
converts every one: FFmpeg must decode each anyway, and a webcam picture that were decoded only on demand would make
a slow reader wait for the next one, for a saving of about a millisecond. So the reader's own thread does nothing.

The age of the last picture decides whether a camera is lost, because back ends differ in what they return: a frozen
RTSP server makes `grab` wait for its time-out, a killed one makes it fail at once, a pulled-out webcam may do either.
A thread that a driver does not give back in time is left behind, and a new one takes its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pipeline.capture import Capture, Image
from pipeline.handover import LatestSlot
from pipeline.limited_log import LimitedLog
from pipeline.source_base import Source, SourceState
from pipeline.source_spec import SourceError
from pipeline.types import Frame

log = logging.getLogger(__name__)

STALE_S = 2.0
BACK_OFF_S = (0.5, 10.0)
_FAILING_S = 0.5
_MAX_ABANDONED = 3


class LiveSource(Source):
    """A camera that is read by `_Link`, a capture thread, and replaced by another one when it hangs."""

    live = True

    def __init__(
        self, capture: Capture, connect: Callable[[], Capture], camera_id: str, stale_s: float = STALE_S
    ) -> None:
        """Takes over an opened `capture`; `connect` opens another one when it is lost, or raises SourceError."""
        self.camera_id, self.size_wh, self.fps = camera_id, capture.size_wh, capture.fps
        self._connect = connect
        self._stale_s = stale_s
        self._slot: LatestSlot[Frame] = LatestSlot()
        self._lock = threading.Lock()
        self._index = 0
        self._damaged = 0
        self._last_ns = time.monotonic_ns()
        self._abandoned: list[_Link] = []
        self._closed = False
        # under the lock, because the thread delivers at once and is asked whether it is the one in charge
        with self._lock:
            self._link = _Link(self, connect, capture, stale_s)

    @property
    def dropped(self) -> int:
        return self._slot.dropped + self._damaged

    @property
    def age_s(self) -> float:
        """Seconds since the camera last gave a picture."""
        return (time.monotonic_ns() - self._last_ns) / 1e9

    @property
    def state(self) -> SourceState:
        if self._closed:
            return SourceState.ENDED
        state = self._link.state
        if state is SourceState.STREAMING and self.age_s > self._stale_s:
            return SourceState.STALE
        return state

    def read(self, timeout_s: float = 1.0) -> Frame | None:
        deadline = time.monotonic() + timeout_s
        while not self._closed:
            self._replace_hanging_link()
            remaining = deadline - time.monotonic()
            frame = self._slot.take(max(0.0, min(remaining, 0.25)))
            if frame is not None or remaining <= 0:
                return frame
        return None

    def close(self) -> None:
        self._closed = True
        self._slot.close(discard=True)
        self._link.stop(wait_s=1.0)

    def deliver(self, link: _Link, image: Image | None, t_capture_ns: int, t_grab_ns: int) -> None:
        """For the capture thread: counts one picture, None for a damaged one, and leaves it in the slot."""
        with self._lock:
            if link is not self._link or self._closed:
                return
            index, self._index = self._index, self._index + 1
            if image is None:
                self._damaged += 1
                return
            self._last_ns = t_grab_ns
            self.size_wh = (image.shape[1], image.shape[0])
            wall_ns = time.time_ns() - (time.monotonic_ns() - t_capture_ns)
            self._slot.put(Frame(self.camera_id, index, t_capture_ns, wall_ns, t_grab_ns, image))

    def _replace_hanging_link(self) -> None:
        # a second more than the back end's own time-out, which is the cheaper way out
        if self._link.alive and self._link.hanging_s() < self._stale_s + 1.0:
            return
        self._abandoned = [link for link in self._abandoned if link.alive]
        if len(self._abandoned) >= _MAX_ABANDONED:
            return
        log.warning("camera %s hangs in its driver; it is opened anew", self.camera_id)
        with self._lock:
            self._link.stop(wait_s=0.0)
            self._abandoned.append(self._link)
            self._link = _Link(self, self._connect, None, self._stale_s)


class _Link:
    """One capture thread: drains the camera, and connects again when it is lost, until it is stopped."""

    def __init__(
        self, source: LiveSource, connect: Callable[[], Capture], capture: Capture | None, stale_s: float
    ) -> None:
        self.state = SourceState.CONNECTING if capture else SourceState.RECONNECTING
        self._source = source
        self._connect = connect
        self._stale_s = stale_s
        self._stop = threading.Event()
        self._grabbing_since: float | None = None
        self._limited = LimitedLog(log)
        name = f"capture-{source.camera_id}"
        self._thread = threading.Thread(target=self._run, args=(capture,), name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def hanging_s(self) -> float:
        """Seconds that the thread has been waiting for one picture."""
        since = self._grabbing_since
        return 0.0 if since is None else time.monotonic() - since

    def stop(self, wait_s: float) -> None:
        self._stop.set()
        if wait_s > 0:
            self._thread.join(wait_s)

    def _run(self, capture: Capture | None) -> None:
        delay, longest = BACK_OFF_S
        try:
            while not self._stop.is_set():
                if capture is None:
                    capture = self._reconnect()
                if capture is None:
                    self._stop.wait(delay)
                    delay = min(2 * delay, longest)
                    continue
                if self._drain(capture) > capture.fps:
                    delay = BACK_OFF_S[0]
                capture.release()
                capture = None
                if not self._stop.is_set():
                    self.state = SourceState.RECONNECTING
                    log.warning("camera %s is lost; connecting again", self._source.camera_id)
                    self._stop.wait(delay)
        finally:
            if capture is not None:
                capture.release()

    def _reconnect(self) -> Capture | None:
        self.state = SourceState.RECONNECTING
        try:
            capture = self._connect()
        except SourceError as error:
            self._limited.warning("camera %s is still lost: %s", self._source.camera_id, error)
            return None
        if capture.size_wh != self._source.size_wh:
            log.warning("camera %s now gives %dx%d", self._source.camera_id, *capture.size_wh)
        log.info("camera %s is back", self._source.camera_id)
        return capture

    def _drain(self, capture: Capture) -> int:
        """Takes pictures until there are none any more; how many there were."""
        self._source.deliver(self, capture.first, *capture.stamps_ns)
        self.state = SourceState.STREAMING
        count, last, failing_since = 1, time.monotonic(), None
        while not self._stop.is_set():
            self._grabbing_since = time.monotonic()
            grabbed = capture.grab()
            self._grabbing_since = None
            now = time.monotonic()
            if grabbed and not self._stop.is_set():
                stamps_ns = capture.stamp()
                self._source.deliver(self, capture.retrieve(), *stamps_ns)
                count, last, failing_since = count + 1, now, None
                continue
            failing_since = failing_since or now
            if now - last > self._stale_s or now - failing_since > _FAILING_S:
                break
            self._stop.wait(0.02)
        return count
