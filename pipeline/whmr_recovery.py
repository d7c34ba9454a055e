"""W-HMR's recovery: the crops of all people through the network in one batch, bodies in the camera frame out.

The network says where a person is under a focal length of its own; here the same picture is read under the camera's
one calibrated K, so that people of a frame stand at depths that fit together (paper section 3.3). Local rotations are
the network's, untouched; the shape is the mean of what was seen of a person, or bones would change from frame to frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.body import BodyModel
from pipeline.contact import POINTS
from pipeline.frames import Array, in_picture, nearest_rotation, project
from pipeline.types import BodyPose, CameraCalibration, Detection, Frame, checked
from pipeline.whmr_geometry import R_camera_level, focal_px, translations

#: The share of a person's score that joints outside the picture have: the network guesses those.
OUTSIDE = 0.2
#: A box nearer to the picture's edge than this share of its side may show a part of somebody only.
EDGE = 0.02
#: Depths that the network can tell: its answer ends at 10 m.
DEPTHS_M = (0.5, 9.0)
#: The shape that is published follows the mean of all looks when there are twice as many as the last time.
LOOKS = 256


class Network(Protocol):
    """What is asked of the engines; `engines.whmr.live` has them and says what the arrays are."""

    smpl: Mapping[str, NDArray[Any]]

    def camera(self, image: NDArray[np.uint8]) -> tuple[float, float, float]:
        """Vertical field of view, pitch and roll, radians."""
        ...

    def people(self, image: NDArray[np.uint8], boxes_xyxy: ArrayLike, R_camera_level: ArrayLike) -> Mapping[str, Any]:
        """boxes (B, 5), Rs, betas, cam, Tz, R_level_root and joints of the people in the boxes (B, 4)."""
        ...


@dataclass(frozen=True, eq=False)
class OrientedBody(BodyPose):
    """A BodyPose that knows its root in the world from elsewhere than its root in the camera.

    R_world_root  (3, 3) OrientCorrect's answer, in the world of the calibration that was in use
    """

    R_world_root: Array

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "R_world_root", checked("OrientedBody.R_world_root", self.R_world_root, (3, 3)))


@dataclass(frozen=True, eq=False)
class BodySighting:
    """What one body says of the camera.

    focal_px  the focal length under which the network's own depth fits the person's size in the picture
    feet_m    (4, 3) ankles and balls of the feet in the camera for a depth of nothing, metres
    per_px    metres of depth that a pixel of focal length adds: the feet are at feet_m + (0, 0, per_px f)
    """

    focal_px: float
    feet_m: Array
    per_px: float


@dataclass(eq=False)
class _Track:
    """The shape of one person: sum of the betas of `n` looks, and what is published since the last change."""

    total: Array = field(default_factory=lambda: np.zeros(10))
    n: int = 0
    whole: bool = False
    next_n: int = 1
    betas: Array = field(default_factory=lambda: np.zeros(10))
    scale: float = 1.0

    def look(self, betas: Array, whole: bool) -> bool:
        """Takes the betas (10,) of a look at all of somebody (`whole`) or a part; true where the mean is due anew."""
        if self.n >= LOOKS or (self.whole and not whole):
            return False
        if whole and not self.whole:
            self.whole, self.total, self.n, self.next_n = True, np.zeros(10), 0, 1
        self.total, self.n = self.total + betas, self.n + 1
        if self.n < self.next_n:
            return False
        self.next_n = 2 * self.n
        return True


class WhmrRecovery:
    """Recovery by W-HMR's network; wants the picture, so `see` it before every call.

    body      the body model of the network's weights (`pipeline.whmr_body`)
    height_m  the people's true height; None takes the network's
    """

    name = "whmr"

    def __init__(self, network: Network, body: BodyModel, height_m: float | None = None) -> None:
        self._network = network
        self._body = body
        self._height_m = height_m
        self._tracks: dict[int, _Track] = {}
        self._image: NDArray[np.uint8] | None = None
        self._sightings: list[BodySighting] = []

    def see(self, frame: Frame) -> None:
        """Takes the picture that the next call is about."""
        self._image = frame.image

    def __call__(
        self, detections: tuple[Detection, ...], calibration: CameraCalibration, t_s: float | None = None
    ) -> tuple[OrientedBody | None, ...]:
        """One body a detection; None for a box that has no part in the picture, or where the network finds nobody.

        Raises ValueError when no picture was seen, or one of another size than the calibration's.
        """
        image, self._image = self._image, None
        self._sightings = []
        if image is None or (image.shape[1], image.shape[0]) != calibration.size_wh:
            got = "none" if image is None else f"{image.shape[1]}x{image.shape[0]}"
            raise ValueError(f"picture: expected one of {calibration.size_wh[0]}x{calibration.size_wh[1]}, got {got}.")
        bodies: list[OrientedBody | None] = [None] * len(detections)
        shown = [i for i, d in enumerate(detections) if _in_picture(d.box_xyxy, calibration.size_wh)]
        if not shown:
            return tuple(bodies)
        R_level = R_camera_level(calibration.up_camera)
        people = [detections[i] for i in shown]
        found = self._network.people(image, np.stack([d.box_xyxy for d in people]), R_level)
        answer = {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}
        ok = np.all([np.isfinite(a.reshape(len(shown), -1)).all(1) for a in answer.values()], axis=0)
        ok &= answer["cam"][:, 0] > 1e-3
        kept = np.flatnonzero(ok)
        if len(kept):
            answer = {name: value[kept] for name, value in answer.items()}
            made = self._bodies([people[j] for j in kept], answer, calibration, R_level)
            for j, body in zip(kept, made, strict=True):
                bodies[shown[j]] = body
        return tuple(bodies)

    def take_sightings(self) -> Sequence[BodySighting]:
        """What the bodies of the last call say of the camera, once."""
        sightings, self._sightings = self._sightings, []
        return sightings

    def metric_scale(self, track_id: int) -> float:
        """True size of the person over the one the network took them for."""
        track = self._tracks.get(track_id)
        return 1.0 if track is None else track.scale

    def keep_only(self, track_ids: set[int]) -> None:
        """Forgets everybody else."""
        for gone in self._tracks.keys() - track_ids:
            del self._tracks[gone]

    def set_height(self, height_m: float) -> dict[int, float]:
        """Everybody is `height_m` tall from now on; by track id, how many times as large each turns out.

        Raises ValueError outside 0.5 to 2.5 metres.
        """
        self._body.betas_for_height(height_m)
        self._height_m = height_m
        grown = {}
        for track_id, track in self._tracks.items():
            grown[track_id] = height_m / float(self._body.shaped(track.betas).height_m)
            track.betas = self._body.betas_for_height(height_m, track.betas)
            track.scale *= grown[track_id]
        return grown

    def _bodies(
        self, people: Sequence[Detection], answer: Mapping[str, Array], calibration: CameraCalibration, R_level: Array
    ) -> list[OrientedBody]:
        whole = np.array([_whole(d.box_xyxy, calibration.size_wh) for d in people])
        Rs = nearest_rotation(answer["Rs"])
        R_world_level = calibration.R_world_camera @ R_level
        R_world_roots = nearest_rotation(R_world_level @ answer["R_level_root"])
        betas = np.stack(
            [self._betas(d.track_id, b, w) for d, b, w in zip(people, answer["betas"], whole, strict=True)]
        )
        shaped, seen = self._body.shaped(betas), self._body.shaped(answer["betas"])
        # A larger body that looks the same is as much farther away
        larger = shaped.bone_lengths.sum(-1) / seen.bone_lengths.sum(-1)
        moved = translations(answer["cam"], answer["boxes"], calibration)
        roots = larger[:, None] * (answer["joints"][:, 0] + moved)
        joints = shaped.posed(Rs[:, 0], roots, Rs[:, 1:]).joints
        confidence = _confidence(joints, calibration) * np.array([d.score for d in people])[:, None]
        focals = focal_px(answer["cam"][:, 0], answer["boxes"][:, 2], answer["Tz"])
        for i in np.flatnonzero(whole & (answer["Tz"] > DEPTHS_M[0]) & (answer["Tz"] < DEPTHS_M[1])):
            per_px = float(larger[i] * moved[i, 2] / calibration.K[0, 0])
            nothing = np.array([0.0, 0.0, per_px * calibration.K[0, 0]])
            self._sightings.append(BodySighting(float(focals[i]), joints[i, POINTS] - nothing, per_px))
        return [
            OrientedBody(Rs[i, 0], roots[i], Rs[i, 1:], betas[i], joints[i], confidence[i], R_world_roots[i])
            for i in range(len(people))
        ]

    def _betas(self, track_id: int, betas: Array, whole: bool) -> Array:
        """The shape that is published of somebody whose newest look gives `betas` (10,)."""
        track = self._tracks.setdefault(track_id, _Track())
        if track.look(betas, whole):
            track.betas = track.total / track.n
            if self._height_m is not None:
                assumed = float(self._body.shaped(track.betas).height_m)
                track.betas = self._body.betas_for_height(self._height_m, track.betas)
                track.scale = self._height_m / assumed
        return track.betas


def _confidence(joints_m: Array, calibration: CameraCalibration) -> Array:
    """(B, 24): one for joints (B, 24, 3) in the picture, `OUTSIDE` for others."""
    return np.where(in_picture(project(joints_m, calibration.K), calibration.size_wh), 1.0, OUTSIDE)


def _in_picture(box_xyxy: Array, size_wh: tuple[int, int]) -> bool:
    left, top, right, bottom = box_xyxy.tolist()
    return min(right, size_wh[0]) - max(left, 0) > 1 and min(bottom, size_wh[1]) - max(top, 0) > 1


def _whole(box_xyxy: Array, size_wh: tuple[int, int]) -> bool:
    left, top, right, bottom = box_xyxy.tolist()
    edge = EDGE * max(right - left, bottom - top)
    return left > edge and top > edge and right < size_wh[0] - edge and bottom < size_wh[1] - edge
