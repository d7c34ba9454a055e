"""Which parts of the feet touch the floor, where they stay, and how gently they come there and leave.

One camera sees a foot stand still much better than it sees how far away it is. So contact is read from how fast ankles
and balls of the feet move across the view, how high they are and which foot is the slower, with hysteresis; a touching
point is anchored in the world where it was shown last. What the anchor asks of a point beyond what was measured fades
within a tenth of a second when it lets go, so nothing pops (critically damped, as in games' inertial blending).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Array
from pipeline.leg_ik import ANKLES, BALLS, short_of

#: Left ankle, right ankle, left ball, right ball.
POINTS = np.array([*ANKLES, *BALLS])
_OTHER = np.array([1, 0, 3, 2])
_SAME_FOOT = np.array([2, 3, 0, 1])
#: Joints above the sole of a standing adult.
ABOVE_SOLE_M = np.array([0.08, 0.08, 0.03, 0.03])

ENTER_M_S, LEAVE_M_S, RUN_M_S = 0.25, 0.45, 1.2
ENTER_SHARE = 0.55
ENTER_HEIGHT_M, LEAVE_HEIGHT_M = 0.10, 0.18  # above the lowest of the four
HIGHEST_FLOOR_M = 0.35  # of what is shown: its height is known no better than the camera's tilt
ENTER_S = 0.03
SPEED_S, STOP_S = 0.06, 0.03
NEAR_ACROSS_M, LEAVE_ACROSS_M, LEAVE_M = 0.03, 0.07, 0.30
MIN_CONFIDENCE = 0.3
#: In which an anchor follows what is measured across the view, along it, and the floor.
FOLLOW_ACROSS_S, FOLLOW_ALONG_S, FLOOR_S = 1.0, 4.0, 0.7
ON_FLOOR_M = 0.15
FADE_S = 0.05
MAX_LIFT_M = 0.4
MAX_SAG_M, RISE_S = 0.05, 0.5
#: A foot that its leg misses by more lets go.
MISS_M = 0.06


@dataclass(eq=False)
class Feet:
    """What is remembered of the four points of P people.

    across    (P, 4, 2) where they were seen, x/z and y/z; flow (P, 4, 2) how fast that moved, m/s at their distance
    slow_s    (P, 4) for how long they have been slow enough to touch
    touching  (P, 4)
    shown     (P, 4) who touched in the last frame's pose
    anchors   (P, 4, 3) in the world, metres, of those that touch
    lift_m    (P,) how high above the floor the touching feet were shown, which is taken off
    sag_m     (P, 3) how far the body gives way so that its legs reach
    extra     (P, 4, 3) metres added to what is measured
    easing    (P, 4, 3) the part of it that fades, metres; easing_m_s its speed
    """

    across: Array
    flow: Array
    slow_s: Array
    touching: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    anchors: Array
    extra: Array
    easing: Array
    easing_m_s: Array
    lift_m: Array
    sag_m: Array

    @staticmethod
    def start(joints_camera: Array) -> Feet:
        """Of people with joints (P, 24, 3) in the camera, whose feet touch nothing yet."""
        across = _across(joints_camera)
        none = np.zeros((*across.shape[:2], 3))
        free = none[..., 0] > 0.0
        return Feet(
            across,
            np.full_like(across, 9.0),
            none[..., 0],
            free,
            free,
            none,
            none,
            none,
            none,
            none[:, 0, 0],
            none[:, 0],
        )

    def moved(self, R: Array, t: Array) -> None:
        """Into another world: `p_new = R @ p_old + t`."""
        self.anchors = self.anchors @ R.T + t
        self.sag_m = self.sag_m @ R.T
        self.extra, self.easing, self.easing_m_s = self.extra @ R.T, self.easing @ R.T, self.easing_m_s @ R.T


@dataclass(frozen=True, eq=False)
class Seen:
    """What was measured of P people in a frame: joints (P, 24, 3) in camera and world, confidence (P, 24)."""

    joints_camera: Array
    joints_world: Array
    confidence: Array
    floor_known: bool


def _across(joints_camera: Array) -> Array:
    seen = joints_camera[:, POINTS]
    return seen[..., :2] / np.maximum(seen[..., 2:], 0.2)


def touch(feet: Feet, seen: Seen, views: Array, dts: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Updates who touches; returns (P, 4) those that have only now begun to, and those that changed what holds them.

    views (P, 1, 3) unit vectors along the view in the world; dts (P,) seconds since the last frame.
    """
    dt = dts[:, None]
    across = _across(seen.joints_camera)
    depth = seen.joints_camera[:, :1, 2:]
    flow = (across - feet.across) * depth / dt[..., None]
    slower = (flow * flow).sum(-1, keepdims=True) < (feet.flow * feet.flow).sum(-1, keepdims=True)
    feet.flow = feet.flow + (1.0 - np.exp(-dt[..., None] / np.where(slower, STOP_S, SPEED_S))) * (flow - feet.flow)
    feet.across = across
    speed = np.sqrt((feet.flow * feet.flow).sum(-1))
    world = seen.joints_world[:, POINTS]
    height = world[..., 1] - ABOVE_SOLE_M
    lowest = height.min(-1, keepdims=True)
    low = lowest < HIGHEST_FLOOR_M if seen.floor_known else lowest < np.inf
    height = height - lowest
    sure = seen.confidence[:, POINTS] > MIN_CONFIDENCE
    slow = sure & (speed < ENTER_M_S) & (speed < ENTER_SHARE * (speed + speed[:, _OTHER] + 0.1))
    feet.slow_s = (feet.slow_s + dt) * (slow & low & (height < ENTER_HEIGHT_M))
    off = world - feet.anchors
    along = (off * views).sum(-1, keepdims=True)
    off = off - along * views
    strayed = np.sqrt((off * off).sum(-1))
    quiet = (speed < LEAVE_M_S) | ((strayed < NEAR_ACROSS_M) & (speed < RUN_M_S))
    stays = feet.touching & sure & quiet & (height < LEAVE_HEIGHT_M) & (strayed < LEAVE_ACROSS_M)
    stays &= np.abs(along[..., 0]) < LEAVE_M
    enters = ~stays & ~feet.touching & (feet.slow_s > ENTER_S)
    follow = off * (dt[..., None] / FOLLOW_ACROSS_S) + along * views * (dt[..., None] / FOLLOW_ALONG_S)
    follow *= np.array([1.0, 0.0 if seen.floor_known else 1.0, 1.0])
    feet.anchors = feet.anchors + follow * stays[..., None]
    touching = stays | enters
    changed = touching != feet.shown
    feet.touching = feet.shown = touching
    if seen.floor_known:
        _learn_lift(feet, world, dts)
    return enters, changed | (changed[:, _SAME_FOOT] & ~touching)


