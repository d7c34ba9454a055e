"""docs/clients/*.cs by mono: Subscriber.cs whole, the Unity component against stubs of UnityEngine that calculate as
Unity does (Unity itself has no test here). Not in the default run; to run it:

apt install mono-mcs mono-runtime, put NetMQ.dll, AsyncIO.dll and Newtonsoft.Json.dll (NuGet: NetMQ, Newtonsoft.Json)
into a folder, NETMQ=FOLDER python -m pytest -m external tests/test_client_unity.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from bridges import axes
from pipeline import frames
from pipeline.body import ShapedBody, open_body
from pipeline.frames import Array
from pipeline.types import JOINT_PARENTS
from tests.support import bridge_stream
from tests.support.bridge_stream import BridgeStream
from tests.support.vmc_receiver import product, turned

ROOT = Path(__file__).parents[1]
LIBRARIES = ("NetMQ.dll", "AsyncIO.dll", "Newtonsoft.Json.dll")
NAMES = (
    "Hips", "LeftUpperLeg", "RightUpperLeg", "Spine", "LeftLowerLeg", "RightLowerLeg", "Chest", "LeftFoot", "RightFoot",
    "UpperChest", "LeftToes", "RightToes", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftUpperArm",
    "RightUpperArm", "LeftLowerArm", "RightLowerArm", "LeftHand", "RightHand",
)  # fmt: skip
#: `pose_json` has five decimals, Unity has single precision.
THIRD_MM = 3e-4

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        not (os.environ.get("NETMQ") and shutil.which("mcs")),
        reason="NETMQ (a folder with NetMQ.dll) is not set or mono's mcs is not installed",
    ),
]


def compiled(folder: Path, *sources: str) -> Path:
    """The program that mono's compiler makes of `sources`, without a warning."""
    for name in LIBRARIES:
        shutil.copy(Path(os.environ["NETMQ"]) / name, folder)
    out = folder / "program.exe"
    references = [f"-r:{folder / name}" for name in LIBRARIES]
    files = [str(ROOT / source) for source in sources]
    command = ["mcs", "-warnaserror", "-nowarn:649,108", "-define:UNITY_EDITOR", f"-out:{out}", *references, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def output(program: Path, stream: BridgeStream, *arguments: str) -> str:
    """What the program prints of a stream of one walker who stands still."""
    with subprocess.Popen(["mono", str(program), stream.address, *arguments], stdout=PIPE, text=True) as running:
        try:
            stream.wait_for("pose_json")
            stream.play([bridge_stream.pose(17, kind="pose_json")], every_s=0.05)
            out, _ = running.communicate(timeout=60)
        finally:
            stream.end_play()
            running.kill()
    assert running.returncode == 0
    return out


def at_rest(avatar: ShapedBody) -> list[dict[str, object]]:
    """The avatar's T-pose in Unity's axes, every bone with axes of its own, as parents' transforms."""
    points = axes.unity_points(np.add(avatar.joints_rest[:22], [0, 0.9, 0]))
    own = frames.quat_xyzw(frames.exp_so3(np.random.default_rng(6).normal(0, 1, (22, 3))))
    inverse = own * [-1, -1, -1, 1]
    found: list[dict[str, object]] = []
    for i, name in enumerate(NAMES):
        up = JOINT_PARENTS[i]
        rotation = own[i] if i == 0 else product(inverse[up], own[i])
        position = points[i] if i == 0 else turned(inverse[up], points[i] - points[up])
        found.append({"name": name, "parent": up, "rotation": list(rotation), "position": list(position)})
    return found


def leg(joints: Array) -> float:
    return float(np.linalg.norm(joints[1] - joints[4]) + np.linalg.norm(joints[4] - joints[7]))


def test_the_unity_component_poses_an_avatar_of_other_proportions(tmp_path: Path) -> None:
    program = compiled(tmp_path, "docs/clients/MocapReceiver.cs", "tests/support/UnityStubs.cs")
    avatar = open_body().shaped(np.random.default_rng(5).normal(0, 1, 10))
    (tmp_path / "bones.json").write_text(json.dumps(at_rest(avatar), default=float))
    world = bridge_stream.walk(17).people[0].world
    scales = {"false": 1.0, "true": leg(avatar.joints_rest) / leg(world.joints_world_m)}
    for fit_legs, scale in scales.items():
        with BridgeStream() as stream:
            lines = output(program, stream, str(tmp_path / "bones.json"), fit_legs).splitlines()
        found = np.array([[float(v) for v in line.split()] for line in lines])
        posed = avatar.posed(world.R_world_root, scale * world.t_world_root, world.Rs_parent_joint)
        np.testing.assert_allclose(found, axes.unity_points(posed.joints[:22]), atol=THIRD_MM)


def test_the_plain_program_prints_where_people_are(tmp_path: Path) -> None:
    program = compiled(tmp_path, "docs/clients/Subscriber.cs")
    with BridgeStream() as stream:
        lines = output(program, stream, "2").splitlines()
    x, y, z = bridge_stream.walk(17).people[0].world.t_world_root
    assert len(lines) == 2
    assert lines[0].startswith("frame 17 person 1 at ")
    printed = [float(v) for v in lines[0].partition(" at ")[2].partition(" turned ")[0].split()]
    np.testing.assert_allclose(printed, [-x, y, z], atol=1e-4)
