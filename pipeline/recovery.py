"""Local body recovery: a SMPL-topology body before the calibrated camera, under full perspective.

The embedded `landmark` recovery turns MediaPipe's 33 image and 33 metric landmarks into joint rotations of a body
with constant bone lengths, and finds its metric place from the full image with the calibrated K (W-HMR's point that
a crop's own weak camera must not decide depth, paper section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.body import BodyModel, ShapedBody
from pipeline.calibration_sample import BODY
from pipeline.frames import Array
from pipeline.landmark_model import LandmarkModel, unbiased_points
from pipeline.perspective import rays_of
from pipeline.refine import Evidence, refined
from pipeline.skeleton_fit import RestFrames, joint_rotations
from pipeline.types import JOINT, LANDMARK, BodyPose, CameraCalibration, Detection, Landmarks

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
_HIPS = np.array([LANDMARK["left_hip"], LANDMARK["right_hip"]])
_FREE_BETAS = 4
REFINE_STEPS, PLACE_STEPS = 1, 1
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
    """What is remembered of one person from frame to frame; `version` counts changes of the shape."""

    betas: Array
    scale: float = 1.0
    looks: int = 0
    version: int = 0
    lengths: list[Array] = field(default_factory=list)


class LandmarkRecovery:
    """Recovery from MediaPipe's landmarks on a body model, all people of a frame at once.

    height_m  the people's true height; None takes the size that the metric landmarks give
    errors    how the landmarks err; None: as measured of MediaPipe's
    """

    name = "landmark"

    def __init__(self, body: BodyModel, height_m: float | None = None, errors: LandmarkModel | None = None) -> None:
        self._errors = LandmarkModel.load() if errors is None else errors
        self._body = body
        self._height_m = height_m
        self._tracks: dict[int, _Track] = {}
        self._first_betas = np.zeros(10) if height_m is None else body.betas_for_height(height_m)
        self._group: tuple[tuple[tuple[int, int], ...], ShapedBody, RestFrames] | None = None

    def __call__(
        self, detections: tuple[Detection, ...], calibration: CameraCalibration
    ) -> tuple[BodyPose | None, ...]:
        """One BodyPose a detection; None for one that carries no landmarks or too few visible ones."""
        bodies: list[BodyPose | None] = [None] * len(detections)
        usable, weights = [], []
        for i, detection in enumerate(detections):
            landmarks = detection.landmarks
            if landmarks is None:
                continue
            inside = _inside(landmarks.points_px[BODY], calibration)
            w = np.maximum(landmarks.visibility[BODY], 0.02) * inside
            if np.count_nonzero(w > 0.3) >= 4:
                usable.append((i, detection, landmarks))
                weights.append(w)
        if usable:
            people = [(detection, landmarks) for _, detection, landmarks in usable]
            for (i, _, _), body in zip(usable, self._recover(people, np.stack(weights), calibration), strict=True):
                bodies[i] = body
        return tuple(bodies)

    def metric_scale(self, track_id: int) -> float:
        """True size of the person over the one the metric landmarks assume."""
        track = self._tracks.get(track_id)
        return 1.0 if track is None else track.scale

    def keep_only(self, track_ids: set[int]) -> None:
        """Forgets everybody else."""
        for gone in self._tracks.keys() - track_ids:
            del self._tracks[gone]

    def _recover(
        self, people: Sequence[tuple[Detection, Landmarks]], weights: Array, calibration: CameraCalibration
    ) -> list[BodyPose]:
        tracks = [self._tracks.setdefault(d.track_id, _Track(self._first_betas)) for d, _ in people]
        shaped, rest = self._grouped([d.track_id for d, _ in people], tracks)
        pixels = np.concatenate([landmarks.points_px for _, landmarks in people])
        rays = rays_of(pixels, calibration.K, calibration.distortion).reshape(len(people), -1, 2)
        points = np.stack([track.scale * marks.points_m for track, (_, marks) in zip(tracks, people, strict=True)])
        visibility = np.stack([landmarks.visibility for _, landmarks in people])
        carrying = np.zeros((len(people), 33))
        carrying[:, BODY] = weights
        points = unbiased_points(rays, points, carrying, self._errors)
        roots, Rs = joint_rotations(points, visibility, rest)
        posed = shaped.posed(roots, np.zeros(3), Rs)
        rays = rays[:, BODY]
        places = _place(posed.landmarks[:, BODY], rays, weights, points[:, _HIPS, 2].mean(1))
        seen = Evidence(rays, weights, points[:, BODY, 2] - points[:, _HIPS, 2].mean(1, keepdims=True))
        roots, Rs, places, posed = refined(posed, places, seen, REFINE_STEPS)
        scores = np.array([d.score for d, _ in people])
        confidence = np.clip(visibility @ _CONFIDENCE.T, 0.0, 1.0) * scores[:, None]
        bodies = [
            BodyPose(roots[i], places[i], Rs[i], track.betas, posed.joints[i], confidence[i])
            for i, track in enumerate(tracks)
        ]
        for i, (track, (_, landmarks)) in enumerate(zip(tracks, people, strict=True)):
            if track.looks < _FIT_AT[-1]:
                unbent = _lengths(shaped.landmarks_rest[i]) / _lengths(posed.landmarks[i])
                self._look_at_shape(track, landmarks, unbent)
        return bodies

    def _grouped(self, track_ids: list[int], tracks: list[_Track]) -> tuple[ShapedBody, RestFrames]:
        """The people's bodies as one batch, made again only when somebody comes, goes or gets another shape."""
        key = tuple((i, t.version) for i, t in zip(track_ids, tracks, strict=True))
        if self._group is None or self._group[0] != key:
            shaped = self._body.shaped(np.stack([t.betas for t in tracks]))
            self._group = key, shaped, RestFrames.of(shaped.landmarks_rest, shaped.joints_rest)
        return self._group[1], self._group[2]

    def _look_at_shape(self, track: _Track, landmarks: Landmarks, unbent: Array) -> None:
        """`unbent` (12,): a length at rest over the one in this pose, as landmarks lie beside their joints."""
        track.looks += 1
        lengths = _lengths(landmarks.points_m) * unbent
        visible = np.minimum(landmarks.visibility[_A], landmarks.visibility[_B]) > 0.5
        track.lengths.append(np.where(visible, lengths, np.nan))
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
        track.betas = betas
        track.version += 1


