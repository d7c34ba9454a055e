"""Motions, cameras and pictures to train on: axes of captures, seeds, what is drawn where it is said to be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.demo_scene import LIGHT, box
from benchmarks.render import View, rasterise
from engines.blazepose import BlazePose
from engines.models import ModelError, verify
from pipeline.frames import angle_between, exp_so3, project
from pipeline.types import JOINT
from training.data.acting import rest, rotations
from training.data.cameras import draw_shot
from training.data.captures import read_all
from training.data.drawing import Mesh, paint
from training.data.motions import (
    FPS,
    STATURE_M,
    Motion,
    grounded,
    load,
    lowest,
    posed,
    save,
    standard_body,
    without_jumps,
)
from training.data.pictures import Sensor, backdrop
from training.data.plays import PLAYS, play
from training.data.renders import render
from training.data.sequences import hidden_by
from training.data.sightings import NOTHING, look
from training.make_data import main

DEMO = Path(__file__).parents[1] / "benchmarks" / "clips" / "demo_one" / "video.mp4"


def expmap_file(file: Path, seconds: float = 1.0) -> None:
    """Somebody who walks on with straight legs and lifts the left shin, 120 frames a second; first the T-pose."""
    n = round(seconds * 120) + 1
    rows = np.zeros((n, 117))
    rows[:, 1], rows[:, 2] = 17.7, np.linspace(0.0, 20.0, n)
    # Legs are spread by 20 degrees at rest: rows turn them upright, about -z for row vectors on the left
    rows[1:, 3 * 3 + 2], rows[1:, 3 * 9 + 2] = np.radians(20), -np.radians(20)
    axis = np.array([np.cos(np.radians(20)), np.sin(np.radians(20)), 0.0])
    rows[1:, 3 * 4 : 3 * 5] = -np.linspace(0.0, 1.0, n - 1)[:, None] * axis
    file.parent.mkdir(parents=True)
    np.savetxt(file, rows, delimiter=",")


def humanoid_file(file: Path) -> None:
    """DeepMimic's humanoid: a step forward along x in ten frames, the right knee and elbow bent by half a radian."""
    frame = [0.1, 0.0, 0.85, 0.0, *[1.0, 0, 0, 0] * 4, -0.5, *[1.0, 0, 0, 0] * 2, 0.5, *[1.0, 0, 0, 0], 0.0,
             *[1.0, 0, 0, 0] * 2, 0.0]  # fmt: skip
    frames = np.tile(frame, (11, 1))
    frames[:, 1] = np.linspace(0, 0.6, 11)
    file.write_text(json.dumps({"Loop": "wrap", "Frames": frames.tolist()}))


def test_captures_stand_upright_and_walk_where_they_face(tmp_path: Path) -> None:
    expmap_file(tmp_path / "train" / "walking" / "walking_1.txt")
    expmap_file(tmp_path / "test" / "walking" / "walking_2.txt")
    humanoid_file(tmp_path / "humanoid3d_walk.txt")
    motions = {m.name: m for m in read_all(tmp_path)}
    assert [m.held_out for m in motions.values()] == [True, False, False]
    for motion in motions.values():
        body = posed(motion.Rs_world_joint, motion.t_world_root)
        way = motion.t_world_root[-1] - motion.t_world_root[0]
        assert way[2] > 0.8
        assert abs(way[0]) < 1e-3
        assert (body.joints[:, JOINT["head"], 1] - body.joints[:, 0, 1]).min() > 0.5
        assert (body.joints[:, JOINT["left_hip"], 0] > body.joints[:, JOINT["right_hip"], 0]).all()
        assert abs(body.landmarks[:, 29:31, 1].min()) < 0.05
    walk, humanoid = motions["expmap/train/walking_1"], motions["deepmimic/walk"]
    left = posed(walk.Rs_world_joint, walk.t_world_root).joints[-1]
    assert left[JOINT["left_ankle"], 2] < left[JOINT["left_knee"], 2] - 0.2
    assert abs(left[JOINT["left_knee"], 0] - left[JOINT["left_hip"], 0]) < 0.04
    limbs = posed(humanoid.Rs_world_joint, humanoid.t_world_root).joints[0]
    assert limbs[JOINT["right_ankle"], 2] < limbs[JOINT["right_knee"], 2] - 0.1
    assert limbs[JOINT["right_wrist"], 2] > limbs[JOINT["right_elbow"], 2] + 0.1
    assert limbs[JOINT["left_wrist"], 1] < limbs[JOINT["left_shoulder"], 1] - 0.45


