"""What a person at the terminal sees: one live line, and the log."""

from __future__ import annotations

import collections
import logging
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import TextIO

from pipeline.types import FrameResult

logger = logging.getLogger(__name__)

_LIVE_INTERVAL_S = 0.2
_LOG_INTERVAL_S = 5.0
_RATE_WINDOW_S = 2.0
_NOISY_LIBRARIES = ("absl", "PIL", "matplotlib", "numba", "torch", "onnxruntime", "libav")

#: Live lines that have something on the screen, so that a log record can move out of their way.
_live: list[StatusLine] = []
_live_lock = threading.RLock()


def status_text(result: FrameResult, fps: float | None, age_ms: float, state: str) -> str:
    """One line on a result: source state, rate, age of the pose, people, calibration and drops."""
    calibration = result.calibration
    focal = f"{calibration.K[0, 0]:.0f} px"
    if calibration.focal_spread > 0:
        focal += f" ± {100 * calibration.focal_spread:.1f} %"
    people = len(result.people)
    rate = "   - fps" if fps is None else f"{fps:4.1f} fps"
    parts = [
        rate,
        f"age {age_ms:.0f} ms",
        f"{people} {'person' if people == 1 else 'people'}",
        f"{calibration.status} {focal}",
        f"{result.dropped} dropped",
    ]
    return " · ".join([state, *parts] if state else parts)


def fit(text: str, width: int) -> str:
    """`text` cut to `width` characters, with an ellipsis where something is missing."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


class StatusLine:
    """One live line on a terminal, refreshed five times a second; elsewhere a log record every five seconds.

    `update` may be called for every frame: between two refreshes it costs a look at the clock.
    """

    def __init__(self, stream: TextIO | None = None, live: bool | None = None) -> None:
        """`stream`: standard error if None. `live`: whether it is a terminal; found out if None."""
        self.stream = sys.stderr if stream is None else stream
        self.live = bool(self.stream.isatty()) if live is None else live
        self._interval_s = _LIVE_INTERVAL_S if self.live else _LOG_INTERVAL_S
        self._next_s = 0.0
        self._frames = 0
        self._seen: collections.deque[tuple[float, int]] = collections.deque()
        self._shown = 0

    def update(
        self, result: FrameResult, fps: float | None = None, state: str = "live", age_ms: float | None = None
    ) -> None:
        """Tells of a new result, and shows it if it is time.

        `fps`     results a second; counted here if None
        `state`   of the source, a word: live, reconnecting, file ...
        `age_ms`  from the grab of the picture to now; taken from the clock if None
        """
        self._frames += 1
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._interval_s
        if age_ms is None:
            age_ms = (time.monotonic_ns() - result.t_grab_ns) / 1e6
        self._show(status_text(result, self._rate(now_s) if fps is None else fps, age_ms, state))

    def message(self, text: str) -> None:
        """Shows a line of another kind at once, such as that the source is being waited for."""
        self._next_s = time.monotonic() + self._interval_s
        self._show(text)

    def _rate(self, now_s: float) -> float | None:
        """Updates a second over the last two seconds (or since the last refresh, where that is longer ago)."""
        self._seen.append((now_s, self._frames))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= _RATE_WINDOW_S:
            self._seen.popleft()
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None

    def _show(self, text: str) -> None:
        if not self.live:
            logger.info("%s", text)
            return
        with _live_lock:
            line = fit(text, max(1, shutil.get_terminal_size().columns - 1))
            blank = " " * max(0, self._shown - len(line))
            if self._put(f"\r{line}{blank}"):
                self._shown = len(line)
                if self not in _live:
                    _live.append(self)

    def clear(self) -> None:
        """Empties the line, so that something else can be written there."""
        with _live_lock:
            if self._shown and self._put("\r" + " " * self._shown + "\r"):
                self._shown = 0

    def close(self) -> None:
        """Leaves the last line standing and goes to the next; a second call does nothing."""
        with _live_lock:
            if self in _live:
                _live.remove(self)
                if self._shown:
                    self._put("\n")
                self._shown = 0

    def _put(self, text: str) -> bool:
        """Writes; False, and no more live lines, when the terminal has gone away."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        try:
            self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()
        except (OSError, ValueError):
            self.live, self._interval_s = False, _LOG_INTERVAL_S
            return False
        return True

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _ConsoleHandler(logging.StreamHandler[TextIO]):
    """Writes records where the live line is, after taking it away; the next update brings it back."""

    def emit(self, record: logging.LogRecord) -> None:
        with _live_lock:
            for line in _live:
                line.clear()
            super().emit(record)


def configure_logging(verbosity: int = 0, stream: TextIO | None = None) -> None:
    """Sends the log of the whole program to `stream` (standard error if None); a second call replaces the first.

    `verbosity`: -1 warnings only, 0 what happens, 1 and more also why. Other people's libraries speak from warnings on.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _ConsoleHandler)]:
        root.removeHandler(handler)
    handler = _ConsoleHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    if verbosity > 0:
        handler.setFormatter(
            logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
        )
    root.addHandler(handler)
    root.setLevel(logging.WARNING if verbosity < 0 else logging.INFO if verbosity == 0 else logging.DEBUG)
    for name in _NOISY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
