"""Recordings of messages: what is in them, and that neither kill, damage nor full disk spoils them."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
from pathlib import Path

import pytest

from bridges import record
from bridges.recordings import read_recording
from pipeline import messages
from pipeline.mcap_file import McapWriter, json_schema, make_whole, read_mcap, read_metadata
from pipeline.messages import CalibrationMessage, PoseMessage, StatusMessage
from pipeline.recorder import Recorder
from pipeline.recording import open_recorder
from pipeline.types import JOINT_NAMES
from tests.support.bridge_programs import PATIENCE_S, START_NS, bytes_of, log_as_before, start, until, written
from tests.support.bridge_stream import BridgeStream, pose, scene, walk
from tests.support.program import Listener
from tests.support.rtsp import free_port

make_reader = pytest.importorskip("mcap.reader", reason="pip install mcap==1.6.0").make_reader

__all__ = ["log_as_before"]
pytestmark = pytest.mark.usefixtures("log_as_before")


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
    decoded = [messages.decode(f.raw)[1] for f in found]
    assert [type(message) for message in decoded] == [CalibrationMessage, *[PoseMessage] * 4]
    assert [message.index for message in decoded[1:]] == [0, 1, 2, 3]  # type: ignore[union-attr]
    assert decoded[0].calibration.id == decoded[1].calibration.id  # type: ignore[union-attr]
    assert [f.log_time_ns for f in found] == [message.t_publish_wall_ns for message in decoded]


def test_arrays_are_a_recording_too(tmp_path: Path) -> None:
    with Recorder(tmp_path / "x.npz") as recorder:
        for number in range(6):
            recorder.write(walk(number, people=number % 3))
        journal = [messages.decode(recorded.raw)[1] for recorded in read_recording(recorder.partial)]
    found = list(read_recording(tmp_path / "x.npz"))
    assert len(found) == 7
    for got, want in zip((messages.decode(recorded.raw)[1] for recorded in found[1:]), journal[1:], strict=True):
        assert isinstance(got, PoseMessage)
        assert isinstance(want, PoseMessage)
        assert (got.index, got.t_wall_ns, got.calibration.id) == (want.index, want.t_wall_ns, want.calibration.id)
        assert [p.id for p in got.people] == [p.id for p in want.people]
        for person, like in zip(got.people, want.people, strict=True):
            assert (person.joints_world_m == like.joints_world_m).all()
            assert (person.quats_parent_joint_xyzw == like.quats_parent_joint_xyzw).all()


def test_more_topics_for_so_many_seconds(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with BridgeStream() as stream:
        stream.play([pose(0), pose(0, kind="pose_json")])
        assert (
            record.main(["--connect", stream.address, "--out", str(path), "--also", "pose_json", "--seconds", "1"]) == 0
        )
    assert set(bytes_of(path)) == {pose(0), pose(0, kind="pose_json")}
