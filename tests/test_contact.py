"""Contact of feet: found while they stand, let go when they swing, and never with a pop."""

import numpy as np

from pipeline.contact import ABOVE_SOLE_M, LEAVE_ACROSS_M, MISS_M, Feet, Seen

VIEW = (0.0, 0.0, -1.0)
#: Left and right ankle, left and right ball, of somebody who stands three metres before a level camera 1 m up.
STANDING = np.array([[0.1, 0.08, -3.0], [-0.1, 0.08, -3.0], [0.12, 0.03, -2.87], [-0.12, 0.03, -2.87]])


def camera_of(world):
    """World points before a level camera one metre above the floor."""
    return (np.asarray(world) - [0.0, 1.0, 0.0]) * [1.0, -1.0, -1.0]


def seen(world, sure=1.0, floor_known=True):
    return Seen(camera_of(world).tolist(), np.asarray(world).tolist(), [sure] * 4, 3.0, VIEW, floor_known)


def walk(worlds, fps=30, **options):
    """Feet led through `worlds` (T, 4, 3): who touched (T, 4), and where the points were put (T, 4, 3)."""
    feet = Feet(camera_of(worlds[0]))
    touched, placed = [], []
    for world in worlds:
        at = seen(world, **options)
        feet.look(at, 1 / fps)
        placed.append(feet.place(world.tolist(), 1 / fps, at.floor_known))
        touched.append(feet.touching)
    return np.array(touched), np.array(placed)


def standing(frames, noise_m=0.0, seed=0):
    return STANDING + np.random.default_rng(seed).normal(0.0, noise_m, (frames, 4, 3))


def stepping(frames=90, fps=30):
    """The left foot swings 0.6 m to the side in a third of a second, from the middle of the time on."""
    worlds = standing(frames)
    share = np.clip((np.arange(frames) - frames / 2) / (fps / 3), 0.0, 1.0)
    worlds[:, [0, 2], 0] += 0.6 * (share * share * (3 - 2 * share))[:, None]
    worlds[:, [0, 2], 1] += 0.12 * np.sin(np.pi * share)[:, None]
    return worlds, share


def test_feet_that_stand_touch_soon_and_stay_for_good():
    touched, placed = walk(standing(600, 0.004))
    assert touched[15:].all()
    assert np.linalg.norm(np.diff(placed[60:], axis=0), axis=-1).max() < 0.002


def test_depth_noise_of_a_decimetre_does_not_move_them():
    worlds = standing(600, 0.003)
    worlds += np.random.default_rng(1).normal(0.0, 0.05, (600, 4, 1)) * (worlds - [0.0, 1.0, 0.0]) / 3.0
    _, placed = walk(worlds)
    assert np.linalg.norm(np.diff(placed[60:], axis=0), axis=-1).mean() < 0.001


def test_a_foot_that_swings_is_let_go_at_once_and_held_again():
    worlds, share = stepping()
    touched, placed = walk(worlds)
    swinging = (share > 0.15) & (share < 0.85)
    assert not touched[swinging][:, [0, 2]].any()
    assert touched[10:][:, [1, 3]].all()
    assert touched[-5:].all()
    assert np.abs(placed - worlds).max() < 0.05


def test_nothing_pops_when_feet_come_and_go():
    worlds, _ = stepping()
    _, placed = walk(worlds)
    steps = np.linalg.norm(np.diff(worlds, axis=0), axis=-1).max()
    assert np.linalg.norm(np.diff(placed, axis=0), axis=-1).max() < 1.5 * steps


def test_frame_rates_agree():
    held = []
    for fps in (25, 30, 60):
        worlds, _ = stepping(3 * fps, fps)
        touched, _ = walk(worlds, fps)
        held.append(touched[:, 0].mean())
    assert np.ptp(held) < 0.06


def test_raised_and_unseen_feet_do_not_touch():
    raised = standing(60)
    raised[:, [0, 2], 1] += 0.3
    assert not walk(raised)[0][:, [0, 2]].any()
    assert not walk(standing(60), sure=0.1)[0].any()
    lying = standing(60) + np.array([0.0, 0.6, 0.0])
    assert not walk(lying)[0].any()
    assert walk(lying, floor_known=False)[0][-1].all()


def test_a_heel_that_lifts_leaves_the_ball_where_it_is():
    worlds = standing(90)
    lift = np.clip((np.arange(90) - 45) / 6, 0.0, 1.0)
    worlds[:, 0] += lift[:, None] * [0.0, 0.14, -0.05]
    worlds[45:, 2] += np.random.default_rng(2).normal(0.0, 0.003, (45, 3))
    touched, placed = walk(worlds)
    assert touched[-10:, 2].all()
    assert np.linalg.norm(np.diff(placed[45:, 2], axis=0), axis=-1).max() < 0.004
    assert placed[-1, 0, 1] > 0.17


def test_what_stands_too_high_comes_down_with_the_body():
    feet, high = Feet(camera_of(STANDING)), STANDING + np.array([0.0, 0.1, 0.0])
    for _ in range(450):
        world = high - [0.0, feet.lift_m, 0.0]
        feet.look(seen(world), 1 / 30)
        placed = feet.place(world.tolist(), 1 / 30, True)
    assert abs(feet.lift_m - 0.1) < 0.01
    assert np.allclose(np.array(placed)[:, 1], ABOVE_SOLE_M, atol=0.01)


def test_the_root_follows_from_feet_that_touched_before():
    feet = Feet(camera_of(STANDING))
    offsets = STANDING - [0.0, 0.9, -3.0]
    assert feet.root(offsets.tolist()) == (None, 0)
    for _ in range(30):
        feet.look(seen(STANDING), 1 / 30)
        feet.place(STANDING.tolist(), 1 / 30, True)
    feet.look(seen(STANDING), 1 / 30)
    root, count = feet.root(offsets.tolist())
    assert count == 2
    assert np.allclose(root, [0.0, 0.9, -3.0], atol=0.01)


def test_a_foot_that_its_leg_misses_lets_go_and_eases_away():
    feet = Feet(camera_of(STANDING))
    for _ in range(30):
        feet.look(seen(STANDING), 1 / 30)
        goals = feet.place(STANDING.tolist(), 1 / 30, True)
    missed = np.array(goals)
    missed[0, 1] += 2 * MISS_M
    feet.let_go(goals, missed.tolist())
    assert feet.touching == (False, True, True, True)
    feet.look(seen(STANDING), 1 / 30)
    feet.look(seen(STANDING), 1 / 30)
    assert feet.touching == (False, True, True, True)


def test_landmarks_that_jump_for_a_look_do_not_lift_the_only_foot():
    worlds = standing(90)
    worlds[:, [0, 2], 0] += 0.05 * np.arange(90)[:, None]
    worlds[60:62, [1, 3], 0] -= 0.25
    touched, placed = walk(worlds)
    assert not touched[15:, [0, 2]].any()
    assert touched[15:, [1, 3]].all()
    assert np.linalg.norm(np.diff(placed[40:, [1, 3]], axis=0), axis=-1).max() < 0.005


def test_the_only_foot_leaves_soon_where_it_has_really_gone():
    worlds = standing(90)
    worlds[:, [0, 2], 0] += 0.05 * np.arange(90)[:, None]
    worlds[60:, [1, 3], 0] -= 0.25
    touched, placed = walk(worlds)
    assert not touched[65, [1, 3]].any()
    assert np.linalg.norm(placed[80] - worlds[80], axis=-1).max() < LEAVE_ACROSS_M
