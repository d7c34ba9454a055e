"""Bodies into the gravity-aligned world: the lean that the camera's error makes is taken out, poses are not."""

import dataclasses

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.frames import R_world_camera_from_up, angle_between, exp_so3, up_from_pitch_roll
from pipeline.orientation import OrientationCorrector
from pipeline.types import JOINT, BodyPose, CameraCalibration
from tests.support.synthetic import arms_down, camera, stand, walking

BODY = BodyModel.load()


def body_before(truth: CameraCalibration, Rs, yaw=0.3, place=(0.2, -3.5), R_world_root=None, floor_m=0.0) -> BodyPose:
    posed = stand(BODY, Rs, yaw, place, floor_m)
    R = exp_so3([0.0, yaw, 0.0])
    if R_world_root is not None:
        R = R_world_root
        posed = BODY.shaped(np.zeros(10)).posed(R, np.array([place[0], 0.9, place[1]]), Rs)
    joints = (posed.joints - truth.t_world_camera) @ truth.R_world_camera
    return BodyPose(truth.R_world_camera.T @ R, joints[0], Rs, np.zeros(10), joints, np.ones(24))


def correct(corrector, body, calibration, track_id, t_s):
    (world,) = corrector([body], calibration, [track_id], t_s)
    return world


def wrong(truth: CameraCalibration, pitch_deg: float, roll_deg: float) -> CameraCalibration:
    """The same camera believed to be tilted otherwise."""
    up = up_from_pitch_roll(np.radians(pitch_deg), np.radians(roll_deg))
    return dataclasses.replace(truth, R_world_camera=R_world_camera_from_up(up))


def test_with_the_true_camera_the_body_stands_where_it_stands():
    truth, corrector = camera(), OrientationCorrector()
    body = body_before(truth, arms_down())
    world = correct(corrector, body, truth, 1, 0.0)
    assert np.degrees(angle_between(world.R_world_root, exp_so3([0.0, 0.3, 0.0]))) < 1e-6
    assert np.allclose(world.joints_world_m[:, [0, 2]], ((body.joints_camera_m @ truth.R_world_camera.T)[:, [0, 2]]))


@pytest.mark.parametrize(("pitch", "roll"), [(20, 3), (4, 3), (12, 10), (18, -3)])
def test_wrong_camera_angles_do_not_make_people_lean(pitch, roll):
    truth, corrector = camera(pitch_deg=12, roll_deg=3), OrientationCorrector()
    believed = wrong(truth, pitch, roll)
    for i in range(150):
        world = correct(corrector, body_before(truth, walking(0.3 * i)), believed, 1, i / 30)
    up = world.R_world_root[:, 1]
    error = np.degrees(np.arccos(np.clip(up[1], -1, 1)))
    assert error < 3.0
    raw = believed.R_world_camera @ body_before(truth, walking(0.0)).R_camera_root
    assert np.degrees(np.arccos(raw[1, 1])) > 5.0


def test_the_local_pose_and_the_bones_are_untouched():
    truth, corrector = camera(), OrientationCorrector()
    for i in range(60):
        body = body_before(truth, walking(0.2 * i))
        world = correct(corrector, body, wrong(truth, 20, -4), 1, i / 30)
    assert np.array_equal(world.Rs_parent_joint, body.Rs_parent_joint)
    a = np.linalg.norm(np.diff(world.joints_world_m, axis=0), axis=-1)
    b = np.linalg.norm(np.diff(body.joints_camera_m, axis=0), axis=-1)
    assert np.allclose(a, b)


@pytest.mark.parametrize("turn", [[np.pi, 0, 0], [-np.pi / 2, 0, 0], [0, 0, np.pi / 2], [0.9, 0, 0]])
def test_handstands_lying_and_deep_bows_survive(turn):
    truth, corrector = camera(), OrientationCorrector()
    R = exp_so3(turn)
    for i in range(120):
        world = correct(corrector, body_before(truth, arms_down(), R_world_root=R), truth, 1, i / 30)
    assert np.degrees(angle_between(world.R_world_root, R)) < 0.5


def test_a_jump_leaves_the_floor_and_standing_is_on_it():
    truth, corrector = camera(height_m=1.7), OrientationCorrector()
    for i in range(90):
        standing = correct(corrector, body_before(truth, arms_down()), truth, 1, i / 30)
    soles = standing.joints_world_m[[JOINT["left_foot"], JOINT["right_foot"]], 1]
    assert (np.abs(soles) < 0.06).all()
    for i in range(10):
        up = correct(corrector, body_before(truth, arms_down(), floor_m=0.4), truth, 1, 3.0 + i / 30)
    assert up.t_world_root[1] - standing.t_world_root[1] > 0.33


def test_people_are_corrected_apart_and_forgotten():
    truth, corrector = camera(), OrientationCorrector()
    for i in range(90):
        correct(corrector, body_before(truth, arms_down()), wrong(truth, 20, 3), 1, i / 30)
    learned = correct(corrector, body_before(truth, arms_down()), wrong(truth, 20, 3), 1, 3.0)
    stranger = correct(corrector, body_before(truth, arms_down()), wrong(truth, 20, 3), 2, 3.0)
    assert learned.R_world_root[1, 1] > stranger.R_world_root[1, 1]
    corrector.keep_only(set())
    again = correct(corrector, body_before(truth, arms_down()), wrong(truth, 20, 3), 1, 3.1)
    assert np.allclose(again.R_world_root, stranger.R_world_root)


def test_a_better_camera_height_keeps_the_feet_where_they_stand():
    truth, corrector = camera(height_m=1.7), OrientationCorrector()
    for i in range(90):
        before = correct(corrector, body_before(truth, arms_down()), truth, 1, i / 30)
    higher = dataclasses.replace(truth, camera_height_m=2.0)
    after = correct(corrector, body_before(truth, arms_down()), higher, 1, 3.03)
    assert np.allclose(after.joints_world_m, before.joints_world_m, atol=0.01)
