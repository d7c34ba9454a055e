"""From planted feet to a whole body: pelvis, spine, arms and head of the demo clips. See benchmarks.demo_motion."""

from __future__ import annotations

import numpy as np

from benchmarks.demo_motion import (
    SIDES,
    Feet,
    Motion,
    Script,
    ease,
    limb_turn,
    local_rotations,
    lowest_nearby,
    smoothed,
    two_bones,
    wander,
    window,
    yaw_matrix,
)
from pipeline.body import BodyModel
from pipeline.frames import Array, basis_from, exp_so3, normalize
from pipeline.types import JOINT, JOINT_PARENTS

X, Y, Z = np.eye(3)
_SIGN = (1.0, -1.0)


def _about(axis: Array, angles: Array) -> Array:
    return exp_so3(np.multiply.outer(angles, axis))


def _rotated(R: Array, vectors: Array) -> Array:
    return np.einsum("tab,...b->ta", R, vectors) if vectors.ndim == 1 else np.einsum("tab,tb->ta", R, vectors)


class Actor:
    """One body acting one script over times `t` (T,); `act` gives the motion."""

    def __init__(self, script: Script, body: BodyModel, sole_y: float, feet: Feet, t: Array, fps: float) -> None:
        self._script, self._rest, self._sole, self._feet, self._t, self._fps = script, body.joints, sole_y, feet, t, fps
        self._R = np.tile(np.eye(3), (len(t), 24, 1, 1))
        self._p = np.zeros((len(t), 24, 3))
        lifted = 1.0 - feet.still.astype(float)
        self._unload = smoothed(lifted[0] - lifted[1], 0.09, fps)
        ground = feet.ankle[:, :, [0, 2]]
        left = 0.5 - 0.22 * self._unload[:, None]
        self._xz = smoothed(left * ground[0] + (1 - left) * ground[1], 0.15, fps)
        self._yaw = smoothed(feet.middle[:, :, 2].mean(0), 0.22, fps)
        ahead = np.stack([np.sin(self._yaw), np.cos(self._yaw)], 1)
        self._stride = smoothed(np.sum((ground[0] - ground[1]) * ahead, 1), 0.05, fps)
        self._speed = np.linalg.norm(np.gradient(self._xz, 1 / fps, axis=0), axis=1)
        self._sit = np.zeros(len(t))
        for g in self._gestures("sit"):
            self._sit = np.maximum(self._sit, window(t, g.begin_s, g.end_s, 1.35))

    def act(self) -> Motion:
        """The motion over all times."""
        self._trunk()
        self._pelvis_place()
        self._follow(JOINT["pelvis"], ("left_hip", "right_hip", "spine1", "spine2", "spine3"))
        self._legs()
        self._head()
        self._arms()
        return Motion(self._R[:, 0], self._p[:, 0], local_rotations(self._R), self._feet.still.T.copy())

    def _gestures(self, kind: str) -> list:
        return [g for g in self._script.gestures if g.kind == kind]

    def _offset(self, joint: int) -> Array:
        return self._rest[joint] - self._rest[JOINT_PARENTS[joint]]

    def _follow(self, _root: int, names: tuple[str, ...]) -> None:
        for name in names:
            j = JOINT[name]
            p = JOINT_PARENTS[j]
            self._p[:, j] = self._p[:, p] + _rotated(self._R[:, p], self._offset(j))

    def _trunk(self) -> None:
        t, sit = self._t, self._sit
        rising = 4 * sit * (1 - sit)
        twist = -0.16 * np.clip(self._stride / 0.6, -1, 1)
        pitch = 0.03 + 0.035 * self._speed + 0.36 * rising - 0.16 * sit + 0.008 * wander(t, 1)
        roll = -0.045 * self._unload + 0.01 * wander(t, 2, 4.0)
        pelvis = yaw_matrix(self._yaw + twist) @ _about(X, pitch) @ _about(Z, roll)
        bend = 0.02 + 0.42 * rising + 0.13 * sit + 0.015 * wander(t, 3)
        counter = np.stack([bend, -1.9 * twist + 0.02 * wander(t, 4), -1.1 * roll], 1)
        third = exp_so3(counter / 3)
        self._R[:, 0] = pelvis
        for name, before in (("spine1", "pelvis"), ("spine2", "spine1"), ("spine3", "spine2")):
            self._R[:, JOINT[name]] = self._R[:, JOINT[before]] @ third

    def _pelvis_place(self) -> None:
        """As high as both legs allow, smoothly; down on the seat while sitting."""
        ahead = np.stack([np.sin(self._yaw), np.zeros_like(self._yaw), np.cos(self._yaw)], 1)
        p = np.column_stack([self._xz[:, 0], np.zeros(len(self._t)), self._xz[:, 1]]) + 0.02 * ahead
        p[:, 0] += 0.006 * wander(self._t, 5, 3.0)
        p[:, 2] += 0.006 * wander(self._t, 6, 3.4)
        height = np.full(len(self._t), np.inf)
        for f, side in enumerate(SIDES):
            hip, knee, ankle = (JOINT[f"{side}_{n}"] for n in ("hip", "knee", "ankle"))
            length = 0.992 * sum(np.linalg.norm(self._offset(j)) for j in (knee, ankle))
            hip_at = _rotated(self._R[:, 0], self._offset(hip))
            away = (p + hip_at - self._feet.ankle[f])[:, [0, 2]]
            reach = np.sqrt(np.maximum(length**2 - np.sum(away**2, 1), 0.04))
            height = np.minimum(height, self._feet.ankle[f][:, 1] + reach - hip_at[:, 1])
        p[:, 1] = smoothed(lowest_nearby(height, 0.16, self._fps), 0.055, self._fps)
        for g in self._gestures("sit"):
            w = window(self._t, g.begin_s, g.end_s, 1.35)[:, None]
            seat = np.asarray(g.target)
            p[:, [0, 2]] += (seat[[0, 2]] - p[:, [0, 2]]) * ease(1.15 * w)
            p[:, 1:2] += (seat[1] - p[:, 1:2]) * w
        self._p[:, 0] = p

    def _legs(self) -> None:
        for f, side in enumerate(SIDES):
            hip, knee, ankle, foot = (JOINT[f"{side}_{n}"] for n in ("hip", "knee", "ankle", "foot"))
            out = _SIGN[f] * (0.12 + 0.22 * self._sit)
            toes = self._feet.R_foot[f][:, :, 2] * [1, 0, 1]
            front = normalize(0.6 * normalize(toes) + 0.4 * self._R[:, 0, :, 2] + out[:, None] * self._R[:, 0, :, 0])
            lengths = tuple(float(np.linalg.norm(self._offset(j))) for j in (knee, ankle))
            thigh, shin = two_bones(self._p[:, hip], self._feet.ankle[f], (lengths[0], lengths[1]), front)
            self._R[:, hip] = limb_turn(-thigh, front, -self._offset(knee), Z, "yz")
            self._R[:, knee] = limb_turn(-shin, front, -self._offset(ankle), Z, "yz")
            self._R[:, ankle], self._R[:, foot] = self._feet.R_foot[f], self._feet.R_toe[f]
            self._follow(hip, (f"{side}_knee", f"{side}_ankle", f"{side}_foot"))

    def _head(self) -> None:
        chest = self._R[:, JOINT["spine3"]]
        # eyes go first into a turn
        lead = np.interp(self._t + 0.3, self._t, self._yaw)
        yaw, pitch = lead + 0.05 * wander(self._t, 7, 3.5), 0.06 + 0.03 * wander(self._t, 8, 3.0)
        self._follow(JOINT["spine3"], ("neck", "left_collar", "right_collar"))
        for g in self._gestures("look"):
            to = np.asarray(g.target) - (self._p[:, JOINT["neck"]] + 0.12 * Y)
            w = window(self._t, g.begin_s, g.end_s, 0.5)
            turn = (np.arctan2(to[:, 0], to[:, 2]) - yaw + np.pi) % (2 * np.pi) - np.pi
            yaw = yaw + w * np.clip(turn, -1.1, 1.1)
            pitch = pitch + w * (np.arctan2(-to[:, 1], np.hypot(to[:, 0], to[:, 2])) - pitch)
        head = yaw_matrix(yaw) @ _about(X, pitch)
        half = np.swapaxes(chest, 1, 2) @ head
        self._R[:, JOINT["neck"]] = chest @ _half(half)
        self._R[:, JOINT["head"]] = head
        self._follow(JOINT["neck"], ("head",))

    def _arms(self) -> None:
        chest = self._R[:, JOINT["spine3"]]
        level = yaw_matrix(np.arctan2(chest[:, 0, 2], chest[:, 2, 2]))
        for f, side in enumerate(SIDES):
            s = _SIGN[f]
            upper, fore = self._swinging(f)
            raised = np.zeros(len(self._t))
            for g in (g for g in self._gestures("wave") if f == 1):
                w = window(self._t, g.begin_s, g.end_s, 0.55)
                raised = np.maximum(raised, w)
                beat = np.sin(2 * np.pi * 1.6 * (self._t - g.begin_s))
                up = np.stack([s * 0.80 + 0 * beat, -0.22 + 0 * beat, 0.42 + 0 * beat], 1)
                hand = np.stack([s * 0.12 + 0.42 * beat, 1 + 0 * beat, 0.22 + 0 * beat], 1)
                upper, fore = upper + w[:, None] * (normalize(up) - upper), fore + w[:, None] * (normalize(hand) - fore)
            d, lower = _rotated(level, normalize(upper)), _rotated(level, normalize(fore))
            collar = JOINT[f"{side}_collar"]
            self._R[:, collar] = chest @ _about(Z, s * (0.03 + 0.22 * raised))
            self._follow(collar, (f"{side}_shoulder",))
            d, lower = self._hands_on_thighs(f, d, lower)
            self._arm(f, d, lower, 0.25 + 0.75 * self._sit - 0.25 * raised)

    def _swinging(self, f: int) -> tuple[Array, Array]:
        s = _SIGN[f]
        swing = -s * 0.55 * np.clip(smoothed(self._stride, 0.05, self._fps), -0.8, 0.8) + 0.03 * wander(
            self._t, 9 + f, 2.2
        )
        flex = 0.22 + 0.30 * np.clip(swing, 0, 1) + 0.10 * np.clip(self._speed, 0, 1)
        out = s * (0.20 + 0.02 * wander(self._t, 12 + f, 3.0))
        upper = np.stack([out, -np.cos(swing), np.sin(swing)], 1)
        fore = np.stack([0.15 * out, -np.cos(swing + flex), np.sin(swing + flex)], 1)
        return normalize(upper), normalize(fore)

    def _hands_on_thighs(self, f: int, d: Array, lower: Array) -> tuple[Array, Array]:
        side, s = SIDES[f], _SIGN[f]
        shoulder, elbow, wrist = (JOINT[f"{side}_{n}"] for n in ("shoulder", "elbow", "wrist"))
        hip, knee = self._p[:, JOINT[f"{side}_hip"]], self._p[:, JOINT[f"{side}_knee"]]
        target = 0.42 * hip + 0.58 * knee + 0.095 * Y
        lengths = (float(np.linalg.norm(self._offset(elbow))), float(np.linalg.norm(self._offset(wrist))))
        pole = _rotated(self._R[:, 0], np.array([0.7 * s, -0.4, -0.6]))
        up, fore = two_bones(self._p[:, shoulder], target, lengths, pole)
        w = ease((self._sit - 0.25) / 0.7)[:, None]
        return normalize(d + w * (up - d)), normalize(lower + w * (fore - lower))

    def _arm(self, f: int, d: Array, lower: Array, inward: Array) -> None:
        side, s = SIDES[f], _SIGN[f]
        shoulder, elbow, wrist, hand = (JOINT[f"{side}_{n}"] for n in ("shoulder", "elbow", "wrist", "hand"))
        self._R[:, shoulder] = basis_from(s * d, lower, "xz")
        hinge = self._R[:, shoulder, :, 1]
        self._R[:, elbow] = basis_from(s * lower, hinge, "xy") @ _about(X, 0.6 * inward)
        self._R[:, wrist] = self._R[:, elbow] @ _about(X, 0.4 * inward) @ _about(Z, -s * 0.10 * np.ones(len(d)))
        self._R[:, hand] = self._R[:, wrist] @ _about(Z, -s * 0.22 * np.ones(len(d)))
        self._follow(shoulder, (f"{side}_elbow", f"{side}_wrist", f"{side}_hand"))


def _half(Rs: Array) -> Array:
    from pipeline.frames import log_so3

    return exp_so3(0.5 * log_so3(Rs))
