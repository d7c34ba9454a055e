"""Where a rigid set of metric points stands before a full-perspective camera: Gauss-Newton, many cameras at once.

Calibration asks it for the reprojection error at every candidate focal length (W-HMR's weak supervision, paper
section 3.2, used here as a measurement); recovery asks it for the pose at the calibrated one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.frames import Array, exp_so3, normalize, shortest_rotation, unproject


def rays_of(points_px: Array, K: Array, distortion: Array) -> Array:
    """Normalised rays (..., 2), x/z and y/z, through pixels (..., 2) of a camera with OpenCV's distortion (5,)."""
    if not distortion.any():
        return unproject(points_px, K)[..., :2]
    ideal = cv2.undistortPoints(points_px.reshape(-1, 1, 2), K, distortion)
    return np.asarray(ideal, dtype=np.float64).reshape(points_px.shape)


@dataclass(frozen=True, eq=False)
class PerspectiveFit:
    """Pose of the points before each of F cameras: `p_camera = R @ p_points + t`.

    Rs        (F, 3, 3)
    ts        (F, 3) metres
    error_m2  (F,) weighted mean squared reprojection error, square metres at the depth of the points' middle
    """

    Rs: Array
    ts: Array
    error_m2: Array


def fit_perspective(
    points_m: Array,
    rays: Array,
    weights: Array,
    iterations: int = 5,
) -> PerspectiveFit:
    """Least-squares pose of points seen along normalised rays (F, n, 2), x/z and y/z, with weights >= 0.

    F problems at once: one set of points (n, 3) and weights (n,) before F candidate cameras, or F sets (F, n, 3) and
    (F, n). It starts with the points' axes parallel to the viewing ray's, which is how a crop-based network sees them.
    Raises ValueError when fewer than 4 points of a set have weight.
    """
    w = np.broadcast_to(weights, rays.shape[:2])
    if np.count_nonzero(w > 0, axis=-1).min() < 4:
        raise ValueError(f"A pose needs 4 points or more with weight, got {np.count_nonzero(w > 0, axis=-1).min()}.")
    w = w / w.sum(-1, keepdims=True)
    Rs, ts = _first_guess(points_m, rays, w)
    root_w = np.sqrt(w)
    for _ in range(iterations):
        Y = points_m @ np.swapaxes(Rs, -1, -2)
        J, r = _linearise(Y, ts, rays)
        # Each point's error counts in metres at its depth, so that near and far candidates weigh alike
        scale = (root_w * ts[:, 2:])[..., None, None]
        A = (J * scale).reshape(len(Rs), -1, 6)
        b = (r[..., None] * scale).reshape(len(Rs), -1, 1)
        At = np.swapaxes(A, -1, -2)
        H = At @ A
        H += 1e-6 * np.trace(H, axis1=1, axis2=2)[:, None, None] * np.eye(6)
        step = -np.linalg.solve(H, At @ b)[..., 0]
        Rs = exp_so3(np.clip(step[:, :3], -0.5, 0.5)) @ Rs
        ts = ts + step[:, 3:]
        ts[:, 2] = np.maximum(ts[:, 2], 0.2)
    P = points_m @ np.swapaxes(Rs, -1, -2) + ts[:, None]
    r = P[..., :2] / np.maximum(P[..., 2:], 0.05) - rays
    error = (w * (r**2).sum(-1)).sum(-1) * ts[:, 2] ** 2
    return PerspectiveFit(Rs, ts, error)


