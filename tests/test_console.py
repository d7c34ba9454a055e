"""The live line, the log, and warnings that do not repeat themselves."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import console
from pipeline.console import StatusLine, configure_logging, fit, status_text
from pipeline.frames import R_WORLD_LEVEL_CAMERA
from pipeline.types import CalibrationStatus, CameraCalibration, FrameResult

ROOT = Path(__file__).parents[1]


def result(dropped: int = 3, focal_spread: float = 0.031) -> FrameResult:
    calibration = CameraCalibration(
        "cam", (640, 480), np.diag([1034.4, 1034.4, 1.0]), np.zeros(5), R_WORLD_LEVEL_CAMERA, None, focal_spread, 0.1,
        None, CalibrationStatus.CALIBRATING, 12, "landmark 1",
    )  # fmt: skip
    return FrameResult("cam", 0, 0, 0, time.monotonic_ns(), (640, 480), dropped, {}, calibration, ())


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    console._live.clear()


class Terminal(io.StringIO):
    """A terminal that remembers what stands on its lines."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for text in line.split("\r"):
                shown = text + shown[len(text) :]
            lines.append(shown.rstrip())
        return lines


def test_the_line_says_everything() -> None:
    expected = "live · 29.8 fps · age 41 ms · 0 people · calibrating 1034 px ± 3.1 % · 3 dropped"
    assert status_text(result(), 29.8, 41.2, "live") == expected
    assert "1034 px · " in status_text(result(focal_spread=0.0), None, 0.0, "")


def test_a_terminal_shows_one_line_that_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    with StatusLine(terminal) as line:
        line.message(
            "connecting to a camera with a rather long name, which is written over in full by what follows it later"
        )
        line.clear()
        line.message("waiting")
        assert terminal.screen == ["waiting"]
    assert terminal.screen == ["waiting", ""]
    line.close()
    assert terminal.screen == ["waiting", ""]


def test_the_line_is_cut_to_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    StatusLine(terminal).update(result(), fps=30.0)
    assert terminal.screen == ["live · 30.0 fps · …"]
    assert [fit("abcdef", n) for n in (9, 6, 4, 1)] == ["abcdef", "abcdef", "abc…", "…"]


def test_updates_are_shown_five_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, now = Terminal(), [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    line = StatusLine(terminal)
    for _ in range(61):
        line.update(result(), age_ms=10.0)
        now[0] += 1 / 30
    # 2 s at 30 a second: the first one, and then every sixth or seventh
    assert 9 <= terminal.getvalue().count("\r") <= 11
    assert "30.0 fps" in terminal.screen[0]


def test_the_rate_follows_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, now = Terminal(), [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    line = StatusLine(terminal)
    for interval_s in [1 / 30] * 150 + [1 / 10] * 41:
        line.update(result(), age_ms=10.0)
        now[0] += interval_s
    assert "10.0 fps" in terminal.screen[0]


def test_elsewhere_it_is_a_record_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stream, now = io.StringIO(), [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with StatusLine(stream) as line:
        for _ in range(120):
            line.update(result(), state="file")
            now[0] += 0.1
    assert len(caplog.records) == 3
    assert caplog.messages[1].startswith("file · 10.0 fps · ")
    assert stream.getvalue() == ""


def test_the_age_is_that_of_the_picture(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before_ns = time.monotonic_ns()
    one = result()
    StatusLine(io.StringIO()).update(one)
    age_ms = float(caplog.messages[0].partition("age ")[2].partition(" ms")[0])
    assert -0.5 <= age_ms <= (time.monotonic_ns() - before_ns) / 1e6 + 0.5


def test_a_log_record_does_not_end_up_in_the_line() -> None:
    terminal = Terminal()
    configure_logging(0, terminal)
    line = StatusLine(terminal)
    line.message("live")
    logging.getLogger("pipeline.source").warning("The camera was lost.")
    line.message("reconnecting")
    shown = terminal.screen
    assert shown[0].endswith("WARNING The camera was lost.")
    assert "live" not in shown[0]
    assert shown[1] == "reconnecting"


@pytest.mark.parametrize(("verbosity", "levels"), [(-1, "WE"), (0, "IWE"), (1, "DIWE")])
def test_verbosity(verbosity: int, levels: str) -> None:
    configure_logging(0, io.StringIO())
    stream = io.StringIO()
    configure_logging(verbosity, stream)
    log = logging.getLogger("pipeline.anything")
    for say in (log.debug, log.info, log.warning, log.error):
        say("hello")
    assert "".join(line.split()[1][0] for line in stream.getvalue().splitlines()) == levels


def test_a_terminal_that_goes_away_does_not_stop_the_stream() -> None:
    terminal = Terminal()
    line = StatusLine(terminal)
    terminal.close()
    line.message("anyone?")
    assert not line.live
    line.update(result())
    line.close()


def test_letters_a_terminal_lacks_are_replaced() -> None:
    raw = io.BytesIO()
    line = StatusLine(io.TextIOWrapper(raw, encoding="ascii", write_through=True), live=True)
    line.message("1034 px ± 3 %")
    assert raw.getvalue() == b"\r1034 px ? 3 %"


ON_A_TERMINAL = """
import logging
from pipeline.console import StatusLine, configure_logging
configure_logging()
with StatusLine() as line:
    line.message("first"); logging.getLogger("x").info("said"); line.message("second")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_on_a_real_terminal() -> None:
    import pty

    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo terminal here: {error}")
    process = subprocess.Popen([sys.executable, "-c", ON_A_TERMINAL], stderr=theirs, cwd=ROOT)
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:
        pass  # how Linux says that the other side is closed
    os.close(ours)
    assert process.wait() == 0
    terminal = Terminal(said.decode().replace("\r\n", "\n"))
    assert terminal.screen[0].endswith("INFO    said")
    assert terminal.screen[1:] == ["second", ""]
