"""Local body recovery: a SMPL-topology body before the calibrated camera, under full perspective.

The embedded `landmark` recovery turns MediaPipe's 33 image and 33 metric landmarks into joint rotations of a body
with constant bone lengths, and finds its metric place from the full image with the calibrated K (W-HMR's point that
a crop's own weak camera must not decide depth, paper section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.body import BodyModel, ShapedBody
from pipeline.calibration_sample import BODY
from pipeline.frames import Array
from pipeline.perspective import PerspectiveFit, fit_perspective, rays_of
from pipeline.skeleton_fit import RestFrames, joint_rotations
from pipeline.types import JOINT, LANDMARK, BodyPose, CameraCalibration, Detection

#: Landmark pairs whose distances give the shape: bones and the widths of shoulders and hips.
_LENGTHS = tuple(
    (LANDMARK[a], LANDMARK[b])
    for a, b in (
        ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"), ("left_hip", "left_knee"), ("right_hip", "right_knee"),
        ("left_knee", "left_ankle"), ("right_knee", "right_ankle"), ("left_shoulder", "right_shoulder"),
        ("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
    )
)  # fmt: skip
_A, _B = np.array(_LENGTHS).T
_FREE_BETAS = 4
_LENGTH_SIGMA_M = 0.03
#: The shape is fitted again when this many looks have been seen, then it stays: bones do not grow.
_FIT_AT = (1, 8, 25, 60, 120)

#: Which landmarks a joint's confidence comes from.
_SEEN_BY: dict[str, tuple[str, ...]] = {
    "pelvis": ("left_hip", "right_hip"), "left_hip": ("left_hip",), "right_hip": ("right_hip",),
    "spine1": ("left_hip", "right_hip"), "spine2": ("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    "spine3": ("left_shoulder", "right_shoulder"), "neck": ("left_shoulder", "right_shoulder"),
    "left_collar": ("left_shoulder",), "right_collar": ("right_shoulder",), "head": ("nose", "left_ear", "right_ear"),
    "left_knee": ("left_knee",), "right_knee": ("right_knee",), "left_ankle": ("left_ankle",),
    "right_ankle": ("right_ankle",), "left_foot": ("left_foot_index", "left_heel"),
    "right_foot": ("right_foot_index", "right_heel"), "left_shoulder": ("left_shoulder",),
    "right_shoulder": ("right_shoulder",), "left_elbow": ("left_elbow",), "right_elbow": ("right_elbow",),
    "left_wrist": ("left_wrist",), "right_wrist": ("right_wrist",), "left_hand": ("left_index", "left_pinky"),
    "right_hand": ("right_index", "right_pinky"),
}  # fmt: skip
_CONFIDENCE = np.zeros((24, 33))
for _joint, _names in _SEEN_BY.items():
    _CONFIDENCE[JOINT[_joint], [LANDMARK[n] for n in _names]] = 1.0 / len(_names)


class Recovery(Protocol):
    """What the stream asks of a recovery: people seen in a picture in, bodies in the camera frame out."""

    name: str

    def __call__(
        self, detections: tuple[Detection, ...], calibration: CameraCalibration
    ) -> tuple[BodyPose | None, ...]:
        """One BodyPose a detection, or None where the evidence does not hold a body."""
        ...

    def metric_scale(self, track_id: int) -> float:
        """True size of the person over the one the metric landmarks assume."""
        ...

    def keep_only(self, track_ids: set[int]) -> None:
        """Forgets everybody else."""
        ...


@dataclass(eq=False)
class _Track:
    """What is remembered of one person from frame to frame."""

    shaped: ShapedBody
    betas: Array
    rest: RestFrames
    scale: float = 1.0
    looks: int = 0
    lengths: list[Array] = field(default_factory=list)
    fit: PerspectiveFit | None = None


class LandmarkRecovery:
    """Recovery from MediaPipe's landmarks on a body model.

    height_m  the people's true height; None takes the size that the metric landmarks give
    """

    name = "landmark"

    def __init__(self, body: BodyModel, height_m: float | None = None) -> None:
        self._body = body
        self._height_m = height_m
        self._tracks: dict[int, _Track] = {}
        betas = np.zeros(10) if height_m is None else body.betas_for_height(height_m)
        self._first = (body.shaped(betas), betas)
        self._rest = RestFrames.of(self._first[0].landmarks_rest, self._first[0].joints_rest)

    def __call__(
        self, detections: tuple[Detection, ...], calibration: CameraCalibration
    ) -> tuple[BodyPose | None, ...]:
        """One BodyPose a detection; None for one that carries no landmarks or too few visible ones."""
        return tuple(self._recover(d, calibration) for d in detections)

    def metric_scale(self, track_id: int) -> float:
        """True size of the person over the one the metric landmarks assume."""
        track = self._tracks.get(track_id)
        return 1.0 if track is None else track.scale

    def keep_only(self, track_ids: set[int]) -> None:
        """Forgets everybody else."""
        for gone in self._tracks.keys() - track_ids:
            del self._tracks[gone]

    def _recover(self, detection: Detection, calibration: CameraCalibration) -> BodyPose | None:
        landmarks = detection.landmarks
        if landmarks is None:
            return None
        rays = rays_of(landmarks.points_px[BODY], calibration.K, calibration.distortion)
        weights = np.maximum(landmarks.visibility[BODY], 0.02) * _inside(landmarks.points_px[BODY], calibration)
        if np.count_nonzero(weights > 0.3) < 4:
            return None
        track = self._tracks.setdefault(detection.track_id, _Track(*self._first, self._rest))
        self._look_at_shape(track, landmarks.points_m, landmarks.visibility)
        fit = fit_perspective(landmarks.points_m[BODY] * track.scale, rays[None], weights, track.fit, 2 if track.fit
                              else 6)  # fmt: skip
        track.fit = fit
        R_camera_root, Rs = joint_rotations(landmarks.points_m @ fit.Rs[0].T, landmarks.visibility, track.rest)
        posed = track.shaped.posed(R_camera_root, np.zeros(3), Rs)
        t = _place(posed.landmarks[BODY], rays, weights, float(fit.ts[0, 2]))
        confidence = np.clip(_CONFIDENCE @ landmarks.visibility, 0.0, 1.0) * detection.score
        return BodyPose(R_camera_root, t, Rs, track.betas, posed.joints + t, confidence)

    def _look_at_shape(self, track: _Track, points_m: Array, visibility: Array) -> None:
        if track.looks >= _FIT_AT[-1]:
            return
        track.looks += 1
        lengths = np.linalg.norm(points_m[_A] - points_m[_B], axis=-1)
        track.lengths.append(np.where(np.minimum(visibility[_A], visibility[_B]) > 0.5, lengths, np.nan))
        if track.looks not in _FIT_AT:
            return
        seen = np.stack(track.lengths)
        enough = np.count_nonzero(np.isfinite(seen), axis=0) >= max(1, len(seen) // 4)
        if not enough.any():
            return
        median = np.full(len(_LENGTHS), np.nan)
        median[enough] = np.nanmedian(seen[:, enough], axis=0)
        betas = fit_shape(self._body, median)
        if self._height_m is not None:
            assumed = float(self._body.shaped(betas).height_m)
            betas = self._body.betas_for_height(self._height_m, betas)
            track.scale = self._height_m / assumed
        track.betas, track.shaped = betas, self._body.shaped(betas)
        track.rest = RestFrames.of(track.shaped.landmarks_rest, track.shaped.joints_rest)


def fit_shape(body: BodyModel, lengths_m: Array) -> Array:
    """Betas (10,), the first few free, whose bones have `lengths_m` (12,), nan where unknown; 0 is the prior.

    Gauss-Newton with standard normal betas and lengths known to 3 cm.
    """
    known = np.isfinite(lengths_m)
    betas = np.zeros(10)
    steps = np.concatenate([np.zeros((1, 10)), 0.05 * np.eye(_FREE_BETAS, 10)])
    for _ in range(3):
        landmarks = body.shaped(betas + steps).landmarks_rest
        model = np.linalg.norm(landmarks[:, _A] - landmarks[:, _B], axis=-1)[:, known]
        J = (model[1:] - model[0]).T / 0.05 / _LENGTH_SIGMA_M
        r = (model[0] - lengths_m[known]) / _LENGTH_SIGMA_M
        H = J.T @ J + np.eye(_FREE_BETAS)
        betas[:_FREE_BETAS] -= np.linalg.solve(H, J.T @ r + betas[:_FREE_BETAS])
    return np.clip(betas, -3.0, 3.0)


def _place(offsets: Array, rays: Array, weights: Array, depth_m: float) -> Array:
    """Translation (3,) that puts points `offsets` (n, 3) on `rays` (n, 2): linear least squares, reweighted by depth.

    u (z + t_z) = x + t_x and likewise for v; a row divided by its depth is a reprojection error.
    """
    t = np.zeros(3)
    depth = np.full(len(offsets), max(depth_m, 0.3))
    for _ in range(3):
        w = np.sqrt(weights) / depth
        A = np.zeros((2, len(offsets), 3))
        A[0, :, 0] = A[1, :, 1] = w
        A[:, :, 2] = -rays.T * w
        b = (rays.T * offsets[:, 2] - offsets[:, :2].T) * w
        A2, b2 = A.reshape(-1, 3), b.ravel()
        t = np.linalg.solve(A2.T @ A2 + 1e-9 * np.eye(3), A2.T @ b2)
        depth = np.maximum(offsets[:, 2] + t[2], 0.1)
    return t


def _inside(points_px: Array, calibration: CameraCalibration) -> NDArray[np.bool_]:
    return np.all((points_px >= 0) & (points_px <= np.asarray(calibration.size_wh) - 1), axis=-1)
