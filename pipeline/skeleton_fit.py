"""Joint rotations of the 24-joint skeleton from 33 landmark positions, in closed form.

Trunk, head, hands and feet are turned as rigid bases spanned by their landmarks; limbs point where their landmarks
do, their twist comes from the plane in which elbow or knee bends (HybrIK's swing and twist, arXiv 2011.14672, with
the twist read from the bend). Every basis is built the same way on the body at rest, so no offset is typed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.frames import Array, basis_from, exp_so3, log_so3, normalize, shortest_rotation
from pipeline.types import JOINT, LANDMARK

_L = LANDMARK
#: Arms then legs, left then right: landmarks at the limb's root, its hinge and its end.
_ROOT = np.array([_L["left_shoulder"], _L["right_shoulder"], _L["left_hip"], _L["right_hip"]])
_HINGE = np.array([_L["left_elbow"], _L["right_elbow"], _L["left_knee"], _L["right_knee"]])
_END = np.array([_L["left_wrist"], _L["right_wrist"], _L["left_ankle"], _L["right_ankle"]])
_INDEX = np.array([_L["left_index"], _L["right_index"]])
_PINKY = np.array([_L["left_pinky"], _L["right_pinky"]])
_HEEL = np.array([_L["left_heel"], _L["right_heel"]])
_TOE = np.array([_L["left_foot_index"], _L["right_foot_index"]])

_UPPER_JOINT = np.array([JOINT[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")])
_HINGE_JOINT = np.array([JOINT[n] for n in ("left_elbow", "right_elbow", "left_knee", "right_knee")])
_END_JOINT = np.array([JOINT[n] for n in ("left_wrist", "right_wrist", "left_ankle", "right_ankle")])

#: Unit normal of the bending plane in the T-pose: elbows bend forward, knees backward.
_REST_NORMAL = np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
#: Where a limb that nobody sees hangs, in its parent's frame.
_RELAXED = np.array([[0.15, -1.0, 0.05], [-0.15, -1.0, 0.05], [0.02, -1.0, 0.0], [-0.02, -1.0, 0.0]])
_RELAXED_UNIT = normalize(_RELAXED)

MAX_NECK_RAD, MAX_WRIST_RAD, MAX_ANKLE_RAD = np.radians(80.0), np.radians(80.0), np.radians(60.0)


@dataclass(frozen=True, eq=False)
class RestFrames:
    """What the fit needs of one person's body at rest: bases (…, 3, 3) and limb directions (4, 3) in the T-pose."""

    pelvis: Array
    chest: Array
    head: Array
    hands: Array
    feet: Array
    upper: Array
    lower: Array

    @staticmethod
    def of(landmarks_rest: Array, joints_rest: Array) -> RestFrames:
        """From the landmarks (33, 3) and joints (24, 3) of the body at rest."""
        pelvis, chest, head = _trunk_bases(landmarks_rest)
        upper = normalize(joints_rest[_HINGE_JOINT] - joints_rest[_UPPER_JOINT])
        lower = normalize(joints_rest[_END_JOINT] - joints_rest[_HINGE_JOINT])
        return RestFrames(
            pelvis, chest, head, _hand_bases(landmarks_rest), _foot_bases(landmarks_rest, -lower[2:]), upper, lower
        )


def joint_rotations(points: Array, visibility: Array, rest: RestFrames) -> tuple[Array, Array]:
    """R_frame_root (3, 3) and Rs_parent_joint (23, 3, 3) of landmarks (33, 3) in any right-handed metric frame.

    visibility  (33,) 0..1; limbs that are not seen hang relaxed instead of following what was guessed
    """
    pelvis, chest, head = (b @ r.T for b, r in zip(_trunk_bases(points), (rest.pelvis, rest.chest, rest.head),
                                                   strict=True))  # fmt: skip
    Rs = np.tile(np.eye(3), (24, 1, 1))
    bend = exp_so3(log_so3(pelvis.T @ chest) / 3.0)
    Rs[[JOINT["spine1"], JOINT["spine2"], JOINT["spine3"]]] = bend
    seen_head = _smoothstep(visibility[[_L["nose"], _L["left_ear"], _L["right_ear"]]].max(), 0.1, 0.5)
    Rs[[JOINT["neck"], JOINT["head"]]] = exp_so3(0.5 * seen_head * _limited(log_so3(chest.T @ head), MAX_NECK_RAD))

    parents = np.stack([chest, chest, pelvis, pelvis])
    seen = _smoothstep(np.minimum.accumulate(visibility[np.stack([_HINGE, _END])], axis=0), 0.1, 0.5)[..., None]
    relaxed = np.einsum("lij,lj->li", parents, _RELAXED_UNIT)
    upper = normalize(seen[0] * normalize(points[_HINGE] - points[_ROOT]) + (1 - seen[0]) * relaxed, [0.0, 1.0, 0.0])
    lower = normalize(seen[1] * normalize(points[_END] - points[_HINGE]) + (1 - seen[1]) * upper, [0.0, 1.0, 0.0])
    uppers = _upper_limbs(points, upper, lower, parents, rest)
    lowers = shortest_rotation(np.einsum("lij,lj->li", uppers, rest.lower), lower) @ uppers
    ends = np.concatenate([_hand_bases(points) @ np.swapaxes(rest.hands, 1, 2),
                           _foot_bases(points, -lower[2:]) @ np.swapaxes(rest.feet, 1, 2)])  # fmt: skip
    lowers[:2] = _pronated(lowers[:2], ends[:2], lower[:2], seen[1, :2])

    Rs[_UPPER_JOINT] = np.swapaxes(parents, 1, 2) @ uppers
    Rs[_HINGE_JOINT] = np.swapaxes(uppers, 1, 2) @ lowers
    tip = log_so3(np.swapaxes(lowers, 1, 2) @ ends)
    limit = np.array([[MAX_WRIST_RAD], [MAX_WRIST_RAD], [MAX_ANKLE_RAD], [MAX_ANKLE_RAD]])
    Rs[_END_JOINT] = exp_so3(seen[1] * _limited(tip, limit))
    return pelvis, Rs[1:]


