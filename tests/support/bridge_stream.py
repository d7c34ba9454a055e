"""A stream for the bridges' tests: canned messages of people who walk, sent over a real socket that may die.

with BridgeStream() as stream:
    ... start the bridge with --connect stream.address ...
    stream.wait_for("pose")
    stream.send(*scene(count=30))
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
import zmq

from pipeline import frames, messages
from pipeline.body import ShapedBody, open_body
from pipeline.messages import StatusMessage
from pipeline.schema import SCHEMA_VERSION
from pipeline.types import JOINT_NAMES, BodyPose, FrameResult, Person, WorldPose
from tests.support.results import random_calibration
from tests.support.rtsp import free_port

PATIENCE_S = 20.0
START_NS = 5_000_000_000
WALL_NS = 1_700_000_000_000_000_000


@functools.cache
def _shape(seed: int, track_id: int) -> ShapedBody:
    return open_body().shaped(np.random.default_rng([3, seed, track_id]).normal(0, 0.5, 10))


def walker(t_s: float, track_id: int = 1, seed: int = 0) -> Person:
    """Somebody who walks in a circle of 1 m: joints fit rotations and shape, the root is on a smooth path."""
    shaped = _shape(seed, track_id)
    phase = 2 * np.pi * (0.9 * t_s + 0.3 * track_id)
    turns = np.zeros((24, 3))
    for name, axis, size in (("hip", 0, -0.5), ("knee", 0, 0.5), ("shoulder", 2, 1.1), ("elbow", 1, 0.4)):
        for side, sign in (("left", 1), ("right", -1)):
            swing = np.sin(phase) * sign if name == "hip" else 1 - np.cos(phase) if name == "knee" else -sign
            turns[JOINT_NAMES.index(f"{side}_{name}"), axis] = size * swing
    Rs = frames.exp_so3(turns[1:])
    angle = 0.5 * t_s + track_id
    R_world_root = frames.exp_so3(np.array([0.0, np.pi / 2 - angle, 0.0]))
    t_world_root = np.array([np.sin(angle), 0.95 + 0.02 * np.sin(2 * phase), -4 - np.cos(angle)])
    velocity = 0.5 * np.array([np.cos(angle), 0.0, np.sin(angle)])
    calibration = random_calibration(0)
    R_camera_world = calibration.R_world_camera.T
    t_camera_root = R_camera_world @ (t_world_root - calibration.t_world_camera)
    R_camera_root = R_camera_world @ R_world_root
    confidence = np.linspace(0.5, 1.0, 24)
    in_world = shaped.posed(R_world_root, t_world_root, Rs).joints
    in_camera = shaped.posed(R_camera_root, t_camera_root, Rs).joints
    return Person(
        track_id=track_id,
        box_xyxy=np.array([300.0, 100.0, 500.0, 600.0]),
        score=0.9,
        camera=BodyPose(R_camera_root, t_camera_root, Rs, shaped.betas, in_camera, confidence),
        world=WorldPose(R_world_root, t_world_root, Rs, shaped.betas, in_world, confidence, velocity),
    )


def walk(index: int, people: int = 1, camera_id: str = "cam", fps: float = 30.0) -> FrameResult:
    """Frame `index` of `people` walkers with ids 1, 2, ..."""
    calibration = random_calibration(0, camera_id)
    t_ns = START_NS + round(index * 1e9 / fps)
    return FrameResult(
        camera_id=camera_id,
        index=index,
        t_capture_ns=t_ns,
        t_wall_ns=WALL_NS + t_ns,
        t_grab_ns=t_ns,
        size_wh=calibration.size_wh,
        dropped=0,
        stages_ms={"detector": 10.0},
        calibration=calibration,
        people=tuple(walker(index / fps, i + 1) for i in range(people)),
    )


def pose(index: int, people: int = 1, camera_id: str = "cam", kind: str = "pose") -> bytes:
    """The message of frame `index` of `walk`, under "pose" or "pose_json"."""
    result = walk(index, people, camera_id)
    message = messages.pose_message(result, result.t_capture_ns + 50_000_000, result.t_wall_ns + 50_000_000)
    return messages.encode(kind, message)


def calibration(camera_id: str = "cam", t_ns: int = START_NS) -> bytes:
    """The message of the calibration that `walk` has."""
    part = random_calibration(0, camera_id)
    return messages.encode("calibration", messages.calibration_message(part, t_ns, WALL_NS + t_ns))


def status(camera_id: str = "cam", t_ns: int = START_NS, state: str = "running", frames_: int = 0) -> bytes:
    """A status message."""
    message = StatusMessage(
        v=SCHEMA_VERSION, camera=camera_id, t_publish_ns=t_ns, t_publish_wall_ns=WALL_NS + t_ns, state=state, fps=30.0,
        people=1, frames=frames_, dropped=0, pose_age_ms=50.0, calibration_id="0123abcd",
        calibration_status="calibrated", program="test 1", uptime_s=1.0,
    )  # fmt: skip
    return messages.encode("status", message)


def scene(count: int = 30, people: int = 1, camera_id: str = "cam", every: int = 10) -> list[bytes]:
    """What a stream publishes in `count` frames: poses, and every `every` frames calibration and status."""
    found = []
    for index in range(count):
        found.append(pose(index, people, camera_id))
        if index % every == 0:
            t_ns = START_NS + round(index * 1e9 / 30)
            found += [calibration(camera_id, t_ns), status(camera_id, t_ns, frames_=index)]
    return found


class BridgeStream:
    """A bound XPUB socket that sends what it is told; a context manager. Use by one thread, `play` apart.

    `address` stays the same over `stop` and `start`, as that of a stream which is restarted.
    """

    def __init__(self) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._playing = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Binds the address."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger, self._socket.sndhwm = 500, 0
        self._socket.bind(self.address)
        self._prefixes: set[bytes] = set()

    def stop(self) -> None:
        """Ends as a program that ends: the subscribers' connections break. A second call does nothing."""
        self.end_play()
        if not self._socket.closed:
            self._socket.close()
            self._context.term()

    def hear(self) -> set[bytes]:
        """The prefixes that somebody is subscribed to."""
        while self._socket.poll(0):
            event = self._socket.recv()
            (self._prefixes.add if event[:1] == b"\1" else self._prefixes.discard)(event[1:])
        return self._prefixes

    def wait_for(self, kind: str = "pose") -> None:
        """Waits until somebody subscribed to `kind`, of any camera or of one.

        After a restart a subscriber must be receiving meanwhile, or ZeroMQ does not subscribe it again.
        """
        end_s = time.monotonic() + PATIENCE_S
        while not any(prefix.startswith(f"{kind}/".encode()) or not prefix for prefix in self.hear()):
            assert time.monotonic() < end_s, f"nobody subscribed to {kind!r}, only to {self._prefixes}"
            time.sleep(0.005)

    def send(self, *raw: bytes, every_s: float = 0.0) -> None:
        """Sends messages, `every_s` apart."""
        for data in raw:
            self._socket.send(data)
            if every_s:
                time.sleep(every_s)

    def play(self, raw: Sequence[bytes], every_s: float = 0.02) -> None:
        """Sends messages over and over, in a thread, until `end_play`; nothing else may be called meanwhile."""
        self._playing.set()

        def work() -> None:
            while self._playing.is_set():
                for data in raw:
                    if self._playing.is_set():
                        self.send(data, every_s=every_s)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def end_play(self) -> None:
        """Ends `play`, where that goes on."""
        self._playing.clear()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
            self._thread = None
