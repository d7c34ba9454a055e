"""One look at a person as evidence of the camera: the gates it must pass, and what it says.

The solver (`pipeline.calibration_bundle`) that reads samples is not the accumulator (`pipeline.calibration`), and the
accumulator is not the store (`calibration_cache`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration_prior import ANY, UPRIGHT
from pipeline.frames import Array, in_picture, normalize
from pipeline.perspective import rays_of
from pipeline.types import LANDMARK, Landmarks

#: The landmarks that hold the body's perspective: limbs, feet, and three of the head.
BODY = np.array(
    [LANDMARK[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "heel",
                                             "foot_index") for side in ("left", "right")]
    + [LANDMARK["nose"], LANDMARK["left_ear"], LANDMARK["right_ear"]]
)  # fmt: skip
SHOULDERS, HIPS, KNEES, ANKLES = (
    np.array([LANDMARK[f"left_{p}"], LANDMARK[f"right_{p}"]]) for p in ("shoulder", "hip", "knee", "ankle")
)
#: Where hips, legs from the hips down, and soles stand in BODY.
HIPS_AT, LEGS_AT, SOLES_AT = np.arange(6, 8), np.arange(6, 12), np.arange(12, 16)

MIN_VISIBLE = 8  # landmarks of BODY, inside the picture
MIN_SCORE = 0.7  # what is taken for a person by mistake scores half, people score nearly one
MIN_VISIBILITY = 0.5
MIN_EXTENT_PX = 60.0  # diagonal of the visible landmarks
MAX_ERROR_M = 0.20  # root mean square between the metric landmarks and the picture brought to metres
MIN_KNEE_RAD = np.radians(150.0)  # straighter is standing
MAX_LEAN_RAD = np.radians(25.0)  # torso against legs while standing
MAX_STRIDE_RAD = np.radians(45.0)  # thighs apart while standing or walking


@dataclass(frozen=True, eq=False)
class Sample:
    """What one person in one picture says of the camera.

    t_s          seconds, capture time
    track_id     whose
    rays         (19, 2) x/z and y/z of BODY before the camera that the samples were taken with
    visible      (19,) visibility of BODY, 0 where not to be used
    points_m     (19, 3) metric landmarks of BODY, axes of the ray through the hips, about the hips' middle
    kind         UPRIGHT on straight legs, or ANY
    legs         hips, knees and ankles are all seen
    axis_m       (3,) unit, from the feet up through legs and torso, same axes; None unless upright
    distance_m   along the camera's axis, from the size that the metric landmarks give the person
    hip_ray      (3,) x/z, y/z and 1 of the hips' middle
    signature    (38,) body points relative to the picture: two like samples say the same thing twice
    planted      (4,) heels and toes that did not move since the frame before
    """

    t_s: float
    track_id: int
    rays: Array
    visible: Array
    points_m: Array
    kind: int
    legs: bool
    axis_m: Array | None
    distance_m: float
    hip_ray: Array
    signature: Array
    planted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(4, dtype=bool))

    def grown(self, ratio: float) -> Sample:
        """The same look at somebody who turned out `ratio` times as large."""
        return replace(self, points_m=self.points_m * ratio, distance_m=self.distance_m * ratio)


def make_sample(
    landmarks: Landmarks,
    track_id: int,
    t_s: float,
    K: Array,
    distortion: Array,
    size_wh: tuple[int, int],
    scale: float = 1.0,
) -> Sample | str:
    """A sample before the camera K (3, 3), or the name of the gate the person did not pass.

    `scale` multiplies the metric landmarks (the person's true size over the one they assume).
    """
    if landmarks.score < MIN_SCORE:
        return "unsure"
    uv = landmarks.points_px[BODY]
    inside = in_picture(uv, size_wh)
    visibility = landmarks.visibility[BODY]
    visible = np.where(inside & (visibility > MIN_VISIBILITY), visibility, 0.0)
    seen = visible > 0
    if np.count_nonzero(seen) < MIN_VISIBLE:
        return "few_landmarks"
    if np.linalg.norm(np.ptp(uv[seen], axis=0)) < MIN_EXTENT_PX:
        return "small"
    points = landmarks.points_m * scale
    rays = rays_of(uv, K, distortion)
    distance, error = _distance(points[BODY][seen, :2], rays[seen])
    if distance <= 0.0 or error > MAX_ERROR_M:
        return "poor_fit"
    legs = bool(seen[LEGS_AT].all())
    upright = legs and bool(is_upright(points))
    axis = _axis(points) if upright else None
    signature = ((uv - np.asarray(size_wh) / 2) / max(size_wh)).ravel()
    kind = UPRIGHT if upright else ANY
    hip_ray = np.append((rays[HIPS_AT[0]] + rays[HIPS_AT[1]]) / 2, 1.0)
    return Sample(t_s, track_id, rays, visible, points[BODY], kind, legs, axis, distance, hip_ray, signature)


def _distance(across_m: Array, rays: Array) -> tuple[float, float]:
    """Metres from the camera at which rays (n, 2) best have the size of (n, 2), and the root mean square error."""
    a, b = across_m - across_m.mean(0), rays - rays.mean(0)
    if (a * b).sum() <= 0.0:
        return 0.0, np.inf
    distance = float(np.sqrt((a * a).sum() / max(float((b * b).sum()), 1e-12)))
    return distance, float(np.sqrt(((a - distance * b) ** 2).sum() / len(a)))


def is_upright(points_m: Array) -> NDArray[np.bool_]:
    """Whether bodies (..., 33, 3), in any axes, are upright on straight legs: standing or walking."""
    hips, shoulders, knees = points_m[..., HIPS, :], points_m[..., SHOULDERS, :], points_m[..., KNEES, :]
    ankles = points_m[..., ANKLES, :]
    torso = normalize(shoulders.sum(-2) - hips.sum(-2))
    legs = normalize(hips.sum(-2) - ankles.sum(-2))
    thighs, shins = normalize(hips - knees), normalize(knees - ankles)
    straight = (thighs * shins).sum(-1).min(-1) > np.cos(np.pi - MIN_KNEE_RAD)
    in_line = (legs * torso).sum(-1) > np.cos(MAX_LEAN_RAD)
    stride = (thighs[..., 0, :] * thighs[..., 1, :]).sum(-1) > np.cos(MAX_STRIDE_RAD)
    return np.asarray(straight & in_line & stride)


def _axis(points_m: Array) -> Array:
    """MediaPipe's torsos lean back from the camera more than its legs do, so legs count twice."""
    hips = points_m[HIPS].mean(0)
    legs, torso = hips - points_m[ANKLES].mean(0), points_m[SHOULDERS].mean(0) - hips
    return normalize(2.0 * normalize(legs) + normalize(torso))
