"""How old poses are when they are shown, over the last minute."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import PoseMessage

BIN_S, BINS = 0.5, 120
#: A capture time further from now than this is a time in a file and says nothing of latency.
_FILE_TIME_NS = 3_600_000_000_000


class Ages:
    """Ages of messages as they are shown: from the capture, or for a file from when the program got the picture."""

    def __init__(self) -> None:
        self._bins: deque[tuple[int, list[float]]] = deque(maxlen=BINS)
        self.newest_ms = 0.0
        self.since = "capture"

    def add(self, message: PoseMessage, now_ns: int | None = None) -> None:
        """Takes a message that was just shown, at `now_ns` of the monotonic clock."""
        now = time.monotonic_ns() if now_ns is None else now_ns
        age_ns = now - message.t_capture_ns
        self.since = "capture"
        if abs(age_ns) > _FILE_TIME_NS:
            age_ns, self.since = now - message.t_grab_ns, "picture"
        self.newest_ms = age_ns / 1e6
        at = int(now / 1e9 / BIN_S)
        if not self._bins or self._bins[-1][0] != at:
            self._bins.append((at, []))
        self._bins[-1][1].append(self.newest_ms)

    def curves(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Seconds before now (n,), and there the median and the worst age (n,), milliseconds."""
        if not self._bins:
            return np.zeros(1), np.zeros(1), np.zeros(1)
        times = np.array([(at - self._bins[-1][0]) * BIN_S for at, _ in self._bins])
        return times, np.array([np.median(a) for _, a in self._bins]), np.array([max(a) for _, a in self._bins])
