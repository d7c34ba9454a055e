"""The programs that read: the command and the one of the documentation, against a real publisher."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.publisher import Publisher
from tests.support.results import random_result

ROOT = Path(__file__).parents[1]
PATIENCE_S = 10.0


@pytest.fixture
def stream() -> Iterator[Publisher]:
    with Publisher("cam", "tcp://127.0.0.1:*") as made:
        yield made


def run_reader(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def feed(stream: Publisher, reader: subprocess.Popen[str]) -> tuple[str, str]:
    """Publishes until the reader has had enough."""
    end = time.monotonic() + 3 * PATIENCE_S
    for index in range(10**6):
        if reader.poll() is not None:
            break
        assert time.monotonic() < end, "the reader does not end"
        stream.publish(random_result(2, index=index))
        time.sleep(0.02)
    return reader.communicate(timeout=PATIENCE_S)


def test_the_command_prints_a_line_for_each_person(stream: Publisher) -> None:
    reader = run_reader("-m", "pipeline.messages", "--connect", stream.address, "--count", "2")
    out, err = feed(stream, reader)
    assert (reader.returncode, err) == (0, "")
    lines = out.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["id 1", "id 2", "id 1", "id 2"]
    assert all("calibrated f " in line and "file time" in line for line in lines)


def test_the_command_prints_every_field(stream: Publisher) -> None:
    reader = run_reader("-m", "pipeline.messages", "--connect", stream.address, "--count", "1", "--raw")
    out, _ = feed(stream, reader)
    assert out.startswith('pose/cam/ {"v":1,"camera":"cam"')
    assert '"joints_world_m":[' in out


def test_the_command_says_when_nothing_comes() -> None:
    reader = run_reader("-m", "pipeline.messages", "--connect", "tcp://127.0.0.1:9", "--count", "1", "--timeout", "0.3")
    out, err = reader.communicate(timeout=3 * PATIENCE_S)
    assert (reader.returncode, out) == (1, "")
    assert "Nothing for 0.3 s. Nobody publishes at tcp://127.0.0.1:9" in err


def test_the_command_refuses_what_is_no_address() -> None:
    reader = run_reader("-m", "pipeline.messages", "--connect", "5556")
    _, err = reader.communicate(timeout=3 * PATIENCE_S)
    assert reader.returncode == 2
    assert "expected tcp://ADDRESS:PORT" in err
    assert "Traceback" not in err


def test_the_subscriber_of_the_documentation_runs(stream: Publisher) -> None:
    reader = run_reader("docs/clients/subscriber.py", stream.address, "2")
    out, err = feed(stream, reader)
    assert (reader.returncode, err) == (0, "")
    assert len(out.splitlines()) == 4
    assert "person 1" in out