def _learn_lift(feet: Feet, world: Array, dts: Array) -> None:
    """Moves the lift toward the height of the touching ankles; the anchors come down with the body."""
    count = feet.touching[:, :2].sum(-1)
    sunk = ((world[:, :2, 1] - ABOVE_SOLE_M[:2]) * feet.touching[:, :2]).sum(-1) / np.maximum(count, 1)
    down = np.clip(sunk * (1.0 - np.exp(-dts / FLOOR_S)), -MAX_LIFT_M - feet.lift_m, MAX_LIFT_M - feet.lift_m)
    feet.lift_m = feet.lift_m + down
    anchors = feet.anchors.copy()
    anchors[..., 1] -= down[:, None]
    feet.anchors = anchors


def sagged(feet: Feet, joints: Array, goals: Array, dts: Array) -> Array:
    """Joints (P, 24, 3) moved until the legs reach the ankles' `goals` (P, 4, 3): at once when needed, slowly back."""
    sag = feet.sag_m * np.exp(-dts / RISE_S)[:, None]
    sag = sag + short_of(joints + sag[:, None], goals[:, :2])
    deep = np.sqrt((sag * sag).sum(-1, keepdims=True))
    feet.sag_m = sag * np.minimum(1.0, MAX_SAG_M / np.maximum(deep, 1e-9))
    return joints + feet.sag_m[:, None]


def let_go(feet: Feet, goals: Array, joints: Array) -> None:
    """Points whose `goals` (P, 4, 3) the legs with joints (P, 24, 3) miss touch no longer."""
    off = goals - joints[:, POINTS]
    missed = (off * off).sum(-1) > MISS_M**2
    if missed.any():
        feet.touching = feet.touching & ~missed
        feet.slow_s = np.where(missed, 0.0, feet.slow_s)


def place(
    feet: Feet, points: Array, enters: NDArray[np.bool_], changed: NDArray[np.bool_], floor_known: bool, dts: Array
) -> Array:
    """Where the four points go: (P, 4, 3) in the world, of smoothed `points` (P, 4, 3); the rest as `touch` has it."""
    dt = dts[:, None, None]
    anchors = np.where(enters[..., None], points + feet.extra, feet.anchors)
    if floor_known:
        sunk = anchors[..., 1] - ABOVE_SOLE_M
        anchors[..., 1] -= sunk * (np.abs(sunk) < ON_FLOOR_M) * (1.0 - np.exp(-dts[:, None] / FLOOR_S))
    feet.anchors = anchors
    asked = asked_of(feet, points)
    # What is asked jumps when a point lands or leaves; the difference to what was shown fades
    changed = changed[..., None]
    easing = np.where(changed, feet.extra - asked, feet.easing)
    easing_m_s = np.where(changed, 0.0, feet.easing_m_s)
    rate = 1.0 / FADE_S
    speed = easing_m_s + rate * easing
    decay = np.exp(-rate * dt)
    feet.easing_m_s = (easing_m_s - rate * dt * speed) * decay
    feet.easing = (easing + dt * speed) * decay
    feet.extra = asked + feet.easing
    return points + feet.extra


def asked_of(feet: Feet, points: Array) -> Array:
    """What (P, 4, 3) the anchors ask of each point beyond `points` (P, 4, 3): ankles go with their balls and back."""
    wanted = np.where(feet.touching[..., None], feet.anchors - points, 0.0)
    ankle, ball = feet.touching[:, :2, None], feet.touching[:, 2:, None]
    asked = np.empty_like(wanted)
    asked[:, :2] = np.where(ankle, wanted[:, :2], wanted[:, 2:])
    asked[:, 2:] = np.where(ball, wanted[:, 2:], wanted[:, :2])
    return asked


def held_root(feet: Feet, offsets: Array, enters: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Where feet that touched already say the pelvis is (P, 3), and how many feet (P,) say so.

    offsets (P, 4, 3) of the points from the pelvis.
    """
    held = feet.touching & ~enters
    weight = np.concatenate([held[:, :2], held[:, 2:] & ~held[:, :2]], axis=1)[..., None].astype(float)
    count = weight.sum((1, 2))
    return ((feet.anchors - offsets) * weight).sum(1) / np.maximum(count, 1.0)[:, None], count
