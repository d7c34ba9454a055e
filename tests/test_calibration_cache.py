"""The store of calibrations: what goes in comes out, and nothing broken does."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_cache import CalibrationStore
from calibration_cache.__main__ import age_text, main
from pipeline.frames import R_world_camera_from_up, up_from_pitch_roll
from pipeline.types import CalibrationStatus, CameraCalibration

ROOT = Path(__file__).parents[1]
SIZE = (1280, 720)
ESTIMATOR = "landmark 1"


def calibration(
    camera_id: str = "webcam-0", size_wh: tuple[int, int] = SIZE, focal_px: float = 1034.5
) -> CameraCalibration:
    K = np.array([[focal_px, 0.0, 640.25], [0.0, focal_px * 1.01, 355.5], [0.0, 0.0, 1.0]])
    return CameraCalibration(
        camera_id=camera_id,
        size_wh=size_wh,
        K=K,
        distortion=np.array([-0.1, 0.02, 1e-4, -2e-5, 0.003]),
        R_world_camera=R_world_camera_from_up(up_from_pitch_roll(0.3, -0.05)),
        camera_height_m=1.62,
        focal_spread=0.031,
        gravity_spread_rad=0.012,
        height_spread_m=0.04,
        status=CalibrationStatus.CALIBRATED,
        n_samples=240,
        estimator=ESTIMATOR,
    )


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    return CalibrationStore(tmp_path / "store")


def assert_equal(a: CameraCalibration | None, b: CameraCalibration) -> None:
    assert a is not None
    for f in dataclasses.fields(b):
        np.testing.assert_array_equal(getattr(a, f.name), getattr(b, f.name), err_msg=f.name)


def saved(store: CalibrationStore, one: CameraCalibration | None = None) -> Path:
    path = store.save(one or calibration())
    assert path is not None
    return path


def test_what_is_saved_is_loaded_to_the_last_bit(store: CalibrationStore) -> None:
    assert_equal(
        CalibrationStore(store.folder).load("webcam-0", SIZE, ESTIMATOR) if saved(store) else None, calibration()
    )


def test_an_unknown_height_stays_unknown(store: CalibrationStore) -> None:
    one = dataclasses.replace(calibration(), camera_height_m=None, height_spread_m=None)
    saved(store, one)
    assert_equal(store.load("webcam-0", SIZE, ESTIMATOR), one)


@settings(max_examples=40, deadline=None)
@given(
    focal=st.floats(0.11 * 1280, 19.0 * 1280),
    pitch=st.floats(-1.5, 1.5),
    roll=st.floats(-3.1, 3.1),
    height=st.none() | st.floats(0.05, 100.0),
    distortion=st.lists(st.floats(-1, 1), min_size=5, max_size=5),
)
def test_any_plausible_calibration_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    focal: float,
    pitch: float,
    roll: float,
    height: float | None,
    distortion: list[float],
) -> None:
    one = dataclasses.replace(
        calibration(focal_px=focal),
        R_world_camera=R_world_camera_from_up(up_from_pitch_roll(pitch, roll)),
        camera_height_m=height,
        height_spread_m=None if height is None else 0.1,
        distortion=np.array(distortion),
    )
    store = CalibrationStore(tmp_path_factory.getbasetemp() / "any")
    saved(store, one)
    assert_equal(store.load("webcam-0", SIZE, ESTIMATOR), one)


def test_the_file_is_for_people_too(store: CalibrationStore) -> None:
    path = saved(store)
    assert path.name == "webcam-0@1280x720.json"
    lines = path.read_text().splitlines()
    assert '  "camera_id": "webcam-0",' in lines
    assert any(line.strip() == "[ 0.0, 0.0, 1.0 ]" for line in lines)
    assert json.loads(path.read_text())["schema_version"] == 1


@pytest.mark.parametrize("status", [s for s in CalibrationStatus if s is not CalibrationStatus.CALIBRATED])
def test_only_what_is_calibrated_is_kept(store: CalibrationStore, status: CalibrationStatus) -> None:
    assert store.save(dataclasses.replace(calibration(), status=status)) is None
    assert store.list() == ()


@pytest.mark.parametrize("camera_id", ["", "rtsp://user:secret@host/1", "a b", "../up", "ü", "a\n"])
def test_a_camera_id_that_was_not_made_safe_is_refused(store: CalibrationStore, camera_id: str) -> None:
    with pytest.raises(ValueError, match="A camera id is made of letters"):
        store.save(calibration(camera_id))
    with pytest.raises(ValueError, match="A camera id is made of letters"):
        store.load(camera_id, SIZE, ESTIMATOR)


def test_a_very_long_camera_id_still_fits_a_file_name(store: CalibrationStore) -> None:
    one, other = calibration("a" * 400), calibration("a" * 399 + "b", focal_px=900.0)
    assert saved(store, one) != saved(store, other)
    assert_equal(store.load("a" * 400, SIZE, ESTIMATOR), one)


def test_the_folder_is_the_argument_the_variable_or_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHMR_CALIBRATION_DIR", str(tmp_path / "variable"))
    assert CalibrationStore(tmp_path / "argument").folder == tmp_path / "argument"
    assert CalibrationStore().folder == tmp_path / "variable"
    monkeypatch.delenv("WHMR_CALIBRATION_DIR")
    assert CalibrationStore().folder == ROOT / "calibration_cache" / "store"


def test_another_size_of_the_same_shape_is_rescaled(store: CalibrationStore) -> None:
    saved(store)
    assert_equal(store.load("webcam-0", (640, 360), ESTIMATOR), calibration().for_size((640, 360)))


def test_of_several_sizes_the_newest_is_rescaled(store: CalibrationStore) -> None:
    big = dataclasses.replace(calibration(focal_px=2000.0), size_wh=(1920, 1080))
    store.save(calibration(), saved_wall_ns=1_000)
    store.save(big, saved_wall_ns=2_000)
    assert_equal(store.load("webcam-0", (640, 360), ESTIMATOR), big.for_size((640, 360)))
    assert_equal(store.load("webcam-0", SIZE, ESTIMATOR), calibration())


def test_another_shape_is_rejected_with_the_reason(store: CalibrationStore, caplog: pytest.LogCaptureFixture) -> None:
    saved(store)
    assert store.load("webcam-0", (640, 480), ESTIMATOR) is None
    assert "another aspect ratio" in caplog.text


def test_an_empty_store_has_nothing_to_say(store: CalibrationStore, caplog: pytest.LogCaptureFixture) -> None:
    assert store.load("webcam-0", SIZE, ESTIMATOR) is None
    assert caplog.text == ""


def test_cameras_are_kept_apart(store: CalibrationStore) -> None:
    saved(store, calibration("cam", focal_px=800.0))
    saved(store, calibration("cam-2", focal_px=900.0))
    for camera_id, focal_px in (("cam", 800.0), ("cam-2", 900.0)):
        loaded = store.load(camera_id, SIZE, ESTIMATOR)
        assert loaded is not None
        assert loaded.K[0, 0] == focal_px
    assert store.load("ca", SIZE, ESTIMATOR) is None


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "half": (lambda text: text[: len(text) // 2], "broken"),
    "empty": (lambda text: "", "broken"),
    "binary": (lambda text: "\x00\x01\x02", "broken"),
    "list": (lambda text: "[1, 2]", "broken"),
    "deep": (lambda text: "[" * 100_000, "broken"),
    "later version": (lambda text: text.replace('n": 1,', 'n": 2, "new": 1,', 1), "schema version 2"),
    "not a number": (lambda text: text.replace("1034.5", "NaN"), "broken"),
    "too large a number": (lambda text: text.replace("1034.5", "1e999"), "broken"),
    "text for a number": (lambda text: text.replace("1034.5", '"1034.5"'), "broken"),
    "tiny focal": (lambda text: text.replace("1034.5", "12.0"), "fx is 12 px, expected 128 to 25600 px"),
    "huge focal": (lambda text: text.replace("1034.5", "1e6"), "fx is 1e\\+06 px"),
    "negative focal": (lambda text: text.replace("1034.5", "-1034.5"), "positive focal"),
    "principal point": (lambda text: text.replace("640.25", "64000.0"), "principal point"),
    "height": (lambda text: text.replace("1.62", "0.001"), "camera height is 0.001 m"),
    "spread": (lambda text: text.replace("0.031", "-0.031"), "spread"),
    "samples": (lambda text: text.replace("240", "-1"), "broken"),
    "no rotation": (
        lambda text: json.dumps(json.loads(text) | {"R_world_camera": [[1, 0, 0], [0, 1, 0], [0, 0, 2]]}),
        "expected a rotation",
    ),
    "status": (lambda text: text.replace('"calibrated"', '"supplied"'), "status is 'supplied'"),
    "unknown key": (lambda text: text.replace('"estimator"', '"estimate"'), "broken"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_rejected_with_its_reason(
    store: CalibrationStore, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    spoil, reason = BROKEN[name]
    path = saved(store)
    spoilt = spoil(path.read_text())
    assert spoilt != path.read_text()
    path.write_text(spoilt)
    assert store.load("webcam-0", SIZE, ESTIMATOR) is None
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert re.search(reason, caplog.text)
    assert str(path) in caplog.text


def test_a_broken_file_does_not_hide_a_good_one_of_another_size(store: CalibrationStore) -> None:
    big = dataclasses.replace(calibration(), size_wh=(1920, 1080))
    saved(store, big)
    saved(store).write_text("{")
    assert_equal(store.load("webcam-0", SIZE, ESTIMATOR), big.for_size(SIZE))


def test_another_estimator_and_another_camera_are_rejected(
    store: CalibrationStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(store)
    assert store.load("webcam-0", SIZE, "landmark 2") is None
    assert "made by estimator landmark 1, this one is landmark 2" in caplog.text
    path.rename(store.path("webcam-1", SIZE))
    assert store.load("webcam-1", SIZE, ESTIMATOR) is None
    assert "belongs to camera webcam-0" in caplog.text


def test_an_implausible_calibration_is_not_saved(store: CalibrationStore, caplog: pytest.LogCaptureFixture) -> None:
    assert store.save(calibration(focal_px=1.0)) is None
    assert store.save(dataclasses.replace(calibration(), focal_spread=float("nan"))) is None
    assert "fx is 1 px" in caplog.text
    assert "not finite" in caplog.text
    assert not store.folder.exists()


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    assert CalibrationStore(tmp_path / "file" / "store").save(calibration()) is None
    assert CalibrationStore(tmp_path / "file" / "store").load("webcam-0", SIZE, ESTIMATOR) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_a_warning(store: CalibrationStore, caplog: pytest.LogCaptureFixture) -> None:
    saved(store)
    store.folder.chmod(0o500)
    try:
        assert store.save(calibration(focal_px=900.0)) is None
        assert_equal(store.load("webcam-0", SIZE, ESTIMATOR), calibration())
    finally:
        store.folder.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_old_file(store: CalibrationStore, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(store)
    (store.folder / f".{path.name}.{os.getpid()}.tmp").symlink_to("/dev/full")
    assert store.save(calibration(focal_px=900.0)) is None
    assert "No space left" in caplog.text
    assert_equal(store.load("webcam-0", SIZE, ESTIMATOR), calibration())
    assert [one.name for one in store.folder.iterdir()] == [path.name]


KILLED = """
import os, signal, sys
from tests.test_calibration_cache import calibration
from calibration_cache import CalibrationStore
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
CalibrationStore(sys.argv[1]).save(calibration(focal_px=900.0))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_before_the_replace_leaves_the_old_file(store: CalibrationStore) -> None:
    saved(store)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store.folder)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = list(store.folder.glob(".*.tmp"))
    assert len(left) == 1
    assert_equal(store.load("webcam-0", SIZE, ESTIMATOR), calibration())
    os.utime(left[0], (0, 0))
    saved(store, calibration(focal_px=950.0))
    assert list(store.folder.glob(".*.tmp")) == []


def test_a_reader_never_sees_half_a_file(store: CalibrationStore, caplog: pytest.LogCaptureFixture) -> None:
    saved(store)
    done = threading.Event()

    def write() -> None:
        for i in range(60):
            store.save(calibration(focal_px=900.0 + i))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    focals = []
    while not done.is_set():
        loaded = store.load("webcam-0", SIZE, ESTIMATOR)
        assert loaded is not None
        focals.append(loaded.K[0, 0])
    writer.join()
    assert set(focals) <= {1034.5, *(900.0 + i for i in range(60))}
    assert caplog.text == ""


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
