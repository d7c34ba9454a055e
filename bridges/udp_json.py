"""Poses as plain JSON datagrams: for Godot, Blender, Processing, Max and all that read UDP but not ZeroMQ.

python -m bridges.udp_json [--connect ADDRESS] [--host HOST] [--port 5570]

A datagram is one frame, the payload of `pose_json/` (docs/wire.md) in our axes, and in each person besides `place`: 0,
1, ... as for the other bridges, so that somebody who was lost and found again goes on where they were.
"""

from __future__ import annotations

import argparse
import sys

import msgspec

from bridges.feed import add_feed_options, bridge_parser
from bridges.people import FrameBridge, add_people_options, run_people
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


class UdpJsonBridge(FrameBridge):
    """All people in one datagram; a context manager."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        people: int = 4,
        hold_s: float = 1.0,
        rate_hz: float | None = None,
    ) -> None:
        """Raises ValueError for a host or port that cannot be used."""
        super().__init__(host, port, people, hold_s, rate_hz)

    def name(self, place: int) -> str:
        """What receivers know it by."""
        return f"place {place}"

    def pack(self, message: PoseMessage, places: dict[int, PersonMessage]) -> bytes:
        """As the module's `pack`."""
        return pack(message, places)


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
    o = parser().parse_args(arguments)
    return run_people(
        o,
        PROG,
        lambda: UdpJsonBridge(o.host, o.port, o.people, o.hold, o.rate),
        lambda _: f"JSON goes to {o.host}, UDP port {o.port}.",
    )


if __name__ == "__main__":
    sys.exit(main())
