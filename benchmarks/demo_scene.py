"""The room of the demo clips: a floor with planks, walls out of focus, a box to sit on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.render import Light, Surface, View
from pipeline.frames import Array, normalize

LIGHT = Light(
    toward=normalize([0.45, 0.80, 0.55]),
    key=np.array([0.62, 0.58, 0.52]),
    sky=np.array([0.50, 0.53, 0.58]),
    ground=np.array([0.27, 0.24, 0.21]),
)


@dataclass(frozen=True)
class Room:
    """Half width, depth behind the camera's place and height, metres; colours RGB 0..1; `seed` of the decoration."""

    half_width_m: float
    depth_m: float
    height_m: float
    wall: tuple[float, float, float]
    planks: tuple[float, float, float]
    plank_m: float
    seed: int
    blur_px: float

    def picture(self, view: View) -> Array:
        """The empty room (H, W, 3), float RGB 0..1."""
        rays, eye = view.rays(), view.place
        with np.errstate(divide="ignore", invalid="ignore"):
            hits = np.stack(
                [
                    np.where(rays[..., 1] < 0, -eye[1] / rays[..., 1], np.inf),
                    np.where(rays[..., 1] > 0, (self.height_m - eye[1]) / rays[..., 1], np.inf),
                    np.where(rays[..., 2] < 0, (-self.depth_m - eye[2]) / rays[..., 2], np.inf),
                    (np.sign(rays[..., 0]) * self.half_width_m - eye[0]) / rays[..., 0],
                ]
            )
        hits = np.where(hits > 0, hits, np.inf)
        which = hits.argmin(0)
        point = eye + rays * np.minimum(hits.min(0), 50.0)[..., None]
        image = np.where((which == 1)[..., None], 0.86, np.array(self.wall))
        image = np.where((which == 2)[..., None], self._wall(point[..., 0], point[..., 1], 0), image)
        image = np.where((which == 3)[..., None], 0.88 * self._wall(point[..., 2], point[..., 1], 1), image)
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), self.blur_px)
        floor = (which == 0)[..., None]
        near = np.clip(1.15 - 0.055 * np.linalg.norm(point - eye, axis=-1, keepdims=True), 0.6, 1.0)
        planks = cv2.GaussianBlur((self._floor(point) * near).astype(np.float32), (0, 0), 0.35 * self.blur_px)
        edge = cv2.GaussianBlur(floor.astype(np.float32), (0, 0), 1.5)[..., None]
        return planks * edge + image * (1 - edge)

    def _floor(self, p: Array) -> Array:
        column = np.floor(p[..., 0] / self.plank_m)
        along = p[..., 2] / 1.3 + 0.37 * column
        plank = column * 57.0 + np.floor(along) * 131.0 + self.seed
        tone = np.sin(plank * 12.9898) * 43758.5453 % 1.0
        grain = np.sin(p[..., 0] * 330 + 7 * tone + 2.5 * np.sin(p[..., 2] * 3.1 + 9 * tone)) * 0.025
        seam = np.minimum(np.abs(p[..., 0] / self.plank_m % 1 - 0.5), 1.0) > 0.485
        seam |= np.abs(along % 1 - 0.5) > 0.4965
        shade = 0.86 + 0.28 * tone + grain
        return np.array(self.planks) * np.where(seam, 0.55 * shade, shade)[..., None]

    def _wall(self, s: Array, y: Array, wall: int) -> Array:
        """Paint, skirting board, frames, a cupboard and a plant: nothing in it is a photograph."""
        rng = np.random.default_rng(self.seed + wall)
        image = np.array(self.wall) * (0.82 + 0.09 * y + 0.03 * np.sin(s * 1.3 + self.seed))[..., None]
        for x in np.arange(-6.0, 7.0, 1.55):
            wide, tall = rng.uniform(0.22, 0.45), rng.uniform(0.18, 0.35)
            mid_x, mid_y, colour = (
                x + rng.uniform(-0.3, 0.3),
                rng.uniform(1.35, 1.75),
                0.25 + 0.35 * rng.random((2, 1)) + rng.uniform(-0.1, 0.1, (2, 3)),
            )
            u, v = (s - mid_x) / wide, (y - mid_y) / tall
            frame = (np.abs(u) < 1) & (np.abs(v) < 1)
            inner = (np.abs(u) < 0.85) & (np.abs(v) < 0.85)
            mix = (0.5 + 0.5 * np.sin(2.5 * u + 3 * v * rng.uniform(-1, 1)))[..., None]
            image = np.where(frame[..., None], 0.18, image)
            image = np.where(inner[..., None], colour[0] * mix + colour[1] * (1 - mix), image)
        for x in (rng.uniform(-3.2, -2.0), rng.uniform(2.0, 3.2)):
            board = (np.abs(s - x) < 0.7) & (y < 0.85)
            image = np.where(
                board[..., None], np.array([0.42, 0.31, 0.22]) * (0.8 + 0.3 * (y % 0.42))[..., None], image
            )
            books = (np.abs(s - x) < 0.55) & (y > 0.85) & (y < 1.08 + 0.05 * np.sin(40 * s))
            hue = 0.5 + 0.4 * np.sin(np.floor(s * 22)[..., None] * np.array([1.7, 2.9, 4.3]))
            image = np.where(books[..., None], 0.25 + 0.4 * hue, image)
        u, v = s - rng.uniform(-1.4, 1.4), y - 0.35
        angle, radius = np.arctan2(v, u), np.hypot(u, v)
        leaves = (radius < 0.75 * np.abs(np.sin(5.5 * angle)) ** 0.7 + 0.05) & (v > -0.02) & (np.abs(u) < 0.5)
        green = np.array([0.17, 0.30, 0.14]) * (0.7 + 0.9 * radius)[..., None]
        image = np.where(leaves[..., None], green, image)
        image = np.where(((np.abs(u) < 0.17) & (np.abs(v + 0.17) < 0.18))[..., None], [0.62, 0.55, 0.48], image)
        return np.where((y < 0.09)[..., None], 0.80, image)


