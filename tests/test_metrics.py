"""Every metric on hand-made motion whose error is known."""

import numpy as np
import pytest

from benchmarks import metrics
from benchmarks.truth import SCORED
from pipeline.frames import exp_so3

T, FPS = 90, 30.0
X, Y, Z = np.eye(3)
HIPS, SHOULDERS, ANKLES = (
    [SCORED.index(f"{side}_{part}") for side in ("left", "right")] for part in ("hip", "shoulder", "ankle")
)
LEFT_WRIST, RIGHT_WRIST = SCORED.index("left_wrist"), SCORED.index("right_wrist")


def standing(frames: int = T) -> np.ndarray:
    """Somebody upright who faces +z, left at +x, soles at y = 0; the hips' middle at (0, 0.9, 0)."""
    half_width = {"shoulder": 0.18, "elbow": 0.25, "wrist": 0.28, "hip": 0.09, "knee": 0.10, "ankle": 0.10}
    height = {"shoulder": 1.4, "elbow": 1.1, "wrist": 0.85, "hip": 0.9, "knee": 0.48, "ankle": 0.08}
    joints = np.zeros((len(SCORED), 3))
    for i, name in enumerate(SCORED):
        side, part = name.split("_")
        joints[i] = [half_width[part] * (1 if side == "left" else -1), height[part], 0.02 * (i // 2)]
    return np.tile(joints, (frames, 1, 1))


def walk(frames: int = T) -> np.ndarray:
    """The same on a curve of a few metres."""
    s = np.linspace(0.0, 1.0, frames)[:, None]
    return standing(frames) + (3.0 * s * X + np.sin(3.0 * s) * Z)[:, None]


def about_root(joints: np.ndarray, R: np.ndarray) -> np.ndarray:
    root = metrics.root(joints)[:, None]
    return (joints - root) @ R.T + root


def wave(frames: int, shift: float, wrist: int = LEFT_WRIST) -> np.ndarray:
    """One wrist moves up and down irregularly, `shift` frames later."""
    t = (np.arange(frames) - shift) / FPS
    joints = standing(frames)
    joints[:, wrist, 1] += 0.2 * np.sin(6.0 * t) + 0.15 * np.sin(9.7 * t + 1.0)
    return joints


def test_the_truth_itself_has_no_error():
    a = walk()
    assert metrics.mpjpe_mm(a, a) == 0.0
    assert metrics.pa_mpjpe_mm(a, a) == pytest.approx(0.0, abs=1e-6)
    assert metrics.root_error(a, a) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.0, abs=1e-6))
    assert metrics.pitch_bias_deg(a, a) == 0.0
    assert metrics.acceleration_error(a, a, FPS) == 0.0
    assert metrics.foot_slide_mm(standing(), standing()) == 0.0


def test_mpjpe_takes_the_root_out_and_is_a_mean_distance():
    a = standing()
    assert metrics.mpjpe_mm(a + np.array([5.0, -2.0, 1.0]), a) == pytest.approx(0.0, abs=1e-9)
    moved = a.copy()
    moved[:, LEFT_WRIST] += [0.03, 0.0, 0.04]
    assert metrics.mpjpe_mm(moved, a) == pytest.approx(50.0 / 12)


def test_a_pure_rotation_is_seen_by_mpjpe_and_taken_out_by_procrustes():
    a = walk()
    turned = about_root(a, exp_so3([0.2, 0.7, -0.1]))
    assert metrics.mpjpe_mm(turned, a) > 50.0
    assert metrics.pa_mpjpe_mm(turned, a) == pytest.approx(0.0, abs=1e-6)
    assert metrics.pa_mpjpe_mm(1.3 * turned + 2.0, a) == pytest.approx(0.0, abs=1e-6)


def test_procrustes_does_not_mirror():
    a = standing()
    assert metrics.pa_mpjpe_mm(a * [-1.0, 1.0, 1.0], a) > 10.0


