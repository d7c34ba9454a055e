"""Poses as plain JSON datagrams: for Godot, Blender, Processing, Max and all that read UDP but not ZeroMQ.

python -m bridges.udp_json [--connect ADDRESS] [--host HOST] [--port 5570]

A datagram is one frame, the payload of `pose_json/` (docs/wire.md) in our axes, and in each person besides `place`: 0,
1, ... as for the other bridges, so that somebody who was lost and found again goes on where they were.
"""

from __future__ import annotations

import argparse
import sys
import threading
from types import TracebackType
from typing import Self

import msgspec

from bridges.feed import add_feed_options, bridge_parser, exit_status, run_bridge
from bridges.people import PeopleBridge, add_people_options
from bridges.udp import MAX_DATAGRAM_BYTES, UdpSender
from pipeline import messages
from pipeline.messages import PersonMessage, PoseMessage

PROG = "python -m bridges.udp_json"
PORT = 5570


def pack(message: PoseMessage, places: dict[int, PersonMessage]) -> bytes:
    """The datagram of one frame with the people of `places`, 5 KB each."""
    in_order = sorted(places.items())
    shown = msgspec.structs.replace(message, people=tuple(person for _, person in in_order))
    fields = msgspec.json.decode(messages.encode("pose_json", shown).partition(b"\0")[2])
    for person, (place, _) in zip(fields["people"], in_order, strict=True):
        person["place"] = place
    return msgspec.json.encode(fields)


class UdpJsonBridge(PeopleBridge):
    """All people in one datagram; a context manager.

    After half a second without messages, and at the end, one frame without people.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        people: int = 4,
        hold_s: float = 1.0,
        rate_hz: float | None = None,
    ) -> None:
        """Raises ValueError for a host or port that cannot be used."""
        super().__init__(people, hold_s, rate_hz)
        self._sender = UdpSender(host, port)
        self._last: PoseMessage | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def name(self, place: int) -> str:
        """What receivers know it by."""
        return f"place {place}"

    def send(self, message: PoseMessage, places: dict[int, PersonMessage]) -> None:
        """One datagram for the frame."""
        self._last = message if places else None
        data = pack(message, places)
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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = bridge_parser(
        PROG,
        "Sends everybody's pose as JSON over UDP, a datagram for each frame: the fields of pose_json/ and place.",
        f"{PROG}\n{PROG} --host 192.168.1.20 --people 1\n{PROG} --recording take.mcap",
    )
    add_feed_options(made)
    add_people_options(made, PORT, people=4)
    return made


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit status."""
    options = parser().parse_args(arguments)

    def work() -> None:
        o = options
        with UdpJsonBridge(o.host, o.port, o.people, o.hold, o.rate) as bridge:
            sys.stdout.write(f"JSON goes to {o.host}, UDP port {o.port}. Ctrl-C ends.\n")
            sys.stdout.flush()
            run_bridge(options, bridge.item, threading.Event(), newest_only=True, on_silence=bridge.silence)

    return exit_status(options, PROG, work)


if __name__ == "__main__":
    sys.exit(main())
