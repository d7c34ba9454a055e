"""Recordings come again as they were taken: as a feed of a bridge, and published."""

from __future__ import annotations

import argparse
import itertools
import logging
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges import play, record
from bridges.feed import Item, add_feed_options, bridge_parser, open_feed, run_bridge
from bridges.recordings import Timeline
from pipeline import messages
from pipeline.mcap_file import McapWriter, Recorded
from pipeline.messages import CalibrationMessage, PoseMessage, StatusMessage
from pipeline.subscriber import Subscriber
from tests.support.bridge_programs import PATIENCE_S, START_NS, log_as_before, start, until, written
from tests.support.bridge_stream import BridgeStream, calibration, pose, scene, status, walk
from tests.support.program import Listener
from tests.support.programs import run_python
from tests.support.rtsp import free_port

pytestmark = pytest.mark.usefixtures("log_as_before")
__all__ = ["log_as_before"]


def options_of(path: Path, *arguments: str) -> argparse.Namespace:
    parser = bridge_parser("python -m bridges.test", "", "")
    add_feed_options(parser)
    return parser.parse_args(["--recording", str(path), *arguments])


def test_a_recording_is_a_feed_that_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sent = scene(12)
    path = written(tmp_path / "x.mcap", sent)
    found: list[Item] = []
    run_bridge(options_of(path, "--fast"), found.append, threading.Event(), ("pose", "status"))
    assert [item.raw for item in found] == [raw for raw in sent if not raw.startswith(b"calibration/")]
    assert found[0].log_time_ns == START_NS
    assert found[-1].log_time_ns == START_NS + (len(sent) - 1) * 33_000_000
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_recording_comes_at_its_own_times(tmp_path: Path) -> None:
    raws = [status(), status(), status()]
    path = written(tmp_path / "x.mcap", raws, every_ns=4_000_000_000)
    with open_feed(options_of(path, "--speed", "10"), ("status",)) as feed:
        start_s = time.monotonic()
        assert feed.receive(0.0) is not None
        assert feed.receive(0.0) is None
        assert not feed.ended
        assert [feed.receive(PATIENCE_S) is None for _ in range(2)] == [False, False]
        assert feed.ended
        assert time.monotonic() - start_s >= 0.8


def test_a_late_bridge_gets_the_newest_of_a_recording(tmp_path: Path) -> None:
    path = written(tmp_path / "x.mcap", [status(frames_=i) for i in range(50)], every_ns=1)
    with open_feed(options_of(path), ("status",), newest_only=True) as feed:
        time.sleep(0.01)
        item = feed.receive(PATIENCE_S)
        assert item is not None
        assert isinstance(item.message, messages.StatusMessage)
        assert item.message.frames == 49
        assert feed.ended


def test_a_recording_without_what_is_wanted_says_what_it_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "x.mcap", [calibration(), pose(0)])
    run_bridge(options_of(path, "--fast", "--camera", "b"), print, threading.Event())
    assert "holds no pose messages of camera 'b'; it holds calibration/cam/, pose/cam/." in caplog.text


def times(recording: list[tuple[bytes, float]]) -> list[float]:
    timeline = Timeline()
    return [round(timeline.at_s(Recorded(raw, START_NS + round(at_s * 1e9))), 6) for raw, at_s in recording]


def test_messages_are_due_as_they_were_taken() -> None:
    assert times([(status(), 0), (calibration(), 0.5), (status(), 0.2), (status(), 3.2)]) == [0, 0.5, 0.5, 3.5]


def test_a_file_that_was_not_paced_plays_at_the_files_times() -> None:
    """`walk` is 1/30 s a frame and years away from the times of recording; what lies between goes with the pose."""
    recording = [(status(), 0.0), (pose(0), 7.0), (status(), 8.0), (pose(3), 9.0), (pose(6), 9.1), (pose(6), 50.0)]
    assert times(recording) == [0, 0, 0, 0.1, 0.2, 0.2]


