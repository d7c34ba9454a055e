"""How MediaPipe's metric landmarks err, as measured on renders with known truth (docs/landmarks.md), and what to do.

The network's metric landmarks are, across the view, its image landmarks over again: it takes a camera a few metres
away for granted and undoes that camera's perspective, whatever the true one. New in them is only the depth, along
the ray through the hips and not along the camera's axis. So, before a camera whose focal length is known, the image
says where the landmarks lie across the view, and the metric landmarks how far along it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.frames import Array
from pipeline.types import LANDMARK, LANDMARK_NAMES, checked

FORMAT = 2
DEFAULT_FILE = Path(__file__).parent / "data" / "landmark_model.json"

_HIPS = [LANDMARK["left_hip"], LANDMARK["right_hip"]]


@dataclass(frozen=True, eq=False)
class LandmarkModel:
    """Errors of the 33 landmarks. "Network's metres": its metric landmarks assume a size, the true one is apart.

    depth_share        (33,) found depth = share x true depth + noise; depth along the ray from the hips' middle
    depth_map          (33, 100) best guess of the true depths = depth_map @ [all metric landmarks in a row, 1]
    assumed_nearness   (33,) 1/m: found_xy = picture + (assumed_nearness + nearness_share / distance) picture found_z
    nearness_share     (33,) how much of the true perspective is in the metric landmarks; 1 were all of it
    sigma_across_m     (33,) of found_xy against the truth at one scale, network's metres, each coordinate
    visibility_edges   (B + 1,) the bins of the network's visibility, 0..1
    sigma_along_m      (33, B) of the best guess of the depth, network's metres
    sigma_px_fraction  (33, B) of an image landmark's coordinate, in fractions of the stature's length in pixels
    """

    depth_share: Array
    depth_map: Array
    assumed_nearness: Array
    nearness_share: Array
    sigma_across_m: Array
    visibility_edges: Array
    sigma_along_m: Array
    sigma_px_fraction: Array

    def __post_init__(self) -> None:
        bins = len(self.visibility_edges) - 1
        shapes: dict[str, tuple[int, ...]] = {
            "depth_share": (33,), "depth_map": (33, 100), "assumed_nearness": (33,), "nearness_share": (33,),
            "sigma_across_m": (33,), "visibility_edges": (bins + 1,),
            "sigma_along_m": (33, bins), "sigma_px_fraction": (33, bins),
        }  # fmt: skip
        for name, shape in shapes.items():
            object.__setattr__(self, name, checked(f"LandmarkModel.{name}", getattr(self, name), shape))

    @classmethod
    def load(cls, path: str | Path | None = None) -> LandmarkModel:
        """From a file made by `python -m training.measure_landmarks`; without a path the project's own (kept).

        Raises ValueError when the file is not one or has another format, OSError when it cannot be read.
        """
        return _own() if path is None else _read(Path(path))

    @classmethod
    def exact(cls) -> LandmarkModel:
        """Landmarks that do not err, as a perfect network or a test would give them."""
        one, none = np.ones(33), np.zeros(33)
        return cls(one, depth_as_found(), none, one, none, np.array([0.0, 1.0]), np.zeros((33, 1)), np.zeros((33, 1)))

    def bin_of(self, visibility: Array) -> np.ndarray:
        """Column of `sigma_along_m` and `sigma_px_fraction` for visibilities of any shape."""
        return np.clip(np.searchsorted(self.visibility_edges, visibility, side="right") - 1, 0, self.n_bins - 1)

    @property
    def n_bins(self) -> int:
        """Number of bins of visibility."""
        return len(self.visibility_edges) - 1

    def sigmas(self, visibility: Array) -> tuple[Array, Array]:
        """(px fraction, along in metres), both shaped like `visibility` (..., 33)."""
        at = np.arange(33), self.bin_of(visibility)
        return self.sigma_px_fraction[at], self.sigma_along_m[at]


def _read(file: Path) -> LandmarkModel:
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        rows = [data["landmarks"][name] for name in LANDMARK_NAMES]
        fields: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
        fields["depth_map"] = data["depth_map"]
        number = data["format"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as e:
        raise ValueError(f"{file}: expected a file of `python -m training.measure_landmarks`, got {e!r}.") from e
    if number != FORMAT:
        raise ValueError(f"{file}: expected format {FORMAT}, got {number}; run `python -m training.measure_landmarks`.")
    return LandmarkModel(visibility_edges=data["visibility_edges"], **fields)


@cache
def _own() -> LandmarkModel:
    return _read(DEFAULT_FILE)


def depth_as_found() -> Array:
    """(33, 100): the `depth_map` that leaves every depth as it is."""
    plain = np.zeros((33, 100))
    plain[range(33), range(2, 99, 3)] = 1.0
    return plain


def unbiased_points(rays: Array, points_m: Array, weights: Array, model: LandmarkModel | None = None) -> Array:
    """Landmarks (..., 33, 3) before the camera, network's metres: on their rays, at the depth that is likeliest.

    rays      (..., 33, 2) x/z and y/z through the image landmarks (`pipeline.perspective.rays_of`)
    points_m  (..., 33, 3) the metric landmarks as the network gives them
    weights   (..., 33) >= 0: which landmarks carry the size that sets the distance; some must be positive

    The body keeps the size that the metric landmarks have across the view.
    """
    m = LandmarkModel.load() if model is None else model
    depth = points_m.reshape(*points_m.shape[:-2], 99) @ m.depth_map[:, :99].T + m.depth_map[:, 99]
    depth -= 0.5 * (depth[..., _HIPS[:1]] + depth[..., _HIPS[1:]])
    return on_rays(rays, np.concatenate([points_m[..., :2], depth[..., None]], axis=-1), weights)


def on_rays(rays: Array, points_m: Array, weights: Array) -> Array:
    """Landmarks (..., 33, 3) before the camera, on `rays` (..., 33, 2), with the size and the depths of `points_m`.

    points_m (..., 33, 3) metres about the hips, axes of the ray through them; weights as in `unbiased_points`.
    """
    lines = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1)
    middle = lines[..., _HIPS[0], :] + lines[..., _HIPS[1], :]
    middle /= np.sqrt(np.vecdot(middle, middle))[..., None]
    # Points of the plane at distance 1 that the ray through the hips is perpendicular to
    plane = lines / np.vecdot(lines, middle[..., None, :])[..., None]
    w = weights / weights.sum(-1, keepdims=True)
    distance = np.sqrt(_spread(points_m[..., :2], w) / np.maximum(_spread(plane, w), 1e-12))
    return plane * np.maximum(distance[..., None] + points_m[..., 2], 0.05)[..., None]


def _spread(points: Array, weights: Array) -> Array:
    """Weighted sum of squares (...) about the weighted mean of points (..., 33, C); weights sum to one."""
    mean = (weights[..., None, :] @ points)[..., 0, :]
    return np.asarray(np.vecdot(weights, np.vecdot(points, points)) - np.vecdot(mean, mean))
