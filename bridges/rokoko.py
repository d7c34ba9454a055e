"""Poses to plugins made for Rokoko Studio Live (Unity, Blender, Houdini ...): its JSON v3 over UDP.

python -m bridges.rokoko [--connect ADDRESS] [--host HOST] [--port 14043]
"""

from __future__ import annotations

import argparse
import sys

from bridges.feed import add_feed_options, bridge_parser
from bridges.people import FrameBridge, add_people_options, run_people
from bridges.rokoko_pack import Format, RokokoPacker
from pipeline.messages import PersonMessage, PoseMessage

PROG = "python -m bridges.rokoko"
PORT = 14043


class RokokoBridge(FrameBridge):
    """All people in one datagram, actors `Body1`, `Body2`, ...; a context manager.

    Somebody who left is not in the next frame, which is what receivers remove an actor by.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        people: int = 5,
        hold_s: float = 1.0,
        rate_hz: float | None = None,
        actor: str = "Body",
        form: Format = "lz4",
    ) -> None:
        """Raises ValueError for a host or port that cannot be used, ImportError when lz4 is not there."""
        self._actor = actor
        self._packer = RokokoPacker(form)
        super().__init__(host, port, people, hold_s, rate_hz)

    def name(self, place: int) -> str:
        """Its actor."""
        return f"{self._actor}{place + 1}"

    def pack(self, message: PoseMessage, places: dict[int, PersonMessage]) -> bytes:
        """The datagram of one frame."""
        actors = [(self.name(place), place, person) for place, person in sorted(places.items())]
        return self._packer.pack(actors, self._seconds(message))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = bridge_parser(
        PROG,
        "Sends everybody's pose as Rokoko Studio's live stream (JSON v3), one actor for each person.",
        f"{PROG}\n{PROG} --host 192.168.1.20 --format plain --people 1\n{PROG} --recording take.mcap",
    )
    add_feed_options(made)
    add_people_options(made, PORT, people=5)
    group = made.add_argument_group("Rokoko")
    group.add_argument("--actor", default="Body", metavar="NAME", help="actors are NAME1, NAME2, ... (%(default)s)")
    group.add_argument(
        "--format", choices=("lz4", "plain"), default="lz4",
        help="lz4 as Studio sends, which Unity must have; plain JSON is enough for Blender (%(default)s)",
    )  # fmt: skip
    return made


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit status."""
    o = parser().parse_args(arguments)
    return run_people(
        o,
        PROG,
        lambda: RokokoBridge(o.host, o.port, o.people, o.hold, o.rate, o.actor, o.format),
        lambda bridge: f"Rokoko actors {bridge.names} go to {o.host}, UDP port {o.port}.",
    )


if __name__ == "__main__":
    sys.exit(main())
