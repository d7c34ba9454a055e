"""A body made to agree with the picture: damped least squares on joint rotations and place, full perspective.

The closed-form pose (`pipeline.skeleton_fit`) follows the metric landmarks, whose depth errs by a decimetre; the image
landmarks err by a few pixels. A Gauss-Newton step from the closed form weighs both, with bones that cannot change and
a prior that holds every joint near where it started (W-HMR's full-image 2D supervision, paper section 3.3, at run
time). Everything is done in the camera's axes: joints and landmarks are linear in the joints' rotations there, and a
turn of a joint turns all that hangs on it, so local rotations are needed only at the very end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.body import ShapedBody
from pipeline.calibration_sample import BODY
from pipeline.frames import LEVI_CIVITA, Array, exp_so3
from pipeline.types import JOINT, JOINT_PARENTS, LANDMARK

#: Joints that turn in the refinement, with the standard deviation (radians) of what the closed form leaves open.
_PIVOTS: dict[str, float] = {
    "pelvis": 0.30, "spine1": 0.08, "neck": 0.10, "left_shoulder": 0.40, "right_shoulder": 0.40, "left_elbow": 0.35,
    "right_elbow": 0.35, "left_hip": 0.35, "right_hip": 0.35, "left_knee": 0.30, "right_knee": 0.30,
}  # fmt: skip
_K = len(_PIVOTS)
_N = len(BODY)
_SPINE = [JOINT["spine1"], JOINT["spine2"], JOINT["spine3"]]
MAX_TURN_RAD = 0.4  # of a joint in one step
SIGMA_PLACE_M = 3.0  # of the place the closed form gives: the picture decides it


def _share_of_turns() -> tuple[Array, Array]:
    """(24, K) how much of a pivot's turn each joint's rotation takes over, and (K, 24) the joint each turns about.

    The spine's turn is spread over its three joints.
    """
    moves, about = np.zeros((24, _K)), np.zeros((_K, 24))
    at = [JOINT[name] for name in _PIVOTS]
    for joint in range(24):
        up = joint
        while up >= 0:
            if up in at:
                moves[joint, at.index(up)] = 1.0
            up = JOINT_PARENTS[up]
    spine = at.index(_SPINE[0])
    moves[_SPINE, spine] = 1 / 3, 2 / 3, 1.0
    about[range(_K), at] = 1.0
    about[spine] = 0.0
    about[spine, _SPINE] = 1 / 3
    return moves, about


_MOVES, _ABOUT = _share_of_turns()
#: The prior's information on the unknowns: turns about x, y and z of every pivot, then the place.
_PRIOR = np.diag([*3 * [1.0 / sigma**2 for sigma in _PIVOTS.values()], *3 * [1.0 / SIGMA_PLACE_M**2]])
#: Depths count from the middle of the hips.
_FROM_HIPS = np.eye(_N)
_FROM_HIPS[:, [list(BODY).index(LANDMARK[name]) for name in ("left_hip", "right_hip")]] -= 0.5
#: _LEVER @ arm, as (3 coordinates, 3 axes), is how a point moves with a turn: column w of it is w x arm.
_LEVER = LEVI_CIVITA.reshape(9, 3)


@dataclass(frozen=True, eq=False)
class Linkage:
    """Where everything of P people's bodies is, as a linear function of their joints' rotations.

    points  (P, 24 + n + K, 72): joints, the landmarks BODY and the pivots from the pelvis; times the stacked columns
            of the 24 rotations, (72, 3)
    moves   (n, K) 1 where a landmark moves with a pivot
    """

    points: Array
    moves: Array

    @staticmethod
    def of(shaped: ShapedBody) -> Linkage:
        """Of bodies with one batch dimension."""
        P, at = len(shaped.joints_rest), shaped.model.landmark_joint[BODY]
        points = np.zeros((P, 24 + _N + _K, 24, 3))
        for joint in range(1, 24):
            parent = JOINT_PARENTS[joint]
            points[:, joint] = points[:, parent]
            points[:, joint, parent] += shaped.offsets[:, joint - 1]
        points[:, 24 : 24 + _N] = points[:, at]
        points[:, np.arange(24, 24 + _N), at] += shaped.landmark_offsets[:, BODY]
        flat = points.reshape(P, -1, 72)
        flat[:, 24 + _N :] = _ABOUT @ flat[:, :24]
        return Linkage(flat, np.where(_MOVES[at] > 0, 1.0, 0.0))

    def __call__(self, Rs_frame_joint: Array) -> tuple[Array, Array, Array]:
        """Joints (P, 24, 3), landmarks (P, n, 3) and pivots (P, K, 3) from the pelvis."""
        points = self.points @ np.swapaxes(Rs_frame_joint, -1, -2).reshape(-1, 72, 3)
        return points[:, :24], points[:, 24 : 24 + _N], points[:, 24 + _N :]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen of P people, n landmarks each.

    rays      (P, n, 2) normalised, x/z and y/z
    weights   (P, n) visibility, 0 outside the picture
    depths_m  (P, n) along the optical axis, from the middle of the hips
    sigma_image    of a landmark in the picture, over the person's extent there
    sigma_depth_m  along the view, of all or (P, n) of each
    """

    rays: Array
    weights: Array
    depths_m: Array
    sigma_image: float
    sigma_depth_m: float | Array


