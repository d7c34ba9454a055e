"""The measurement of landmarks on people whose errors are known, and the poses that are rendered for it."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.frames import exp_so3, normalize, shortest_rotation
from pipeline.types import JOINT, JOINT_NAMES, JOINT_PARENTS
from training.anny_rig import LANDMARK_JOINTS
from training.landmark_depth import TRUST, features, fit_depth_map
from training.landmark_fit import GROUPS, MIRROR, OTHER, Looks, depth_law, fit_points, perspective_law
from training.landmark_focal import rigid_focal
from training.random_poses import KINDS, CmuPoses, mirrored, procedural

ASSUMED, SHARE, DEPTH = 0.22, 0.15, 0.6
FOCAL, SIDE = 600.0, 640


def offsets() -> np.ndarray:
    shifts = np.random.default_rng(4).uniform(-0.01, 0.01, (33, 3))
    shifts[np.arange(33) == OTHER, 0] = 0.0
    mirror = np.where((np.arange(33) < OTHER)[:, None], shifts, shifts[OTHER] * MIRROR)
    return np.where((np.arange(33) == OTHER)[:, None], shifts, mirror)


@pytest.fixture(scope="module")
def looks() -> Looks:
    """A network with known laws looks at 150 bodies, its landmarks off by `offsets`; pixels exact."""
    rng, n = np.random.default_rng(1), 150
    body = BodyModel.load()
    poses = [procedural(rng) for _ in range(n)]
    yaws = exp_so3(rng.uniform(-np.pi, np.pi, (n, 1)) * [0.0, 1.0, 0.0])
    roots = np.diag([1.0, -1.0, -1.0]) @ yaws @ np.stack([p.R_world_root for p in poses])
    places = np.column_stack([rng.uniform(-0.15, 0.15, (n, 2)), np.ones(n)]) * rng.uniform(2.5, 6.0, (n, 1))
    shaped = body.shaped(np.zeros(10))
    posed = shaped.posed(roots, places, np.stack([p.Rs_parent_joint for p in poses]))
    stature = float(shaped.height_m)
    turns = posed.Rs_frame_joint[:, LANDMARK_JOINTS]
    points = posed.landmarks + (turns @ (stature * offsets())[..., None])[..., 0]
    K = np.array([[FOCAL, 0, (SIDE - 1) / 2], [0, FOCAL, (SIDE - 1) / 2], [0, 0, 1.0]])
    middle = points[:, 23:25].mean(1)
    R = shortest_rotation(np.broadcast_to([0.0, 0.0, 1.0], middle.shape), normalize(middle))
    ray = (points - middle[:, None]) @ R
    distance = np.linalg.norm(middle, axis=1)[:, None, None]
    uv = points @ K[:2].T / points[..., 2:]
    picture = (uv - (middle @ K[:2].T / middle[:, 2:])[:, None]) * middle[:, None, 2:] / FOCAL
    depth = DEPTH * ray[..., 2:]
    across = picture * (1.0 + (ASSUMED + SHARE / distance) * depth)
    data = {
        "joints": posed.joints, "Rs_camera_joint": posed.Rs_frame_joint, "stature_m": np.full(n, stature),
        "joints_rest": np.broadcast_to(shaped.joints_rest, (n, 24, 3)), "K": np.broadcast_to(K, (n, 3, 3)),
        "landmarks_rest": np.broadcast_to(shaped.landmarks_rest, (n, 33, 3)), "hidden_by_m": np.zeros((n, 33)),
        "points_px": uv, "points_m": np.concatenate([across, depth], -1), "visibility": np.ones((n, 33)),
        "found": np.ones(n, bool), "score": np.ones(n),
    }  # fmt: skip
    return Looks(data, np.zeros((33, 3)))


def test_offsets_of_landmarks_are_found_again(looks):
    found, table = fit_points(looks)
    np.testing.assert_allclose(found, offsets(), atol=2e-4)
    assert (table[:, 2] < 0.001).all()
    assert (table[:, 1] > 0.001).any()


def test_laws_of_depth_and_perspective_are_found_again(looks):
    known = Looks(looks.data, offsets()).usable()
    assert len(known) > 0.8 * len(looks)
    everything = np.concatenate(list(GROUPS.values()))
    (assumed, share), _ = perspective_law(known, everything)
    assert abs(assumed - ASSUMED) < 0.02
    assert abs(share - SHARE) < 0.06
    depth, sigma, gain, _ = depth_law(known, GROUPS["ankle"])
    assert abs(depth - DEPTH) < 0.03
    assert abs(gain - 1 / DEPTH) < 0.1
    assert sigma < 0.02


def test_the_depth_map_undoes_what_it_is_trusted_with(looks):
    known = Looks(looks.data, offsets()).usable()
    seen, held_out = known.where(np.arange(len(known)) % 4 > 0), known.where(np.arange(len(known)) % 4 == 0)
    depth_map = fit_depth_map(seen)
    true, found = held_out.true_ray[..., 2], held_out["points_m"][..., 2]
    off, off_found = (np.sqrt(((v - true) ** 2).mean()) for v in (features(held_out["points_m"]) @ depth_map.T, found))
    assert off < (1.0 - 0.8 * TRUST) * off_found
    np.testing.assert_allclose(depth_map[23:25].sum(0), 0.0, atol=1e-9)
    mirrored_map = depth_map[:, :99].reshape(33, 33, 3)
    np.testing.assert_allclose(mirrored_map, mirrored_map[OTHER][:, OTHER] * MIRROR, atol=1e-6)


def test_sides_exchanged_are_noticed(looks):
    data = {**looks.data, "points_px": looks["points_px"][:, OTHER]}
    assert len(Looks(data, offsets()).usable()) < 0.2 * len(looks)


def test_rigid_reprojection_finds_the_focal_length_of_faultless_points(looks):
    known = Looks(looks.data, offsets()).usable().where(np.arange(20))
    exact = Looks({**known.data, "points_m": known.true_ray}, offsets())
    assert abs(np.log(rigid_focal(exact) / FOCAL)) < 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_procedural_poses_are_rotations_and_repeat_with_the_seed(kind):
    one, two = (procedural(np.random.default_rng(3), kind) for _ in range(2))
    np.testing.assert_array_equal(one.Rs_parent_joint, two.Rs_parent_joint)
    assert one.kind == kind
    stack = np.concatenate([one.R_world_root[None], one.Rs_parent_joint])
    np.testing.assert_allclose(stack @ np.swapaxes(stack, 1, 2), np.broadcast_to(np.eye(3), (24, 3, 3)), atol=1e-9)


def test_a_pose_mirrored_twice_is_itself_and_once_exchanges_the_hands():
    pose, body = procedural(np.random.default_rng(8), "free"), BodyModel.load().shaped(np.zeros(10))
    root, Rs = mirrored(pose.R_world_root, pose.Rs_parent_joint)
    again = mirrored(root, Rs)
    np.testing.assert_allclose(again[0], pose.R_world_root, atol=1e-12)
    np.testing.assert_allclose(again[1], pose.Rs_parent_joint, atol=1e-12)
    one, two = (
        body.posed(r, np.zeros(3), q).joints for r, q in ((pose.R_world_root, pose.Rs_parent_joint), (root, Rs))
    )
    np.testing.assert_allclose(two[JOINT["left_hand"]], one[JOINT["right_hand"]] * MIRROR, atol=5e-3)


def skeleton(folder) -> None:
    """A small skeleton in CMU's format, legs spread by 20 degrees at rest, and two frames of it."""
    spread, out = f"{np.sin(np.radians(20)):.6f}", f"{-np.cos(np.radians(20)):.6f}"
    bones = {n: ("0 1 0", "root") for n in ("lowerback", "upperback", "thorax", "lowerneck", "head")}
    order = ("lowerback", "upperback", "thorax", "lowerneck", "head")
    bones |= {b: ("0 1 0", a) for a, b in pairwise(order)}
    for s, x in (("l", ""), ("r", "-")):
        legs = (
            ("femur", f"{x}{spread} {out} 0"),
            ("tibia", f"{x}{spread} {out} 0"),
            ("foot", "0 0 1"),
            ("toes", "0 0 1"),
        )
        arms = tuple((n, f"{x}1 0 0") for n in ("clavicle", "humerus", "radius", "wrist", "hand"))
        for chain, first in ((legs, "root"), (arms, "thorax")):
            above = first
            for name, direction in chain:
                bones[s + name], above = (direction, above), s + name
    blocks = [f"begin\n id 1\n name {n}\n direction {d}\n length 1\n axis 0 0 0 XYZ\n dof rx ry rz\n end"
              for n, (d, _) in bones.items()]  # fmt: skip
    tree = "\n".join(f"{parent} {n}" for n, (_, parent) in bones.items())
    (folder / "99").mkdir()
    (folder / "99" / "99.asf").write_text(":bonedata\n" + "\n".join(blocks) + f"\n:hierarchy\nbegin\n{tree}\nend\n")
    rest = "root 0 0 0 0 0 0\n"
    (folder / "99" / "99_01.amc").write_text(f"#!OML\n:DEGREES\n1\n{rest}2\nroot 0 1 0 0 90 0\nlhumerus 0 0 -80\n")


