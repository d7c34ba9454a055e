"""What surfaces cost: milliseconds of `Publisher.publish` by who listens, with one to four people.

    python -m benchmarks.mesh_cost [--body smpl=FILE] [--frames 200] [--json]

Real sockets; the listeners are in a process of their own and read all that comes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time

import numpy as np

from benchmarks import synthetic
from benchmarks.bridge_latency import FPS, walk
from pipeline.body import BodyModel, open_body
from pipeline.publisher import Publisher
from pipeline.types import FrameResult

PEOPLE = (1, 2, 4)
#: Topics that somebody listens to, by the name of the row.
LISTENERS = {"nobody": [], "pose/": ["pose/"], "pose/ and mesh/": ["pose/", "mesh/"]}
WARM, PATIENCE_S = 20, 20.0
_READ_ALL = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
for topic in sys.argv[2:]:
    socket.subscribe(topic)
socket.connect(sys.argv[1])
while True:
    socket.recv()
"""


def results(people: int) -> list[FrameResult]:
    """Two seconds of so many people who walk."""
    found = []
    for i, person in enumerate(walk()):
        t_ns = round(i * 1e9 / FPS)
        group = tuple(dataclasses.replace(person.record(), track_id=k + 1) for k in range(people))
        size = synthetic.SIZE_WH
        found.append(FrameResult("test", i, t_ns, t_ns, t_ns, size, 0, {}, synthetic.camera(), group))
    return found


def publish_ms(body: BodyModel, people: int, topics: list[str], frames: int) -> dict[str, float]:
    """Median and 95th percentile of `publish`, milliseconds. Raises TimeoutError when nobody subscribes."""
    sent = results(people)
    with Publisher("test", "tcp://127.0.0.1:*", body=body) as publisher:
        command = [sys.executable, "-c", _READ_ALL, publisher.address, *topics]
        with subprocess.Popen(command) as listener:
            try:
                _wait(publisher, topics)
                times = np.empty(frames + WARM)
                for i in range(len(times)):
                    start = time.perf_counter()
                    publisher.publish(sent[i % len(sent)])
                    times[i] = time.perf_counter() - start
                    time.sleep(max(0.0, 1 / FPS - times[i]))
            finally:
                listener.terminate()
    ms = times[WARM:] * 1e3
    return {"median": round(float(np.median(ms)), 3), "p95": round(float(np.percentile(ms, 95)), 3)}


def _wait(publisher: Publisher, topics: list[str]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not all(publisher.wants(topic.rstrip("/")) for topic in topics):
        if time.monotonic() > end_s:
            raise TimeoutError(f"The listener did not subscribe within {PATIENCE_S:.0f} s.")
        time.sleep(0.01)


def main(arguments: list[str] | None = None) -> int:
    """Prints a table or JSON; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mesh_cost", description=__doc__.split("\n\n")[0])
    parser.add_argument("--body", default="default", metavar="B", help="default, or smpl=FILE")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    options = parser.parse_args(arguments)
    body = open_body(options.body)
    report = {
        name: {people: publish_ms(body, people, topics, options.frames) for people in PEOPLE}
        for name, topics in LISTENERS.items()
    }
    if options.json:
        sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
        return 0
    for name, rows in report.items():
        for people, ms in rows.items():
            sys.stdout.write(f"{name:16} {people} people  median {ms['median']:7.3f} ms  p95 {ms['p95']:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