def test_a_live_recording_plays_at_the_times_of_receiving() -> None:
    def live(index: int) -> bytes:
        result = walk(index)
        message = messages.pose_message(result, 0, 0)
        shifted = messages.msgspec.structs.replace(message, t_wall_ns=START_NS + 33_000_000 * index)
        return messages.encode("pose", shifted)

    assert times([(live(0), 0.1), (status(), 0.2), (live(1), 0.7)]) == [0, 0.1, 0.6]


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[str]:
    """The address of a scene that plays over and over; half a second long, at the times of its poses."""
    address = f"tcp://127.0.0.1:{free_port()}"
    path = written(tmp_path / "x.mcap", [calibration(), status(), *[pose(i) for i in range(15)]])
    with start("bridges.play", str(path), "--bind", address, "--loop") as player:
        yield address
        player.send_signal(signal.SIGTERM)
        said = player.communicate(timeout=PATIENCE_S)[1]
        assert player.returncode == 0, said
        assert "Stopped" in said


def receive(subscriber: Subscriber) -> messages.Message:
    got = subscriber.receive(PATIENCE_S)
    assert got is not None, subscriber.silence()
    return got[1]


def test_newcomers_get_calibration_and_status_and_the_loop_starts_over(playing: str) -> None:
    with Subscriber(playing) as subscriber:
        indices = [receive(subscriber).index for _ in range(20)]  # type: ignore[union-attr]
    assert {(b - a) % 15 for a, b in itertools.pairwise(indices)} == {1}
    for kind in ("calibration", "status"):
        with Subscriber(playing, [f"{kind}/"]) as subscriber:
            assert receive(subscriber).camera == "cam"


def test_readers_of_json_get_poses_made_of_what_was_recorded(playing: str) -> None:
    with Subscriber(playing, ["pose_json/"]) as subscriber:
        message = receive(subscriber)
    assert isinstance(message, PoseMessage)
    want = walk(message.index).people[0].world
    assert abs(message.people[0].joints_world_m - want.joints_world_m).max() < 1e-4


def test_a_late_newcomer_gets_the_latest_at_once(tmp_path: Path) -> None:
    """The recording holds one status, then a pause that is longer than the test."""
    address = f"tcp://127.0.0.1:{free_port()}"
    sent = [status(frames_=1), status(frames_=2), calibration(), status(state="ended")]
    with McapWriter(tmp_path / "x.mcap") as writer:
        for raw, at_s in zip(sent, (0, 0, 0, 600), strict=True):
            writer.write(raw, messages.decode(raw)[1], START_NS + at_s * 1_000_000_000)
    with start("bridges.play", str(tmp_path / "x.mcap"), "--bind", address) as player:
        with Subscriber(address, ["status/", "calibration/"]) as subscriber:
            found = [receive(subscriber) for _ in range(2)]
        with Subscriber(address, ["status/"]) as subscriber:
            again = receive(subscriber)
        player.send_signal(signal.SIGINT)
        player.communicate(timeout=PATIENCE_S)
    assert {type(message) for message in found} == {StatusMessage, CalibrationMessage}
    assert isinstance(again, StatusMessage)
    assert again.frames == 2


def test_fast_loses_nothing(tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    sent = [pose(i) for i in range(30)] * 40
    path = written(tmp_path / "x.mcap", sent, every_ns=1_000_000_000)
    with Listener(address, ("pose/",)) as listener:
        assert play.main([str(path), "--bind", address, "--wait", "--fast"]) == 0
        until(lambda: listener.count() == len(sent))
    assert listener.raw == sent


def test_a_port_in_use_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "x.mcap", [pose(0)])
    with BridgeStream() as stream:
        assert play.main([str(path), "--bind", stream.address]) == 2
    assert "is in use by another program" in capsys.readouterr().err


@pytest.mark.parametrize("module", [play, record])
def test_help_has_an_example(module: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])  # type: ignore[attr-defined]
    assert ended.value.code == 0
    assert "example:\n  python -m bridges." in capsys.readouterr().out


def test_a_missing_package_is_named_with_what_to_type(tmp_path: Path) -> None:
    path = written(tmp_path / "x.mcap", [pose(0)])
    code = """
import sys
sys.modules["mcap.exceptions"] = None
from bridges.record import main
sys.exit(main(["--recording", sys.argv[1], "--out", sys.argv[2]]))
"""
    ended = run_python(code, str(path), str(tmp_path / "y.mcap"))
    assert ended.returncode == 2
    assert "pip install mcap==1.6.0" in ended.stderr
    assert ended.stderr.count("\n") == 1
