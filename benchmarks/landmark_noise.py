"""What a landmark network makes of exact landmarks: how MediaPipe errs, as numbers.

In the picture every landmark sits a little off its place, all the time (definition) and for a while (slow error), and
trembles. In metres, the network's x and y are its picture over again, with the perspective of a camera a few metres
away undone whatever the true one; depth is along the ray through the hips, squeezed, noisier, and the whole body leans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from benchmarks.synthetic import OUTSIDE, detection, in_camera, in_ray_axes, visible
from pipeline.body import PosedBody
from pipeline.frames import Array, project, shortest_rotation, unproject
from pipeline.types import CameraCalibration, Detection


@dataclass(frozen=True)
class LandmarkNoise:
    """Sizes of the errors, standard deviations all; 2D ones as a share of the body's size in the picture.

    Defaults: means over the body's landmarks of what renders with known truth gave (`pipeline.landmark_model`), depth
    errors such that raw landmarks are as wrong as on real clips, 85 to 125 mm MPJPE, 60 to 90 mm after Procrustes.

    px_bias, px_slow, px_tremble  constant, wandering within `slow_s`, and of every frame
    m_bias, m_slow                the same of metric x and y on top of those of the picture, metres
    depth_bias, depth_slow        the same of metric depth
    depth_share                   what is left of true depth differences
    assumed_nearness              1/m, the inverse distance of the camera whose perspective is undone
    nearness_share                0..1, how much of the true perspective is undone on top
    lean_rad, scale               of the whole body, constant: about the camera's x axis, and relative size
    outside                       errors of landmarks outside the picture are this much larger
    """

    px_bias: float = 0.006
    px_slow: float = 0.009
    px_tremble: float = 0.003
    m_bias: float = 0.012
    m_slow: float = 0.012
    depth_bias: float = 0.03
    depth_slow: float = 0.06
    depth_share: float = 0.62
    assumed_nearness: float = 0.21
    nearness_share: float = 0.12
    lean_rad: float = float(np.radians(4.0))
    scale: float = 0.04
    slow_s: float = 0.5
    outside: float = 3.0


#: No error of any kind: the metric landmarks are the true ones but for the perspective, which is undone wholly.
FAULTLESS = LandmarkNoise(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.5, 1.0)


def observe(
    posed: PosedBody, calibration: CameraCalibration, fps: float, noise: LandmarkNoise | None, seed: int
) -> list[tuple[Detection, ...]]:
    """Detections of one body over T frames; exact without `noise`. Nobody in frames with too little in the picture."""
    points = in_camera(np.asarray(posed.landmarks), calibration)
    uv = project(points, calibration.K)
    visibility = visible(uv, calibration.size_wh)
    metric = in_ray_axes(points)
    if noise is not None:
        rng = np.random.default_rng(seed)
        worse = np.where(visibility > OUTSIDE, 1.0, noise.outside)[..., None]
        size = np.nanmedian(np.linalg.norm(np.ptp(uv, axis=1), axis=-1))
        errors = _errors(uv.shape, (noise.px_bias, noise.px_slow, noise.px_tremble), noise.slow_s * fps, rng)
        uv = uv + size * worse * errors
        metric = _metric(points, uv, calibration, fps, noise, worse, rng)
    return [
        (detection(metric[i], uv[i], visibility[i], calibration),)
        if np.isfinite(uv[i]).all() and np.count_nonzero(visibility[i] > OUTSIDE) >= 8
        else ()
        for i in range(len(points))
    ]


def _metric(
    points: Array, uv: Array, calibration: CameraCalibration, fps: float, noise: LandmarkNoise, worse: Array,
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """Metric landmarks (T, 33, 3) as the network has them of landmarks seen at `uv`, about the true hips."""
    middle = points[:, 23:25].mean(1, keepdims=True)
    distance = np.linalg.norm(middle, axis=-1, keepdims=True)
    ray = middle / distance
    Rs_crop_camera = shortest_rotation(ray[:, 0], np.broadcast_to([0.0, 0.0, 1.0], ray[:, 0].shape))
    lines = unproject(uv, calibration.K)
    ahead = np.maximum((lines * ray).sum(-1, keepdims=True), 0.1)
    picture = (distance * (lines / ahead - ray)) @ np.swapaxes(Rs_crop_camera, 1, 2)
    slow = noise.slow_s * fps
    depth = ((points - middle) * ray).sum(-1)
    found = noise.depth_share * depth + np.tan(rng.normal(0.0, noise.lean_rad)) * picture[..., 1]
    found = found + worse[..., 0] * _errors(depth.shape, (noise.depth_bias, noise.depth_slow, 0.0), slow, rng)
    undone = 1.0 + (noise.assumed_nearness + noise.nearness_share / distance) * found[..., None]
    across = picture[..., :2] * undone
    across = across + worse * _errors(across.shape, (noise.m_bias, noise.m_slow, 0.0), slow, rng)
    offset = np.concatenate([across, found[..., None]], axis=-1)
    return middle + np.exp(rng.normal(0.0, noise.scale)) * offset


def _errors(shape: tuple[int, ...], sizes: tuple[float, float, float], slow: float, rng: np.random.Generator) -> Array:
    """Constant, wandering (first-order, over `slow` frames) and white errors along axis 0."""
    bias, wander, white = sizes
    keep = np.exp(-1.0 / slow)
    steps = rng.normal(size=shape)
    steps[1:] *= np.sqrt(1.0 - keep**2)
    wandering = lfilter([1.0], [1.0, -keep], steps, axis=0)
    return bias * rng.normal(size=(1, *shape[1:])) + wander * wandering + white * rng.normal(size=shape)
