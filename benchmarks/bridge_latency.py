"""What the bridges to UDP receivers cost: microseconds to pack a person, milliseconds from the stream to the datagram.

    python -m benchmarks.bridge_latency [--frames 300] [--json]

A walking person goes at 30 Hz over a real ZeroMQ socket to the program itself, in a process of its own, and comes back
as datagrams; the time is from the call that publishes to the last datagram of the frame.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import zmq

from benchmarks import synthetic
from bridges.livelink_pack import LiveLinkPacker
from bridges.rokoko_pack import RokokoPacker
from bridges.udp_json import pack as json_datagram
from bridges.vmc_pack import VmcPacker
from pipeline import frames, messages
from pipeline.body import open_body
from pipeline.frames import Array
from pipeline.messages import PersonMessage, PoseMessage

FPS = 30.0
PATIENCE_S = 20.0
#: Frames at the start that do not count: programs import, sockets meet.
WARM = 10
#: Datagrams of a frame with one person.
DATAGRAMS = {"vmc": 2, "livelink": 1, "rokoko": 1, "udp_json": 1}


def walk() -> list[PersonMessage]:
    """Two seconds of a walking person, as a subscriber gets them."""
    body, at, identity = open_body().shaped(np.zeros(10)), np.array([0.3, 0.93, -3.0]), np.array([0.0, 0.0, 0.0, 1.0])
    found = []
    for i in range(int(2 * FPS)):
        Rs = synthetic.walking(2 * np.pi * 0.9 * i / FPS)
        joints = body.posed(np.eye(3), at, Rs).joints
        found.append(
            PersonMessage(
                id=1, score=0.9, predicted=False, box_xyxy=np.array([300.0, 100.0, 500.0, 600.0]),
                confidence=np.ones(24), betas=np.zeros(10), quat_camera_root_xyzw=identity, t_camera_root_m=at,
                quat_world_root_xyzw=identity, t_world_root_m=at, velocity_world_m_s=np.zeros(3),
                quats_parent_joint_xyzw=frames.quat_xyzw(Rs), joints_camera_m=joints, joints_world_m=joints,
            )
        )  # fmt: skip
    return found


def stream(people: list[PersonMessage]) -> list[bytes]:
    """Their messages, a frame each."""
    return [messages.encode("pose", message) for message in frames_of(people)]


def frames_of(people: list[PersonMessage]) -> list[PoseMessage]:
    """Frames with one of them each."""
    calibration = messages.calibration_part(synthetic.camera())
    found = []
    for i, person in enumerate(people):
        t_ns = round(i * 1e9 / FPS)
        message = PoseMessage(
            v=messages.SCHEMA_VERSION, camera="test", index=i, size_wh=synthetic.SIZE_WH, t_capture_ns=t_ns,
            t_wall_ns=t_ns, t_grab_ns=t_ns, t_publish_ns=t_ns, t_publish_wall_ns=t_ns, dropped=0, stages_ms={},
            calibration=calibration, people=(person,),
        )  # fmt: skip
        found.append(message)
    return found


def packing_us(frames_: int) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of packing one person, microseconds, by bridge and option."""
    people = walk()
    # the message around each person; they differ in their joints
    whole = {p.joints_world_m.tobytes(): m for p, m in zip(people, frames_of(people), strict=True)}
    vmc, merged, live = VmcPacker(), VmcPacker(upper_chest="merge"), LiveLinkPacker()
    rokoko, plain = RokokoPacker("lz4"), RokokoPacker("plain")
    packers: dict[str, Callable[[PersonMessage], object]] = {
        "vmc": lambda p: vmc.pack(p, 1.0),
        "vmc --upper-chest merge": lambda p: merged.pack(p, 1.0),
        "livelink": lambda p: live.pack(p, "Body1"),
        "rokoko": lambda p: rokoko.pack([("Body1", 0, p)], 1.0),
        "rokoko --format plain": lambda p: plain.pack([("Body1", 0, p)], 1.0),
        "udp_json": lambda p: json_datagram(whole[p.joints_world_m.tobytes()], {0: p}),
    }
    found = {}
    for name, pack in packers.items():
        times = np.empty(frames_ + WARM)
        for i in range(len(times)):
            start = time.perf_counter()
            pack(people[i % len(people)])
            times[i] = time.perf_counter() - start
        found[name] = _spread(times[WARM:] * 1e6)
    return found


def added_ms(bridge: str, frames_: int) -> dict[str, float]:
    """Median and 95th percentile from publishing to the last datagram of a frame, milliseconds.

    Raises TimeoutError when one does not come.
    """
    context = zmq.Context()
    publisher = context.socket(zmq.XPUB)
    publisher.linger = 0
    address = f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.settimeout(PATIENCE_S)
            port = str(listener.getsockname()[1])
            command = [sys.executable, "-m", f"bridges.{bridge}", "--connect", address, "--port", port, "--people", "1"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
                try:
                    return _spread(_times_ms(publisher, listener, DATAGRAMS[bridge], frames_))
                finally:
                    program.terminate()
    finally:
        publisher.close()
        context.term()


def _times_ms(publisher: zmq.Socket[bytes], listener: socket.socket, datagrams: int, frames_: int) -> Array:
    if not publisher.poll(round(PATIENCE_S * 1000)):
        raise TimeoutError(f"The bridge did not subscribe within {PATIENCE_S:.0f} s.")
    sent, times = stream(walk()), np.empty(frames_ + WARM)
    for i in range(len(times)):
        start = time.perf_counter()
        publisher.send(sent[i % len(sent)])
        for _ in range(datagrams):
            listener.recv(65536)
        times[i] = time.perf_counter() - start
        time.sleep(max(0.0, 1 / FPS - times[i]))
    return times[WARM:] * 1e3


def _spread(times: Array) -> dict[str, float]:
    return {"median": round(float(np.median(times)), 3), "p95": round(float(np.percentile(times, 95)), 3)}


def main(arguments: list[str] | None = None) -> int:
    """Prints a table or JSON; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bridge_latency", description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    report = {
        "packing_us": packing_us(options.frames),
        "added_ms": {name: added_ms(name, options.frames) for name in DATAGRAMS},
    }
    if options.json:
        sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
        return 0
    for title, unit, rows in (("Packing one person", "us", "packing_us"), ("Publish to datagram", "ms", "added_ms")):
        for name, numbers in report[rows].items():
            sys.stdout.write(f"{title}  {name:24} median {numbers['median']:8.3f} {unit}  p95 {numbers['p95']:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
