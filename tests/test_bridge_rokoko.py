"""Rokoko's JSON v3 as its own receivers read it: over a real socket, unpacked by lz4, posed as Actor.cs does."""

from __future__ import annotations

import dataclasses
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lz4.frame
import numpy as np
import pytest

from bridges import rokoko, rokoko_pack
from bridges.items import Item
from bridges.rokoko import RokokoBridge
from pipeline import frames, messages
from pipeline.body import open_body
from pipeline.types import JOINT, JOINT_PARENTS
from tests.support import bridge_stream
from tests.support.bridge_stream import BridgeStream
from tests.support.vmc_receiver import product, turned

ROOT = Path(__file__).parents[1]
NEAR_M = 1e-5
#: Bones that carry a chain of the body, with the joint that each turns about.
CHAIN = {
    "hip": "pelvis", "spine": "spine1", "chest": "spine3", "neck": "neck", "head": "head",
    "leftShoulder": "left_collar", "leftUpperArm": "left_shoulder", "leftLowerArm": "left_elbow",
    "leftHand": "left_wrist", "leftUpLeg": "left_hip", "leftLeg": "left_knee", "leftFoot": "left_ankle",
    "leftToe": "left_foot", "rightShoulder": "right_collar", "rightUpperArm": "right_shoulder",
    "rightLowerArm": "right_elbow", "rightHand": "right_wrist", "rightUpLeg": "right_hip", "rightLeg": "right_knee",
    "rightFoot": "right_ankle", "rightToe": "right_foot",
}  # fmt: skip
#: SmartsuitTPose of Actor.cs, three decimals as printed there.
SUIT = {
    "hip": (0.0, 0.0, 0.0, 1.0), "spine": (0.0, 0.0, 1.0, 0.0), "head": (0.0, 0.0, 1.0, 0.0),
    "leftUpLeg": (0.0, 0.707, 0.0, 0.707), "rightUpLeg": (0.0, -0.707, 0.0, 0.707),
    "leftFoot": (0.0, 0.707, -0.707, 0.0), "rightFoot": (0.0, -0.707, 0.707, 0.0),
    "leftShoulder": (0.0, 0.0, 0.707, -0.707), "rightShoulder": (0.0, 0.0, 0.707, 0.707),
    "leftUpperArm": (-0.5, -0.5, 0.5, -0.5), "rightUpperArm": (0.5, -0.5, 0.5, 0.5),
    "leftThumbProximal": (-0.561, -0.701, 0.430, -0.092), "rightThumbProximal": (0.561, -0.701, 0.430, 0.092),
    "rightThumbDistal": (0.653, -0.653, 0.271, 0.271), "leftLittleTip": (-0.5, -0.5, 0.5, -0.5),
}  # fmt: skip


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(20.0)
        yield made


def port(listener: socket.socket) -> int:
    return listener.getsockname()[1]


def received(listener: socket.socket) -> dict:
    """One frame; the header must have the size, from which the Unity plugin makes its buffer."""
    data = listener.recv(65536)
    frame = json.loads(lz4.frame.decompress(data))
    assert lz4.frame.get_frame_info(data)["content_size"] == len(lz4.frame.decompress(data))
    assert (frame["version"], frame["scene"]["props"]) == (3.0, [])
    return frame["scene"]


def item(result, t_s: float = 0.0) -> Item:
    message = messages.decode(messages.encode("pose", messages.pose_message(result, 0, 0)))[1]
    return Item("pose/cam/", "pose", message, b"", round(t_s * 1e9))


def posed(result, turns, root=(0.0, 0.0, 0.0), at=(0.3, 0.9, -3.0)):
    """The frame with its first person in another pose."""
    person = result.people[0]
    Rs, R = frames.exp_so3(np.asarray(turns, float)), frames.exp_so3(np.array(root))
    joints = open_body().shaped(person.world.betas).posed(R, np.array(at), Rs).joints
    world = dataclasses.replace(
        person.world, R_world_root=R, t_world_root=np.array(at), Rs_parent_joint=Rs, joints_world_m=joints
    )
    return dataclasses.replace(result, people=(dataclasses.replace(person, world=world),))


def quat(bone: dict) -> np.ndarray:
    return np.array([bone["rotation"][k] for k in "xyzw"])


def place(bone: dict) -> np.ndarray:
    return np.array([bone["position"][k] for k in "xyz"])


