"""A file is the same every time: identical messages but for publish and processing times, listened to or not."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.program import DemoRun, Program, load

#: What may differ: when it was read and published, and how long it took.
CLOCKS = {"t_grab_ns", "t_publish_ns", "t_publish_wall_ns", "stages_ms"}
FRAMES = 120


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, int, dict[str, np.ndarray]]:
    """The second clip once more with nobody listening, and Ctrl-C in the middle of it."""
    folder: Path = tmp_path_factory.mktemp("again")
    recording = folder / "poses.npz"
    program = Program(folder, "--source", "demo:two", "--record", str(recording), "--print")

    def printed() -> int:
        return int(program.output.splitlines()[-1].split()[1]) if program.output.strip() else 0

    with program:
        program.until(lambda: printed() >= FRAMES, f"frame {FRAMES}")
        status = program.end(signal.SIGINT)
    return program, status, load(recording)


def rows_of(recording: dict[str, np.ndarray], frames: int) -> dict[str, np.ndarray]:
    """The first frames of a recording: every column, cut to their rows."""
    people = int(np.searchsorted(recording["person_frame"], frames))
    calibrations = int(recording["calibration_row"][:frames].max()) + 1
    counts = {
        len(recording["index"]): frames,
        len(recording["person_id"]): people,
        len(recording["calibration_id"]): calibrations,
    }
    assert len(counts) == 3, "the tables cannot be told by their lengths"
    return {name: column[: counts.get(len(column), len(column))] if column.ndim else column
            for name, column in recording.items()}  # fmt: skip


def test_the_same_file_gives_the_same_messages(
    demo_two: DemoRun, again: tuple[Program, int, dict[str, np.ndarray]]
) -> None:
    _, _, recording = again
    frames = len(recording["index"])
    assert frames >= FRAMES
    first, second = rows_of(demo_two.recording, frames), rows_of(recording, frames)
    assert first.keys() == second.keys()
    assert first["person_id"].size > frames
    for name in first.keys() - CLOCKS:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_ctrl_c_loses_nothing(again: tuple[Program, int, dict[str, np.ndarray]]) -> None:
    program, status, recording = again
    frames = len(recording["index"])
    assert status == 0, program.errors
    assert f"demo-two: stopped after {frames} frames" in program.errors
    assert f"Recorded {frames} frames" in program.errors
    assert recording["index"].tolist() == list(range(frames))
    assert "Traceback" not in program.errors
