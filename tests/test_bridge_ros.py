"""ROS messages: axes and frames by a TF tree, covariances by sampling, bytes by another reader, a real ROS 1."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bridges import ros
from bridges.axes import ros_points, ros_quats
from bridges.items import Item
from bridges.ros_covariance import (
    JOINT_SPREAD_M,
    SIZE_SPREAD,
    SPEED_SPREAD_M_S,
    TURN_SPREAD_RAD,
    UNKNOWN_VARIANCE,
    pose_covariance,
    twist_covariance,
)
from bridges.ros_messages import frame_messages, mid_hip, static_messages
from bridges.ros_values import Frames, Outgoing, RosMessage
from pipeline import frames, messages
from pipeline.messages import PoseMessage
from pipeline.options import parser as stream_parser
from pipeline.types import JOINT_NAMES, JOINT_PARENTS, FrameResult
from tests.support.bridge_stream import WALL_NS, BridgeStream, pose, walk
from tests.support.program import ROOT, run
from tests.support.rtsp import free_port

pytest.importorskip("rosbags")
pytest.importorskip("mcap_ros2")
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.interfaces import QosDurability
from rosbags.rosbag2.metadata import parse_qos

from bridges.ros_mcap import _LATCHED, Cdr, McapOutput

SYSTEM_PYTHON = "/usr/bin/python3"
NAMES = Frames()


def message_of(result: FrameResult) -> PoseMessage:
    return messages.pose_message(result, result.t_capture_ns + 1, result.t_wall_ns + 50_000_000)


def changed(record: Any, **fields: Any) -> Any:
    """A struct of the wire with other fields."""
    return type(record)(**{name: getattr(record, name) for name in record.__struct_fields__} | fields)


def facing(height_m: float | None = 1.5) -> PoseMessage:
    """A level camera, and before it, 3 m away, somebody upright who faces it with the pelvis 0.95 m above the floor."""
    result = walk(0)
    person, R = result.people[0], frames.R_WORLD_LEVEL_CAMERA
    calibration = dataclasses.replace(result.calibration, R_world_camera=R, camera_height_m=height_m)
    joints = person.world.joints_world_m - person.world.t_world_root
    joints = joints @ person.world.R_world_root + (0.0, 0.95, -3.0)
    world = dataclasses.replace(
        person.world, R_world_root=np.eye(3), t_world_root=np.array([0.0, 0.95, -3.0]), joints_world_m=joints
    )
    in_camera = (joints - calibration.t_world_camera) @ R
    camera = dataclasses.replace(
        person.camera, R_camera_root=R.T, t_camera_root=in_camera[0], joints_camera_m=in_camera
    )
    people = (dataclasses.replace(person, world=world, camera=camera),)
    return message_of(dataclasses.replace(result, calibration=calibration, people=people))


def plain(message: RosMessage) -> dict[str, Any]:
    """The fields as nested dictionaries."""

    def value(v: Any) -> Any:
        return plain(v) if isinstance(v, RosMessage) else [value(i) for i in v] if isinstance(v, list) else v

    return {name: value(v) for name, v in message.fields.items()}


def all_of(message: PoseMessage, names: Frames = NAMES, left: tuple[int, ...] = ()) -> dict[str, dict[str, Any]]:
    """Fields by topic of what one frame sends, the static transform too."""
    sent = [*static_messages(message.t_wall_ns, names), *frame_messages(message, names, left)]
    return {outgoing.topic: plain(outgoing.message) for outgoing in sent}


class Tree:
    """Looks transforms up as tf2 does."""

    def __init__(self, sent: dict[str, dict[str, Any]]) -> None:
        self.parents: dict[str, tuple[str, np.ndarray]] = {}
        for topic in ("/tf", "/tf_static"):
            for entry in sent.get(topic, {"transforms": []})["transforms"]:
                T = np.eye(4)
                T[:3, :3] = frames.from_quat_xyzw(list(entry["transform"]["rotation"].values()))
                T[:3, 3] = list(entry["transform"]["translation"].values())
                assert entry["child_frame_id"] not in self.parents, "a frame has one parent"
                self.parents[entry["child_frame_id"]] = entry["header"]["frame_id"], T

    def to_root(self, frame: str) -> np.ndarray:
        T = np.eye(4)
        while frame in self.parents:
            frame, step = self.parents[frame]
            T = step @ T
        return T

    def look_up(self, target: str, source: str) -> np.ndarray:
        """(4, 4): p_target = T @ p_source."""
        return np.linalg.inv(self.to_root(target)) @ self.to_root(source)


def test_somebody_3_m_before_the_camera_who_faces_it() -> None:
    message = facing()
    tree = Tree(all_of(message))
    seen = tree.look_up("camera_link", "body_p1")
    # the camera looks along its x; the person's x comes toward it, both have z up
    np.testing.assert_allclose(seen[:3, 0], [-1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(seen[:3, 2], [0, 0, 1], atol=1e-6)
    middle = mid_hip(message.people[0])
    np.testing.assert_allclose(seen[:3, 3], [3.0, -middle[0], middle[1] - 1.5], atol=0.05)
    # x right, y down, z forward
    optical = tree.look_up("camera_optical_frame", "body_p1")[:3, 3]
    np.testing.assert_allclose(optical, [seen[1, 3] * -1, seen[2, 3] * -1, seen[0, 3]], atol=1e-6)
    left, right = (tree.look_up("body_p1", f"smpl_{side}_hip_p1")[:3, 3] for side in ("left", "right"))
    assert left[1] > 0.04
    np.testing.assert_allclose(left, -right, atol=1e-6)
    assert tree.look_up("body_p1", "smpl_head_p1")[2, 3] > 0.4
    # on the floor's side the feet, before the ankles
    foot, ankle = (tree.look_up("world", f"smpl_left_{name}_p1")[:3, 3] for name in ("foot", "ankle"))
    assert 0 <= foot[2] < 0.2
    assert foot[0] > ankle[0]


@pytest.mark.parametrize("index", [0, 17])
def test_every_joint_is_where_and_as_the_message_has_it(index: int) -> None:
    message = message_of(walk(index, people=2))
    tree = Tree(all_of(message))
    for person in message.people:
        Rs = [frames.from_quat_xyzw(person.quat_world_root_xyzw)]
        for joint in range(1, 24):
            local = frames.from_quat_xyzw(person.quats_parent_joint_xyzw[joint - 1])
            Rs.append(Rs[JOINT_PARENTS[joint]] @ local)
        for joint, name in enumerate(JOINT_NAMES):
            T = tree.look_up("world", f"smpl_{name}_p{person.id}")
            np.testing.assert_allclose(T[:3, 3], ros_points(person.joints_world_m[joint]), atol=1e-9)
            want = frames.from_quat_xyzw(ros_quats(frames.quat_xyzw(Rs[joint])))
            np.testing.assert_allclose(T[:3, :3], want, atol=1e-9)
        in_camera = tree.look_up("camera_optical_frame", f"smpl_left_wrist_p{person.id}")[:3, 3]
        np.testing.assert_allclose(in_camera, person.joints_camera_m[JOINT_NAMES.index("left_wrist")], atol=1e-6)


def test_a_robots_own_camera_frame_gets_the_world_as_its_child() -> None:
    message = message_of(walk(3))
    own, hung = Tree(all_of(message)), Tree(all_of(message, Frames(parent="head_optical_frame")))
    assert "camera_link" not in hung.parents
    assert hung.parents["world"][0] == "head_optical_frame"
    want = own.look_up("camera_optical_frame", "smpl_left_foot_p1")
    np.testing.assert_allclose(hung.look_up("head_optical_frame", "smpl_left_foot_p1"), want, atol=1e-9)


def test_headers_have_the_capture_time() -> None:
    message = message_of(walk(5))
    stamp = {"sec": message.t_wall_ns // 10**9, "nanosec": message.t_wall_ns % 10**9}
    sent = all_of(message)
    found = [v["header"]["stamp"] for v in sent.values() if "header" in v]
    found += [t["header"]["stamp"] for t in sent["/tf"]["transforms"]]
    found += [m["header"]["stamp"] for m in sent["/whmr_stream/markers"]["markers"]]
    assert len(found) > 30
    assert all(f == stamp for f in found)


def test_rep_155_topics() -> None:
    message = message_of(walk(5, people=2))
    sent = all_of(message)
    assert sent["/humans/bodies/tracked"]["ids"] == ["p1", "p2"]
    w, h = message.size_wh
    box = np.clip((message.people[0].box_xyxy + 0.5) / (w, h, w, h), 0, 1)
    roi = sent["/humans/bodies/p1/roi"]
    np.testing.assert_allclose([roi[k] for k in ("xmin", "ymin", "xmax", "ymax")], box)
    assert roi["c"] == message.people[0].score
    outside = changed(message.people[0], box_xyxy=np.array([-50.0, -20.0, w + 30.0, h + 5.0]))
    roi = all_of(changed(message, people=(outside,)))["/humans/bodies/p1/roi"]
    assert [roi[k] for k in ("xmin", "ymin", "xmax", "ymax")] == [0, 0, 1, 1]


def test_the_skeleton_in_the_picture_is_what_opencv_projects() -> None:
    message = facing()
    person, c = message.people[0], message.calibration
    pixels = cv2.projectPoints(person.joints_camera_m, np.zeros(3), np.zeros(3), c.K, c.distortion)[0][:, 0]
    found = all_of(message)["/humans/bodies/p1/skeleton2d"]["skeleton"]
    assert len(found) == 18
    names = {2: "right_shoulder", 3: "right_elbow", 4: "right_wrist", 5: "left_shoulder", 6: "left_elbow",
             7: "left_wrist", 8: "right_hip", 9: "right_knee", 10: "right_ankle", 11: "left_hip", 12: "left_knee",
             13: "left_ankle"}  # fmt: skip
    inside = 0
    for code, name in names.items():
        joint = JOINT_NAMES.index(name)
        u, v = (pixels[joint] + 0.5) / c.size_wh
        if 0 <= u <= 1 and 0 <= v <= 1:
            inside += 1
            want = {"x": u, "y": v, "c": person.confidence[joint]}
        else:
            want = {"x": 0.0, "y": 0.0, "c": 0.0}
        assert found[code] == pytest.approx(want, abs=1e-6)
    assert inside >= 6
    for code in (0, 14, 15, 16, 17):
        assert found[code] == {"x": 0.0, "y": 0.0, "c": 0.0}
    behind = changed(person, joints_camera_m=-person.joints_camera_m)
    found = all_of(changed(message, people=(behind,)))["/humans/bodies/p1/skeleton2d"]["skeleton"]
    assert {p["c"] for p in found} == {0.0}


def test_the_camera_as_camera_info() -> None:
    message = message_of(walk(0))
    c, info = message.calibration, all_of(message)["/whmr_stream/camera_info"]
    assert (info["width"], info["height"]) == tuple(c.size_wh)
    assert info["header"]["frame_id"] == "camera_optical_frame"
    np.testing.assert_array_equal(np.reshape(info["k"], (3, 3)), c.K)
    np.testing.assert_array_equal(np.reshape(info["p"], (3, 4)), np.hstack([c.K, np.zeros((3, 1))]))
    np.testing.assert_array_equal(info["d"], c.distortion)


def test_markers_show_who_is_there_and_delete_who_left() -> None:
    message = message_of(walk(5, people=2))
    found = all_of(message, left=(9,))["/whmr_stream/markers"]["markers"]
    by_key = {(m["ns"], m["id"]): m for m in found}
    assert len(by_key) == len(found) == 9
    assert all(by_key[ns, 9]["action"] == 2 for ns in ("joints", "bones", "names"))
    joints, bones = by_key["joints", 2], by_key["bones", 2]
    places = np.array([list(p.values()) for p in joints["points"]])
    np.testing.assert_allclose(places, ros_points(message.people[1].joints_world_m))
    assert (len(joints["points"]), len(joints["colors"]), len(bones["points"])) == (24, 24, 46)
    opacity = np.array([c["a"] for c in joints["colors"]])
    assert (np.diff(opacity) > 0).all(), "more confidence, less transparency"
    lengths = np.linalg.norm(np.diff(np.array([list(p.values()) for p in bones["points"]]).reshape(23, 2, 3), axis=1))
    assert lengths > 0


def test_the_pose_and_speed_are_the_bodys_in_the_world() -> None:
    message = message_of(walk(8))
    sent, person = all_of(message), message.people[0]
    T = Tree(sent).look_up("world", "body_p1")
    found = sent["/humans/bodies/p1/pose"]
    np.testing.assert_allclose(list(found["pose"]["pose"]["position"].values()), T[:3, 3], atol=1e-9)
    R = frames.from_quat_xyzw(list(found["pose"]["pose"]["orientation"].values()))
    np.testing.assert_allclose(R, T[:3, :3], atol=1e-9)
    speed = sent["/humans/bodies/p1/twist"]["twist"]["twist"]
    np.testing.assert_allclose(list(speed["linear"].values()), ros_points(person.velocity_world_m_s))
    ahead = message_of(walk(9)).people[0]
    np.testing.assert_allclose(
        ros_points(ahead.t_world_root_m - person.t_world_root_m)[:2] * 30, list(speed["linear"].values())[:2], atol=0.02
    )


def sampled_covariances(message: PoseMessage, count: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """(6, 6) and (3, 3): what place and turn, and speed, become when each cause errs as the docstring says."""
    person, c = message.people[0], message.calibration
    rng = np.random.default_rng(5)
    R, sure = frames.from_quat_xyzw(c.quat_world_camera_xyzw), person.confidence[0]
    focal = 1 + c.focal_spread * rng.normal(size=count)
    size = 1 + SIZE_SPREAD * rng.normal(size=count)
    tilt = np.zeros((count, 3))
    tilt[:, [0, 2]] = c.gravity_spread_rad * rng.normal(size=(count, 2))
    height = np.zeros((count, 3))
    height[:, 1] = (c.height_spread_m or 0.0) * rng.normal(size=count)

    def in_world(camera: np.ndarray) -> np.ndarray:
        v = camera * size[:, None] * np.stack([np.ones(count), np.ones(count), focal], axis=-1)
        return np.einsum("nij,nj->ni", frames.exp_so3(tilt), v @ R.T)

    places = in_world(person.t_camera_root_m) + height + JOINT_SPREAD_M / sure * rng.normal(size=(count, 3))
    turns = tilt + TURN_SPREAD_RAD / sure * rng.normal(size=(count, 3))
    speeds = in_world(R.T @ person.velocity_world_m_s) + SPEED_SPREAD_M_S / sure * rng.normal(size=(count, 3))
    order = [2, 0, 1]
    return np.cov(np.hstack([places[:, order], turns[:, order]]).T), np.cov(speeds[:, order].T)


@pytest.mark.parametrize("index", [0, 40])
def test_covariances_are_those_of_samples(index: int) -> None:
    message = message_of(walk(index))
    calibration = changed(message.calibration, focal_spread=0.08, gravity_spread_rad=0.05, height_spread_m=0.1)
    person = changed(message.people[0], velocity_world_m_s=np.array([0.8, 0.1, 1.2]))
    message = changed(message, calibration=calibration, people=(person,))
    sent = all_of(message)
    got = np.reshape(sent["/humans/bodies/p1/pose"]["pose"]["covariance"], (6, 6))
    speed = np.reshape(sent["/humans/bodies/p1/twist"]["twist"]["covariance"], (6, 6))
    place, want_speed = sampled_covariances(message)
    scale = np.sqrt(np.outer(np.diag(got), np.diag(got)))
    np.testing.assert_allclose(got / scale, place / scale, atol=0.03)
    scale = np.sqrt(np.outer(np.diag(want_speed), np.diag(want_speed)))
    np.testing.assert_allclose(speed[:3, :3] / scale, want_speed / scale, atol=0.03)
    np.testing.assert_array_equal(speed[3:, 3:], UNKNOWN_VARIANCE * np.eye(3))
    np.testing.assert_allclose(got, got.T)
    assert np.linalg.eigvalsh(got).min() > 0


def test_depth_is_what_one_camera_knows_least() -> None:
    message = facing()
    calibration = changed(message.calibration, focal_spread=0.2, gravity_spread_rad=0.01, height_spread_m=0.02)
    C = pose_covariance(message.people[0], calibration, frames.R_WORLD_LEVEL_CAMERA)
    depth, left, up = np.sqrt(np.diag(C)[:3])
    assert depth == pytest.approx(3 * np.hypot(0.2, SIZE_SPREAD), rel=0.02)
    assert left < up < 0.2 * depth


def test_what_is_not_known_is_taken_wide() -> None:
    message = facing()
    person, R = message.people[0], frames.R_WORLD_LEVEL_CAMERA
    known = changed(message.calibration, focal_spread=0.3, gravity_spread_rad=0.2, height_spread_m=None)
    unknown = changed(known, focal_spread=None, gravity_spread_rad=None)
    assert (np.diag(pose_covariance(person, unknown, R)) > np.diag(pose_covariance(person, known, R))).sum() >= 4
    unsure = changed(person, confidence=np.zeros(24))
    for of in (pose_covariance, twist_covariance):
        wide = of(unsure, unknown, R)
        assert np.isfinite(wide).all()
        assert (np.diag(wide) >= np.diag(of(person, unknown, R))).all()


def leaves(message: RosMessage, store: Any) -> Iterator[tuple[str, str, Any]]:
    """Type and value of every number and text, by the definitions of rosbags."""
    declared = dict(store.fielddefs[message.type][1])
    for name, value in message.fields.items():
        _, what = declared[name]
        where = f"{message.type}.{name}"
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, RosMessage):
                assert one.type == (what if isinstance(what, str) else what[0][1]), where
                yield from leaves(one, store)
            else:
                yield where, what[0] if isinstance(what[0], str) else what[0][1][0], one


def test_every_number_has_the_type_that_rclpy_asserts() -> None:
    store = Cdr()._store
    kinds = {"string": str, "bool": bool} | dict.fromkeys(("float32", "float64"), float)
    message, count = message_of(walk(4, people=2)), 0
    sent = [*static_messages(0, NAMES), *frame_messages(message, NAMES, [8])]
    for outgoing in sent:
        for where, kind, value in leaves(outgoing.message, store):
            count += 1
            assert type(value) is kinds.get(kind, int), where
            if kind.startswith("uint"):
                assert value >= 0, where
    assert count > 1000


def as_plain(got: Any) -> Any:
    """What mcap's reader of ROS 2 messages decoded, as nested dictionaries."""
    if hasattr(got, "__slots__"):
        return {name: as_plain(getattr(got, name)) for name in got.__slots__}
    return [as_plain(v) for v in got] if isinstance(got, (list, tuple)) else got


