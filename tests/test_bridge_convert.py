"""What `python -m bridges.convert` writes, read back by other people's readers: joints, axes, handedness, units."""

from __future__ import annotations

import csv
import dataclasses
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bridges.formats.bvh import euler_zxy_deg
from bridges.formats.skin import skin
from bridges.motion import Motion, Scene
from engines.whmr.synthetic_body import write_all
from pipeline import frames
from pipeline.body import open_body
from pipeline.types import JOINT, JOINT_NAMES
from tests.support.bridge_stream import walker
from tests.support.converted import Glb, bvh_joints, c3d_points, chain, usd_joints

FPS = 30
COUNT = 20
#: A hundredth of a millimetre, a thousandth of a degree.
NEAR_M = 1e-5
NEAR_RAD = math.radians(1e-3)
#: Where somebody stands in the golden tests: beside the camera's axis, three metres away.
PLACE = np.array([1.0, 0.9, -3.0])


def walking(track_id: int = 1, first: int = 0, count: int = COUNT) -> Motion:
    """A walker as the recording has it."""
    people = [walker((first + frame) / FPS, track_id).world for frame in range(count)]
    shaped = open_body().shaped(people[0].betas)
    quats = [frames.quat_xyzw(np.concatenate([p.R_world_root[None], p.Rs_parent_joint])) for p in people]
    offsets = np.concatenate([np.zeros((1, 3)), shaped.offsets])
    return Motion(
        "cam", track_id, (first + np.arange(count)) / FPS, np.array([p.t_world_root for p in people]),
        np.array(quats), np.ones((count, 24)), offsets, people[0].betas,
    )  # fmt: skip


def standing(count: int = 2) -> Motion:
    """The T-pose at PLACE, facing the camera: left hand at +x, head at +y, toes at +z of the ankles."""
    quats = np.tile([0.0, 0.0, 0.0, 1.0], (count, 24, 1))
    offsets = np.concatenate([np.zeros((1, 3)), open_body().shaped(np.zeros(10)).offsets])
    return Motion(
        "cam", 1, np.arange(count) / FPS, np.tile(PLACE, (count, 1)), quats, np.ones((count, 24)), offsets, np.zeros(10)
    )


def write(path: Path, *people: Motion | tuple[Motion, ...], up: str = "y", body: str = "default") -> Path:
    from bridges.formats import FORMATS

    takes = tuple(p if isinstance(p, tuple) else (p,) for p in people)
    FORMATS[path.suffix].write(path, Scene(takes, FPS, up, body))
    return path


