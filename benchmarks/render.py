"""A small offline renderer in numpy: z-buffer, smooth normals, soft floor shadows. For the demo clips only.

Everything is in one world, metres, y up (`pipeline.frames`, world), the floor at y = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.frames import Array, normalize


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera: x_camera = R_camera_world @ x + t, pixels by K (3, 3), picture size in pixels."""

    K: Array
    R_camera_world: Array
    t_camera_world: Array
    size_wh: tuple[int, int]

    @property
    def place(self) -> Array:
        """The camera in the world (3,)."""
        return -self.R_camera_world.T @ self.t_camera_world

    def to_camera(self, points: Array) -> Array:
        """Camera coordinates (..., 3) of world points (..., 3)."""
        return points @ self.R_camera_world.T + self.t_camera_world

    def to_pixels(self, points: Array) -> Array:
        """Pixels (..., 2) of world points (..., 3) in front of the camera."""
        p = self.to_camera(points)
        return (p / p[..., 2:]) @ self.K[:2].T

    def scaled(self, factor: int) -> View:
        """The same view with `factor` times as many pixels each way; (0, 0) is the centre of the first pixel."""
        shift = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
        K = np.linalg.inv(shift) @ np.diag([factor, factor, 1.0]) @ shift @ self.K
        return View(K, self.R_camera_world, self.t_camera_world, (self.size_wh[0] * factor, self.size_wh[1] * factor))

    def rays(self) -> Array:
        """Unit directions (H, W, 3) in the world through every pixel."""
        u, v = np.meshgrid(np.arange(self.size_wh[0]), np.arange(self.size_wh[1]))
        d = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(self.K).T
        return normalize(d @ self.R_camera_world)


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh to be drawn: vertices (V, 3), normals (V, 3), faces (F, 3), `attributes` (V, C) interpolated to pixels.

    colour   maps a pixel's attributes (N, C) to its albedo (N, 3), RGB 0..1
    gloss    strength of the highlight, 0..1
    """

    vertices: Array
    normals: Array
    faces: np.ndarray
    attributes: Array
    colour: Callable[[Array], Array]
    gloss: float = 0.06


def vertex_normals(vertices: Array, faces: np.ndarray) -> Array:
    """Area-weighted unit normals (V, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    n = np.cross(b - a, c - a)
    out = np.empty_like(vertices)
    for k in range(3):
        out[:, k] = np.bincount(faces.ravel(), np.repeat(n[:, k], 3), len(vertices))
    return normalize(out)


def _candidates(xy: Array, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel in the bounding box of each triangle xy (F, 3, 2): triangle, column, row."""
    low = np.clip(np.ceil(xy.min(1)), 0, np.array(size_wh)).astype(np.int64)
    high = np.clip(np.floor(xy.max(1)) + 1, 0, np.array(size_wh)).astype(np.int64)
    wide, tall = np.maximum(high - low, 0).T
    count = wide * tall
    triangle = np.repeat(np.arange(len(xy)), count)
    within = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(within, np.maximum(wide, 1)[triangle])
    return triangle, column + low[triangle, 0], row + low[triangle, 1]


def rasterise(
    pixels: Array, depth: Array, faces: np.ndarray, size_wh: tuple[int, int]
) -> tuple[np.ndarray, Array, Array]:
    """Nearest surface at each pixel centre: (H, W) face or -1, (H, W, 3) corner weights, (H, W) 1 / depth.

    pixels (V, 2) and depth (V,) > 0 of the vertices. Faces seen from behind are dropped (clockwise in the picture
    when counter-clockwise from outside, as v points down). Corner weights are perspective-correct.
    """
    xy = pixels[faces]
    e1, e2 = xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0]
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    keep = np.flatnonzero((area < -1e-9) & (depth[faces].min(1) > 0.05))
    xy, e1, e2, area, q = xy[keep], e1[keep], e2[keep], area[keep], 1.0 / depth[faces[keep]]
    triangle, u, v = _candidates(xy, size_wh)
    d = np.stack([u, v], 1) - xy[triangle, 0]
    a = area[triangle]
    w1 = (d[:, 0] * e2[triangle, 1] - d[:, 1] * e2[triangle, 0]) / a
    w2 = (e1[triangle, 0] * d[:, 1] - e1[triangle, 1] * d[:, 0]) / a
    inside = (w1 >= 0) & (w2 >= 0) & (w1 + w2 <= 1)
    triangle, w1, w2 = triangle[inside], w1[inside], w2[inside]
    cell = v[inside] * size_wh[0] + u[inside]
    weights = np.stack([1 - w1 - w2, w1, w2], 1) * q[triangle]
    near = weights.sum(1)
    best = np.zeros(size_wh[0] * size_wh[1])
    np.maximum.at(best, cell, near)
    won = near >= best[cell]
    face = np.full(best.shape, -1, dtype=np.int64)
    corner = np.zeros((len(best), 3))
    face[cell[won]] = keep[triangle[won]]
    corner[cell[won]] = weights[won] / near[won, None]
    shape = (size_wh[1], size_wh[0])
    return face.reshape(shape), corner.reshape(*shape, 3), best.reshape(shape)


@dataclass(frozen=True, eq=False)
class Light:
    """One soft key light from far away (`toward` points to it) above a bright surrounding."""

    toward: Array
    key: Array
    sky: Array
    ground: Array

    def shade(self, albedo: Array, normals: Array, view: Array, lit: Array, gloss: float) -> Array:
        """Colour (N, 3) of points with unit normals and directions to the eye; `lit` (N,) share of the key light."""
        wrapped = np.clip((normals @ self.toward + 0.25) / 1.25, 0.0, 1.0) * lit
        up = 0.5 + 0.5 * normals[:, 1:2]
        ambient = self.sky * up + self.ground * (1.0 - up)
        half = normalize(view + self.toward)
        shine = gloss * np.clip(np.sum(normals * half, 1), 0.0, 1.0) ** 24 * lit
        return albedo * (ambient + self.key * wrapped[:, None]) + shine[:, None]


class ShadowMap:
    """Depth of the scene as seen from the light, for points that ask whether the light reaches them."""

    def __init__(self, surfaces: list[Surface], light: Light, cell_m: float = 0.012) -> None:
        z = light.toward
        x = normalize(np.cross([0.0, 1.0, 0.0], z))
        self._R = np.stack([x, -np.cross(z, x), -z])
        points = [s.vertices @ self._R.T for s in surfaces]
        everything = np.concatenate(points)
        self._low, self._cell = everything.min(0) - 3 * cell_m, cell_m
        size = np.ceil((everything.max(0) - self._low) / cell_m).astype(int) + 3
        self._size = (int(size[0]), int(size[1]))
        self._near = np.zeros((self._size[1], self._size[0]))
        for surface, p in zip(surfaces, points, strict=True):
            near = rasterise(self._cells(p), 1.0 + p[:, 2] - self._low[2], surface.faces, self._size)[2]
            self._near = np.maximum(self._near, near)
        self._soft = cv2.GaussianBlur(self._near, (0, 0), 1.2)

    def _cells(self, p: Array) -> Array:
        return (p[:, :2] - self._low[:2]) / self._cell

    def lit(self, points: Array, bias_m: float = 0.025) -> Array:
        """Share 0..1 of the key light at points (N, 3), averaged over a few neighbouring cells."""
        p = points @ self._R.T
        depth = 1.0 + p[:, 2] - self._low[2] - bias_m
        c = self._cells(p)
        total = np.zeros(len(p))
        taps = [(du, dv) for du in (-1.5, 0.0, 1.5) for dv in (-1.5, 0.0, 1.5)]
        for du, dv in taps:
            u = np.clip(np.round(c[:, 0] + du).astype(int), 0, self._size[0] - 1)
            v = np.clip(np.round(c[:, 1] + dv).astype(int), 0, self._size[1] - 1)
            near = self._near[v, u]
            total += (near <= 0) | (depth * near < 1.0)
        return total / len(taps)


def draw(image: Array, surfaces: list[Surface], view: View, light: Light) -> np.ndarray:
    """`image` (H, W, 3) float RGB 0..1 with the surfaces drawn over it; returns the coverage mask (H, W) bool."""
    shadow = ShadowMap(surfaces, light)
    nearest = np.zeros(image.shape[:2])
    for s in surfaces:
        p = view.to_camera(s.vertices)
        if p[:, 2].max() < 0.1:
            continue
        safe = np.where(p[:, 2:] > 0.05, p[:, 2:], 0.05)
        face, corner, near = rasterise((p / safe) @ view.K[:2].T, p[:, 2], s.faces, view.size_wh)
        seen = (face >= 0) & (near > nearest)
        if not seen.any():
            continue
        nearest[seen] = near[seen]
        f, w = s.faces[face[seen]], corner[seen]
        blend = [np.einsum("nk,nkc->nc", w, a[f]) for a in (s.vertices, s.normals, s.attributes)]
        normals = normalize(blend[1])
        eye = normalize(view.place - blend[0])
        lit = shadow.lit(blend[0] + 0.01 * normals)
        image[seen] = light.shade(s.colour(blend[2]), normals, eye, lit, s.gloss)
    return nearest > 0


class FloorShadow:
    """Soft shadows on the floor of one view: silhouettes thrown along the light, blurred, warped into the picture."""

    def __init__(self, view: View, light: Light, low_xz: Array, high_xz: Array, cell_m: float = 0.015) -> None:
        self._light, self._low, self._cell = light, np.asarray(low_xz), cell_m
        size = np.ceil((np.asarray(high_xz) - self._low) / cell_m).astype(int)
        self._size = (int(size[0]), int(size[1]))
        # columns: world x, world z, world origin; so the homography takes floor cells to pixels
        H = view.K @ np.column_stack([view.R_camera_world[:, 0], view.R_camera_world[:, 2], view.t_camera_world])
        cells = np.array([[cell_m, 0.0, self._low[0]], [0.0, cell_m, self._low[1]], [0.0, 0.0, 1.0]])
        self._H, self._view_wh = H @ cells, view.size_wh
        # where the floor lies behind the camera the homography wraps round: cut at the horizon
        self._floor = view.rays()[..., 1] < -0.01

    def factor(self, surfaces: list[Surface]) -> Array:
        """(H, W, 1) what remains of the floor's light."""
        hard = np.zeros((self._size[1], self._size[0]), np.uint8)
        close = np.zeros_like(hard)
        for s in surfaces:
            along = s.vertices - self._light.toward * (s.vertices[:, 1:2] / self._light.toward[1])
            for target, points, faces in ((hard, along, s.faces), (close, s.vertices, self._near_floor(s))):
                cells = ((points[:, [0, 2]] - self._low) / self._cell * 8).round().astype(np.int32)
                for triangle in cells[faces]:
                    cv2.fillConvexPoly(target, triangle, 255, cv2.LINE_8, 3)
        key = cv2.GaussianBlur(hard, (0, 0), 2.5).astype(np.float32) / 255
        contact = cv2.GaussianBlur(close, (0, 0), 4.0).astype(np.float32) / 255
        light = (1.0 - 0.42 * key) * (1.0 - 0.45 * contact)
        warped = cv2.warpPerspective(light, self._H, self._view_wh, flags=cv2.INTER_LINEAR, borderValue=1.0)
        return np.where(self._floor, warped, 1.0)[..., None]

    @staticmethod
    def _near_floor(s: Surface) -> np.ndarray:
        return s.faces[s.vertices[s.faces][:, :, 1].min(1) < 0.10]
