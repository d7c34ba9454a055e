"""VMC in Blender with an add-on of other people, unmodified. Not in the default run; to run it:

python -m venv blender && blender/bin/pip install bpy==5.0.1          (900 MB, Python 3.11)
git clone https://github.com/QuadraticForm/VMC4B
BLENDER_PYTHON=blender/bin/python VMC4B=VMC4B python -m pytest -m external tests/test_bridge_vmc_blender.py
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from bridges.items import Item
from bridges.vmc import VmcBridge
from bridges.vmc_pack import BONES
from pipeline import frames, messages
from pipeline.body import open_body
from pipeline.types import JOINT_PARENTS, FrameResult
from tests.support import bridge_stream
from tests.support.rtsp import free_port

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        not (os.environ.get("BLENDER_PYTHON") and os.environ.get("VMC4B")),
        reason="BLENDER_PYTHON (a Python with bpy) and VMC4B (the add-on's folder) are not set",
    ),
]
SCRIPT = Path(__file__).parent / "support" / "blender_vmc.py"
HUNDREDTH_MM = 1e-5


def blender(points: np.ndarray) -> np.ndarray:
    """Blender's world: right-handed, z up, somebody who faces our camera faces -y."""
    return points[..., (0, 2, 1)] * [1.0, -1.0, 1.0]


def bent(index: int) -> FrameResult:
    """The walker of one frame with every joint turned somehow."""
    result = bridge_stream.walk(index)
    person = result.people[0]
    Rs = frames.exp_so3(np.random.default_rng(index).normal(0.0, 0.5, (23, 3)))
    root, at = person.world.R_world_root, person.world.t_world_root
    joints = open_body().shaped(person.world.betas).posed(root, at, Rs).joints
    world = dataclasses.replace(person.world, Rs_parent_joint=Rs, joints_world_m=joints)
    return dataclasses.replace(result, people=(dataclasses.replace(person, world=world),))


def test_joints_in_blender_are_where_they_were():
    results = [bent(index) for index in (21, 22, 23)]
    world = results[-1].people[0].world
    at_rest = blender(open_body().shaped(world.betas).joints_rest).tolist()
    rest = {name: [BONES[JOINT_PARENTS[i]] if i else None, at_rest[i]] for i, name in enumerate(BONES)}
    port = free_port()
    command = [os.environ["BLENDER_PYTHON"], str(SCRIPT), os.environ["VMC4B"], str(port), str(len(results))]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(json.dumps(rest))
        program.stdin.close()
        assert any(line == "ready\n" for line in program.stdout), program.stderr and program.stderr.read()
        with VmcBridge("127.0.0.1", port, people=1) as bridge:
            for i, result in enumerate(results):
                bridge.item(Item("pose/cam/", "pose", messages.pose_message(result, 0, 0), b"", i * 33_000_000))
            heads = json.loads(program.stdout.readlines()[-1])
    expected = blender(world.joints_world_m)
    assert set(heads) == set(BONES)
    for i, name in enumerate(BONES):
        np.testing.assert_allclose(heads[name], expected[i], atol=HUNDREDTH_MM, err_msg=name)