def test_clips_that_wrap_go_on_from_where_they_ended(tmp_path: Path) -> None:
    humanoid_file(tmp_path / "humanoid3d_walk.txt")
    (motion,) = read_all(tmp_path)
    steps = np.diff(motion.t_world_root, axis=0)
    assert len(motion.t_world_root) == 50
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-4)


def test_a_folder_without_motions_says_what_it_wants(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="humanoid3d"):
        list(read_all(tmp_path))
    assert main(["motions", "--motion", str(tmp_path), "--out", str(tmp_path / "m.npz")]) == 2


def standing(n: int) -> Motion:
    Rs = np.tile(np.eye(3, dtype=np.float32), (n, 24, 1, 1))
    return Motion("a/b", FPS, Rs, np.zeros((n, 3), np.float32), "a", "stand")


def test_jumps_keep_their_height_and_who_stands_is_put_on_the_floor() -> None:
    motion = standing(120)
    t = motion.t_world_root.astype(float)
    t[:, 1] = 3.0 + 0.02 * np.sin(np.arange(120) / 9)
    t[50:65, 1] += 0.4 * np.sin(np.linspace(0, np.pi, 15))
    gap = grounded(motion.Rs_world_joint.astype(float), t, FPS)[:, 1] + lowest(motion.Rs_world_joint)
    assert np.abs(np.r_[gap[:45], gap[70:]]).max() < 0.01
    assert 0.35 < gap[50:65].max() < 0.45


def test_mixed_up_markers_split_a_motion() -> None:
    motion = standing(100)
    Rs = motion.Rs_world_joint.copy()
    Rs[60:, JOINT["left_wrist"]] = exp_so3([0.0, 0.0, 2.5])
    pieces = without_jumps(replace(motion, Rs_world_joint=Rs))
    assert [(p.name, len(p.t_world_root)) for p in pieces] == [("a/b#0", 60), ("a/b#1", 40)]
    assert [p.name for p in without_jumps(motion)] == ["a/b"]


def test_motions_come_back_from_their_file(tmp_path: Path) -> None:
    one = play(3, "desk", 0)
    two = replace(standing(41), fps=20.0, held_out=True)
    save([one, two], tmp_path / "motions.npz")
    first, second = load(tmp_path / "motions.npz")
    assert (first.name, first.kind, second.held_out, second.fps) == ("made/desk_000", "desk", True, FPS)
    assert len(second.t_world_root) == 61
    assert angle_between(first.Rs_world_joint, one.Rs_world_joint).max() < 2e-3
    np.testing.assert_array_equal(first.t_world_root, one.t_world_root)


@pytest.mark.parametrize("kind", sorted(PLAYS))
def test_acting_is_seeded_smooth_and_on_the_floor(kind: str) -> None:
    one, again, other = play(1, kind, 0), play(1, kind, 0), play(1, kind, 1)
    np.testing.assert_array_equal(one.Rs_world_joint, again.Rs_world_joint)
    assert one.Rs_world_joint.shape != other.Rs_world_joint.shape or (one.Rs_world_joint != other.Rs_world_joint).any()
    turns = angle_between(one.Rs_world_joint[:-1], one.Rs_world_joint[1:])
    assert np.degrees(turns).max() < 100
    assert np.degrees(np.percentile(turns, 99)) < 30
    gap = one.t_world_root[:, 1] + lowest(one.Rs_world_joint)
    assert gap.min() > -1e-3
    assert gap.max() < (0.15 if kind == "arms" else 1e-3)


