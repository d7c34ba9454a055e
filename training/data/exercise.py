"""Acting of people who exercise: balancing on one leg, bends and twists on wide legs, lunges and kicks."""

from __future__ import annotations

import numpy as np

from pipeline.frames import Array
from training.data.acting import Act, drift, eased, rest, rotations, timeline
from training.data.habits import hands, pairs, path, place, wander

_STRETCH = pairs(
    "up side front hips up/hips hips/up up/hang hang/up side/up up/side neck hang knees crossed hang/front"
)


def _leans(rng: np.random.Generator, t: Array, size: tuple[float, float, float], forward: float,
           move_s: tuple[float, float], hold_s: tuple[float, float]) -> Array:  # fmt: skip
    """Bends of the whole upper body (T, 3): forward, to the left, turned, some of them far."""
    times, which = timeline(rng, t[-1], move_s, hold_s)
    keys = rng.normal(0.0, size, (which.max() + 1, 3)) * rng.choice([0.4, 1.0, 1.6], (which.max() + 1, 1))
    keys[:, 0] += forward
    return eased(keys[which].clip([-30, -65, -60], [85, 65, 60]), times, t)


def balance(rng: np.random.Generator, t: Array) -> Act:
    """On one leg, the other one anywhere, arms and trunk catching what would fall."""
    c = rest(len(t))
    stands = int(rng.integers(2))
    free = 1 - stands
    bend = _leans(rng, t, (16, 18, 14), 8.0, (0.25, 0.9), (0.0, 1.5))
    # The pelvis takes a share of every bend; the leg that stands stays below it
    share = rng.uniform(0.2, 0.7)
    c.root[:, 0] += share * bend[:, 0]
    c.root[:, 2] += share * bend[:, 1]
    c.root[:, 1] += drift(rng, t, 6, 1)[:, 0]
    c.trunk += bend * [1 - share, 1 - share, 1.0]
    c.head -= bend * rng.uniform(0.1, 0.8, 3) * [1.0, 1.0, 0.5]
    c.head += wander(rng, t, (8, 6, 15))
    times, which = timeline(rng, t[-1], (0.3, 1.0), (0.0, 1.5))
    n = which.max() + 1
    lifted = rng.uniform([-45, -12, -10, 0], [85, 50, 30, 95], (n, 4))
    lifted[:, 3] += np.maximum(lifted[:, 0], 0) * rng.uniform(0, 1, n)
    down = rng.random(n) < 0.2
    lifted[down] = rng.uniform([-25, -6, 0, 5], [30, 14, 15, 40], (int(down.sum()), 4))
    c.legs[:, free] = eased(lifted[which], times, t)
    c.flat[:, free], c.point[:, free] = 0.0, rng.uniform(0, 45)
    give = eased(rng.uniform(2, 45, n)[which], times, t)
    c.legs[:, stands, 0] = 0.55 * give
    c.legs[:, stands, 3] = give
    # He stands over his foot: what leans to one side at the top goes to the other at the hips
    c.legs[:, stands, 1] += 0.25 * bend[:, 1] * (-1.0 if stands else 1.0)
    for k in range(2):
        times, which = timeline(rng, t[-1], (0.2, 0.8), (0.0, 1.2))
        keys = np.array([_caught(rng) for _ in range(which.max() + 1)])
        c.hands[:, k] = path(keys[which, :3], times, t) + drift(rng, t, 0.01, 3)
        c.elbows[:, k] = eased(keys[which, 3], times, t)
        c.palms[:, k] = eased(rng.normal(0, 35, len(keys))[which], times, t).clip(-85, 85)
    return Act(rotations(c), (("left_ankle", "right_ankle")[stands],))


def _caught(rng: np.random.Generator) -> Array:
    """Where an arm goes to keep its balance: mostly out to the side, at any height, and how its elbow is lifted."""
    if rng.random() < 0.25:
        return place(rng, str(rng.choice(["up", "front", "hang", "hips", "gesture", "back"])), 0.1)
    height, forward = np.radians(rng.uniform(-55, 70)), np.radians(rng.uniform(-30, 60))
    far = rng.uniform(0.30, 0.52)
    way = [np.cos(height) * np.cos(forward), np.sin(height), np.cos(height) * np.sin(forward)]
    return np.array([*(far * np.array(way)), rng.uniform(20, 70)])


def stretch(rng: np.random.Generator, t: Array) -> Act:
    """Bends to all sides and twists, legs apart, straight or bent."""
    c = rest(len(t))
    bend = _leans(rng, t, (24, 18, 20), 15.0, (0.6, 1.6), (0.2, 2.0))
    share = rng.uniform(0.2, 0.6)
    c.root[:, 0] += share * bend[:, 0]
    c.root[:, 2] += 0.5 * share * bend[:, 1]
    c.trunk += bend * [1 - share, 1 - 0.5 * share, 1.0]
    c.head -= bend * rng.uniform(0.0, 0.5, 3)
    c.head += wander(rng, t, (8, 5, 12))
    apart, shift = rng.uniform(4, 34), wander(rng, t, (0.0, 1.0, 0.0))[:, 1]
    for k, sign in enumerate((1.0, -1.0)):
        c.legs[:, k, 1] = apart + 5 * sign * shift
        give = np.maximum(0.0, 25 * sign * shift) * (apart / 34) + rng.uniform(0, 10)
        c.legs[:, k, 0], c.legs[:, k, 2], c.legs[:, k, 3] = 0.5 * give, 0.4 * apart, give
    hands(rng, t, c, _STRETCH, (0.5, 1.4), (0.2, 2.0))
    return Act(rotations(c))


def lunge(rng: np.random.Generator, t: Array) -> Act:
    """Lunges and kicks, one leg and then the other, arms going along."""
    c = rest(len(t))
    times, which = timeline(rng, t[-1], (0.35, 1.0), (0.05, 0.9))
    n = which.max() + 1
    keys = np.tile([0.0, 5.0, 8.0, 4.0], (n, 2, 1))
    lean = np.zeros((n, 3))
    kicks = rng.random() < 0.5
    for i in range(1, n, 2):
        k = int(rng.integers(2))
        if kicks:
            keys[i, k] = [*rng.uniform([-20, -5, 0], [105, 60, 30]), rng.uniform(0, 90)]
            keys[i, 1 - k] = [5, 3, 5, rng.uniform(3, 25)]
            lean[i] = [rng.uniform(-28, 12), rng.uniform(-15, 25) * (-1 if k == 0 else 1), rng.normal(0, 15)]
        else:
            deep = rng.uniform(0.4, 1.0)
            keys[i, k] = [85 * deep, rng.uniform(0, 25), 5, 95 * deep]
            keys[i, 1 - k] = [-35 * deep * rng.uniform(0.3, 1.0), rng.uniform(2, 20), 5, rng.uniform(5, 75) * deep]
            lean[i] = [rng.uniform(-5, 35), rng.normal(0, 8), rng.normal(0, 22)]
    c.legs = eased(keys[which], times, t)
    bend = eased(lean[which], times, t)
    c.root[:, 0] += 0.6 * bend[:, 0]
    c.root[:, 2] += 0.6 * bend[:, 1]
    c.root[:, 1] += drift(rng, t, 10, 1)[:, 0]
    c.trunk += bend * [0.4, 0.4, 1.0]
    c.head[:, 0] -= 0.5 * bend[:, 0]
    c.head += wander(rng, t, (6, 4, 15))
    c.flat[:] = 0.6
    hands(rng, t, c, pairs("front gesture hips up side hang gesture/front side/front hang/up"), (0.3, 0.9), (0.1, 1.0))
    return Act(rotations(c))
