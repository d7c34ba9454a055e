"""Bytes of messages: there and back, unchanged since version 1, and a sentence for everything else."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import frames, messages, schema
from pipeline.messages import (
    Calibration,
    CalibrationMessage,
    MeshMessage,
    MeshPerson,
    PersonMessage,
    PoseMessage,
    StatusMessage,
)
from pipeline.subscriber import describe
from pipeline.types import FrameResult
from tests.support.golden import golden_bytes, golden_messages
from tests.support.results import random_calibration, random_result

ROOT = Path(__file__).parents[1]


def assert_results_agree(got: FrameResult, want: FrameResult, metres: float, radians: float) -> None:
    for name in ("camera_id", "index", "t_capture_ns", "t_wall_ns", "t_grab_ns", "size_wh", "dropped"):
        assert getattr(got, name) == getattr(want, name), name
    assert got.stages_ms == pytest.approx(want.stages_ms, abs=1e-3)
    assert len(got.people) == len(want.people)
    np.testing.assert_allclose(got.calibration.K, want.calibration.K, atol=max(metres, 1e-4))
    assert frames.angle_between(got.calibration.R_world_camera, want.calibration.R_world_camera) < radians
    for a, b in zip(got.people, want.people, strict=True):
        assert (a.track_id, a.predicted, a.score) == (b.track_id, b.predicted, b.score)
        np.testing.assert_allclose(a.box_xyxy, b.box_xyxy, atol=max(metres, 1e-4))
        for name in ("t_camera_root", "betas", "joints_camera_m", "confidence"):
            np.testing.assert_allclose(getattr(a.camera, name), getattr(b.camera, name), atol=metres)
        for name in ("t_world_root", "betas", "joints_world_m", "confidence", "velocity_m_s"):
            np.testing.assert_allclose(getattr(a.world, name), getattr(b.world, name), atol=metres)
        assert frames.angle_between(a.camera.R_camera_root, b.camera.R_camera_root) < radians
        assert frames.angle_between(a.world.R_world_root, b.world.R_world_root) < radians
        assert frames.angle_between(a.world.Rs_parent_joint, b.world.Rs_parent_joint).max() < radians


@pytest.mark.parametrize(("kind", "metres", "radians"), [("pose", 2e-6, 1e-6), ("pose_json", 6e-6, 4e-5)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(0, 4))
def test_a_result_comes_back(kind: str, metres: float, radians: float, seed: int, people: int) -> None:
    result = random_result(people, seed)
    data = messages.encode(kind, messages.pose_message(result, 6_000_000_000, 7))
    topic, message = messages.decode(data)
    assert topic == f"{kind}/cam/"
    assert isinstance(message, PoseMessage)
    assert (message.t_publish_ns, message.t_publish_wall_ns) == (6_000_000_000, 7)
    assert message.calibration.id == result.calibration.id
    assert_results_agree(message.record(), result, metres, radians)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_calibration_comes_back_whole(seed: int) -> None:
    calibration = random_calibration(seed)
    topic, message = messages.decode(messages.encode("calibration", messages.calibration_message(calibration, 1, 2)))
    assert topic == "calibration/cam/"
    assert isinstance(message, CalibrationMessage)
    back = message.calibration.record(message.camera)
    for field in dataclasses.fields(calibration):
        got, want = getattr(back, field.name), getattr(calibration, field.name)
        if isinstance(want, np.ndarray):
            np.testing.assert_allclose(got, want, atol=1e-12, err_msg=field.name)
        else:
            assert got == want, field.name
    assert message.joint_names[message.joint_parents[15]] == "neck"


def test_a_spread_that_is_not_known_is_null_on_every_topic() -> None:
    calibration = dataclasses.replace(random_calibration(1), focal_spread=math.inf, gravity_spread_rad=math.nan)
    result = random_result(1, calibration=calibration)
    pose = messages.pose_message(result, 1, 2)
    for kind, message in (
        ("pose", pose),
        ("pose_json", pose),
        ("calibration", messages.calibration_message(calibration, 1, 2)),
    ):
        _, back = messages.decode(messages.encode(kind, message))
        assert isinstance(back, PoseMessage | CalibrationMessage)
        assert back.calibration.focal_spread is None, kind
        assert back.calibration.gravity_spread_rad is None, kind
        assert math.isinf(back.calibration.record("cam").focal_spread)


@pytest.mark.parametrize("kind", messages.KINDS)
def test_version_1_is_written_and_read_as_ever(kind: str) -> None:
    message = golden_messages()[kind]
    assert messages.encode(kind, message).hex() == golden_bytes(kind).hex()
    topic, back = messages.decode(golden_bytes(kind))
    assert topic == f"{kind}/cam/"
    assert messages.encode(kind, back) == golden_bytes(kind)


def changed(kind: str, **fields: object) -> bytes:
    """The golden message with other values in some of its fields, whatever they are."""
    head, _, payload = golden_bytes(kind).partition(b"\0")
    codec = msgspec.msgpack if kind in messages.MSGPACK_KINDS else msgspec.json
    return head + b"\0" + codec.encode(codec.decode(payload) | fields)


@pytest.mark.parametrize("kind", messages.KINDS)
def test_fields_of_a_later_program_are_ignored(kind: str) -> None:
    _, message = messages.decode(changed(kind, mood="good", nested={"a": [1, {"b": None}]}))
    assert messages.encode(kind, message) == golden_bytes(kind)


@pytest.mark.parametrize("kind", messages.KINDS)
@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_refused_with_what_to_do(kind: str, version: int) -> None:
    with pytest.raises(ValueError, match=f"has schema version {version}.*knows version 1: update"):
        messages.decode(changed(kind, v=version, camera=5))


@pytest.mark.parametrize("kind", messages.KINDS)
def test_every_cut_message_is_refused(kind: str) -> None:
    data = golden_bytes(kind)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"malformed|Expected a message"):
            messages.decode(data[:length])


@pytest.mark.parametrize("kind", messages.KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_harmless(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(golden_bytes(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, message = messages.decode(bytes(damaged))
    except ValueError as error:
        assert len(str(error)) > 20  # noqa: PT017
    else:
        assert message.v == 1


@settings(max_examples=200, deadline=None)
@given(head=st.sampled_from([b"", b"pose/cam/\0", b"pose_json/cam/\0", b"status/cam/\0"]), rest=st.binary(max_size=80))
def test_foreign_bytes_are_refused(head: bytes, rest: bytes) -> None:
    with pytest.raises(ValueError, match=r"malformed|Expected a message"):
        messages.decode(head + rest)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="malformed"):
        messages.decode(b'status/cam/\0{"v":1,"x":' + b"[" * 200_000)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("joints_world_m", np.zeros(71, "<f4").tobytes(), "expected 72 numbers"),
        ("joints_world_m", b"abc", "blob of little-endian float32"),
        ("joints_world_m", [0.0] * 72, "blob of little-endian float32"),
        ("t_world_root_m", np.array([0, np.nan, 0], "<f4").tobytes(), "finite"),
        ("id", "seven", "Expected `int`"),
    ],
)
def test_a_wrong_array_is_refused(field: str, value: object, reason: str) -> None:
    person = msgspec.msgpack.decode(golden_bytes("pose").partition(b"\0")[2])["people"][0]
    with pytest.raises(ValueError, match=reason):
        messages.decode(changed("pose", people=[person | {field: value}]))


def test_a_topic_of_another_camera_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        messages.decode(changed("pose", camera="other"))


@pytest.mark.parametrize("camera_id", ["", "a/b", "a\0b", "ü", "x" * 65, "a b"])
def test_a_camera_id_that_breaks_topics_is_refused(camera_id: str) -> None:
    with pytest.raises(ValueError, match="Camera id"):
        messages.topic("pose", camera_id)


@pytest.mark.parametrize("degrees", [-135, -45, 0, 60, 170])
def test_yaw_is_zero_toward_the_camera_and_grows_toward_its_right(degrees: float) -> None:
    angle = math.radians(degrees)
    toward = np.array([math.sin(angle), 0, math.cos(angle)])
    R_world_root = frames.basis_from(toward, [0, 1, 0], "zy")
    result = random_result(1)
    person = result.people[0]
    world = dataclasses.replace(person.world, R_world_root=R_world_root)
    result = dataclasses.replace(result, people=(dataclasses.replace(person, world=world),))
    assert messages.pose_message(result, 1, 2).people[0].yaw_rad == pytest.approx(angle, abs=1e-9)


def test_every_kind_is_described_in_a_line_of_its_own() -> None:
    lines = {
        kind: list(describe(f"{kind}/cam/", message, now_wall_ns=1_700_000_000_050_000_000))
        for kind, message in golden_messages().items()
    }
    assert [len(found) for found in lines.values()] == [1, 1, 1, 1, 1]
    assert lines["pose"][0] == (
        "pose/cam 300  id 7  x -1.00 y -0.88 z -0.75 m  yaw   +0°  joints span 8.62 m  "
        "calibrated f 1000 px ± 3.1 %, pitch +14.3°, 1.50 m up  latency 50 ms"
    )
    assert "running  29.5 fps" in lines["status"][0]
    assert "from 120 samples of golden 1" in lines["calibration"][0]
    assert lines["mesh"][0] == (
        "mesh/cam 300  id 7 from -1.00 -0.88 -0.75 to +0.12 +0.25 +0.38 m  4 vertices of default, 89abcdef, "
        "here with its 2 faces  latency 50 ms"
    )
    nobody = messages.pose_message(random_result(0), 1, 2)
    assert "nobody in view" in next(describe("pose/cam/", nobody, 0))


def _json_schema() -> dict[str, dict[str, object]]:
    records = [PoseMessage, CalibrationMessage, StatusMessage, MeshMessage]
    _, found = msgspec.json.schema_components(
        records, schema_hook=lambda _: {"type": "array", "items": {"type": "number"}}, ref_template="#/{name}"
    )
    return found


def test_the_asyncapi_document_says_what_the_records_say() -> None:
    document = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
    assert document["asyncapi"].startswith("3.")
    written = document["components"]["schemas"]
    records = _json_schema()
    assert set(written) == set(records)
    for name, record in records.items():
        assert set(written[name]["properties"]) == set(record["properties"]), name  # type: ignore[call-overload]
        assert set(written[name]["required"]) == set(record["required"]), name  # type: ignore[call-overload]
        for field, want in record["properties"].items():  # type: ignore[attr-defined]
            got = written[name]["properties"][field]
            alternatives = want.get("anyOf", [])
            want = next((a for a in alternatives if "x-shape" in a), want)
            assert got.get("x-shape") == want.get("x-shape"), f"{name}.{field}"
            assert got.get("minItems") == want.get("minItems"), f"{name}.{field}"
            kinds = [alternative["type"] for alternative in alternatives] or want.get("type")
            assert got.get("type") == kinds, f"{name}.{field}"
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {f"{kind}/{{camera}}/" for kind in messages.KINDS}


def test_every_field_is_explained_in_the_page_for_readers() -> None:
    page = (ROOT / "docs" / "wire.md").read_text()
    for record in (PoseMessage, CalibrationMessage, StatusMessage, Calibration, PersonMessage, MeshMessage, MeshPerson):
        for field in record.__struct_fields__:
            assert f"`{field}`" in page, f"{record.__name__}.{field}"
    assert f"The version is {schema.SCHEMA_VERSION}." in page
    assert schema.WORLD_AXES.split(",")[0] in page