def box(centre_xz: tuple[float, float], yaw: float, size: tuple[float, float, float], colour: Array) -> Surface:
    """A cloth-covered box standing on the floor; size in metres, x, y, z."""
    vertices: list[Array] = []
    normals: list[Array] = []
    faces: list[np.ndarray] = []
    n = 10
    grid = np.linspace(-0.5, 0.5, n)
    a, b = (g.ravel() for g in np.meshgrid(grid, grid, indexing="ij"))
    cell = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    quads = np.concatenate([np.stack([cell, cell + n, cell + n + 1], 1), np.stack([cell, cell + n + 1, cell + 1], 1)])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    for axis in range(3):
        for sign in (1.0, -1.0):
            p = np.zeros((n * n, 3))
            p[:, axis], p[:, (axis + 1) % 3], p[:, (axis + 2) % 3] = 0.5 * sign, a, b
            normal = np.zeros_like(p)
            normal[:, axis] = sign
            normal = normalize(normal + 1.2 * np.sign(p) * np.clip(np.abs(p) - 0.44, 0, 1) * 6)
            faces.append((quads if sign > 0 else quads[:, ::-1]) + len(vertices) * n * n)
            vertices.append(p)
            normals.append(normal)
    V = (np.concatenate(vertices) + np.array([0.0, 0.5, 0.0])) * size
    place = np.array([centre_xz[0], 0.0, centre_xz[1]])

    def albedo(at: Array) -> Array:
        fabric = 1.0 + 0.04 * np.sin(at[:, 0] * 60) * np.sin(at[:, 1] * 60) * np.sin(at[:, 2] * 60)
        dark = 0.75 + 0.25 * np.clip(at[:, 1] / 0.25, 0, 1)
        return colour * (fabric * dark)[:, None]

    return Surface(V @ turn.T + place, np.concatenate(normals) @ turn.T, np.concatenate(faces), V, albedo, 0.02)