def z_up(points: np.ndarray) -> np.ndarray:
    """(x, y, z) -> (x, -z, y), the sentence of the documentation."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)


def assert_stands(joints: np.ndarray, pelvis: list[float], left: str, up: str, forward: str, metre: float) -> None:
    """Joints (24, 3) of `standing` in a file where left, up and forward are "+x" or the like and a metre is `metre`."""
    np.testing.assert_allclose(joints[0], pelvis, atol=NEAR_M * metre)
    rest = standing().joints_rest_m
    for name, sign_axis, ours in (("left_hand", left, 0), ("head", up, 1), ("left_foot", forward, 2)):
        base = "left_ankle" if name == "left_foot" else "pelvis"
        way = joints[JOINT[name]] - joints[JOINT[base]]
        want = (rest[JOINT[name]] - rest[JOINT[base]])[ours] * metre
        assert want > 0.05 * metre
        sign = 1 if sign_axis[0] == "+" else -1
        assert way["xyz".index(sign_axis[1])] * sign == pytest.approx(want, abs=NEAR_M * metre)


def test_bvh_is_read_back_by_bvhio(tmp_path: Path) -> None:
    motion = walking()
    joints, turns, frame_time = bvh_joints(write(tmp_path / "x.bvh", motion))
    np.testing.assert_allclose(joints / 100, motion.joints_world_m, atol=NEAR_M)
    assert frames.angle_between(turns, motion.Rs_world_joint).max() < NEAR_RAD
    assert frame_time == pytest.approx(1 / FPS, abs=1e-9)


def test_bvh_is_y_up_facing_z_in_centimetres(tmp_path: Path) -> None:
    path = write(tmp_path / "x.bvh", standing())
    assert_stands(bvh_joints(path)[0][1], [100.0, 90.0, -300.0], "+x", "+y", "+z", 100)
    text = path.read_text()
    assert text.startswith("HIERARCHY\nROOT pelvis\n{\n\tOFFSET 0.000000 0.000000 0.000000\n")
    assert "\tCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n" in text
    assert text.count("CHANNELS 3 Zrotation Xrotation Yrotation") == 23
    values = [float(v) for v in text.splitlines()[-1].split()]
    assert values == [100.0, 90.0, -300.0] + [0.0] * 72


def test_bvh_angles_are_z_then_x_then_y_and_continue() -> None:
    angles = np.radians(np.stack([np.linspace(-400, 500, 91), np.linspace(0, 170, 91), np.linspace(10, 200, 91)], 1))
    z, x, y = (Rotation.from_euler(axis, angles[:, [i]]).as_matrix() for i, axis in enumerate("zxy"))
    Rs = (z @ x @ y)[:, None]
    found = euler_zxy_deg(Rs)[:, 0]
    again = Rotation.from_euler("ZXY", found, degrees=True).as_matrix()
    assert frames.angle_between(again, Rs[:, 0]).max() < 1e-9
    np.testing.assert_allclose(np.diff(found, axis=0), np.diff(np.degrees(angles), axis=0), atol=1e-6)


def test_glb_is_read_back_by_pygltflib(tmp_path: Path) -> None:
    people = walking(1), walking(2)
    glb = Glb(write(tmp_path / "x.glb", *people))
    for skin_index, motion in enumerate(people):
        times, joints, turns = glb.joints(skin_index)
        np.testing.assert_allclose(times, motion.times_s, atol=1e-6)
        np.testing.assert_allclose(joints, motion.joints_world_m, atol=NEAR_M)
        assert frames.angle_between(turns, motion.Rs_world_joint).max() < NEAR_RAD
    assert [node.name for node in glb.nodes if node.mesh is not None] == ["person1_body", "person2_body"]


def test_glb_shows_the_body_of_the_stream(tmp_path: Path) -> None:
    motion = walking(2)
    surface = Glb(write(tmp_path / "x.glb", motion)).surface(0, 7)
    shaped = open_body().shaped(motion.betas)
    want = shaped.posed(motion.Rs_world_joint[7, 0], motion.t_world_root_m[7], motion.Rs_parent_joint[7, 1:]).mesh()
    np.testing.assert_allclose(surface, want, atol=NEAR_M)


def test_glb_is_y_up_facing_z_in_metres(tmp_path: Path) -> None:
    glb = Glb(write(tmp_path / "x.glb", standing()))
    assert_stands(glb.joints(0)[1][1], [1.0, 0.9, -3.0], "+x", "+y", "+z", 1)
    surface = glb.surface(0, 0)
    nose = surface[surface[:, 1] > np.quantile(surface[:, 1], 0.9)][:, 2]
    assert nose.max() - PLACE[2] > PLACE[2] - nose.min()


def test_glb_hides_who_is_not_there(tmp_path: Path) -> None:
    whole, late = walking(1), (walking(2, 4, 3), walking(2, 12, 3))
    glb = Glb(write(tmp_path / "x.glb", whole, late))
    assert ("pelvis", "scale") not in glb.tracks(0)
    times, scales = glb.tracks(1)["pelvis", "scale"]
    np.testing.assert_allclose(times * FPS, [0, 4, 7, 12, 15], atol=1e-4)
    assert scales.tolist() == [[0] * 3, [1] * 3, [0] * 3, [1] * 3, [0] * 3]


def why_no_validator() -> str:
    """Why Khronos' validator cannot run, or an empty string."""
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    done = subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True, check=False)
    return "npm install gltf-validator, and NODE_PATH=its node_modules" if done.returncode else ""


@pytest.mark.skipif(bool(why_no_validator()), reason=why_no_validator() or "there")
def test_glb_is_clean_for_khronos_validator(tmp_path: Path) -> None:
    path = write(tmp_path / "x.glb", walking(1), (walking(2, 4, 3), walking(2, 12, 3)))
    code = """
const validator = require('gltf-validator'), data = require('fs').readFileSync(process.argv[1]);
validator.validateBytes(new Uint8Array(data)).then(r => {
  console.log(r.info.totalVertexCount, JSON.stringify(r.issues.messages)); process.exit(0)});
"""
    done = subprocess.run(["node", "-e", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2 * len(open_body().vertices)), "[]"]


def test_a_foreign_skeleton_gets_a_skin_that_fits() -> None:
    motion = walking()
    rng = np.random.default_rng(5)
    offsets = motion.offsets_m * 1.07 + rng.normal(0, 0.01, (24, 3))
    offsets[0] = 0
    other = dataclasses.replace(motion, offsets_m=offsets)
    body = skin(open_body(), other)
    # what hangs on one joint alone keeps its place beside it, whatever the betas
    alone = body.weights[:, 0] > 0.999
    own = open_body().shaped(np.zeros(10))
    near = own.vertices_rest - own.joints_rest[body.joints[:, 0]]
    beside = body.vertices_m - other.joints_rest_m[body.joints[:, 0]]
    assert alone.sum() > 1000
    assert np.abs(beside - near)[alone].max() < 0.08
    np.testing.assert_allclose(body.weights.sum(axis=1), 1, atol=1e-12)
    outside = np.einsum("vk,vk->v", body.normals, body.vertices_m - body.vertices_m.mean(axis=0))
    assert (outside > 0).mean() > 0.6


