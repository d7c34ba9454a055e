"""One look at a person as evidence of the camera: the gates it must pass, and what it says.

The network or solver that makes a sample is not the accumulator (`pipeline.calibration`), and the accumulator is
not the store (`calibration_cache`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Array, normalize
from pipeline.perspective import fit_perspective, rays_of
from pipeline.types import LANDMARK, Landmarks

#: The landmarks that hold the body's perspective: limbs, feet, and three of the head.
BODY = np.array(
    [LANDMARK[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "heel",
                                             "foot_index") for side in ("left", "right")]
    + [LANDMARK["nose"], LANDMARK["left_ear"], LANDMARK["right_ear"]]
)  # fmt: skip
FEET = np.array([LANDMARK[n] for n in ("left_heel", "right_heel", "left_foot_index", "right_foot_index")])
LEGS = np.array([LANDMARK[f"{side}_{part}"] for part in ("hip", "knee", "ankle") for side in ("left", "right")])

MIN_VISIBLE = 8  # landmarks of BODY, inside the picture
MIN_VISIBILITY = 0.5
MIN_EXTENT_PX = 60.0  # diagonal of the visible landmarks
MAX_ERROR_M = 0.10  # root mean square reprojection error at the best focal length
MIN_KNEE_RAD = np.radians(150.0)  # straighter is standing
TRUNCATED_WORTH = 0.1  # of a body whose legs are not in the picture
MAX_LEAN_RAD = np.radians(25.0)  # torso against legs while standing
MAX_STRIDE_RAD = np.radians(45.0)  # thighs apart while standing or walking
SIGMA_STANDING_RAD = np.radians(6.0)
SIGMA_TORSO_RAD = np.radians(14.0)


@dataclass(frozen=True, eq=False)
class Sample:
    """What one person in one picture says of the camera, for each of F candidate focal lengths.

    t_s            seconds, capture time
    track_id       whose
    error_m2       (F,) squared reprojection error, square metres
    worth          0..1 as evidence of the focal length: a body cut at the waist holds little perspective
    axes_camera    (F, 3) unit, the body's upward axis in the camera, or None when no axis stands for gravity
    axis_sigma_rad how far that axis is from the vertical, as a rule; radians
    feet_camera_m  (F, 4, 3) heels and toes in the camera, metres, or None when they are hidden
    standing       upright on straight legs
    signature      (38,) body points relative to the picture: two like samples say the same thing twice
    """

    t_s: float
    track_id: int
    error_m2: Array
    worth: float
    axes_camera: Array | None
    axis_sigma_rad: float
    feet_camera_m: Array | None
    standing: bool
    signature: Array


def make_sample(
    landmarks: Landmarks,
    track_id: int,
    t_s: float,
    Ks: Array,
    distortion: Array,
    size_wh: tuple[int, int],
    scale: float = 1.0,
) -> Sample | str:
    """A sample for the candidate cameras Ks (F, 3, 3), or the name of the gate the person did not pass.

    `scale` multiplies the metric landmarks (the person's true size over the one they assume).
    """
    uv = landmarks.points_px[BODY]
    inside = ((uv >= 0) & (uv <= np.asarray(size_wh) - 1)).all(-1)
    weights = np.where(inside & (landmarks.visibility[BODY] > MIN_VISIBILITY), landmarks.visibility[BODY], 0.0)
    seen = weights > 0
    if np.count_nonzero(seen) < MIN_VISIBLE:
        return "few_landmarks"
    if np.linalg.norm(np.ptp(uv[seen], axis=0)) < MIN_EXTENT_PX:
        return "small"
    points = landmarks.points_m * scale
    rays = np.stack([rays_of(uv, K, distortion) for K in Ks])
    fit = fit_perspective(points[BODY], rays, weights)
    if np.sqrt(fit.error_m2.min()) > MAX_ERROR_M:
        return "poor_fit"
    visible = np.zeros(33, dtype=bool)
    visible[BODY] = seen
    axis, sigma, standing = _upward_axis(points, visible)
    feet = points[FEET] @ np.swapaxes(fit.Rs, -1, -2) + fit.ts[:, None] if visible[FEET].all() else None
    signature = ((uv - np.asarray(size_wh) / 2) / max(size_wh)).ravel()
    worth = 1.0 if visible[LEGS].all() else TRUNCATED_WORTH
    axes = None if axis is None else normalize(fit.Rs @ axis)
    return Sample(t_s, track_id, fit.error_m2, worth, axes, sigma, feet, standing, signature)


def _upward_axis(points: Array, visible: NDArray[np.bool_]) -> tuple[Array | None, float, bool]:
    """The axis of the body that gravity follows, its standard deviation in radians, and whether the person stands."""

    def pair(part: str) -> Array:
        return points[[LANDMARK[f"left_{part}"], LANDMARK[f"right_{part}"]]]

    def sees(*parts: str) -> bool:
        return all(visible[LANDMARK[f"{side}_{part}"]] for part in parts for side in ("left", "right"))

    if not sees("shoulder", "hip"):
        return None, 0.0, False
    hips, shoulders = pair("hip"), pair("shoulder")
    torso = normalize(shoulders.mean(0) - hips.mean(0))
    if not sees("knee", "ankle"):
        return torso, SIGMA_TORSO_RAD, False
    thighs, shins = normalize(hips - pair("knee")), normalize(pair("knee") - pair("ankle"))
    legs = normalize(hips.mean(0) - pair("ankle").mean(0))
    straight = np.sum(thighs * shins, axis=-1).min() > np.cos(np.pi - MIN_KNEE_RAD)
    upright = legs @ torso > np.cos(MAX_LEAN_RAD) and thighs[0] @ thighs[1] > np.cos(MAX_STRIDE_RAD)
    if not (straight and upright):
        return None, 0.0, False
    # MediaPipe's torsos lean back from the camera more than its legs do
    return normalize(2.0 * legs + torso), SIGMA_STANDING_RAD, True
