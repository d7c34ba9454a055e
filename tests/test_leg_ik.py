"""Legs that reach: ankles where they should be, bones of their length, knees that bend forward."""

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.frames import exp_so3
from pipeline.leg_ik import (
    ANKLES,
    BALLS,
    HIPS,
    KNEES,
    MAX_GIVE_M,
    SPARED_M,
    give_way,
    reach,
    spare_knees,
)
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


def straight(up=0.0):
    """A body that stands with straight legs, and the goals of its feet `up` above where they are."""
    posed = BODY.shaped(np.zeros(10)).posed(np.eye(3), np.array([0.0, 0.9, -3.0]), np.tile(np.eye(3), (23, 1, 1)))
    joints = posed.joints
    return posed.Rs_frame_joint, joints, (joints[[*ANKLES, *BALLS]] + [0.0, up, 0.0]).tolist()


def out_of_line(joints):
    """How far knees stand out between hips and ankles (2,)."""
    leg, thigh = joints[ANKLES] - joints[HIPS], joints[KNEES] - joints[HIPS]
    return np.linalg.norm(np.cross(thigh, leg), axis=-1) / np.linalg.norm(leg, axis=-1)


@pytest.mark.parametrize("up", [-0.03, 0.013, 0.05])
def test_a_straight_body_gives_way_instead_of_its_knees(up):
    Rs, joints, goals = straight(up)
    bent = joints.copy()
    reach(Rs.copy(), bent, goals)
    given = joints + give_way(joints, goals)
    assert np.allclose(given[0] - joints[0], [0.0, up, 0.0], atol=0.2 * abs(up))
    reach(Rs, given, goals)
    assert np.allclose(given[ANKLES], goals[:2], atol=0.004)
    if up > 0:
        assert (out_of_line(bent) > 2.0 * out_of_line(given)).all()


def test_bent_legs_reach_by_themselves():
    Rs = np.tile(np.eye(3), (23, 1, 1))
    Rs[[0, 1]], Rs[[3, 4]] = exp_so3([-0.8, 0.0, 0.0]), exp_so3([1.6, 0.0, 0.0])
    joints = BODY.shaped(np.zeros(10)).posed(np.eye(3), np.array([0.0, 0.7, -3.0]), Rs).joints
    up = np.array([0.0, 0.02, 0.0])
    assert np.linalg.norm(give_way(joints, (joints[ANKLES] + up).tolist())) < 0.015
    assert give_way(joints, joints[ANKLES].tolist()) == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)


def test_a_body_gives_way_only_so_far():
    _, joints, goals = straight(-1.0)
    assert np.linalg.norm(give_way(joints, goals)) == pytest.approx(MAX_GIVE_M)


def test_knees_are_spared_and_the_foot_slips_for_it():
    Rs, joints, goals = straight(0.08)
    spared = np.array(spare_knees(joints, goals))
    before = out_of_line(joints)
    reach(Rs, joints, spared.tolist())
    assert (np.abs(out_of_line(joints) - before) < SPARED_M + 1e-3).all()
    assert (spared[:, 1] < np.array(goals)[:, 1] - 0.05).all()
    foot = np.array(goals)[2:] - np.array(goals)[:2]
    assert np.allclose(spared[2:] - spared[:2], foot)


def test_goals_that_knees_need_not_move_for_stay():
    _, joints = body()
    goals = joints[[*ANKLES, *BALLS]].tolist()
    assert np.allclose(spare_knees(joints, goals), goals)
