"""The kinds of acting: `play(rng, kind)` is a motion of one of PLAYS, seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.frames import Array, exp_so3, log_so3
from pipeline.types import JOINT, JOINT_PARENTS
from training.data.acting import HIPS, Act, drift, eased, frames, rest, rotations, timeline
from training.data.exercise import balance, lunge, stretch
from training.data.habits import hands, lean, pairs, place, seated, sway, wander
from training.data.motions import FPS, Motion, lowest, posed
from training.data.stunts import floor, handstand, lie, plank
from training.random_poses import procedural

_DESK = pairs(
    "keyboard*4 gesture*3 keyboard/mouse lap/mouse keyboard/chin chin/keyboard lap mouth/keyboard keyboard/glasses "
    "crossed neck gesture/keyboard keyboard/wave hair/lap"
)
_TALK = pairs(
    "gesture*6 hang/gesture gesture/hang hang hips crossed back hang/wave chin/crossed hips/gesture hair/hang"
)


def _desk(rng: np.random.Generator, t: Array) -> Act:
    c = seated(rng, t)
    lean(rng, t, c, -16, 38)
    c.head += wander(rng, t, (8, 5, 20))
    hands(rng, t, c, _DESK)
    return Act(rotations(c), HIPS)


def _talk(rng: np.random.Generator, t: Array) -> Act:
    c = rest(len(t))
    sway(rng, t, c)
    c.root[:, 1] += 12 * rng.normal() + drift(rng, t, 5, 1)[:, 0]
    shift = drift(rng, t, 4, 1)[:, 0]
    c.root[:, 2] += 0.6 * shift
    c.legs[:, 0, 1] += shift
    c.legs[:, 1, 1] -= shift
    lean(rng, t, c, -5, 14)
    c.head += wander(rng, t, (7, 5, 22))
    hands(rng, t, c, _TALK, (0.25, 0.8), (0.05, 1.2))
    return Act(rotations(c))


def _reach(rng: np.random.Generator, t: Array) -> Act:
    """One hand or both to the camera, to switch it on or off, and back."""
    sits = rng.random() < 0.55
    c = seated(rng, t) if sits else rest(len(t))
    if not sits:
        sway(rng, t, c)
    times, which = timeline(rng, t[-1], (0.6, 1.4), (0.3, 1.6))
    out = eased((np.arange(which.max() + 1) % 2)[which].astype(float), times, t)
    far = rng.uniform(12, 42)
    c.root[:, 0] += 0.6 * far * out
    c.trunk[:, 0] += 0.4 * far * out
    c.head[:, 0] -= 0.7 * far * out
    hands(rng, t, c, _DESK if sits else _TALK)
    side = int(rng.integers(2))
    turned = rng.uniform(0, 22) * (1 if side else -1)
    c.trunk[:, 2] += turned * out
    for k in (0, 1) if rng.random() < 0.25 else (side,):
        goal = place(rng, "reach", 0.06)
        goal[1] += rng.uniform(-0.10, 0.22)
        c.hands[:, k] += out[:, None] * (goal[:3] - c.hands[:, k])
        c.elbows[:, k] += out * (goal[3] - c.elbows[:, k])
    return Act(rotations(c), HIPS if sits else ("left_ankle", "right_ankle"))


def _phone(rng: np.random.Generator, t: Array) -> Act:
    sits = rng.random() < 0.5
    c = seated(rng, t) if sits else rest(len(t))
    if not sits:
        sway(rng, t, c)
    how = rng.choice(["ear", "text", "selfie"])
    other = {"ear": "gesture", "text": "text", "selfie": "lap" if sits else "hang"}[how]
    c.head[:, 0] += {"ear": 3, "text": 28, "selfie": -4}[how]
    c.head += wander(rng, t, (4, 4, 9 if how != "ear" else 25))
    lean(rng, t, c, -8, 14)
    pair = [str(how), other] if rng.random() < 0.5 else [other, str(how)]
    hands(rng, t, c, [pair], (0.3, 0.9), (0.4, 1.5), apart=0.03)
    return Act(rotations(c), HIPS if sits else ("left_ankle", "right_ankle"))


def _squat(rng: np.random.Generator, t: Array) -> Act:
    c = rest(len(t))
    times, which = timeline(rng, t[-1], (0.7, 1.6), (0.1, 1.2))
    n = which.max() + 1
    depth = eased(np.where(np.arange(n) % 2, rng.uniform(0.4, 1.0, n), rng.uniform(0.0, 0.08, n))[which], times, t)
    spread, lean = rng.uniform(8, 26), rng.uniform(20, 48)
    c.legs[:, :, 0] = (depth * rng.uniform(88, 112))[:, None]
    c.legs[:, :, 3] = (depth * rng.uniform(105, 128))[:, None] + 3
    c.legs[:, :, 1] = spread
    c.legs[:, :, 2] = rng.uniform(5, 25)
    c.root[:, 0] = lean * depth
    c.trunk[:, 0] = 0.3 * lean * depth
    c.head[:, 0] = -0.8 * lean * depth
    sway(rng, t, c)
    if rng.random() < 0.5:
        start, end = place(rng, "hang", 0.04), place(rng, str(rng.choice(["front", "crossed", "hips"])), 0.03)
        goal = start + depth[:, None] * (end - start)
        c.hands[:], c.elbows[:] = goal[:, None, :3], goal[:, None, 3]
    else:
        hands(rng, t, c, _TALK)
    return Act(rotations(c))


def _turn(rng: np.random.Generator, t: Array) -> Act:
    """Turns on the spot in small steps."""
    c = rest(len(t))
    times, which = timeline(rng, t[-1], (1.5, 5.0), (0.1, 1.0))
    heading = eased(np.cumsum(rng.choice([-1, 1]) * rng.uniform(40, 200, which.max() + 1))[which], times, t)
    c.root[:, 1] = heading
    speed = np.abs(np.gradient(heading, t))
    phase = np.cumsum(speed) / FPS / rng.uniform(35, 60) * np.pi + rng.uniform(0, 6)
    moving = np.clip(speed / 25, 0, 1)
    for k, s in enumerate((np.sin(phase), -np.sin(phase))):
        lift = np.maximum(s, 0.0) * moving
        c.legs[:, k, 0] += 22 * lift
        c.legs[:, k, 3] += 40 * lift
        c.legs[:, k, 2] += 8 * s * moving
    sway(rng, t, c)
    c.head += wander(rng, t, (6, 4, 18))
    hands(rng, t, c, _TALK, (0.5, 1.2), (0.5, 2.5))
    return Act(rotations(c))


def _arms(rng: np.random.Generator, t: Array) -> Act:
    """Arms up, to the sides and to the front; some as jumping jacks."""
    c = rest(len(t))
    sway(rng, t, c)
    if rng.random() < 0.35:
        rate = rng.uniform(0.6, 1.1)
        s = 0.5 - 0.5 * np.cos(2 * np.pi * rate * t)
        angle = np.radians(-80 + 155 * s)
        c.hands[:] = np.stack([0.5 * np.cos(angle) + 0.02, 0.5 * np.sin(angle), 0.04 * np.ones_like(s)], 1)[:, None]
        c.elbows[:] = 60
        c.legs[:, :, 1] += 22 * s[:, None]
        hop = 0.10 * np.abs(np.sin(2 * np.pi * rate * t))
        c.legs[:, :, 3] += 25 * (1 - hop[:, None] / 0.10)
        c.legs[:, :, 0] += 13 * (1 - hop[:, None] / 0.10)
        return Act(rotations(c), lift_m=hop)
    lean(rng, t, c, -8, 10)
    c.head += wander(rng, t, (10, 5, 15))
    shapes = pairs("up side front up/side side/up neck up/hang hips/up wave hang")
    hands(rng, t, c, shapes, (0.4, 1.3), (0.2, 1.5))
    return Act(rotations(c))


def _rise(rng: np.random.Generator, t: Array) -> Act:
    """Sits down and stands up."""
    c = rest(len(t))
    times, which = timeline(rng, t[-1], (1.0, 2.0), (0.6, 3.0))
    s = eased(((np.arange(which.max() + 1) + rng.integers(2)) % 2)[which].astype(float), times, t)
    between = np.sin(np.pi * s)
    sitting = np.array([rng.uniform(76, 96), rng.uniform(3, 15), 5, rng.uniform(75, 105)])
    c.legs += s[:, None, None] * (sitting - c.legs)
    c.root[:, 0] = rng.uniform(25, 42) * between
    c.trunk[:, 0] = 10 * between + 4 * s
    c.head[:, 0] = -20 * between
    sway(rng, t, c)
    hands(
        rng,
        t,
        c,
        pairs("hang knees lap gesture"),
        (0.5, 1.2),
        (0.4, 1.5),
    )
    return Act(rotations(c))


def _poses(rng: np.random.Generator, t: Array) -> Act:
    """Random poses, one after another."""
    kind = str(rng.choice(["stand", "reach", "sit", "bend", "squat", "step", "free"]))
    times, which = timeline(rng, t[-1], (0.5, 1.6), (0.0, 1.0))
    keys = [procedural(rng, kind if rng.random() < 0.6 else None) for _ in range(which.max() + 1)]
    local = np.stack([np.concatenate([p.R_world_root[None], p.Rs_parent_joint]) for p in keys])
    k = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 2)
    s = np.array([eased(np.array([0.0, 1.0]), times[i : i + 2], t[n : n + 1])[0] for n, i in enumerate(k)])
    a, b = local[which[k]], local[which[k + 1]]
    world = list(np.swapaxes(a @ exp_so3(s[:, None, None] * log_so3(np.swapaxes(a, -1, -2) @ b)), 0, 1))
    for j in range(1, 24):
        world[j] = world[JOINT_PARENTS[j]] @ world[j]
    turn = exp_so3(np.radians(drift(rng, t, 8, 1)) * np.array([0.0, 1.0, 0.0]))
    return Act(turn[:, None] @ np.stack(world, 1))


PLAYS: dict[str, tuple[Callable[[np.random.Generator, Array], Act], int]] = {
    "desk": (_desk, 70), "talk": (_talk, 44), "reach": (_reach, 36), "phone": (_phone, 36), "lie": (lie, 36),
    "squat": (_squat, 20), "turn": (_turn, 28), "arms": (_arms, 28), "handstand": (handstand, 24), "rise": (_rise, 24),
    "floor": (floor, 24), "plank": (plank, 16), "poses": (_poses, 64), "balance": (balance, 36),
    "stretch": (stretch, 36), "lunge": (lunge, 30),
}  # fmt: skip
#: One made-up motion in so many is kept aside.
_HELD_OUT_EVERY = 12


def play(seed: int, kind: str, number: int) -> Motion:
    """Motion `number` of a kind of PLAYS, 6 to 13 seconds, standing, sitting or lying on y = 0."""
    rng = np.random.default_rng([seed, list(PLAYS).index(kind), number])
    act = PLAYS[kind][0](rng, frames(rng.uniform(6.0, 13.0)))
    heading = exp_so3([0.0, rng.uniform(-np.pi, np.pi), 0.0])
    Rs = heading @ act.Rs
    joints = posed(Rs, np.zeros((len(Rs), 3))).joints
    at = -joints[:, [JOINT[n] for n in act.pinned]].mean(1)
    at[:, 1] = -lowest(Rs) + act.lift_m
    name = f"made/{kind}_{number:03d}"
    return Motion(name, FPS, Rs.astype(np.float32), at.astype(np.float32), "made", kind, number % _HELD_OUT_EVERY == 7)
