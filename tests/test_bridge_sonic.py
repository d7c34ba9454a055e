"""SONIC's stream: the bytes, read by a parser of its own; axes; 50 Hz; who is followed; over a real socket."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import zmq
from scipy.spatial.transform import Rotation

from bridges import sonic
from bridges.sonic_frames import Resampler, choose, moment, wrist_angles
from pipeline import frames, messages
from pipeline.body import open_body
from pipeline.messages import PersonMessage, PoseMessage
from pipeline.types import JOINT_NAMES, CalibrationStatus, FrameResult
from tests.support.bridge_stream import START_NS, BridgeStream, pose, walk
from tests.support.program import ROOT, run
from tests.support.rtsp import free_port

SIZES = {"f32": ("<f4", 4), "f64": ("<f8", 8), "i32": ("<i4", 4), "i64": ("<i8", 8)}


def parse(data: bytes) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Header and arrays as GR00T-WholeBodyControl's documentation has them; nothing of ours is used."""
    assert data[:4] == b"pose"
    header = json.loads(data[4 : 4 + 1280].split(b"\0", 1)[0])
    at, arrays = 4 + 1280, {}
    for entry in header["fields"]:
        dtype, size = SIZES[entry["dtype"]]
        count = int(np.prod(entry["shape"]))
        arrays[entry["name"]] = np.frombuffer(data[at : at + count * size], dtype).reshape(entry["shape"])
        at += count * size
    assert at == len(data), "bytes are left over"
    return header, arrays


def message_of(result: FrameResult) -> PoseMessage:
    return messages.pose_message(result, result.t_capture_ns, result.t_wall_ns)


def standing(turn: np.ndarray) -> PersonMessage:
    """Somebody in the T-pose, 3 m before the camera, turned by (3, 3) in the world."""
    person = walk(0).people[0]
    posed = open_body().shaped(np.zeros(10)).posed(turn, np.array([0.0, 0.9, -3.0]), np.tile(np.eye(3), (23, 1, 1)))
    world = dataclasses.replace(
        person.world, R_world_root=turn, t_world_root=np.array([0.0, 0.9, -3.0]), joints_world_m=posed.joints,
        Rs_parent_joint=np.tile(np.eye(3), (23, 1, 1)),
    )  # fmt: skip
    people = (dataclasses.replace(person, world=world),)
    return message_of(dataclasses.replace(walk(0), people=people)).people[0]


def sent(bridge: sonic.SonicBridge, *results: FrameResult) -> list[dict[str, np.ndarray]]:
    """The arrays of what the bridge sends of these frames."""
    packed = (bridge.packed(message_of(result)) for result in results)
    return [parse(data)[1] for data in packed if data is not None]


def test_the_header_and_the_arrays_are_what_protocol_3_asks_for() -> None:
    bridge = sonic.SonicBridge()
    data = [bridge.packed(message_of(walk(i))) for i in range(12)][-1]
    assert data is not None
    header, arrays = parse(data)
    assert {name: header[name] for name in ("v", "endian", "count")} == {"v": 3, "endian": "le", "count": 1}
    want = {"smpl_joints": (5, 24, 3), "smpl_pose": (5, 21, 3), "joint_pos": (5, 29), "joint_vel": (5, 29),
            "body_quat": (5, 4), "frame_index": (5,), "timestamp_monotonic": (1,),
            "timestamp_realtime": (1,)}  # fmt: skip
    assert {name: arrays[name].shape for name in want} == want
    assert arrays["frame_index"].dtype == np.int64
    assert arrays["timestamp_monotonic"].dtype == np.float64
    extra = {"root_position": (5, 3), "root_velocity": (5, 3), "confidence": (5, 24), "betas": (10,), "person_id": (1,),
             "capture_wall_ns": (5,), "camera_spread": (3,)}  # fmt: skip
    assert {name: a.shape for name, a in arrays.items() if name not in want} == extra
    # names that their reader knows and that would make the robot do something else
    assert not set(arrays) & {"vr_position", "heading_increment", "token_state", "left_hand_joints", "catch_up"}


def test_a_header_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 1280 bytes"):
        sonic.pack({f"field_number_{i}": np.zeros(3) for i in range(40)})


