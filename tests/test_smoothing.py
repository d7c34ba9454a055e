"""Filters: less jitter than what comes in, little lag, real rotations, honest predictions."""

import dataclasses
import itertools

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.frames import angle_between, exp_so3
from pipeline.smoothing import MAX_GAP_S, Poses, PoseSmoother, level
from pipeline.types import JOINT_PARENTS, BodyPose, WorldPose
from tests.support.synthetic import arms_down, camera, stand, walking

BODY = BodyModel.load()
CAMERA = camera()


def pair(position, R_root=None, Rs=None) -> tuple[WorldPose, BodyPose]:
    R_root = np.eye(3) if R_root is None else R_root
    Rs = arms_down() if Rs is None else Rs
    posed = BODY.shaped(np.zeros(10)).posed(R_root, np.asarray(position), Rs)
    R, t = CAMERA.R_world_camera, CAMERA.t_world_camera
    joints = (posed.joints - t) @ R
    betas, sure = np.zeros(10), np.ones(24)
    return (
        WorldPose(R_root, np.asarray(position), Rs, betas, posed.joints, sure),
        BodyPose(R.T @ R_root, joints[0], Rs, betas, joints, sure),
    )


def smooth_one(smoother, world, body, calibration, track_id, t_s):
    (poses,) = smoother([Poses(world, body)], calibration, [track_id], t_s)
    return poses.world, poses.camera


def jitter(positions) -> float:
    return float(np.abs(np.diff(positions, 3, axis=0)).mean())


@pytest.mark.parametrize("name", ["low", "default", "high"])
def test_noise_goes_down_and_more_at_higher_levels(name):
    rng, smoother = np.random.default_rng(0), PoseSmoother(BODY, name)
    raw, smooth, angles_raw, angles = [], [], [], []
    for i in range(200):
        R = exp_so3(rng.normal(0, 0.03, 3))
        world, body = pair(np.array([0, 0.9, -3]) + rng.normal(0, [0.005, 0.005, 0.03]), R)
        raw.append(world.t_world_root)
        angles_raw.append(angle_between(world.R_world_root, np.eye(3)))
        world, body = smooth_one(smoother, world, body, CAMERA, 1, i / 30)
        smooth.append(world.t_world_root)
        angles.append(angle_between(world.R_world_root, np.eye(3)))
    assert jitter(smooth[20:]) < 0.5 * jitter(raw[20:])
    assert np.mean(angles[20:]) < 0.8 * np.mean(angles_raw[20:])


def test_levels_are_ordered():
    low, default, high = (level(name) for name in ("low", "default", "high"))
    assert low.turns.angle > default.turns.angle > high.turns.angle
    assert low.root.across_m < default.root.across_m < high.root.across_m
    with pytest.raises(ValueError, match="expected one of off, low, default, high, got 'wild'"):
        level("wild")


def test_off_changes_nothing_but_tells_the_velocity():
    smoother = PoseSmoother(BODY, "off")
    for i in range(10):
        world, body = pair([0.1 * i, 0.9, -3.0])
        out_world, out_body = smooth_one(smoother, world, body, CAMERA, 1, i / 10)
        assert out_body is body
        assert np.array_equal(out_world.t_world_root, world.t_world_root)
    assert np.allclose(out_world.velocity_m_s, [1.0, 0.0, 0.0])


def test_a_walk_keeps_its_speed_and_lags_less_than_a_frame():
    smoother = PoseSmoother(BODY, "default")
    for i in range(90):
        world, body = pair([1.2 * i / 30, 0.9, -3.0], Rs=walking(0.2 * i))
        out, _ = smooth_one(smoother, world, body, CAMERA, 1, i / 30)
    assert np.allclose(out.velocity_m_s, [1.2, 0.0, 0.0], atol=0.03)
    assert abs(out.t_world_root[0] - world.t_world_root[0]) < 1.2 / 30


def test_a_fast_turn_is_followed_and_stays_a_rotation():
    smoother = PoseSmoother(BODY, "default")
    for i in range(200):
        R = exp_so3([0.0, 4.0 * i / 30, 0.0])
        out, out_body = smooth_one(smoother, *pair([0, 0.9, -3], R), CAMERA, 1, i / 30)
    assert np.degrees(angle_between(out.R_world_root, R)) < 12.0
    for stack in (out.R_world_root, out_body.R_camera_root, out.Rs_parent_joint):
        assert np.allclose(stack @ np.swapaxes(stack, -1, -2), np.eye(3), atol=1e-9)


