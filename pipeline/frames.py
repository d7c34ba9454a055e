"""THE page on coordinate frames: the table, the equations, and the SO(3) helpers that nobody else writes again.

Rule by equation, never by "from/to" prose::

    p_a = R_a_b @ p_b + t_a_b          inner names cancel, an inverse swaps the names: R_b_a = R_a_b.T

=========  ==============================================================================================
image      pixels, u right, v down, (0, 0) is the centre of the top-left pixel
crop       the same, inside a person's crop
camera     metres, x right, y down, z forward (OpenCV)
world      metres, right-handed, gravity-aligned, y up, x the camera's right, z toward the camera; origin on
           the floor under the camera (floor height unknown: at the camera, and the calibration says so)
root       SMPL's pelvis: y up, faces +z, left at +x. Upright and facing the camera is the identity in `world`
joint      SMPL's joints, parent-relative, zero rotation is the T-pose
=========  ==============================================================================================

Matrices inside; quaternions only on the wire, always named by their order (`quat_xyzw`). A stack of matrices
starts with `Rs_`. Suffixes `_px _m _s _ns _rad`; metres and radians wherever there is no suffix.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

#: A level camera sees the world's axes like this (world y up, z toward the camera): a half turn about x.
R_WORLD_LEVEL_CAMERA: Array = np.diag([1.0, -1.0, -1.0])


#: LEVI_CIVITA[i] @ a @ b is component i of a x b: its tables are those of the cross product.
LEVI_CIVITA: Array = np.zeros((3, 3, 3))
for _i, _j, _k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    LEVI_CIVITA[_i, _j, _k], LEVI_CIVITA[_i, _k, _j] = 1.0, -1.0


def exp_so3(rotvecs: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) in radians (Rodrigues)."""
    v = np.asarray(rotvecs, dtype=np.float64)
    return Rotation.from_rotvec(v.reshape(-1, 3)).as_matrix().reshape(*v.shape[:-1], 3, 3)


def log_so3(Rs: ArrayLike) -> Array:
    """Rotation vectors (..., 3) in radians, norm <= pi, of rotation matrices (..., 3, 3); exact near 0 and pi.

    The matrices are taken for rotations as they are: see `nearest_rotation` for those that may not be.
    """
    R = np.asarray(Rs, dtype=np.float64)
    return _rotation(R).as_rotvec().reshape(*R.shape[:-2], 3)


def quat_xyzw(Rs: ArrayLike) -> Array:
    """Unit quaternions (..., 4), order x y z w, w >= 0, of rotation matrices (..., 3, 3)."""
    R = np.asarray(Rs, dtype=np.float64)
    return _rotation(R).as_quat(canonical=True).reshape(*R.shape[:-2], 4)


