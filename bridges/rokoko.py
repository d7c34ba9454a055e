"""Poses to plugins made for Rokoko Studio Live (Unity, Blender, Houdini ...): its JSON v3 over UDP.

python -m bridges.rokoko [--connect ADDRESS] [--host HOST] [--port 14043]
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from types import TracebackType
from typing import Self

from bridges.feed import add_feed_options, bridge_parser, exit_status, run_bridge
from bridges.people import PeopleBridge, add_people_options
from bridges.rokoko_pack import Format, RokokoPacker
from bridges.udp import MAX_DATAGRAM_BYTES, UdpSender
from pipeline.messages import PersonMessage, PoseMessage

log = logging.getLogger(__name__)

PROG = "python -m bridges.rokoko"
PORT = 14043


class RokokoBridge(PeopleBridge):
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
        super().__init__(people, hold_s, rate_hz)
        self._actor = actor
        self._packer = RokokoPacker(form)
        self._sender = UdpSender(host, port)
        self._first_ns: int | None = None
        self._time_s = 0.0
        self._anybody = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def name(self, place: int) -> str:
        """Its actor."""
        return f"{self._actor}{place + 1}"

    def send(self, message: PoseMessage, places: dict[int, PersonMessage]) -> None:
        """One datagram for the frame."""
        if self._first_ns is None or message.t_capture_ns < self._first_ns:
            self._first_ns = message.t_capture_ns
        self._time_s = (message.t_capture_ns - self._first_ns) / 1e9
        self._send(places)

    def _send(self, places: dict[int, PersonMessage]) -> None:
        self._anybody = bool(places)
        data = self._packer.pack([(self.name(i), i, person) for i, person in sorted(places.items())], self._time_s)
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
        if self._anybody:
            self._send({})

    def close(self) -> None:
        """Sends a frame without people and frees the socket."""
        self._nobody()
        self._sender.close()


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
    options = parser().parse_args(arguments)

    def work() -> None:
        o = options
        with RokokoBridge(o.host, o.port, o.people, o.hold, o.rate, o.actor, o.format) as bridge:
            actors = bridge.name(0) if o.people == 1 else f"{bridge.name(0)} to {bridge.name(o.people - 1)}"
            sys.stdout.write(f"Rokoko actors {actors} go to {o.host}, UDP port {o.port}. Ctrl-C ends.\n")
            sys.stdout.flush()
            run_bridge(options, bridge.item, threading.Event(), newest_only=True, on_silence=bridge.silence)

    return exit_status(options, PROG, work)


if __name__ == "__main__":
    sys.exit(main())
