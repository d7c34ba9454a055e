"""Focal length and gravity from bodies in pictures: one robust least squares over a window of samples.

Each body is the mean of people in a gravity-aligned frame plus a few directions of pose (`PosePrior`), turned about
the vertical, tilted a little, and seen in full perspective. All share the focal length, the vertical, the share of
depth that the network finds, and one body's proportions; each person has a floor that the lower foot rests on.
Gauss-Newton with the bodies eliminated (Schur complement; Triggs et al., Bundle Adjustment: A Modern Synthesis, 2000,
section 6); the information left is the posterior. Bodies of one clip err alike: together they weigh as `WORTH`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration_prior import COMPONENTS, UPRIGHT, PosePrior
from pipeline.calibration_sample import HIPS_AT, LEGS_AT, SOLES_AT, Sample
from pipeline.frames import Array, R_world_camera_from_up, cross, exp_so3, normalize, shortest_rotation

#: Independent samples that all samples of a clip are worth at most.
WORTH = 4.0
SIGMA_ACROSS_M, SIGMA_ALONG_M, SIGMA_FLOOR_M = 0.020, 0.10, 0.05
#: How far bodies lean beyond what the prior knows: upright, of unseen legs, bent or seated.
SIGMA_TILT_RAD = np.radians([5.0, 12.0, 25.0])
#: Share of true depth differences that the network finds: 0.6 on renders, about 1 on real pictures.
DEPTH_SHARE, DEPTH_SHARE_SIGMA = 0.8, 0.15
#: People who are seen from head to foot stand 1.5 to 8 m away, whatever the camera.
DISTANCE_M, DISTANCE_SIGMA = 3.3, 0.5
#: Squared errors, in sigmas, from which points, depths, feet and leans count less (Cauchy).
_ROBUST = 8.0, 6.0, 3.0, 2.25
_PEOPLE = 4  # with a floor of their own
_POSE, _SHARED = 6, 4
_OWN = _POSE + COMPONENTS
#: Largest step of focal length, vertical, depth share, proportions.
_LIMITS = (0.25, 0.15, 0.15, 0.1)


@dataclass(frozen=True, eq=False)
class Before:
    """What is known before the samples, relative to the camera that they were taken with.

    log_focal, log_focal_sigma  of the ratio to that camera's focal length
    up, up_sigmas               (3,) unit; standard deviations about the camera's x (pitch) and z axis (roll), radians
    """

    log_focal_sigma: float
    up: Array
    up_sigmas: tuple[float, float]
    log_focal: float = 0.0


@dataclass(eq=False)
class Estimate:
    """log_focal is of the ratio to the camera of the samples; up (3,) is the vertical; each with its sigma."""

    log_focal: float
    up: Array
    log_focal_sigma: float
    up_sigma_rad: float


@dataclass(eq=False)
class _Window:
    """The samples as arrays over N, and the bodies' poses as far as they are known."""

    rays: Array
    visible: Array
    found: Array
    kind: NDArray[np.int64]
    legs: NDArray[np.bool_]
    person: NDArray[np.int64]
    tilt_sigma: Array
    pose: Array