def from_quat_xyzw(quats: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), order x y z w, any non-zero norm.

    Raises ValueError when a quaternion has zero norm.
    """
    q = np.asarray(quats, dtype=np.float64)
    return Rotation.from_quat(q.reshape(-1, 4)).as_matrix().reshape(*q.shape[:-1], 3, 3)


def _rotation(Rs: Array) -> Rotation:
    # Without this SciPy orthogonalises by SVD, six times the cost of all the rest
    return Rotation.from_matrix(Rs.reshape(-1, 3, 3), assume_valid=True)


def nearest_rotation(Ms: ArrayLike) -> Array:
    """The rotation nearest (Frobenius) to each matrix (..., 3, 3), determinant +1 (orthogonal Procrustes, by SVD)."""
    U, _, Vt = np.linalg.svd(np.asarray(Ms, dtype=np.float64))
    sign = np.ones(U.shape[:-1])
    sign[..., 2] = np.sign(np.linalg.det(U @ Vt))
    return (U * sign[..., None, :]) @ Vt


def angle_between(Rs_a: ArrayLike, Rs_b: ArrayLike) -> Array:
    """Geodesic angle (...) in radians, 0..pi, between rotations (..., 3, 3)."""
    R = np.swapaxes(np.asarray(Rs_a, dtype=np.float64), -1, -2) @ np.asarray(Rs_b, dtype=np.float64)
    return np.linalg.norm(log_so3(R), axis=-1)


def normalize(vectors: ArrayLike, fallback: ArrayLike | None = None) -> Array:
    """Unit vectors (..., 3) along `vectors`; where one has no length, `fallback` (else zeros)."""
    v = np.asarray(vectors, dtype=np.float64)
    n = np.sqrt(np.sum(v * v, axis=-1, keepdims=True))
    unit = v / np.maximum(n, 1e-12)
    if (n > 1e-9).all():
        return unit
    return np.where(n > 1e-9, unit, np.zeros(3) if fallback is None else np.asarray(fallback, dtype=np.float64))


def cross(a: Array, b: Array) -> Array:
    """Cross product (..., 3); for the few vectors of one frame four times as fast as numpy's general one."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def _any_perpendicular(unit: Array) -> Array:
    side = np.where(np.abs(unit[..., :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    return normalize(cross(unit, side))


def shortest_rotation(a: ArrayLike, b: ArrayLike) -> Array:
    """The rotation (..., 3, 3) with the smallest angle that takes unit vectors a to b, both (..., 3).

    For opposite vectors any half turn does; one about an axis perpendicular to `a` is returned.
    """
    u, w = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    cosine = np.sum(u * w, axis=-1)[..., None, None]
    opposite = cosine < -1.0 + 1e-9
    v = cross(u, w)
    R = np.eye(3) + v[..., :, None] * v[..., None, :] / np.where(opposite, 1.0, 1.0 + cosine)
    # Rodrigues with cos and sin taken from the products: R = cos I + [v]x + v v^T / (1 + cos)
    R += (cosine - 1.0) * np.eye(3)
    R[..., 0, 1] -= v[..., 2]
    R[..., 0, 2] += v[..., 1]
    R[..., 1, 0] += v[..., 2]
    R[..., 1, 2] -= v[..., 0]
    R[..., 2, 0] -= v[..., 1]
    R[..., 2, 1] += v[..., 0]
    if opposite.any():
        axis = _any_perpendicular(u)
        half_turn = 2.0 * axis[..., :, None] * axis[..., None, :] - np.eye(3)
        # The half turn takes u to -u, which is all but w: what is left is a turn without trouble
        rest = shortest_rotation(-u, np.where(opposite[..., 0], w, -u))
        R = np.where(opposite, rest @ half_turn, R)
    return R


def basis_from(primary: ArrayLike, secondary: ArrayLike, axes: str) -> Array:
    """Rotations (..., 3, 3) whose column `axes[0]` is `primary` and whose column `axes[1]` is nearest to `secondary`.

    `axes` is two different letters of "xyz"; both inputs are (..., 3) of any length. Gram-Schmidt; when the two
    vectors are parallel the second column is arbitrary but perpendicular.
    """
    i, j = "xyz".index(axes[0]), "xyz".index(axes[1])
    a = normalize(primary, np.eye(3)[i])
    s = np.asarray(secondary, dtype=np.float64)
    b = s - np.sum(s * a, axis=-1, keepdims=True) * a
    n = np.sqrt(np.sum(b * b, axis=-1, keepdims=True))
    b = b / np.maximum(n, 1e-12)
    if not (n > 1e-9).all():
        b = np.where(n > 1e-9, b, _any_perpendicular(a))
    R = np.empty((*b.shape, 3))
    R[..., i], R[..., j] = a, b
    R[..., 3 - i - j] = cross(a, b) if (j - i) % 3 == 1 else cross(b, a)
    return R


def R_world_camera_from_up(up_camera: ArrayLike) -> Array:
    """R_world_camera (3, 3) of a camera in which `up_camera` (3,) points up: world y = up, z toward the camera.

    The heading is the camera's own, so the world's x is the camera's right made horizontal. A camera that looks
    straight down or up has no heading of its optical axis; the picture's upper edge takes its place.
    """
    up = normalize(up_camera, [0.0, -1.0, 0.0])
    toward = np.array([0.0, 0.0, -1.0])
    if abs(float(up @ toward)) > 0.999:
        toward = np.array([0.0, 1.0, 0.0]) * float(np.sign(up @ toward))
    return basis_from(up, toward, "yz").T


def pitch_roll_rad(up_camera: ArrayLike) -> tuple[float, float]:
    """Pitch (positive looks down) and roll (positive: the scene's up leans to the image's right), radians."""
    x, y, z = np.asarray(up_camera, dtype=np.float64).tolist()
    return math.asin(min(max(-z / max(math.hypot(x, y, z), 1e-12), -1.0), 1.0)), math.atan2(x, -y)


def up_from_pitch_roll(pitch_rad: float, roll_rad: float) -> Array:
    """Unit up vector in the camera (3,), inverse of `pitch_roll_rad`."""
    c = np.cos(pitch_rad)
    return np.array([c * np.sin(roll_rad), -c * np.cos(roll_rad), -np.sin(pitch_rad)])


def project(points_camera: ArrayLike, K: ArrayLike) -> Array:
    """Pixels (..., 2) of points (..., 3) in camera metres by an ideal pinhole K (3, 3).

    A point at or behind the camera plane gives nan: it has no picture.
    """
    p, k = np.asarray(points_camera, dtype=np.float64), np.asarray(K, dtype=np.float64)
    z = np.where(p[..., 2:] > 1e-6, p[..., 2:], np.nan)
    homogeneous = p / z
    return homogeneous @ k[:2].T


def in_picture(points_px: ArrayLike, size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether pixels (..., 2) lie in a picture of that size: (...)."""
    uv = np.asarray(points_px)
    return np.asarray(((uv >= 0) & (uv <= np.asarray(size_wh) - 1)).all(-1))


def unproject(points_px: ArrayLike, K: ArrayLike) -> Array:
    """Rays (..., 3) with z = 1 through pixels (..., 2) of an ideal pinhole K (3, 3)."""
    uv, k = np.asarray(points_px, dtype=np.float64), np.asarray(K, dtype=np.float64)
    y = (uv[..., 1] - k[1, 2]) / k[1, 1]
    x = (uv[..., 0] - k[0, 2] - k[0, 1] * y) / k[0, 0]
    return np.stack([x, y, np.ones_like(x)], axis=-1)
