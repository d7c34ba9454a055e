"""Local body recovery: a SMPL-topology body before the calibrated camera, under full perspective.

The embedded `landmark` recovery turns MediaPipe's 33 image and 33 metric landmarks into joint rotations of a body
with constant bone lengths, and finds its metric place from the full image with the calibrated K (W-HMR's point that
a crop's own weak camera must not decide depth, paper section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.body import BodyModel
from pipeline.calibration_sample import BODY
from pipeline.flips import Sides
from pipeline.frames import Array, in_picture
from pipeline.joint_limits import within_limits
from pipeline.landmark_model import LandmarkModel, on_rays, unbiased_points
from pipeline.landmark_net import STATURE_M, LandmarkReader, Reading
from pipeline.perspective import rays_of
from pipeline.refine import Evidence, Linkage, refined
from pipeline.shape_fit import Looks, bone_lengths, fit_shape
from pipeline.skeleton_fit import RestFrames, joint_rotations, local_rotations
from pipeline.types import JOINT, LANDMARK, BodyPose, CameraCalibration, Detection, Landmarks

_HIPS = np.array([LANDMARK["left_hip"], LANDMARK["right_hip"]])
REFINE_STEPS = 1
#: Of landmarks that are said not to err: of an image landmark, over the person's extent in the picture, and in metres.
LEAST_SIGMA_IMAGE, LEAST_SIGMA_M = 0.001, 0.005
#: Where landmarks lie on their rays is said by the networks and by the map of `landmark_model`. The networks' spread of
#: a body's limbs at which both are worth the same, and how far their errors are alike.
AS_SURE_M, ALIKE = 0.048, 0.8
HEED_S = 0.3  # time constant in which a body's share of them changes
_LIMBS = np.array([LANDMARK[f"{side}_{part}"] for side in ("left", "right")
                   for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")])  # fmt: skip
_LAPLACE = np.sqrt(2.0)  # standard deviation of a Laplace distribution over its scale
LENGTH_SHARE = 0.7  # error of a length that many looks give, over that of a landmark

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
        self, detections: tuple[Detection, ...], calibration: CameraCalibration, t_s: float | None = None
    ) -> tuple[BodyPose | None, ...]:
        """One BodyPose a detection at `t_s` seconds, or None where the evidence does not hold a body."""
        ...

    def metric_scale(self, track_id: int) -> float:
        """True size of the person over the one the metric landmarks assume."""
        ...

    def keep_only(self, track_ids: set[int]) -> None:
        """Forgets everybody else."""
        ...

    def set_height(self, height_m: float) -> dict[int, float]:
        """Everybody is `height_m` tall from now on; by track id, how many times as large each turns out."""
        ...


@dataclass(eq=False)
class _Track:
    """What is remembered of one person from frame to frame; `version` counts changes of the shape."""

    betas: Array
    scale: float = 1.0
    version: int = 0
    looks: Looks = field(default_factory=Looks)
    sides: Sides = field(default_factory=Sides)
    share: float | None = None
    heeded_s: float = 0.0

    def heed(self, sigma_m: float, t_s: float) -> float:
        """Share of the networks in this person's depths at `t_s` seconds, a slow mean of what their spread asks."""
        asked = networks_share(sigma_m)
        slow = np.exp(-np.clip(t_s - self.heeded_s, 0.0, 1.0) / HEED_S)
        self.share = asked if self.share is None else float(asked + slow * (self.share - asked))
        self.heeded_s = t_s
        return self.share


@dataclass(frozen=True, eq=False)
class _Group:
    """The bodies of the people of a frame as one batch; `lengths` (P, 12) of their bones at rest, metres."""

    key: tuple[tuple[int, int], ...]
    rest: RestFrames
    linkage: Linkage
    lengths: Array
    stature_m: Array


