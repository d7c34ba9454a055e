"""Reads what a publisher sends: a small class for programs, and the command that prints what arrives.

python -m pipeline.messages --connect tcp://127.0.0.1:5556 [--topic pose/] [--count N] [--raw]
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from pipeline import curve, messages
from pipeline.frames import Array
from pipeline.messages import CalibrationMessage, MeshMessage, Message, PersonMessage, PoseMessage, StatusMessage

DEFAULT_CONNECT = "tcp://127.0.0.1:5556"
#: A capture time further from now than this is a time in a file and says nothing of latency.
_FILE_TIME_S = 3600.0
_LINK_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Subscriber:
    """One SUB socket; reconnects by itself. Use by one thread.

    topics       prefixes of topics: "pose/" is every camera, "pose/cam/" one, "" everything
    newest_only  keeps the newest message of all topics together (CONFLATE), so subscribe to a single one
    curve_keys   the client/ folder that `python -m pipeline.publisher --make-keys` makes
    """

    def __init__(
        self,
        connect: str = DEFAULT_CONNECT,
        topics: Sequence[str] = ("pose/",),
        newest_only: bool = False,
        curve_keys: Path | None = None,
    ) -> None:
        """Raises ValueError for an address or key folder that cannot be used; a publisher may come later."""
        self.connect, self.topics = connect, tuple(topics)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._monitor = self._socket.get_monitor_socket(_LINK_EVENTS)
        self._link: int = 0
        try:
            self._socket.linger = 0
            self._socket.conflate = newest_only
            self._socket.heartbeat_ivl, self._socket.heartbeat_timeout = 500, 2000
            self._socket.reconnect_ivl, self._socket.reconnect_ivl_max = 100, 1000
            if curve_keys is not None:
                curve.secure_client(self._socket, curve_keys)
            for topic in self.topics:
                self._socket.subscribe(topic)
            self._socket.connect(connect)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(
                f"Cannot connect to {connect!r} ({error.strerror}): expected tcp://ADDRESS:PORT or ipc://PATH, "
                f"for instance --connect {DEFAULT_CONNECT}."
            ) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def receive(self, timeout_s: float) -> tuple[str, Message] | None:
        """The next topic and message, or None when none came in time.

        Raises ValueError for a message that is malformed or of a newer schema; the next call goes on behind it.
        """
        if not self._socket.poll(max(0, round(timeout_s * 1000))):
            return None
        return messages.decode(self._socket.recv())

    def silence(self) -> str:
        """One sentence on why nothing came."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            # a refusal is followed by a disconnection, which says less
            if event != zmq.EVENT_DISCONNECTED or self._link == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._link = event
        if self._link == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            wanted = " or ".join(repr(t) for t in self.topics)
            return f"The publisher at {self.connect} is there but sent nothing under {wanted}: try --topic ''."
        if self._link in (0, zmq.EVENT_DISCONNECTED):
            return f"Nobody publishes at {self.connect}: is run_stream.py running, with --bind for that address?"
        return (
            f"The publisher at {self.connect} refused this client: either both take --curve-keys, this one with the "
            "client/ folder of --make-keys, or neither does."
        )

    def close(self) -> None:
        """Frees the sockets. A second call does nothing."""
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()


def describe(topic: str, message: Message, now_wall_ns: int) -> Iterator[str]:
    """Lines for a person to read: one for each human of a pose message, one for any other message."""
    name = topic.rstrip("/")
    if isinstance(message, StatusMessage):
        age = "" if message.pose_age_ms is None else f"  pose age {message.pose_age_ms:.0f} ms"
        yield (
            f"{name}  {message.state}  {message.fps:.1f} fps  {message.people} people  {message.frames} frames  "
            f"{message.dropped} dropped{age}  {message.calibration_status}  {message.program}  "
            f"up {message.uptime_s:.0f} s  {message.detail}".rstrip()
        )
        return
    if isinstance(message, MeshMessage):
        yield f"{name} {message.index}  {_mesh_text(message)}  {_latency_text(message, now_wall_ns)}"
        return
    calibration = _calibration_text(message)
    if isinstance(message, CalibrationMessage):
        yield f"{name}  {calibration}  from {message.calibration.n_samples} samples of {message.calibration.estimator}"
        return
    latency = _latency_text(message, now_wall_ns)
    for person in message.people:
        yield f"{name} {message.index}  {_person_text(person)}  {calibration}  {latency}"
    if not message.people:
        yield f"{name} {message.index}  nobody in view  {calibration}  {latency}"