def _trunk_bases(p: Array) -> tuple[Array, Array, Array]:
    hips = p[_L["left_hip"]] - p[_L["right_hip"]]
    shoulders = p[_L["left_shoulder"]] - p[_L["right_shoulder"]]
    up = (p[_L["left_shoulder"]] + p[_L["right_shoulder"]]) - (p[_L["left_hip"]] + p[_L["right_hip"]])
    ears = p[_L["left_ear"]] - p[_L["right_ear"]]
    face = 2.0 * p[_L["nose"]] - (p[_L["left_ear"]] + p[_L["right_ear"]])
    trunk = basis_from(np.stack([up, up]), np.stack([hips, shoulders]), "yx")
    return trunk[0], trunk[1], basis_from(ears, face, "xz")


def _hand_bases(p: Array) -> Array:
    wrists = p[_END[:2]]
    return basis_from((p[_INDEX] + p[_PINKY]) / 2 - wrists, p[_INDEX] - p[_PINKY], "xz")


def _foot_bases(p: Array, shins_up: Array) -> Array:
    return basis_from(p[_TOE] - p[_HEEL], shins_up, "zy")


def _upper_limbs(points: Array, upper: Array, lower: Array, parents: Array, rest: RestFrames) -> Array:
    """R_frame_joint (4, 3, 3) of shoulders and hips: along the limb, twisted so that the hinge bends as it does."""
    swing = shortest_rotation(np.einsum("lij,lj->li", parents, rest.upper), upper) @ parents
    straight = np.einsum("lij,lj->li", swing, _REST_NORMAL)
    # A straight leg shows its twist in the foot, which points away from the bending plane's normal
    straight[2:] = normalize(np.cross(normalize(points[_TOE] - points[_HEEL]), upper[2:]) + 0.2 * straight[2:])
    bent = np.cross(upper, lower)
    sine = np.linalg.norm(bent, axis=-1, keepdims=True)
    share = _smoothstep(sine, 0.15, 0.45)
    # Knees do not bend forward: there the evidence of the foot stands alone
    share[2:] *= np.sum(bent[2:] * straight[2:], axis=-1, keepdims=True) > 0
    normal = normalize(share * normalize(bent) + (1 - share) * straight)
    target = basis_from(upper, normal, "yx")
    at_rest = basis_from(rest.upper, _REST_NORMAL, "yx")
    return target @ np.swapaxes(at_rest, 1, 2)


def _pronated(lowers: Array, hands: Array, axis: Array, seen: Array) -> Array:
    """Forearms (2, 3, 3) with half of the hand's twist about them, as ulna and radius share it."""
    relative = log_so3(hands @ np.swapaxes(lowers, 1, 2))
    twist = np.clip(np.sum(relative * axis, axis=-1, keepdims=True), -2.2, 2.2)
    return exp_so3(0.5 * seen * twist * axis) @ lowers


def _limited(rotvecs: Array, limit_rad: Array | float) -> Array:
    angle = np.linalg.norm(rotvecs, axis=-1, keepdims=True)
    return rotvecs * np.minimum(1.0, limit_rad / np.maximum(angle, 1e-9))


def _smoothstep(x: Array | float, low: float, high: float) -> Array:
    s = np.clip((np.asarray(x) - low) / (high - low), 0.0, 1.0)
    return s * s * (3.0 - 2.0 * s)