def test_mpjpe_of_a_half_turn_is_twice_the_distance_from_the_axis():
    a = standing()
    from_axis = np.linalg.norm(metrics.relative(a)[0][:, [0, 2]], axis=-1)
    turned = about_root(a, exp_so3([0.0, np.pi, 0.0]))
    assert metrics.mpjpe_mm(turned, a) == pytest.approx(2e3 * from_axis.mean())


@pytest.mark.parametrize("yaw", [-2.0, 0.3, 1.6, 3.1])
def test_root_error_takes_out_yaw_and_origin(yaw):
    a = walk()
    moved = a @ exp_so3([0.0, yaw, 0.0]).T + [3.0, -1.0, 2.0]
    error_mm, error_pct = metrics.root_error(moved, a)
    assert error_mm == pytest.approx(0.0, abs=1e-6)
    assert error_pct == pytest.approx(0.0, abs=1e-6)


def test_root_error_leaves_tilt_and_scale_in():
    a = walk()
    assert metrics.root_error(a @ exp_so3([0.0, 0.0, 0.2]).T, a)[0] > 50.0
    straight = standing() + np.linspace(-1.0, 1.0, T)[:, None, None] * X
    larger = standing() + 1.1 * np.linspace(-1.0, 1.0, T)[:, None, None] * X
    error_mm, error_pct = metrics.root_error(larger, straight)
    assert error_mm == pytest.approx(0.1 * np.abs(np.linspace(-1.0, 1.0, T)).mean() * 1e3)
    assert error_pct == pytest.approx(error_mm / 2000.0 * 100)


def test_somebody_who_hardly_moves_has_no_error_in_percent():
    error_mm, error_pct = metrics.root_error(standing() + 0.1, standing())
    assert error_mm == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(error_pct)


@pytest.mark.parametrize("yaw", [0.0, 0.8, 2.5, -1.7])
@pytest.mark.parametrize("lean_deg", [8.0, -5.0])
def test_a_constant_lean_is_the_pitch_bias_forward_positive(yaw, lean_deg):
    turn = exp_so3([0.0, yaw, 0.0])
    truth = about_root(standing(), turn)
    # Facing +z, a turn about +x takes the shoulders from +y toward +z: forward
    leaning = about_root(about_root(standing(), exp_so3([np.radians(lean_deg), 0.0, 0.0])), turn)
    assert metrics.pitch_bias_deg(leaning, truth) == pytest.approx(lean_deg, abs=1e-6)


def test_pitch_bias_of_somebody_upside_down_does_not_jump():
    truth = about_root(standing(), exp_so3([np.radians(179.0), 0.0, 0.0]))
    over = about_root(standing(), exp_so3([np.radians(183.0), 0.0, 0.0]))
    assert metrics.pitch_bias_deg(over, truth) == pytest.approx(4.0, abs=1e-6)


def test_a_lean_to_the_side_is_no_pitch():
    leaning = about_root(standing(), exp_so3([0.0, 0.0, 0.15]))
    assert metrics.pitch_bias_deg(leaning, standing()) == pytest.approx(0.0, abs=0.1)


def test_jitter_of_a_cubic_is_its_third_derivative():
    t = np.arange(T)[:, None, None] / FPS
    assert metrics.jitter(standing() + 0.5 * t**3 * X, FPS) == pytest.approx(6 * 0.5 / 10)
    assert metrics.jitter(standing() + 2.0 * t**2 * X + t * Y, FPS) == pytest.approx(0.0, abs=1e-6)


def test_acceleration_error_of_a_parabola_is_its_second_derivative():
    t = np.arange(T) / FPS
    moving = standing()
    moving[:, LEFT_WRIST, 1] += 1.5 * t**2
    assert metrics.acceleration_error(moving, standing(), FPS) == pytest.approx(3.0 / 12)
    assert metrics.acceleration_error(standing() + (t**2)[:, None, None] * X, standing(), FPS) == pytest.approx(
        0.0, abs=1e-9
    )