def test_joints_follow_from_the_smoothed_pose_in_both_frames():
    rng, smoother = np.random.default_rng(1), PoseSmoother(BODY, "high")
    for i in range(30):
        world, body = pair(
            np.array([0, 0.9, -3]) + rng.normal(0, 0.02, 3), exp_so3(rng.normal(0, 0.05, 3)), walking(0.2 * i)
        )
        world, body = smooth_one(smoother, world, body, CAMERA, 1, i / 30)
    shaped = BODY.shaped(world.betas)
    again = shaped.posed(world.R_world_root, world.t_world_root, world.Rs_parent_joint).joints
    assert np.allclose(again, world.joints_world_m, atol=1e-9)
    again = shaped.posed(body.R_camera_root, body.t_camera_root, body.Rs_parent_joint).joints
    assert np.allclose(again, body.joints_camera_m, atol=1e-9)
    in_world = body.t_camera_root @ CAMERA.R_world_camera.T + CAMERA.t_world_camera
    # The feet were set on the floor in the world; the picture is the picture
    assert np.allclose((in_world - world.t_world_root)[[0, 2]], 0.0, atol=1e-9)
    assert abs(in_world[1] - world.t_world_root[1]) < 0.05


def test_a_miss_is_carried_on_for_a_moment_and_then_given_up():
    smoother = PoseSmoother(BODY, "default")
    for i in range(60):
        smooth_one(smoother, *pair([1.0 * i / 30, 0.9, -3.0]), CAMERA, 1, i / 30)
    last = 59 / 30
    carried = smoother.predict(CAMERA, 1, last + 0.1)
    world, body = carried.world, carried.camera
    assert 0.06 < world.t_world_root[0] - last < 0.11
    assert world.confidence.max() < 1.0
    assert np.allclose(body.t_camera_root @ CAMERA.R_world_camera.T + CAMERA.t_world_camera, world.t_world_root)
    assert smoother.predict(CAMERA, 1, last + MAX_GAP_S + 0.01) is None
    assert smoother.predict(CAMERA, 2, last) is None


def test_a_gap_or_another_person_starts_afresh():
    smoother = PoseSmoother(BODY, "high")
    for i in range(30):
        smooth_one(smoother, *pair([0, 0.9, -3.0]), CAMERA, 1, i / 30)
    there = pair([2.0, 0.9, -4.0])
    after_gap, _ = smooth_one(smoother, *there, CAMERA, 1, 5.0)
    assert np.array_equal(after_gap.t_world_root, there[0].t_world_root)
    other, _ = smooth_one(smoother, *there, CAMERA, 9, 5.03)
    assert np.array_equal(other.t_world_root, there[0].t_world_root)


def test_uneven_times_are_no_trouble():
    smoother, times = PoseSmoother(BODY, "default"), np.cumsum(np.tile([0.01, 0.05, 0.033], 40))
    for t in times:
        out, _ = smooth_one(smoother, *pair([0.8 * t, 0.9, -3.0]), CAMERA, 1, float(t))
    assert abs(out.velocity_m_s[0] - 0.8) < 0.05


def test_new_betas_change_the_bones_at_once():
    smoother = PoseSmoother(BODY, "default")
    smooth_one(smoother, *pair([0, 0.9, -3.0]), CAMERA, 1, 0.0)
    world, body = pair([0, 0.9, -3.0])
    taller = BODY.betas_for_height(1.9)
    world, body = dataclasses.replace(world, betas=taller), dataclasses.replace(body, betas=taller)
    out, _ = smooth_one(smoother, world, body, CAMERA, 1, 0.03)
    thigh = np.linalg.norm(out.joints_world_m[4] - out.joints_world_m[1])
    rest = BODY.shaped(taller).joints_rest
    assert np.isclose(thigh, np.linalg.norm(rest[4] - rest[1]))


def test_a_new_calibration_moves_the_world_and_nobody_in_it():
    smoother = PoseSmoother(BODY, "default")
    unknown = dataclasses.replace(CAMERA, camera_height_m=None, height_spread_m=None)
    for i in range(30):
        world, body = pair([0.0, 0.9, -3.0])
        below = dataclasses.replace(world, t_world_root=world.t_world_root - unknown_height())
        smooth_one(smoother, below, body, unknown, 1, i / 30)
    for i in range(30, 40):
        out, _ = smooth_one(smoother, *pair([0.0, 0.9, -3.0]), CAMERA, 1, i / 30)
        assert np.allclose(out.t_world_root, [0.0, 0.9, -3.0], atol=0.02)
        assert np.linalg.norm(out.velocity_m_s) < 0.05


