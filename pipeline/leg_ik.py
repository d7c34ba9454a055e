"""Legs that reach for given ankles: two-bone inverse kinematics in closed form, and feet that point at their balls.

The law of cosines gives the knee's angle, the plane in which the knee bends stays the one it bends in (Tolani, Goswami
and Badler, Real-time inverse kinematics techniques for anthropomorphic limbs, 2000, without their swivel). Bones keep
their lengths; what lies out of reach is pointed at. In plain floats: six bones are too few for arrays to be fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.frames import Array
from pipeline.types import JOINT

Vector = Sequence[float]


def _pair(part: str) -> list[int]:
    return [JOINT[f"left_{part}"], JOINT[f"right_{part}"]]


HIPS, KNEES, ANKLES, BALLS = _pair("hip"), _pair("knee"), _pair("ankle"), _pair("foot")
_LEGS = np.array([*HIPS, *KNEES, *ANKLES, *BALLS])
#: A leg is never quite straight: the knee's plane would be lost.
_STRAIGHT = 0.9995
#: Knees bent by less (the sine) have no plane of their own: the thigh's sideways axis gives it.
_HINGE = 0.1
#: How far the body gives way, beside how far a leg is from the length that it has, straight and for each metre that its
#: knee stands out; the most of the former, and of how far a knee is moved out or in.
SIGMA_BODY_M, SIGMA_LENGTH_M, LENGTH_OF_BEND = 0.03, 0.005, 0.1
MAX_GIVE_M, SPARED_M = 0.10, 0.015


def give_way(joints: Array, ankles: Sequence[Vector]) -> list[float]:
    """How the body moves (3,) so that its legs reach `ankles` (2, 3) bent as they are; joints (24, 3), all in a frame.

    A leg that is nearly straight sticks its knee out by centimetres for millimetres between hip and ankle, so the whole
    body moves instead, along the legs, as far as SIGMA_BODY_M weighs against what each leg's bend leaves open.
    """
    at = joints[_LEGS].tolist()
    toward, off, loose = [], [], []
    for i in (0, 1):
        hip, knee, ankle = at[i], at[i + 2], at[i + 4]
        away, length, _, _, out = _measured(hip, knee, ankle, ankles[i])
        toward.append(_unit(_minus(ankles[i], hip)))
        off.append(away - length)
        loose.append((SIGMA_LENGTH_M + LENGTH_OF_BEND * out) ** 2)
    free = SIGMA_BODY_M**2
    # Least squares with two rows: solved in the space of the legs
    both = free * sum(p * q for p, q in zip(*toward, strict=True))
    one, two = free + loose[0], free + loose[1]
    det = one * two - both * both
    pull = [(two * off[0] - both * off[1]) / det, (one * off[1] - both * off[0]) / det]
    moves = [free * (pull[0] * toward[0][k] + pull[1] * toward[1][k]) for k in range(3)]
    far = math.hypot(*moves)
    return [min(1.0, MAX_GIVE_M / far) * m for m in moves] if far > 0.0 else moves


def spare_knees(joints: Array, goals: Sequence[Vector]) -> list[list[float]]:
    """`goals` (4, 3) as far as legs come to them without moving a knee out or in by more than SPARED_M.

    left ankle, right ankle, left ball, right ball; what is left of the way, the foot slips.
    """
    at = joints[_LEGS].tolist()
    spared = [list(goal) for goal in goals]
    for i in (0, 1):
        hip = at[i]
        away, _, a, b, out = _measured(hip, at[i + 2], at[i + 4], goals[i])
        most = min(out + SPARED_M, 0.98 * min(a, b))
        shortest, longest = _span(a, b, most), _span(a, b, max(out - SPARED_M, 0.0))
        short = min(max(away, shortest), longest) - away
        if short:
            toward = _unit(_minus(goals[i], hip))
            for j in (i, i + 2):
                spared[j] = [spared[j][k] + short * toward[k] for k in range(3)]
    return spared


def _measured(hip: Vector, knee: Vector, ankle: Vector, goal: Vector) -> tuple[float, float, float, float, float]:
    """How far the goal is from the hip, the ankle is, thigh, shin, and how far the knee stands out between the two."""
    upper, lower, leg = _minus(knee, hip), _minus(ankle, knee), _minus(ankle, hip)
    length = max(math.hypot(*leg), 1e-6)
    return (
        math.dist(goal, hip),
        length,
        math.hypot(*upper),
        math.hypot(*lower),
        math.hypot(*_cross(upper, leg)) / length,
    )


def _span(a: float, b: float, out: float) -> float:
    """From hip to ankle when the knee stands out by `out`."""
    return math.sqrt(a * a - out * out) + math.sqrt(b * b - out * out)


def reach(Rs_frame_joint: Array, joints: Array, goals: Sequence[Vector]) -> None:
    """Turns the legs of a body, in place, until its ankles are at their goals and its feet point at theirs.

    Rs_frame_joint  (24, 3, 3) and joints (24, 3), all in one frame; hips and everything above stay as they are
    goals           (4, 3) left ankle, right ankle, left ball, right ball
    """
    at, sideways = joints[_LEGS].tolist(), Rs_frame_joint[HIPS][..., 0].tolist()
    turns: list[list[list[float]]] = [[]] * 8
    for i in (0, 1):
        hip, knee, ankle, ball = at[i], at[i + 2], at[i + 4], at[i + 6]
        new_knee, new_ankle = _leg(hip, knee, ankle, goals[i], sideways[i])
        foot, aim = _minus(ball, ankle), _unit(_minus(goals[i + 2], new_ankle))
        length = math.hypot(*foot)
        turns[i] = _shortest(_unit(_minus(knee, hip)), _unit(_minus(new_knee, hip)))
        turns[i + 2] = _shortest(_unit(_minus(ankle, knee)), _unit(_minus(new_ankle, new_knee)))
        turns[i + 4] = turns[i + 6] = _shortest(_unit(foot), aim)
        at[i + 2], at[i + 4] = new_knee, new_ankle
        at[i + 6] = [new_ankle[k] + length * aim[k] for k in range(3)]
    Rs_frame_joint[_LEGS] = np.array(turns) @ Rs_frame_joint[_LEGS]
    joints[_LEGS] = at


def _leg(hip: Vector, knee: Vector, ankle: Vector, goal: Vector, sideways: Vector) -> tuple[list[float], list[float]]:
    """Knee and ankle of a leg that reaches for `goal`; `sideways` (3,) is the thigh's axis to its left."""
    upper, lower, to = _minus(knee, hip), _minus(ankle, knee), _minus(goal, hip)
    a, b, toward = math.hypot(*upper), math.hypot(*lower), _unit(to)
    away = min(max(math.hypot(*to), abs(a - b) + 0.05), _STRAIGHT * (a + b))
    normal = [n / (a * b) for n in _cross(upper, lower)]
    straight = max(_HINGE - math.hypot(*normal), 0.0)
    normal = [normal[k] + straight * sideways[k] for k in range(3)]
    along = sum(normal[k] * toward[k] for k in range(3))
    forward = _cross(toward, _unit([normal[k] - along * toward[k] for k in range(3)]))
    cosine = min(max((a * a + away * away - b * b) / (2.0 * a * away), -1.0), 1.0)
    sine = math.sqrt(1.0 - cosine * cosine)
    new_knee = [hip[k] + a * (cosine * toward[k] + sine * forward[k]) for k in range(3)]
    return new_knee, [hip[k] + away * toward[k] for k in range(3)]


def _minus(p: Vector, q: Vector) -> list[float]:
    return [p[0] - q[0], p[1] - q[1], p[2] - q[2]]


def _cross(p: Vector, q: Vector) -> list[float]:
    return [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]]


def _unit(p: Vector) -> list[float]:
    length = math.hypot(*p)
    return [p[0] / length, p[1] / length, p[2] / length] if length > 1e-9 else [0.0, -1.0, 0.0]


def _shortest(p: Vector, q: Vector) -> list[list[float]]:
    """`pipeline.frames.shortest_rotation` of two unit vectors, which no leg turns to be opposite."""
    cosine = p[0] * q[0] + p[1] * q[1] + p[2] * q[2]
    x, y, z = _cross(p, q)
    k = 1.0 / max(1.0 + cosine, 1e-6)
    return [
        [cosine + k * x * x, k * x * y - z, k * x * z + y],
        [k * x * y + z, cosine + k * y * y, k * y * z - x],
        [k * x * z - y, k * y * z + x, cosine + k * z * z],
    ]
