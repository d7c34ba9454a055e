"""Commands into a running stream: recalibrate, set the floor, people's height, save, smoothing, recordings.

Off unless `--control ADDRESS` or `--viewer` is given, and on this machine only: who may give commands can spoil a
calibration and fill a disk, so the socket is bound to loopback or to an ipc:// file and other addresses are refused.
Other users of this machine reach loopback too; `--curve-keys` lets in only those who have a key. Recordings go into
one folder, under plain names that are not taken, so that no command writes anywhere else.

Requests and answers are JSON over ROUTER; a REQ or DEALER socket asks. One request: ``{"command": "save"}``; one
answer: ``{"ok": true, "says": "...", "state": {...}}``. The stream's main thread applies them between two frames. ::

    python -m pipeline.control recalibrate --connect tcp://127.0.0.1:5557
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal

import msgspec
import zmq
from msgspec import Meta, Struct

from pipeline import curve

log = logging.getLogger(__name__)

DEFAULT_CONTROL = "tcp://127.0.0.1:5557"
LOCAL = re.compile(r"tcp://(127\.[0-9.]+|localhost|\[::1\]):(\d+|\*)|(ipc|inproc)://.+")
#: Requests answered after one frame; more wait for the next, so that nobody can hold the stream up.
AT_ONCE = 4
LONGEST_BYTES = 4096


class Command(Struct, frozen=True, tag_field="command", forbid_unknown_fields=True):
    """What a stream can be told."""


class Look(Command, frozen=True, tag="look"):
    """Changes nothing; the answer says how things stand."""


class Recalibrate(Command, frozen=True, tag="recalibrate"):
    """Forget what is known of the camera, the cache's too, and start again."""


class SetFloor(Command, frozen=True, tag="set_floor"):
    """The floor is where the people who are seen stand now."""


class SetPersonHeight(Command, frozen=True, tag="set_person_height"):
    """People are this tall, metres: fixes the scale of everything, like --height."""

    height_m: Annotated[float, Meta(ge=0.5, le=2.5)]


class Save(Command, frozen=True, tag="save"):
    """Keep the calibration for the next start, now."""


class Smoothing(Command, frozen=True, tag="smoothing"):
    """Another level of smoothing, as of --smoothing."""

    level: Literal["off", "low", "default", "high"]


class RecordStart(Command, frozen=True, tag="record_start"):
    """Record every pose to a file of this name in the folder of --takes."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$")]


class RecordStop(Command, frozen=True, tag="record_stop"):
    """End that recording."""


AnyCommand = Look | Recalibrate | SetFloor | SetPersonHeight | Save | Smoothing | RecordStart | RecordStop


class State(Struct, frozen=True):
    """How the things stand that commands change; `recording` is a file's name or null."""

    smoothing: str
    recording: str | None = None


class Answer(Struct, frozen=True):
    """`ok`: it was done. `says`: one sentence on what was done, or why not. `state`: null where it was not asked."""

    ok: bool
    says: str
    state: State | None = None


_DECODER = msgspec.json.Decoder(AnyCommand)


def check_local(address: str) -> None:
    """Raises ValueError for an address that machines other than this one could reach."""
    if not LOCAL.fullmatch(address):
        raise ValueError(
            f"--control {address}: expected an address of this machine only, tcp://127.0.0.1:PORT or ipc://PATH, "
            f"because whoever reaches it commands the stream; try --control {DEFAULT_CONTROL}."
        )


class ControlServer:
    """The stream's end: one ROUTER socket, looked at by `serve` between two frames. Use by one thread.

    apply  does a command and says what was done; its ValueError and OSError are answers
    state  how things stand
    """

    def __init__(
        self,
        address: str,
        apply: Callable[[Command], str],
        state: Callable[[], State],
        curve_keys: Path | None = None,
    ) -> None:
        """Binds. Raises ValueError for an address that is not of this machine alone, OSError for one in use."""
        check_local(address)
        self._apply, self._state = apply, state
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger, self._socket.maxmsgsize = 200, LONGEST_BYTES
        self._socket.router_handover = True
        self._authenticator = None
        try:
            if curve_keys is not None:
                self._authenticator = curve.secure_server(self._context, self._socket, curve_keys)
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(f"--control {address}: {error.strerror}; name another port.") from error
        except BaseException:
            self.close()
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def serve(self) -> None:
        """Does and answers what was asked since the last call; never waits."""
        for _ in range(AT_ONCE):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            *envelope, request = self._socket.recv_multipart()
            answer = self._answer(request)
            self._socket.send_multipart([*envelope, msgspec.json.encode(answer)], zmq.NOBLOCK)

    def _answer(self, request: bytes) -> Answer:
        try:
            command = _DECODER.decode(request)
        except msgspec.MsgspecError as error:
            return Answer(False, f"This is no command: {error}.", self._state())
        try:
            says = self._apply(command)
        except (ValueError, OSError) as error:
            return Answer(False, str(error), self._state())
        if not isinstance(command, Look):
            log.info("%s", says)
        return Answer(True, says, self._state())

    def close(self) -> None:
        """Frees the address. A second call does nothing."""
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self._context.term()

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ask(address: str, command: Command, timeout_s: float = 5.0, curve_keys: Path | None = None) -> Answer:
    """Gives one command and waits for its answer; `curve_keys` is the client/ folder of --make-keys.

    Raises ValueError for an address or keys that cannot be used. A stream that does not answer is an Answer too.
    """
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        try:
            if curve_keys is not None:
                curve.secure_client(socket, curve_keys)
            socket.connect(address)
        except zmq.ZMQError as error:
            raise ValueError(
                f"Cannot connect to {address!r} ({error.strerror}): expected tcp://127.0.0.1:PORT."
            ) from error
        socket.send(msgspec.json.encode(command))
        if not socket.poll(round(timeout_s * 1000)):
            return Answer(False, f"No answer from {address} for {timeout_s:g} s: is the stream running with --control?")
        try:
            return msgspec.json.decode(socket.recv(), type=Answer)
        except msgspec.MsgspecError as error:
            return Answer(False, f"{address} answered something else ({error}): is that a stream's --control?")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.control",
        description="Give one command to a stream that was started with --control.",
        epilog=f"example:\n  python -m pipeline.control set_person_height 1.78 --connect {DEFAULT_CONTROL}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = (
        "look, recalibrate, set_floor, set_person_height METRES, save, smoothing LEVEL, record_start NAME, record_stop"
    )
    parser.add_argument("command", help=names)
    parser.add_argument("value", nargs="?", help="of set_person_height, smoothing and record_start")
    parser.add_argument("--connect", default=DEFAULT_CONTROL, metavar="ADDRESS", help="default %(default)s")
    parser.add_argument("--curve-keys", type=Path, metavar="DIR", help="the client/ folder of --make-keys")
    return parser


_VALUES = {"set_person_height": "height_m", "smoothing": "level", "record_start": "name"}


def main(arguments: list[str] | None = None) -> int:
    """Gives the command of the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    fields = {"command": options.command}
    if options.value is not None:
        fields[_VALUES.get(options.command, "value")] = options.value
    try:
        command = msgspec.convert(fields, AnyCommand, strict=False)
        answer = ask(options.connect, command, curve_keys=options.curve_keys)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"python -m pipeline.control: {error}; type --help for the commands.\n")
        return 2
    (sys.stdout if answer.ok else sys.stderr).write(f"{answer.says}\n")
    return 0 if answer.ok else 1


if __name__ == "__main__":
    sys.exit(main())