def unknown_height():
    return np.array([0.0, CAMERA.camera_height_m, 0.0])


def feet_of(world) -> np.ndarray:
    return world.joints_world_m[[7, 8]]


def standing_pair(rng, place=(0.1, -3.5), Rs=None, floor_m=0.0, depth_m=0.05):
    """Somebody who stands, seen with depth errors of the root and trembling legs."""
    posed = stand(BODY, arms_down() if Rs is None else Rs, 0.1, place, floor_m)
    Rs = np.array(posed.Rs_parent_joint)
    Rs[[0, 1, 3, 4]] = exp_so3(rng.normal(0, [0.03, 0.004, 0.004], (4, 3))) @ Rs[[0, 1, 3, 4]]
    view = posed.joints[0] - CAMERA.t_world_camera
    noise = rng.normal(0, depth_m) * view / np.linalg.norm(view) + rng.normal(0, 0.003, 3)
    return pair(posed.joints[0] + noise, exp_so3([0.0, 0.1, 0.0]), Rs)


def test_feet_of_somebody_who_stands_stay_on_the_floor_for_a_minute():
    rng, smoother = np.random.default_rng(2), PoseSmoother(BODY, "default")
    raw, feet, roots = [], [], []
    for i in range(1800):
        world, body = standing_pair(rng)
        raw.append(feet_of(world))
        world, _ = smooth_one(smoother, world, body, CAMERA, 1, i / 30)
        feet.append(feet_of(world))
        roots.append(world.t_world_root)
    slide, raw_slide = (np.linalg.norm(np.diff(x[60:], axis=0), axis=-1).mean() for x in (feet, raw))
    assert slide < 0.002 < 0.02 < raw_slide
    true = stand(BODY, arms_down(), 0.1, (0.1, -3.5)).joints
    assert np.linalg.norm(np.mean(roots[1500:], axis=0) - true[0]) < 0.03
    assert np.abs(np.mean(feet[1500:], axis=0)[:, 1] - true[[7, 8], 1]).max() < 0.03


def test_a_jump_leaves_the_floor_and_lands():
    rng, smoother = np.random.default_rng(3), PoseSmoother(BODY, "default")
    heights = []
    for i in range(120):
        t = i / 30 - 2.0
        up = max(0.0, 2.6 * t - 4.905 * t * t) if t > 0 else 0.0
        world, body = standing_pair(rng, floor_m=up, depth_m=0.01)
        world, _ = smooth_one(smoother, world, body, CAMERA, 1, i / 30)
        heights.append(feet_of(world)[:, 1].min())
    assert max(heights) > 0.3
    assert np.abs(np.array(heights[50:59]) - 0.08).max() < 0.03
    assert np.abs(np.array(heights[90:]) - 0.08).max() < 0.05


def test_walking_feet_are_not_dragged_and_nothing_pops():
    smoother, truth = PoseSmoother(BODY, "default"), []
    out = []
    for i in range(150):
        posed = stand(
            BODY, walking(0.2 * i), 1.2, (-1.0 + 0.9 * i / 30 * np.sin(1.2), -3.5 + 0.9 * i / 30 * np.cos(1.2))
        )
        world, body = pair(posed.joints[0], exp_so3([0.0, 1.2, 0.0]), posed.Rs_parent_joint)
        truth.append(feet_of(world))
        out.append(feet_of(smooth_one(smoother, world, body, CAMERA, 1, i / 30)[0]))
    truth, out = np.array(truth), np.array(out)
    assert np.linalg.norm(out - truth, axis=-1).max() < 0.15
    assert (
        np.linalg.norm(np.diff(out, axis=0), axis=-1).max()
        < 1.4 * np.linalg.norm(np.diff(truth, axis=0), axis=-1).max()
    )


@pytest.mark.parametrize("turn", [[np.pi, 0, 0], [-np.pi / 2, 0, 0], [0, 0, np.pi / 2]])
def test_handstands_and_lying_go_through_as_they_are(turn):
    smoother = PoseSmoother(BODY, "default")
    for i in range(60):
        world, body = pair([0.1, 0.9, -3.0], exp_so3(turn))
        out, _ = smooth_one(smoother, world, body, CAMERA, 1, i / 30)
    assert np.allclose(out.joints_world_m, world.joints_world_m, atol=0.02)


def test_bones_keep_their_lengths_while_feet_are_held():
    rng, smoother = np.random.default_rng(5), PoseSmoother(BODY, "default")
    parents = np.array(JOINT_PARENTS[1:])
    rest = np.linalg.norm(BODY.joints[1:] - BODY.joints[parents], axis=-1)
    for i in range(60):
        world, _ = smooth_one(smoother, *standing_pair(rng), CAMERA, 1, i / 30)
    joints = world.joints_world_m
    assert np.allclose(np.linalg.norm(joints[1:] - joints[parents], axis=-1), rest, atol=1e-9)


