"""`python -m calibration_cache`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from calibration_cache import CalibrationStore
from calibration_cache.__main__ import age_text, main
from tests.test_calibration_cache import calibration, saved, store

__all__ = ["store"]

ROOT = Path(__file__).parents[1]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_list_show_and_clear(store: CalibrationStore, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ("--calibration-dir", str(store.folder))
    assert run(capsys, *folder, "list") == (
        0,
        f"No calibrations in {store.folder}; a stream writes one when its camera is calibrated.\n",
        "",
    )
    saved(store)
    saved(store, calibration("door"))
    (store.folder / "old@640x480.json").write_text("{")
    status, out, _ = run(capsys, *folder, "list")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == ["camera", "size", "focal", "pitch", "roll", "height", "samples", "age", "file"]
    assert lines[1].startswith("door ")
    assert "1034 px ± 3.1 %" in lines[2]
    assert "17.2°" in lines[2]
    assert "1.62 ± 0.04 m" in lines[2]
    assert lines[3].startswith("old@640x480.json cannot be used: it is broken")
    status, out, _ = run(capsys, *folder, "show", "door")
    assert status == 0
    assert "-0.1 0.02 0.0001 -2e-05 0.003" in out
    assert calibration("door").id in out
    status, _, err = run(capsys, *folder, "show", "cellar")
    assert status == 1
    assert err == f"No calibration of camera cellar in {store.folder}; stored: door, old, webcam-0.\n"
    assert run(capsys, *folder, "clear", "door")[1] == f"Removed 1 calibration from {store.folder}.\n"
    assert run(capsys, *folder, "clear", "--all")[1] == f"Removed 2 calibrations from {store.folder}.\n"
    assert store.list() == ()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("clear",), "clear takes one camera id or --all"),
        (("clear", "door", "--all"), "clear takes one camera id or --all"),
        (("show",), "required: camera"),
        (("show", "rtsp://x"), "A camera id is made of letters"),
        (("forget",), "invalid choice: 'forget'"),
        ((), "required: list|show|clear"),
    ],
)
def test_arguments_that_make_no_sense_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(("--calibration-dir", str(tmp_path), *arguments))
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_command_runs_as_a_module(store: CalibrationStore) -> None:
    saved(store)
    environment = os.environ | {"WHMR_CALIBRATION_DIR": str(store.folder), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "calibration_cache", "list"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert "webcam-0@1280x720.json" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (45, "45 s"), (180, "3 min"), (7200, "2 h"), (864000, "10 d")]
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert age_text(1_000, 1_000 + seconds * 1_000_000_000) == text