def same(want: Any, got: Any, where: str) -> None:
    if isinstance(want, dict):
        for name, value in want.items():
            same(value, got[name], f"{where}.{name}")
    elif isinstance(want, list):
        assert len(want) == len(got), where
        for i, (a, b) in enumerate(zip(want, got, strict=True)):
            same(a, b, f"{where}[{i}]")
    else:
        assert got == (pytest.approx(want, rel=1e-6, abs=1e-6) if isinstance(want, float) else want), where


def read(path: Path, topics: list[str] | None = None) -> list[Any]:
    """What mcap's own reader of ROS 2 messages finds in a file."""
    with path.open("rb") as file:
        return list(make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages(topics))


def test_another_reader_reads_what_was_written(tmp_path: Path) -> None:
    message, path = message_of(walk(6, people=2)), tmp_path / "x.mcap"
    want = [*static_messages(message.t_wall_ns, NAMES), *frame_messages(message, NAMES, [8])]
    output = McapOutput(path)
    for outgoing in want:
        output.send(outgoing, WALL_NS + 7, WALL_NS + 3)
    output.close()
    output.close()
    got = read(path)
    assert [m.channel.topic for m in got] == [o.topic for o in want]
    for m, outgoing in zip(got, want, strict=True):
        assert m.schema.name == outgoing.message.type
        assert (m.message.log_time, m.message.publish_time) == (WALL_NS + 7, WALL_NS + 3)
        same(plain(outgoing.message), as_plain(m.decoded_message), outgoing.topic)
    with path.open("rb") as file:
        reader = make_reader(file)
        assert reader.get_header().profile == "ros2"
        latched = {c.topic: bool(c.metadata) for c in reader.get_summary().channels.values()}
    assert {topic for topic, is_latched in latched.items() if is_latched} == {"/tf_static"}


