"""Joint rotations of the 24-joint skeleton from 33 landmark positions, in closed form.

Trunk, head, hands and feet are turned as rigid bases spanned by their landmarks; limbs point where their landmarks
do, their twist comes from the plane in which elbow or knee bends (HybrIK's swing and twist, arXiv 2011.14672, with
the twist read from the bend). Every basis is built the same way on the body at rest, so no offset is typed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.frames import LEVI_CIVITA, Array, exp_so3, log_so3
from pipeline.types import JOINT, JOINT_PARENTS, LANDMARK

#: Limbs are arms then legs, left then right: landmarks at the limb's root, its hinge and its end.
_LIMBS = (
    ("left_shoulder", "left_elbow", "left_wrist"), ("right_shoulder", "right_elbow", "right_wrist"),
    ("left_hip", "left_knee", "left_ankle"), ("right_hip", "right_knee", "right_ankle"),
)  # fmt: skip
_HINGE = np.array([LANDMARK[limb[1]] for limb in _LIMBS])
_END = np.array([LANDMARK[limb[2]] for limb in _LIMBS])
_HINGES_ENDS = np.concatenate([_HINGE, _END])
_EVERY_END = np.ones((4, 1))
_UPPER_JOINT, _HINGE_JOINT, _END_JOINT = (np.array([JOINT[limb[k]] for limb in _LIMBS]) for k in range(3))
_FACE = np.array([LANDMARK["nose"], LANDMARK["left_ear"], LANDMARK["right_ear"]])

_TRUNK = {"left_shoulder": 1.0, "right_shoulder": 1.0, "left_hip": -1.0, "right_hip": -1.0}


def _across(part: str) -> dict[str, float]:
    return {f"left_{part}": 1.0, f"right_{part}": -1.0}


def _from_to(start: str, end: str) -> dict[str, float]:
    return {end: 1.0, start: -1.0}


#: Sums of landmarks: the long axes (y) and then the side axes (x) of pelvis, chest, head, left and right hand, left and
#: right foot; directions of the four upper and the four lower limbs.
_SUMS: tuple[dict[str, float], ...] = (
    _TRUNK, _TRUNK, _across("ear"),
    *({f"{s}_index": 1.0, f"{s}_pinky": 1.0, f"{s}_wrist": -2.0} for s in ("left", "right")),
    *(_from_to(f"{s}_heel", f"{s}_foot_index") for s in ("left", "right")),
    _across("hip"), _across("shoulder"), {"nose": 2.0, "left_ear": -1.0, "right_ear": -1.0},
    *(_from_to(f"{s}_pinky", f"{s}_index") for s in ("left", "right")),
    *(_from_to(f"{s}_ankle", f"{s}_knee") for s in ("left", "right")),
    *(_from_to(limb[0], limb[1]) for limb in _LIMBS),
    *(_from_to(limb[1], limb[2]) for limb in _LIMBS),
)  # fmt: skip
_SUM = np.zeros((len(_SUMS), 33))
for _row, _terms in zip(_SUM, _SUMS, strict=True):
    _row[[LANDMARK[n] for n in _terms]] = list(_terms.values())
#: The same of joints, for the bones of the limbs.
_BONES = np.zeros((8, 24))
for _i, (_start, _end) in enumerate(zip([*_UPPER_JOINT, *_HINGE_JOINT], [*_HINGE_JOINT, *_END_JOINT], strict=True)):
    _BONES[_i, _end], _BONES[_i, _start] = 1.0, -1.0

#: Far below every length; keeps bases of coinciding landmarks apart from nothing.
_NUDGE = 1e-9 * np.array([0.36, 0.48, 0.8])
_NUDGE_SIDE = 1e-9 * np.array([0.8, -0.6, 0.0])

#: Unit normal of the bending plane in the T-pose: elbows bend forward, knees backward.
_REST_NORMAL = np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
#: Where a limb that nobody sees hangs, unit, in its parent's frame.
_RELAXED = np.array([[0.15, -1.0, 0.05], [-0.15, -1.0, 0.05], [0.02, -1.0, 0.0], [-0.02, -1.0, 0.0]])
_RELAXED /= np.linalg.norm(_RELAXED, axis=-1, keepdims=True)

#: Visibility below which a limb hangs, and above which it is where it was found: on renders (docs/landmarks.md) the
#: network's guess of a hidden limb is nearer the truth than any resting place, down to what it hardly believes in.
GUESSED, SEEN = 0.005, 0.05
#: How far chest, head, wrists and ankles turn against pelvis, chest, forearms and shins, radians.
_LIMITS = np.radians([150.0, 80.0, 80.0, 80.0, 60.0, 60.0])
#: The turns that are made of those six, as shares: spine1, spine2, chest, neck, head, wrists, ankles.
_TURN_OF = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5])
_SHARE = np.array([1 / 3, 2 / 3, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0])[:, None]
#: Where each joint's rotation stands among: pelvis, upper limbs, lower limbs, the nine turned.
_POOL = {"pelvis": 0, "spine1": 9, "spine2": 10, "spine3": 11, "left_collar": 11, "right_collar": 11, "neck": 12}
_POOL |= {"head": 13, "left_wrist": 14, "right_wrist": 15, "left_ankle": 16, "right_ankle": 17}
_POOL |= {"left_hand": 14, "right_hand": 15, "left_foot": 16, "right_foot": 17}
_POOL |= {limb[k]: 1 + 4 * k + i for i, limb in enumerate(_LIMBS) for k in (0, 1)}
_FROM_POOL = np.array([_POOL[name] for name in JOINT])
_PARENTS = np.array(JOINT_PARENTS[1:])

#: a @ _SKEW, as (3, 3), is the matrix of the cross product with a.
_SKEW = np.ascontiguousarray(LEVI_CIVITA.swapaxes(0, 1)).reshape(3, 9)


@dataclass(frozen=True, eq=False)
class RestFrames:
    """What the fit needs of people's bodies at rest, P people or none of that dimension.

    rigid  (P, 7, 3, 3) bases of pelvis, chest, head, hands, feet, transposed
    limbs  (P, 8, 3, 3) bases of upper arms and thighs, then forearms and shins, transposed
    upper  (P, 4, 3) unit directions of upper arms and thighs
    along  (P, 4) how far those lie along the normal of their bending plane
    """

    rigid: Array
    limbs: Array
    upper: Array
    along: Array

    @staticmethod
    def of(landmarks_rest: Array, joints_rest: Array) -> RestFrames:
        """From the landmarks (P, 33, 3) and joints (P, 24, 3) of the bodies at rest."""
        sums, bones = _SUM @ landmarks_rest, _BONES @ joints_rest
        limbs = _bases(bones, np.concatenate([_REST_NORMAL, _REST_NORMAL]))
        upper = limbs[..., :4, :, 1]
        rigid = _bases(sums[..., :7, :], sums[..., 7:14, :])
        along = np.vecdot(upper, _REST_NORMAL)[..., None]
        return RestFrames(_transposed(rigid), _transposed(limbs), upper, along)


def joint_rotations(points: Array, visibility: Array, rest: RestFrames) -> Array:
    """Rs_frame_joint (P, 24, 3, 3) of landmarks (P, 33, 3) in a right-handed metric frame.

    visibility  (P, 33) 0..1; limbs that are not seen hang relaxed instead of following what was guessed
    """
    sums = _SUM @ points
    rigid = _bases(sums[..., :7, :], sums[..., 7:14, :]) @ rest.rigid
    parents = rigid[..., [1, 1, 0, 0], :, :]
    limbs = sums[..., 14:, :]
    limbs /= np.sqrt(np.vecdot(limbs, limbs))[..., None] + 1e-12
    seen_end = _EVERY_END
    if visibility[..., _HINGES_ENDS].min() < SEEN:
        seen_end = _relax(limbs, visibility, parents)
    normals = _normals(limbs, sums[..., 5:7, :], rigid, parents, seen_end, rest)
    bases = _bases(limbs, normals) @ rest.limbs
    face = _smoothstep(visibility[..., _FACE].max(-1), GUESSED, SEEN)

    chain = np.concatenate([rigid[..., :2, :, :], bases[..., 4:, :, :]], axis=-3)
    vectors = log_so3(_transposed(chain) @ rigid[..., 1:, :, :])
    angle = np.sqrt(np.vecdot(vectors, vectors))
    reach = np.minimum(1.0, _LIMITS / np.maximum(angle, 1e-9))
    reach[..., 1] *= face
    reach[..., 2:] *= seen_end[..., 0]
    vectors *= reach[..., None]
    turned = chain[..., _TURN_OF, :, :] @ exp_so3(vectors[..., _TURN_OF, :] * _SHARE)
    pool = np.concatenate([rigid[..., :1, :, :], bases, turned], axis=-3)
    return pool[..., _FROM_POOL, :, :]


def local_rotations(Rs_frame_joint: Array) -> Array:
    """Rs_parent_joint (P, 23, 3, 3) of Rs_frame_joint (P, 24, 3, 3)."""
    return _transposed(Rs_frame_joint[..., _PARENTS, :, :]) @ Rs_frame_joint[..., 1:, :, :]


def _relax(limbs: Array, visibility: Array, parents: Array) -> Array:
    """Limbs (P, 8, 3) that are not seen hang from their parents, in place; how far each end is seen (P, 4, 1)."""
    seen_hinge = visibility[..., _HINGE]
    seen_end = _smoothstep(np.minimum(seen_hinge, visibility[..., _END]), GUESSED, SEEN)[..., None]
    seen_hinge = _smoothstep(seen_hinge, GUESSED, SEEN)[..., None]
    upper, lower = limbs[..., :4, :], limbs[..., 4:, :]
    upper *= seen_hinge
    upper += (1 - seen_hinge) * np.matvec(parents, _RELAXED) + _NUDGE
    upper /= np.sqrt(np.vecdot(upper, upper))[..., None]
    lower *= seen_end
    lower += (1 - seen_end) * upper + _NUDGE
    lower /= np.sqrt(np.vecdot(lower, lower))[..., None]
    return seen_end


def _normals(limbs: Array, feet: Array, rigid: Array, parents: Array, seen: Array, rest: RestFrames) -> Array:
    """Normals (P, 8, 3) of the planes that upper and lower limbs bend in, any length; hands turn the forearms'."""
    upper, lower = limbs[..., :4, :], limbs[..., 4:, :]
    # The shortest rotation from a to b takes n to n - (a + b) (a + b).n / (1 + a.b) + 2 (a.n) b
    a, n = np.matvec(parents, rest.upper), np.matvec(parents, _REST_NORMAL)
    ab = a + upper
    share = np.vecdot(ab, n) / np.maximum(1.0 + np.vecdot(a, upper), 1e-6)
    straight = n - share[..., None] * ab + (2.0 * rest.along) * upper
    bent = _cross(upper, lower)
    # A straight leg shows its twist in the foot, which lies in the plane that the knee bends in
    by_foot = _cross(feet, lower[..., 2:, :]) / (np.sqrt(np.vecdot(feet, feet))[..., None] + 1e-12)
    by_foot += 0.2 * straight[..., 2:, :]
    straight[..., 2:, :] = by_foot / (np.sqrt(np.vecdot(by_foot, by_foot))[..., None] + 1e-12)
    sine = np.sqrt(np.vecdot(bent, bent))
    share = _smoothstep(sine, 0.15, 0.45)
    # Knees do not bend forward: there the evidence of the foot stands alone
    share[..., 2:] *= np.vecdot(bent[..., 2:, :], straight[..., 2:, :]) > 0
    normal = straight + share[..., None] * (bent / (sine + 1e-9)[..., None] - straight)
    # Half of the hand's twist is the forearm's, as ulna and radius share it: the middle of both normals
    own = normal[..., :2, :]
    own = own / (np.sqrt(np.vecdot(own, own))[..., None] + 1e-12)
    hand = np.matvec(rigid[..., 3:5, :, :], _REST_NORMAL[:2])
    agree = np.clip(2.0 + 2.0 * np.vecdot(own, hand), 0.0, 1.0)[..., None]
    twisted = own + (agree * seen[..., :2, :]) * hand
    return np.concatenate([normal, twisted, normal[..., 2:, :]], axis=-2)


def _bases(along: Array, side: Array) -> Array:
    """Rotations (..., 3, 3) whose y is `along` (..., 3) and whose x is nearest to `side`; never singular."""
    y = along + _NUDGE
    y = y / np.sqrt(np.vecdot(y, y))[..., None]
    x = side + _NUDGE_SIDE
    x = x - np.vecdot(x, y)[..., None] * y
    x /= np.sqrt(np.vecdot(x, x))[..., None]
    return np.stack([x, y, _cross(x, y)], axis=-1)


def _cross(a: Array, b: Array) -> Array:
    return np.matvec((a @ _SKEW).reshape(*a.shape, 3), b)


def _transposed(Rs: Array) -> Array:
    return np.swapaxes(Rs, -1, -2)


def _smoothstep(x: Array, low: float, high: float) -> Array:
    s = np.clip((x - low) / (high - low), 0.0, 1.0)
    return s * s * (3.0 - 2.0 * s)
