"""Procedural motion for the demo clips: planned footsteps, planted feet, leg and arm inverse kinematics.

A `Script` is written like a stage direction (`wait`, `walk`, `turn`, and gestures at times); `perform` makes SMPL
rotations of it for one body. World: y up, floor at y = 0, metres; yaw 0 faces +z.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from pipeline.body import BodyModel
from pipeline.frames import Array, basis_from, exp_so3, normalize
from pipeline.types import JOINT, JOINT_PARENTS, LANDMARK

SIDES = ("left", "right")
_SIGN = (1.0, -1.0)
UP = np.array([0.0, 1.0, 0.0])


def yaw_matrix(yaw: Array | float) -> Array:
    """Rotations (..., 3, 3) about the world's up axis."""
    return exp_so3(np.multiply.outer(np.asarray(yaw, dtype=float), UP))


def ease(s: Array | float) -> Array:
    """0 to 1 with zero speed and acceleration at both ends, clipped outside."""
    s = np.clip(s, 0.0, 1.0)
    return s**3 * (10 - 15 * s + 6 * s**2)


@dataclass(frozen=True)
class Step:
    """One foot goes from one flat place to another: `start` and `end` are (x, z, yaw); times in seconds."""

    foot: int
    lift_s: float
    land_s: float
    start: Array
    end: Array


@dataclass(frozen=True)
class Gesture:
    """Something the upper body does between two times: "wave", "sit" or "look"; `target` a point or a yaw."""

    kind: str
    begin_s: float
    end_s: float
    target: Array


@dataclass
class Script:
    """Where a person walks and what it does, in order. Starts standing at (x, z), facing yaw."""

    x: float
    z: float
    yaw: float
    stance_m: float = 0.095
    now_s: float = 0.0
    steps: list[Step] = field(default_factory=list)
    gestures: list[Gesture] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start = [self._place(np.array([self.x, self.z]), self.yaw, f) for f in (0, 1)]
        self._feet = list(self.start)
        self._next = 0

    def _place(self, xz: Array, yaw: float, foot: int) -> Array:
        left = np.array([np.cos(yaw), -np.sin(yaw)])
        return np.array([*(xz + _SIGN[foot] * self.stance_m * left), yaw + _SIGN[foot] * 0.09])

    def _step(self, foot: int, end: Array, swing_s: float, pause_s: float) -> None:
        turn = (end[2] - self._feet[foot][2] + np.pi) % (2 * np.pi) - np.pi
        end = np.array([end[0], end[1], self._feet[foot][2] + turn])
        self.steps.append(Step(foot, self.now_s, self.now_s + swing_s, self._feet[foot], end))
        self._feet[foot] = end
        self._next = 1 - foot
        self.now_s += swing_s + pause_s

    def wait(self, seconds: float) -> Script:
        """Stands (or sits) for a while."""
        self.now_s += seconds
        return self

    def gesture(self, kind: str, seconds: float, target: Array | None = None, delay_s: float = 0.0) -> Script:
        """Begins a gesture now (or a little later or earlier) without waiting for its end."""
        begin = self.now_s + delay_s
        self.gestures.append(
            Gesture(kind, begin, begin + seconds, np.zeros(3) if target is None else np.asarray(target))
        )
        return self

    def turn(self, yaw: float, seconds_per_step: float = 0.5) -> Script:
        """Turns on the spot by small steps, the outer foot first."""
        change = (yaw - self.yaw + np.pi) % (2 * np.pi) - np.pi
        pairs = max(1, int(np.ceil(abs(change) / np.deg2rad(50))))
        foot = 0 if change > 0 else 1
        for k in range(1, pairs + 1):
            part = self.yaw + change * k / pairs
            for f in (foot, 1 - foot):
                self._step(
                    f, self._place(np.array([self.x, self.z]), part, f), 0.8 * seconds_per_step, 0.2 * seconds_per_step
                )
        self.yaw = self.yaw + change
        return self

    def walk(self, points: list[tuple[float, float]], step_m: float = 0.62, step_s: float = 0.54) -> Script:
        """Walks along a smooth curve from here through points (x, z) and closes the feet at the last."""
        xz = np.array([(self.x, self.z), *points], dtype=float)
        knots = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xz, axis=0), axis=1))])
        ahead = np.array([np.sin(self.yaw), np.cos(self.yaw)])
        curve = CubicSpline(knots, xz, bc_type=((1, ahead), (2, np.zeros(2))))
        fine = curve(np.linspace(0, knots[-1], 400))
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
        count = max(2, round(float(arc[-1]) / step_m))
        for k in range(1, count + 2):
            at = np.interp(min(k, count) / count * arc[-1], arc, np.linspace(0, knots[-1], 400))
            d = curve(at, 1)
            self._step(
                self._next,
                self._place(curve(at), float(np.arctan2(d[0], d[1])), self._next),
                0.76 * step_s,
                0.24 * step_s,
            )
        self.x, self.z = (float(v) for v in xz[-1])
        self.yaw = float(np.mean([f[2] for f in self._feet]))
        return self