def test_the_same_frames_give_the_same_poses_whoever_else_is_there():
    alone, together = PoseSmoother(BODY, "default"), PoseSmoother(BODY, "default")
    rng, other = np.random.default_rng(6), np.random.default_rng(7)
    for i in range(40):
        first, second = standing_pair(rng), standing_pair(other, place=(1.0, -4.0))
        (a,) = alone([Poses(*first)], CAMERA, [1], i / 30)
        ids = [1, 2] if i % 3 else [1]
        b = together([Poses(*first), Poses(*second)][: len(ids)], CAMERA, ids, i / 30)[0]
        assert np.allclose(a.world.joints_world_m, b.world.joints_world_m, atol=1e-12)
        assert np.allclose(a.camera.Rs_parent_joint, b.camera.Rs_parent_joint, atol=1e-12)


def test_feet_stay_while_nobody_is_seen():
    rng, smoother = np.random.default_rng(8), PoseSmoother(BODY, "default")
    for i in range(60):
        world, _ = smooth_one(smoother, *standing_pair(rng), CAMERA, 1, i / 30)
    carried = smoother.predict(CAMERA, 1, 59 / 30 + 0.1)
    assert np.allclose(feet_of(carried.world), feet_of(world), atol=0.01)


@pytest.mark.parametrize("times", [np.arange(75) / 25, np.arange(180) / 60, np.cumsum(np.tile([0.02, 0.06, 0.04], 25))])
def test_held_feet_do_not_depend_on_the_frame_rate(times):
    rng, smoother, feet = np.random.default_rng(9), PoseSmoother(BODY, "default"), []
    for t in times:
        world, _ = smooth_one(smoother, *standing_pair(rng), CAMERA, 1, float(t))
        feet.append(feet_of(world))
    last = [a for a, t in zip(feet, times, strict=True) if t > 1.5]
    assert max(np.abs(b - a).max() for a, b in itertools.pairwise(last)) < 0.008


def test_a_calibration_that_moves_takes_the_feet_along():
    rng, smoother = np.random.default_rng(10), PoseSmoother(BODY, "default")
    for i in range(60):
        before, _ = smooth_one(smoother, *standing_pair(rng), CAMERA, 1, i / 30)
    turn = exp_so3([0.0, 0.3, 0.0])
    turned = dataclasses.replace(CAMERA, R_world_camera=turn @ CAMERA.R_world_camera)
    world, body = standing_pair(rng)
    world = dataclasses.replace(
        world, R_world_root=turn @ world.R_world_root, t_world_root=turn @ world.t_world_root,
        joints_world_m=world.joints_world_m @ turn.T,
    )  # fmt: skip
    after, _ = smooth_one(smoother, world, body, turned, 1, 2.0)
    assert np.allclose(feet_of(after), feet_of(before) @ turn.T, atol=0.03)


def test_a_calibration_that_settles_moves_nobody_who_stands():
    smoother, out = PoseSmoother(BODY, "default"), []
    for i in range(60):
        longer = np.diag([1.0 + 0.003 * i, 1.0 + 0.003 * i, 1.0])
        settling = dataclasses.replace(CAMERA, K=CAMERA.K @ longer)
        world, body = pair([0.2, 0.9, -3.0])
        place = body.t_camera_root * [1.0, 1.0, 1.0 + 0.003 * i]
        there = CAMERA.R_world_camera @ place + CAMERA.t_world_camera - world.t_world_root
        world = dataclasses.replace(
            world, t_world_root=world.t_world_root + there, joints_world_m=world.joints_world_m + there
        )
        body = dataclasses.replace(
            body, t_camera_root=place, joints_camera_m=body.joints_camera_m + place - body.t_camera_root
        )
        out.append(smooth_one(smoother, world, body, settling, 1, i / 30))
    assert np.linalg.norm(there) > 0.4
    poses = [world.t_world_root for world, _ in out]
    assert np.linalg.norm(poses[-1] - poses[0]) < 0.25 * np.linalg.norm(there)
    _, body = out[-1]
    # In the picture they are where they were seen, but for the centimetre that the body gives way to its feet
    assert np.abs(body.t_camera_root[:2] / body.t_camera_root[2] - place[:2] / place[2]).max() < 0.003
    assert abs(body.t_camera_root[2] - place[2]) < 0.1
