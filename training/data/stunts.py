"""Acting that is not upright: lying, handstands, sitting on the floor, push-ups."""

from __future__ import annotations

import numpy as np

from pipeline.frames import Array, exp_so3
from training.data.acting import HIPS, WRISTS, Act, drift, eased, rest, rotations, timeline
from training.data.habits import hands, lean, pairs, sway, wander


def lie(rng: np.random.Generator, t: Array) -> Act:
    """On the back, the belly or a side, limbs moving; some roll over."""
    c = rest(len(t))
    times, which = timeline(rng, t[-1], (1.2, 2.5), (1.5, 5.0))
    rolls = rng.random() < 0.5
    turn = rng.choice([0.0, 90.0, 180.0, 270.0]) + (np.cumsum(rng.choice([-90.0, 90.0], which.max() + 1)) if rolls else
                                                    np.zeros(which.max() + 1))  # fmt: skip
    angle = eased(turn[which], times, t) + drift(rng, t, 2, 1)[:, 0]
    c.legs_go_along = True
    c.flat[:], c.point[:] = 0.0, rng.uniform(5, 45)
    legs = rng.uniform([-5, 0, 0, 0], [70, 22, 25, 20], (which.max() + 1, 2, 4))
    legs[..., 3] += 1.2 * np.maximum(legs[..., 0], 0)
    c.legs = eased(legs[which], times, t) * rng.choice([0.3, 1.0])
    c.head += wander(rng, t, (12, 5, 25))
    c.trunk += wander(rng, t, (7, 5, 8))
    hands(rng, t, c, pairs("hang gesture neck text lap side up hang/up crossed/lap"), (0.6, 1.5), (0.8, 3.0))
    Rs = rotations(c)
    down = exp_so3([-np.pi / 2, 0.0, 0.0])
    roll = exp_so3(np.radians(angle)[:, None] * np.array([0.0, 1.0, 0.0]))
    return Act((down @ roll)[:, None] @ Rs, ("pelvis",))


def handstand(rng: np.random.Generator, t: Array) -> Act:
    """Upside down on both hands, legs moving; half of them kick up from standing and come down."""
    c = rest(len(t))
    c.flat[:], c.point[:], c.legs_go_along = 0.0, rng.uniform(10, 55), True
    up = np.ones(len(t))
    if rng.random() < 0.5:
        begin, long = rng.uniform(0.2, 0.15 * t[-1]), rng.uniform(0.9, 1.6)
        end = t[-1] - rng.uniform(0.3, 1.0) - long
        up = eased(np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0]),
                   np.array([0.0, begin, begin + long, end, end + long, t[-1] + 1]), t)  # fmt: skip
    c.root[:, 0] = 180 * up + drift(rng, t, 2.5, 1)[:, 0] * up
    c.trunk += wander(rng, t, (6, 3, 3), middle=(-6, 0, 0)) * up[:, None]
    c.head[:, 0] = rng.uniform(-45, 5)
    legs = _legs_in_the_air(rng, t)
    apart = np.sin(np.pi * np.clip(up, 0, 1))
    c.legs += up[:, None, None] * (legs - c.legs)
    c.legs[:, 0, 0] += 45 * apart
    c.legs[:, 1, 0] -= 25 * apart
    c.hands[:] = np.array([rng.uniform(-0.02, 0.06), 0.505, rng.uniform(-0.02, 0.10)])
    c.elbows[:] = 60
    c.wrists = np.zeros((len(t), 2, 3))
    c.wrists[:, :, 2] = -70 * up[:, None]
    return Act(rotations(c), WRISTS if up.min() > 0.9 else ("pelvis",))


def _legs_in_the_air(rng: np.random.Generator, t: Array) -> Array:
    times, which = timeline(rng, t[-1], (0.6, 1.8), (0.4, 2.0))
    keys = np.zeros((which.max() + 1, 2, 4))
    for k in range(len(keys)):
        shape = rng.choice(["straight", "apart", "straddle", "bent"])
        keys[k] = rng.normal(0, [4, 2, 2, 2], (2, 4))
        if shape == "apart":
            keys[k, :, 0] += rng.uniform(20, 60) * np.array([1, -0.5])
        if shape == "straddle":
            keys[k, :, 1] += rng.uniform(15, 45)
        if shape == "bent":
            keys[k, int(rng.integers(2))] += [rng.uniform(20, 70), 0, 10, rng.uniform(40, 100)]
    keys[..., 3] = np.abs(keys[..., 3])
    return eased(keys[which], times, t)


def floor(rng: np.random.Generator, t: Array) -> Act:
    """Sits on the floor or kneels."""
    c = rest(len(t))
    how = rng.choice(["long", "crossed", "knees up", "kneel", "heels"])
    c.flat[:] = 0.0
    shapes: dict[str, list[float]] = {
        "long": [88, 8, 8, 5, 25],
        "crossed": [95, 38, 55, 125, 25],
        "knees up": [122, 6, 5, 100, 10],
        "kneel": [rng.uniform(-5, 20), 6, 0, 95, 40],
        "heels": [72, 8, 0, 140, 45],
    }
    shape = shapes[str(how)]  # fmt: skip
    c.legs[:], c.point[:] = shape[:4], shape[4]
    c.legs[:, 1] += rng.normal(0, [4, 3, 4, 5])
    if how == "kneel":
        c.legs[:, :, 3] += np.maximum(c.legs[:, :, 0], 0)
        if rng.random() < 0.5:
            c.legs[:, 0], c.point[:, 0] = [88, 5, 5, 90], 0.0
    sway(rng, t, c, 0.6)
    lean(rng, t, c, -14, 22)
    c.head += wander(rng, t, (8, 5, 20))
    hands(rng, t, c, pairs("gesture knees lap text mouth/lap"))
    return Act(rotations(c), HIPS)


def plank(rng: np.random.Generator, t: Array) -> Act:
    """Push-ups and bends to the floor."""
    c = rest(len(t))
    times, which = timeline(rng, t[-1], (0.6, 1.5), (0.1, 1.0))
    s = eased((np.arange(which.max() + 1) % 2)[which].astype(float), times, t)
    if rng.random() < 0.6:
        c.flat[:], c.point[:], c.legs_go_along = 0.0, -35, True
        hand = np.stack([0.10 + 0.12 * s, 0 * s - 0.02, 0.49 - 0.30 * s], 1)
        c.hands[:], c.elbows[:] = hand[:, None], 55 + 15 * s[:, None]
        c.root[:, 0] = 69 + 13 * s
        c.legs[:] = [-4, 4, 0, 2]
        c.head[:, 0] = -25
    else:
        c.root[:, 0] = rng.uniform(60, 85) * s
        c.trunk[:, 0] = rng.uniform(25, 60) * s
        c.legs[:, :, 3] = 3 + rng.uniform(0, 25) * s[:, None]
        goal = np.array([0.0, 0.15, 0.46])
        c.hands += s[:, None, None] * (goal - c.hands)
        c.legs[:, :, 0] = -8 * s[:, None]
        return Act(rotations(c))
    return Act(rotations(c), WRISTS)
