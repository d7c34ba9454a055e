"""Recordings: what is in them, and that no way of ending loses a frame."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import frames, recorder
from pipeline.recorder import Recorder
from pipeline.types import JOINT_NAMES, CalibrationStatus
from tests.support.results import random_calibration, random_result

ROOT = Path(__file__).parents[1]
PEOPLE = (1, 0, 3, 2)
ENDLESS = """
import sys
from pathlib import Path
from pipeline.recorder import Recorder
from tests.support.results import random_result
recording = Recorder(Path(sys.argv[1]))
for index in range(10**9):
    recording.write(random_result(2, index=index))
    sys.stdout.write(f"{index}\\n")
    sys.stdout.flush()
"""


def record(path: Path, count: int) -> Recorder:
    """A recorder that has `count` frames and is still open."""
    recording = Recorder(path)
    for index in range(count):
        recording.write(random_result(PEOPLE[index % 4], index=index))
    return recording


def leave_partial(path: Path, count: int) -> Path:
    """The journal of a program that ended without closing; the lock went with it."""
    recording = record(path, count)
    recording._journal.close()
    return recording.partial


def assert_holds(path: Path, count: int) -> None:
    with np.load(path, allow_pickle=False) as npz:
        assert npz["index"].tolist() == list(range(count))
        assert np.bincount(npz["person_frame"], minlength=count).tolist() == [PEOPLE[i % 4] for i in range(count)]
        if count > 2:
            want = random_result(3, index=2).people[1].world
            row = np.flatnonzero((npz["person_frame"] == 2) & (npz["person_id"] == 2))[0]
            np.testing.assert_allclose(npz["joints_world_m"][row], want.joints_world_m, atol=1e-5)


def test_a_recording_holds_everything_that_was_published(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    before = random_calibration(0, status=CalibrationStatus.CALIBRATING)
    after = random_calibration(1)
    results = [random_result(n, index=i, calibration=before if i < 2 else after) for i, n in enumerate(PEOPLE)]
    with Recorder(path) as recording:
        for result in results:
            recording.write(result)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npz"]
    with np.load(path, allow_pickle=False) as npz:
        data = dict(npz)
    assert (data["camera"].item(), data["v"].item()) == ("cam", 1)
    assert tuple(data["joint_names"]) == JOINT_NAMES
    for name in ("t_capture_ns", "t_wall_ns", "t_grab_ns", "dropped", "size_wh"):
        assert data[name].tolist() == [np.array(getattr(r, name)).tolist() for r in results], name
    assert (data["t_publish_ns"] > 0).all()
    assert data["stage_names"].tolist() == ["detector", "recovery"]
    np.testing.assert_allclose(data["stages_ms"][:, 0], [r.stages_ms["detector"] for r in results], atol=1e-3)
    assert data["calibration_id"][data["calibration_row"]].tolist() == [r.calibration.id for r in results]
    assert data["calibration_status"].tolist() == ["calibrating", "calibrated"]
    np.testing.assert_allclose(data["calibration_K"], [before.K, after.K], rtol=1e-6)
    np.testing.assert_allclose(
        data["calibration_camera_height_m"], np.array([before.camera_height_m, np.nan], dtype=float)
    )
    people = [(f, p) for f, r in enumerate(results) for p in r.people]
    assert data["person_frame"].tolist() == [f for f, _ in people]
    assert data["person_id"].tolist() == [p.track_id for _, p in people]
    assert data["predicted"].tolist() == [p.predicted for _, p in people]
    for column, want in (
        ("box_xyxy", [p.box_xyxy for _, p in people]),
        ("betas", [p.world.betas for _, p in people]),
        ("confidence", [p.world.confidence for _, p in people]),
        ("t_world_root_m", [p.world.t_world_root for _, p in people]),
        ("velocity_world_m_s", [p.world.velocity_m_s for _, p in people]),
        ("joints_world_m", [p.world.joints_world_m for _, p in people]),
        ("joints_camera_m", [p.camera.joints_camera_m for _, p in people]),
    ):
        np.testing.assert_allclose(data[column], want, atol=1e-4, err_msg=column)
    Rs = frames.from_quat_xyzw(data["quats_parent_joint_xyzw"])
    assert frames.angle_between(Rs, np.array([p.world.Rs_parent_joint for _, p in people])).max() < 1e-6


def test_nothing_recorded_is_a_valid_file(tmp_path: Path) -> None:
    Recorder(tmp_path / "out.npz").close()
    with np.load(tmp_path / "out.npz", allow_pickle=False) as npz:
        assert npz["joints_world_m"].shape == (0, 24, 3)
        assert npz["calibration_K"].shape == (0, 3, 3)
        assert npz["size_wh"].shape == (0, 2)


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    recording = record(tmp_path / "out.npz", 4)
    recording.close()
    recording.close()
    assert_holds(tmp_path / "out.npz", 4)


def test_a_killed_program_loses_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if int(line) >= 60:
                break
        program.send_signal(signal.SIGKILL)
        said = 60 + len(program.stdout.read().split())
    assert program.returncode == -signal.SIGKILL
    assert not path.exists()
    assert recorder.main(["recover", f"{path}.partial"]) == 0
    with np.load(path, allow_pickle=False) as npz:
        count = len(npz["index"])
        assert count >= said
        assert npz["index"].tolist() == list(range(count))
        want = random_result(2, index=count - 1).people[1]
        np.testing.assert_allclose(npz["joints_world_m"][-1], want.world.joints_world_m, atol=1e-5)
    assert not Path(f"{path}.partial").exists()


@pytest.mark.parametrize("cut", [1, 7, 900])
def test_a_last_frame_that_is_cut_is_left_out(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    partial = leave_partial(tmp_path / "out.npz", 5)
    with open(partial, "r+b") as journal:
        journal.truncate(partial.stat().st_size - cut)
    recorder.recover(partial, tmp_path / "out.npz")
    assert_holds(tmp_path / "out.npz", 4)
    assert "bytes are left out" in caplog.text


def test_a_damaged_frame_ends_the_recording_before_it(tmp_path: Path) -> None:
    partial = leave_partial(tmp_path / "out.npz", 5)
    data = bytearray(partial.read_bytes())
    data[-300] ^= 0xFF
    partial.write_bytes(data)
    recorder.recover(partial, tmp_path / "out.npz")
    assert_holds(tmp_path / "out.npz", 4)


def test_the_next_recording_saves_what_was_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.npz"
    leave_partial(path, 5)
    record(path, 3).close()
    assert_holds(path, 3)
    assert_holds(tmp_path / "out.recovered.npz", 5)
    assert "out.recovered.npz" in caplog.text
    path.unlink()
    leave_partial(path, 6)
    record(path, 1).close()
    assert_holds(tmp_path / "out.recovered.npz", 5)
    assert_holds(tmp_path / "out.recovered-2.npz", 6)


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    record(path, 3).close()
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        Recorder(path)
    assert recorder.main(["recover", str(path)]) == 1
    other = tmp_path / "late.npz"
    recording = record(other, 2)
    other.write_bytes(before)
    recording.close()
    assert other.read_bytes() == path.read_bytes() == before
    assert_holds(tmp_path / "late-2.npz", 2)


def test_two_programs_do_not_share_a_recording(tmp_path: Path) -> None:
    with record(tmp_path / "out.npz", 2):
        with pytest.raises(OSError, match="is being recorded by another program"):
            Recorder(tmp_path / "out.npz")
        with pytest.raises(OSError, match="is being recorded by another program"):
            recorder.recover(tmp_path / "out.npz.partial", tmp_path / "mine.npz")
    assert_holds(tmp_path / "out.npz", 2)


def test_a_full_disk_keeps_what_was_recorded(tmp_path: Path) -> None:
    recording = record(tmp_path / "out.npz", 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (recording.partial.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(OSError, match=r"Frame 3 was not recorded.*keeps 3 frames"):
            recording.write(random_result(2, index=3))
        with pytest.raises(OSError, match=r"python -m pipeline\.recorder recover"):
            recording.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npz.partial"]
    recorder.recover(tmp_path / "out.npz.partial", tmp_path / "out.npz")
    assert_holds(tmp_path / "out.npz", 3)


def test_frames_after_a_full_disk_are_kept_again(tmp_path: Path) -> None:
    recording = record(tmp_path / "out.npz", 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (recording.partial.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(OSError, match="Frame 3 was not recorded"):
            recording.write(random_result(2, index=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    recording.write(random_result(2, index=3))
    recording.close()
    assert_holds(tmp_path / "out.npz", 4)


@pytest.mark.parametrize("name", ["out", "out.mp4"])
def test_a_name_that_is_no_npz_says_what_to_type(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"--record out\.npz"):
        Recorder(tmp_path / name)


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Cannot record to"):
        Recorder(tmp_path / "nowhere" / "out.npz")


def test_a_foreign_journal_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partial = tmp_path / "out.npz.partial"
    partial.write_bytes(b"a letter to my aunt, of no interest to anyone")
    assert recorder.main(["recover", str(partial)]) == 1
    assert "expected a recording's journal" in capsys.readouterr().err
    assert recorder.main(["recover", str(tmp_path / "none.npz.partial")]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out.npz.partial"]
