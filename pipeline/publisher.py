"""Publishes a camera's results over ZeroMQ; what is on the wire is said in docs/wire.md and pipeline.messages.

python -m pipeline.publisher --make-keys DIR        makes key files for --curve-keys
"""

from __future__ import annotations

import argparse
import errno
import functools
import importlib.metadata
import logging
import math
import re
import sys
import time
import tomllib
from pathlib import Path
from types import TracebackType

import zmq

from pipeline import curve, messages
from pipeline.body import BodyModel
from pipeline.mesh import Meshes
from pipeline.messages import SCHEMA_VERSION, StatusMessage
from pipeline.types import CameraCalibration, FrameResult

log = logging.getLogger(__name__)

PROGRAM = "whmr-stream"
DEFAULT_BIND = "tcp://127.0.0.1:5556"
#: Messages kept for a subscriber that does not keep up; what comes after is dropped for that one alone.
SEND_QUEUE = 32
#: Seconds between two calibrations when nothing changes, and at least, when the estimate moves on all the time.
CALIBRATION_EVERY_S = 1.0
CALIBRATION_PAUSE_S = 0.1
#: Seconds between two meshes that bring their faces.
FACES_EVERY_S = 1.0
#: Asking a socket who came costs a quarter of publishing; while somebody listens, others may wait this long.
HEAR_EVERY_S = 0.1
FLUSH_MS = 200
_LOOPBACK = re.compile(r"(ipc|inproc)://|tcp://(127\.|localhost|\[::1\])")


@functools.cache
def program_version() -> str:
    """Name and version of this program, from its installed package or its source tree."""
    try:
        version = importlib.metadata.version(PROGRAM)
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        version = tomllib.loads(project.read_text())["project"]["version"] if project.exists() else "unknown"
    return f"{PROGRAM} {version}"


class Publisher:
    """One bound XPUB socket for one camera. Never blocks: a subscriber that stalls loses messages, others do not.

    Use by one thread. Topics that nobody subscribed to are not encoded. New subscriptions are seen by the next
    call of any method, by `publish` within 0.1 s; a new subscriber to `calibration/` or `status/` gets the latest
    one then.
    """

    def __init__(
        self,
        camera_id: str,
        bind: str = DEFAULT_BIND,
        curve_keys: Path | None = None,
        body: BodyModel | None = None,
    ) -> None:
        """Binds `bind` (tcp:// or ipc://); `curve_keys` is the server/ folder that `--make-keys` makes.

        `body` is that of the people in the results; without it there is no `mesh/`.

        Raises ValueError for a camera id, address or key folder that cannot be used, OSError for a port in use.
        """
        self.camera_id = camera_id
        self._topics = {kind: messages.topic(kind, camera_id).encode() + b"\0" for kind in messages.KINDS}
        self._prefixes: set[bytes] = set()
        self._wanted: set[str] = set()
        self._status: StatusMessage | None = None
        self._calibration: CameraCalibration | None = None
        self._sent: CameraCalibration | None = None
        self._body = body
        self._meshes: Meshes | None = None
        self._faces_s = -math.inf
        self._sent_at_s = self._heard_s = 0.0
        self._start_s = time.monotonic()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = None
        self._socket = _new_socket(self._context)
        try:
            if curve_keys is not None:
                self._authenticator = curve.secure_server(self._context, self._socket, curve_keys)
            _bind(self._socket, bind)
        except BaseException:
            self.close()
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        if curve_keys is None and not _LOOPBACK.match(bind):
            log.warning("Anyone who reaches %s can read the poses: --curve-keys DIR limits that.", self.address)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wants(self, kind: str) -> bool:
        """Whether anybody subscribed to this camera's `kind` (one of messages.KINDS), or to a prefix of it."""
        self._hear()
        return kind in self._wanted

    def publish(self, result: FrameResult) -> None:
        """Sends one frame under `pose/`, `pose_json/` and `mesh/`, and its calibration whenever that is due.

        Raises ValueError for a result of another camera.
        """
        self._own(result.camera_id)
        if not self._wanted or time.monotonic() - self._heard_s > HEAR_EVERY_S:
            self._hear()
        wanted = [kind for kind in ("pose", "pose_json") if kind in self._wanted]
        if wanted:
            message = messages.pose_message(result, time.monotonic_ns(), time.time_ns())
            for data in [messages.encode(kind, message) for kind in wanted]:
                self._socket.send(data, zmq.NOBLOCK)
        self._calibrate(result.calibration)
        if "mesh" in self._wanted and self._body is not None:
            self._publish_mesh(result, self._body)

    def publish_calibration(self, calibration: CameraCalibration) -> None:
        """Sends a calibration now. `publish` does so itself when one changes and once a second.

        Raises ValueError for a calibration of another camera.
        """
        self._own(calibration.camera_id)
        self._hear()
        self._send_calibration(calibration)

    def publish_status(
        self,
        state: str,
        *,
        fps: float = 0.0,
        people: int = 0,
        frames: int = 0,
        dropped: int = 0,
        pose_age_ms: float | None = None,
        detail: str = "",
    ) -> None:
        """Sends how the stream is; `state` is starting, running, lost or ended, the rest as in StatusMessage."""
        self._hear()
        part = None if self._calibration is None else messages.calibration_part(self._calibration)
        self._status = StatusMessage(
            v=SCHEMA_VERSION,
            camera=self.camera_id,
            t_publish_ns=time.monotonic_ns(),
            t_publish_wall_ns=time.time_ns(),
            state=state,
            fps=fps,
            people=people,
            frames=frames,
            dropped=dropped,
            pose_age_ms=pose_age_ms,
            calibration_id=None if part is None else part.id,
            calibration_status="uncalibrated" if part is None else part.status,
            program=program_version(),
            uptime_s=round(time.monotonic() - self._start_s, 3),
            detail=detail,
        )
        self._send("status", self._status)

    def close(self) -> None:
        """Gives queued messages 0.2 s to leave, then frees the port. A second call does nothing."""
        self._socket.close(linger=FLUSH_MS)
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self._context.term()

    def _publish_mesh(self, result: FrameResult, body: BodyModel) -> None:
        if self._meshes is None:
            self._meshes = Meshes(body)
        now_s = time.monotonic()
        with_faces = now_s - self._faces_s > FACES_EVERY_S
        if with_faces:
            self._faces_s = now_s
        self._send("mesh", self._meshes.message(result, with_faces))

    def _own(self, camera_id: str) -> None:
        if camera_id != self.camera_id:
            raise ValueError(f"This publisher is of camera {self.camera_id!r}, got something of {camera_id!r}.")

    def _hear(self) -> None:
        """Takes note of who subscribed and who left, and serves newcomers the latest calibration and status."""
        self._heard_s = time.monotonic()
        while int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = self._socket.recv(zmq.NOBLOCK)
            prefix = event[1:]
            if event[:1] == b"\0":
                self._prefixes.discard(prefix)
                self._update_wanted()
            elif event[:1] == b"\1":
                self._prefixes.add(prefix)
                self._update_wanted()
                if self._topics["mesh"].startswith(prefix):
                    self._faces_s = -math.inf
                if self._calibration is not None and self._topics["calibration"].startswith(prefix):
                    self._send_calibration(self._calibration)
                if self._status is not None and self._topics["status"].startswith(prefix):
                    self._send("status", self._status)

    def _update_wanted(self) -> None:
        self._wanted = {
            kind
            for kind, topic in self._topics.items()
            if any(topic.startswith(prefix) or prefix.startswith(topic) for prefix in self._prefixes)
        }

    def _calibrate(self, calibration: CameraCalibration) -> None:
        self._calibration = calibration
        pause_s = time.monotonic() - self._sent_at_s
        moved = calibration is not self._sent and pause_s > CALIBRATION_PAUSE_S
        if self._sent is None or calibration.status != self._sent.status or moved or pause_s > CALIBRATION_EVERY_S:
            self._send_calibration(calibration)

    def _send_calibration(self, calibration: CameraCalibration) -> None:
        self._calibration = self._sent = calibration
        self._sent_at_s = time.monotonic()
        if "calibration" in self._wanted:
            now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
            self._send("calibration", messages.calibration_message(calibration, now_ns, wall_ns))

    def _send(self, kind: str, message: messages.Message) -> None:
        if kind in self._wanted:
            self._socket.send(messages.encode(kind, message), zmq.NOBLOCK)