def _person_text(person: PersonMessage) -> str:
    x, y, z = person.t_world_root_m
    extent = float(np.ptp(person.joints_world_m[:, 1]))
    predicted = "  predicted" if person.predicted else ""
    return (
        f"id {person.id}  x {x:+.2f} y {y:+.2f} z {z:+.2f} m  yaw {math.degrees(person.yaw_rad):+4.0f}°  "
        f"joints span {extent:.2f} m{predicted}"
    )


def _calibration_text(message: PoseMessage | CalibrationMessage) -> str:
    c = message.calibration
    spread = "spread unknown" if c.focal_spread is None else f"± {c.focal_spread * 100:.1f} %"
    place = "height unknown" if c.camera_height_m is None else f"{c.camera_height_m:.2f} m up"
    return f"{c.status} f {c.focal_px:.0f} px {spread}, pitch {math.degrees(c.pitch_rad):+.1f}°, {place}"


def _mesh_text(message: MeshMessage) -> str:
    who = "  ".join(
        f"id {p.id} from {_point_text(p.vertices_world_m.min(0))} to {_point_text(p.vertices_world_m.max(0))} m"
        for p in message.people
    )
    faces = "" if message.faces is None else f", here with its {len(message.faces)} faces"
    return f"{who or 'nobody in view'}  {message.n_vertices} vertices of {message.body}, {message.topology}{faces}"


def _point_text(point: Array) -> str:
    return " ".join(f"{v:+.2f}" for v in point.tolist())


def _latency_text(message: PoseMessage | MeshMessage, now_wall_ns: int) -> str:
    latency_s = (now_wall_ns - message.t_wall_ns) / 1e9
    if abs(latency_s) > _FILE_TIME_S:
        return f"file time {message.t_wall_ns / 1e9:.2f} s"
    return f"latency {latency_s * 1e3:.0f} ms"


def _raw(topic: str, message: Message) -> str:
    text = msgspec.json.encode(message, enc_hook=lambda array: array.ravel().tolist()).decode()
    return f"{topic} {text}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.messages", description="Print what a stream publishes.")
    parser.add_argument("--connect", default=DEFAULT_CONNECT, metavar="ADDRESS", help="default %(default)s")
    parser.add_argument("--topic", action="append", metavar="PREFIX", help="pose/ (default), pose/CAMERA/, '' for all")
    parser.add_argument(
        "--count", type=int, default=0, metavar="N", help="end after N messages, or with status 1 at a silence"
    )
    parser.add_argument("--raw", action="store_true", help="print every field, as JSON")
    parser.add_argument("--curve-keys", type=Path, metavar="DIR", help="the client/ folder of --make-keys")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="silence to complain of, default 5")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Prints what arrives until --count or Ctrl-C; returns the exit status."""
    options = _parser().parse_args(arguments)
    topics = ["pose/"] if options.topic is None else options.topic
    try:
        with Subscriber(options.connect, topics, curve_keys=options.curve_keys) as subscriber:
            return _print_messages(subscriber, options)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # whoever read our output is gone; without this Python complains again when it flushes at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _print_messages(subscriber: Subscriber, options: argparse.Namespace) -> int:
    left = options.count
    while True:
        try:
            got = subscriber.receive(options.timeout)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            continue
        if got is None:
            sys.stderr.write(f"Nothing for {options.timeout:g} s. {subscriber.silence()}\n")
            if options.count:
                return 1
            continue
        lines = [_raw(*got)] if options.raw else describe(*got, now_wall_ns=time.time_ns())
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()
        left -= 1
        if left == 0:
            return 0