def test_at_rest_the_suits_t_pose_is_sent(listener):
    with RokokoBridge("127.0.0.1", port(listener)) as bridge:
        bridge.item(item(posed(bridge_stream.walk(0), np.zeros((23, 3)))))
    scene = received(listener)
    actor = scene["actors"][0]
    for name, expected in SUIT.items():
        expected = np.array(expected) / np.linalg.norm(expected)
        assert abs(quat(actor["body"][name]) @ expected) > 1 - 1e-6, name
    np.testing.assert_allclose(place(actor["body"]["hip"]), [-0.3, 0.9, -3.0], atol=NEAR_M)
    assert place(actor["body"]["leftHand"])[0] < -0.3 < place(actor["body"]["rightHand"])[0]
    assert (actor["name"], len(actor["color"]), len(actor["body"])) == ("Body1", 3, 5 + 2 * 29)
    assert actor["meta"] == dict.fromkeys(("hasGloves", "hasLeftGlove", "hasRightGlove", "hasFace"), False) | {
        "hasBody": True
    }


def test_a_unity_character_poses_as_the_person(listener):
    # Actor.cs: bone.rotation = worldRotation * Inverse(SmartsuitTPose) * the model's own T-pose, here identities
    turns = np.random.default_rng(4).normal(0, 0.5, (23, 3))
    turns[JOINT["spine2"] - 1] = 0.0  # no bone in this form
    result = posed(bridge_stream.walk(0), turns, root=(0.2, 0.7, -0.1))
    with RokokoBridge("127.0.0.1", port(listener)) as bridge:
        bridge.item(item(result))
    body = received(listener)["actors"][0]["body"]
    world = result.people[0].world
    rest = open_body().shaped(world.betas).joints_rest * [-1, 1, 1]
    of_joint = {joint: name for name, joint in CHAIN.items()} | {"spine2": "spine"}
    suit = {name: t for name, t in zip(rokoko_pack._NAMES, rokoko_pack._T_POSE, strict=True)}
    placed = {0: place(body["hip"])}
    for joint in range(1, 22):
        parent = JOINT_PARENTS[joint]
        name = of_joint[next(n for n, i in JOINT.items() if i == parent)]
        turn = product(quat(body[name]), suit[name] * [-1, -1, -1, 1])
        placed[joint] = placed[parent] + turned(turn, rest[joint] - rest[parent])
    for joint, at in placed.items():
        np.testing.assert_allclose(at, world.joints_world_m[joint] * [-1, 1, 1], atol=NEAR_M)
    for name, joint in CHAIN.items():
        np.testing.assert_allclose(place(body[name]), placed[JOINT[joint]], atol=NEAR_M)


def test_heights_are_the_bodys(listener):
    result = bridge_stream.walk(30)
    with RokokoBridge("127.0.0.1", port(listener)) as bridge:
        bridge.item(item(result))
    sizes = received(listener)["actors"][0]["dimensions"]
    body = open_body().shaped(result.people[0].world.betas)
    soles = body.vertices_rest[:, 1].min()
    assert abs(sizes["hipHeight"] + soles) < 0.02
    assert abs(sizes["totalHeight"] - body.height_m) < 0.04


def test_who_left_is_not_in_the_next_frame_and_silence_empties_the_scene_once(listener):
    with RokokoBridge("127.0.0.1", port(listener), people=2) as bridge:
        bridge.item(item(bridge_stream.walk(0, people=2), 0.0))
        bridge.item(item(bridge_stream.walk(3, people=1), 0.1))
        for silent_s in (0.2, 0.6, 0.8):
            bridge.silence(silent_s)
    scenes = [received(listener) for _ in range(3)]
    assert [[actor["name"] for actor in scene["actors"]] for scene in scenes] == [["Body1", "Body2"], ["Body1"], []]
    np.testing.assert_allclose([scene["timestamp"] for scene in scenes], [0.0, 0.1, 0.1], atol=1e-6)
    listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.recv(65536)


def test_five_people_fit_a_datagram_uncompressed(listener):
    with RokokoBridge("127.0.0.1", port(listener), form="plain") as bridge:
        bridge.item(item(bridge_stream.walk(0, people=5)))
    data = listener.recv(65536)
    assert len(json.loads(data)["scene"]["actors"]) == 5


def test_the_program_sends_what_a_stream_publishes(listener):
    command = [sys.executable, "-m", "bridges.rokoko", "--port", str(port(listener)), "--people", "1", "--connect"]
    with BridgeStream() as stream:
        program = subprocess.Popen(
            [*command, stream.address], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        stream.wait_for("pose")
        stream.send(bridge_stream.pose(3))
        head = place(received(listener)["actors"][0]["body"]["head"])
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    assert program.returncode == 0, err
    assert out == f"Rokoko actors Body1 go to 127.0.0.1, UDP port {port(listener)}. Ctrl-C ends.\n"
    x, y, z = messages.decode(bridge_stream.pose(3))[1].people[0].joints_world_m[JOINT["head"]]
    np.testing.assert_allclose(head, [-x, y, z], atol=NEAR_M)
    assert received(listener)["actors"] == []


def test_without_lz4_the_program_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    assert rokoko.main([]) == 2
    assert "pip install lz4, or --format plain" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        rokoko.main(["--help"])
    assert "python -m bridges.rokoko --host" in capsys.readouterr().out
