"""Landmarks of known bodies back to their pose: facing, sides, bends, size and place."""

import dataclasses

import numpy as np
import pytest

from benchmarks.landmark_noise import observe
from benchmarks.synthetic import Space, act, in_camera
from benchmarks.truth import SCORED_JOINTS
from pipeline.body import BodyModel
from pipeline.calibration_sample import BODY as SEEN
from pipeline.frames import angle_between, exp_so3, project
from pipeline.landmark_model import LandmarkModel
from pipeline.recovery import LandmarkRecovery
from pipeline.shape_fit import bone_lengths, fit_shape
from pipeline.skeleton_fit import RestFrames, joint_rotations, local_rotations
from pipeline.types import JOINT, Detection
from tests.support.synthetic import arms_down, camera, see, stand, walking

BODY = BodyModel.load()
EXACT = LandmarkModel.exact()
SHAPED = BODY.shaped(np.zeros(10))
REST = RestFrames.of(SHAPED.landmarks_rest, SHAPED.joints_rest)


def recovered(Rs, yaw=0.0, place=(0.3, -3.5), calibration=None, **changes):
    calibration = calibration or camera()
    posed = stand(BODY, Rs, yaw, place)
    detection = see(posed, calibration)
    if changes:
        detection = dataclasses.replace(detection, landmarks=dataclasses.replace(detection.landmarks, **changes))
    recovery = LandmarkRecovery(BODY, errors=EXACT)
    for _ in range(10):
        (body,) = recovery((detection,), calibration)
    return body, posed, calibration


@pytest.mark.parametrize("yaw", np.radians([0, 60, 120, 180, 240, 300]))
@pytest.mark.parametrize("phase", [0.0, 1.6, 4.0])
def test_a_walker_is_found_where_and_as_he_is(yaw, phase):
    body, posed, calibration = recovered(walking(phase), yaw)
    truth = (posed.joints - calibration.t_world_camera) @ calibration.R_world_camera
    assert np.linalg.norm(body.joints_camera_m - truth, axis=-1).mean() < 0.04
    assert np.linalg.norm(body.t_camera_root - truth[0]) < 0.08
    R_true = calibration.R_world_camera.T @ exp_so3([0.0, yaw, 0.0])
    assert np.degrees(angle_between(body.R_camera_root, R_true)) < 8.0


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("bend_deg", [30, 60, 90, 120])
def test_elbows_and_knees_bend_as_much_and_the_right_way(side, bend_deg):
    Rs = arms_down()
    sign = -1.0 if side == "left" else 1.0
    Rs[JOINT[f"{side}_elbow"] - 1] = exp_so3([0.0, sign * np.radians(bend_deg), 0.0])
    Rs[JOINT[f"{side}_knee"] - 1] = exp_so3([np.radians(bend_deg), 0.0, 0.0])
    body, _, _ = recovered(Rs, 0.4)
    for joint in ("elbow", "knee"):
        true, found = Rs[JOINT[f"{side}_{joint}"] - 1], body.Rs_parent_joint[JOINT[f"{side}_{joint}"] - 1]
        assert abs(np.degrees(angle_between(found, np.eye(3))) - bend_deg) < 10.0
        assert np.degrees(angle_between(found, true)) < 15.0


def test_upright_facing_the_camera_is_the_identity_root():
    calibration = camera(pitch_deg=0.0, roll_deg=0.0)
    body, _, _ = recovered(arms_down(), 0.0, (0.0, -3.5), calibration)
    R_world_root = calibration.R_world_camera @ body.R_camera_root
    assert np.degrees(angle_between(R_world_root, np.eye(3))) < 4.0


def test_every_rotation_stays_one_whatever_the_landmarks():
    rng = np.random.default_rng(5)
    for _ in range(200):
        Rs = joint_rotations(rng.normal(0, 0.5, (33, 3)), rng.uniform(0, 1, 33), REST)
        stack = np.concatenate([Rs, local_rotations(Rs)])
        assert np.allclose(stack @ np.swapaxes(stack, 1, 2), np.eye(3), atol=1e-6)
        assert np.allclose(np.linalg.det(stack), 1.0)


def test_coinciding_landmarks_give_finite_rotations():
    Rs = joint_rotations(np.zeros((33, 3)), np.ones(33), REST)
    np.testing.assert_allclose(Rs @ np.swapaxes(Rs, 1, 2), np.tile(np.eye(3), (24, 1, 1)), atol=1e-9)


