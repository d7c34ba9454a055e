"""One person for NVIDIA's GR00T-WholeBodyControl (SONIC): its ZMQ stream, protocol 3 (SMPL).

    python -m bridges.sonic --bind tcp://127.0.0.1:5558
    bash deploy.sh --input-type zmq --zmq-host localhost --zmq-port 5558 --zmq-topic pose sim        (on their side)

The robot copies the person: try it in simulation first, have somebody at the emergency stop. While nobody is seen
nothing is sent and the robot holds its last pose; it takes the next one at once.

A message is `pose`, a JSON header of 1280 bytes filled up with NULs, and the header's arrays one after the other. What
their reader knows: `smpl_joints` (N, 24, 3), `smpl_pose` (N, 21, 3), `joint_pos` and `joint_vel` (N, 29), `body_quat`
(N, 4), `frame_index` (N,), `timestamp_monotonic` (1,); it passes over other names, so all the rest goes along.

Their world is right-handed, metres, z up: x the camera's right, y away from the camera, (x, y, z) -> (x, -z, y) of
ours. A body faces x, left is y. So with M our axes in REP-103's and T our world in theirs::

    body_quat   = T R_world_root M^-1     w x y z
    smpl_joints = M R_world_root^-1 (p - p_pelvis)

Their robot takes one frame each 20 ms, however they come. So the pose is resampled to 50 Hz at its capture times, and
each message repeats the newest `--window` frames, which bridges messages that their reader drops.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from bridges.feed import Item, add_feed_options, bridge_parser, exit_status, positive, run_bridge
from bridges.sonic_frames import Resampler, SonicFrame, choose, moment
from pipeline.messages import PersonMessage, PoseMessage

PROG = "python -m bridges.sonic"
EXAMPLE = """\
python -m bridges.sonic --bind tcp://127.0.0.1:5558
python -m bridges.sonic --bind tcp://0.0.0.0:5558 --person 3"""
TOPIC, PROTOCOL, HEADER_BYTES = b"pose", 3, 1280
#: Their reader keeps five frames before the one that it plays, and starts anew when a message begins before those.
MAX_WINDOW = 8
#: `timestamp_monotonic` is compared with the robot's clock; a capture this far away is a time in a file.
_FILE_TIME_S = 60.0
_DTYPES = {"<f4": "f32", "<f8": "f64", "<i4": "i32", "<i8": "i64"}