@dataclass(eq=False)
class Bundle:
    """Keeps what it found from call to call, so that one iteration a call is enough."""

    prior: PosePrior
    before: Before
    log_focal: float = 0.0
    up: Array = field(default_factory=lambda: np.array([0.0, -1.0, 0.0]))
    share: float = DEPTH_SHARE
    proportions: Array = field(default_factory=lambda: np.zeros(0))
    _floors: dict[int, float] = field(default_factory=dict)
    _poses: dict[Sample, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.up, self.log_focal = self.before.up, self.before.log_focal
        self.proportions = np.zeros(self.prior.shape.shape[1])
        directions = np.concatenate(
            [self.prior.directions, np.broadcast_to(self.prior.shape, (2, *self.prior.shape.shape))], axis=-1
        )
        self._directions = directions.reshape(2, 19, 3, -1)

    def solve(
        self, samples: Sequence[Sample], axis: tuple[Array, tuple[float, float]] | None = None, iterations: int = 1
    ) -> Estimate:
        """The camera after `iterations` more steps; `axis` is a vertical found elsewhere, with sigmas."""
        people = sorted({s.track_id for s in samples}, key=lambda i: -sum(s.track_id == i for s in samples))[:_PEOPLE]
        w = self._window(samples, people)
        for _ in range(iterations):
            covariance = self._step(w, people, axis)
        self._poses = {s: pose for s, pose in zip(samples, w.pose, strict=True)}
        sigma = np.sqrt(np.diag(covariance))
        return Estimate(self.log_focal, self.up, float(sigma[0]), float(np.hypot(*sigma[1:]) / np.sqrt(2)))

    def _window(self, samples: Sequence[Sample], people: list[int]) -> _Window:
        visible = np.stack([s.visible for s in samples])
        kind = np.array([s.kind for s in samples])
        legs = np.array([s.legs for s in samples])
        tilt = SIGMA_TILT_RAD[np.where(kind == UPRIGHT, 0, np.where(legs, 2, 1))]
        person = np.array([people.index(s.track_id) if s.track_id in people else -1 for s in samples])
        new = [s for s in samples if s not in self._poses]
        if new:
            self._poses |= {s: pose for s, pose in zip(new, self._first_poses(new), strict=True)}
        pose = np.stack([self._poses[s] for s in samples])
        return _Window(
            np.stack([s.rays for s in samples]), visible, np.stack([s.points_m[:, 2] for s in samples]), kind, legs,
            person, tilt, pose,
        )  # fmt: skip

    def _first_poses(self, samples: Sequence[Sample]) -> Array:
        """(N, 6 + K): yaw, tilt x, tilt z, place over distance x and y, log distance, pose; as the network has them."""
        ratio = float(np.exp(self.log_focal))
        hip = np.stack([s.hip_ray for s in samples]) / [ratio, ratio, 1.0]
        points = np.stack([s.points_m for s in samples])
        Rs_camera_ray = shortest_rotation(np.broadcast_to([0.0, 0.0, 1.0], hip.shape), normalize(hip))
        left = points[:, 0] - points[:, 1] + points[:, 6] - points[:, 7]
        left = (Rs_camera_ray @ left[..., None])[..., 0] @ R_world_camera_from_up(self.up).T
        pose = np.zeros((len(samples), _OWN))
        pose[:, 0] = -np.arctan2(left[:, 2], left[:, 0])
        pose[:, 3:5] = hip[:, :2]
        pose[:, 5] = np.log([max(s.distance_m * ratio, 0.3) for s in samples])
        return pose

    def _points(self, w: _Window, R_camera_world: Array) -> tuple[Array, Array, Array, Array]:
        """Bodies in the camera about their places (N, 19, 3), places (N, 3), and derivatives of the former.

        By yaw and tilts (N, 19, 3, 3) and by pose and proportions (N, 19, 3, K + S).
        """
        yaw, tilt, c = w.pose[:, 0], w.pose[:, 1:3], w.pose[:, _POSE:]
        coefficients = np.concatenate([c, np.broadcast_to(self.proportions, (len(c), len(self.proportions)))], axis=1)
        D = self._directions[w.kind]
        X = self.prior.mean[w.kind] + (D.reshape(len(c), 57, -1) @ coefficients[..., None]).reshape(-1, 19, 3)
        zero = np.zeros_like(yaw)
        Rs_lean = exp_so3(np.stack([tilt[:, 0], zero, tilt[:, 1]], axis=1))
        Rs_yaw = exp_so3(np.stack([zero, yaw, zero], axis=1))
        turned = X @ np.swapaxes(Rs_yaw, 1, 2)
        Rs_camera = R_camera_world @ Rs_lean
        Y = turned @ np.swapaxes(Rs_camera, 1, 2)
        leaning = turned @ np.swapaxes(Rs_lean, 1, 2)
        by_yaw = np.stack([turned[..., 2], np.zeros(turned.shape[:2]), -turned[..., 0]], axis=-1)
        none = np.zeros(leaning.shape[:2])
        by_x = np.stack([none, -leaning[..., 2], leaning[..., 1]], axis=-1) @ R_camera_world.T
        by_z = np.stack([-leaning[..., 1], leaning[..., 0], none], axis=-1) @ R_camera_world.T
        turns = np.stack([by_yaw @ np.swapaxes(Rs_camera, 1, 2), by_x, by_z], axis=-1)
        places = np.exp(w.pose[:, 5:6]) * np.concatenate([w.pose[:, 3:5], np.ones((len(c), 1))], axis=1)
        return Y, places, turns, (Rs_camera @ Rs_yaw)[:, None] @ D

    def _step(self, w: _Window, people: list[int], axis: tuple[Array, tuple[float, float]] | None) -> Array:
        """One Gauss-Newton step of everything; the covariance (3, 3) of log focal length and the vertical."""
        n, n_shared = len(w.pose), _SHARED + len(self.proportions)
        J, r, weight = self._residuals(w, people)
        A = np.swapaxes(J * weight[..., None], 1, 2)
        H, g = A @ J, (A @ r[..., None])[..., 0]
        self._regularise(w, H, g)
        own = np.arange(_OWN)
        H[:, own, own] *= 1.0 + 1e-7
        E = H[:, :_OWN, _OWN:]
        solved = np.linalg.solve(H[:, :_OWN, :_OWN], np.concatenate([E, g[:, :_OWN, None]], axis=2))
        Et = np.swapaxes(E, 1, 2)
        # Errors of one clip's bodies are alike
        share = min(1.0, WORTH / n)
        S = share * (H[:, _OWN:, _OWN:] - Et @ solved[..., :-1]).sum(0)
        b = share * (g[:, _OWN:] - (Et @ solved[..., -1:])[..., 0]).sum(0)
        self._prior(S, b, axis)
        step = -np.linalg.solve(S, b)
        limits = np.concatenate([_LIMITS, np.full(n_shared - _SHARED, 2.0), np.full(len(people), np.inf)])
        step *= min(1.0, float((limits / np.maximum(np.abs(step), 1e-12)).min()))
        self._apply(w, people, step, -(solved[..., -1] + solved[..., :-1] @ step))
        return np.asarray(np.linalg.inv(S)[:3, :3])

    def _apply(self, w: _Window, people: list[int], step: Array, own: Array) -> None:
        self.log_focal += float(step[0])
        self.up = normalize(exp_so3(np.array([step[1], 0.0, step[2]])) @ self.up)
        self.share += float(step[3])
        last = _SHARED + len(self.proportions)
        self.proportions = self.proportions + step[_SHARED:last]
        for i, person in enumerate(people):
            self._floors[person] += float(step[last + i])
        w.pose = w.pose + np.clip(own, -_STEPS, _STEPS)

    def _residuals(self, w: _Window, people: list[int]) -> tuple[Array, Array, Array]:
        """Jacobian (N, 58, M), residuals and weights (N, 58): 19 u, v and depth each, and the lower foot's height."""
        n, m = len(w.pose), _OWN + _SHARED + len(self.proportions)
        R = R_world_camera_from_up(self.up).T
        Y, places, turns, by_shape = self._points(w, R)
        P = Y + places[:, None]
        distance = np.exp(w.pose[:, 5])
        dP = np.zeros((n, 19, 3, m + len(people)))
        dP[..., :3] = turns
        dP[..., 0, 3] = dP[..., 1, 4] = distance[:, None]
        dP[..., 5] = places[:, None]
        dP[..., _POSE:_OWN] = by_shape[..., :COMPONENTS]
        dP[..., 1, _OWN + 1], dP[..., 2, _OWN + 1] = -Y[..., 2], Y[..., 1]
        dP[..., 0, _OWN + 2], dP[..., 1, _OWN + 2] = -Y[..., 1], Y[..., 0]
        dP[..., _OWN + _SHARED : m] = by_shape[..., COMPONENTS:]
        ratio = float(np.exp(self.log_focal))
        per_z = ratio / np.maximum(P[..., 2], 0.1)
        u, v = P[..., 0] * per_z, P[..., 1] * per_z
        J, r, weight = np.empty((n, 58, m + len(people))), np.empty((n, 58)), np.empty((n, 58))
        z = dP[..., 2, :]
        J[:, :19] = per_z[..., None] * dP[..., 0, :] - (u * per_z / ratio)[..., None] * z
        J[:, 19:38] = per_z[..., None] * dP[..., 1, :] - (v * per_z / ratio)[..., None] * z
        J[:, :19, _OWN], J[:, 19:38, _OWN] = u, v
        r[:, :19], r[:, 19:38] = u - w.rays[..., 0], v - w.rays[..., 1]
        rest = self.prior.rest[w.kind]
        across = (SIGMA_ACROSS_M**2 + rest**2) * (ratio / distance[:, None]) ** 2
        e2 = w.visible * (r[:, :19] ** 2 + r[:, 19:38] ** 2) / across
        weight[:, :19] = weight[:, 19:38] = w.visible / across / (1.0 + e2 / _ROBUST[0])
        self._depths(w, Y, P, dP, J, r, weight)
        self._feet(w, people, P, dP, J, r, weight)
        return J, r, weight

    def _depths(self, w: _Window, Y: Array, P: Array, dP: Array, J: Array, r: Array, weight: Array) -> None:
        """What the network finds along the ray through the hips is a share of the depth from the hips."""
        ray = normalize(P[:, HIPS_AT].sum(1))
        depth = (Y @ ray[..., None])[..., 0]
        hips = depth[:, HIPS_AT].mean(1, keepdims=True)
        along = (np.swapaxes(dP, 2, 3) @ ray[:, None, :, None])[..., 0]
        along[..., 3:_POSE] = 0.0
        J[:, 38:57] = self.share * (along - along[:, HIPS_AT].mean(1, keepdims=True))
        J[:, 38:57, _OWN + 3] = depth - hips
        r[:, 38:57] = self.share * (depth - hips) - w.found
        sigma2 = SIGMA_ALONG_M**2 + self.prior.rest[w.kind] ** 2
        weight[:, 38:57] = (w.visible > 0) / sigma2 / (1.0 + r[:, 38:57] ** 2 / sigma2 / _ROBUST[1])

    def _feet(self, w: _Window, people: list[int], P: Array, dP: Array, J: Array, r: Array, weight: Array) -> None:
        """The lower foot is on its person's floor."""
        n = np.arange(len(P))
        heights = P[:, SOLES_AT] @ self.up
        lower = SOLES_AT[np.argmin(heights, axis=1)]
        height, point = heights.min(1), P[n, lower]
        for i, person in enumerate(people):
            if person not in self._floors:
                self._floors[person] = -float(np.median(height[w.person == i]))
        floors = np.array([self._floors[p] for p in people] + [0.0])
        J[:, 57] = dP[n, lower].swapaxes(1, 2) @ self.up
        # The vertical that heights are measured along turns with the bodies
        J[:, 57, _OWN + 1 : _OWN + 3] += cross(np.broadcast_to(self.up, point.shape), point)[:, [0, 2]]
        J[n, 57, J.shape[2] - len(people) + np.maximum(w.person, 0)] = 1.0
        r[:, 57] = height + floors[w.person]
        sigma2 = SIGMA_FLOOR_M**2
        seen = (w.visible[n, lower] > 0) & (w.person >= 0)
        weight[:, 57] = seen / sigma2 / (1.0 + r[:, 57] ** 2 / sigma2 / _ROBUST[2])

    def _regularise(self, w: _Window, H: Array, g: Array) -> None:
        """The priors of each body: its pose, its lean and how far away people are."""
        c = np.arange(_POSE, _OWN)
        H[:, c, c] += 1.0
        g[:, _POSE:_OWN] += w.pose[:, _POSE:]
        tilt = w.pose[:, 1:3]
        lean = 1.0 / w.tilt_sigma**2 / (1.0 + (tilt**2).sum(1) / (_ROBUST[3] * w.tilt_sigma**2))
        for k in (1, 2):
            H[:, k, k] += lean
            g[:, k] += lean * tilt[:, k - 1]
        whole = w.visible[:, LEGS_AT].all(1)
        if whole.any():
            # One opinion for the camera, not one for each sample
            weight = whole / (DISTANCE_SIGMA**2 * whole.sum() * min(1.0, WORTH / len(w.pose)))
            H[:, 5, 5] += weight
            g[:, 5] += weight * (w.pose[:, 5] - np.log(DISTANCE_M))

    def _prior(self, S: Array, b: Array, axis: tuple[Array, tuple[float, float]] | None) -> None:
        """Adds what is known of the shared values to the information S (M, M) and the gradient b (M,)."""

        def know(at: int, error: float, sigma: float) -> None:
            S[at, at] += 1.0 / sigma**2
            b[at] += error / sigma**2

        know(0, self.log_focal - self.before.log_focal, max(self.before.log_focal_sigma, 1e-4))
        off = cross(self.before.up, self.up)
        know(1, off[0], self.before.up_sigmas[0])
        know(2, off[2], self.before.up_sigmas[1])
        if axis is not None:
            off = cross(axis[0], self.up)
            know(1, off[0], axis[1][0])
            know(2, off[2], axis[1][1])
        know(3, self.share - DEPTH_SHARE, DEPTH_SHARE_SIGMA)
        for k, value in enumerate(self.proportions):
            know(_SHARED + k, float(value), 1.0)
        last = np.arange(_SHARED + len(self.proportions), len(S))
        S[last, last] += 1e-6


_STEPS = np.concatenate([[0.5, 0.3, 0.3, 1.0, 1.0, 0.3], np.full(COMPONENTS, 1.5)])
