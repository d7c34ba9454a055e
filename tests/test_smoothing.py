"""Filters: less jitter than what comes in, little lag, real rotations, honest predictions."""

import dataclasses

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.frames import angle_between, exp_so3
from pipeline.smoothing import LEVELS, MAX_GAP_S, Poses, PoseSmoother, RootFilter, Rotations, level
from pipeline.types import BodyPose, WorldPose
from tests.support.synthetic import arms_down, camera, walking

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
    assert LEVELS["low"].min_cutoff_hz > LEVELS["default"].min_cutoff_hz > LEVELS["high"].min_cutoff_hz
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


def test_a_turn_through_pi_does_not_flip():
    rotations = Rotations.start(exp_so3([[0.0, 3.0, 0.0]]))
    for angle in np.linspace(3.0, 3.4, 30):
        rotations = rotations.filtered(exp_so3([[0.0, angle, 0.0]]), 1 / 30, LEVELS["default"])
        assert np.degrees(angle_between(rotations.Rs[0], exp_so3([0.0, angle, 0.0]))) < 15.0


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
    assert np.allclose(in_world, world.t_world_root, atol=1e-6)


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


def test_depth_is_damped_more_than_what_the_picture_shows_well():
    rng = np.random.default_rng(4)
    root = RootFilter(np.array([0.0, 1.0, -3.0]), LEVELS["default"])
    out = [root.update(np.array([0, 1, -3]) + rng.normal(0, 0.02, 3), np.array([0.0, 0.0, -3.0]), 1 / 30)
           for _ in range(300)]  # fmt: skip
    spread = np.std(out[50:], axis=0)
    assert spread[2] < 0.7 * spread[0]


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