def pack(fields: dict[str, NDArray[Any]]) -> bytes:
    """The message of these arrays: float32, float64, int32 or int64.

    Raises ValueError when their header has more than 1280 bytes, KeyError for another type.
    """
    arrays = [np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<")) for a in fields.values()]
    layout = tuple((name, a.dtype.str, a.shape) for name, a in zip(fields, arrays, strict=True))
    return TOPIC + _header(layout) + b"".join(a.tobytes() for a in arrays)


@functools.lru_cache(maxsize=64)
def _header(layout: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    fields = [{"name": name, "dtype": _DTYPES[dtype], "shape": list(shape)} for name, dtype, shape in layout]
    text = json.dumps({"v": PROTOCOL, "endian": "le", "count": 1, "fields": fields}, separators=(",", ":")).encode()
    if len(text) > HEADER_BYTES:
        raise ValueError(f"The header of {len(fields)} fields: expected at most {HEADER_BYTES} bytes, got {len(text)}.")
    return text.ljust(HEADER_BYTES, b"\0")


def message_fields(
    window: Sequence[SonicFrame], person: PersonMessage, message: PoseMessage, live: bool
) -> dict[str, NDArray[Any]]:
    """The arrays of a message, by name: what protocol 3 asks for, the times, and what it has no name for.

    Those are `root_position` and `root_velocity` (N, 3) of the pelvis in their world, `confidence` (N, 24), `betas`
    (10,), `person_id` (1,), `capture_wall_ns` (N,) Unix time of each frame, `camera_spread` (3,): relative deviation of
    the focal length, radians of the vertical, metres of the floor; nan where unknown.
    """
    c = message.calibration
    spread = [np.nan if s is None else s for s in (c.focal_spread, c.gravity_spread_rad, c.height_spread_m)]
    monotonic_s, wall_s = _capture_s(message) if live else (time.monotonic(), time.time())
    joint_pos = np.zeros((len(window), 29), dtype=np.float32)
    joint_pos[:, 23:] = [f.wrists_rad for f in window]
    return {
        "smpl_joints": np.array([f.joints_m for f in window], dtype=np.float32),
        "smpl_pose": np.array([f.pose_rotvecs for f in window], dtype=np.float32),
        "joint_pos": joint_pos,
        "joint_vel": np.zeros((len(window), 29), dtype=np.float32),
        "body_quat": np.array([f.body_quat_wxyz for f in window], dtype=np.float32),
        "frame_index": np.array([f.index for f in window], dtype=np.int64),
        "timestamp_monotonic": np.array([monotonic_s]),
        "timestamp_realtime": np.array([wall_s]),
        "root_position": np.array([f.root_m for f in window], dtype=np.float32),
        "root_velocity": np.array([f.root_m_s for f in window], dtype=np.float32),
        "confidence": np.array([f.confidence for f in window], dtype=np.float32),
        "betas": person.betas.astype(np.float32),
        "person_id": np.array([person.id], dtype=np.int32),
        "capture_wall_ns": np.array([f.t_ns for f in window]) + (message.t_wall_ns - message.t_capture_ns),
        "camera_spread": np.array(spread, dtype=np.float32),
    }


class SonicBridge:
    """Turns items into messages of one person. Use by one thread.

    person   a track id, or None: the nearest, who is kept until gone
    window   frames that each message has, at least
    gap_s    a person who was away for longer starts anew
    wrists   sends the wrists' angles; else they are zero, as NVIDIA's own camera example has them
    live     whether capture times are now; a recording's would tell the robot that its stream is late
    """

    def __init__(
        self, person: int | None = None, window: int = 5, gap_s: float = 0.5, wrists: bool = False, live: bool = True
    ) -> None:
        self._wanted, self._window, self._wrists = person, window, wrists
        self._gap_s, self._live = gap_s, live
        self._resampler = Resampler(gap_s)
        self._current: int | None = None
        self._seen_ns = 0
        self._moved = False

    def packed(self, message: PoseMessage) -> bytes | None:
        """The bytes to send, or None when there is no new frame of the person."""
        held = 0 <= message.t_capture_ns - self._seen_ns <= self._gap_s * 1e9
        person = choose(message.people, self._wanted, self._current if held else None, held)
        if person is None:
            return None
        moved = message.calibration.status == "moved"
        if person.id != self._current or (moved and not self._moved):
            self._resampler.restart()
        self._current, self._seen_ns, self._moved = person.id, message.t_capture_ns, moved
        new = self._resampler.add(moment(person, message.t_capture_ns, self._wrists))
        if not new:
            return None
        window = self._resampler.newest(max(self._window, new))
        return pack(message_fields(window, person, message, self._live))


def _capture_s(message: PoseMessage) -> tuple[float, float]:
    """Capture on this machine's monotonic clock and as Unix time; now, where the stream's times are a file's."""
    capture_s, now_s = message.t_capture_ns / 1e9, time.monotonic()
    return (capture_s, message.t_wall_ns / 1e9) if abs(now_s - capture_s) < _FILE_TIME_S else (now_s, time.time())


def open_publisher(address: str) -> zmq.Socket[bytes]:
    """A bound PUB socket that drops what a reader does not take. Raises ValueError for an address that cannot be."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    socket.linger, socket.sndhwm = 0, 5
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        socket.close()
        raise ValueError(
            f"Cannot bind {address!r} ({error.strerror}): expected tcp://ADDRESS:PORT with a port that is free, "
            "for instance --bind tcp://127.0.0.1:5558; run_stream.py itself has 5556."
        ) from error
    return socket


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    found = bridge_parser(PROG, "One person as SONIC's (GR00T-WholeBodyControl) ZMQ pose stream.", EXAMPLE)
    found.add_argument("--bind", default="tcp://127.0.0.1:5558", metavar="ADDRESS", help="default %(default)s")
    found.add_argument("--person", type=int, metavar="ID", help="track id (default: the nearest, kept until gone)")
    found.add_argument("--window", type=int, default=5, metavar="N", help="frames in each message, default 5")
    found.add_argument("--gap", type=positive, default=0.5, metavar="S", help="away longer starts anew, default 0.5")
    found.add_argument("--wrists", action="store_true", help="send wrist angles too (default: zero)")
    add_feed_options(found)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Bridges until Ctrl-C or the end of the recording; returns the exit status."""
    found = parser()
    options = found.parse_args(arguments)
    if not 1 <= options.window <= MAX_WINDOW:
        found.error(f"--window: expected 1 to {MAX_WINDOW} frames, got {options.window}")

    def work() -> None:
        live = options.recording is None
        bridge = SonicBridge(options.person, options.window, options.gap, options.wrists, live)
        with open_publisher(options.bind) as socket:

            def handle(item: Item) -> None:
                if isinstance(item.message, PoseMessage) and (data := bridge.packed(item.message)) is not None:
                    socket.send(data)

            run_bridge(options, handle, threading.Event(), newest_only=live)

    return exit_status(options, PROG, work)


if __name__ == "__main__":
    sys.exit(main())
