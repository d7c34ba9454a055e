"""JSONLiveLink datagrams, read by a real socket as the plugin's source reads them, put together in Unreal's axes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridges import livelink
from bridges.items import Item
from bridges.livelink import LiveLinkBridge
from bridges.livelink_pack import LiveLinkPacker
from pipeline import frames, messages
from pipeline.types import JOINT, JOINT_NAMES, JOINT_PARENTS
from tests.support import bridge_stream
from tests.support.bridge_stream import BridgeStream
from tests.support.results import random_result
from tests.support.vmc_receiver import product, turned

ROOT = Path(__file__).parents[1]
HUNDREDTH_MM_IN_CM = 1e-3


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(20.0)
        yield made


def port(listener: socket.socket) -> int:
    return listener.getsockname()[1]


def received(listener: socket.socket) -> dict[str, list[dict]]:
    """One datagram, with the plugin's demands: every byte a character, an object of arrays, five fields each."""
    subjects = json.loads(listener.recv(65536).decode("ascii"))
    for bones in subjects.values():
        for bone in bones:
            assert isinstance(bone["Name"], str)
            assert isinstance(bone["Parent"], int)
            assert [len(bone[field]) for field in ("Location", "Rotation", "Scale")] == [3, 4, 3]
            assert all(isinstance(v, float) for field in ("Location", "Rotation", "Scale") for v in bone[field])
    return subjects


def places(bones: list[dict]) -> dict[str, np.ndarray]:
    """Where Unreal's component space has each bone: FTransform products, parents before children."""
    done: list[tuple[np.ndarray, np.ndarray]] = []
    for bone in bones:
        location, rotation = np.array(bone["Location"]), np.array(bone["Rotation"])
        if bone["Parent"] >= 0:
            at, turn = done[bone["Parent"]]
            location, rotation = at + turned(turn, location), product(turn, rotation)
        done.append((location, rotation))
    return {bone["Name"]: place for bone, (place, _) in zip(bones, done, strict=True)}


def item(result, t_s: float = 0.0) -> Item:
    message = messages.decode(messages.encode("pose", messages.pose_message(result, 0, 0)))[1]
    return Item("pose/cam/", "pose", message, b"", round(t_s * 1e9))


@pytest.mark.parametrize("made", ["walker", "random"])
def test_unreal_finds_every_joint_where_it_is(listener, made):
    taken = item(bridge_stream.walk(17) if made == "walker" else random_result(1, seed=3))
    with LiveLinkBridge("127.0.0.1", port(listener)) as bridge:
        bridge.item(taken)
    subjects = received(listener)
    assert list(subjects) == ["Body1"]
    assert [bone["Name"] for bone in subjects["Body1"]] == list(JOINT_NAMES)
    assert [bone["Parent"] for bone in subjects["Body1"]] == list(JOINT_PARENTS)
    found = places(subjects["Body1"])
    for name, (x, y, z) in zip(JOINT_NAMES, taken.message.people[0].joints_world_m, strict=True):
        np.testing.assert_allclose(found[name], [100 * x, 100 * z, 100 * y], atol=HUNDREDTH_MM_IN_CM, err_msg=name)


def test_the_mannequins_names_hang_on_a_root_at_the_origin(listener):
    taken = item(bridge_stream.walk(4))
    with LiveLinkBridge("127.0.0.1", port(listener), names="mannequin", subject="Actor_") as bridge:
        bridge.item(taken)
    bones = received(listener)["Actor_1"]
    by_name = {bone["Name"]: bone for bone in bones}
    parents = {bone["Name"]: bones[bone["Parent"]]["Name"] for bone in bones if bone["Parent"] >= 0}
    assert bones[0] == {
        "Name": "root", "Parent": -1, "Location": [0, 0, 0], "Rotation": [0, 0, 0, 1], "Scale": [1, 1, 1],
    }  # fmt: skip
    assert len(by_name) == len(bones) == 23
    assert (parents["pelvis"], parents["hand_l"], parents["upperarm_r"]) == ("root", "lowerarm_l", "clavicle_r")
    assert (parents["ball_l"], parents["neck_01"], parents["clavicle_l"]) == ("foot_l", "spine_03", "spine_03")
    x, y, z = taken.message.people[0].joints_world_m[JOINT["right_wrist"]]
    np.testing.assert_allclose(places(bones)["hand_r"], [100 * x, 100 * z, 100 * y], atol=HUNDREDTH_MM_IN_CM)


def test_a_raised_left_arm_in_unreal():
    message = item(bridge_stream.walk(0)).message
    quats = np.tile([0.0, 0.0, 0.0, 1.0], (23, 1))
    quats[JOINT["left_shoulder"] - 1] = frames.quat_xyzw(frames.exp_so3([0, 0, np.pi / 2]))
    person = msgspec.structs.replace(
        message.people[0],
        quat_world_root_xyzw=np.array([0.0, 0.0, 0.0, 1.0]),
        quats_parent_joint_xyzw=quats,
        joints_world_m=np.tile([0.5, 1.0, -2.0], (24, 1)),
    )
    bones = {b["Name"]: b for b in json.loads(LiveLinkPacker().pack(person, "B"))["B"]}
    half = np.sqrt(0.5)
    np.testing.assert_allclose(bones["left_shoulder"]["Rotation"], [0, -half, 0, half], atol=1e-6)
    np.testing.assert_allclose(bones["pelvis"]["Location"], [50, -200, 100], atol=1e-6)
    # the mannequin faces +y with its left at +x: that quaternion takes +x to +z, up
    np.testing.assert_allclose(turned(np.array([0, -half, 0, half]), np.array([1.0, 0, 0])), [0, 0, 1], atol=1e-9)


def test_each_person_is_a_subject_and_fits_a_datagram(listener):
    with LiveLinkBridge("127.0.0.1", port(listener), people=2) as bridge:
        bridge.item(item(bridge_stream.walk(0, people=3)))
    packets = [listener.recv(65536), listener.recv(65536)]
    assert [list(json.loads(packet)) for packet in packets] == [["Body1"], ["Body2"]]
    assert all(len(packet) < 8192 for packet in packets)
    listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.recv(65536)


def test_the_program_sends_what_a_stream_publishes(listener):
    command = [sys.executable, "-m", "bridges.livelink", "--port", str(port(listener)), "--people", "1", "--connect"]
    with BridgeStream() as stream:
        program = subprocess.Popen(
            [*command, stream.address], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        stream.wait_for("pose")
        stream.send(bridge_stream.pose(3))
        found = places(received(listener)["Body1"])
        program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=20)
    assert program.returncode == 0, err
    assert out == f"Live Link subjects Body1 go to 127.0.0.1, UDP port {port(listener)}. Ctrl-C ends.\n"
    x, y, z = messages.decode(bridge_stream.pose(3))[1].people[0].joints_world_m[JOINT["head"]]
    np.testing.assert_allclose(found["head"], [100 * x, 100 * z, 100 * y], atol=HUNDREDTH_MM_IN_CM)


def test_a_subject_that_the_plugin_would_garble_is_refused(capsys):
    assert livelink.main(["--subject", "Körper"]) == 2
    assert "expected 1 to 48 letters, digits or underscores" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        livelink.main(["--help"])
    assert "python -m bridges.livelink --host" in capsys.readouterr().out
