"""Publishes a recording again, at its own times and byte for byte, so that programs can be made without a camera.

python -m bridges.play x.mcap [--bind tcp://127.0.0.1:5556] [--speed X | --fast] [--loop] [--wait]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import zmq

from bridges.feed import bridge_parser, exit_status, positive, signals_set
from bridges.recordings import Timeline, read_recording
from pipeline import messages
from pipeline.mcap_file import Recorded
from pipeline.publisher import DEFAULT_BIND, Publisher

log = logging.getLogger(__name__)

PROG = "python -m bridges.play"
STEP_S = 0.05
#: Messages looked at before the start, to know camera and topics.
LOOK_AHEAD = 256
#: Those of which a newcomer gets the latest one at once.
KEPT = ("calibration", "status")


class Player(Publisher):
    """Publishes bytes of a recording as `Publisher` does its own: newcomers get the latest calibration and status.

    pose_json  make `pose_json/` of `pose/` for those who subscribe to it, since the recording has none
    """

    def __init__(self, camera_id: str, bind: str, curve_keys: Path | None, lossless: bool, pose_json: bool) -> None:
        """`lossless`: wait for slow subscribers instead of leaving messages out. Raises as `Publisher`."""
        self._latest: dict[bytes, bytes] = {}
        self._make_json = pose_json
        super().__init__(camera_id, bind, curve_keys)
        self._socket.xpub_nodrop = lossless

    def __enter__(self) -> Player:
        return self

    def send(self, raw: bytes, stop: threading.Event) -> None:
        """Sends one message, and serves newcomers."""
        self._hear()
        topic = raw.partition(b"\0")[0] + b"\0"
        if topic.startswith(tuple(f"{kind}/".encode() for kind in KEPT)):
            self._latest[topic] = raw
        self._put(raw, stop)
        if self._make_json and topic.startswith(b"pose/") and self.heard(b"pose_json/"):
            _, message = messages.decode(raw)
            self._put(messages.encode("pose_json", message), stop)

    def heard(self, start: bytes) -> bool:
        """Whether anybody subscribed to topics that start so, or to a prefix of them."""
        return any(prefix.startswith(start) or start.startswith(prefix) for prefix in self._prefixes)

    def listened(self) -> bool:
        """Whether anybody is there; serves newcomers."""
        self._hear()
        return bool(self._prefixes)

    def _hear(self) -> None:
        while int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = self._socket.recv(zmq.NOBLOCK)
            prefix = event[1:]
            if event[:1] == b"\0":
                self._prefixes.discard(prefix)
            elif event[:1] == b"\1":
                self._prefixes.add(prefix)
                for topic, raw in self._latest.items():
                    if topic.startswith(prefix):
                        self._socket.send(raw, zmq.NOBLOCK)

    def _put(self, raw: bytes, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._socket.send(raw, zmq.NOBLOCK)
            except zmq.Again:
                stop.wait(0.002)
            else:
                return


def play(options: argparse.Namespace, stop: threading.Event) -> None:
    """Plays until the end, `stop` or a signal; options as `main` makes them.

    Raises ValueError for a file that is no recording, or an address that cannot be used, OSError for one that is in
    use or a file that cannot be read.
    """
    start = list(itertools.islice(read_recording(options.recording), LOOK_AHEAD))
    if not start:
        raise ValueError(f"{options.recording} holds no messages: expected a recording of at least one.")
    topics = {m.raw.partition(b"\0")[0].decode("ascii", "replace"): None for m in start}
    camera = next(iter(topics)).strip("/").rpartition("/")[2]
    pose_json = not any(topic.startswith("pose_json/") for topic in topics)
    speed = math.inf if options.fast else options.speed or 1.0
    with Player(camera, options.bind, options.curve_keys, options.fast, pose_json) as player, signals_set(stop):
        log.info("Playing %s (%s) on %s.", options.recording, ", ".join(topics), player.address)
        while options.wait and not player.listened() and not stop.wait(STEP_S):
            pass
        for count in itertools.count(1):
            _play_once(player, read_recording(options.recording), speed, stop)
            if not options.loop or stop.is_set():
                break
            log.info("Round %d is over.", count)
        log.info("%s.", "Stopped" if stop.is_set() else "The recording is over")


def _play_once(player: Player, recording: Iterator[Recorded], speed: float, stop: threading.Event) -> None:
    timeline, start_s = Timeline(), time.monotonic()
    for recorded in recording:
        due_s = start_s + timeline.at_s(recorded) / speed
        while not stop.is_set() and (left_s := due_s - time.monotonic()) > 0:
            player.listened()
            stop.wait(min(left_s, STEP_S))
        if stop.is_set():
            return
        player.send(recorded.raw, stop)


def _parser() -> argparse.ArgumentParser:
    parser = bridge_parser(
        PROG,
        "Publish a recording again at its own times, byte for byte.",
        f"{PROG} x.mcap --loop\npython -m pipeline.messages          in another terminal: what is published",
    )
    parser.add_argument("recording", type=Path, metavar="FILE", help="x.mcap, x.npz or its journal x.npz.partial")
    parser.add_argument("--bind", default=DEFAULT_BIND, metavar="ADDR", help="ZeroMQ address (default %(default)s)")
    parser.add_argument(
        "--curve-keys", type=Path, metavar="DIR", help="only clients with a key of this folder may listen"
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=positive, metavar="X", help="2 is twice as fast (default 1)")
    pace.add_argument("--fast", action="store_true", help="as fast as the slowest subscriber takes it")
    parser.add_argument("--loop", action="store_true", help="start over at the end; indices and times start over too")
    parser.add_argument("--wait", action="store_true", help="start when somebody subscribes")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(options, PROG, lambda: play(options, threading.Event()))


if __name__ == "__main__":
    sys.exit(main())