def test_hidden_arms_hang_instead_of_following_a_guess():
    visibility = np.ones(33)
    visibility[13:23] = 0.0
    body, _, _ = recovered(walking(0.0), visibility=visibility)
    wrists = body.joints_camera_m[[JOINT["left_wrist"], JOINT["right_wrist"]]]
    shoulders = body.joints_camera_m[[JOINT["left_shoulder"], JOINT["right_shoulder"]]]
    down = camera().R_world_camera[1] * -1.0
    assert (((wrists - shoulders) @ down) > 0.35).all()
    assert body.confidence[JOINT["left_wrist"]] < 0.1 < body.confidence[JOINT["left_knee"]]


def test_bones_stay_as_long_as_they_are_from_frame_to_frame():
    calibration, recovery, lengths = camera(), LandmarkRecovery(BODY, errors=EXACT), []
    rng = np.random.default_rng(2)
    for i in range(160):
        detection = see(stand(BODY, walking(0.3 * i), 0.1 * i, (0.0, -3.5)), calibration)
        noisy = detection.landmarks.points_m + rng.normal(0, 0.02, (33, 3))
        detection = dataclasses.replace(detection, landmarks=dataclasses.replace(detection.landmarks, points_m=noisy))
        (body,) = recovery((detection,), calibration)
        j = body.joints_camera_m
        lengths.append(np.linalg.norm(j[JOINT["left_knee"]] - j[JOINT["left_hip"]]))
    assert np.ptp(lengths[125:]) < 1e-9
    assert abs(lengths[-1] - np.linalg.norm(SHAPED.joints_rest[4] - SHAPED.joints_rest[1])) < 0.02


@pytest.mark.parametrize("height", [1.2, 1.55, 1.95])
def test_a_given_height_fixes_size_and_distance(height):
    calibration = camera()
    detection = see(stand(BODY, walking(1.0), 0.3, (0.2, -3.5)), calibration)
    recovery = LandmarkRecovery(BODY, height, EXACT)
    for _ in range(10):
        (body,) = recovery((detection,), calibration)
    assert abs(BODY.shaped(body.betas).height_m - height) < 0.01
    ratio = height / float(SHAPED.height_m)
    assert abs(recovery.metric_scale(1) - ratio) < 0.05 * ratio
    (free,) = LandmarkRecovery(BODY, errors=EXACT)((detection,), calibration)
    assert abs(body.t_camera_root[2] / free.t_camera_root[2] - ratio) < 0.06 * ratio
    again = project(body.t_camera_root, calibration.K)
    assert np.linalg.norm(again - project(free.t_camera_root, calibration.K)) < 12.0


def test_fit_shape_recovers_the_lengths_it_is_given():
    betas = np.array([0.8, -0.5, 0.4, 0.0, 0, 0, 0, 0, 0, 0])
    lengths = bone_lengths(BODY.shaped(betas).landmarks_rest[SEEN])
    again = bone_lengths(BODY.shaped(fit_shape(BODY, lengths)).landmarks_rest[SEEN])
    assert np.abs(again - lengths).max() < 0.02
    assert np.allclose(fit_shape(BODY, np.full(12, np.nan)), 0.0)


def test_no_landmarks_or_hardly_any_give_no_body_and_forgotten_people_are_forgotten():
    calibration, recovery = camera(), LandmarkRecovery(BODY, errors=EXACT)
    detection = see(stand(BODY, arms_down(), 0.0, (0, -3.5)), calibration)
    blind = dataclasses.replace(detection, landmarks=dataclasses.replace(detection.landmarks, visibility=np.zeros(33)))
    boxes_only = Detection(detection.box_xyxy, 1.0, 7)
    assert recovery((blind, boxes_only), calibration) == (None, None)
    recovery((detection,), calibration)
    recovery.keep_only(set())
    assert recovery.metric_scale(1) == 1.0


@pytest.mark.parametrize("pitch_deg", [-15.0, 15.0])
@pytest.mark.parametrize("distance", [2.5, 4.5])
def test_exact_landmarks_give_the_joints_to_half_a_centimetre(pitch_deg, distance):
    pitch = np.radians(pitch_deg)
    calibration = camera(0.75 * 720, pitch_deg, 3.0, 1.0 + distance * np.sin(pitch))
    space = Space(distance * float(np.cos(pitch)), 0.8, 0.4)
    posed = act(BODY, BODY.betas_for_height(1.78), space, 10.0, 10.0)
    recovery, errors = LandmarkRecovery(BODY, errors=EXACT), []
    for i, (detection,) in enumerate(observe(posed, calibration, 10.0, None, 0)):
        (body,) = recovery((detection,), calibration, i / 10.0)
        found, true = body.joints_camera_m[SCORED_JOINTS], in_camera(posed.joints[i], calibration)[SCORED_JOINTS]
        errors.append(np.linalg.norm((found - found[6:8].mean(0)) - (true - true[6:8].mean(0)), axis=-1).mean())
    assert np.mean(errors[50:]) < 0.005
