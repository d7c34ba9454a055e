"""A body made to agree with the picture: damped least squares on joint rotations and place, full perspective.

The closed-form pose (`pipeline.skeleton_fit`) follows the metric landmarks, whose depth errs by a decimetre; the image
landmarks err by a few pixels. One or two Gauss-Newton steps from the closed form weigh both, with bones that cannot
change and a prior that holds every joint near where it started (W-HMR's full-image 2D supervision, paper section 3.3,
at run time).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.body import PosedBody
from pipeline.calibration_sample import BODY
from pipeline.frames import Array, cross, exp_so3
from pipeline.types import JOINT, JOINT_PARENTS

#: Joints that turn in the refinement, with the standard deviation (radians) of what the closed form leaves open.
_PIVOTS: dict[str, float] = {
    "pelvis": 0.30, "spine1": 0.15, "neck": 0.10, "left_shoulder": 0.40, "right_shoulder": 0.40, "left_elbow": 0.35,
    "right_elbow": 0.35, "left_hip": 0.35, "right_hip": 0.35, "left_knee": 0.30, "right_knee": 0.30,
}  # fmt: skip
_AT = np.array([JOINT[name] for name in _PIVOTS])
_PRIOR = np.repeat([1.0 / sigma**2 for sigma in _PIVOTS.values()], 3)
#: The spine's turn is spread over its three joints.
_SPINE = [JOINT["spine1"], JOINT["spine2"], JOINT["spine3"]]
_SPINE_AT = list(_PIVOTS).index("spine1")
_TURNED = np.concatenate([_AT[1:], _SPINE[1:]])
_TURNED_BY = np.concatenate([np.arange(1, len(_AT)), [_SPINE_AT, _SPINE_AT]])
_TURNED_SHARE = np.where(np.isin(_TURNED, _SPINE), 1.0 / 3.0, 1.0)[:, None]
_TURNED_PARENT = np.array([JOINT_PARENTS[j] for j in _TURNED])

SIGMA_IMAGE = 0.012  # of an image landmark, over the person's extent in the picture
SIGMA_DEPTH_M = 0.10  # of a metric landmark along the view
SIGMA_PLACE_M = 3.0  # of the place the closed form gives: the picture decides it


#: (24, K) 1 where a joint moves with a pivot.
_MOVES = np.zeros((24, len(_AT)))
for _joint in range(24):
    _up = _joint
    while _up >= 0:
        _MOVES[_joint, _up == _AT] = 1.0
        _up = JOINT_PARENTS[_up]
_HIPS = np.array([JOINT["left_hip"], JOINT["right_hip"]])


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen of P people, n landmarks each.

    rays     (P, n, 2) normalised, x/z and y/z
    weights  (P, n) visibility, 0 outside the picture
    depths_m (P, n) along the optical axis, relative to the mean of the hips
    """

    rays: Array
    weights: Array
    depths_m: Array


def refined(posed: PosedBody, places: Array, seen: Evidence, steps: int = 1) -> tuple[Array, Array, Array, PosedBody]:
    """Rs_camera_root (P, 3, 3), Rs_parent_joint (P, 23, 3, 3), t_camera_root (P, 3) and the body in that pose.

    Starts at the body `posed` with its pelvis at the origin, moved to `places` (P, 3).
    """
    shaped, roots, Rs = posed.shaped, posed.Rs_frame_joint[:, 0], posed.Rs_parent_joint
    posed = PosedBody(shaped, posed.joints + places[:, None], posed.Rs_frame_joint, Rs)
    moves = _MOVES[shaped.model.landmark_joint[BODY]]
    turned = np.zeros((len(roots), 3 * len(_AT)))
    size = _extent(seen)
    for _ in range(steps):
        J, r = _linearised(posed, moves, seen, size)
        At = np.swapaxes(J, 1, 2)
        H, g = At @ J, (At @ r[..., None])[..., 0]
        k = len(_PRIOR)
        H[:, range(k), range(k)] += _PRIOR
        g[:, :k] += _PRIOR * turned
        H[:, range(k, k + 3), range(k, k + 3)] += 1.0 / SIGMA_PLACE_M**2
        step = -np.linalg.solve(H, g[..., None])[..., 0]
        turn = np.clip(step[:, :k], -0.4, 0.4)
        turned = turned + turn
        roots, Rs = _turned(posed, roots, Rs, turn.reshape(len(roots), -1, 3))
        places = places + step[:, k:]
        posed = shaped.posed(roots, places, Rs)
    return roots, Rs, places, posed


def _extent(seen: Evidence) -> Array:
    """Size of each person in the picture (P,), in units of the rays."""
    w = seen.weights / seen.weights.sum(-1, keepdims=True)
    middle = (w[..., None] * seen.rays).sum(1, keepdims=True)
    return 2.5 * np.sqrt((w[..., None] * (seen.rays - middle) ** 2).sum((1, 2)))


def _linearised(posed: PosedBody, moves: Array, seen: Evidence, size: Array) -> tuple[Array, Array]:
    """Jacobian (P, 3 n, 3 K + 3) of the whitened residuals (P, 3 n) by the pivots' turns and the place."""
    points = posed.landmarks[:, BODY]
    P, n = points.shape[:2]
    inverse_z = 1.0 / np.maximum(points[..., 2], 0.2)
    uv = points[..., :2] * inverse_z[..., None]
    root_w = np.sqrt(seen.weights)
    image = root_w * inverse_z / (SIGMA_IMAGE * size[:, None])
    rows = np.zeros((P, n, 3, 3))
    rows[..., 0, 0] = rows[..., 1, 1] = image
    rows[..., 0, 2], rows[..., 1, 2] = -uv[..., 0] * image, -uv[..., 1] * image
    rows[..., 2, 2] = root_w / SIGMA_DEPTH_M
    r = np.empty((P, n, 3))
    r[..., :2] = (uv - seen.rays) * (root_w / (SIGMA_IMAGE * size[:, None]))[..., None]
    depth = points[..., 2] - posed.joints[:, _HIPS, 2].mean(1, keepdims=True)
    r[..., 2] = (depth - seen.depths_m) * root_w / SIGMA_DEPTH_M
    arms = (points[:, :, None] - posed.joints[:, None, _AT]) * moves[..., None]
    J = np.empty((P, n, 3, len(_AT) * 3 + 3))
    # A turn w moves a point by w x arm, so a row a changes by a . (w x arm) = w . (arm x a)
    J[..., :-3] = cross(arms[:, :, None], rows[..., None, :]).reshape(P, n, 3, -1)
    J[..., -3:] = rows
    # Depths are relative to the hips, which the place moves along
    J[..., 2, -3:] = 0.0
    return J.reshape(P, 3 * n, -1), r.reshape(P, -1)


def _turned(posed: PosedBody, roots: Array, Rs: Array, turns: Array) -> tuple[Array, Array]:
    """Root and local rotations after the pivots' turns (P, K, 3) about the frame's axes."""
    frames = posed.Rs_frame_joint[:, _TURNED_PARENT]
    own = exp_so3(turns[:, _TURNED_BY] * _TURNED_SHARE)
    Rs = Rs.copy()
    at = _TURNED - 1
    Rs[:, at] = np.swapaxes(frames, -1, -2) @ own @ frames @ Rs[:, at]
    return exp_so3(turns[:, 0]) @ roots, Rs