def test_hands_go_where_they_are_told() -> None:
    curves = rest(1)
    curves.hands[0] = [[0.05, 0.10, 0.35], [-0.10, -0.25, 0.30]]
    joints = posed(rotations(curves), np.zeros((1, 3))).joints[0]
    for k, (side, sign) in enumerate((("left", 1.0), ("right", -1.0))):
        reach = joints[JOINT[f"{side}_wrist"]] - joints[JOINT[f"{side}_shoulder"]]
        np.testing.assert_allclose(reach * [sign, 1, 1], curves.hands[0, k], atol=2e-3)


def test_cameras_see_the_target_and_stay_within_what_is_asked() -> None:
    joints = standard_body().joints_rest + np.array([0.0, 0.95, 0.0])
    rng, seen, webcams = np.random.default_rng(0), 0, 0
    for _ in range(300):
        shot = draw_shot(rng, joints, 0.4, STATURE_M, "desk")
        if shot is None:
            continue
        seen, webcams = seen + 1, webcams + shot.webcam
        assert -40 <= shot.pitch_deg <= 60
        assert abs(shot.roll_deg) <= 30
        assert 0.2 <= shot.height_m <= 4.2
        target = shot.R_world_person @ shot.target + shot.t_world_person
        camera = (target - shot.t_world_camera) @ shot.R_world_camera
        assert abs(np.linalg.norm(camera) - shot.distance_m) < 1e-6
        assert ((project(camera, shot.K) >= 0) & (project(camera, shot.K) < shot.size_wh)).all()
        facing = exp_so3([0.0, 0.4, 0.0])[:, 2] @ shot.R_world_person.T
        assert not shot.webcam or facing[2] > 0.1
    assert seen > 150
    assert 0.6 < webcams / seen < 0.95


def level_view() -> View:
    R = np.diag([1.0, -1.0, -1.0])
    K = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1.0]])
    return View(K, R, -R @ np.array([0.0, 1.0, 2.0]), (320, 240))


def test_meshes_are_drawn_whole_and_nearer_ones_before() -> None:
    """The same pixels and depths as the renderer of the demo clips, but single precision."""
    view = level_view()
    surface = box((0.0, 0.0), 0.4, (0.8, 1.0, 0.5), np.array([0.9, 0.1, 0.1]))
    image, near = np.zeros((240, 320, 3), np.float32), np.zeros((240, 320), np.float32)
    paint(image, near, [Mesh.of(surface)], view, LIGHT)
    p = view.to_camera(surface.vertices)
    face, _, closeness = rasterise((p / p[:, 2:]) @ view.K[:2].T, p[:, 2], surface.faces, view.size_wh)
    assert ((near > 0) != (face >= 0)).mean() < 1e-3
    both = (near > 0) & (face >= 0)
    assert both.sum() > 5000
    np.testing.assert_allclose(near[both], closeness[both], rtol=1e-3)
    assert (image[both][:, 0] > 2 * image[both][:, 1]).all()
    behind = box((0.0, -1.0), 0.0, (3.0, 2.0, 0.2), np.array([0.1, 0.9, 0.1]))
    paint(image, near, [Mesh.of(behind)], view, LIGHT)
    assert (image[both][:, 0] > 2 * image[both][:, 1]).all()


def test_hidden_by_is_the_way_behind_the_nearest_surface() -> None:
    near = np.zeros((100, 200), np.float32)
    depth = np.full((40, 50), 0.5, np.float32)
    marks = np.tile([0.0, 0.0, 2.3], (33, 1))
    px = np.tile([30.0, 20.0], (33, 1))
    px[1], px[2] = [150.0, 90.0], [250.0, 20.0]
    hidden = hidden_by(depth, np.array([10, 5]), near, marks, px)
    assert hidden[0] == pytest.approx(0.3)
    assert hidden[1] == -np.inf
    assert np.isnan(hidden[2])


