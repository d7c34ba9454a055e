"""Subscribers for `benchmarks.latency`, in a process of their own as a user's are.

    python -m benchmarks.readers ADDRESS READING STALLED

READING of them take every pose, STALLED subscribe and never read. Says "ready" once connected; when its input is
closed it prints how many messages each reader got, and ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import zmq


@contextmanager
def subscribers(address: str, reading: int, stalled: int = 0) -> Iterator[list[int]]:
    """Subscribers to `address`; the list holds what each reader got once the block has ended.

    Raises OSError when the process does not start.
    """
    counts: list[int] = []
    command = [sys.executable, "-m", "benchmarks.readers", address, str(reading), str(stalled)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise OSError(f"The subscribers to {address} did not start.")
        try:
            yield counts
        finally:
            process.stdin.close()
            counts += json.loads(process.stdout.readline())


def main(address: str, reading: int, stalled: int) -> None:
    """Reads until the standard input is closed."""
    stop, context = threading.Event(), zmq.Context()
    counts = [0] * reading
    sockets = [context.socket(zmq.SUB) for _ in range(reading + stalled)]
    for i, socket in enumerate(sockets):
        if i >= reading:
            socket.set_hwm(1)
        socket.subscribe(b"pose/" if i < reading else b"")
        socket.connect(address)

    def read(i: int) -> None:
        while not stop.is_set():
            if sockets[i].poll(50):
                sockets[i].recv()
                counts[i] += 1

    threads = [threading.Thread(target=read, args=(i,), daemon=True) for i in range(reading)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    for socket in sockets:
        socket.close(0)
    context.term()
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
