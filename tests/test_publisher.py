"""The publisher through real ZeroMQ sockets."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pipeline import curve, messages, publisher
from pipeline.messages import CalibrationMessage, PoseMessage, StatusMessage
from pipeline.publisher import Publisher
from pipeline.subscriber import Subscriber
from pipeline.types import CalibrationStatus
from tests.support.results import random_calibration, random_result, with_camera

ANY_PORT = "tcp://127.0.0.1:*"
PATIENCE_S = 10.0


@pytest.fixture
def stream() -> Iterator[Publisher]:
    with Publisher("cam", ANY_PORT) as made:
        yield made


def wait_until_wanted(stream: Publisher, *kinds: str, wanted: bool = True) -> None:
    end = time.monotonic() + PATIENCE_S
    while not all(stream.wants(kind) is wanted for kind in kinds):
        assert time.monotonic() < end, f"nobody subscribed to {kinds}"
        time.sleep(0.002)


def receive(subscriber: Subscriber) -> messages.Message:
    got = subscriber.receive(PATIENCE_S)
    assert got is not None, subscriber.silence()
    return got[1]


def indices(subscriber: Subscriber, last: int) -> list[int]:
    """Indices of the poses that come, up to `last`."""
    found = [-1]
    while found[-1] != last:
        message = receive(subscriber)
        assert isinstance(message, PoseMessage)
        found.append(message.index)
    return found[1:]


def test_a_frame_arrives_on_both_topics_with_its_calibration(stream: Publisher) -> None:
    with Subscriber(stream.address, [""]) as subscriber:
        wait_until_wanted(stream, *messages.KINDS)
        before_ns, before_wall_ns = time.monotonic_ns(), time.time_ns()
        stream.publish(random_result(2))
        got = [subscriber.receive(PATIENCE_S) for _ in range(3)]
        assert [topic for topic, _ in filter(None, got)] == ["pose/cam/", "pose_json/cam/", "calibration/cam/"]
        pose, pose_json = (message for _, message in list(filter(None, got))[:2])
        assert isinstance(pose, PoseMessage)
        assert isinstance(pose_json, PoseMessage)
        assert before_ns <= pose.t_publish_ns <= time.monotonic_ns()
        assert before_wall_ns <= pose.t_publish_wall_ns <= time.time_ns()
        assert pose_json.t_publish_ns == pose.t_publish_ns
        assert [p.id for p in pose.people] == [p.id for p in pose_json.people] == [1, 2]


def test_topics_nobody_subscribed_to_are_not_encoded(stream: Publisher) -> None:
    unencodable = dataclasses.replace(random_result(1), people=("no person",))  # type: ignore[arg-type]
    stream.publish(unencodable)
    with Subscriber(stream.address, ["status/", "pose/camera2/", "calibration/"]) as subscriber:
        wait_until_wanted(stream, "status", "calibration")
        stream.publish(unencodable)
        assert isinstance(receive(subscriber), CalibrationMessage)
    with Subscriber(stream.address, ["pose/cam/"]):
        wait_until_wanted(stream, "pose")
        with pytest.raises(AttributeError):
            stream.publish(unencodable)


@pytest.mark.parametrize(
    ("prefix", "kinds"),
    [
        ("", set(messages.KINDS)),
        ("pose", {"pose", "pose_json"}),
        ("pose/", {"pose"}),
        ("pose/ca", {"pose"}),
        ("pose/cam/", {"pose"}),
        ("pose/cam/\0", {"pose"}),
        ("pose_json/cam/", {"pose_json"}),
    ],
)
def test_every_prefix_of_a_topic_counts_and_ends_with_its_subscriber(
    stream: Publisher, prefix: str, kinds: set[str]
) -> None:
    with Subscriber(stream.address, [prefix]):
        wait_until_wanted(stream, *kinds)
        assert {kind for kind in messages.KINDS if stream.wants(kind)} == kinds
    wait_until_wanted(stream, *kinds, wanted=False)


def test_one_of_two_equal_subscribers_leaving_changes_nothing(stream: Publisher) -> None:
    with Subscriber(stream.address, ["pose/"]) as stays:
        wait_until_wanted(stream, "pose")
        with Subscriber(stream.address, ["pose/", "status/"]):
            wait_until_wanted(stream, "status")
        wait_until_wanted(stream, "status", wanted=False)
        stream.publish(random_result(1, index=5))
        assert indices(stays, 5) == [5]


def test_a_camera_whose_name_begins_alike_gets_nothing(stream: Publisher) -> None:
    with Publisher("cam2", ANY_PORT) as other, Subscriber(other.address, ["pose/cam/", "status/cam2/"]) as subscriber:
        wait_until_wanted(other, "status")
        other.publish(with_camera(random_result(1), "cam2"))
        other.publish_status("running")
        assert isinstance(receive(subscriber), StatusMessage)


def test_a_newcomer_gets_calibration_and_status_without_a_frame(stream: Publisher) -> None:
    calibration = random_calibration(4)
    stream.publish_calibration(calibration)
    stream.publish_status("starting", detail="opening the camera")
    for _ in range(2):
        with Subscriber(stream.address, ["calibration/cam/", "status/cam/"]) as subscriber:
            # `wants` alone listens; nothing is published in this loop
            wait_until_wanted(stream, "calibration", "status")
            first, second = receive(subscriber), receive(subscriber)
            assert isinstance(first, CalibrationMessage)
            assert first.calibration.id == calibration.id
            assert isinstance(second, StatusMessage)
            assert (second.state, second.detail) == ("starting", "opening the camera")
            assert second.calibration_id == calibration.id
        wait_until_wanted(stream, "calibration", "status", wanted=False)


def test_a_calibration_is_sent_again_when_its_status_changes(stream: Publisher) -> None:
    calibrating = random_calibration(0, status=CalibrationStatus.CALIBRATING)
    calibrated = dataclasses.replace(calibrating, status=CalibrationStatus.CALIBRATED)
    with Subscriber(stream.address, ["calibration/"]) as subscriber:
        wait_until_wanted(stream, "calibration")
        for calibration in (calibrating, calibrated):
            stream.publish(random_result(0, calibration=calibration))
            message = receive(subscriber)
            assert isinstance(message, CalibrationMessage)
            assert message.calibration.status == calibration.status


def test_a_stalled_subscriber_holds_nobody_up(stream: Publisher) -> None:
    """Four that read get every frame; the fifth, with full buffers, loses some and blocks nobody."""
    count, context = 500, zmq.Context()
    stalled = context.socket(zmq.SUB)
    stalled.rcvhwm, stalled.rcvbuf = 1, 4096
    stalled.subscribe("pose_json/")
    stalled.connect(stream.address)
    wait_until_wanted(stream, "pose_json")
    readers = [Subscriber(stream.address, ["pose/"]) for _ in range(4)]
    try:
        not_yet = set(readers)
        while not_yet:
            stream.publish(random_result(0, index=count))
            not_yet -= {reader for reader in not_yet if reader.receive(0.05)}
        for reader in readers:
            while reader.receive(0.05):
                pass
        big = random_result(8)
        for index in range(count):
            stream.publish(dataclasses.replace(big, index=index))
            assert [indices(reader, index) for reader in readers] == [[index]] * 4
        kept = 0
        while stalled.poll(300):
            kept += messages.decode(stalled.recv())[0] == "pose_json/cam/"
        assert 0 < kept < count
    finally:
        for reader in readers:
            reader.close()
        stalled.close(0)
        context.term()


def test_a_conflating_subscriber_sees_the_newest_frame(stream: Publisher) -> None:
    with (
        Subscriber(stream.address, ["pose/cam/"], newest_only=True) as newest,
        Subscriber(stream.address, ["pose_json/cam/"]) as every,
    ):
        wait_until_wanted(stream, "pose", "pose_json")
        for index in range(50):
            stream.publish(random_result(1, index=index))
            assert indices(every, index) == [index]
        seen = indices(newest, 49)
        assert seen == sorted(set(seen))
        assert len(seen) < 50


def test_close_lets_the_last_messages_leave() -> None:
    stream = Publisher("cam", ANY_PORT)
    with Subscriber(stream.address, ["pose/"]) as subscriber:
        wait_until_wanted(stream, "pose")
        for index in range(20):
            stream.publish(random_result(4, index=index))
        stream.close()
        stream.close()
        assert indices(subscriber, 19) == list(range(20))


def test_a_port_in_use_says_what_to_type(stream: Publisher) -> None:
    port = int(stream.address.rpartition(":")[2])
    with pytest.raises(OSError, match=rf"in use by another program.*--bind tcp://127\.0\.0\.1:{port + 1}\."):
        Publisher("cam", stream.address)
    with socket.create_server(("127.0.0.1", 0)) as foreign, pytest.raises(OSError, match="in use"):
        Publisher("cam", f"tcp://127.0.0.1:{foreign.getsockname()[1]}")


@pytest.mark.parametrize(
    "bind", ["5556", "tcp://127.0.0.1", "tcp://127.0.0.1:80x", "tcp://192.0.2.1:5556", "http://127.0.0.1:1", ""]
)
def test_an_address_that_is_none_says_what_to_type(bind: str) -> None:
    with pytest.raises(ValueError, match=r"Cannot publish at .* --bind tcp://127\.0\.0\.1:5556"):
        Publisher("cam", bind)


def test_the_port_is_free_again_after_close(stream: Publisher) -> None:
    address = stream.address
    stream.close()
    Publisher("cam", address).close()


def test_another_cameras_results_are_refused(stream: Publisher) -> None:
    with pytest.raises(ValueError, match="of camera 'cam'"):
        stream.publish(with_camera(random_result(1), "other"))
    with pytest.raises(ValueError, match="of camera 'cam'"):
        stream.publish_calibration(random_calibration(camera_id="other"))


def test_an_open_address_without_keys_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    Publisher("cam", "tcp://0.0.0.0:*").close()
    assert "Anyone who reaches" in caplog.text
    caplog.clear()
    Publisher("cam", ANY_PORT).close()
    assert not caplog.text


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    assert publisher.main(["--make-keys", str(tmp_path / "keys")]) == 0
    return tmp_path / "keys"


def test_only_clients_with_a_known_key_are_served(keys: Path, tmp_path: Path) -> None:
    curve.make_keys(tmp_path / "stranger")
    stranger = tmp_path / "stranger" / "client"
    (stranger / "server.key").write_bytes((keys / "client" / "server.key").read_bytes())
    with (
        Publisher("cam", ANY_PORT, curve_keys=keys / "server") as stream,
        Subscriber(stream.address, ["pose/"], curve_keys=stranger) as unknown,
        Subscriber(stream.address, ["pose_json/"]) as plain,
        Subscriber(stream.address, ["status/"], curve_keys=keys / "client") as known,
    ):
        wait_until_wanted(stream, "status")
        for _ in range(20):
            stream.publish(random_result(1))
            stream.publish_status("running")
            assert isinstance(receive(known), StatusMessage)
            assert unknown.receive(0.01) is None
            assert plain.receive(0.01) is None
        assert not stream.wants("pose")
        assert not stream.wants("pose_json")
        assert "refused this client" in unknown.silence()
        assert "refused this client" in plain.silence()


def test_keys_are_private_and_never_replaced(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for secret in (keys / "server" / "server.key_secret", keys / "client" / "client.key_secret"):
        assert secret.stat().st_mode & 0o077 == 0
    assert b"secret-key" not in (keys / "client" / "server.key").read_bytes()
    before = (keys / "server" / "server.key_secret").read_bytes()
    assert publisher.main(["--make-keys", str(keys)]) == 1
    assert "holds keys already" in capsys.readouterr().err
    assert (keys / "server" / "server.key_secret").read_bytes() == before


def test_missing_keys_say_how_to_make_them(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--make-keys"):
        Publisher("cam", ANY_PORT, curve_keys=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="--make-keys"):
        Subscriber("tcp://127.0.0.1:9", curve_keys=keys / "server")
    (keys / "server" / "clients" / "client.key").unlink()
    with pytest.raises(ValueError, match="public keys of clients"):
        Publisher("cam", ANY_PORT, curve_keys=keys / "server")