class LandmarkRecovery:
    """Recovery from MediaPipe's landmarks on a body model, all people of a frame at once.

    height_m  the people's true height; None takes the networks' STATURE_M, without them the size that the metric
              landmarks give
    errors    how the landmarks err; None: as measured of MediaPipe's
    reader    the trained networks; None: depth by `errors` alone
    """

    name = "landmark"

    def __init__(
        self, body: BodyModel, height_m: float | None = None, errors: LandmarkModel | None = None,
        reader: LandmarkReader | None = None,
    ) -> None:  # fmt: skip
        self._reader = reader
        self._errors = LandmarkModel.load() if errors is None else errors
        self._body = body
        # Found statures are 1.63 to 1.72 m for anybody, so they say nothing: the networks know people of one stature
        self._height_m = STATURE_M if height_m is None and reader is not None else height_m
        self._tracks: dict[int, _Track] = {}
        self._first_betas = np.zeros(10) if height_m is None else body.betas_for_height(height_m)
        self._group: _Group | None = None
        seen = self._errors.n_bins - 1
        self._sigma_image = max(float(self._errors.sigma_px_fraction[BODY, seen].mean()), LEAST_SIGMA_IMAGE)
        self._sigma_depth_m = max(float(self._errors.sigma_along_m[BODY, seen].mean()), LEAST_SIGMA_M)
        self._sigma_length_m = max(LENGTH_SHARE * float(self._errors.sigma_across_m[BODY].mean()), LEAST_SIGMA_M)

    def __call__(
        self, detections: tuple[Detection, ...], calibration: CameraCalibration, t_s: float | None = None
    ) -> tuple[BodyPose | None, ...]:
        """One BodyPose a detection; None for one that carries no landmarks or too few visible ones.

        `t_s` is when the picture was taken; without it nothing is known of the time since the one before, and sides
        that the network exchanged (`pipeline.flips`) stay so.
        """
        bodies: list[BodyPose | None] = [None] * len(detections)
        usable, weights = [], []
        readings: Mapping[int, Reading] = {}
        if self._reader is not None and t_s is not None:
            self._reader.believe(calibration)
            readings = self._reader.read(detections, t_s, calibration.size_wh)
        for i, detection in enumerate(detections):
            landmarks = detection.landmarks
            if landmarks is None:
                continue
            if detection.track_id in readings:
                landmarks = readings[detection.track_id].landmarks
            elif t_s is not None:
                sides = self._tracks.setdefault(detection.track_id, _Track(self._first_betas)).sides
                landmarks = sides.kept(landmarks, t_s)
            inside = in_picture(landmarks.points_px[BODY], calibration.size_wh)
            w = np.maximum(landmarks.visibility[BODY], 0.02) * inside
            if np.count_nonzero(w > 0.3) >= 4:
                usable.append((i, detection, landmarks))
                weights.append(w)
        if usable:
            people = [(detection, landmarks) for _, detection, landmarks in usable]
            found = self._recover(people, np.stack(weights), calibration, readings, t_s or 0.0)
            for (i, _, _), body in zip(usable, found, strict=True):
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
        if self._reader is not None:
            self._reader.keep_only(track_ids)

    def set_height(self, height_m: float) -> dict[int, float]:
        """Everybody is `height_m` tall from now on; by track id, how many times as large each turns out.

        Raises ValueError outside 0.5 to 2.5 metres.
        """
        self._first_betas, self._height_m = self._body.betas_for_height(height_m), height_m
        grown = {}
        for track_id, track in self._tracks.items():
            grown[track_id] = height_m / float(self._body.shaped(track.betas).height_m)
            track.betas = self._body.betas_for_height(height_m, track.betas)
            track.scale *= grown[track_id]
            track.version += 1
        return grown

    def _recover(
        self, people: Sequence[tuple[Detection, Landmarks]], weights: Array, calibration: CameraCalibration,
        readings: Mapping[int, Reading], t_s: float,
    ) -> list[BodyPose]:  # fmt: skip
        tracks = [self._tracks.setdefault(d.track_id, _Track(self._first_betas)) for d, _ in people]
        group = self._grouped([d.track_id for d, _ in people], tracks)
        pixels = np.stack([marks.points_px for _, marks in people])
        rays = rays_of(pixels, calibration.K, calibration.distortion)
        points = np.stack([marks.points_m for _, marks in people])
        visibility = np.stack([marks.visibility for _, marks in people])
        carrying = np.zeros((len(people), 33))
        carrying[:, BODY] = weights
        points = unbiased_points(rays, points, carrying, self._errors)
        points *= np.array([track.scale for track in tracks])[:, None, None]
        sigma_depth_m = np.full(weights.shape, self._sigma_depth_m)
        for i, (detection, _) in enumerate(people):
            if detection.track_id in readings:
                reading, size = readings[detection.track_id], group.stature_m[i] / STATURE_M
                read = on_rays(rays[i], size * reading.points_m, carrying[i])
                # Two ways that err differently: what is made of both errs less than either
                same = read[_HIPS, 2].sum() / points[i, _HIPS, 2].sum()
                heed = tracks[i].heed(float(reading.sigma_m[_LIMBS, 1].mean()), t_s)
                points[i] = heed * read + (1.0 - heed) * same * points[i]
                sigma_depth_m[i] = np.maximum(size * _LAPLACE * reading.sigma_m[BODY, 1], LEAST_SIGMA_M)
        Rs = joint_rotations(points, visibility, group.rest)
        depths = points[:, BODY, 2]
        middle = points[:, _HIPS, 2].mean(1)
        seen = Evidence(rays[:, BODY], weights, depths - middle[:, None], self._sigma_image, sigma_depth_m)
        places = _place(group.linkage(Rs)[1], seen.rays, weights, middle)
        Rs, places, joints = refined(group.linkage, Rs, places, seen, REFINE_STEPS)
        limited = within_limits(Rs)
        if limited is not Rs:
            Rs, joints = limited, group.linkage(limited)[0] + places[:, None]
        locals_ = local_rotations(Rs)
        scores = np.array([d.score for d, _ in people])
        confidence = np.clip(visibility @ _CONFIDENCE.T, 0.0, 1.0) * scores[:, None]
        bodies = [
            BodyPose(Rs[i, 0], places[i], locals_[i], track.betas, joints[i], confidence[i])
            for i, track in enumerate(tracks)
        ]
        if any(track.looks.wanted for track in tracks):
            unbent = group.lengths / bone_lengths(group.linkage(Rs)[1])
            for i, (track, (_, landmarks)) in enumerate(zip(tracks, people, strict=True)):
                if track.looks.wanted:
                    self._look_at_shape(track, landmarks, unbent[i])
        return bodies

    def _grouped(self, track_ids: list[int], tracks: list[_Track]) -> _Group:
        """The people's bodies as one batch, made again only when somebody comes, goes or gets another shape."""
        key = tuple((i, t.version) for i, t in zip(track_ids, tracks, strict=True))
        if self._group is None or self._group.key != key:
            shaped = self._body.shaped(np.stack([t.betas for t in tracks]))
            rest = RestFrames.of(shaped.landmarks_rest, shaped.joints_rest)
            lengths = bone_lengths(shaped.landmarks_rest[:, BODY])
            self._group = _Group(key, rest, Linkage.of(shaped), lengths, np.asarray(shaped.height_m))
        return self._group

    def _look_at_shape(self, track: _Track, landmarks: Landmarks, unbent: Array) -> None:
        """`unbent` (12,): a length at rest over the one in this pose, as landmarks lie beside their joints."""
        lengths = track.looks.add(bone_lengths(landmarks.points_m[BODY]) * unbent, landmarks.visibility[BODY])
        if lengths is None:
            return
        betas = fit_shape(self._body, lengths, self._sigma_length_m)
        if self._height_m is not None:
            assumed = float(self._body.shaped(betas).height_m)
            betas = self._body.betas_for_height(self._height_m, betas)
            track.scale = self._height_m / assumed
        track.betas = betas
        track.version += 1


