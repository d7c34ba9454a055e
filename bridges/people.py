"""The part that the bridges to UDP receivers share: who goes to which place, when somebody is gone, how often."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from bridges.feed import exit_status, positive, run_bridge
from bridges.items import Item
from bridges.slots import Pace, Slots
from bridges.udp import MAX_DATAGRAM_BYTES, UdpSender
from pipeline.limited_log import LimitedLog
from pipeline.messages import PersonMessage, PoseMessage

log = logging.getLogger(__name__)

#: A stream that says nothing for this long has lost everybody.
SILENT_S = 0.5


def add_people_options(parser: argparse.ArgumentParser, port: int, people: int) -> None:
    """Where poses go and of how many people."""
    group = parser.add_argument_group("poses out")
    group.add_argument("--host", default="127.0.0.1", help="where the receiver runs (%(default)s)")
    group.add_argument("--port", type=int, default=port, help="its UDP port (%(default)s)")
    group.add_argument("--people", type=_count, default=people, metavar="N", help="at most so many (%(default)s)")
    group.add_argument(
        "--hold", type=_seconds, default=1.0, metavar="S",
        help="keep the place of somebody who left for so long, then the next one gets it (%(default)s)",
    )  # fmt: skip
    group.add_argument("--rate", type=positive, metavar="HZ", help="at most so many frames a second (default: all)")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 64, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    return 0.0 if text == "0" else positive(text)


class PeopleBridge(ABC):
    """Sorts the people of each message into places and tells when one is empty; a context manager.

    Hand `item` and `silence` to `bridges.feed.run_bridge`, or the whole to `run_people`. Use by one thread.
    """

    def __init__(self, people: int, hold_s: float, rate_hz: float | None) -> None:
        self._count = people
        self._slots = Slots(people, hold_s)
        self._pace = Pace(rate_hz)
        self._at: dict[int, int] = {}
        self._now_s = 0.0
        self._first_ns: int | None = None
        self._limited = LimitedLog(log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Tells receivers what they can be told and frees the sockets. A second call does nothing."""

    @abstractmethod
    def send(self, message: PoseMessage, places: dict[int, PersonMessage]) -> None:
        """Sends the people of one frame; keys count places from 0."""

    def gone(self, place: int) -> None:  # noqa: B027 not every receiver can be told
        """Somebody left this place; called again with each frame for as long as the place is held."""

    @abstractmethod
    def name(self, place: int) -> str:
        """What the console calls a place."""

    @property
    def names(self) -> str:
        """Those of all places."""
        return self.name(0) if self._count == 1 else f"{self.name(0)} to {self.name(self._count - 1)}"

    def item(self, item: Item) -> None:
        """Takes one message; those that are no poses are passed by."""
        message = item.message
        if not isinstance(message, PoseMessage):
            return
        self._now_s = item.log_time_ns / 1e9
        if not self._pace.due(self._now_s):
            return
        self._place([person.id for person in message.people])
        self.send(message, {self._at[p.id]: p for p in message.people if p.id in self._at})
        if len(self._at) == self._count < len(message.people):
            self._limited.warning("%d people are in view, --people lets %d through.", len(message.people), self._count)

    def silence(self, silent_s: float) -> None:
        """Nothing came for so long: everybody is gone after half a second."""
        if silent_s < SILENT_S:
            return
        self._place([], self._now_s + silent_s)

    def end(self) -> None:
        """Tells the receivers of everybody who is there that nobody is."""
        for place in self._at.values():
            self.gone(place)
        self._at = {}

    def _seconds(self, message: PoseMessage) -> float:
        """From the first frame's capture to this one's."""
        if self._first_ns is None or message.t_capture_ns < self._first_ns:
            self._first_ns = message.t_capture_ns
        return (message.t_capture_ns - self._first_ns) / 1e9

    def _place(self, ids: list[int], now_s: float | None = None) -> None:
        now_s = self._now_s if now_s is None else now_s
        before, self._at = self._at, self._slots.update(ids, now_s)
        for person, place in self._at.items():
            if person not in before:
                log.info("Person %d goes to %s.", person, self.name(place))
        left = {place for person, place in before.items() if person not in self._at} | set(self._slots.held(now_s))
        for place in sorted(left - set(self._at.values())):
            self.gone(place)


class FrameBridge(PeopleBridge):
    """All people of a frame in one datagram; after half a second of silence, and at the end, one without people."""

    def __init__(self, host: str, port: int, people: int, hold_s: float, rate_hz: float | None) -> None:
        """Raises ValueError for a host or port that cannot be used."""
        super().__init__(people, hold_s, rate_hz)
        self._sender = UdpSender(host, port)
        self._last: PoseMessage | None = None

    @abstractmethod
    def pack(self, message: PoseMessage, places: dict[int, PersonMessage]) -> bytes:
        """The datagram of one frame."""

    def send(self, message: PoseMessage, places: dict[int, PersonMessage]) -> None:
        """One datagram for the frame."""
        self._last = message if places else None
        data = self.pack(message, places)
        if len(data) > MAX_DATAGRAM_BYTES:
            self._limited.warning("%d people make %d bytes, too many for a datagram.", len(places), len(data))
            return
        self._sender.send(data)

    def silence(self, silent_s: float) -> None:
        """Nothing came for so long: after half a second a frame without people, once."""
        super().silence(silent_s)
        if not self._at:
            self._nobody()

    def _nobody(self) -> None:
        if self._last is not None:
            self.send(self._last, {})

    def close(self) -> None:
        """Sends a frame without people and frees the socket."""
        self._nobody()
        self._sender.close()


Bridge = TypeVar("Bridge", bound=PeopleBridge)


def run_people(
    options: argparse.Namespace, prog: str, opened: Callable[[], Bridge], said: Callable[[Bridge], str]
) -> int:
    """Runs the bridge that `opened` makes until it is stopped; `said` is where it sends. Returns the exit status."""

    def work() -> None:
        with opened() as bridge:
            sys.stdout.write(f"{said(bridge)} Ctrl-C ends.\n")
            sys.stdout.flush()
            run_bridge(options, bridge.item, threading.Event(), newest_only=True, on_silence=bridge.silence)

    return exit_status(options, prog, work)
