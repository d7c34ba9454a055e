"""What tests of recordings share: files of messages, programs of bridges/, and patience."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.recordings import read_recording
from pipeline import messages
from pipeline.mcap_file import McapWriter

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
START_NS = 1_800_000_000_000_000_000


@pytest.fixture
def log_as_before() -> Iterator[None]:
    """Takes back what a program's main did to the log of this process."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def until(condition: Callable[[], object], program: subprocess.Popen[str] | None = None) -> None:
    """Waits for `condition`; fails when that takes too long or `program` ends before."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        assert program is None or program.poll() is None, "the program ended"
        time.sleep(0.02)


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts `python -m module arguments`."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def written(path: Path, raws: list[bytes], every_ns: int = 33_000_000, flush: bool = False) -> Path:
    """A recording of messages, `every_ns` apart from START_NS on; `flush`: each in a piece of its own."""
    with McapWriter(path) as writer:
        for number, raw in enumerate(raws):
            writer.write(raw, messages.decode(raw)[1], START_NS + number * every_ns)
            if flush:
                writer.flush()
    return path


def bytes_of(path: Path) -> list[bytes]:
    """The messages of a recording."""
    return [recorded.raw for recorded in read_recording(path)]
