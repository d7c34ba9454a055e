"""Surfaces on the wire: those of the pose messages, at no cost for those who want none."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.whmr.synthetic_body import write_all
from pipeline import frames, messages
from pipeline import publisher as publisher_module
from pipeline.body import BodyModel, open_body
from pipeline.mesh import Meshes
from pipeline.messages import MeshMessage, PoseMessage
from pipeline.publisher import Publisher
from pipeline.subscriber import Subscriber, describe
from tests.support import bridge_stream
from tests.support.golden import golden_bytes
from tests.support.results import random_result

ANY_PORT = "tcp://127.0.0.1:*"
PATIENCE_S = 20.0
HUNDREDTH_MM = 1e-5


@pytest.fixture(scope="module")
def smpl_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("smplx")
    return Path(write_all(str(tmp_path_factory.mktemp("smpl")))["SMPL_NEUTRAL.pkl"])


@pytest.fixture(scope="module", params=["default", "smpl"])
def body(request: pytest.FixtureRequest) -> BodyModel:
    if request.param == "default":
        return open_body()
    return open_body(f"smpl={request.getfixturevalue('smpl_file')}")


@pytest.fixture
def stream(body: BodyModel) -> Iterator[Publisher]:
    with Publisher("cam", ANY_PORT, body=body) as made:
        yield made


def wait_until_wanted(stream: Publisher, kind: str = "mesh", wanted: bool = True) -> None:
    end = time.monotonic() + PATIENCE_S
    while stream.wants(kind) is not wanted:
        assert time.monotonic() < end
        time.sleep(0.002)


def receive(subscriber: Subscriber) -> MeshMessage:
    got = subscriber.receive(PATIENCE_S)
    assert got is not None, subscriber.silence()
    assert isinstance(got[1], MeshMessage)
    return got[1]


def test_the_surface_is_that_of_the_pose_message(stream: Publisher, body: BodyModel) -> None:
    with Subscriber(stream.address, ["mesh/"]) as meshes, Subscriber(stream.address, ["pose/"]) as poses:
        wait_until_wanted(stream)
        wait_until_wanted(stream, "pose")
        stream.publish(random_result(2, seed=4, index=7))
        mesh, got = receive(meshes), poses.receive(PATIENCE_S)
    assert got is not None
    pose = got[1]
    assert isinstance(pose, PoseMessage)
    assert (mesh.v, mesh.camera, mesh.index, mesh.t_capture_ns, mesh.t_wall_ns) == (
        pose.v, pose.camera, pose.index, pose.t_capture_ns, pose.t_wall_ns,
    )  # fmt: skip
    assert mesh.t_publish_ns >= pose.t_publish_ns
    assert (mesh.body, mesh.n_vertices) == (body.name, len(body.vertices))
    np.testing.assert_array_equal(mesh.faces, body.faces)
    assert [p.id for p in mesh.people] == [p.id for p in pose.people] == [1, 2]
    for surface, person in zip(mesh.people, pose.people, strict=True):
        Rs = frames.from_quat_xyzw(person.quats_parent_joint_xyzw)
        R = frames.from_quat_xyzw(person.quat_world_root_xyzw)
        expected = body.shaped(person.betas).posed(R, person.t_world_root_m, Rs).mesh()
        np.testing.assert_allclose(surface.vertices_world_m, expected, atol=HUNDREDTH_MM)


def test_an_smpl_surface_is_smplxs_own(smpl_file: Path) -> None:
    smplx, torch = pytest.importorskip("smplx"), pytest.importorskip("torch")
    body, result = open_body(f"smpl={smpl_file}"), random_result(1, seed=9)
    world = result.people[0].world
    pelvis = body.shaped(world.betas).joints_rest[0]
    as_tensor = {
        "betas": world.betas,
        "global_orient": world.R_world_root[None],
        "body_pose": world.Rs_parent_joint,
        "transl": world.t_world_root - pelvis,
    }
    with torch.no_grad():
        numbers = {name: torch.tensor(value[None], dtype=torch.float32) for name, value in as_tensor.items()}
        expected = smplx.SMPLLayer(str(smpl_file))(**numbers).vertices[0].numpy()
    _, back = messages.decode(messages.encode("mesh", Meshes(body).message(result, with_faces=False)))
    assert isinstance(back, MeshMessage)
    np.testing.assert_allclose(back.people[0].vertices_world_m, expected, atol=2 * HUNDREDTH_MM)


def test_joints_betas_and_surface_of_a_message_are_of_one_body() -> None:
    """A walker whose joints were computed by the body: what is skinned to a wrist alone keeps its distance to it."""
    body, result = open_body(), bridge_stream.walk(11)
    person = messages.pose_message(result, 0, 0).people[0]
    surface = Meshes(body).vertices(result.people[0])
    for joint in (7, 15, 20):
        skin = body.weights[:, joint] > 0.999
        assert skin.any()
        rest = body.shaped(person.betas)
        at_rest = np.linalg.norm(rest.vertices_rest[skin] - rest.joints_rest[joint], axis=1)
        now = np.linalg.norm(surface[skin] - person.joints_world_m[joint], axis=1)
        np.testing.assert_allclose(now, at_rest, atol=HUNDREDTH_MM)


def test_whoever_comes_late_gets_the_faces(stream: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "FACES_EVERY_S", 1e9)
    with Subscriber(stream.address, ["mesh/cam/"]) as first:
        wait_until_wanted(stream)
        for index in range(3):
            stream.publish(random_result(1, index=index))
        found = [receive(first) for _ in range(3)]
        assert [m.faces is not None for m in found] == [True, False, False]
        assert len({m.topology for m in found}) == 1
        with Subscriber(stream.address, ["mesh/", "status/"]) as second:
            wait_until_wanted(stream, "status")
            stream.publish(random_result(1, index=3))
            assert receive(second).faces is not None
        assert receive(first).faces is not None
        monkeypatch.setattr(publisher_module, "FACES_EVERY_S", 0.0)
        stream.publish(random_result(1, index=4))
        assert receive(first).faces is not None


def test_nobody_in_view_is_said(stream: Publisher) -> None:
    with Subscriber(stream.address, ["mesh/"]) as subscriber:
        wait_until_wanted(stream)
        stream.publish(random_result(0))
        mesh = receive(subscriber)
    assert mesh.people == ()
    assert next(describe("mesh/cam/", mesh, 0)).startswith("mesh/cam ")


def test_without_a_subscriber_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[BodyModel] = []

    def noted(body: BodyModel) -> Meshes:
        made.append(body)
        return Meshes(body)

    monkeypatch.setattr(publisher_module, "Meshes", noted)
    body = open_body()
    with Publisher("cam", ANY_PORT, body=body) as stream, Subscriber(stream.address, ["pose"]):
        wait_until_wanted(stream, "pose_json")
        stream.publish(random_result(1))
        assert made == []
        with Subscriber(stream.address, ["mesh/"]):
            wait_until_wanted(stream)
            stream.publish(random_result(1))
            assert made == [body]
        wait_until_wanted(stream, wanted=False)


def test_a_publisher_without_a_body_has_no_meshes() -> None:
    with Publisher("cam", ANY_PORT) as stream, Subscriber(stream.address, ["mesh/"]) as subscriber:
        wait_until_wanted(stream)
        stream.publish(random_result(1))
        assert subscriber.receive(0.2) is None


def test_a_shape_that_changes_is_followed() -> None:
    body, result = open_body(), random_result(1, seed=2)
    meshes, person = Meshes(body), result.people[0]
    before = meshes.message(result, with_faces=False).people[0].vertices_world_m
    world = dataclasses.replace(person.world, betas=person.world.betas + 1.0)
    other = dataclasses.replace(result, people=(dataclasses.replace(person, world=world),))
    after = meshes.message(other, with_faces=False).people[0].vertices_world_m
    assert np.abs(after - before).max() > 0.05
    np.testing.assert_array_equal(after, Meshes(body).message(other, with_faces=False).people[0].vertices_world_m)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_vertices": 5}, "expected 5 vertices, got 4"),
        ({"faces": np.array([0, 1, 4], "<u4").tobytes()}, "indices below 4, got 4"),
        ({"faces": np.array([0, 1], "<u4").tobytes()}, "rows of three"),
        ({"faces": b"abc"}, "blob of little-endian uint32"),
        ({"people": [{"id": 7, "vertices_world_m": np.zeros(4, "<f4").tobytes()}]}, "rows of three"),
        ({"people": [{"id": 7, "vertices_world_m": np.full(12, np.nan, "<f4").tobytes()}]}, "finite"),
    ],
)
def test_a_mesh_that_cannot_be_drawn_is_refused(change: dict[str, object], reason: str) -> None:
    head, _, payload = golden_bytes("mesh").partition(b"\0")
    fields = msgspec.msgpack.decode(payload)
    with pytest.raises(ValueError, match=reason):
        messages.decode(head + b"\0" + msgspec.msgpack.encode(fields | change))