def fit_focal(
    points_m: Array, rays: Array, weights: Array, log_focal: float = 0.0, iterations: int = 8
) -> tuple[PerspectiveFit, float, float]:
    """Poses of F sets of points (F, n, 3) before one camera whose focal length is not known: `fit_perspective` and it.

    `log_focal` is where to start; the nearest minimum is found. Returns the poses, the log of the true focal length
    over the one the rays (F, n, 2) were made with, and its standard deviation when every point errs by the root mean
    square error by itself. Gauss-Newton, poses eliminated.
    """
    fit = fit_perspective(points_m, rays / np.exp(log_focal), weights)
    w = np.broadcast_to(weights, rays.shape[:2])
    Rs, ts, sigma = fit.Rs, fit.ts, np.inf
    for _ in range(iterations):
        J, r = _linearise(points_m @ np.swapaxes(Rs, -1, -2), ts, rays / np.exp(log_focal))
        scale = (np.sqrt(w) * ts[:, 2:])[..., None, None]
        A = (J * scale).reshape(len(Rs), -1, 6)
        a = (rays[..., None] / np.exp(log_focal) * scale).reshape(len(Rs), -1, 1)
        b = (r[..., None] * scale).reshape(len(Rs), -1, 1)
        At = np.swapaxes(A, -1, -2)
        solved = np.linalg.solve(At @ A + 1e-9 * np.eye(6), At @ np.concatenate([a, b], axis=-1))
        left = np.concatenate([a, b], axis=-1) - A @ solved
        information = float((left[..., 0] ** 2).sum())
        step = float(np.clip(-(left[..., 0] * left[..., 1]).sum() / max(information, 1e-12), -0.3, 0.3))
        own = -(solved[..., 1] + solved[..., 0] * step)
        log_focal += step
        Rs, ts = exp_so3(np.clip(own[:, :3], -0.5, 0.5)) @ Rs, ts + own[:, 3:]
        ts[:, 2] = np.maximum(ts[:, 2], 0.2)
        error = (left[..., 1] ** 2).reshape(*rays.shape).sum((1, 2)) / w.sum(1)
        sigma = float(np.sqrt(error.mean() / 2 / max(information, 1e-12)))
    return PerspectiveFit(Rs, ts, error), log_focal, sigma


def _first_guess(points_m: Array, rays: Array, w: Array) -> tuple[Array, Array]:
    w = w[..., None]
    middle_rays, middle = (w * rays).sum(1), (w * points_m).sum(1)
    spread_rays = np.sqrt((w * (rays - middle_rays[:, None]) ** 2).sum((1, 2)))
    spread_m = np.sqrt((w * (points_m - middle[:, None])[..., :2] ** 2).sum((1, 2)))
    depth = spread_m / np.maximum(spread_rays, 1e-6)
    along = np.concatenate([middle_rays, np.ones((len(rays), 1))], axis=-1)
    Rs = shortest_rotation(np.broadcast_to([0.0, 0.0, 1.0], along.shape), normalize(along))
    return Rs, along * depth[:, None] - (Rs @ middle[..., None])[..., 0]


def _linearise(Y: Array, ts: Array, rays: Array) -> tuple[Array, Array]:
    """Jacobian (F, n, 2, 6) of the normalised residual (F, n, 2) by a left rotation vector and a translation."""
    P = Y + ts[:, None]
    inverse_z = 1.0 / np.maximum(P[..., 2], 0.05)
    x, y = P[..., 0] * inverse_z, P[..., 1] * inverse_z
    J = np.zeros((*Y.shape[:2], 2, 6))
    J[..., 0, 3] = J[..., 1, 4] = inverse_z
    J[..., 0, 5], J[..., 1, 5] = -x * inverse_z, -y * inverse_z
    # d(R Y)/d(left rotation) = -[Y]x
    J[..., 0, 0] = -x * inverse_z * Y[..., 1]
    J[..., 0, 1] = inverse_z * Y[..., 2] + x * inverse_z * Y[..., 0]
    J[..., 0, 2] = -inverse_z * Y[..., 1]
    J[..., 1, 0] = -inverse_z * Y[..., 2] - y * inverse_z * Y[..., 1]
    J[..., 1, 1] = y * inverse_z * Y[..., 0]
    J[..., 1, 2] = inverse_z * Y[..., 0]
    return J, np.stack([x, y], axis=-1) - rays
