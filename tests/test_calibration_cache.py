"""The store of calibrations: what goes in comes out, and nothing broken does."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_cache import CalibrationStore
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
