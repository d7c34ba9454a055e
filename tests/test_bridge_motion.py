"""Recordings read as motion: skeleton, takes, rates. Every kind of recording says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridges.formats.recording import columns_of, messages_of, read_columns, read_messages
from bridges.motion import Motion, Scene, continuous, held, motions, nominal_fps
from pipeline import frames, messages
from pipeline.recorder import Recorder
from tests.support.bridge_programs import written
from tests.support.bridge_stream import pose, walk, walker

COUNT = 40


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people for 40 frames at 30 a second."""
    path = tmp_path_factory.mktemp("recording") / "two.npz"
    with Recorder(path) as recorder:
        for index in range(COUNT):
            recorder.write(walk(index, people=2))
    return path


def motion_of(times_s: np.ndarray, seed: int = 0) -> Motion:
    """Random turns at given times."""
    rng = np.random.default_rng(seed)
    Rs = frames.exp_so3(rng.normal(0, 0.7, (len(times_s), 24, 3)))
    return Motion(
        "cam", 1, times_s, rng.normal(0, 1, (len(times_s), 3)), continuous(frames.quat_xyzw(Rs)),
        rng.uniform(0, 1, (len(times_s), 24)), rng.normal(0, 0.2, (24, 3)), np.zeros(10),
    )  # fmt: skip


def test_motion_is_that_of_the_walkers(recording: Path) -> None:
    first, second = motions(read_columns(recording))
    assert (first.person_id, second.person_id, len(first)) == (1, 2, COUNT)
    np.testing.assert_allclose(second.times_s, np.arange(COUNT) / 30, atol=1e-8)
    for frame in (0, COUNT - 1):
        world = walker(frame / 30, 2).world
        np.testing.assert_allclose(second.joints_world_m[frame], world.joints_world_m, atol=3e-6)
        np.testing.assert_allclose(second.Rs_world_joint[frame, 0], world.R_world_root, atol=1e-6)


def test_npz_journal_and_mcap_are_the_same_motion(recording: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "cut.npz")
    for index in range(COUNT):
        recorder.write(walk(index, people=2))
    recorder._journal.close()
    mcap = written(tmp_path / "x.mcap", [pose(index, people=2) for index in range(COUNT)])
    want = motions(read_columns(recording))
    for path in (recorder.partial, mcap):
        for motion, other in zip(motions(read_columns(path)), want, strict=True):
            for name in ("times_s", "t_world_root_m", "quats_xyzw", "confidence", "offsets_m", "betas"):
                np.testing.assert_array_equal(getattr(motion, name), getattr(other, name), err_msg=name)


def test_messages_of_an_npz_are_those_that_were_recorded(recording: Path, tmp_path: Path) -> None:
    again = list(read_messages(recording))
    assert len(again) == COUNT
    for index in (0, COUNT - 1):
        sent = messages.decode(pose(index, people=2))[1].record()
        got = again[index].record()
        assert (got.index, got.t_capture_ns, got.stages_ms) == (sent.index, sent.t_capture_ns, sent.stages_ms)
        assert got.calibration.id == sent.calibration.id
        np.testing.assert_array_equal(got.people[1].world.joints_world_m, sent.people[1].world.joints_world_m)
        assert got.people[1].score == pytest.approx(sent.people[1].score, abs=1e-7)
    columns = columns_of(messages_of(dict(np.load(recording))))
    for name, column in columns.items():
        np.testing.assert_array_equal(column, np.load(recording)[name], err_msg=name)


def test_bones_are_those_of_the_last_betas() -> None:
    early, late = walk(0), walk(1, people=2)
    grown = late.people[1].world
    sent = [messages.pose_message(early, 1, 1), messages.pose_message(walk(1), 1, 1)]
    columns = dict(columns_of([sent[0], sent[1]]))
    columns["betas"] = np.stack([columns["betas"][0], grown.betas])
    columns["joints_world_m"] = np.stack([columns["joints_world_m"][0], grown.joints_world_m])
    columns["quat_world_root_xyzw"][1] = frames.quat_xyzw(grown.R_world_root)
    columns["quats_parent_joint_xyzw"][1] = frames.quat_xyzw(grown.Rs_parent_joint)
    (motion,) = motions(columns)
    length = np.linalg.norm(motion.offsets_m[4])
    joints = grown.joints_world_m
    assert length == pytest.approx(np.linalg.norm(joints[4] - joints[1]), abs=1e-5)
    assert length != pytest.approx(
        np.linalg.norm(np.diff(early.people[0].world.joints_world_m[[1, 4]], axis=0)), abs=1e-3
    )


def test_predicted_frames_count_as_not_seen(recording: Path) -> None:
    columns = dict(read_columns(recording))
    columns["predicted"] = columns["predicted"].copy()
    columns["predicted"][(columns["person_id"] == 2) & (columns["person_frame"] >= 30)] = True
    first, second = motions(columns)
    assert (len(first), len(second)) == (COUNT, 30)