def networks_share(sigma_m: float) -> float:
    """Share of the networks in a body's depths, 0..1, when they say that its limbs' err by `sigma_m`.

    The best mean of two opinions whose errors are correlated (Bates and Granger, The Combination of Forecasts, 1969),
    no opinion counting against the other.
    """
    together = ALIKE * AS_SURE_M * sigma_m
    return float(np.clip((AS_SURE_M**2 - together) / (AS_SURE_M**2 + sigma_m**2 - 2.0 * together), 0.0, 1.0))


def _place(offsets: Array, rays: Array, weights: Array, depth_m: Array) -> Array:
    """Translations (P, 3) that put points `offsets` (P, n, 3) on `rays` (P, n, 2), from depths (P,) to begin with.

    Linear least squares, u (z + t_z) = x + t_x and likewise for v; a row divided by its depth is a reprojection error.
    """
    w = np.sqrt(weights) / np.maximum(depth_m, 0.3)[:, None]
    A = np.zeros((*weights.shape, 2, 4))
    A[..., 0, 0] = A[..., 1, 1] = w
    A[..., 2] = -rays * w[..., None]
    A[..., 3] = (rays * offsets[..., 2:] - offsets[..., :2]) * w[..., None]
    A = A.reshape(len(offsets), -1, 4)
    H = np.swapaxes(A[..., :3], -1, -2) @ A
    H[:, [0, 1, 2], [0, 1, 2]] += 1e-9
    return np.linalg.solve(H[..., :3], H[..., 3:])[..., 0]
