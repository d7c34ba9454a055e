"""docs/clients/blender_receiver.py in Blender. Not in the default run; to run it:

python -m venv blender && blender/bin/pip install bpy==5.0.1          (900 MB, Python 3.11)
BLENDER_PYTHON=blender/bin/python python -m pytest -m external tests/test_client_blender.py
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import time
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from bridges.items import Item
from bridges.udp_json import UdpJsonBridge
from pipeline import messages
from pipeline.body import open_body
from pipeline.types import JOINT_NAMES, JOINT_PARENTS
from tests.support import bridge_stream
from tests.support.rtsp import free_port

ROOT = Path(__file__).parents[1]
ADDON = ROOT / "docs" / "clients" / "blender_receiver.py"
in_blender = pytest.mark.skipif(not os.environ.get("BLENDER_PYTHON"), reason="BLENDER_PYTHON (with bpy) is not set")
TENTH_MM = 1e-4


def blender(points: np.ndarray) -> np.ndarray:
    """Blender's world: right-handed, z up, somebody who faces our camera faces -y."""
    return points[..., (0, 2, 1)] * [1.0, -1.0, 1.0]


def heads(rest: dict[str, list], index: int) -> dict[str, list[float]]:
    """Where the add-on puts the heads of an armature's bones, of its own where `rest` is empty."""
    port = free_port()
    command = [os.environ["BLENDER_PYTHON"], str(ROOT / "tests" / "support" / "blender_receiver.py"), str(ADDON)]
    message = messages.pose_message(bridge_stream.walk(index), 0, 0)
    with subprocess.Popen([*command, str(port)], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(json.dumps(rest))
        program.stdin.close()
        assert any(line == "ready\n" for line in program.stdout), program.stderr and program.stderr.read()
        with UdpJsonBridge("127.0.0.1", port, people=1) as bridge:
            for i in range(600):
                bridge.item(Item("pose/cam/", "pose", message, b"", i * 33_000_000))
                if program.poll() is not None:
                    break
                time.sleep(0.1)
        return json.loads(program.stdout.readlines()[-1])


@pytest.mark.external
@in_blender
def test_a_persons_own_armature_is_where_they_are():
    found, world = heads({}, 23), bridge_stream.walk(23).people[0].world
    assert set(found) == set(JOINT_NAMES)
    expected = blender(world.joints_world_m)
    for i, name in enumerate(JOINT_NAMES):
        np.testing.assert_allclose(found[name], expected[i], atol=TENTH_MM, err_msg=name)


@pytest.mark.external
@in_blender
def test_an_avatar_of_other_proportions_and_axes_takes_the_pose():
    avatar = open_body().shaped(np.random.default_rng(5).normal(0, 1, 10))
    names = [f"mixamorig:{name}" for name in _table("_MIXAMO")]
    at_rest = blender(np.add(avatar.joints_rest, [0, 0.9, 0])).tolist()
    rest = {name: [names[JOINT_PARENTS[i]] if i else None, at_rest[i]] for i, name in enumerate(names)}
    found, world = heads(rest, 17), bridge_stream.walk(17).people[0].world
    posed = avatar.posed(world.R_world_root, world.joints_world_m[0], world.Rs_parent_joint)
    expected = blender(posed.joints)
    for i, name in enumerate(names):
        np.testing.assert_allclose(found[name], expected[i], atol=TENTH_MM, err_msg=name)


def _table(name: str) -> tuple[str, ...]:
    """A tuple of names that the add-on has, which cannot be imported without Blender."""
    for node in ast.parse(ADDON.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return tuple(ast.literal_eval(node.value))
    raise AssertionError(f"{ADDON.name} has no {name}")


def test_its_tables_are_ours():
    assert _table("JOINTS") == JOINT_NAMES
    assert _table("PARENTS") == JOINT_PARENTS
    assert len(_table("_MIXAMO")) == len(_table("_HUMANOID")) == 22