def test_somebody_upright_who_faces_the_camera() -> None:
    at = moment(standing(np.eye(3)), START_NS)
    resampler = Resampler(0.5)
    assert resampler.add(at) == 1
    (frame,) = resampler.newest(5)
    joints = dict(zip(JOINT_NAMES, frame.joints_m, strict=True))
    np.testing.assert_array_equal(joints["pelvis"], 0)
    assert joints["left_wrist"][1] > 0.4
    assert joints["right_wrist"][1] < -0.4
    assert joints["head"][2] > 0.4
    assert joints["left_foot"][2] < -0.7
    assert joints["left_foot"][0] > joints["left_ankle"][0] + 0.05
    # x right, y away from the camera, z up: the body's x points at the camera, its left to the camera's right
    body = Rotation.from_quat(frame.body_quat_wxyz, scalar_first=True).as_matrix()
    np.testing.assert_allclose(body, np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), atol=1e-12)
    np.testing.assert_allclose(frame.root_m, [0, 3, 0.9], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_body_is_what_their_published_operations_make_of_it(seed: int) -> None:
    """Their chain: root to z up by +90 degrees about x, times the conjugate of (.5, .5, .5, .5)."""
    R = frames.exp_so3(np.random.default_rng(seed).normal(0, 1, 3))
    person = standing(R)
    up = Rotation.from_euler("x", 90, degrees=True)
    body = up * Rotation.from_matrix(R) * Rotation.from_quat([0.5, 0.5, 0.5, 0.5]).inv()
    joints = body.inv().apply(up.apply(person.joints_world_m - person.joints_world_m[0]))
    resampler = Resampler(0.5)
    resampler.add(moment(person, START_NS))
    (frame,) = resampler.newest(1)
    np.testing.assert_allclose(frame.joints_m, joints, atol=1e-6)
    got = Rotation.from_quat(frame.body_quat_wxyz, scalar_first=True)
    assert (got * body.inv()).magnitude() < 1e-6


def test_frames_come_every_20_ms_whatever_the_camera_does() -> None:
    arrays = sent(sonic.SonicBridge(window=3), *(walk(i) for i in range(31)))
    index = np.unique(np.concatenate([a["frame_index"] for a in arrays]))
    np.testing.assert_array_equal(index, np.arange(51))
    assert all((np.diff(a["capture_wall_ns"]) == 20_000_000).all() for a in arrays)
    assert {len(a["frame_index"]) for a in arrays[3:]} == {3}
    # each message goes on where the one before ended, and says the same of the frames they share
    for a, b in itertools.pairwise(arrays[4:]):
        shared, in_a, in_b = np.intersect1d(a["frame_index"], b["frame_index"], return_indices=True)
        assert len(shared)
        assert b["frame_index"][-1] > a["frame_index"][-1]
        np.testing.assert_array_equal(a["smpl_joints"][in_a], b["smpl_joints"][in_b])


def test_between_two_pictures_lies_the_pose_between() -> None:
    results = [walk(i, fps=50 / 3) for i in range(12)]
    arrays = sent(sonic.SonicBridge(window=1), *results)
    found = {int(i): k for a in arrays for i, k in zip(a["frame_index"], a["body_quat"], strict=True)}
    truth = [walk(i, fps=50.0).people[0].world.R_world_root for i in range(30)]
    unturned = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    for i, R in enumerate(truth):
        got = Rotation.from_quat(found[i], scalar_first=True).as_matrix()
        # the walker turns evenly, so slerp is exact
        np.testing.assert_allclose(unturned[0].T @ got @ unturned[1], R, atol=1e-5)


def test_a_camera_of_100_hz_sends_every_other_time() -> None:
    assert len(sent(sonic.SonicBridge(), *(walk(i, fps=100.0) for i in range(20)))) == 10


def test_a_pose_rotation_is_the_joints_as_axis_and_angle() -> None:
    (arrays,) = sent(sonic.SonicBridge(), walk(7))
    Rs = walk(7).people[0].world.Rs_parent_joint[:21]
    np.testing.assert_allclose(frames.exp_so3(arrays["smpl_pose"][0]), Rs, atol=1e-6)
    np.testing.assert_array_equal(arrays["joint_pos"], 0)


def test_somebody_who_was_away_starts_anew() -> None:
    before, after = [walk(i) for i in range(10)], [walk(i) for i in range(40, 50)]
    arrays = sent(sonic.SonicBridge(gap_s=0.5), *before, *after)
    index = np.unique(np.concatenate([a["frame_index"] for a in arrays]))
    steps = np.diff(index)
    assert (steps != 1).sum() == 1
    assert steps.max() > 50
    assert len(arrays[10]["frame_index"]) == 1, "nothing from before the gap is repeated"


def test_a_short_gap_is_bridged_without_a_hole() -> None:
    arrays = sent(sonic.SonicBridge(), *(walk(i) for i in [*range(10), *range(20, 30)]))
    index = np.unique(np.concatenate([a["frame_index"] for a in arrays]))
    np.testing.assert_array_equal(np.diff(index), 1)
    assert len(arrays[10]["frame_index"]) >= 17, "one message holds all that is new"


def test_a_camera_that_was_moved_starts_anew_once() -> None:
    def moved(i: int) -> FrameResult:
        calibration = dataclasses.replace(walk(i).calibration, status=CalibrationStatus.MOVED)
        return dataclasses.replace(walk(i), calibration=calibration)

    arrays = sent(sonic.SonicBridge(), *(walk(i) for i in range(10)), *(moved(i) for i in range(10, 20)))
    index = np.unique(np.concatenate([a["frame_index"] for a in arrays]))
    assert (np.diff(index) != 1).sum() == 1


def test_a_stream_that_starts_again_is_followed() -> None:
    later = [dataclasses.replace(walk(i), t_capture_ns=walk(i).t_capture_ns + 10**12) for i in range(5)]
    arrays = sent(sonic.SonicBridge(), *later, *(walk(i) for i in range(5)))
    assert len(arrays) == 10
    index = np.concatenate([a["frame_index"][-1:] for a in arrays])
    assert (np.diff(index) >= 1).all()


def test_the_nearest_is_followed_until_gone_and_then_somebody_else() -> None:
    two = message_of(walk(0, people=2)).people
    near = min(two, key=lambda p: np.linalg.norm(p.t_camera_root_m))
    far = next(p for p in two if p is not near)
    assert choose(two, None, None, waits=False) is near
    assert choose(two, None, far.id, waits=True) is far
    assert choose((near,), None, far.id, waits=True) is None
    assert choose((near,), None, far.id, waits=False) is near
    assert choose((near,), far.id, None, waits=False) is None
    assert choose((), None, None, waits=False) is None
    guessed = PersonMessage(**{f: getattr(near, f) for f in near.__struct_fields__} | {"predicted": True})
    assert choose((guessed, far), None, None, waits=False) is far


def test_nobody_in_view_sends_nothing() -> None:
    assert sent(sonic.SonicBridge(), dataclasses.replace(walk(0), people=())) == []


@pytest.mark.parametrize(
    ("joint", "axis", "left", "right"),
    [("wrist", 1, (2, 1.0), (3, -1.0)), ("wrist", 2, (4, 1.0), (5, 1.0)), ("wrist", 0, (0, 1.0), (1, -1.0)),
     ("elbow", 0, (0, 1.0), (1, -1.0)), ("elbow", 1, None, None)],
)  # fmt: skip
def test_wrists(joint: str, axis: int, left: tuple[int, float] | None, right: tuple[int, float] | None) -> None:
    for side, want in (("left", left), ("right", right)):
        Rs = np.tile(np.eye(3), (24, 1, 1))
        Rs[JOINT_NAMES.index(f"{side}_{joint}")] = frames.exp_so3(0.3 * np.eye(3)[axis])
        expected = np.zeros(6)
        if want is not None:
            expected[want[0]] = 0.3 * want[1]
        np.testing.assert_allclose(wrist_angles(Rs), expected, atol=1e-9)


def test_wrists_stay_within_the_robots_limits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = wrist_angles(frames.exp_so3(rng.normal(0, 2, (24, 3))))
        assert (np.abs(angles) <= [1.97, 1.97, 1.61, 1.61, 1.61, 1.61]).all()


def test_the_capture_time_is_the_streams_where_that_is_this_machines_clock() -> None:
    now = time.monotonic_ns()
    live = dataclasses.replace(walk(0), t_capture_ns=now - 30_000_000)
    (of_live,) = sent(sonic.SonicBridge(), live)
    assert of_live["timestamp_monotonic"][0] == live.t_capture_ns / 1e9
    (of_recording,) = sent(sonic.SonicBridge(live=False), live)
    assert of_recording["timestamp_monotonic"][0] > of_live["timestamp_monotonic"][0]
    of_file = sent(sonic.SonicBridge(), dataclasses.replace(walk(0), t_capture_ns=now + 10**12))[0]
    assert abs(of_file["timestamp_monotonic"][0] - time.monotonic()) < 30


def test_over_a_real_socket() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    got: list[bytes] = []
    with BridgeStream() as stream, zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.linger = 0
        reader.subscribe("pose")
        reader.connect(address)
        command = [sys.executable, "-m", "bridges.sonic", "--connect", stream.address, "--bind", address]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
            try:
                stream.wait_for("pose")
                stream.play([pose(i) for i in range(90)], every_s=0.01)
                end_s = time.monotonic() + 30
                while len(got) < 20 and time.monotonic() < end_s:
                    if reader.poll(100):
                        got.append(reader.recv())
            finally:
                process.terminate()
                _, errors = process.communicate(timeout=20)
    assert len(got) == 20, errors.decode()
    assert process.returncode == 0, errors.decode()
    parsed = [parse(data)[1] for data in got]
    assert all(np.isfinite(a["smpl_joints"]).all() for a in parsed)
    assert (np.diff([a["frame_index"][-1] for a in parsed]) > 0).all()


def test_an_address_that_is_taken_is_one_sentence() -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        done = run("-m", "bridges.sonic", "--bind", f"tcp://127.0.0.1:{port}")
    assert done.status == 2
    assert "--bind tcp://127.0.0.1:5558" in done.errors
    assert "Traceback" not in done.errors


def test_a_window_of_no_frames_is_refused() -> None:
    done = run("-m", "bridges.sonic", "--window", "0")
    assert done.status == 2
    assert "expected 1 to 8 frames, got 0" in done.errors
