"""Legs that reach for given ankles: two-bone inverse kinematics in closed form, and feet that point at their balls.

The law of cosines gives the knee's angle, the plane in which the knee bends stays the one it bends in (Tolani, Goswami
and Badler, Real-time inverse kinematics techniques for anthropomorphic limbs, 2000, without their swivel). Bones keep
their lengths; what lies out of reach is pointed at.
"""

from __future__ import annotations

import numpy as np

from pipeline.frames import Array, cross, normalize, shortest_rotation
from pipeline.types import JOINT


def _pair(part: str) -> list[int]:
    return [JOINT[f"left_{part}"], JOINT[f"right_{part}"]]


HIPS, KNEES, ANKLES, BALLS = _pair("hip"), _pair("knee"), _pair("ankle"), _pair("foot")
_TURNED = np.array([*HIPS, *KNEES, *ANKLES, *BALLS])
#: A leg is never quite straight: the knee's plane would be lost.
_STRAIGHT = 0.9995
#: Knees bent by less (the sine) have no plane of their own: the thigh's sideways axis gives it.
_HINGE = 0.1


def short_of(joints: Array, ankles: Array) -> Array:
    """How the body has to move (P, 3) for its legs to reach `ankles` (P, 2, 3); joints (P, 24, 3), all in one frame."""
    bones = joints[:, KNEES + ANKLES] - joints[:, HIPS + KNEES]
    lengths = np.sqrt((bones * bones).sum(-1, keepdims=True))
    to = ankles - joints[:, HIPS]
    away = np.sqrt((to * to).sum(-1, keepdims=True))
    short = np.maximum(away - _STRAIGHT * (lengths[:, :2] + lengths[:, 2:]), 0.0)
    return (to * (short / away)).sum(1) / np.maximum((short > 0.0).sum(1), 1)


def reach(Rs_frame_joint: Array, joints: Array, ankles: Array, balls: Array) -> tuple[Array, Array]:
    """Rotations (P, 24, 3, 3) and joints (P, 24, 3) with the ankles at `ankles` and the feet pointing at `balls`.

    All in one frame; ankles and balls (P, 2, 3), left and right. Hips and everything above stay as they are.
    """
    hips, knees, old_ankles = joints[:, HIPS], joints[:, KNEES], joints[:, ANKLES]
    upper, lower, foot = knees - hips, old_ankles - knees, joints[:, BALLS] - old_ankles
    bones = np.concatenate([upper, lower, foot], axis=1)
    lengths = np.sqrt((bones * bones).sum(-1, keepdims=True))
    a, b = lengths[:, :2], lengths[:, 2:4]
    to = ankles - hips
    away = np.sqrt((to * to).sum(-1, keepdims=True))
    toward = to / np.maximum(away, 1e-6)
    away = np.minimum(np.maximum(away, np.abs(a - b) + 0.05), _STRAIGHT * (a + b))
    normal = cross(upper, lower) / (a * b)
    straight = np.maximum(_HINGE - np.sqrt((normal * normal).sum(-1, keepdims=True)), 0.0)
    normal = normal + straight * Rs_frame_joint[:, HIPS][..., 0]
    normal = normalize(normal - (normal * toward).sum(-1, keepdims=True) * toward)
    cosine = np.clip((a * a + away * away - b * b) / (2.0 * a * away), -1.0, 1.0)
    new_upper = a * (cosine * toward + np.sqrt(1.0 - cosine * cosine) * cross(toward, normal))
    new_lower = away * toward - new_upper
    new_foot = balls - (hips + away * toward)
    old = bones / lengths
    new = normalize(np.concatenate([new_upper, new_lower, new_foot], axis=1), [0.0, -1.0, 0.0])
    turns = shortest_rotation(old, new)
    Rs, out = Rs_frame_joint.copy(), joints.copy()
    Rs[:, _TURNED] = turns[:, [0, 1, 2, 3, 4, 5, 4, 5]] @ Rs[:, _TURNED]
    out[:, KNEES] = hips + new_upper
    out[:, ANKLES] = hips + away * toward
    out[:, BALLS] = out[:, ANKLES] + lengths[:, 4:] * new[:, 4:]
    return Rs, out
