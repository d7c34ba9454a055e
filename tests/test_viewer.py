"""A window where there is a screen, a sentence where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.overlay import screen_problem

ROOT = Path(__file__).parents[1]


def without_a_screen(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")} | more


TRY_A_WINDOW = """
import sys
from pipeline.overlay import Viewer
try:
    Viewer("test")
except OSError as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are named by DISPLAY on Linux only")
@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "There is no screen (DISPLAY is not set)"),
        ({"DISPLAY": ":4711"}, "No window can be opened on screen :4711"),
    ],
)
def test_no_screen_is_one_sentence(environment: dict[str, str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRY_A_WINDOW],
        cwd=ROOT, env=without_a_screen(**environment), capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert done.stdout.startswith(sentence)
    assert done.stdout.endswith("leave out --view, or write a video with --overlay out.mp4.")
    assert "Traceback" not in done.stderr


@pytest.fixture
def screen() -> Iterator[dict[str, str]]:
    """A real X server without a monitor; the environment that names it."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed")
    ours, theirs = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(theirs), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[theirs], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    with open(ours) as written:
        # to its end: the server writes the line feed by itself and gives up when nobody takes it
        number = written.readline().strip()
    try:
        if not number:
            pytest.skip("Xvfb did not start")
        yield without_a_screen(DISPLAY=f":{number}")
    finally:
        server.terminate()
        server.wait(10)


SHOW_A_WINDOW = textwrap.dedent("""
    import sys
    import cv2, numpy as np
    from pipeline.overlay import Viewer
    viewer = Viewer("test")
    image = np.zeros((480, 640, 3), np.uint8)
    shown = [viewer.show(image) for _ in range(10)]
    pollKey, cv2.pollKey = cv2.pollKey, lambda: pollKey() and ord("q")
    shown.append(viewer.show(image))
    cv2.pollKey = pollKey
    cv2.destroyAllWindows()
    cv2.pollKey()
    shown.append(viewer.show(image))
    viewer.close()
    viewer.close()
    sys.stdout.write(repr(shown))
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Xvfb")
def test_a_window_is_shown_until_q_or_until_it_is_closed(screen: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW_A_WINDOW], cwd=ROOT, env=screen, capture_output=True, encoding="utf-8", check=False
    )
    assert done.stdout == repr([True] * 10 + [False, False]), done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Xvfb")
def test_a_screen_that_is_there_is_no_problem(screen: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", screen["DISPLAY"])
    assert screen_problem() is None
