"""Rokoko's stream in Blender with Rokoko's own add-on, unmodified. Not in the default run; to run it:

python -m venv blender && blender/bin/pip install bpy==5.0.1 lz4==4.4.5          (900 MB, Python 3.11)
git clone https://github.com/Rokoko/rokoko-studio-live-blender
BLENDER_PYTHON=blender/bin/python ROKOKO=rokoko-studio-live-blender \
    python -m pytest -m external tests/test_bridge_rokoko_blender.py
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from bridges.local_pose import local_pose
from bridges.rokoko import RokokoBridge
from pipeline import frames
from pipeline.body import open_body
from pipeline.types import JOINT, JOINT_PARENTS
from tests.support import bridge_stream
from tests.support.rtsp import free_port
from tests.test_bridge_rokoko import CHAIN, item, posed

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        not (os.environ.get("BLENDER_PYTHON") and os.environ.get("ROKOKO")),
        reason="BLENDER_PYTHON (a Python with bpy and lz4) and ROKOKO (the add-on's folder) are not set",
    ),
]
SCRIPT = Path(__file__).parent / "support" / "blender_rokoko.py"
#: Ours to Blender's world: right-handed, z up.
R_BLENDER_WORLD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
HUNDREDTH_DEGREE = np.radians(0.01)


def parent(name: str) -> str | None:
    """The bone that a bone hangs on; joints that have none are passed over."""
    names = {JOINT[joint]: bone for bone, joint in CHAIN.items()}
    joint = JOINT_PARENTS[JOINT[CHAIN[name]]]
    while joint >= 0 and joint not in names:
        joint = JOINT_PARENTS[joint]
    return names.get(joint)


@pytest.mark.parametrize("form", ["lz4", "plain"])
def test_rokokos_own_receiver_turns_every_bone_as_it_is_turned(form):
    turns = np.random.default_rng(4).normal(0.0, 0.5, (23, 3))
    taken = item(posed(bridge_stream.walk(0), turns, root=(0.2, 0.7, -0.1)))
    person = taken.message.people[0]
    at_rest = open_body().shaped(person.betas).joints_rest @ R_BLENDER_WORLD.T + [0.0, 0.0, 1.0]
    order = sorted(CHAIN, key=lambda name: JOINT[CHAIN[name]])
    rest = {name: [parent(name), at_rest[JOINT[CHAIN[name]]].tolist()] for name in order}
    port = free_port()
    command = [os.environ["BLENDER_PYTHON"], str(SCRIPT), os.environ["ROKOKO"], str(port)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(json.dumps(rest))
        program.stdin.close()
        assert any(line == "ready\n" for line in program.stdout), program.stderr and program.stderr.read()
        # each frame goes one generation further, because Blender's setter sees the parent of the frame before
        with RokokoBridge("127.0.0.1", port, form=form) as bridge:
            while program.poll() is None:
                bridge.item(taken)
                time.sleep(0.02)
            found = json.loads(program.stdout.readlines()[-1])
    Rs_world = local_pose(person).Rs_world_joint
    assert set(found) == set(CHAIN)
    for name, joint in CHAIN.items():
        expected = R_BLENDER_WORLD @ Rs_world[JOINT[joint]] @ R_BLENDER_WORLD.T
        assert frames.angle_between(frames.from_quat_xyzw(found[name]), expected) < HUNDREDTH_DEGREE, name