def test_resampling_turns_along_the_shortest_way_at_a_constant_rate() -> None:
    motion = motion_of(np.array([0.0, 0.1, 0.2]))
    fine = motion.resampled(100)
    assert fine is not None
    np.testing.assert_allclose(fine.times_s, np.arange(21) / 100, atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(fine.quats_xyzw[[0, 10, 20]] * motion.quats_xyzw, axis=-1)), 1, atol=1e-9)
    steps = frames.angle_between(fine.Rs_parent_joint[:-1], fine.Rs_parent_joint[1:])
    whole = frames.angle_between(motion.Rs_parent_joint[:-1], motion.Rs_parent_joint[1:])
    np.testing.assert_allclose(steps, np.repeat(whole / 10, 10, axis=0), atol=1e-7)
    np.testing.assert_allclose(fine.t_world_root_m[5], motion.t_world_root_m[:2].mean(axis=0), atol=1e-12)
    assert (np.sum(fine.quats_xyzw[1:] * fine.quats_xyzw[:-1], axis=-1) > 0).all()


def test_everybody_falls_on_the_same_frames() -> None:
    late = motion_of(0.4567 + np.arange(30) / 29.7).resampled(30)
    assert late is not None
    np.testing.assert_allclose(late.times_s * 30, np.round(late.times_s * 30), atol=1e-9)
    assert late.times_s[0] == pytest.approx(14 / 30)


def test_a_single_moment_between_frames_has_no_frame() -> None:
    assert motion_of(np.array([0.01])).resampled(30) is None
    alone = motion_of(np.array([0.1])).resampled(30)
    assert alone is not None
    assert len(alone) == 1


def test_a_long_gap_is_cut_and_a_short_one_is_not() -> None:
    times = np.concatenate([np.arange(10), np.arange(15, 25), np.arange(60, 70)]) / 30
    takes = motion_of(times).takes(0.5)
    assert [len(take) for take in takes] == [20, 10]
    assert [len(take) for take in motion_of(times).takes(5.0)] == [30]


def test_a_held_pose_fills_every_frame() -> None:
    times = np.concatenate([np.arange(3, 6), np.arange(9, 11)]) / 30
    motion = motion_of(times)
    takes = tuple(take.resampled(30) for take in motion.takes(0.05))
    whole = held(tuple(t for t in takes if t), 30, 0, 14)
    np.testing.assert_allclose(whole.times_s, np.arange(14) / 30)
    rows = [0, 0, 0, 0, 1, 2, 2, 2, 2, 3, 4, 4, 4, 4]
    np.testing.assert_allclose(whole.t_world_root_m, motion.t_world_root_m[rows])
    np.testing.assert_allclose(whole.Rs_parent_joint, motion.Rs_parent_joint[rows], atol=1e-12)
    assert (whole.confidence[[0, 6, 13]] == 0).all()
    assert (whole.confidence[4] > 0).any()


def test_a_scene_places_takes_on_one_time_axis() -> None:
    motion = motion_of(np.concatenate([np.arange(5, 8), np.arange(20, 22)]) / 30)
    takes = tuple(t for take in motion.takes(0.1) if (t := take.resampled(30)))
    scene = Scene((takes,), 30)
    assert (scene.first, scene.count) == (5, 17)
    spread = scene.spread(takes, "t_world_root_m")
    assert np.flatnonzero(~np.isnan(spread[:, 0])).tolist() == [0, 1, 2, 15, 16]
    np.testing.assert_allclose(spread[15], motion.t_world_root_m[3])


def test_nominal_rate_is_a_whole_number() -> None:
    ntsc = np.round(np.arange(100) * 1001e9 / 30000).astype(np.int64)
    assert nominal_fps(ntsc) == 30
    assert nominal_fps(np.delete(ntsc, slice(10, 40))) == 30
    assert nominal_fps(np.array([5])) == 30


def test_two_runs_in_one_recording_are_refused(recording: Path) -> None:
    columns = dict(read_columns(recording))
    columns["t_capture_ns"] = np.concatenate([columns["t_capture_ns"][20:], columns["t_capture_ns"][:20]])
    with pytest.raises(ValueError, match="two runs"):
        motions(columns)


def test_files_that_are_no_recordings_say_so(tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, poses=np.zeros((3, 156)))
    with pytest.raises(ValueError, match="npz without camera"):
        read_columns(other)
    text = tmp_path / "text.npz"
    text.write_text("no zip")
    with pytest.raises(ValueError, match="made with --record"):
        read_columns(text)
    with pytest.raises(ValueError, match=r"\.mcap"):
        read_columns(tmp_path / "x.mp4")
    with pytest.raises(FileNotFoundError):
        read_columns(tmp_path / "missing.npz")
    newer = tmp_path / "newer.npz"
    with Recorder(newer) as recorder:
        recorder.write(walk(0))
    np.savez(newer, **(dict(np.load(newer)) | {"v": np.array(99)}))
    with pytest.raises(ValueError, match="schema version 99"):
        read_columns(newer)
    with pytest.raises(ValueError, match="leave out --camera"):
        read_columns(written_one(tmp_path), "door")


def written_one(folder: Path) -> Path:
    path = folder / "one.npz"
    with Recorder(path) as recorder:
        recorder.write(walk(0))
    return path
