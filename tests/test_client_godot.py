"""docs/clients/receiver.gd in a real engine: Debian's Godot 3 (apt install godot3-server), with what Godot 4 renamed
named as it was; Godot 4 itself is in no package here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from bridges.items import Item
from bridges.udp_json import UdpJsonBridge
from pipeline import frames, messages
from pipeline.body import open_body
from tests.support import bridge_stream
from tests.support.rtsp import free_port

ROOT = Path(__file__).parents[1]
GODOT = shutil.which("godot3-server")
#: What Godot 4 calls what in Godot 3.
RENAMED = {
    "extends Node3D": "extends Spatial", "Node3D.new()": "Spatial.new()", "@export var": "export var",
    "Quaternion(": "Quat(", "Transform3D(": "Transform(", "_udp.bind(": "_udp.listen(",
    "JSON.parse_string(": "parse_json(", ".get_rotation_quaternion()": ".get_rotation_quat()",
    'skeleton_path := NodePath("")': 'skeleton_path = NodePath("")',
}  # fmt: skip
#: A pose of Godot 4 has the rest in it, one of Godot 3 comes on top of it.
POSE_4 = "skeleton.set_bone_pose_rotation(bone, skeleton.get_bone_rest(bone).basis.get_rotation_quat() * turn)"
POSE_3 = "skeleton.set_bone_pose(bone, Transform(Basis(turn), Vector3.ZERO))"
TENTH_MM = 1e-4

pytestmark = pytest.mark.skipif(GODOT is None, reason="godot3-server is not installed")


def as_godot_3(script: str) -> str:
    for new, old in RENAMED.items():
        assert new in script, f"{new} is not there any more"
        script = script.replace(new, old)
    assert POSE_4 in script
    return script.replace(POSE_4, POSE_3)


def test_joints_and_an_avatars_bones_are_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "receiver.gd").write_text(as_godot_3((ROOT / "docs" / "clients" / "receiver.gd").read_text()))
    (tmp_path / "main.gd").write_text((ROOT / "tests" / "support" / "godot_main.gd").read_text())
    (tmp_path / "project.godot").write_text("config_version=4\n")
    result = bridge_stream.walk(17)
    world, port = result.people[0].world, free_port()
    # an avatar of other proportions whose bones have axes of their own
    avatar = open_body().shaped(np.random.default_rng(5).normal(0, 1, 10))
    axes = frames.quat_xyzw(frames.exp_so3(np.random.default_rng(6).normal(0, 1, (22, 3))))
    setup = {"port": port, "axes": axes.tolist(), "joints": np.add(avatar.joints_rest[:22], [0, 0.9, 0]).tolist()}
    environment = os.environ | {"RECEIVER_SETUP": json.dumps(setup), "HOME": str(tmp_path)}
    command = [str(GODOT), "--path", str(tmp_path), "-s", "main.gd"]
    message = messages.pose_message(result, 0, 0)
    with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            assert any(line == "ready\n" for line in program.stdout), program.stderr and program.stderr.read()
            with UdpJsonBridge("127.0.0.1", port, people=1) as bridge:
                for i in range(600):
                    bridge.item(Item("pose/cam/", "pose", message, b"", i * 33_000_000))
                    if program.poll() is not None:
                        break
                    time.sleep(0.05)
            line = next(line for line in program.stdout if line.startswith("found "))
        finally:
            program.kill()
    found = json.loads(line.removeprefix("found "))
    assert (found["visible"], found["id"]) == (True, 1)
    np.testing.assert_allclose(found["joints"], world.joints_world_m, atol=TENTH_MM)
    expected = avatar.posed(world.R_world_root, world.joints_world_m[0], world.Rs_parent_joint).joints[:22]
    np.testing.assert_allclose(found["bones"], expected, atol=TENTH_MM)