def test_cmu_motions_become_smpl_rotations(tmp_path):
    skeleton(tmp_path)
    poses = CmuPoses.read(tmp_path, every=1)
    assert poses.names == ("99_01", "99_01")
    T_pose, turned = poses.Rs_world_joint
    body = BodyModel.load().shaped(np.zeros(10))

    def joints(G):
        locals_ = np.stack([G[p].T @ G[j] for j, p in enumerate(JOINT_PARENTS) if p >= 0])
        return body.posed(G[0], np.zeros(3), locals_).joints

    rest = joints(T_pose)
    arms = [j for j, n in enumerate(JOINT_NAMES) if n.endswith(("elbow", "wrist", "hand"))]
    np.testing.assert_allclose(rest[arms], body.joints_rest[arms], atol=0.05)
    thigh = rest[JOINT["left_knee"]] - rest[JOINT["left_hip"]]
    assert abs(np.degrees(np.arctan2(thigh[0], -thigh[1])) - 20.0) < 4.0
    after = joints(turned)
    upper = exp_so3([0.0, np.pi / 2, 0.0]).T @ (after[JOINT["left_elbow"]] - after[JOINT["left_shoulder"]])
    assert abs(np.degrees(np.arctan2(upper[1], upper[0])) + 80.0) < 4.0
    with pytest.raises(OSError, match="expected CMU motions"):
        CmuPoses.read(tmp_path / "none")
