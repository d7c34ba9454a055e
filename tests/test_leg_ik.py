"""Legs that reach: ankles where they should be, bones of their length, knees that bend forward."""

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.frames import exp_so3
from pipeline.leg_ik import ANKLES, BALLS, HIPS, KNEES, reach, short_of
from pipeline.types import JOINT_PARENTS
from tests.support.synthetic import stand, walking

BODY = BodyModel.load()
PARENTS = np.array(JOINT_PARENTS[1:])


def body(phase=0.7, yaw=0.5):
    posed = stand(BODY, walking(phase), yaw, (0.3, -3.0))
    return posed.Rs_frame_joint, posed.joints


def reached(Rs, joints, ankles, balls):
    """The body after reaching for ankles (2, 3) and balls (2, 3); what is given stays."""
    Rs, joints = Rs.copy(), joints.copy()
    reach(Rs, joints, np.concatenate([ankles, balls]).tolist())
    return Rs, joints


@pytest.mark.parametrize("phase", [0.0, 0.7, 2.0, 3.9])
def test_ankles_and_balls_come_where_they_are_wanted(phase):
    Rs, joints = body(phase)
    ankles = joints[ANKLES] + [[0.03, 0.05, 0.04], [-0.04, 0.06, -0.03]]
    balls = joints[BALLS] + ankles - joints[ANKLES] + [0.0, 0.02, 0.0]
    _, new = reached(Rs, joints, ankles, balls)
    assert np.allclose(new[ANKLES], ankles, atol=1e-9)
    assert np.allclose(np.cross(balls - ankles, new[BALLS] - new[ANKLES]), 0.0, atol=1e-9)
    lengths = [np.linalg.norm(j[1:] - j[PARENTS], axis=-1) for j in (joints, new)]
    assert np.allclose(*lengths, atol=1e-9)
    untouched = [j for j in range(24) if j not in (*KNEES, *ANKLES, *BALLS)]
    assert np.allclose(new[untouched], joints[untouched], atol=1e-12)


def test_joints_and_rotations_tell_the_same():
    Rs, joints = body()
    Rs, new = reached(Rs, joints, joints[ANKLES] + [0.03, 0.04, 0.02], joints[BALLS] + [0.02, 0.05, 0.02])
    local = np.swapaxes(Rs[PARENTS], -1, -2) @ Rs[1:]
    again = BODY.shaped(np.zeros(10)).posed(Rs[0], new[0], local).joints
    assert np.allclose(again, new, atol=1e-9)
    assert np.allclose(Rs @ np.swapaxes(Rs, -1, -2), np.eye(3), atol=1e-9)


def test_nothing_asked_nothing_done():
    Rs, joints = body()
    new_Rs, new = reached(Rs, joints, joints[ANKLES], joints[BALLS])
    assert np.allclose(new, joints, atol=1e-6)
    assert np.allclose(new_Rs, Rs, atol=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 1.0, 2.5])
def test_knees_bend_forward_from_a_straight_leg(yaw):
    R = exp_so3([0.0, yaw, 0.0])
    posed = BODY.shaped(np.zeros(10)).posed(R, np.array([0.0, 0.9, -3.0]), np.tile(np.eye(3), (23, 1, 1)))
    joints, up = posed.joints, np.array([0.0, 0.15, 0.0])
    _, new = reached(posed.Rs_frame_joint, joints, joints[ANKLES] + up, joints[BALLS] + up)
    assert ((new[KNEES] - joints[KNEES]) @ R[:, 2] > 0.1).all()


def test_what_is_out_of_reach_is_pointed_at():
    Rs, joints = body()
    far = joints[HIPS] + 3.0 * (joints[ANKLES] - joints[HIPS])
    _, new = reached(Rs, joints, far, far + joints[BALLS] - joints[ANKLES])
    leg = new[ANKLES] - new[HIPS]
    straight = np.linalg.norm(joints[KNEES + ANKLES] - joints[HIPS + KNEES], axis=-1).reshape(2, 2).sum(0)
    assert np.allclose(np.linalg.norm(leg, axis=-1), straight, rtol=1e-3)
    assert np.allclose(np.cross(leg, far - joints[HIPS]), 0.0, atol=1e-9)


def test_a_body_that_moves_as_it_is_told_reaches():
    _, joints = body()
    ankles = joints[ANKLES] - [0.0, 0.12, 0.0]
    for _ in range(4):
        joints = joints + short_of(joints, ankles.tolist())
    assert np.linalg.norm(short_of(joints, ankles.tolist())) < 1e-3
    assert short_of(joints, (joints[ANKLES] + [0.0, 0.02, 0.0]).tolist()) == [0.0, 0.0, 0.0]
