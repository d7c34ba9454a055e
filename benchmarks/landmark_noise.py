"""What a landmark network makes of exact landmarks: how MediaPipe errs, as numbers.

In the picture: every landmark sits a little off its place, all the time (definition) and for a while (slow error), and
trembles. In metres: the same, and depth is squeezed, the perspective of the picture leaks into x and y, the axes are
those of the crop and not of the camera, the whole body leans, and its size is not the person's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from benchmarks.synthetic import OUTSIDE, detection, in_camera, visible
from pipeline.body import PosedBody
from pipeline.frames import Array, exp_so3, normalize, project, shortest_rotation
from pipeline.types import CameraCalibration, Detection


@dataclass(frozen=True)
class LandmarkNoise:
    """Sizes of the errors; 2D ones as a share of the body's size in the picture, standard deviations all.

    The defaults give raw landmarks about as wrong as MediaPipe's are on real clips: 105 to 125 mm MPJPE, 75 to 90 mm
    after Procrustes.

    px_bias, px_slow, px_tremble  constant, wandering within `slow_s`, and of every frame
    m_bias, m_slow, m_tremble     the same of metric landmarks, metres
    depth_slow                    wandering of metric depth on top, metres
    depth_scale                   what is left of true depth differences
    leak                          0..1: share of the picture's perspective that is in metric x and y
    lean_rad, scale               of the whole body, constant: about the camera's x and z axes, and relative size
    outside                       errors of landmarks outside the picture are this much larger
    """

    px_bias: float = 0.010
    px_slow: float = 0.010
    px_tremble: float = 0.003
    m_bias: float = 0.025
    m_slow: float = 0.025
    m_tremble: float = 0.005
    depth_slow: float = 0.06
    depth_scale: float = 0.75
    leak: float = 0.5
    lean_rad: float = float(np.radians(5.0))
    scale: float = 0.04
    slow_s: float = 0.5
    outside: float = 3.0


def observe(
    posed: PosedBody, calibration: CameraCalibration, fps: float, noise: LandmarkNoise | None, seed: int
) -> list[tuple[Detection, ...]]:
    """Detections of one body over T frames; exact without `noise`. Nobody in frames with too little in the picture."""
    points = in_camera(np.asarray(posed.landmarks), calibration)
    uv = project(points, calibration.K)
    visibility = visible(uv, calibration.size_wh)
    metric = points
    if noise is not None:
        rng = np.random.default_rng(seed)
        worse = np.where(visibility > OUTSIDE, 1.0, noise.outside)[..., None]
        size = np.nanmedian(np.linalg.norm(np.ptp(uv, axis=1), axis=-1))
        metric = _metric(points, uv, calibration, fps, noise, worse, rng)
        errors = _errors(uv.shape, (noise.px_bias, noise.px_slow, noise.px_tremble), noise.slow_s * fps, rng)
        uv = uv + size * worse * errors
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
    """Metric landmarks (T, 33, 3) as a crop shows them, before the camera where they are."""
    middle = points[:, 23:25].mean(1, keepdims=True)
    to_crop = np.swapaxes(
        shortest_rotation(normalize(middle[:, 0]), np.broadcast_to([0.0, 0.0, 1.0], (len(uv), 3))), 1, 2
    )
    offset = (points - middle) @ to_crop
    distance = np.linalg.norm(middle, axis=-1, keepdims=True)
    nearer = distance / np.maximum(distance + offset[..., 2:], 0.3)
    offset[..., :2] *= 1.0 + noise.leak * (nearer - 1.0)
    offset[..., 2] *= noise.depth_scale
    lean = exp_so3(rng.normal(0.0, noise.lean_rad, 3) * [1.0, 0.0, 0.5])
    offset = np.exp(rng.normal(0.0, noise.scale)) * offset @ lean.T
    errors = _errors(points.shape, (noise.m_bias, noise.m_slow, noise.m_tremble), noise.slow_s * fps, rng)
    errors[..., 2] += _errors(points.shape[:2], (0.0, noise.depth_slow, 0.0), noise.slow_s * fps, rng)
    return middle + offset + worse * errors


def _errors(shape: tuple[int, ...], sizes: tuple[float, float, float], slow: float, rng: np.random.Generator) -> Array:
    """Constant, wandering (first-order, over `slow` frames) and white errors along axis 0."""
    bias, wander, white = sizes
    keep = np.exp(-1.0 / slow)
    steps = rng.normal(size=shape)
    steps[1:] *= np.sqrt(1.0 - keep**2)
    wandering = lfilter([1.0], [1.0, -keep], steps, axis=0)
    return bias * rng.normal(size=(1, *shape[1:])) + wander * wandering + white * rng.normal(size=shape)
