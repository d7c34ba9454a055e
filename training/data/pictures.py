"""What is about the people in a picture: backdrops, shadows on the floor, and what the camera makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_scene import Room
from benchmarks.render import Light, View
from pipeline.frames import Array
from training.data.drawing import Floats, Mesh

Image = NDArray[np.uint8]
_FLOOR_CELL_M, _FLOOR_CELLS = 0.04, 112
#: Noise of a sensor, unit variance, taken from another place for every picture.
_GRAIN: Floats = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)


def backdrop(rng: np.random.Generator, view: View, camera_height_m: float) -> Floats:
    """What is behind the people (H, W, 3), RGB 0..1: a room, a wall, clutter, or a blurred outdoors."""
    w, h = view.size_wh
    kind = rng.random()
    if kind < 0.5:
        room = Room(
            rng.uniform(2, 6), rng.uniform(4, 12), max(camera_height_m + 0.4, rng.uniform(2.5, 3.4)),
            _paint(rng, 0.35, 0.9), _paint(rng, 0.25, 0.75), rng.uniform(0.1, 0.6),
            int(rng.integers(1000)), rng.uniform(0.4, 3.0),
        )  # fmt: skip
        third = max(1, max(w, h) // 240)
        shrink = np.diag([1 / third, 1 / third, 1.0])
        small = View(shrink @ view.K, view.R_camera_world, view.t_camera_world, (-(-w // third), -(-h // third)))
        image = cv2.resize(room.picture(small).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    elif kind < 0.65:
        image = _gradient(rng, w, h)
    elif kind < 0.85:
        image = _clutter(rng, w, h)
    else:
        image = _fractal(rng, w, h)
    return np.clip(image * rng.uniform(0.6, 1.15), 0.02, 0.98).astype(np.float32)


def _paint(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    """A colour of walls and floors: mostly grey, brown or pale."""
    r, g, b = np.clip(
        rng.uniform(low, high) + rng.normal(0, 0.07, 3) + rng.normal(0, 0.05) * np.array([1, 0, -1]), 0.05, 0.95
    )
    return float(r), float(g), float(b)


def _gradient(rng: np.random.Generator, w: int, h: int) -> Array:
    colours = np.array([_paint(rng, 0.1, 0.9), _paint(rng, 0.1, 0.9)])
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, w), np.linspace(-0.5, 0.5, h))
    angle = rng.uniform(0, 2 * np.pi)
    share = np.clip(0.5 + np.cos(angle) * x + np.sin(angle) * y, 0, 1)[..., None]
    return np.asarray(colours[0] * share + colours[1] * (1 - share))


def _fractal(rng: np.random.Generator, w: int, h: int) -> Array:
    """Coloured noise with a photograph's spectrum, sky-like above."""
    image = np.tile(_paint(rng, 0.2, 0.7), (h, w, 1)).astype(np.float32)
    for octave in range(2, 8):
        n = 2**octave
        coarse = rng.normal(0, 0.45 / octave**1.3, (n, n, 1)) + rng.normal(0, 0.05 / octave, (n, n, 3))
        image += cv2.resize(coarse.astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    light = np.linspace(rng.uniform(0, 0.4), rng.uniform(-0.2, 0.1), h)[:, None, None]
    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 4.0)) + light)


def _clutter(rng: np.random.Generator, w: int, h: int) -> Array:
    """Things of plain colours, upright for the most part, before a gradient: shelves, doors, posters, furniture."""
    image = _gradient(rng, w, h).astype(np.float32)
    side = max(w, h)
    for _ in range(int(rng.integers(6, 40))):
        a, b = rng.uniform(0.02, 0.35, 2) * side
        at = (float(rng.uniform(0, w)), float(rng.uniform(0, h)))
        turn = float(rng.normal(0, 4) if rng.random() < 0.8 else rng.uniform(0, 90))
        colour = tuple(float(c) for c in np.clip(rng.uniform(0.05, 0.95) + rng.normal(0, 0.12, 3), 0, 1))
        corners = cv2.boxPoints((at, (float(a), float(b)), turn)).astype(np.int32)
        if rng.random() < 0.75:
            cv2.fillConvexPoly(image, corners, colour, cv2.LINE_AA)
        else:
            cv2.ellipse(image, (at, (float(a), float(b)), turn), colour, -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 3.5)))


