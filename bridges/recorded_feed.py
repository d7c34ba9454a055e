"""Messages of a recording, at its own times."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bridges.items import Feed, Gate, Item
from bridges.recordings import Timeline, read_recording
from pipeline import messages
from pipeline.mcap_file import Recorded

log = logging.getLogger(__name__)


class RecordedFeed(Feed):
    """Messages of an .mcap recording (or of a journal, x.npz.partial), paced as they were recorded.

    camera       None takes the first that comes
    newest_only  leaves out what is older than the newest that is due of its topic, unless the speed is infinite
    speed        2 is twice as fast, infinity does not wait
    """

    def __init__(
        self,
        path: Path,
        kinds: Sequence[str] = ("pose",),
        camera: str | None = None,
        newest_only: bool = False,
        speed: float = 1.0,
    ) -> None:
        """Raises ValueError for a file that is no recording, OSError for one that cannot be read."""
        self._path, self._kinds = path, tuple(kinds)
        self._prefixes = tuple(f"{kind}/".encode() for kind in kinds)
        self._gate = Gate(camera, str(path))
        self._newest_only = newest_only and not math.isinf(speed)
        self._timeline, self._speed = Timeline(), speed
        # the clock starts when somebody asks, not while a bridge opens what it needs
        self._start_s: float | None = None
        self._left: set[str] = set()
        self._taken = 0
        self._messages: Iterator[Recorded] = read_recording(path)
        self._coming: tuple[Recorded, float] | None = self._read()

    @property
    def ended(self) -> bool:
        """Whether every message was given."""
        return self._coming is None

    def receive(self, timeout_s: float) -> Item | None:
        """The next item, or None when none was due in time, or none is left."""
        now_s = time.monotonic()
        end_s = now_s + timeout_s
        self._start_s = now_s if self._start_s is None else self._start_s
        while self._coming is not None:
            recorded, after_s = self._coming
            due_s = self._start_s + after_s
            wait_s = min(due_s, end_s) - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            if due_s > end_s:
                return None
            self._coming = self._read()
            if self._newest_only and self._newer_is_due(recorded, self._start_s):
                continue
            if item := self._gate.item(recorded.raw, recorded.log_time_ns):
                self._taken += 1
                return item
        return None

    def _read(self) -> tuple[Recorded, float] | None:
        for recorded in self._messages:
            after_s = self._timeline.at_s(recorded) / self._speed
            if recorded.raw.startswith(self._prefixes):
                return recorded, after_s
            self._left.add(recorded.raw.partition(b"\0")[0].decode("ascii", "replace"))
        return None

    def _newer_is_due(self, recorded: Recorded, start_s: float) -> bool:
        if self._coming is None or start_s + self._coming[1] > time.monotonic():
            return False
        return self._coming[0].raw.partition(b"\0")[0] == recorded.raw.partition(b"\0")[0]

    def silence(self) -> str:
        """One sentence on why nothing came: what the recording holds instead; empty in a pause of it."""
        if self._taken or not self.ended:
            return ""
        others = {messages.topic(kind, camera) for kind in self._kinds for camera in self._gate.others}
        found = ", ".join(sorted(self._left | others)) or "nothing"
        of = f" of camera {self._gate.camera!r}" if self._gate.camera else ""
        return f"{self._path} holds no {' or '.join(self._kinds)} messages{of}; it holds {found}."

    def close(self) -> None:
        """Closes the file. A second call does nothing."""
        self._messages, self._coming = iter(()), None
