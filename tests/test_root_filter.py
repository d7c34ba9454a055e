"""The root's way: depth is damped most, steady walking is followed, feet on the floor hold it."""

import numpy as np

from pipeline.frames import exp_so3
from pipeline.root_filter import RootFilter, RootNoise

NOISE = RootNoise(0.012, 0.06, 6.0)
VIEW = np.array([0.0, 0.0, -3.0])


def spread(held=None, feet=0.0):
    rng = np.random.default_rng(4)
    root = RootFilter(np.array([0.0, 1.0, -3.0]), NOISE)
    out = [root.update(np.array([0, 1, -3]) + rng.normal(0, 0.02, 3), VIEW, 1 / 30, held, feet) for _ in range(300)]
    return np.std(out[50:], axis=0)


def test_depth_is_damped_more_than_what_the_picture_shows_well():
    x, y, z = spread()
    assert z < 0.7 * min(x, y)


def test_feet_on_the_floor_hold_the_depth():
    assert spread(np.array([0.0, 1.0, -3.0]), 2.0)[2] < 0.5 * spread()[2]


def test_a_walk_is_followed_without_lag_and_its_speed_is_told():
    root = RootFilter(np.zeros(3), NOISE)
    for i in range(1, 90):
        out = root.update(np.array([0.04 * i, 0.0, 0.0]), VIEW, 1 / 30)
    assert abs(out[0] - 0.04 * 89) < 0.005
    assert np.allclose(root.velocity, [1.2, 0.0, 0.0], atol=0.02)
    assert np.allclose(root.predict(0.1), out + np.array([0.12, 0.0, 0.0]), atol=0.01)


def test_another_frame_of_reference_changes_nothing_else():
    R, t = exp_so3([0.1, 0.7, 0.2]), np.array([1.0, 0.5, -0.3])
    a, b = RootFilter(np.zeros(3), NOISE), RootFilter(np.zeros(3), NOISE)
    for i in range(1, 20):
        p = np.array([0.04 * i, 0.0, -0.02 * i])
        here = a.update(p, VIEW, 1 / 30)
        b.update(p, VIEW, 1 / 30)
    b.move(R, t)
    assert np.allclose(b.position, R @ here + t)
    assert np.allclose(b.velocity, R @ a.velocity)