def test_sensors_blur_and_code_but_keep_the_picture() -> None:
    rng = np.random.default_rng(3)
    scene = backdrop(rng, level_view(), 1.0)
    assert scene.shape == (240, 320, 3)
    plain = Sensor(0.4, 0.0, 1.0, (1.0, 1.0, 1.0), 1.0, 95).develop(np.random.default_rng(1), scene)
    assert np.abs(plain / 255.0 - scene).mean() < 0.03
    streaked = Sensor(0.4, 0.05, 1.0, (1.0, 1.0, 1.0), 1.0, 95).develop(
        np.random.default_rng(1), scene, np.array([300.0, 0])
    )
    across = [np.abs(np.diff(image.astype(float), axis=1)).mean() for image in (plain, streaked)]
    assert across[1] < 0.9 * across[0]


def test_shards_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "sequences_0000.npz").write_bytes(b"made before")
    assert list(render(tmp_path / "absent.npz", tmp_path, 10, 1, 1)) == [(1, 1)]
    assert (tmp_path / "sequences_0000.npz").read_bytes() == b"made before"
    with pytest.raises(OSError, match="absent"):
        list(render(tmp_path / "absent.npz", tmp_path, 20, 1, 1))


@pytest.fixture(scope="module")
def network() -> BlazePose:
    try:
        return BlazePose.open(verify(), threads=1, max_batch=2)
    except ModelError as e:
        pytest.skip(str(e))


def test_the_streams_detector_follows_whom_it_is_told(network: BlazePose) -> None:
    video = cv2.VideoCapture(str(DEMO))
    images = []
    for _ in range(60):
        assert video.grab()
    for _ in range(4):
        images.append(np.asarray(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB), np.uint8))
        for _ in range(3):
            video.grab()
    region = network.detect(images[0])[0][0]
    px = network.landmarks(images[0], [region])[0][0].points_px
    rows = look(network, np.random.default_rng(0), images, np.tile(px, (4, 1, 1)), 0.1)
    assert [row["found"] for row in rows] == [True] * 4
    assert np.linalg.norm(rows[0]["points_px"] - px, axis=1)[11:29].mean() < 0.05 * np.ptp(px[:, 1])
    assert rows[0]["region"][2] > 0
    assert rows[0].keys() == NOTHING.keys()
    nobody = look(network, np.random.default_rng(0), [np.zeros_like(images[0])] * 2, px[None].repeat(2, 0), 0.1)
    assert not any(row["found"] for row in nobody)


def test_a_sequence_comes_again_and_its_truth_agrees(tmp_path: Path, network: BlazePose) -> None:
    paths = pytest.importorskip("anny.paths")
    if not any(Path(paths.get_anny_cache_path()).rglob("*.safetensors")):
        pytest.skip("Anny has not been constructed on this machine (it takes minutes and 0.8 GB)")
    from training.data.renders import Maker

    save([play(1, "talk", 0), play(1, "desk", 0)], tmp_path / "motions.npz")
    maker = Maker(tmp_path / "motions.npz")
    made, one = maker.sequence(4, 0)
    _, again = maker.sequence(4, 0)
    for key in one:
        np.testing.assert_array_equal(one[key], again[key], err_msg=key)
    assert one["joints"].shape == (8, 24, 3)
    assert one["points_px"].shape == (8, 33, 2)
    assert one["hidden_by_m"].shape == (8, 33)
    offsets = one["landmarks_rest"] - one["joints_rest"][:, made_joints()]
    at = one["joints"][:, made_joints()] + (one["Rs_camera_joint"][:, made_joints()] @ offsets[..., None])[..., 0]
    np.testing.assert_allclose(at, one["landmarks"], atol=1e-9)
    seen = np.isfinite(made.true_px).all(-1)
    np.testing.assert_allclose(project(one["landmarks"], one["K"][0])[seen], made.true_px[seen])
    feet = one["landmarks"][:, 29:33] @ one["up_camera"][0] + one["camera_height_m"][0]
    assert abs(feet.min()) < 0.06
    assert made.images[0].shape[:2] == tuple(one["size_wh"][0, ::-1].astype(int))


def made_joints() -> np.ndarray:
    from training.anny_rig import LANDMARK_JOINTS

    return LANDMARK_JOINTS
