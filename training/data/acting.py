"""Made-up motions of what cameras see and captures lack: sitting at a desk, gestures, reaching to the camera, phones,
lying, squatting, turning, handstands, and slow changes between random poses.

An actor is a few curves over time (trunk, head, hands, legs), each with a timing of its own; the hands lead and the
arms follow. What a kind of acting is, is in `training.data.plays`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.frames import Array, basis_from, exp_so3, log_so3, normalize, shortest_rotation
from pipeline.types import JOINT
from training.data.motions import FPS, standard_body

SIDES = (("left", 1.0), ("right", -1.0))


def eased(keys: Array, times: Array, t: Array) -> Array:
    """Values (T, ...) at `t` of keys (K, ...) at `times` (K,): minimum jerk between them (Flash and Hogan, 1985)."""
    k = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 2)
    s = np.clip((t - times[k]) / np.maximum(times[k + 1] - times[k], 1e-9), 0.0, 1.0)
    s = (s**3 * (10 - 15 * s + 6 * s * s)).reshape(-1, *[1] * (keys.ndim - 1))
    return np.asarray(keys[k] * (1 - s) + keys[k + 1] * s)


def timeline(
    rng: np.random.Generator, seconds: float, move_s: tuple[float, float], hold_s: tuple[float, float]
) -> tuple[Array, np.ndarray]:
    """Key times (K,) and which value holds at each (K,): moves and rests in turns, drawn from these ranges."""
    times, which, now, value = [0.0], [0], rng.uniform(0.0, hold_s[1]), 0
    while now < seconds + 1.0:
        times += [now, now + rng.uniform(*move_s)]
        which += [value, value + 1]
        value += 1
        now = times[-1] + rng.uniform(*hold_s)
    return np.array([*times, max(now, times[-1] + 0.1)]), np.array([*which, value])


def drift(rng: np.random.Generator, t: Array, size: float, width: int, slowest_hz: float = 0.08) -> Array:
    """Small movements (T, width) that nobody can help: a few sines between `slowest_hz` and 1.2 Hz."""
    hz = np.exp(rng.uniform(np.log(slowest_hz), np.log(1.2), (6, width)))
    phase = rng.uniform(0, 2 * np.pi, (6, width))
    waves = np.sin(2 * np.pi * hz * t[:, None, None] + phase) * (0.35 / hz) ** 0.5
    return np.asarray(size * waves.sum(1) / 6**0.5)


@dataclass
class Curves:
    """What an actor does, each (T, ...); angles in degrees, places in metres of a body of 1.72 m.

    root    pelvis: forward (about x), heading (about y), to its left (about z)
    trunk   bent forward, to its left, turned to its left, over the three joints of the spine
    head    nodding, tilting, turning, the same way
    hands   (T, 2, 3) left and right wrist from their shoulder, x outward, y up, z forward, in the axes of the chest
    elbows  (T, 2) how far the elbow is lifted outward, degrees from hanging straight below
    palms   (T, 2) turn of the forearm
    legs    (T, 2, 4) thigh forward, thigh outward, thigh turned out, knee bent
    flat    (T, 2) 1 where the sole is kept level, 0 where the foot goes with the shin, pointed by `point`
    wrists  (T, 2, 3) turns of the hand; (1, 2, 3) for none at any time
    legs_go_along  whether legs turn with the pelvis; otherwise who leans keeps his feet where they are
    """

    root: Array
    trunk: Array
    head: Array
    hands: Array
    elbows: Array
    palms: Array
    legs: Array
    flat: Array
    point: Array
    wrists: Array = field(default_factory=lambda: np.zeros((1, 2, 3)))
    legs_go_along: bool = False


def rest(T: int) -> Curves:
    """Somebody who stands and does nothing."""
    hanging = np.tile(np.array([0.10, -0.48, 0.06]), (T, 2, 1))
    return Curves(
        np.zeros((T, 3)), np.zeros((T, 3)), np.zeros((T, 3)), hanging, np.full((T, 2), 15.0), np.zeros((T, 2)),
        np.tile([0.0, 4.0, 8.0, 3.0], (T, 2, 1)), np.ones((T, 2)), np.zeros((T, 2)), np.zeros((T, 2, 3)),
    )  # fmt: skip


def rotations(curves: Curves) -> Array:
    """Rs_world_joint (T, 24, 3, 3)."""
    T = len(curves.root)
    Rs = np.tile(np.eye(3), (T, 24, 1, 1))
    # A pelvis that points where it heads, then leans: headings are about the vertical
    root = _about(curves.root[:, 1], 1) @ _about(curves.root[:, 0], 0) @ _about(-curves.root[:, 2], 2)
    Rs[:, 0] = root
    bend = np.radians(curves.trunk[:, [0, 2, 1]] * [1.0, 1.0, -1.0]) / 3
    spine = root
    for name in ("spine1", "spine2", "spine3"):
        spine = spine @ exp_so3(bend)
        Rs[:, JOINT[name]] = spine
    nod = np.radians(curves.head[:, [0, 2, 1]] * [1.0, 1.0, -1.0]) / 2
    Rs[:, JOINT["neck"]] = spine @ exp_so3(nod)
    Rs[:, JOINT["head"]] = Rs[:, JOINT["neck"]] @ exp_so3(nod)
    for k, (side, sign) in enumerate(SIDES):
        _leg(Rs, curves, k, side, sign)
        _arm(Rs, curves, spine, k, side, sign)
    return Rs


def _about(degrees: Array, axis: int) -> Array:
    return exp_so3(np.radians(degrees)[:, None] * np.eye(3)[axis])


def _leg(Rs: Array, curves: Curves, k: int, side: str, sign: float) -> None:
    forward, outward, turned, bent = curves.legs[:, k].T
    stand = Rs[:, 0] if curves.legs_go_along else _about(curves.root[:, 1], 1)
    thigh = stand @ _about(sign * outward, 2) @ _about(-forward, 0) @ _about(sign * turned, 1)
    shin = thigh @ _about(bent, 0)
    level = _about(curves.root[:, 1] + sign * turned, 1)
    pointed = shin @ _about(curves.point[:, k], 0)
    turn = log_so3(np.swapaxes(pointed, 1, 2) @ level)
    foot = pointed @ exp_so3(turn * curves.flat[:, k, None])
    for part, R in (("hip", thigh), ("knee", shin), ("ankle", foot), ("foot", foot)):
        Rs[:, JOINT[f"{side}_{part}"]] = R


def _arm(Rs: Array, curves: Curves, chest: Array, k: int, side: str, sign: float) -> None:
    """Two bones to a wrist (law of cosines), the shoulder girdle following a lifted arm by a share."""
    body = standard_body()
    joints = body.joints_rest
    at = {p: joints[JOINT[f"{side}_{p}"]] for p in ("collar", "shoulder", "elbow", "wrist")}
    upper, lower = (float(np.linalg.norm(b)) for b in (at["elbow"] - at["shoulder"], at["wrist"] - at["elbow"]))
    wrist = curves.hands[:, k] * [sign, 1.0, 1.0]
    reach = np.clip(np.linalg.norm(wrist, axis=1), abs(upper - lower) + 0.06, upper + lower - 0.002)
    toward = normalize(wrist, [sign * 0.2, -1.0, 0.0])
    swing = log_so3(shortest_rotation(np.array([sign, 0.0, 0.0]), toward))
    share = np.where(toward[:, 1:2] > 0.0, 0.28, 0.06)
    collar = exp_so3(share * swing)
    # The elbow lies on a circle about the line to the wrist: low or lifted outward; behind where the arm hangs
    lift, hanging = np.radians(curves.elbows[:, k]), np.maximum(-toward[:, 1], 0.0)
    wanted = np.stack([sign * np.sin(lift), -np.cos(lift) * (1 - hanging), -0.35 - 0.65 * hanging], 1)
    across = normalize(wanted - np.sum(wanted * toward, 1, keepdims=True) * toward, [0.0, 0.0, -1.0])
    cosine = np.clip((upper**2 + reach**2 - lower**2) / (2 * upper * reach), -1, 1)
    elbow = upper * (cosine[:, None] * toward + np.sqrt(1 - cosine**2)[:, None] * across)
    fore = reach[:, None] * toward - elbow
    R_upper = basis_from(sign * elbow, -across + 1e-4 * np.array([0.0, 0.0, 1.0]), "xz")
    R_fore = basis_from(sign * fore, R_upper[..., 1], "xy") @ _about(curves.palms[:, k], 0)
    hand = R_fore @ exp_so3(np.radians(curves.wrists[:, k] * [1.0, sign, sign]))
    for part, R in (("collar", collar), ("shoulder", R_upper), ("elbow", R_fore), ("wrist", hand), ("hand", hand)):
        Rs[:, JOINT[f"{side}_{part}"]] = chest @ R


def frames(seconds: float) -> Array:
    """Times (T,) of a motion."""
    return np.arange(round(seconds * FPS)) / FPS


HIPS, WRISTS = ("left_hip", "right_hip"), ("left_wrist", "right_wrist")


@dataclass
class Act:
    """Rotations (T, 24, 3, 3) with joints whose middle stays where it is over the floor, and a lift (T,) above it."""

    Rs: Array
    pinned: tuple[str, ...] = ("left_ankle", "right_ankle")
    lift_m: Array | float = 0.0
