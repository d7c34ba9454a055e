"""Converted files opened in Blender. Not in the default run; to run it:

python -m venv blender && blender/bin/pip install bpy==5.0.1          (900 MB, Python 3.11)
BLENDER_PYTHON=blender/bin/python python -m pytest -m external tests/test_bridge_convert_blender.py
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.body import open_body
from pipeline.types import JOINT_NAMES
from tests.test_bridge_convert import FPS, NEAR_M, walking, write, z_up

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(not os.environ.get("BLENDER_PYTHON"), reason="BLENDER_PYTHON (with bpy) is not set"),
]
SCRIPT = Path(__file__).parent / "support" / "blender_joints.py"
COUNT = 12


@pytest.mark.parametrize("name", ["x.bvh", "x.glb", "x.usd", "x.fbx"])
def test_joints_in_blender_are_where_they_were(tmp_path: Path, name: str) -> None:
    motion = walking(1, count=COUNT)
    path = write(tmp_path / name, motion)
    command = [os.environ["BLENDER_PYTHON"], str(SCRIPT), str(path), str(COUNT), str(FPS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "JOINTS " in done.stdout, done.stdout[-500:] + done.stderr[-1500:]
    found = json.loads(done.stdout.partition("JOINTS ")[2].splitlines()[0])
    order = [found["names"].index(name) for name in JOINT_NAMES]
    armature = next(value for key, value in found.items() if key not in ("names", "meshes"))
    got = np.array(armature)[:, order]
    np.testing.assert_allclose(got, z_up(motion.joints_world_m), atol=NEAR_M)
    if path.suffix != ".bvh":
        posed = (
            open_body()
            .shaped(motion.betas)
            .posed(motion.Rs_world_joint[-1, 0], motion.t_world_root_m[-1], motion.Rs_parent_joint[-1, 1:])
        )
        mesh = z_up(posed.mesh())
        np.testing.assert_allclose(found["meshes"][0], [mesh.min(axis=0), mesh.max(axis=0)], atol=NEAR_M)