def amass_joints(path: Path) -> np.ndarray:
    """Joints (T, 22, 3) as SMPL's forward kinematics gives them, pelvis at trans: with zero J0."""
    data = np.load(path)
    poses = data["poses"].reshape(len(data["poses"]), 52, 3)[:, :24]
    places = np.tile(data["joint_offsets_m"], (len(poses), 1, 1))
    places[:, 0] = data["trans"]
    quats = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(len(poses), 24, 4)
    return chain(places, quats)[0][:, :22]


def test_amass_has_what_its_loaders_want(tmp_path: Path) -> None:
    motion = walking()
    path = write(tmp_path / "x.npz", motion, up="z")
    with np.load(path, allow_pickle=False) as data:
        shapes = {name: data[name].shape for name in ("poses", "trans", "betas", "dmpls")}
        assert shapes == {"poses": (COUNT, 156), "trans": (COUNT, 3), "betas": (16,), "dmpls": (COUNT, 8)}
        assert str(data["gender"]) == "neutral"
        assert data["mocap_framerate"].dtype.kind == "i"
        assert int(data["mocap_framerate"]) == FPS
        assert not data["poses"][:, 66:].any()
    np.testing.assert_allclose(amass_joints(path), z_up(motion.joints_world_m)[:, :22], atol=NEAR_M)


@pytest.fixture(scope="module")
def smpl_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("smplx")
    return Path(write_all(str(tmp_path_factory.mktemp("smpl")))["SMPL_NEUTRAL.pkl"])


