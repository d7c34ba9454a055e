"""What every bridge stands on: items of a real stream and of recordings, and the loop that hands them on."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bridges import feed as feed_module
from bridges.feed import Feed, Item, add_feed_options, bridge_parser, exit_status, open_feed, run_bridge
from pipeline import curve, messages
from pipeline.publisher import Publisher
from tests.support.bridge_programs import log_as_before, until
from tests.support.bridge_stream import BridgeStream, pose, scene, status, walk

ROOT = Path(__file__).parents[1]
PATIENCE_S = 20.0
PROG = "python -m bridges.test"


__all__ = ["log_as_before"]
pytestmark = pytest.mark.usefixtures("log_as_before")


@pytest.fixture
def stream() -> Iterator[BridgeStream]:
    with BridgeStream() as made:
        yield made


def parser() -> argparse.ArgumentParser:
    made = bridge_parser(PROG, "A test.", f"{PROG} --connect tcp://127.0.0.1:5556")
    add_feed_options(made)
    return made


def options_of(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(arguments)


def opened(
    stream: BridgeStream, *arguments: str, kinds: tuple[str, ...] = ("pose",), newest_only: bool = False
) -> Feed:
    feed = open_feed(options_of("--connect", stream.address, *arguments), kinds, newest_only)
    stream.wait_for(kinds[-1])
    return feed


def take(feed: Feed, count: int) -> list[Item]:
    found = []
    for _ in range(count):
        item = feed.receive(PATIENCE_S)
        assert item is not None, feed.silence()
        found.append(item)
    return found


def index(item: Item) -> int:
    assert isinstance(item.message, messages.PoseMessage)
    return item.message.index


def changed(raw: bytes, **fields: object) -> bytes:
    """The message with other fields, or more of them."""
    head, _, payload = raw.partition(b"\0")
    codec = msgspec.msgpack if head.startswith(b"pose/") else msgspec.json
    return head + b"\0" + codec.encode(codec.decode(payload) | fields)


def test_items_are_what_was_sent(stream: BridgeStream) -> None:
    sent = scene(12, people=2)
    with opened(stream, kinds=("pose", "calibration", "status")) as feed:
        stream.send(*sent)
        items = take(feed, len(sent))
        assert feed.receive(0.0) is None
        assert not feed.ended
    assert [item.raw for item in items] == sent
    assert [item.topic for item in items[:3]] == ["pose/cam/", "calibration/cam/", "status/cam/"]
    assert [item.kind for item in items[:3]] == ["pose", "calibration", "status"]
    assert [index(item) for item in items if item.kind == "pose"] == list(range(12))
    times = [item.log_time_ns for item in items]
    assert times == sorted(times)


def test_only_the_kinds_that_are_wanted_come(stream: BridgeStream) -> None:
    with opened(stream, kinds=("status",)) as feed:
        stream.send(pose(0), pose(1), status())
        assert take(feed, 1)[0].kind == "status"


def test_a_bridge_that_is_late_gets_the_newest_of_each_topic(stream: BridgeStream) -> None:
    with opened(stream, kinds=("pose", "status"), newest_only=True) as feed:
        stream.send(*[pose(i) for i in range(20)], status(), *[pose(i) for i in range(20, 40)])
        time.sleep(0.5)
        items = take(feed, 1)
        while items[-1].kind != "pose" or index(items[-1]) != 39:
            items += take(feed, 1)
    assert sum(item.kind == "status" for item in items) == 1
    assert len(items) < 10


def test_a_stream_that_is_restarted_goes_on(stream: BridgeStream) -> None:
    found: list[Item] = []
    stop = threading.Event()
    options = options_of("--connect", stream.address)
    thread = threading.Thread(target=run_bridge, args=(options, found.append, stop))
    thread.start()
    for start in (0, 100):
        stream.wait_for("pose")
        stream.send(*[pose(i) for i in range(start, start + 3)])
        until(lambda: len(found) % 3 == 0 and found and index(found[-1]) == start + 2)  # noqa: B023
        stream.stop()
        stream.start()
    stop.set()
    thread.join(PATIENCE_S)
    assert [index(item) for item in found] == [0, 1, 2, 100, 101, 102]


def test_a_newer_schema_is_refused_once_in_one_sentence(stream: BridgeStream, caplog: pytest.LogCaptureFixture) -> None:
    newer = [changed(pose(i), v=2) for i in range(5)]
    with opened(stream) as feed:
        stream.send(*newer, pose(5), *newer, pose(6))
        assert [index(item) for item in take(feed, 2)] == [5, 6]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all("schema version 2, this reader knows version 1" in text and "\n" not in text for text in said)


def test_fields_that_are_not_known_are_ignored(stream: BridgeStream, caplog: pytest.LogCaptureFixture) -> None:
    raw = changed(pose(3), weather="fine", hats=[1, 2])
    with opened(stream) as feed:
        stream.send(raw)
        item = take(feed, 1)[0]
    assert (index(item), item.raw) == (3, raw)
    assert caplog.text == ""


@pytest.mark.parametrize("bad", [b"pose/cam/", b"pose/cam/\0", b"pose/cam/\0\xc1", pose(0)[:-40], b"pose/\xff\0\x80"])
def test_what_cannot_be_read_is_left_out_and_said(
    stream: BridgeStream, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(stream) as feed:
        stream.send(*[bad] * 30, pose(7))
        assert index(take(feed, 1)[0]) == 7
    assert len(caplog.records) == 1
    assert stream.address in caplog.text


def test_of_two_cameras_the_first_is_taken_and_that_is_said(
    stream: BridgeStream, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(stream) as feed:
        stream.send(pose(0, camera_id="left"), pose(1, camera_id="right"), *[pose(2, camera_id="right")] * 3)
        stream.send(pose(3, camera_id="left"))
        assert [item.topic for item in take(feed, 2)] == ["pose/left/"] * 2
    assert caplog.text.count("several cameras") == 1
    assert "taking 'left'" in caplog.text
    assert "leaving out 'right'; --camera NAME picks one" in caplog.text


def test_a_camera_can_be_named(stream: BridgeStream, caplog: pytest.LogCaptureFixture) -> None:
    with opened(stream, "--camera", "right") as feed:
        stream.send(pose(0, camera_id="left"), pose(1, camera_id="right"), pose(2, camera_id="right2"))
        assert take(feed, 1)[0].topic == "pose/right/"
        assert feed.receive(0.1) is None
    assert caplog.text == ""


def test_keys_let_a_feed_in(tmp_path: Path) -> None:
    curve.make_keys(tmp_path)
    with Publisher("cam", "tcp://127.0.0.1:*", tmp_path / "server") as publisher:
        options = options_of("--connect", publisher.address, "--curve-keys", str(tmp_path / "client"))
        with open_feed(options) as feed:
            until(lambda: publisher.wants("pose"))
            publisher.publish(walk(4))
            assert index(take(feed, 1)[0]) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--connect", "5556"], "expected tcp://ADDRESS:PORT"),
        (["--camera", "a/b"], "expected 1 to 64 letters"),
        (["--fast"], "expected --recording FILE"),
        (["--speed", "2"], "expected --recording FILE"),
        (["--recording", "nowhere.mcap"], "nowhere.mcap"),
        (["--recording", str(Path(__file__))], "expected a recording"),
        (["--curve-keys", "nowhere"], "--make-keys"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = options_of(*arguments)
    assert exit_status(options, PROG, lambda: run_bridge(options, print, threading.Event())) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{PROG}: ")
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--speed", "0"], ["--speed", "fast"], ["--connect", "a", "--recording", "b"], ["--colour"]]
)
def test_a_wrong_command_line_is_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options_of(*arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_has_an_example() -> None:
    assert f"example:\n  {PROG} --connect tcp://" in parser().format_help()


def test_silence_is_said_once_and_told_to_the_bridge(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed_module, "SILENCE_S", 0.2)
    stop = threading.Event()
    silent: list[float] = []

    def on_silence(silent_s: float) -> None:
        silent.append(silent_s)
        if len(silent) == 5:
            stop.set()

    run_bridge(options_of("--connect", "tcp://127.0.0.1:9"), print, stop, on_silence=on_silence)
    assert silent == sorted(silent)
    assert caplog.text.count("Nobody publishes at tcp://127.0.0.1:9") == 1


def test_silence_of_a_camera_that_is_not_there(stream: BridgeStream) -> None:
    with opened(stream, "--camera", "other") as feed:
        stream.send(pose(0))
        assert feed.receive(0.2) is None
        assert "sent nothing under 'pose/other/': is that its camera's name?" in feed.silence()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_bridge(stream: BridgeStream, number: int) -> None:
    code = f"""
import sys, threading
from bridges.feed import add_feed_options, bridge_parser, exit_status, run_bridge
parser = bridge_parser({PROG!r}, "", "")
add_feed_options(parser)
options = parser.parse_args()
handle = lambda item: sys.stdout.write("got\\n") and sys.stdout.flush()
status = exit_status(options, parser.prog, lambda: run_bridge(options, handle, threading.Event()))
sys.stdout.write("closed\\n")
sys.exit(status)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, "--connect", stream.address], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as program:
        stream.wait_for("pose")
        stream.send(pose(0))
        assert program.stdout is not None
        assert program.stdout.readline() == "got\n"
        program.send_signal(number)
        assert program.communicate(timeout=PATIENCE_S)[0] == "closed\n"
    assert program.returncode == 0
