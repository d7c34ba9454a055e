"""Poses over VMC (OSC over UDP) to VSeeFace, Warudo, Unity (EVMC4U), Unreal (VMC4UE, VMCLiveLink), Blender, Godot.

python -m bridges.vmc [--connect ADDRESS] [--host HOST] [--port 39539]
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from bridges.feed import add_feed_options, bridge_parser
from bridges.people import PeopleBridge, add_people_options, run_people
from bridges.udp import UdpSender
from bridges.vmc_pack import Translation, UpperChest, VmcPacker
from pipeline.messages import PersonMessage, PoseMessage

PROG = "python -m bridges.vmc"
PORT = 39539


class VmcBridge(PeopleBridge):
    """One port and one socket for each place; a context manager.

    Somebody who left is said to be no longer tracked for as long as the port is held; then the port is silent.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        people: int = 4,
        hold_s: float = 1.0,
        rate_hz: float | None = None,
        translation: Translation = "hips",
        upper_chest: UpperChest = "send",
    ) -> None:
        """Raises ValueError for a host or port that cannot be used."""
        super().__init__(people, hold_s, rate_hz)
        self._packer = VmcPacker(translation, upper_chest)
        self._time_s = 0.0
        with ExitStack() as stack:
            self._senders = [stack.enter_context(UdpSender(host, port + i)) for i in range(people)]
            self._open = stack.pop_all()

    def name(self, place: int) -> str:
        """Its address."""
        return self._senders[place].name

    def send(self, message: PoseMessage, places: dict[int, PersonMessage]) -> None:
        """Each person to its port; the time is that of capture, since the first frame."""
        self._time_s = self._seconds(message)
        for place, person in places.items():
            for datagram in self._packer.pack(person, self._time_s):
                self._senders[place].send(datagram)

    def gone(self, place: int) -> None:
        """Tracking 0, no bones: receivers keep the pose or go to their own idle one."""
        self._senders[place].send(self._packer.lost(self._time_s))

    def close(self) -> None:
        """Says goodbye to everybody and frees the sockets."""
        self.end()
        self._open.close()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = bridge_parser(
        PROG,
        "Sends everybody's pose over VMC, one UDP port for each person.",
        f"{PROG}\n{PROG} --host 192.168.1.20 --port 39540 --upper-chest merge\n{PROG} --recording take.mcap",
    )
    add_feed_options(made)
    add_people_options(made, PORT, people=4)
    group = made.add_argument_group("VMC")
    group.add_argument(
        "--translation", choices=("hips", "root"), default="hips",
        help="hips: the Hips bone moves through the world; root: the root moves on the floor (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--upper-chest", choices=("send", "merge"), default="send",
        help="merge: its rotation goes into Chest, for models without an UpperChest bone (%(default)s)",
    )  # fmt: skip
    return made


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit status."""
    o = parser().parse_args(arguments)
    last = o.port + o.people - 1
    ports = f"port {o.port}" if o.people == 1 else f"ports {o.port} to {last}, one for each person"
    return run_people(
        o,
        PROG,
        lambda: VmcBridge(o.host, o.port, o.people, o.hold, o.rate, o.translation, o.upper_chest),
        lambda _: f"VMC goes to {o.host}, UDP {ports}.",
    )


if __name__ == "__main__":
    sys.exit(main())
