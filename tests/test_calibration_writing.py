"""Full disks, missing permissions, kills and readers at the wrong moment."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from calibration_cache import CalibrationStore
from tests.test_calibration_cache import ESTIMATOR, SIZE, assert_equal, calibration, saved, store

__all__ = ["store"]

ROOT = Path(__file__).parents[1]


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
