"""Which parts of the feet touch the floor, where they stay, and how gently they come there and leave.

One camera sees a foot stand still much better than it sees how far away it is. So contact is read from how fast ankles
and balls of the feet move across the view, which foot is the slower and which is the lower, with hysteresis; a
touching point is anchored in the world where it was shown last. What the anchor asks of a point beyond what was
measured fades within a tenth of a second when it lets go, so nothing pops (critically damped, as in games' inertial
blending). A point at a time in plain floats: for four points that is several times as fast as small arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.frames import Array
from pipeline.leg_ik import ANKLES, BALLS

Vector = Sequence[float]

#: Left ankle, right ankle, left ball, right ball.
POINTS = np.array([*ANKLES, *BALLS])
_OTHER_FOOT, _SAME_FOOT = (1, 0, 3, 2), (2, 3, 0, 1)
#: Joints above the sole of a standing adult.
ABOVE_SOLE_M = (0.08, 0.08, 0.03, 0.03)

ENTER_M_S, LEAVE_M_S, RUN_M_S = 0.35, 0.6, 1.2
ENTER_SHARE = 0.45  # of both feet's speeds
ENTER_S = 0.03
ENTER_HEIGHT_M, LEAVE_HEIGHT_M = 0.10, 0.18  # above the lowest of the four
#: Who walks has a foot on the floor: where the last one leaves with a jolt, it was a landmark that jumped, for as long.
JOLT_M_S, LEAVE_LAST_S = 0.9, 0.12
HEEL_M = 0.12  # above its ball: a heel that is raised
HIGHEST_FLOOR_M = 0.35  # of what is shown: its height is known no better than the camera's tilt
#: How far a point may be from its anchor: across the view, there with some speed, and along it.
LEAVE_ACROSS_M, NEAR_ACROSS_M, LEAVE_ALONG_M = 0.13, 0.05, 0.50
#: A point that its leg misses by more lets go, and for how long.
MISS_M, AGAIN_S = 0.06, 0.1
MIN_CONFIDENCE = 0.3
#: Time constants of the speed while it rises and while it falls.
SPEED_S, STOP_S = 0.06, 0.03
#: In which an anchor follows what is measured across the view and along it, the body comes down and the anchor does.
FOLLOW_ACROSS_S, FOLLOW_ALONG_S, LIFT_S, FLOOR_S = 1.5, 6.0, 3.0, 4.0
ON_FLOOR_M = 0.15
FADE_S = 0.05
MAX_LIFT_M = 0.4


def _zero() -> list[float]:
    return [0.0, 0.0, 0.0]


@dataclass(eq=False, slots=True)
class _Point:
    """One ankle or ball; metres, seconds, in the world but for `ray` (x/z, y/z) and `flow` (m/s at its distance)."""

    ray: tuple[float, float]
    flow: tuple[float, float] | None = None
    speed: float = math.inf
    slow_s: float = 0.0
    #: By how much the last look was faster (m/s), for how long it has seemed to leave, and whether that began so.
    jolt: float = 0.0
    last: tuple[float, float] = (0.0, 0.0)
    leaves_s: float = 0.0
    jolted: bool = False
    touching: bool = False
    #: Has only now begun to touch: its anchor is still to be set.
    enters: bool = False
    #: Touched in the last pose that was shown.
    shown: bool = False
    anchor: list[float] = field(default_factory=_zero)
    #: Where it was shown last.
    goal: list[float] = field(default_factory=_zero)
    #: What is added to what was measured, the part of it that fades, and how fast that moves.
    extra: list[float] = field(default_factory=_zero)
    easing: list[float] = field(default_factory=_zero)
    easing_m_s: list[float] = field(default_factory=_zero)

    def look(self, x: float, y: float, z: float, away: float, dt: float) -> None:
        """Takes where it is in the camera and how far `away` the body is."""
        z = max(z, 0.2)
        ray = x / z, y / z
        u, v = (ray[0] - self.ray[0]) * away / dt, (ray[1] - self.ray[1]) * away / dt
        flow = self.flow or (u, v)
        self.jolt, self.last = math.hypot(u - self.last[0], v - self.last[1]), (u, v)
        slower = u * u + v * v < self.speed * self.speed
        gain = 1.0 - math.exp(-dt / (STOP_S if slower else SPEED_S))
        self.ray, self.flow = ray, (flow[0] + gain * (u - flow[0]), flow[1] + gain * (v - flow[1]))
        self.speed = math.hypot(*self.flow)

    def stays(self, at: Vector, view: Vector, dt: float, floor_known: bool) -> bool:
        """Whether the anchor holds for a point measured `at`, which it then follows a little."""
        off = [at[k] - self.anchor[k] for k in range(3)]
        along = off[0] * view[0] + off[1] * view[1] + off[2] * view[2]
        across = [off[k] - along * view[k] for k in range(3)]
        strayed = math.hypot(*across)
        if strayed > LEAVE_ACROSS_M or abs(along) > LEAVE_ALONG_M:
            return False
        if self.speed > (RUN_M_S if strayed < NEAR_ACROSS_M else LEAVE_M_S):
            return False
        for k in (0, 2) if floor_known else (0, 1, 2):
            self.anchor[k] += dt * (across[k] / FOLLOW_ACROSS_S + along * view[k] / FOLLOW_ALONG_S)
        return True

    def ease(self, asked: Vector, jumped: bool, dt: float) -> None:
        """Adds what is `asked`; where that `jumped`, the difference to what was shown fades from here on."""
        if jumped:
            self.easing = [self.extra[k] - asked[k] for k in range(3)]
            self.easing_m_s = _zero()
        rate = 1.0 / FADE_S
        decay = math.exp(-rate * dt)
        for k in range(3):
            pull = self.easing_m_s[k] + rate * self.easing[k]
            self.easing_m_s[k] = (self.easing_m_s[k] - rate * dt * pull) * decay
            self.easing[k] = (self.easing[k] + dt * pull) * decay
            self.extra[k] = asked[k] + self.easing[k]


@dataclass(frozen=True, eq=False)
class Seen:
    """What was measured of one person.

    camera, world  (4, 3) the points, metres
    confidence     (4,)
    away_m         how far away the body is
    view           (3,) unit vector along the view in the world
    """

    camera: Sequence[Vector]
    world: Sequence[Vector]
    confidence: Vector
    away_m: float
    view: Vector
    floor_known: bool


class Feet:
    """The feet of one person.

    lift_m  how high above the floor touching feet were shown, for the caller to take off
    """

    def __init__(self, points_camera: Array) -> None:
        """Feet at (4, 3) in the camera that touch nothing yet."""
        self._points = [_Point((x / max(z, 0.2), y / max(z, 0.2))) for x, y, z in points_camera.tolist()]
        self.lift_m = 0.0

    @property
    def touching(self) -> tuple[bool, ...]:
        """Left ankle, right ankle, left ball, right ball."""
        return tuple(p.touching for p in self._points)

    def look(self, seen: Seen, dt: float) -> None:
        """Finds out who touches, `dt` > 0 seconds after the last look."""
        points = self._points
        for p, (x, y, z) in zip(points, seen.camera, strict=True):
            p.look(x, y, z, seen.away_m, dt)
        heights = [at[1] - above for at, above in zip(seen.world, ABOVE_SOLE_M, strict=True)]
        lowest, touched = min(heights), self.touching
        for i, p in enumerate(points):
            height, sure = heights[i] - lowest, seen.confidence[i] > MIN_CONFIDENCE
            if i < 2 and heights[i] - heights[_SAME_FOOT[i]] > HEEL_M:
                sure = False
            p.enters = False
            slow = p.speed < min(ENTER_M_S, ENTER_SHARE * (p.speed + points[_OTHER_FOOT[i]].speed + 0.1))
            low = height < ENTER_HEIGHT_M and (lowest < HIGHEST_FLOOR_M or not seen.floor_known)
            p.slow_s = p.slow_s + dt if slow and low and sure else 0.0
            if p.touching:
                stays = sure and height < LEAVE_HEIGHT_M and p.stays(seen.world[i], seen.view, dt, seen.floor_known)
                p.jolted = p.jolt > JOLT_M_S if p.leaves_s == 0.0 else p.jolted
                p.leaves_s = 0.0 if stays else p.leaves_s + dt
                other = touched[_OTHER_FOOT[i]] or touched[_SAME_FOOT[_OTHER_FOOT[i]]]
                p.touching = stays or (p.jolted and not other and p.leaves_s < LEAVE_LAST_S)
            elif p.slow_s > ENTER_S:
                p.touching, p.enters, p.leaves_s = True, True, 0.0
        if seen.floor_known:
            self._come_down([heights[i] for i in (0, 1) if points[i].touching], dt)

    def _come_down(self, heights: list[float], dt: float) -> None:
        """Moves the lift toward the `heights` of touching ankles; the anchors come down with the body."""
        if heights:
            down = sum(heights) / len(heights) * (1.0 - math.exp(-dt / LIFT_S))
            down = min(max(down, -MAX_LIFT_M - self.lift_m), MAX_LIFT_M - self.lift_m)
            self.lift_m += down
            for p in self._points:
                p.anchor[1] -= down
                p.goal[1] -= down

    def root(self, offsets: Sequence[Vector]) -> tuple[Array | None, int]:
        """Where feet that touched already say the pelvis is (3,), and how many; `offsets` (4, 3) from the pelvis."""
        held = [p.touching and not p.enters for p in self._points]
        at = [i for i in range(4) if held[i] and not (i > 1 and held[_SAME_FOOT[i]])]
        if not at:
            return None, 0
        return np.array([sum(self._points[i].anchor[k] - offsets[i][k] for i in at) / len(at) for k in range(3)]), len(
            at
        )

    def place(self, points: Sequence[Vector], dt: float, floor_known: bool) -> list[list[float]]:
        """Where the points go (4, 3), of where smoothing has them."""
        for i, (p, at) in enumerate(zip(self._points, points, strict=True)):
            if p.enters:
                p.anchor = [at[k] + p.extra[k] for k in range(3)]
            sunk = p.anchor[1] - ABOVE_SOLE_M[i]
            if p.touching and floor_known and abs(sunk) < ON_FLOOR_M:
                p.anchor[1] -= sunk * (1.0 - math.exp(-dt / FLOOR_S))
        asked = self._asked(points)
        for i, p in enumerate(self._points):
            same = self._points[_SAME_FOOT[i]]
            jumped = p.touching != p.shown or (same.touching != same.shown and not p.touching)
            if jumped and not p.touching and same.touching:
                # From one anchor to the other: it stays where it was shown
                p.extra = [p.goal[k] - points[i][k] for k in range(3)]
            if math.hypot(*p.extra) > LEAVE_ALONG_M:
                # The world was moved beneath it
                p.extra = p.easing = _zero()
            p.ease(asked[i], jumped, dt)
        for p, at in zip(self._points, points, strict=True):
            p.shown, p.goal = p.touching, [at[k] + p.extra[k] for k in range(3)]
        return [p.goal for p in self._points]

    def held(self, points: Sequence[Vector]) -> list[list[float]]:
        """Where the points go with nothing new seen."""
        return [[at[k] + a[k] for k in range(3)] for at, a in zip(points, self._asked(points), strict=True)]

    def _asked(self, points: Sequence[Vector]) -> list[list[float]]:
        """What (4, 3) the anchors ask of each point: ankles go with their balls and the other way round."""
        wanted = [
            [p.anchor[k] - at[k] for k in range(3)] if p.touching else None
            for p, at in zip(self._points, points, strict=True)
        ]
        return [wanted[i] or wanted[_SAME_FOOT[i]] or _zero() for i in range(4)]

    def let_go(self, goals: Sequence[Vector], reached: Sequence[Vector]) -> None:
        """Points whose `goals` (4, 3) the legs have not `reached` touch no longer."""
        for p, goal, at in zip(self._points, goals, reached, strict=True):
            if p.touching and math.dist(goal, at) > MISS_M:
                p.touching, p.slow_s = False, -AGAIN_S
                p.extra = [p.extra[k] + at[k] - goal[k] for k in range(3)]
                p.goal = list(at)

    def move(self, R: Array, t: Array) -> None:
        """Into another world: `p_new = R @ p_old + t`."""
        for p in self._points:
            p.anchor, p.goal = (R @ p.anchor + t).tolist(), (R @ p.goal + t).tolist()
            p.extra, p.easing, p.easing_m_s = ((R @ v).tolist() for v in (p.extra, p.easing, p.easing_m_s))
