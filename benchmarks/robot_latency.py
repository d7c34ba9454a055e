"""What the robots' bridges cost: processor time of one person's frame, milliseconds from the stream to the receiver.

    python -m benchmarks.robot_latency [--frames 300] [--json]

A walking person goes at 30 Hz over a real ZeroMQ socket to the program itself, in a process of its own; for SONIC a SUB
socket receives, for ROS 1, where it is installed, a rospy subscriber of `/tf`, with a master of its own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

import msgspec
import numpy as np
import zmq

from benchmarks.bridge_latency import FPS, PATIENCE_S, WARM, stream
from benchmarks.bridge_latency import walk as walkers
from bridges.ros_mcap import Cdr
from bridges.ros_messages import frame_messages
from bridges.ros_outputs import SYSTEM_PACKAGES
from bridges.ros_values import Frames
from bridges.sonic import SonicBridge
from pipeline import messages
from pipeline.messages import PoseMessage


def poses(count: int) -> list[PoseMessage]:
    """Frames of somebody who walks, at 30 Hz, from now on."""
    now = time.monotonic_ns()
    walk = [messages.decode(data)[1] for data in stream(walkers())]
    found = []
    for i in range(count):
        pose = walk[i % len(walk)]
        assert isinstance(pose, PoseMessage)
        t_ns = now + round(i * 1e9 / FPS)
        found.append(msgspec.structs.replace(pose, index=i, t_capture_ns=t_ns, t_wall_ns=t_ns))
    return found


def spread(times: list[float]) -> dict[str, float]:
    """Median and 95th percentile of what comes after the start."""
    kept = times[WARM:]
    return {"median": round(float(np.median(kept)), 3), "p95": round(float(np.percentile(kept, 95)), 3)}


def processor_ms(frames_: int) -> dict[str, dict[str, float]]:
    """Processor time of one frame with one person, milliseconds."""
    cdr, names, bridge = Cdr(), Frames(), SonicBridge()
    work: dict[str, Callable[[PoseMessage], object]] = {
        "ROS messages": lambda m: list(frame_messages(m, names)),
        "ROS messages, and their CDR": lambda m: [cdr.encode(o.message) for o in frame_messages(m, names)],
        "SONIC": bridge.packed,
    }
    found = {}
    for name, do in work.items():
        times = []
        for pose in poses(frames_ + WARM):
            start = time.process_time()
            do(pose)
            times.append((time.process_time() - start) * 1e3)
        found[name] = spread(times)
    return found


@contextmanager
def bridge_running(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[zmq.Socket[bytes]]:
    """A publisher to which the bridge `python -m ARGUMENTS` has subscribed."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        address = f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"
        command = [sys.executable, "-m", *arguments, "--connect", address]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as program:
            try:
                if not publisher.poll(round(PATIENCE_S * 1000)):
                    raise TimeoutError(f"{arguments[0]} did not subscribe within {PATIENCE_S:.0f} s.")
                yield publisher
            finally:
                program.terminate()


def added_ms(publisher: zmq.Socket[bytes], receive: Callable[[], Any], frames_: int) -> dict[str, float]:
    """From the call that publishes to the end of `receive`, milliseconds; `receive` raises when nothing comes."""
    walk, times = poses(60), []
    for i in range(frames_ + WARM):
        pose = msgspec.structs.replace(walk[i % len(walk)], t_capture_ns=time.monotonic_ns(), t_wall_ns=time.time_ns())
        data = messages.encode("pose", pose)
        start = time.perf_counter()
        publisher.send(data)
        receive()
        times.append((time.perf_counter() - start) * 1e3)
        time.sleep(max(0.0, 1 / FPS - times[-1] / 1e3))
    return spread(times)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def sonic_ms(frames_: int) -> dict[str, float]:
    """From publishing to the message in a SUB socket."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.linger, reader.rcvtimeo = 0, round(PATIENCE_S * 1000)
        reader.subscribe("pose")
        reader.connect(address)
        with bridge_running("bridges.sonic", "--bind", address) as publisher:
            time.sleep(1.0)
            return added_ms(publisher, reader.recv, frames_)


def ros1_ms(frames_: int) -> dict[str, float] | None:
    """From publishing to the callback of a rospy subscriber of `/tf`; None where there is no ROS 1."""
    if not shutil.which("rosmaster") or not (SYSTEM_PACKAGES / "rospy").is_dir():
        return None
    port = free_port()
    os.environ |= {"ROS_MASTER_URI": f"http://127.0.0.1:{port}", "ROS_IP": "127.0.0.1"}
    with subprocess.Popen(["rosmaster", "--core", "-p", str(port)], stdout=subprocess.DEVNULL) as master:
        try:
            time.sleep(3.0)
            sys.path.append(str(SYSTEM_PACKAGES))
            rospy: Any = importlib.import_module("rospy")
            kind = importlib.import_module("tf2_msgs.msg").TFMessage
            rospy.init_node("benchmark", disable_signals=True)
            queue: Queue[object] = Queue()
            rospy.Subscriber("/tf", kind, queue.put, tcp_nodelay=True)
            with bridge_running("bridges.ros", "--ros", "1", environment=dict(os.environ)) as publisher:
                _connect(publisher, queue)
                return added_ms(publisher, lambda: queue.get(timeout=PATIENCE_S), frames_)
        finally:
            master.terminate()


def _connect(publisher: zmq.Socket[bytes], queue: Queue[object]) -> None:
    """Sends frames until the subscriber, whom the master tells of the topic, gets them."""
    for pose in poses(100):
        publisher.send(messages.encode("pose", pose))
        time.sleep(0.1)
        if not queue.empty():
            break
    time.sleep(0.5)
    while not queue.empty():
        queue.get()


def main(arguments: list[str] | None = None) -> int:
    """Prints a table or JSON; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robot_latency", description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    report: dict[str, dict[str, dict[str, float]]] = {
        "processor_ms": processor_ms(options.frames),
        "added_ms": {"SONIC": sonic_ms(options.frames)},
    }
    if (ros1 := ros1_ms(options.frames)) is not None:
        report["added_ms"]["ROS 1, /tf"] = ros1
    if options.json:
        sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
        return 0
    for title, rows in report.items():
        for name, numbers in rows.items():
            sys.stdout.write(f"{title:14}{name:30} median {numbers['median']:8.3f}  p95 {numbers['p95']:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
