"""Starts `run_stream.py` the way a user does, listens to what it publishes, and ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import zmq

from pipeline import messages
from pipeline.messages import CalibrationMessage, Message, PoseMessage, StatusMessage
from tests.support.rtsp import free_port

ROOT = Path(__file__).parents[2]
#: A program that takes longer hangs; nothing here is a measurement.
STUCK_S = 90.0


@dataclass(frozen=True)
class Finished:
    """How a program ended and what it said."""

    status: int
    output: str
    errors: str


def run(*arguments: str, timeout_s: float = STUCK_S, environment: dict[str, str] | None = None) -> Finished:
    """Runs `python ARGUMENTS` in the repository's root to its end; fails when it hangs."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


class Program:
    """`run_stream.py` in a process of its own; a context manager that leaves no process.

    arguments    of the command line; --bind to a free port is added
    folder       gets its output as stdout.txt and stderr.txt
    """

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._out, self._err = folder / "stdout.txt", folder / "stderr.txt"
        self._arguments, self._environment = arguments, environment
        self.ended_after_s = 0.0

    def start(self) -> Self:
        """Starts it; listeners that are there already miss no frame."""
        command = [sys.executable, str(ROOT / "run_stream.py"), "--bind", self.address, *self._arguments]
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=out, stderr=err)
        return self

    @property
    def output(self) -> str:
        """What it wrote to standard output so far."""
        return self._out.read_text()

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return self._err.read_text()

    def until(self, condition: Callable[[], object], what: str, within_s: float = STUCK_S) -> None:
        """Waits for `condition`; fails with what the program said when it ends or stalls before."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert self._process.poll() is None, f"ended with {self._process.returncode} before {what}:\n{self.errors}"
            assert time.monotonic() < deadline, f"no {what} within {within_s:g} s:\n{self.errors}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; the exit status."""
        start = time.monotonic()
        self._process.send_signal(number)
        status = self._process.wait(STUCK_S)
        self.ended_after_s = time.monotonic() - start
        return status

    def wait(self, timeout_s: float = STUCK_S) -> int:
        """Waits for its own end; the exit status."""
        return self._process.wait(timeout_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)


@dataclass
class Listener:
    """A SUB socket in a thread of its own that keeps every message; a context manager.

    It may be there before the publisher: it tries every 20 ms, and the networks take longer to open than that.
    """

    address: str
    topics: tuple[str, ...] = ("",)
    raw: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _listen(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.linger, socket.rcvhwm, socket.reconnect_ivl = 0, 0, 20
            for topic in self.topics:
                socket.subscribe(topic)
            socket.connect(self.address)
            while not self._stop.is_set():
                if socket.poll(20):
                    self.raw.append(socket.recv())
            while socket.poll(0):
                self.raw.append(socket.recv())

    def _of(self, kind: str) -> list[Message]:
        return [messages.decode(data)[1] for data in list(self.raw) if data.startswith(f"{kind}/".encode())]

    @property
    def poses(self) -> list[PoseMessage]:
        """What came under `pose/`, in order."""
        return [m for m in self._of("pose") if isinstance(m, PoseMessage)]

    @property
    def calibrations(self) -> list[CalibrationMessage]:
        """What came under `calibration/`, in order."""
        return [m for m in self._of("calibration") if isinstance(m, CalibrationMessage)]

    @property
    def states(self) -> list[StatusMessage]:
        """What came under `status/`, in order."""
        return [m for m in self._of("status") if isinstance(m, StatusMessage)]

    def count(self, kind: str = "pose") -> int:
        """How many messages of a kind came so far."""
        return sum(data.startswith(f"{kind}/".encode()) for data in list(self.raw))


@dataclass(frozen=True, eq=False)
class DemoRun:
    """A demo clip that went through the program: what a subscriber got, what was recorded, what was said."""

    folder: Path
    poses: list[PoseMessage]
    calibrations: list[CalibrationMessage]
    states: list[StatusMessage]
    recording: dict[str, np.ndarray]
    finished: Finished


def demo_run(folder: Path, source: str, *arguments: str) -> DemoRun:
    """Plays `source` to its end, recording to `folder`/poses.npz, while a subscriber listens."""
    recording = folder / "poses.npz"
    program = Program(folder, "--source", source, "--record", str(recording), *arguments)
    with Listener(program.address) as listener, program:
        status = program.wait(300.0)
    finished = Finished(status, program.output, program.errors)
    assert status == 0, finished.errors
    return DemoRun(folder, listener.poses, listener.calibrations, listener.states, load(recording), finished)


def load(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz file."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