@dataclass(frozen=True, eq=False)
class Motion:
    """SMPL rotations of every frame.

    R_world_root (T, 3, 3), t_world_root (T, 3), Rs_parent_joint (T, 23, 3, 3), foot_contact (T, 2) bool: left and
    right foot lie flat and still
    """

    R_world_root: Array
    t_world_root: Array
    Rs_parent_joint: Array
    foot_contact: np.ndarray


@dataclass(frozen=True, eq=False)
class Feet:
    """Left and right foot over time: ankle (2, T, 3), turns (2, T, 3, 3) of foot and toes in the world, `still` (2, T)
    where it lies flat and does not move, and its place x, z, yaw (2, T, 3)."""

    ankle: Array
    R_foot: Array
    R_toe: Array
    still: np.ndarray
    middle: Array


_ROLL_S, _SLAP_S = 0.16, 0.10


def _feet(script: Script, body: BodyModel, sole_y: float, t: Array) -> Feet:
    ankle, R_foot, R_toe = np.zeros((2, len(t), 3)), np.zeros((2, len(t), 3, 3)), np.zeros((2, len(t), 3, 3))
    still, middle = np.ones((2, len(t)), dtype=bool), np.zeros((2, len(t), 3))
    for f, side in enumerate(SIDES):
        joint = body.joints[JOINT[f"{side}_ankle"]]
        lift = np.array([0.0, joint[1] - sole_y, 0.0])
        ball = body.joints[JOINT[f"{side}_foot"]] - joint
        ball[1] = 0.35 * ball[1] - 0.65 * lift[1]
        heel = body.landmarks[LANDMARK[f"{side}_heel"]] - joint
        heel[1] = -lift[1]

        def flat(place: Array, lift: Array = lift) -> Array:
            return np.array([place[0], 0.0, place[1]]) + lift

        def tilted(place: Array, pitch: Array, pivot: Array, lift: Array = lift) -> Array:
            Y = yaw_matrix(place[2])
            return flat(place) + Y @ pivot - (Y @ exp_so3(np.multiply.outer(pitch, [1.0, 0.0, 0.0])) @ pivot)

        place = np.tile(script.start[f], (len(t), 1))
        pitch, toe, at = np.zeros(len(t)), np.zeros(len(t)), np.tile(flat(script.start[f]), (len(t), 1))
        for s in (s for s in script.steps if s.foot == f):
            size = min(1.0, float(np.linalg.norm(s.end[:2] - s.start[:2])) / 1.0)
            off, on = np.deg2rad(8 + 32 * size), -np.deg2rad(3 + 15 * size)
            roll = (t >= s.lift_s - _ROLL_S) & (t < s.lift_s)
            swing = (t >= s.lift_s) & (t < s.land_s)
            after = t >= s.land_s
            pitch[roll] = off * ((t[roll] - s.lift_s + _ROLL_S) / _ROLL_S) ** 2
            at[roll] = tilted(s.start, pitch[roll], ball)
            u = (t[swing] - s.lift_s) / (s.land_s - s.lift_s)
            e = ease(u)[:, None]
            place[swing] = s.start + e * (s.end - s.start)
            pitch[swing] = off + (on - off) * ease(np.clip(1.25 * u, 0, 1))
            bump = (0.035 + 0.05 * size) * np.sin(np.pi * u) ** 2
            first, last = tilted(s.start, np.array([off]), ball)[0], tilted(s.end, np.array([on]), heel)[0]
            at[swing] = first + e * (last - first) + bump[:, None] * UP
            toe[swing] = off * (1 - ease(1.6 * u))
            place[after], pitch[after] = s.end, on * (1 - ease((t[after] - s.land_s) / _SLAP_S))
            at[after] = tilted(s.end, pitch[after], heel)
            toe[roll], toe[after] = pitch[roll], 0.0
            still[f] &= ~((t >= s.lift_s - _ROLL_S) & (t < s.land_s + _SLAP_S))
        Y = yaw_matrix(place[:, 2])
        R_foot[f] = Y @ exp_so3(np.multiply.outer(pitch, [1.0, 0.0, 0.0]))
        R_toe[f] = Y @ exp_so3(np.multiply.outer(pitch - np.clip(toe, 0, None), [1.0, 0.0, 0.0]))
        ankle[f], middle[f] = at, place
    return Feet(ankle, R_foot, R_toe, still, middle)


