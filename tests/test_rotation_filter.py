"""Turns of bones: less trembling, little lag, no belief in what no body can do."""

import numpy as np
import pytest

from pipeline.frames import angle_between, exp_so3
from pipeline.rotation_filter import DOUBT_S, TurnGains, Turning

GAINS = TurnGains(0.75, 0.6, 0.75)
SURE, DT = np.ones((1, 1)), np.array([1 / 30])


def follow(rotvecs, dt_s=1 / 30, gains=GAINS, sure=SURE):
    """What the filter makes of one bone's rotation vectors (T, 3)."""
    Rs = exp_so3(np.asarray(rotvecs))[:, None, None]
    turning, out = Turning.start(Rs[0]), [Rs[0]]
    for R in Rs[1:]:
        turning, smooth = turning.filtered(R, sure, np.array([dt_s]), gains)
        out.append(smooth)
    return np.array(out)[:, 0, 0]


def trembling(Rs) -> float:
    return float(np.abs(np.diff(Rs, 3, axis=0)).mean())


def test_trembling_goes_down_to_a_fifth():
    noise = np.random.default_rng(0).normal(0, 0.05, (300, 3))
    assert trembling(follow(noise)[20:]) < 0.2 * trembling(exp_so3(noise)[20:])


def test_a_bone_at_rest_is_damped_harder_than_one_that_turns():
    noise = np.random.default_rng(1).normal(0, 0.05, (300, 3))
    steady = 4.0 * np.arange(300)[:, None] / 30 * [0.0, 0.0, 1.0]
    turning = trembling(follow(steady + noise)[20:]) - trembling(follow(steady)[20:])
    assert trembling(follow(noise)[20:]) < 0.7 * turning


def test_what_is_hardly_seen_moves_less():
    noise = np.random.default_rng(2).normal(0, 0.05, (300, 3))
    assert trembling(follow(noise, sure=0.1 * SURE)[20:]) < 0.6 * trembling(follow(noise)[20:])


@pytest.mark.parametrize("fps", [25, 30, 60])
def test_a_steady_turn_lags_less_than_a_frame(fps):
    angles = 4.0 * np.arange(3 * fps) / fps
    out = follow(angles[:, None] * [0.0, 0.0, 1.0], 1 / fps)
    behind = angle_between(out[-1], exp_so3([0.0, 0.0, angles[-1]]))
    assert behind < 4.0 / fps
    assert np.allclose(out @ np.swapaxes(out, 1, 2), np.eye(3), atol=1e-12)


def test_a_turn_through_pi_does_not_flip():
    angles = np.linspace(2.9, 3.6, 60)
    out = follow(angles[:, None] * [0.0, 1.0, 0.0])
    assert np.degrees(angle_between(out, exp_so3(angles[:, None] * [0.0, 1.0, 0.0]))).max() < 6.0


def test_a_flip_of_a_frame_or_two_is_not_believed():
    angles = np.zeros((90, 3))
    angles[[40, 41, 50, 52, 54], 1] = np.pi - 0.1
    assert np.degrees(angle_between(follow(angles), np.eye(3))).max() < 1.0


def test_a_flip_that_stays_is_believed_soon():
    angles = np.zeros((90, 3))
    angles[40:, 1] = 2.8
    out = follow(angles)
    at = 40 + int(np.ceil(DOUBT_S * 30)) + 12
    assert np.degrees(angle_between(out[at], exp_so3(angles[at]))) < 3.0


def test_a_long_run_stays_on_the_rotations():
    rng = np.random.default_rng(3)
    turning = Turning.start(exp_so3(rng.normal(size=(1, 24, 3))))
    for _ in range(2000):
        turning, out = turning.filtered(exp_so3(rng.normal(0, 0.3, (1, 24, 3))), np.ones((1, 24)), DT, GAINS)
    assert np.abs(out @ np.swapaxes(out, -1, -2) - np.eye(3)).max() < 1e-12