def test_a_foot_that_slides_counts_only_while_the_true_one_rests():
    truth, mine = standing(), standing()
    mine[:, ANKLES, 0] += 0.004 * np.arange(T)[:, None]
    assert metrics.foot_slide_mm(mine, truth) == pytest.approx(4.0)
    # The left foot truly swings in the second half, so its steps there do not count
    truth[T // 2 :, ANKLES[0], 2] += 0.03 * np.arange(T - T // 2)
    mine[T // 2 :, ANKLES[0], 0] += 0.5 * np.arange(T - T // 2)
    assert metrics.foot_slide_mm(mine, truth) == pytest.approx(4.0)
    assert np.isnan(metrics.foot_slide_mm(walk(20), walk(20)))


@pytest.mark.parametrize("shift", [-3, 0, 1, 4])
def test_lag_of_a_shifted_wave(shift):
    assert metrics.lag_frames(wave(200, shift), wave(200, 0.0)) == pytest.approx(shift, abs=0.1)


@pytest.mark.parametrize("shift", [0.5, 1.25, 2.7])
def test_lag_finds_parts_of_a_frame(shift):
    assert metrics.lag_frames(wave(200, shift), wave(200, 0.0)) == pytest.approx(shift, abs=0.15)


def test_lag_looks_at_the_wrist_that_tells():
    late, truth = wave(200, 2.0, RIGHT_WRIST), wave(200, 0.0, RIGHT_WRIST)
    late[:, LEFT_WRIST, 1] += 0.005 * np.sin(np.arange(200) / 3.0)
    truth[:, LEFT_WRIST, 1] += 0.005 * np.sin(np.arange(200) / 2.0)
    assert metrics.lag_frames(late, truth) == pytest.approx(2.0, abs=0.1)


def test_wrists_that_do_not_agree_have_no_lag():
    rng = np.random.default_rng(5)
    noise = standing(300)
    noise[:, [LEFT_WRIST, RIGHT_WRIST]] += rng.normal(0.0, 0.1, (300, 2, 3))
    assert np.isnan(metrics.lag_frames(noise, wave(300, 0.0)))


def test_a_short_clip_has_no_lag():
    assert np.isnan(metrics.lag_frames(wave(40, 1.0), wave(40, 0.0)))


def test_frames_without_truth_or_without_a_person_do_not_count():
    truth, mine = walk(), walk() + 0.5 * Z
    mine[:, LEFT_WRIST] += [0.12, 0.0, 0.0]
    truth[10:15] = np.nan
    mine[40:60] = np.nan
    assert metrics.mpjpe_mm(mine, truth) == pytest.approx(10.0)
    assert metrics.root_error(mine, truth)[0] == pytest.approx(0.0, abs=1e-6)
    assert metrics.pa_mpjpe_mm(1.1 * mine, mine) == pytest.approx(0.0, abs=1e-6)
    assert metrics.pitch_bias_deg(mine, truth) == pytest.approx(0.0, abs=1e-9)
    nothing = np.full_like(truth, np.nan)
    for value in (
        metrics.mpjpe_mm(nothing, truth), metrics.pa_mpjpe_mm(nothing, truth), metrics.root_error(nothing, truth)[0],
        metrics.pitch_bias_deg(nothing, truth), metrics.jitter(nothing, FPS), metrics.lag_frames(nothing, truth),
        metrics.foot_slide_mm(nothing, truth), metrics.acceleration_error(nothing, truth, FPS),
    ):  # fmt: skip
        assert np.isnan(value)


def test_a_gap_makes_no_jitter():
    mine = standing()
    mine[30:] += 1.0
    mine[29] = np.nan
    assert metrics.jitter(mine, FPS) == 0.0


def test_an_id_that_changes_for_good_is_a_switch_and_one_that_flickers_is_not():
    steady = np.full(100, 3)
    flicker = steady.copy()
    flicker[40:45] = 4
    changed = steady.copy()
    changed[60:] = 9
    assert metrics.id_switches(steady, 30.0) == 0
    assert metrics.id_switches(flicker, 30.0) == 0
    assert metrics.id_switches(changed, 30.0) == 1
    assert metrics.id_switches(np.zeros(0, dtype=np.int64), 30.0) == 0
