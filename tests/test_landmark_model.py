"""The measured errors of the landmarks: their file, and landmarks put back on their rays."""

import dataclasses
import json

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.frames import exp_so3, normalize, shortest_rotation
from pipeline.landmark_model import DEFAULT_FILE, LandmarkModel, depth_as_found, unbiased_points
from pipeline.types import JOINT, LANDMARK, LANDMARK_NAMES
from training.anny_rig import LANDMARK_JOINTS
from training.bake_body import POINTS_FILE, measured_points
from training.landmark_fit import MIRROR, OTHER

MODEL = LandmarkModel.load()
#: Landmarks as they are, no correction.
PLAIN = dataclasses.replace(MODEL, depth_map=depth_as_found())


def person(seed: int):
    """A posed body before a camera: true points (33, 3), rays (33, 2), and what a faultless network would say."""
    rng = np.random.default_rng(seed)
    body = BodyModel.load()
    turns = exp_so3(0.4 * rng.normal(size=(23, 3)))
    root = exp_so3([0.0, rng.uniform(-3, 3), 0.0]) @ np.diag([1.0, -1.0, -1.0])
    place = np.array([*rng.uniform(-0.4, 0.4, 2), 1.0]) * rng.uniform(2.0, 6.0)
    points = body.shaped(np.zeros(10)).posed(root, place, turns).landmarks
    middle = points[23:25].mean(0)
    ray = normalize(middle)
    R_camera_ray = shortest_rotation(np.array([0.0, 0.0, 1.0]), ray)
    # Across the view the network repeats the picture at the distance of the hips
    metric = points @ R_camera_ray
    depth = metric[:, 2] - middle @ ray
    metric = np.column_stack([metric[:, :2] / metric[:, 2:] * (middle @ ray), depth])
    return points, points[:, :2] / points[:, 2:], metric


@pytest.mark.parametrize("seed", range(6))
def test_true_depth_on_the_rays_gives_the_true_points(seed):
    points, rays, metric = person(seed)
    hips = (points[23] / points[23, 2] + points[24] / points[24, 2]) / 2
    found = unbiased_points(rays, metric, np.ones(33), PLAIN)
    # The ray through the hips in the picture passes the hips' middle by millimetres
    assert np.linalg.norm(normalize(hips) - normalize(points[23:25].mean(0))) < 0.01
    assert np.abs(found - points).max() < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_corrected_landmarks_stay_on_their_rays_and_before_the_camera(seed):
    _, rays, metric = person(seed)
    metric = metric + np.random.default_rng(seed).normal(0, 0.1, metric.shape)
    found = unbiased_points(rays, metric, np.ones(33))
    np.testing.assert_allclose(found[:, :2] / found[:, 2:], rays, atol=1e-12)
    assert (found[:, 2] > 0).all()


def test_many_people_at_once_equal_each_alone():
    parts = [person(seed) for seed in range(4)]
    rays, metric = np.stack([p[1] for p in parts]), np.stack([p[2] for p in parts])
    weights = np.random.default_rng(0).uniform(0.1, 1.0, (4, 33))
    together = unbiased_points(rays, metric, weights)
    for k in range(4):
        np.testing.assert_allclose(together[k], unbiased_points(rays[k], metric[k], weights[k]), atol=1e-12)


def test_a_person_in_the_mirror_gives_the_mirrored_points():
    _, rays, metric = person(7)
    found = unbiased_points(rays, metric, np.ones(33))
    other = unbiased_points(rays[OTHER] * [-1, 1], metric[OTHER] * MIRROR, np.ones(33))
    np.testing.assert_allclose(other, found[OTHER] * MIRROR, atol=2e-3)


def test_the_committed_model_is_whole():
    assert (MODEL.sigma_along_m > 0).all()
    assert (MODEL.sigma_px_fraction > 0).all()
    assert (MODEL.sigma_across_m > 0).all()
    assert (np.diff(MODEL.visibility_edges) > 0).all()
    assert MODEL.sigma_px_fraction.shape == (33, MODEL.n_bins)
    np.testing.assert_allclose(MODEL.depth_map[:, 99], MODEL.depth_map[OTHER, 99], atol=2e-3)
    by_landmark = MODEL.depth_map[:, :99].reshape(33, 33, 3)
    np.testing.assert_allclose(by_landmark, by_landmark[OTHER][:, OTHER] * MIRROR, atol=2e-3)
    np.testing.assert_allclose(MODEL.depth_map[23:25].sum(0), 0.0, atol=2e-3)
    assert LandmarkModel.load() is MODEL


def test_hidden_landmarks_are_less_certain_and_each_visibility_has_its_bin():
    limbs = [LANDMARK[n] for n in ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "left_knee")]
    assert (MODEL.sigma_px_fraction[limbs, 0] > MODEL.sigma_px_fraction[limbs, -1]).all()
    visibility = np.linspace(0, 1, 33)
    px, along = MODEL.sigmas(np.stack([visibility, visibility[::-1]]))
    assert px.shape == along.shape == (2, 33)
    assert px[0, 0] == MODEL.sigma_px_fraction[0, 0]
    assert px[0, 32] == MODEL.sigma_px_fraction[32, -1]
    np.testing.assert_array_equal(MODEL.bin_of(np.array([-1.0, 0.0, 1.0, 2.0])), [0, 0, 3, 3])


def test_other_files_are_one_sentence(tmp_path):
    file = tmp_path / "model.json"
    for text in ("hello", "{}", "[1, 2]", '{"format": 2, "landmarks": {}}'):
        file.write_text(text)
        with pytest.raises(ValueError, match="expected a file of `python -m training"):
            LandmarkModel.load(file)
    data = json.loads(DEFAULT_FILE.read_text())
    file.write_text(json.dumps({**data, "format": 9}))
    with pytest.raises(ValueError, match="expected format 2, got 9"):
        LandmarkModel.load(file)
    data["landmarks"]["nose"]["depth_share"] = float("nan")
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"LandmarkModel\.depth_share: expected finite numbers"):
        LandmarkModel.load(file)
    with pytest.raises(FileNotFoundError):
        LandmarkModel.load(tmp_path / "none.json")


def test_the_body_carries_the_measured_points():
    offsets, body = measured_points(), BodyModel.load()
    np.testing.assert_allclose(offsets, offsets[OTHER] * MIRROR, atol=1e-5)
    np.testing.assert_array_equal(body.landmark_joint, LANDMARK_JOINTS)
    stature = np.ptp(body.vertices[:, 1])
    for name in LANDMARK_NAMES:
        if name.endswith(("elbow", "wrist", "knee", "ankle")):
            moved = body.landmarks[LANDMARK[name]] - body.joints[JOINT[name]]
            np.testing.assert_allclose(moved, stature * offsets[LANDMARK[name]], atol=1e-3, err_msg=name)


def test_a_points_file_without_all_landmarks_is_refused(tmp_path):
    data = json.loads(POINTS_FILE.read_text())
    del data["offsets"]["nose"]
    (tmp_path / "points.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="33 landmarks in order, got 32"):
        measured_points(tmp_path / "points.json")
