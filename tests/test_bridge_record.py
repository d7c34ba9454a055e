"""Recordings of messages: what is in them, that a kill does not spoil them, and that they play as they were."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges import play, record
from bridges.recordings import Timeline, read_recording
from pipeline import messages
from pipeline.mcap_file import McapWriter, Recorded, json_schema, make_whole, read_mcap, read_metadata
from pipeline.messages import CalibrationMessage, PoseMessage, StatusMessage
from pipeline.recorder import Recorder
from pipeline.recording import open_recorder
from pipeline.subscriber import Subscriber
from pipeline.types import JOINT_NAMES
from tests.support.bridge_stream import BridgeStream, calibration, pose, scene, status, walk
from tests.support.program import Listener
from tests.support.rtsp import free_port

make_reader = pytest.importorskip("mcap.reader", reason="pip install mcap==1.6.0").make_reader

ROOT = Path(__file__).parents[1]
PATIENCE_S = 20.0
START_NS = 1_800_000_000_000_000_000


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def until(condition: Callable[[], object], program: subprocess.Popen[str] | None = None) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        assert program is None or program.poll() is None, "the program ended"
        time.sleep(0.02)


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def written(path: Path, raws: list[bytes], every_ns: int = 33_000_000, flush: bool = False) -> Path:
    with McapWriter(path) as writer:
        for number, raw in enumerate(raws):
            writer.write(raw, messages.decode(raw)[1], START_NS + number * every_ns)
            if flush:
                writer.flush()
    return path


def bytes_of(path: Path) -> list[bytes]:
    return [recorded.raw for recorded in read_recording(path)]


def test_a_stream_is_recorded_and_played_byte_for_byte(tmp_path: Path) -> None:
    sent = scene(30, people=2)
    path, address = tmp_path / "x.mcap", f"tcp://127.0.0.1:{free_port()}"
    with BridgeStream() as stream, start("bridges.record", "--connect", stream.address, "--out", str(path)) as recorder:
        stream.wait_for("status")
        stream.send(*sent, every_s=0.02)
        until(lambda: path.exists() and len(bytes_of(path)) == len(sent), recorder)
        recorder.send_signal(signal.SIGINT)
        said = recorder.communicate(timeout=PATIENCE_S)[1]
    assert (recorder.returncode, bytes_of(path)) == (0, sent), said
    assert f"{path} holds {len(sent)} messages" in said
    times = [recorded.log_time_ns for recorded in read_recording(path)]
    assert times == sorted(times)
    assert times[-1] - times[0] >= 0.02e9 * (len(sent) - 1)
    with Listener(address) as listener, start("bridges.play", str(path), "--bind", address, "--wait") as player:
        said = player.communicate(timeout=PATIENCE_S)[1]
    assert player.returncode == 0, said
    kept = [raw for raw in listener.raw if not raw.startswith(b"pose_json/")]
    assert kept == sent


def test_the_library_of_mcap_reads_what_was_recorded(tmp_path: Path) -> None:
    sent = [*scene(12), pose(0, kind="pose_json")]
    path = written(tmp_path / "x.mcap", sent)
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        found = list(reader.iter_messages())
        metadata = {record.name: record.metadata for record in reader.iter_metadata()}
    assert [channel.topic.encode() + b"\0" + message.data for _, channel, message in found] == sent
    assert [message.log_time for _, _, message in found] == [START_NS + n * 33_000_000 for n in range(len(sent))]
    assert summary.statistics.message_count == len(sent)
    assert summary.chunk_indexes
    encodings = {c.topic: (c.message_encoding, summary.schemas[c.schema_id].name) for c in summary.channels.values()}
    assert encodings == {
        "pose/cam/": ("msgpack", "PoseMessage"),
        "calibration/cam/": ("json", "CalibrationMessage"),
        "status/cam/": ("json", "StatusMessage"),
        "pose_json/cam/": ("json", "PoseMessage"),
    }
    assert all(json.loads(s.data)["type"] == "object" and s.encoding == "jsonschema" for s in summary.schemas.values())
    for _, channel, message in found:
        decoded = messages.decode(channel.topic.encode() + b"\0" + message.data)[1]
        assert message.publish_time == decoded.t_publish_wall_ns
        assert message.sequence == getattr(decoded, "index", 0)
    assert json.loads(metadata["whmr-stream"]["joint_names"]) == list(JOINT_NAMES)
    assert "y up" in metadata["whmr-stream"]["world_axes"]
    assert metadata["whmr-stream"]["program"].startswith("whmr-stream ")
    assert read_metadata(path) == metadata["whmr-stream"]


def test_schemas_say_every_field_and_how_arrays_are_kept() -> None:
    for record_type in (PoseMessage, CalibrationMessage, StatusMessage):
        for blobs in (True, False):
            text = json.dumps(json_schema(record_type, blobs))
            schema = json.loads(text)
            assert set(schema["properties"]) == set(record_type.__struct_fields__)
            assert ("little-endian" in text) is (blobs and record_type is not StatusMessage)
    person = json_schema(PoseMessage, blobs=False)["$defs"]["PersonMessage"]["properties"]
    assert person["joints_world_m"]["x-shape"] == [24, 3]


def test_a_kill_leaves_what_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    first, later = scene(40), [pose(i) for i in range(40, 80)]
    with BridgeStream() as stream, start("bridges.record", "--connect", stream.address, "--out", str(path)) as recorder:
        stream.wait_for("status")
        stream.send(*first)
        until(lambda: path.exists() and len(bytes_of(path)) == len(first), recorder)
        stream.play(later, every_s=0.001)
        size = path.stat().st_size
        until(lambda: path.stat().st_size > size + 20_000, recorder)
        recorder.send_signal(signal.SIGKILL)
        recorder.wait(PATIENCE_S)
        stream.end_play()
    assert recorder.returncode == -signal.SIGKILL
    found = bytes_of(path)
    assert found == [*first, *later * len(found)][: len(found)]
    assert len(found) > len(first)
    whole = tmp_path / "x.recovered.mcap"
    assert record.main(["recover", str(path)]) == 0
    assert bytes_of(whole) == found
    assert read_metadata(whole) == read_metadata(path)
    with open(whole, "rb") as file:
        assert make_reader(file).get_summary().statistics.message_count == len(found)
    before = whole.read_bytes()
    assert record.main(["recover", str(path)]) == 2
    assert whole.read_bytes() == before


def test_a_file_cut_anywhere_gives_what_was_before_the_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sent = scene(6, every=3)
    path = written(tmp_path / "x.mcap", sent, flush=True)
    data = path.read_bytes()
    counts = []
    for size in range(8, len(data), 131):
        cut = tmp_path / "cut.mcap"
        cut.write_bytes(data[:size])
        found = [recorded.raw for recorded in read_mcap(cut)]
        assert found == sent[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert set(counts) == set(range(len(sent) + 1))
    assert "has no end, as after a kill" in caplog.text


def test_a_damaged_piece_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sent = scene(10, every=20)
    path = written(tmp_path / "x.mcap", sent, flush=True)
    data = bytearray(path.read_bytes())
    pieces = [match.start() for match in re.finditer(rb"\x28\xb5\x2f\xfd", data)]
    data[pieces[4] + 200] ^= 0xFF
    path.write_bytes(data)
    assert bytes_of(path) == sent[:4] + sent[5:]
    assert "damaged and left out" in caplog.text
    damaged = bytearray(written(tmp_path / "y.mcap", sent, flush=True).read_bytes())
    for place in range(200, len(damaged), 97):
        damaged[place] ^= 0x55
    (tmp_path / "z.mcap").write_bytes(damaged)
    assert all(raw in sent for raw in bytes_of(tmp_path / "z.mcap"))


def test_what_is_no_recording_is_a_sentence(tmp_path: Path) -> None:
    for name, data in (("a.mcap", b""), ("b.mcap", b"a letter to my aunt"), ("c.npz", b"PK\3\4")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="expected a recording"):
            read_recording(tmp_path / name)
    with pytest.raises(ValueError, match="expected an MCAP recording"):
        make_whole(tmp_path / "b.mcap", tmp_path / "out.mcap")
    assert not (tmp_path / "out.mcap").exists()


def test_nothing_is_ever_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "x.mcap", [pose(0)])
    before = path.read_bytes()
    assert record.main(["--connect", "tcp://127.0.0.1:9", "--out", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(FileExistsError, match="exists already"):
        open_recorder(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["x.npz", "x", "nowhere/x.mcap"])
def test_a_name_that_cannot_be_recorded_to_is_a_sentence(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record.main(["--connect", "tcp://127.0.0.1:9", "--out", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_full_disk_keeps_what_was_recorded_and_goes_on_with_room(tmp_path: Path) -> None:
    sent = [pose(i) for i in range(40)]
    path = tmp_path / "x.mcap"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with McapWriter(path) as writer:
        for number, raw in enumerate(sent):
            if number == 10:
                resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 500, before[1]))
            if number == 20:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            full = 10 <= number < 20
            with pytest.raises(OSError, match="cannot grow") if full else contextlib.nullcontext():
                writer.write(raw, messages.decode(raw)[1], START_NS + number)
                writer.flush()
            if number == 15:
                assert bytes_of(path) == sent[:10]
        kept = bytes_of(path)
    assert bytes_of(path) == kept
    assert kept[:10] == sent[:10]
    assert kept[-20:] == sent[20:]


def test_the_stream_records_what_a_subscriber_would_get(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with open_recorder(path) as recorder:
        for number in range(5):
            recorder.write(walk(number, people=number % 3))
    found = [messages.decode(raw) for raw in bytes_of(path)]
    poses = [message for _, message in found if isinstance(message, PoseMessage)]
    assert [(m.index, len(m.people)) for m in poses] == [(i, i % 3) for i in range(5)]
    assert [topic for topic, _ in found[:3]] == ["pose/cam/", "calibration/cam/", "status/cam/"]
    states = [message for _, message in found if isinstance(message, StatusMessage)]
    assert [(m.state, m.frames) for m in states] == [("running", 1), ("ended", 5)]
    assert all(m.program.startswith("whmr-stream") for m in states)
    want = walk(4, people=1).people[0].world
    assert abs(poses[4].people[0].joints_world_m - want.joints_world_m).max() < 1e-5


def test_a_journal_of_arrays_is_a_recording_too(tmp_path: Path) -> None:
    with Recorder(tmp_path / "x.npz") as recorder:
        for number in range(4):
            recorder.write(walk(number))
        found = list(read_recording(recorder.partial))
    assert [messages.decode(f.raw)[1].index for f in found] == [0, 1, 2, 3]  # type: ignore[union-attr]
    assert all(f.log_time_ns == messages.decode(f.raw)[1].t_publish_wall_ns for f in found)


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
