"""The command line of `python -m bridges.convert`: which files, which people, which takes, what it refuses."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridges import convert
from pipeline import messages
from pipeline.recorder import Recorder
from tests.support.bridge_programs import bytes_of, log_as_before, written
from tests.support.bridge_stream import pose, scene, walk
from tests.support.converted import Glb, bvh_joints, c3d_points
from tests.support.programs import run_python

__all__ = ["log_as_before"]
pytestmark = pytest.mark.usefixtures("log_as_before")
COUNT = 60


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds; the second person is missing in frames 20 to 24, which is short, and 30 to 49, which is long."""
    path = tmp_path_factory.mktemp("recording") / "walk.npz"
    with Recorder(path) as recorder:
        for index in range(COUNT):
            alone = 20 <= index < 25 or 30 <= index < 50
            recorder.write(walk(index, people=1 if alone else 2))
    return path


def run(*arguments: str | Path) -> int:
    return convert.main([str(argument) for argument in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bvh_has_a_file_for_each_person_and_take(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recording, tmp_path / "x.bvh", "--min-take", "0.2") == 0
    assert names(tmp_path) == ["x-person1.bvh", "x-person2-take1.bvh", "x-person2-take2.bvh"]
    counts = [len(bvh_joints(tmp_path / name)[0]) for name in names(tmp_path)]
    assert counts == [60, 30, 10]
    said = capsys.readouterr().out.splitlines()
    assert said[2].endswith("person 2, 10 frames at 30 a second, 1.67 to 1.97 s")


def test_takes_shorter_than_half_a_second_are_left_out(
    recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(recording, tmp_path / "x.bvh", "--person", "2") == 0
    assert names(tmp_path) == ["x.bvh"]
    assert "1 take(s) of person 2 are left out: shorter than 0.5 s" in caplog.text


def test_a_larger_gap_can_be_interpolated(recording: Path, tmp_path: Path) -> None:
    assert run(recording, tmp_path / "x.bvh", "--person", "2", "--max-gap", "1") == 0
    joints = bvh_joints(tmp_path / "x.bvh")[0]
    assert len(joints) == COUNT
    edge, middle = joints[[29, 50], 0], joints[40, 0]
    np.testing.assert_allclose(middle, edge[0] + (edge[1] - edge[0]) * 11 / 21, atol=1e-3)


def test_held_poses_keep_files_in_step(recording: Path, tmp_path: Path) -> None:
    assert run(recording, tmp_path / "x.bvh", "--hold", "--min-take", "0") == 0
    assert names(tmp_path) == ["x-person1.bvh", "x-person2.bvh"]
    joints = bvh_joints(tmp_path / "x-person2.bvh")[0]
    assert len(joints) == COUNT
    np.testing.assert_allclose(joints[30:50, 0], joints[[29] * 20, 0], atol=1e-9)
    assert np.abs(joints[50] - joints[49]).max() > 1


def test_one_file_for_everybody_or_one_each(recording: Path, tmp_path: Path) -> None:
    assert run(recording, tmp_path / "x.c3d", "--start", "0.5", "--end", "1.5") == 0
    assert names(tmp_path) == ["x.c3d"]
    labels, points, _ = c3d_points(tmp_path / "x.c3d")
    assert (len(labels), len(points)) == (24, 31)
    assert run(recording, tmp_path / "y.c3d", "--split") == 0
    assert names(tmp_path) == ["x.c3d", "y-person1.c3d", "y-person2.c3d"]


def test_another_rate(recording: Path, tmp_path: Path) -> None:
    assert run(recording, tmp_path / "x.bvh", "--person", "1", "--fps", "60", "--end", "1") == 0
    fast, _, frame_time = bvh_joints(tmp_path / "x.bvh")
    assert frame_time == pytest.approx(1 / 60)
    assert run(recording, tmp_path / "y.bvh", "--person", "1", "--end", "1") == 0
    slow = bvh_joints(tmp_path / "y.bvh")[0]
    assert (len(fast), len(slow)) == (61, 31)
    np.testing.assert_allclose(fast[::2], slow, atol=1e-3)
    np.testing.assert_allclose(fast[1:-1:2, 0], (slow[:-1, 0] + slow[1:, 0]) / 2, atol=1e-3)


def test_a_journal_of_a_killed_program_is_converted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "x.npz")
    for index in range(20):
        recorder.write(walk(index))
    recorder._journal.close()
    assert run(recorder.partial, tmp_path / "x.glb") == 0
    assert len(Glb(tmp_path / "x.glb").joints(0)[0]) == 20


def test_mcap_keeps_messages_byte_for_byte(tmp_path: Path) -> None:
    sent = scene(30, people=2)
    written(tmp_path / "x.mcap", sent)
    assert run(tmp_path / "x.mcap", tmp_path / "y.mcap") == 0
    assert bytes_of(tmp_path / "y.mcap") == sent
    assert run(tmp_path / "x.mcap", tmp_path / "z.mcap", "--start", "0.5", "--end", "0.9", "--person", "2") == 0
    kept = [messages.decode(raw) for raw in bytes_of(tmp_path / "z.mcap")]
    poses = [message for topic, message in kept if topic.startswith("pose/")]
    assert [m.index for m in poses if isinstance(m, messages.PoseMessage)] == list(range(15, 28))
    assert {p.id for m in poses if isinstance(m, messages.PoseMessage) for p in m.people} == {2}
    assert [topic for topic, _ in kept[:3]] == ["calibration/cam/", "status/cam/", "pose/cam/"]


def test_npz_becomes_mcap_with_the_same_poses(recording: Path, tmp_path: Path) -> None:
    assert run(recording, tmp_path / "x.mcap") == 0
    raws = [raw for raw in bytes_of(tmp_path / "x.mcap") if raw.startswith(b"pose/")]
    assert len(raws) == COUNT
    got, sent = (msgspec.msgpack.decode(raw.partition(b"\0")[2])["people"][1] for raw in (raws[0], pose(0, people=2)))
    assert got["joints_world_m"] == sent["joints_world_m"]
    assert got["quats_parent_joint_xyzw"] == sent["quats_parent_joint_xyzw"]


def test_nothing_is_replaced_unasked(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x-person2.csv").write_text("mine")
    assert run(recording, tmp_path / "x.csv", "--split") == 2
    assert "exists already: name another file, or replace it with --force" in capsys.readouterr().err
    assert names(tmp_path) == ["x-person2.csv"]
    assert run(recording, tmp_path / "x.csv", "--split", "--force") == 0
    assert (tmp_path / "x-person2.csv").read_text() != "mine"


def test_a_file_is_whole_or_not_there(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(recording, tmp_path / "x.npz", "--fps", "29.97", "--person", "1") == 2
    assert "whole number" in capsys.readouterr().err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x.dae",), "ends with one of .bvh"),
        (("x.glb", "--up", "z"), "written with y up, not z: leave out --up"),
        (("x.bvh", "--person", "7"), "has no person 7: it has person 1, 2"),
        (("x.bvh", "--start", "9"), "Nobody is in"),
        (("x.mcap", "--fps", "60"), "leave out --fps"),
        (("x.mcap", "--person", "9"), "has no person 9"),
        (("x.glb", "--body", "smpl=none.npz", "--min-take", "0"), "none.npz"),
        (("x.bvh", "--camera", "door"), "is of camera 'cam', not 'door'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(recording, tmp_path / arguments[0], *arguments[1:]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("arguments", [("--person", "x"), ("--fps", "0"), ("--start", "-1"), ("--max-gap", "nan")])
def test_options_that_make_no_sense(recording: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(recording, "x.bvh", *arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(("name", "module", "package"), [("x.c3d", "ezc3d", "ezc3d"), ("x.usd", "pxr", "usd-core")])
def test_a_missing_package_is_named(
    recording: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert run(recording, tmp_path / name) == 2
    assert f"pip install {package}" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("bpy") is not None, reason="bpy is installed")
def test_fbx_without_blender_says_what_to_install(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BLENDER_PYTHON", raising=False)
    assert run(recording, tmp_path / "x.fbx") == 2
    assert "install it so that `blender` starts it" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_a_format_imports_only_what_it_needs(recording: Path, tmp_path: Path) -> None:
    code = """
import sys
from bridges import convert
assert convert.main(sys.argv[1:]) == 0
print(sorted({"pxr", "ezc3d", "pygltflib", "bvhio", "bpy", "mcap", "torch"} & set(sys.modules)))
"""
    for name in ("x.bvh", "x.glb", "x.npz", "x.csv"):
        done = run_python(code, str(recording), str(tmp_path / name), "--person", "1")
        assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "python -m bridges.convert walk.npz walk.bvh" in capsys.readouterr().out
