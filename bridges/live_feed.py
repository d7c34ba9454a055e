"""Messages of a live stream."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import zmq

from bridges.items import Feed, Gate, Item
from pipeline import messages
from pipeline.subscriber import DEFAULT_CONNECT, Subscriber


class _RawSubscriber(Subscriber):
    """A subscriber that gives the bytes."""

    def receive_raw(self, timeout_s: float) -> bytes | None:
        if not self._socket.poll(max(0, math.ceil(timeout_s * 1000))):
            return None
        return self._socket.recv()

    def silence(self) -> str:
        said = super().silence()
        if self._link != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return said
        wanted = " or ".join(repr(topic) for topic in self.topics)
        return f"The publisher at {self.connect} is there but sent nothing under {wanted}: is that its camera's name?"


class LiveFeed(Feed):
    """Messages of a publisher, as they come; survives its restarts.

    camera       None takes the first that comes
    newest_only  leaves out what is older than the newest of its topic, for bridges that cannot keep up
    curve_keys   the client/ folder that `python -m pipeline.publisher --make-keys` makes
    """

    def __init__(
        self,
        connect: str = DEFAULT_CONNECT,
        kinds: Sequence[str] = ("pose",),
        camera: str | None = None,
        newest_only: bool = False,
        curve_keys: Path | None = None,
    ) -> None:
        """Raises ValueError for an address, camera or key folder that cannot be used; a publisher may come later."""
        topics = [messages.topic(kind, camera) if camera else f"{kind}/" for kind in kinds]
        self.connect = connect
        self._subscriber = _RawSubscriber(connect, topics, curve_keys=curve_keys)
        self._gate = Gate(camera, connect)
        self._newest_only = newest_only
        self._waiting: dict[bytes, tuple[bytes, int]] = {}
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    @property
    def ended(self) -> bool:
        """Never."""
        return False

    def receive(self, timeout_s: float) -> Item | None:
        """The next item, or None when none came in time."""
        end_s = time.monotonic() + timeout_s
        while got := self._next(end_s - time.monotonic()):
            if item := self._gate.item(*got):
                return item
        return None

    def _next(self, timeout_s: float) -> tuple[bytes, int] | None:
        if not self._newest_only:
            raw = self._subscriber.receive_raw(timeout_s)
            return None if raw is None else (raw, self._now_ns())
        wait_s = 0.0 if self._waiting else timeout_s
        while raw := self._subscriber.receive_raw(wait_s):
            topic = raw.partition(b"\0")[0]
            # the newest goes behind the others, so that what is left comes in the order of the wire
            self._waiting.pop(topic, None)
            self._waiting[topic] = raw, self._now_ns()
            wait_s = 0.0
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None

    def _now_ns(self) -> int:
        # a system clock that is set meanwhile must not tear a recording apart
        return self._epoch_ns + time.monotonic_ns()

    def silence(self) -> str:
        """One sentence on why nothing came."""
        return self._subscriber.silence()

    def close(self) -> None:
        """Frees the sockets. A second call does nothing."""
        self._subscriber.close()