def two_bones(root: Array, target: Array, lengths: tuple[float, float], pole: Array) -> tuple[Array, Array]:
    """Unit directions (T, 3) of both bones of a limb from `root` to `target`, the middle joint toward `pole`."""
    a, b = lengths
    way = target - root
    d = np.clip(np.linalg.norm(way, axis=-1, keepdims=True), abs(a - b) + 1e-4, a + b - 1e-5)
    along = normalize(way)
    cosine = (a**2 + d**2 - b**2) / (2 * a * d)
    side = normalize(pole - np.sum(pole * along, -1, keepdims=True) * along)
    middle = a * (cosine * along + np.sqrt(np.clip(1 - cosine**2, 0, 1)) * side)
    return normalize(middle), normalize(d * along - middle)


def window(t: Array, begin_s: float, end_s: float, rise_s: float) -> Array:
    return ease((t - begin_s) / rise_s) * ease((end_s - t) / rise_s)


def wander(t: Array, seed: int, period_s: float = 2.6) -> Array:
    """A small smooth unrest (T,), about -1..1, always the same for the same seed."""
    rng = np.random.default_rng(seed)
    phases, rates = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.5, 1.8, 4) / period_s
    return np.sin(2 * np.pi * np.outer(t, rates) + phases).mean(1) * 1.4


def perform(script: Script, body: BodyModel, sole_y: float, n_frames: int, fps: float) -> Motion:
    """The script acted by `body` (joints in the T-pose as in BodyModel; `sole_y` the sole below the pelvis joint)."""
    from benchmarks.demo_acting import Actor

    # margins so that filters see no edge; everything is made at the frame rate
    margin = int(fps)
    t = (np.arange(n_frames + 2 * margin) - margin) / fps
    feet = _feet(script, body, sole_y, t)
    motion = Actor(script, body, sole_y, feet, t, fps).act()
    keep = slice(margin, margin + n_frames)
    return Motion(*(getattr(motion, k)[keep] for k in Motion.__dataclass_fields__))


def smoothed(values: Array, seconds: float, fps: float) -> Array:
    """Gaussian filter along time (axis 0)."""
    return gaussian_filter1d(values, seconds * fps, axis=0, mode="nearest")


def lowest_nearby(values: Array, seconds: float, fps: float) -> Array:
    """Minimum over a window along time (T,)."""
    return minimum_filter1d(values, max(1, int(seconds * fps) | 1), mode="nearest")


def local_rotations(Rs_world: Array) -> Array:
    """Rs_parent_joint (T, 23, 3, 3) of world rotations (T, 24, 3, 3)."""
    parents = list(JOINT_PARENTS[1:])
    return np.swapaxes(Rs_world[:, parents], -1, -2) @ Rs_world[:, 1:]


def limb_turn(direction: Array, front: Array, rest_direction: Array, rest_front: Array, axes: str) -> Array:
    """World turns (T, 3, 3) that take a rest direction to `direction` and keep the front near `front`."""
    return basis_from(direction, front, axes) @ basis_from(rest_direction, rest_front, axes).T