def refined(linkage: Linkage, Rs: Array, places: Array, seen: Evidence, steps: int = 1) -> tuple[Array, Array, Array]:
    """Rs_camera_joint (P, 24, 3, 3), places (P, 3) of the pelvis and joints_camera_m (P, 24, 3) that agree best.

    Starts at the rotations `Rs` and `places`.
    """
    root_w = np.sqrt(seen.weights)
    image = root_w / (seen.sigma_image * _extent(seen))
    along = root_w / seen.sigma_depth_m
    turned = np.zeros((len(Rs), 3 * _K + 3, 1))
    for _ in range(steps):
        _, marks, pivots = linkage(Rs)
        arms = (marks[:, :, None] - pivots[:, None]) * linkage.moves[..., None]
        J, r = _linearised(marks + places[:, None], arms, seen, image, along)
        Jt = np.swapaxes(J, 1, 2)
        step = np.linalg.solve(Jt @ J + _PRIOR, Jt @ r - _PRIOR @ turned)
        turn = np.clip(step[:, :-3], -MAX_TURN_RAD, MAX_TURN_RAD)
        turned[:, :-3] += turn
        Rs = exp_so3(_MOVES @ np.swapaxes(turn.reshape(-1, 3, _K), 1, 2)) @ Rs
        places = places + step[:, -3:, 0]
    return Rs, places, linkage(Rs)[0] + places[:, None]


def _extent(seen: Evidence) -> Array:
    """Size of each person in the picture (P, 1), in units of the rays."""
    w = seen.weights / seen.weights.sum(-1, keepdims=True)
    mean = w[:, None] @ seen.rays
    square = (w[:, None] @ np.vecdot(seen.rays, seen.rays)[..., None])[..., 0]
    return 2.5 * np.sqrt(np.maximum(square - np.vecdot(mean, mean), 1e-12))


def _linearised(points: Array, arms: Array, seen: Evidence, image: Array, along: Array) -> tuple[Array, Array]:
    """Jacobian (P, 3 n, 3 K + 3) and right-hand side (P, 3 n, 1) of the whitened residuals.

    `arms` (P, n, K, 3) reach from the pivots to the points they move; columns: turns about x of all pivots, about y,
    about z, the place.
    """
    P = len(points)
    inverse_z = 1.0 / np.maximum(points[..., 2:], 0.2)
    uv = points[..., :2] * inverse_z
    image = image[..., None]
    scale = image * inverse_z
    # (P, n, coordinate, axis x pivot)
    D = (_LEVER @ arms.swapaxes(-1, -2)).reshape(P, _N, 3, 3 * _K)
    J = np.zeros((P, _N, 3, 3 * _K + 3))
    J[:, :, :2, :-3] = (D[:, :, :2] - uv[..., None] * D[:, :, 2:]) * scale[..., None]
    J[:, :, 0, -3] = J[:, :, 1, -2] = scale[..., 0]
    J[:, :, :2, -1] = -uv * scale
    # Depths are relative to the hips, so the place does not change them
    J[:, :, 2, :-3] = (_FROM_HIPS @ D[:, :, 2]) * along[..., None]
    r = np.empty((P, _N, 3))
    r[..., :2] = (seen.rays - uv) * image
    r[..., 2] = (seen.depths_m - points[..., 2] @ _FROM_HIPS.T) * along
    return J.reshape(P, 3 * _N, -1), r.reshape(P, -1, 1)
