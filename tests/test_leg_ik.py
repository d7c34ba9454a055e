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
    return posed.Rs_frame_joint[None], posed.joints[None]


@pytest.mark.parametrize("phase", [0.0, 0.7, 2.0, 3.9])
def test_ankles_and_balls_come_where_they_are_wanted(phase):
    Rs, joints = body(phase)
    ankles = joints[:, ANKLES] + [[[0.03, 0.05, 0.04], [-0.04, 0.06, -0.03]]]
    balls = joints[:, BALLS] + ankles - joints[:, ANKLES] + [0.0, 0.02, 0.0]
    _, new = reach(Rs, joints, ankles, balls)
    assert np.allclose(new[:, ANKLES], ankles, atol=1e-9)
    aim = balls - ankles
    foot = new[:, BALLS] - new[:, ANKLES]
    assert np.allclose(np.cross(aim, foot), 0.0, atol=1e-9)
    lengths = [np.linalg.norm(j[0, 1:] - j[0, PARENTS], axis=-1) for j in (joints, new)]
    assert np.allclose(*lengths, atol=1e-9)
    untouched = [j for j in range(24) if j not in (*KNEES, *ANKLES, *BALLS)]
    assert np.array_equal(new[:, untouched], joints[:, untouched])


def test_joints_and_rotations_tell_the_same():
    Rs, joints = body()
    new_Rs, new = reach(Rs, joints, joints[:, ANKLES] + [0.03, 0.04, 0.02], joints[:, BALLS] + [0.02, 0.05, 0.02])
    local = np.swapaxes(new_Rs[:, PARENTS], -1, -2) @ new_Rs[:, 1:]
    again = BODY.shaped(np.zeros(10)).posed(new_Rs[0, 0], new[0, 0], local[0]).joints
    assert np.allclose(again, new[0], atol=1e-9)


def test_nothing_asked_nothing_done():
    Rs, joints = body()
    new_Rs, new = reach(Rs, joints, joints[:, ANKLES], joints[:, BALLS])
    assert np.allclose(new, joints, atol=2e-3)
    assert np.allclose(new_Rs, Rs, atol=0.08)


@pytest.mark.parametrize("yaw", [0.0, 1.0, 2.5])
def test_knees_bend_forward_from_a_straight_leg(yaw):
    posed = BODY.shaped(np.zeros(10)).posed(
        exp_so3([0.0, yaw, 0.0]), np.array([0.0, 0.9, -3.0]), np.tile(np.eye(3), (23, 1, 1))
    )
    joints = posed.joints[None]
    _, new = reach(
        posed.Rs_frame_joint[None], joints, joints[:, ANKLES] + [0.0, 0.15, 0.0], joints[:, BALLS] + [0.0, 0.15, 0.0]
    )
    forward = exp_so3([0.0, yaw, 0.0]) @ [0.0, 0.0, 1.0]
    assert ((new[0, KNEES] - joints[0, KNEES]) @ forward > 0.1).all()


def test_what_is_out_of_reach_is_pointed_at():
    Rs, joints = body()
    far = joints[:, HIPS] + 3.0 * (joints[:, ANKLES] - joints[:, HIPS])
    _, new = reach(Rs, joints, far, far + joints[:, BALLS] - joints[:, ANKLES])
    leg = new[:, ANKLES] - new[:, HIPS]
    straight = np.linalg.norm(joints[:, KNEES + ANKLES] - joints[:, HIPS + KNEES], axis=-1).reshape(1, 2, 2).sum(1)
    assert np.allclose(np.linalg.norm(leg, axis=-1), straight, rtol=1e-3)
    assert np.allclose(np.cross(leg, far - joints[:, HIPS]), 0.0, atol=1e-9)


def test_a_body_that_moves_as_it_is_told_reaches():
    _, joints = body()
    ankles = joints[:, ANKLES] - [0.0, 0.12, 0.0]
    for _ in range(4):
        joints = joints + short_of(joints, ankles)[:, None]
    assert np.linalg.norm(short_of(joints, ankles)) < 1e-3
    assert np.array_equal(short_of(joints, joints[:, ANKLES] + [0.0, 0.02, 0.0]), np.zeros((1, 3)))