def _new_socket(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.XPUB)
    socket.linger = 0
    socket.sndhwm = SEND_QUEUE
    # every new subscriber is announced, not only the first of a topic: newcomers need the calibration
    socket.xpub_verbose = True
    socket.maxmsgsize = 4096
    socket.heartbeat_ivl, socket.heartbeat_timeout, socket.heartbeat_ttl = 1000, 3000, 3000
    return socket


def _bind(socket: zmq.Socket[bytes], address: str) -> None:
    try:
        # ZeroMQ reads the digits of a port and forgets the rest
        if address.startswith("tcp://") and not re.search(r":(\d+|\*)$", address):
            raise zmq.ZMQError(errno.EINVAL)
        socket.bind(address)
    except zmq.ZMQError as error:
        port = re.search(r":(\d+)$", address)
        other = f"tcp://127.0.0.1:{int(port[1]) + 1 if port else 5557}"
        if error.errno == zmq.EADDRINUSE:
            raise OSError(f"{address} is in use by another program: end that one or type --bind {other}.") from error
        if error.errno == errno.EACCES:
            raise OSError(f"This user may not bind {address}: try a port above 1023, --bind {DEFAULT_BIND}.") from error
        raise ValueError(
            f"Cannot publish at {address!r} ({error.strerror}): expected tcp://ADDRESS:PORT with an address of this "
            f"machine, or ipc://PATH, for instance --bind {DEFAULT_BIND}."
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """The command line that makes key files; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.publisher", description="Make keys for --curve-keys.")
    parser.add_argument("--make-keys", metavar="DIR", type=Path, required=True, help="folder for server/ and client/")
    folder = parser.parse_args(arguments).make_keys
    try:
        curve.make_keys(folder)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"The stream takes --curve-keys {folder / 'server'}; a subscriber takes --curve-keys {folder / 'client'}.\n"
        f"Copy {folder / 'client'} to the subscriber's machine over a safe way; each *.key in "
        f"{folder / 'server' / 'clients'} lets one client in.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
