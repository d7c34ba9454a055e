"""The body: its skeleton, its shape space, its skin, numpy against torch, and a user's own SMPL file."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipeline.body import BodyModel, ShapedBody, open_body
from pipeline.frames import Array, exp_so3
from pipeline.types import JOINT, JOINT_NAMES, JOINT_PARENTS, LANDMARK

SHARED = Path(os.environ.get("WHMR_SHARED", str(Path(__file__).parents[2] / "shared")))
TREE = [(j, p) for j, p in enumerate(JOINT_PARENTS) if p >= 0]


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return BodyModel.load()


def random_pose(seed: int, batch: tuple[int, ...] = ()) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    turns = 0.6 * rng.normal(size=(*batch, 23, 3))
    return exp_so3(2.0 * rng.normal(size=(*batch, 3))), rng.normal(size=(*batch, 3)), exp_so3(turns)


def naive_joints(shaped: ShapedBody, R: Array, t: Array, Rs: Array) -> tuple[Array, Array]:
    """Forward kinematics with homogeneous matrices, joint by joint."""
    T = [np.eye(4) for _ in range(24)]
    T[0][:3, :3], T[0][:3, 3] = R, t
    for j, p in TREE:
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = Rs[j - 1], shaped.joints_rest[j] - shaped.joints_rest[p]
        T[j] = T[p] @ local
    stack = np.stack(T)
    return stack[:, :3, 3], stack[:, :3, :3]


def test_kinematics_equal_a_chain_of_homogeneous_matrices(model: BodyModel) -> None:
    shaped = model.shaped(np.random.default_rng(0).normal(size=10))
    R, t, Rs = random_pose(1)
    posed = shaped.posed(R, t, Rs)
    joints, turns = naive_joints(shaped, R, t, Rs)
    np.testing.assert_allclose(posed.joints, joints, atol=1e-12)
    np.testing.assert_allclose(posed.Rs_frame_joint, turns, atol=1e-12)
    np.testing.assert_allclose(posed.joints[0], t, atol=1e-15)


def test_bone_lengths_survive_every_pose(model: BodyModel) -> None:
    shaped = model.shaped(np.random.default_rng(2).normal(size=10))
    joints = shaped.posed(*random_pose(3)).joints
    lengths = [np.linalg.norm(joints[j] - joints[p]) for j, p in TREE]
    np.testing.assert_allclose(lengths, shaped.bone_lengths, atol=1e-12)


def test_batches_broadcast_and_equal_single_bodies(model: BodyModel) -> None:
    betas = np.random.default_rng(4).normal(size=(5, 10))
    R, t, Rs = random_pose(5, (5,))
    many = model.shaped(betas).posed(R, t, Rs)
    one_shape = model.shaped(betas[0]).posed(R, t[0], Rs)
    for k in range(5):
        one = model.shaped(betas[k]).posed(R[k], t[k], Rs[k])
        np.testing.assert_allclose(many.joints[k], one.joints, atol=1e-12)
        np.testing.assert_allclose(many.landmarks[k], one.landmarks, atol=1e-12)
        np.testing.assert_allclose(many.mesh()[k], one.mesh(), atol=1e-12)
        np.testing.assert_allclose(
            one_shape.joints[k] - t[0], model.shaped(betas[0]).posed(R[k], 0 * t[0], Rs[k]).joints
        )


def test_torch_gives_the_same_numbers_and_gradients(model: BodyModel) -> None:
    torch = pytest.importorskip("torch")
    betas = np.random.default_rng(6).normal(size=10)
    R, t, Rs = random_pose(7)
    posed = model.shaped(betas).posed(R, t, Rs)
    b = torch.tensor(betas, requires_grad=True)
    tensors = [torch.tensor(v, requires_grad=True) for v in (R, t, Rs)]
    other = model.shaped(b).posed(*tensors)
    np.testing.assert_allclose(other.joints.detach().numpy(), posed.joints, atol=1e-12)
    np.testing.assert_allclose(other.landmarks.detach().numpy(), posed.landmarks, atol=1e-12)
    np.testing.assert_allclose(other.mesh().detach().numpy(), posed.mesh(), atol=1e-12)
    other.landmarks[15, 1].backward()
    step = np.zeros(10)
    step[3] = 1e-5
    up, down = (model.shaped(betas + s).posed(R, t, Rs).landmarks[15, 1] for s in (step, -step))
    assert float(b.grad[3]) == pytest.approx((up - down) / 2e-5, rel=1e-6)
    assert all(v.grad is not None and torch.isfinite(v.grad).all() for v in tensors)


def test_mixed_kinds_and_wrong_shapes_are_sentences(model: BodyModel) -> None:
    torch = pytest.importorskip("torch")
    R, t, Rs = random_pose(8)
    with pytest.raises(ValueError, match=r"betas: expected shape \(\.\.\., 10\), got \(9,\)"):
        model.shaped(np.zeros(9))
    with pytest.raises(ValueError, match="Rs_parent_joint: expected shape"):
        model.shaped(np.zeros(10)).posed(R, t, Rs[:22])
    with pytest.raises(ValueError, match="all numpy or all torch"):
        model.shaped(np.zeros(10)).posed(torch.tensor(R), t, Rs)


def test_rest_is_smpls_t_pose(model: BodyModel) -> None:
    shaped = model.shaped(np.zeros(10))
    J, L = shaped.joints_rest, shaped.landmarks_rest
    for name, side in (("left", 1.0), ("right", -1.0)):
        arm = J[[JOINT[f"{name}_{p}"] for p in ("shoulder", "elbow", "wrist", "hand")]]
        assert np.ptp(arm[:, 1]) < 1e-3
        assert np.ptp(arm[:, 2]) < 1e-3
        assert (np.diff(side * arm[:, 0]) > 0.05).all()
        hip, ankle = J[[JOINT[f"{name}_{p}"] for p in ("hip", "ankle")]]
        assert np.degrees(np.arccos((hip - ankle)[1] / np.linalg.norm(hip - ankle))) < 5
        assert side * L[LANDMARK[f"{name}_ear"], 0] > 0.03
        assert L[LANDMARK[f"{name}_foot_index"], 2] > L[LANDMARK[f"{name}_heel"], 2] + 0.15
        assert L[LANDMARK[f"{name}_index"], 2] > L[LANDMARK[f"{name}_pinky"], 2], "palms face down, thumbs forward"
        assert L[LANDMARK[f"{name}_thumb"], 2] > L[LANDMARK[f"{name}_index"], 2]
    heights = J[
        [JOINT[n] for n in ("left_foot", "left_ankle", "left_knee", "left_hip", "pelvis", "spine1", "spine2")], 1
    ]
    assert (np.diff(heights) > 0).all()
    assert L[LANDMARK["nose"], 2] > J[JOINT["head"], 2] + 0.05
    np.testing.assert_allclose(J[0], 0.0, atol=1e-12)


def test_body_is_symmetric(model: BodyModel) -> None:
    J = model.shaped(np.zeros(10)).joints_rest
    mirror = [
        JOINT_NAMES.index(n.replace("left", "RIGHT").replace("right", "left").replace("RIGHT", "right"))
        for n in JOINT_NAMES
    ]
    np.testing.assert_allclose(J[mirror] * [-1, 1, 1], J, atol=2e-3)


@pytest.mark.parametrize("height", [0.5, 1.1, 1.52, 1.7, 1.93, 2.5])
def test_height_is_met_by_the_first_component_alone(model: BodyModel, height: float) -> None:
    wanted = np.random.default_rng(9).normal(size=10)
    betas = model.betas_for_height(height, wanted)
    shaped = model.shaped(betas)
    np.testing.assert_array_equal(betas[1:], wanted[1:])
    assert float(shaped.height_m) == pytest.approx(height, abs=1e-9)
    plain = model.shaped(model.betas_for_height(height))
    assert np.ptp(plain.vertices_rest[:, 1]) == pytest.approx(height, abs=0.01)
    assert plain.bone_lengths.min() > 0.02


def test_stature_is_the_first_component_and_no_other(model: BodyModel) -> None:
    assert model.stature_dirs[0] > 0.1
    assert np.abs(model.stature_dirs[1:]).max() < 1e-3
    for height in (0.4, 2.6, np.nan):
        with pytest.raises(ValueError, match=r"expected 0\.5 to 2\.5 metres"):
            model.betas_for_height(height)


def test_skin_follows_the_bones(model: BodyModel) -> None:
    shaped = model.shaped(np.zeros(10))
    np.testing.assert_allclose(model.weights.sum(1), 1.0, atol=1e-12)
    assert (np.count_nonzero(model.weights, axis=1) <= 4).all()
    np.testing.assert_allclose(
        shaped.posed(np.eye(3), np.zeros(3), np.tile(np.eye(3), (23, 1, 1))).mesh(), shaped.vertices_rest
    )
    R, t, Rs = random_pose(10)
    posed = shaped.posed(R, t, Rs)
    V = posed.mesh()
    for j in (JOINT["head"], JOINT["left_knee"], JOINT["right_wrist"]):
        rigid = model.weights[:, j] == 1.0
        assert rigid.sum() > 30
        want = (shaped.vertices_rest[rigid] - shaped.joints_rest[j]) @ posed.Rs_frame_joint[j].T + posed.joints[j]
        np.testing.assert_allclose(V[rigid], want, atol=1e-12)


def test_surface_is_closed_enough_and_faces_outward(model: BodyModel) -> None:
    V = model.shaped(np.zeros(10)).vertices_rest
    a, b, c = (V[model.faces[:, k]] for k in range(3))
    volume = np.sum(a * np.cross(b, c)) / 6.0
    assert 0.04 < volume < 0.12, "litres of an adult"
    assert model.faces.max() == len(V) - 1
    assert len(V) <= 14_000


def test_landmarks_lie_on_or_in_the_body(model: BodyModel) -> None:
    posed = model.shaped(np.random.default_rng(11).normal(size=10) * 0.5).posed(*random_pose(12))
    V = posed.mesh()
    nearest = np.sqrt(((posed.landmarks[:, None] - V[None]) ** 2).sum(-1).min(1))
    assert nearest.max() < 0.09
    assert model.landmark_joint.shape == (33,)


def test_file_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "body.npz"
    text.write_text("hello")
    with pytest.raises(ValueError, match="expected a body file made by"):
        BodyModel.load(text)
    np.savez(text, format=99, joint_names=np.array(["a"]))
    with pytest.raises(ValueError, match="expected body format 1"):
        BodyModel.load(text)
    with pytest.raises(FileNotFoundError):
        BodyModel.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match='expected "default" or "smpl=FILE"'):
        open_body("mannequin")


@pytest.fixture(scope="module")
def synthetic() -> ModuleType:
    script = SHARED / "whmr" / "synthetic_body.py"
    if not script.is_file():
        pytest.skip("no synthetic SMPL-format body beside the repository")
    spec = importlib.util.spec_from_file_location("synthetic_body", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def smpl_file(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(synthetic.write_all(str(tmp_path_factory.mktemp("smpl")))["SMPL_NEUTRAL.pkl"])


def test_a_users_smpl_file_equals_smplx(smpl_file: Path) -> None:
    smplx, torch = pytest.importorskip("smplx"), pytest.importorskip("torch")
    body = open_body(f"smpl={smpl_file}")
    betas = np.random.default_rng(13).normal(size=10)
    R, transl, Rs = random_pose(14)
    reference = smplx.SMPLLayer(str(smpl_file))
    with torch.no_grad():
        out = reference(
            betas=torch.tensor(betas[None], dtype=torch.float32),
            global_orient=torch.tensor(R[None, None], dtype=torch.float32),
            body_pose=torch.tensor(Rs[None], dtype=torch.float32),
            transl=torch.tensor(transl[None], dtype=torch.float32),
        )
    shaped = body.shaped(betas)
    posed = shaped.posed(R, transl + shaped.joints_rest[0], Rs)
    np.testing.assert_allclose(posed.joints, out.joints[0, :24].numpy(), atol=2e-5)
    np.testing.assert_allclose(posed.mesh(), out.vertices[0].numpy(), atol=2e-5)
    assert float(body.shaped(body.betas_for_height(1.8)).height_m) == pytest.approx(1.8)
    assert posed.landmarks.shape == (33, 3)


def test_an_smpl_npz_is_read_and_others_are_refused(smpl_file: Path, tmp_path: Path) -> None:
    with smpl_file.open("rb") as handle:
        data = pickle.load(handle)
    data["J_regressor"] = np.asarray(data["J_regressor"].todense())
    np.savez(tmp_path / "model.npz", **data)
    a, b = open_body(f"smpl={tmp_path / 'model.npz'}"), open_body(f"smpl={smpl_file}")
    np.testing.assert_allclose(a.joints, b.joints, atol=1e-6)
    del data["posedirs"]
    np.savez(tmp_path / "part.npz", **data)
    with pytest.raises(ValueError, match="posedirs missing"):
        open_body(f"smpl={tmp_path / 'part.npz'}")
    (tmp_path / "text.pkl").write_text("not a model")
    with pytest.raises(ValueError, match="expected an SMPL model"):
        open_body(f"smpl={tmp_path / 'text.pkl'}")
    with pytest.raises(FileNotFoundError):
        open_body(f"smpl={tmp_path / 'absent.pkl'}")


def test_baking_again_gives_the_same_arrays() -> None:
    """Skin, faces and landmarks' joints as in the committed file; a small shape space twice the same."""
    paths = pytest.importorskip("anny.paths")
    if not any(Path(paths.get_anny_cache_path()).rglob("*.safetensors")):
        pytest.skip("Anny has not been constructed on this machine (it takes minutes and 0.8 GB)")
    from pipeline.body import DEFAULT_FILE
    from training.bake_body import bake

    one, two = bake(16), bake(16)
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)
    with np.load(DEFAULT_FILE) as committed:
        assert set(committed.files) == set(one)
        for name in ("faces", "weights", "weight_joints", "landmark_joint", "credit", "format", "joint_names"):
            np.testing.assert_array_equal(committed[name], one[name], err_msg=name)
        assert np.abs(committed["joints"] - one["joints"]).max() < 0.06
    assert DEFAULT_FILE.stat().st_size <= 3_000_000
