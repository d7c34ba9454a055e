"""The stream's end of the live viewer: a process of its own that subscribes, and small pictures for it.

The viewer is `python -m bridges.viewer`. It gets poses as any subscriber does, and pictures over a socket of this
machine only (an ipc:// file in a folder that only this user may enter; loopback on Windows). Pictures are made small
in a thread, and only while the viewer has somebody who looks: OpenCV lets go of the interpreter's lock for that.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import msgspec
import zmq
from numpy.typing import NDArray

from pipeline import curve
from pipeline.handover import LatestSlot
from pipeline.messages import topic
from pipeline.types import Frame, FrameResult

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
EVERY_NS = 100_000_000
LONG_SIDE_PX, JPEG_QUALITY = 384, 75
ENDS_WITHIN_S = 3.0


class Picture(msgspec.Struct, frozen=True):
    """One picture on its way to the viewer, as msgpack behind `picture/<camera>/` and NUL."""

    index: int
    t_capture_ns: int
    jpeg: bytes


def local_address(folder: Path, name: str) -> str:
    """An address to bind that only this user reaches; on Windows, which has no ipc://, any free port of loopback."""
    return "tcp://127.0.0.1:*" if sys.platform == "win32" else f"ipc://{folder / name}"


class PictureSink:
    """A sink that publishes small JPEGs, at most ten a second and only while somebody subscribes."""

    def __init__(self, camera_id: str, bind: str, curve_keys: Path | None = None) -> None:
        """Raises ValueError for an address or keys that cannot be used."""
        self._topic = topic("picture", camera_id).encode() + b"\0"
        self._next_ns = 0
        self._wanted = 0
        self._slot: LatestSlot[Frame] = LatestSlot()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = None
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger, self._socket.sndhwm, self._socket.xpub_verboser = 0, 2, True
        self._thread = threading.Thread(target=self._work, name="pictures", daemon=True)
        try:
            if curve_keys is not None:
                self._authenticator = curve.secure_server(self._context, self._socket, curve_keys)
            self._socket.bind(bind)
        except zmq.ZMQError as error:
            self._free()
            raise ValueError(f"Cannot send pictures from {bind!r}: {error.strerror}.") from error
        except BaseException:
            self._free()
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread.start()

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Hands the picture over when the next one is due."""
        if frame.t_grab_ns >= self._next_ns:
            self._next_ns = frame.t_grab_ns + EVERY_NS
            self._slot.put(frame)

    def _work(self) -> None:
        while not self._slot.ended:
            frame = self._slot.take(0.5)
            while self._socket.poll(0):
                self._wanted += 1 if self._socket.recv()[:1] == b"\1" else -1
            if frame is not None and self._wanted > 0:
                picture = Picture(frame.index, frame.t_capture_ns, small_jpeg(frame))
                self._socket.send(self._topic + msgspec.msgpack.encode(picture))
        self._socket.close()

    def close(self) -> None:
        """Ends the thread and frees the address."""
        self._slot.close(discard=True)
        self._thread.join()
        self._free()

    def _free(self) -> None:
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self._context.term()


def small_jpeg(frame: Frame) -> bytes:
    """The picture with at most `LONG_SIDE_PX` pixels along its long side, as JPEG."""
    small: NDArray[Any] = frame.image
    # halving is what OpenCV averages fastest, four times as fast as any other share
    while max(small.shape[:2]) >= 2 * LONG_SIDE_PX:
        small = cv2.resize(small, (small.shape[1] // 2, small.shape[0] // 2), interpolation=cv2.INTER_AREA)
    share = min(1.0, LONG_SIDE_PX / max(small.shape[:2]))
    size = max(1, round(share * small.shape[1])), max(1, round(share * small.shape[0]))
    small = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes() if done else b""


class ViewerProcess:
    """`python -m bridges.viewer` as long as this is open; it also ends when this program is killed."""

    def __init__(
        self, port: int, connect: str, camera_id: str, pictures: str, control: str, curve_keys: Path | None = None
    ) -> None:
        """`curve_keys` is the client/ folder."""
        command = [sys.executable, "-m", "bridges.viewer", "--port", str(port), "--connect", connect, "--camera",
                   camera_id, "--pictures", pictures, "--control", control, "--while-stdin"]  # fmt: skip
        if curve_keys is not None:
            command += ["--curve-keys", str(curve_keys.resolve())]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # no Ctrl-C for it: it ends when this program closes its input
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}, start_new_session=True
        )
        self._said = False

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Says once when the viewer has ended by itself; the stream goes on."""
        if not self._said and self._process.poll() is not None:
            self._said = True
            log.warning("The viewer ended with status %d; the stream goes on without it.", self._process.returncode)

    def close(self) -> None:
        """Ends it."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for sockets that only this user may enter."""
    return tempfile.TemporaryDirectory(prefix="whmr-")


def client_keys(server_keys: Path | None) -> Path | None:
    """The viewer's keys: the client/ folder that --make-keys puts beside server/. Raises ValueError without one."""
    if server_keys is None:
        return None
    folder = server_keys.resolve().parent / "client"
    if not folder.is_dir():
        raise ValueError(f"--viewer with --curve-keys: expected the viewer's keys in {folder}, found no such folder.")
    return folder