def _lengths(landmarks: Array) -> Array:
    """Distances (..., 12) between pairs of landmarks (..., 33, 3)."""
    return np.linalg.norm(landmarks[..., _A, :] - landmarks[..., _B, :], axis=-1)


def fit_shape(body: BodyModel, lengths_m: Array) -> Array:
    """Betas (10,), the first few free, whose bones have `lengths_m` (12,), nan where unknown; 0 is the prior.

    Gauss-Newton with standard normal betas and lengths known to 3 cm.
    """
    known = np.isfinite(lengths_m)
    betas = np.zeros(10)
    steps = np.concatenate([np.zeros((1, 10)), 0.05 * np.eye(_FREE_BETAS, 10)])
    for _ in range(3):
        model = _lengths(body.shaped(betas + steps).landmarks_rest)[:, known]
        J = (model[1:] - model[0]).T / 0.05 / _LENGTH_SIGMA_M
        r = (model[0] - lengths_m[known]) / _LENGTH_SIGMA_M
        H = J.T @ J + np.eye(_FREE_BETAS)
        betas[:_FREE_BETAS] -= np.linalg.solve(H, J.T @ r + betas[:_FREE_BETAS])
    return np.clip(betas, -3.0, 3.0)


def _place(offsets: Array, rays: Array, weights: Array, depth_m: Array) -> Array:
    """Translations (P, 3) that put points `offsets` (P, n, 3) on `rays` (P, n, 2), from depths (P,) to begin with.

    Linear least squares, u (z + t_z) = x + t_x and likewise for v; a row divided by its depth is a reprojection error.
    """
    t = np.zeros((len(offsets), 3))
    depth = np.broadcast_to(np.maximum(depth_m, 0.3)[:, None], weights.shape)
    for _ in range(PLACE_STEPS):
        w = np.sqrt(weights) / depth
        A = np.zeros((*weights.shape, 2, 3))
        A[..., 0, 0] = A[..., 1, 1] = w
        A[..., 2] = -rays * w[..., None]
        b = (rays * offsets[..., 2:] - offsets[..., :2]) * w[..., None]
        A = A.reshape(len(offsets), -1, 3)
        At = np.swapaxes(A, -1, -2)
        t = np.linalg.solve(At @ A + 1e-9 * np.eye(3), At @ b.reshape(len(offsets), -1, 1))[..., 0]
        depth = np.maximum(offsets[..., 2] + t[:, 2:], 0.1)
    return t


def _inside(points_px: Array, calibration: CameraCalibration) -> NDArray[np.bool_]:
    return np.all((points_px >= 0) & (points_px <= np.asarray(calibration.size_wh) - 1), axis=-1)
