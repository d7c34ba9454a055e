"""Joint rotations of the 24-joint skeleton from 33 landmark positions, in closed form.

Trunk, head, hands and feet are turned as rigid bases spanned by their landmarks; limbs point where their landmarks
do, their twist comes from the plane in which elbow or knee bends (HybrIK's swing and twist, arXiv 2011.14672, with
the twist read from the bend). Every basis is built the same way on the body at rest, so no offset is typed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.frames import Array, basis_from, cross, exp_so3, log_so3, normalize, shortest_rotation
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

_FACE = np.array([_L["nose"], _L["left_ear"], _L["right_ear"]])
#: Landmark differences that span pelvis, chest, head, hands and feet; those that are sums are put in later.
_MAIN = np.array([(0, 0), (0, 0), (_L["left_ear"], _L["right_ear"]), (0, 0), (0, 0), *zip(_TOE, _HEEL, strict=True)])
_SIDE = np.array(
    [(_ROOT[2], _ROOT[3]), (_ROOT[0], _ROOT[1]), (0, 0), *zip(_INDEX, _PINKY, strict=True),
     *zip(_HINGE[2:], _END[2:], strict=True)]
)  # fmt: skip

_SPINE = [JOINT["spine1"], JOINT["spine2"], JOINT["spine3"]]
_NECK_HEAD = [JOINT["neck"], JOINT["head"]]
_UPPER_JOINT = np.array([JOINT[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")])
_HINGE_JOINT = np.array([JOINT[n] for n in ("left_elbow", "right_elbow", "left_knee", "right_knee")])
_END_JOINT = np.array([JOINT[n] for n in ("left_wrist", "right_wrist", "left_ankle", "right_ankle")])

#: Unit normal of the bending plane in the T-pose: elbows bend forward, knees backward.
_REST_NORMAL = np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
#: Where a limb that nobody sees hangs, in its parent's frame.
_RELAXED = np.array([[0.15, -1.0, 0.05], [-0.15, -1.0, 0.05], [0.02, -1.0, 0.0], [-0.02, -1.0, 0.0]])
_RELAXED_UNIT = normalize(_RELAXED)

#: How far spine, neck, wrists and ankles turn against their parents, radians.
_LIMITS = np.radians([[150.0], [80.0], [80.0], [80.0], [60.0], [60.0]])


@dataclass(frozen=True, eq=False)
class RestFrames:
    """What the fit needs of people's bodies at rest, P people or none of that dimension.

    rigid  (P, 7, 3, 3) bases of pelvis, chest, head, hands, feet
    limbs  (P, 4, 3, 3) bases of upper arms and thighs
    upper  (P, 4, 3) unit directions of upper arms and thighs; lower (P, 4, 3) of forearms and shins
    """

    rigid: Array
    limbs: Array
    upper: Array
    lower: Array

    @staticmethod
    def of(landmarks_rest: Array, joints_rest: Array) -> RestFrames:
        """From the landmarks (P, 33, 3) and joints (P, 24, 3) of the bodies at rest."""
        upper = normalize(joints_rest[..., _HINGE_JOINT, :] - joints_rest[..., _UPPER_JOINT, :])
        lower = normalize(joints_rest[..., _END_JOINT, :] - joints_rest[..., _HINGE_JOINT, :])
        return RestFrames(_rigid_bases(landmarks_rest), basis_from(upper, _REST_NORMAL, "yx"), upper, lower)


def joint_rotations(points: Array, visibility: Array, rest: RestFrames) -> tuple[Array, Array]:
    """Rs_frame_root (P, 3, 3) and Rs_parent_joint (P, 23, 3, 3) of landmarks (P, 33, 3) in a right-handed metric frame.

    visibility  (P, 33) 0..1; limbs that are not seen hang relaxed instead of following what was guessed
    """
    rigid = _rigid_bases(points) @ _transposed(rest.rigid)
    pelvis, chest, head, ends = rigid[..., 0, :, :], rigid[..., 1, :, :], rigid[..., 2, :, :], rigid[..., 3:, :, :]
    parents = rigid[..., [1, 1, 0, 0], :, :]
    seen_hinge = visibility[..., _HINGE]
    seen_end = np.minimum(seen_hinge, visibility[..., _END])
    seen_hinge, seen_end = _smoothstep(np.stack([seen_hinge, seen_end]), 0.1, 0.5)[..., None]
    relaxed = _turn(parents, _RELAXED_UNIT)
    upper = normalize(points[..., _HINGE, :] - points[..., _ROOT, :])
    lower = normalize(points[..., _END, :] - points[..., _HINGE, :])
    upper = normalize(seen_hinge * upper + (1 - seen_hinge) * relaxed, [0.0, 1.0, 0.0])
    lower = normalize(seen_end * lower + (1 - seen_end) * upper, [0.0, 1.0, 0.0])
    uppers = _upper_limbs(points, upper, lower, parents, rest)
    lowers = shortest_rotation(_turn(uppers, rest.lower), lower) @ uppers
    arms = lowers[..., :2, :, :]
    lowers[..., :2, :, :] = _pronated(arms, ends[..., :2, :, :], lower[..., :2, :], seen_end[..., :2, :])

    spine, neck = _transposed(pelvis) @ chest, _transposed(chest) @ head
    tips = _transposed(lowers) @ ends
    vectors = log_so3(np.concatenate([spine[..., None, :, :], neck[..., None, :, :], tips], axis=-3))
    angle = np.sqrt(np.sum(vectors * vectors, axis=-1, keepdims=True))
    vectors = vectors * np.minimum(1.0, _LIMITS / np.maximum(angle, 1e-9))
    vectors[..., 0, :] /= 3.0
    vectors[..., 1, :] *= 0.5 * _smoothstep(visibility[..., _FACE].max(-1, keepdims=True), 0.1, 0.5)
    vectors[..., 2:, :] *= seen_end
    turns = exp_so3(vectors)
    Rs = np.empty((*points.shape[:-2], 24, 3, 3))
    Rs[:] = np.eye(3)
    Rs[..., _SPINE, :, :], Rs[..., _NECK_HEAD, :, :] = turns[..., :1, :, :], turns[..., 1:2, :, :]
    Rs[..., _END_JOINT, :, :] = turns[..., 2:, :, :]
    Rs[..., _UPPER_JOINT, :, :] = _transposed(parents) @ uppers
    Rs[..., _HINGE_JOINT, :, :] = _transposed(uppers) @ lowers
    return pelvis, Rs[..., 1:, :, :]


def _rigid_bases(p: Array) -> Array:
    """Bases (P, 7, 3, 3) of pelvis, chest, head, hands and feet, each spanned by landmarks that lie on it."""
    main = p[..., _MAIN[:, 0], :] - p[..., _MAIN[:, 1], :]
    side = p[..., _SIDE[:, 0], :] - p[..., _SIDE[:, 1], :]
    roots = p[..., _ROOT, :]
    main[..., :2, :] = (roots[..., 0, :] + roots[..., 1, :] - roots[..., 2, :] - roots[..., 3, :])[..., None, :]
    main[..., 3:5, :] = p[..., _INDEX, :] + p[..., _PINKY, :] - 2.0 * p[..., _END[:2], :]
    side[..., 2, :] = 2.0 * p[..., _FACE[0], :] - p[..., _FACE[1], :] - p[..., _FACE[2], :]
    return basis_from(main, side, "yx")


def _transposed(Rs: Array) -> Array:
    return np.swapaxes(Rs, -1, -2)


def _turn(Rs: Array, vectors: Array) -> Array:
    return (Rs @ vectors[..., None])[..., 0]


def _upper_limbs(points: Array, upper: Array, lower: Array, parents: Array, rest: RestFrames) -> Array:
    """Rs_frame_joint (P, 4, 3, 3) of shoulders and hips: along the limb, twisted so that the hinge bends as it does."""
    swing = shortest_rotation(_turn(parents, rest.upper), upper) @ parents
    straight = _turn(swing, _REST_NORMAL)
    # A straight leg shows its twist in the foot, which lies in the plane that the knee bends in
    feet = normalize(points[..., _TOE, :] - points[..., _HEEL, :])
    straight[..., 2:, :] = normalize(cross(feet, lower[..., 2:, :]) + 0.2 * straight[..., 2:, :])
    bent = cross(upper, lower)
    sine = np.sqrt(np.sum(bent * bent, axis=-1, keepdims=True))
    share = _smoothstep(sine, 0.15, 0.45)
    # Knees do not bend forward: there the evidence of the foot stands alone
    share[..., 2:, :] *= np.sum(bent[..., 2:, :] * straight[..., 2:, :], axis=-1, keepdims=True) > 0
    normal = share * bent / np.maximum(sine, 1e-9) + (1 - share) * straight
    return basis_from(upper, normal, "yx") @ _transposed(rest.limbs)


def _pronated(lowers: Array, hands: Array, axis: Array, seen: Array) -> Array:
    """Forearms (P, 2, 3, 3) with half of the hand's twist about them, as ulna and radius share it."""
    relative = log_so3(hands @ _transposed(lowers))
    twist = np.clip(np.sum(relative * axis, axis=-1, keepdims=True), -2.2, 2.2)
    return exp_so3(0.5 * seen * twist * axis) @ lowers


def _smoothstep(x: Array | float, low: float, high: float) -> Array:
    s = np.clip((np.asarray(x) - low) / (high - low), 0.0, 1.0)
    return s * s * (3.0 - 2.0 * s)
