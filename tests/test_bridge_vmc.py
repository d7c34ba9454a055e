"""VMC against a receiver of python-osc: joints are where they were, receivers' habits are met, people keep ports."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bridges import vmc
from bridges.items import Item
from bridges.vmc import VmcBridge
from bridges.vmc_pack import BONES
from pipeline import frames, messages
from pipeline.body import open_body
from pipeline.messages import PoseMessage
from pipeline.types import JOINT, JOINT_PARENTS
from tests.support import bridge_stream
from tests.support.bridge_stream import BridgeStream
from tests.support.results import random_result
from tests.support.vmc_receiver import VmcReceiver, neighbours

ROOT = Path(__file__).parents[1]
#: The joints of what was sent and of what was received may differ by a hundredth of a millimetre.
NEAR_M = 1e-5


@pytest.fixture
def receiver() -> Iterator[VmcReceiver]:
    with VmcReceiver() as made:
        yield made


def on_the_wire(result) -> PoseMessage:
    """The message as a subscriber gets it."""
    return messages.decode(messages.encode("pose", messages.pose_message(result, 0, 0)))[1]


def item(result, t_s: float) -> Item:
    return Item("pose/cam/", "pose", on_the_wire(result), b"", round(t_s * 1e9))


def unity(joints_m) -> dict[str, np.ndarray]:
    """Where the joints of a message must be: left-handed, x mirrored."""
    return {name: np.array([-joints_m[i, 0], joints_m[i, 1], joints_m[i, 2]]) for i, name in enumerate(BONES)}


def sent(receiver: VmcReceiver, result, **options) -> PoseMessage:
    """Sends one frame and waits for all of it."""
    with VmcBridge("127.0.0.1", receiver.port, people=1, **options) as bridge:
        taken = item(result, 1.0)
        bridge.item(taken)
        receiver.wait("/VMC/Ext/Blend/Apply")
    return taken.message


@pytest.mark.parametrize("translation", ["hips", "root"])
@pytest.mark.parametrize("upper_chest", ["send", "merge"])
@pytest.mark.parametrize("made", ["walker", "random"])
def test_a_receiver_finds_every_joint_where_it_is(receiver, translation, upper_chest, made):
    result = bridge_stream.walk(17) if made == "walker" else random_result(1, seed=3)
    message = sent(receiver, result, translation=translation, upper_chest=upper_chest)
    expected = unity(message.people[0].joints_world_m)
    joints = receiver.joints()
    assert set(joints) == set(BONES) - ({"UpperChest"} if upper_chest == "merge" else set())
    for name, place in joints.items():
        np.testing.assert_allclose(place, expected[name], atol=NEAR_M, err_msg=name)


@pytest.mark.parametrize("upper_chest", ["send", "merge"])
def test_a_receiver_turns_every_bone_as_it_is_turned(receiver, upper_chest):
    person = sent(receiver, random_result(1, seed=5), upper_chest=upper_chest).people[0]
    Rs = [frames.from_quat_xyzw(person.quat_world_root_xyzw)]
    for joint, R in enumerate(frames.from_quat_xyzw(person.quats_parent_joint_xyzw), start=1):
        Rs.append(Rs[JOINT_PARENTS[joint]] @ R)
    if upper_chest == "merge":
        Rs[JOINT["spine2"]] = Rs[JOINT["spine3"]]
    mirror = np.diag([-1.0, 1.0, 1.0])
    for name, (_, quat) in receiver.bones().items():
        R = mirror @ Rs[BONES.index(name)] @ mirror
        assert frames.angle_between(frames.from_quat_xyzw(quat), R) < 1e-5, name


def test_a_model_in_t_pose_needs_nothing_but_the_rotations(receiver):
    # a VRM avatar has its own offsets and identity rotations at rest; here it happens to have this person's bones
    result = bridge_stream.walk(40)
    message = sent(receiver, result)
    person = message.people[0]
    at_rest = open_body().shaped(person.betas).joints_rest
    rest = {name: (at_rest[i] - at_rest[JOINT_PARENTS[i]]) * [-1, 1, 1] for i, name in enumerate(BONES) if i}
    for name, place in receiver.joints(rest).items():
        np.testing.assert_allclose(place, unity(person.joints_world_m)[name], atol=NEAR_M, err_msg=name)


def test_a_raised_left_arm_is_unitys_left_arm_and_up(receiver):
    result = bridge_stream.walk(0)
    person = result.people[0]
    turns = np.zeros((23, 3))
    turns[JOINT["left_shoulder"] - 1] = [0, 0, np.pi / 2]
    Rs = frames.exp_so3(turns)
    at = np.array([0.3, 0.9, -3.0])
    joints = open_body().shaped(person.world.betas).posed(np.eye(3), at, Rs).joints
    world = dataclasses.replace(
        person.world, R_world_root=np.eye(3), t_world_root=at, Rs_parent_joint=Rs, joints_world_m=joints
    )
    sent(receiver, dataclasses.replace(result, people=(dataclasses.replace(person, world=world),)))
    bones = {name: np.array(numbers) for name, *numbers in receiver.of("/VMC/Ext/Bone/Pos")}
    half = np.sqrt(0.5)
    np.testing.assert_allclose(bones["LeftUpperArm"][3:], [0, 0, -half, half], atol=1e-6)
    np.testing.assert_allclose(bones["RightUpperArm"][3:], [0, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(bones["Hips"], [-0.3, 0.9, -3.0, 0, 0, 0, 1], atol=1e-6)
    placed = receiver.joints()
    # a person who faces Unity's +z has its left at -x
    assert placed["LeftUpperArm"][0] < placed["Hips"][0] < placed["RightUpperArm"][0]
    assert placed["LeftHand"][1] > placed["Head"][1] > placed["RightHand"][1]


def test_root_translation_keeps_the_root_on_the_floor_and_the_height_in_the_hips(receiver):
    message = sent(receiver, bridge_stream.walk(5), translation="root")
    x, y, z = message.people[0].t_world_root_m
    name, *root = receiver.of("/VMC/Ext/Root/Pos")[-1]
    hips = receiver.of("/VMC/Ext/Bone/Pos")[0]
    assert name == "root"
    np.testing.assert_allclose(root, [-x, 0, z, 0, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(hips[1:4], [0, y, 0], atol=1e-6)


@pytest.mark.parametrize("upper_chest", ["send", "merge"])
def test_what_receivers_choke_on(receiver, upper_chest):
    sent(receiver, bridge_stream.walk(3), upper_chest=upper_chest)
    poses, goodbye = receiver.packets[:2], receiver.packets[2:]
    assert all(len(packet) <= 1400 and packet.startswith(b"#bundle\0\0\0\0\0\0\0\0\1") for packet in receiver.packets)
    assert b"/VMC/Ext/Blend/Apply" not in poses[0]
    assert poses[1].rstrip(b"\0").endswith(b"/VMC/Ext/Blend/Apply\0\0\0\0,")
    assert len(goodbye) <= 1
    calls = [(address, arguments) for address, arguments, _ in receiver.calls]
    assert calls[0] == ("/VMC/Ext/OK", (1, 3, 0, 1))
    assert [type(value) for value in calls[0][1]] == [int] * 4
    assert [address for address, _ in calls[1:4]] == ["/VMC/Ext/T", "/VMC/Ext/Root/Pos", "/VMC/Ext/Bone/Pos"]
    assert type(calls[1][1][0]) is float
    bones = receiver.of("/VMC/Ext/Bone/Pos")
    assert bones[0][0] == "Hips"
    for arguments in [*bones, *receiver.of("/VMC/Ext/Root/Pos")]:
        assert [type(value) for value in arguments] == [str, *[float] * 7]
        assert np.isclose(np.linalg.norm(arguments[4:]), 1.0, atol=1e-6)


def test_the_time_is_that_of_capture_since_the_first_frame(receiver):
    with VmcBridge("127.0.0.1", receiver.port, people=1) as bridge:
        for index in (10, 13, 25):
            bridge.item(item(bridge_stream.walk(index), index / 30))
        receiver.wait("/VMC/Ext/T", 3)
    np.testing.assert_allclose([t for (t,) in receiver.of("/VMC/Ext/T")[:3]], [0.0, 0.1, 0.5], atol=1e-6)


def people(result, *ids: int):
    """The frame with people of these ids."""
    return dataclasses.replace(
        result, people=tuple(dataclasses.replace(result.people[0], track_id=number) for number in ids)
    )


def test_people_keep_their_ports_and_the_next_gets_one_that_is_free():
    with neighbours() as (first, second):
        frame = bridge_stream.walk(0)
        with VmcBridge("127.0.0.1", first.port, people=2, hold_s=1.0) as bridge:
            bridge.item(item(people(frame, 7, 9), 0.0))
            bridge.item(item(people(frame, 9), 0.1))
            bridge.item(item(people(frame, 9, 12), 0.5))  # 7 may come back
            first.wait("/VMC/Ext/OK", 3)
            assert [ok[3] for ok in first.of("/VMC/Ext/OK")] == [1, 0, 0]
            assert len(first.of("/VMC/Ext/Blend/Apply")) == 1
            bridge.item(item(people(frame, 9, 12), 1.3))  # 7 is over
            first.wait("/VMC/Ext/Blend/Apply", 2)
            second.wait("/VMC/Ext/Blend/Apply", 4)
            assert [ok[3] for ok in first.of("/VMC/Ext/OK")] == [1, 0, 0, 1]
            assert [ok[3] for ok in second.of("/VMC/Ext/OK")] == [1, 1, 1, 1]
        first.wait("/VMC/Ext/OK", 5)
        assert [ok[3] for ok in first.of("/VMC/Ext/OK")][4] == 0, "told when the bridge ends"
        # a receiver that follows the sender's port must never lose it
        assert len({port for _, _, port in first.calls}) == 1
        assert {port for _, _, port in first.calls} != {port for _, _, port in second.calls}


def test_silence_says_lost_until_the_port_is_given_up_and_then_nothing(receiver):
    with VmcBridge("127.0.0.1", receiver.port, people=1, hold_s=1.0) as bridge:
        bridge.item(item(bridge_stream.walk(0), 5.0))
        for silent_s in (0.1, 0.4, 0.6, 0.9, 1.1, 3.0):
            bridge.silence(silent_s)
        receiver.wait("/VMC/Ext/OK", 3)
        bridge.item(item(people(bridge_stream.walk(1), 33), 9.0))
        receiver.wait("/VMC/Ext/OK", 4)
        assert [ok[3] for ok in receiver.of("/VMC/Ext/OK")] == [1, 0, 0, 1]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bridges.vmc", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_program_follows_a_stream_that_starts_again_and_says_goodbye(receiver):
    with BridgeStream() as stream:
        program = start("--connect", stream.address, "--port", str(receiver.port), "--people", "1")
        stream.wait_for("pose")
        stream.send(bridge_stream.pose(0))
        receiver.wait("/VMC/Ext/Blend/Apply")
        stream.stop()
        stream.start()
        stream.wait_for("pose")
        stream.send(bridge_stream.pose(1))
        receiver.wait("/VMC/Ext/Blend/Apply", 2)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    assert program.returncode == 0, err
    assert out == f"VMC goes to 127.0.0.1, UDP port {receiver.port}. Ctrl-C ends.\n"
    receiver.wait("/VMC/Ext/OK", 3)
    assert receiver.of("/VMC/Ext/OK")[-1] == (1, 3, 0, 0)
    expected = unity(messages.decode(bridge_stream.pose(1))[1].people[0].joints_world_m)
    np.testing.assert_allclose(receiver.joints()["LeftHand"], expected["LeftHand"], atol=NEAR_M)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "Port 70000: expected 1 to 65535"),
        (["--port", "65534", "--people", "4"], "Port 65536: expected 1 to 65535, mind that each further person"),
        (["--host", "no such host"], "--host 'no such host' has no address"),
        (["--connect", "5556"], "expected tcp://ADDRESS:PORT"),
        (["--rate", "0"], "expected a number above 0, got '0'"),
        (["--people", "0"], "expected a whole number from 1 to 64, got '0'"),
        (["--translation", "feet"], "invalid choice: 'feet'"),
    ],
)
def test_mistakes_are_one_sentence(capsys, arguments, sentence):
    try:
        status = vmc.main(arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        vmc.main(["--help"])
    assert "python -m bridges.vmc --host" in capsys.readouterr().out
