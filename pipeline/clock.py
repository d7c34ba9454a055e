"""Milliseconds a stage took, collected for one frame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageClock:
    """Sums the time spent in named stages; `take` empties it at the end of a frame. Not for use by two threads."""

    def __init__(self) -> None:
        self._ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time the `with` block takes to stage `name`."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self._ms[name] = self._ms.get(name, 0.0) + (time.perf_counter_ns() - start) / 1e6

    def take(self) -> dict[str, float]:
        """The stages since the last call, milliseconds, in the order they were first entered."""
        taken, self._ms = self._ms, {}
        return taken