@pytest.mark.parametrize("own", [True, False], ids=["the stream's model", "another model"])
def test_amass_in_smplx_stands_where_the_stream_saw_it(tmp_path: Path, smpl_file: Path, own: bool) -> None:
    import smplx
    import torch

    motion = walking()
    if own:
        betas = np.random.default_rng(4).normal(0, 0.7, 10)
        offsets = np.concatenate([np.zeros((1, 3)), open_body(f"smpl={smpl_file}").shaped(betas).offsets])
        motion = dataclasses.replace(motion, betas=betas, offsets_m=offsets)
    data = np.load(write(tmp_path / "x.npz", motion, up="z", body=f"smpl={smpl_file}"))
    turns = Rotation.from_rotvec(data["poses"][:, :72].reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    turns, trans, shape = (torch.tensor(v, dtype=torch.float32) for v in (turns, data["trans"], data["betas"][:10]))
    with torch.no_grad():
        out = smplx.SMPLLayer(str(smpl_file))(
            betas=shape.expand(COUNT, 10), global_orient=turns[:, :1], body_pose=turns[:, 1:], transl=trans
        )
    joints, want = out.joints[:, :22].numpy(), z_up(motion.joints_world_m)[:, :22]
    np.testing.assert_allclose(joints[:, 0], want[:, 0], atol=NEAR_M)
    # another body's bones are met as far as the model's shapes go
    np.testing.assert_allclose(joints, want, atol=2 * NEAR_M if own else 0.2)


def test_amass_is_z_up_facing_minus_y_in_metres(tmp_path: Path) -> None:
    path = write(tmp_path / "x.npz", standing(), up="z")
    np.testing.assert_allclose(np.load(path)["poses"][0, :3], [np.pi / 2, 0, 0], atol=1e-9)
    np.testing.assert_allclose(np.load(path)["trans"][0], [1.0, 3.0, 0.9], atol=1e-9)
    assert_stands(np.load(path)["joints_m"][0], [1.0, 3.0, 0.9], "+x", "+z", "-y", 1)


def test_amass_has_no_rate_that_is_no_whole_number(tmp_path: Path) -> None:
    from bridges.formats import amass

    with pytest.raises(ValueError, match="whole number"):
        amass.write(tmp_path / "x.npz", Scene(((standing(),),), 29.97, "z"))


@pytest.mark.parametrize("name", ["x.usd", "x.usda", "x.usdc"])
def test_usd_is_read_back_by_usdskel(tmp_path: Path, name: str) -> None:
    people = walking(1), walking(2)
    path = write(tmp_path / name, *people)
    for motion in people:
        joints, turns, stage = usd_joints(path, f"person{motion.person_id}")
        np.testing.assert_allclose(joints, motion.joints_world_m, atol=NEAR_M)
        assert frames.angle_between(turns, motion.Rs_parent_joint).max() < NEAR_RAD
        assert stage.GetTimeCodesPerSecond() == FPS


@pytest.mark.parametrize("up", ["y", "z"])
def test_usd_axes_and_units(tmp_path: Path, up: str) -> None:
    from pxr import UsdGeom

    joints, _, stage = usd_joints(write(tmp_path / "x.usd", standing(), up=up), "person1")
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert UsdGeom.GetStageUpAxis(stage) == up.upper()
    if up == "y":
        assert_stands(joints[0], [1.0, 0.9, -3.0], "+x", "+y", "+z", 1)
    else:
        assert_stands(joints[0], [1.0, 3.0, 0.9], "+x", "+z", "-y", 1)


def test_usd_is_clean_for_every_validator(tmp_path: Path) -> None:
    from pxr import Usd, UsdValidation

    path = write(tmp_path / "x.usd", walking(1), (walking(2, 4, 3), walking(2, 12, 3)))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 20
    stage = Usd.Stage.Open(str(path))
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [error.GetMessage() for error in errors] == []


def test_usd_hides_who_is_not_there(tmp_path: Path) -> None:
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(str(write(tmp_path / "x.usd", walking(1), (walking(2, 4, 3), walking(2, 12, 3)))))
    body = UsdGeom.Imageable(stage.GetPrimAtPath("/World/person2/Body"))
    seen = [frame for frame in range(COUNT) if body.ComputeVisibility(frame) != UsdGeom.Tokens.invisible]
    assert seen == [4, 5, 6, 12, 13, 14]


def test_c3d_is_read_back_by_ezc3d(tmp_path: Path) -> None:
    people = walking(1), (walking(2, 4, 3),)
    labels, points, file = c3d_points(write(tmp_path / "x.c3d", *people, up="z"))
    assert labels[:2] == ["person1_pelvis", "person1_left_hip"]
    assert labels[24:] == [f"person2_{name}" for name in JOINT_NAMES]
    np.testing.assert_allclose(points[:, :24] / 1000, z_up(people[0].joints_world_m), atol=NEAR_M)
    assert file["parameters"]["POINT"]["RATE"]["value"][0] == FPS
    there = ~np.isnan(points[:, 24:]).any(axis=(1, 2))
    assert np.flatnonzero(there).tolist() == [4, 5, 6]
    assert (file["data"]["meta_points"]["residuals"][0, 24:, ~there] == -1).all()


def test_c3d_axes_and_units(tmp_path: Path) -> None:
    labels, points, file = c3d_points(write(tmp_path / "z.c3d", standing(), up="z"))
    assert labels == list(JOINT_NAMES)
    assert file["parameters"]["POINT"]["UNITS"]["value"] == ["mm"]
    assert file["parameters"]["POINT"]["Y_SCREEN"]["value"] == ["+Z"]
    assert_stands(points[0], [1000.0, 3000.0, 900.0], "+x", "+z", "-y", 1000)
    _, points, file = c3d_points(write(tmp_path / "y.c3d", standing(), up="y"))
    assert file["parameters"]["POINT"]["Y_SCREEN"]["value"] == ["+Y"]
    assert_stands(points[0], [1000.0, 900.0, -3000.0], "+x", "+y", "+z", 1000)


def test_csv_names_every_column(tmp_path: Path) -> None:
    motion = walking()
    with open(write(tmp_path / "x.csv", motion), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == COUNT
    assert len(rows[0]) == 2 + 24 * 8
    for name in ("pelvis", "left_wrist"):
        got = [float(rows[9][f"{name}_{axis}_m"]) for axis in "xyz"]
        np.testing.assert_allclose(got, motion.joints_world_m[9, JOINT[name]], atol=NEAR_M)
        quat = [float(rows[9][f"{name}_q{axis}"]) for axis in "xyzw"]
        np.testing.assert_allclose(quat, motion.quats_xyzw[9, JOINT[name]], atol=1e-6)
    assert float(rows[9]["time_s"]) == pytest.approx(0.3)
    assert rows[9]["frame"] == "9"


def test_csv_of_several_people_and_z_up(tmp_path: Path) -> None:
    with open(write(tmp_path / "x.csv", standing(), (walking(2, 1, 1),), up="z"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(rows[0][f"person1_pelvis_{axis}_m"]) for axis in "xyz"] == [1.0, 3.0, 0.9]
    assert float(rows[0]["person1_pelvis_qx"]) == pytest.approx(math.sqrt(0.5), abs=1e-6)
    assert rows[0]["person2_pelvis_x_m"] == ""
    assert rows[1]["person2_pelvis_x_m"] != ""