class FloorShade:
    """Soft shadows of people on a floor at y = 0 of one view, from their vertices; for the camera at any place."""

    def __init__(self, view: View, light: Light, centre_xz: Array) -> None:
        self._toward = light.toward.astype(np.float32)
        self._low = np.asarray(centre_xz) - 0.5 * _FLOOR_CELL_M * _FLOOR_CELLS
        H = view.K @ np.column_stack([view.R_camera_world[:, 0], view.R_camera_world[:, 2], view.t_camera_world])
        c = _FLOOR_CELL_M
        self._H = H @ np.array([[c, 0.0, self._low[0]], [0.0, c, self._low[1]], [0.0, 0.0, 1.0]])
        # The floor seen past the horizon wraps round
        to_floor = view.R_camera_world[:, 1] @ np.linalg.inv(view.K)
        v, u = np.ogrid[: view.size_wh[1], : view.size_wh[0]]
        self._floor = (to_floor[0] * u + to_floor[1] * v + to_floor[2] < -0.02).astype(np.float32)

    def factor(self, meshes: list[Mesh], low: NDArray[np.int64], high: NDArray[np.int64]) -> Floats:
        """What remains of the floor's light, (h, w, 1), between two pixels of the view."""
        hard = np.zeros((_FLOOR_CELLS, _FLOOR_CELLS), np.float32)
        for m in meshes:
            v = m.vertices[::3]
            along = v - self._toward * (v[:, 1:2] / max(self._toward[1], 0.25))
            for points, much in ((along, 0.55), (v[v[:, 1] < 0.12], 1.0)):
                cell = ((points[:, [0, 2]] - self._low) / _FLOOR_CELL_M).astype(int)
                cell = cell[((cell >= 0) & (cell < _FLOOR_CELLS)).all(1)]
                hard[cell[:, 1], cell[:, 0]] = np.maximum(hard[cell[:, 1], cell[:, 0]], much)
        soft = cv2.GaussianBlur(cv2.dilate(hard, np.ones((3, 3))), (0, 0), 1.3)
        shift = np.array([[1.0, 0.0, -low[0]], [0.0, 1.0, -low[1]], [0.0, 0.0, 1.0]])
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        warped = cv2.warpPerspective(soft, shift @ self._H, size, flags=cv2.INTER_LINEAR)
        floor = self._floor[low[1] : high[1], low[0] : high[0]]
        return np.asarray(1.0 - 0.6 * warped * floor, np.float32)[..., None]


@dataclass(frozen=True)
class Sensor:
    """What a camera does to a picture: blur, shutter, gamma, gains of R, G, B, noise of 255, JPEG quality."""

    blur_px: float
    shutter_s: float
    gamma: float
    gains: tuple[float, float, float]
    noise: float
    quality: int

    @classmethod
    def draw(cls, rng: np.random.Generator, size_px: float) -> Sensor:
        """Good cameras, cheap webcams and messenger videos; `size_px` of the person, whom blur must leave something."""
        r, g, b = rng.uniform(0.9, 1.35) + rng.normal(0, 0.05, 3)
        blur = min(rng.uniform(0.4, 1.0) + (rng.exponential(0.8) if rng.random() < 0.3 else 0.0), 0.015 * size_px)
        quality = int(rng.integers(35, 97)) if rng.random() < 0.8 else int(rng.integers(15, 40))
        shutter, gamma = rng.uniform(0, 1 / 30), rng.uniform(0.75, 1.25)
        noise = rng.uniform(0.5, 5.0) + rng.exponential(1.5)
        return cls(max(blur, 0.35), float(shutter), float(gamma), (float(r), float(g), float(b)), float(noise), quality)

    def develop(self, rng: np.random.Generator, image: Floats, moved_px: Array | None = None) -> Image:
        """(H, W, 3) uint8 of RGB 0..1; `moved_px` (2,) a second blurs along itself."""
        soft = cv2.GaussianBlur(image, (0, 0), self.blur_px)
        if moved_px is not None:
            length = float(np.hypot(*moved_px)) * self.shutter_s
            if length > 1.5:
                soft = cv2.filter2D(soft, -1, _streak(np.asarray(moved_px), min(length, 25.0)))
        toned = cv2.LUT(np.asarray(cv2.convertScaleAbs(soft, alpha=255.0), np.uint8), self._tones)
        h, w = toned.shape[:2]
        top, left = rng.integers(0, _GRAIN.shape[0] - 64, 2)
        rows, columns = (np.arange(n) + first for n, first in ((h, top), (w, left)))
        grain = _GRAIN[rows[:, None] % len(_GRAIN), columns % len(_GRAIN)] * np.float32(self.noise)
        noisy = cv2.add(toned, cv2.cvtColor(grain, cv2.COLOR_GRAY2BGR), dtype=cv2.CV_8U)
        coded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED), np.uint8)

    @property
    def _tones(self) -> Image:
        """(1, 256, 3) what becomes of each value."""
        curve = np.linspace(0, 1, 256)[:, None] ** self.gamma * np.array(self.gains)
        return np.clip(255 * curve, 0, 255).astype(np.uint8)[None]


def _streak(direction: Array, length: float) -> Array:
    n = int(length) // 2 * 2 + 3
    kernel = np.zeros((n, n), np.float32)
    d = direction / np.hypot(*direction) * length / 2
    middle = n // 2
    ends = [(round(middle + s * d[0]), round(middle + s * d[1])) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA)
    return np.asarray(kernel / kernel.sum())
