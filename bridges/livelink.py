"""Poses to Unreal Engine through the JSONLiveLink plugin, one Live Link subject for each person.

python -m bridges.livelink [--connect ADDRESS] [--host HOST] [--port 54321]
"""

from __future__ import annotations

import argparse
import sys

from bridges.feed import add_feed_options, bridge_parser
from bridges.livelink_pack import LiveLinkPacker, Names, checked_subject
from bridges.people import PeopleBridge, add_people_options, run_people
from bridges.udp import UdpSender
from pipeline.messages import PersonMessage, PoseMessage

PROG = "python -m bridges.livelink"
PORT = 54321


class LiveLinkBridge(PeopleBridge):
    """One port for all, `Body1`, `Body2`, ... for the places; a context manager.

    The plugin has no word for somebody who left: the subject keeps its pose and Live Link marks it as stale.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        people: int = 4,
        hold_s: float = 1.0,
        rate_hz: float | None = None,
        names: Names = "smpl",
        subject: str = "Body",
    ) -> None:
        """Raises ValueError for a host, port or subject that cannot be used."""
        super().__init__(people, hold_s, rate_hz)
        self._subject = checked_subject(subject)
        self._packer = LiveLinkPacker(names)
        self._sender = UdpSender(host, port)

    def name(self, place: int) -> str:
        """Its subject."""
        return f"{self._subject}{place + 1}"

    def send(self, message: PoseMessage, places: dict[int, PersonMessage]) -> None:
        """A datagram for each person."""
        for place, person in places.items():
            self._sender.send(self._packer.pack(person, self.name(place)))

    def close(self) -> None:
        """Frees the socket."""
        self._sender.close()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = bridge_parser(
        PROG,
        "Sends everybody's pose to Unreal's JSONLiveLink plugin, one subject for each person.",
        f"{PROG}\n{PROG} --host 192.168.1.20 --names mannequin --people 1\n{PROG} --recording take.mcap",
    )
    add_feed_options(made)
    add_people_options(made, PORT, people=4)
    group = made.add_argument_group("Live Link")
    group.add_argument(
        "--names", choices=("smpl", "mannequin"), default="smpl",
        help="what bones are called; mannequin still needs Unreal's IK Retargeter (%(default)s)",
    )  # fmt: skip
    group.add_argument("--subject", default="Body", metavar="NAME", help="subjects are NAME1, NAME2, ... (%(default)s)")
    return made


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit status."""
    o = parser().parse_args(arguments)
    return run_people(
        o,
        PROG,
        lambda: LiveLinkBridge(o.host, o.port, o.people, o.hold, o.rate, o.names, o.subject),
        lambda bridge: f"Live Link subjects {bridge.names} go to {o.host}, UDP port {o.port}.",
    )


if __name__ == "__main__":
    sys.exit(main())