def test_rosbags_understands_the_quality_of_service() -> None:
    (qos,) = parse_qos(_LATCHED)
    assert qos.durability == QosDurability.TRANSIENT_LOCAL
    assert qos.depth == 1


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.mcap").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="name another file for --out"):
        McapOutput(tmp_path / "x.mcap")
    with pytest.raises(ValueError, match=r"type --out x\.mcap"):
        McapOutput(tmp_path / "x.bag")


def test_a_file_that_got_nothing_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    done = run("-m", "bridges.ros", "--out", str(path), "--recording", str(tmp_path / "none.mcap"))
    assert done.status == 2
    assert "none.mcap" in done.errors
    assert not path.exists()


class Kept:
    """An output that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.forgotten: list[str] = []

    def send(self, outgoing: Outgoing, log_time_ns: int, publish_time_ns: int) -> None:
        self.sent.append(outgoing)

    def forget(self, topics: str) -> None:
        self.forgotten.append(topics)

    def close(self) -> None:
        """Nothing is open."""

    def last(self, topic: str) -> dict[str, Any]:
        return plain(next(o.message for o in reversed(self.sent) if o.topic == topic))


def item(result: FrameResult) -> Item:
    message = message_of(result)
    return Item("pose/cam/", "pose", message, messages.encode("pose", message), message.t_wall_ns)


def test_who_leaves_is_deleted_once_and_silence_empties_the_scene() -> None:
    output = Kept()
    bridge = ros.RosBridge(output, NAMES)
    bridge.handle(item(walk(0, people=2)))
    assert [o.topic for o in output.sent].count("/tf_static") == 1
    bridge.handle(item(walk(1, people=1)))
    actions = {(m["ns"], m["id"]): m["action"] for m in output.last("/whmr_stream/markers")["markers"]}
    assert actions["joints", 2] == 2
    assert actions["joints", 1] == 0
    assert output.forgotten == ["/humans/bodies/p2/"]
    bridge.handle(item(walk(2, people=1)))
    assert all(m["action"] == 0 for m in output.last("/whmr_stream/markers")["markers"])
    bridge.on_silence(0.5)
    assert output.last("/humans/bodies/tracked")["ids"] == ["p1"]
    bridge.on_silence(1.5)
    assert output.last("/humans/bodies/tracked")["ids"] == []
    assert [m["action"] for m in output.last("/whmr_stream/markers")["markers"]] == [2, 2, 2]
    stamp = output.last("/humans/bodies/tracked")["header"]["stamp"]
    assert stamp["sec"] * 10**9 + stamp["nanosec"] == walk(2).t_wall_ns + 1_500_000_000
    count = len(output.sent)
    bridge.on_silence(2.5)
    assert len(output.sent) == count
    assert [o.topic for o in output.sent].count("/tf_static") == 1


def test_the_program_writes_a_file_that_is_whole_when_it_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "people.mcap"
    command = [sys.executable, "-m", "bridges.ros", "--out", str(path)]
    with (
        BridgeStream() as stream,
        subprocess.Popen([*command, "--connect", stream.address], cwd=ROOT, stderr=subprocess.PIPE) as process,
    ):
        try:
            stream.wait_for("pose")
            stream.play([pose(i) for i in range(200)], every_s=0.01)
            end_s = time.monotonic() + 40
            # the first chunk of the file is written when a dozen frames are in it
            while (not path.exists() or path.stat().st_size < 1000) and time.monotonic() < end_s:
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors.decode()
    stamps = [m.decoded_message.transforms[0].header.stamp for m in read(path, ["/tf"])]
    assert len(stamps) >= 10
    wanted = [message_of(walk(i)).t_wall_ns for i in range(200)]
    got = [stamp.sec * 10**9 + stamp.nanosec for stamp in stamps]
    assert got == (wanted * (len(got) // 200 + 1))[: len(got)]


@pytest.mark.skipif(importlib.util.find_spec("rclpy") is not None, reason="rclpy is here")
def test_without_rclpy_it_says_what_to_source() -> None:
    done = run("-m", "bridges.ros", "--ros", "2")
    assert done.status == 2
    assert "source /opt/ros/" in done.errors
    assert "--out x.mcap" in done.errors
    assert "Traceback" not in done.errors


def ros1_missing() -> str:
    """Why ROS 1 cannot be tried here, or nothing."""
    if not shutil.which("rosmaster"):
        return "no ROS 1 (Debian: apt install ros-core python3-rospy python3-tf2-ros)"
    check = "import rospy, tf2_ros, visualization_msgs.msg, sensor_msgs.msg"
    done = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, check=False)
    return "" if done.returncode == 0 else "ROS 1's Python packages are incomplete"


@pytest.mark.skipif(bool(ros1_missing()), reason=ros1_missing() or "ROS 1")
def test_ros_1_with_a_real_master_and_tf2(tmp_path: Path) -> None:
    port = free_port()
    place = {"ROS_MASTER_URI": f"http://127.0.0.1:{port}", "ROS_IP": "127.0.0.1", "ROS_LOG_DIR": str(tmp_path)}
    environment = os.environ | place
    results = [walk(i, people=2) for i in range(60)]
    master = subprocess.Popen(["rosmaster", "--core", "-p", str(port)], env=environment, stdout=subprocess.DEVNULL)
    bridge = None
    try:
        with BridgeStream() as stream:
            command = [sys.executable, "-m", "bridges.ros", "--ros", "1", "--connect", stream.address]
            end_s = time.monotonic() + 30
            while b"RUNNING" not in _state(port) and time.monotonic() < end_s:
                time.sleep(0.1)
            bridge = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
            stream.wait_for("pose")
            stream.play([item(result).raw for result in results], every_s=0.03)
            script = str(ROOT / "tests" / "support" / "ros1_receiver.py")
            arguments = [SYSTEM_PYTHON, script, "world", "smpl_left_wrist_p1", "40"]
            done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)
    finally:
        for process in filter(None, (bridge, master)):
            process.terminate()
        errors = bridge.communicate(timeout=20)[1].decode() if bridge else ""
        master.wait(20)
    assert done.returncode == 0, done.stderr + errors
    got = json.loads(done.stdout)
    message = min(map(message_of, results), key=lambda m: abs(m.t_wall_ns - got["stamp_ns"]))
    # tf2's Python keeps times as doubles
    assert abs(message.t_wall_ns - got["stamp_ns"]) < 1000
    T = Tree(all_of(message)).look_up("world", "smpl_left_wrist_p1")
    np.testing.assert_allclose(got["point"], T[:3, 3], atol=1e-5)
    np.testing.assert_allclose(frames.from_quat_xyzw(got["quat"]), T[:3, :3], atol=1e-5)
    np.testing.assert_allclose(got["K"], message.calibration.K.ravel(), rtol=1e-6)
    assert sorted(got["markers"]) == sorted(
        [[ns, i, n] for i in (1, 2) for ns, n in (("joints", 24), ("bones", 46), ("names", 0))]
    )
    assert len(got["covariance"]) == 36
    assert bridge is not None
    assert bridge.returncode == 0, errors
    assert "hri_msgs/msg/IdsList is not in this ROS installation" in errors


def _state(port: int) -> bytes:
    """Something with RUNNING in it when a ROS master answers."""
    try:
        code = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}").getPid("/test")[0]
    except OSError:
        return b""
    return b"RUNNING" if code == 1 else b""


def test_without_a_ros_master_it_says_so() -> None:
    if ros1_missing():
        pytest.skip(ros1_missing())
    environment = os.environ | {"ROS_MASTER_URI": f"http://127.0.0.1:{free_port()}"}
    done = run("-m", "bridges.ros", "--ros", "1", environment=environment)
    assert done.status == 2
    assert "type roscore" in done.errors
    assert "Traceback" not in done.errors


def test_the_launch_example_starts_programs_as_they_are() -> None:
    tree = ast.parse((ROOT / "docs" / "clients" / "ros2_launch.py").read_text())
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    bridge = lists["BRIDGE"]
    assert bridge[:2] == ["-m", "bridges.ros"]
    options = ros.parser().parse_args(bridge[2:])
    assert options.ros == 2
    assert lists["STREAM"][0] == "run_stream.py"
    assert stream_parser().parse_args([*lists["STREAM"][1:], "--source", "0"]).bind == options.connect
