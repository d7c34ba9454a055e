"""A renderer for very many small pictures: dense meshes lit at their vertices, in single precision.

benchmarks.render lights every pixel and draws the demo clips; here a person costs a fifth of that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from benchmarks.demo_person import Person
from benchmarks.render import Light, Surface, View
from pipeline.body import ShapedBody
from pipeline.frames import Array, normalize

#: In single precision where it counts.
Floats = NDArray[np.floating]
Ints = NDArray[np.int32]
_NEAREST_M = 0.05


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices (V, 3) metres and normals (V, 3) in the world, albedo (V, 3) RGB 0..1, faces (F, 3), gloss 0..1."""

    vertices: Floats
    normals: Floats
    albedo: Floats
    faces: Ints
    gloss: float = 0.06

    @classmethod
    def of(cls, surface: Surface) -> Mesh:
        """A surface of benchmarks.render."""
        colours = surface.colour(surface.attributes)
        v, n, c = (np.asarray(a, np.float32) for a in (surface.vertices, surface.normals, colours))
        return cls(v, n, c, np.asarray(surface.faces, np.int32), surface.gloss)


@dataclass(frozen=True, eq=False)
class Figure:
    """A person ready to be posed and drawn often."""

    person: Person
    shaped: ShapedBody

    @classmethod
    def of(cls, person: Person) -> Figure:
        """From somebody dressed."""
        return cls(person, person.body.shaped(np.zeros(1)))

    @cached_property
    def _weights(self) -> csr_matrix:
        return csr_matrix(self.person.body.weights.astype(np.float32))

    @cached_property
    def _rest(self) -> Floats:
        return np.ascontiguousarray(self.person.drawn, dtype=np.float32)

    @cached_property
    def _albedo(self) -> Floats:
        return self.person.wardrobe.albedo(self.person.attributes).astype(np.float32)

    @cached_property
    def _faces(self) -> Ints:
        return np.ascontiguousarray(self.person.faces, dtype=np.int32)

    @cached_property
    def _around(self) -> csr_matrix:
        """(V, F) which faces meet at a vertex."""
        F = len(self._faces)
        ones = np.ones(3 * F, np.float32)
        return csr_matrix((ones, (self._faces.T.ravel(), np.tile(np.arange(F), 3))), shape=(len(self._rest), F))

    def vertices(self, Rs_world_joint: Array, joints_world: Array) -> Floats:
        """The surface (V, 3) by linear blend skinning, joints turned (24, 3, 3) and at (24, 3)."""
        shift = joints_world - (Rs_world_joint @ self.shaped.joints_rest[..., None])[..., 0]
        moves = np.concatenate([Rs_world_joint, shift[..., None]], -1).reshape(24, 12).astype(np.float32)
        blend = (self._weights @ moves).reshape(-1, 3, 4)
        return np.asarray((blend[..., :3] @ self._rest[..., None])[..., 0] + blend[..., 3], np.float32)

    def mesh(self, vertices: Floats) -> Mesh:
        """What to draw where the vertices are (V, 3)."""
        corners = [vertices[self._faces[:, k]] for k in range(3)]
        normals = self._around @ _cross(corners[1] - corners[0], corners[2] - corners[0])
        return Mesh(vertices, _unit(normals), self._albedo, self._faces)


def _cross(a: Floats, b: Floats) -> Floats:
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], 1)


def _unit(v: Floats) -> Floats:
    return v / np.maximum(np.sqrt(np.einsum("ij,ij->i", v, v)), 1e-12)[:, None]


def _project(view: View, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Columns, rows and depths (V,) of world points (V, 3)."""
    p = points @ view.R_camera_world.T.astype(np.float32) + view.t_camera_world.astype(np.float32)
    z = np.ascontiguousarray(p[:, 2])
    safe, K = np.maximum(z, _NEAREST_M), view.K
    return (p[:, 0] * np.float32(K[0, 0]) / safe + np.float32(K[0, 2]),
            p[:, 1] * np.float32(K[1, 1]) / safe + np.float32(K[1, 2]), z)  # fmt: skip


def window(view: View, low: NDArray[np.int64], high: NDArray[np.int64]) -> View:
    """The part of a view between two pixels (u, v), the second outside."""
    K = view.K.copy()
    K[:2, 2] -= low
    return replace(view, K=K, size_wh=(int(high[0] - low[0]), int(high[1] - low[1])))


def extent(view: View, meshes: list[Mesh], margin: float) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """First and last pixel (u, v), the last outside, of what meshes fill, or None when that is nothing."""
    u, v, z = _project(view, np.concatenate([m.vertices[::5] for m in meshes]))
    before = z > 0.08
    if not before.any():
        return None
    low, high = (np.array([f(u[before]), f(v[before])], dtype=float) for f in (np.min, np.max))
    room = margin * (np.minimum(high, view.size_wh) - np.maximum(low, 0)).max()
    size = np.array(view.size_wh)
    first = np.clip(np.floor(low - room), 0, size).astype(np.int64)
    last = np.clip(np.ceil(high + room) + 1, 0, size).astype(np.int64)
    return (first, last) if (last - first >= 4).all() else None


def paint(image: Floats, near: Floats, meshes: list[Mesh], view: View, light: Light) -> None:
    """Draws meshes over `image` (H, W, 3) RGB 0..1 where they are nearer than `near` (H, W), 1 / metres."""
    shadow = _Shadow(meshes, light)
    flat, depth = image.reshape(-1, 3), near.reshape(-1)
    for m in meshes:
        u, v, z = _project(view, m.vertices)
        corners, cell, weights, closeness = _pixels(u, v, z, m.faces, view.size_wh)
        if not len(cell):
            continue
        np.maximum.at(depth, cell, closeness)
        won = closeness >= depth[cell]
        corners, cell, weights = corners[won], cell[won], weights[won] / closeness[won, None]
        colours = _lit(m, view, light, shadow)
        flat[cell] = sum(weights[:, k, None] * colours[corners[:, k]] for k in range(3))


def _lit(m: Mesh, view: View, light: Light, shadow: _Shadow) -> Floats:
    """Colours (V, 3) of the vertices."""
    eye = _unit(view.place.astype(np.float32) - m.vertices)
    parts = [np.asarray(a, np.float64) for a in (m.albedo, m.normals, eye, shadow.lit(m))]
    return light.shade(parts[0], parts[1], parts[2], parts[3], m.gloss).astype(np.float32)


def _between(a: Floats, b: Floats, c: Floats, size: int) -> tuple[Ints, Ints]:
    """First pixel of three values, and the one after the last, in a picture of that size."""
    low = np.ceil(np.minimum(np.minimum(a, b), c)).clip(0, size)
    high = (np.floor(np.maximum(np.maximum(a, b), c)) + 1).clip(0, size)
    return low.astype(np.int32), np.maximum(high, low).astype(np.int32)


def _pixels(
    u: Floats, v: Floats, z: Floats, faces: Ints, size_wh: tuple[int, int]
) -> tuple[Ints, Ints, Floats, Floats]:
    """Pixels of faces seen from outside: corners (N, 3), pixel (N,), corner weights by 1 / depth (N, 3), their sum."""
    a, b, c = faces.T
    e1u, e1v, e2u, e2v = u[b] - u[a], v[b] - v[a], u[c] - u[a], v[c] - v[a]
    area = e1u * e2v - e1v * e2u
    before = z > _NEAREST_M
    keep = np.flatnonzero((area < -1e-7) & before[a] & before[b] & before[c])
    a, b, c = a[keep], b[keep], c[keep]
    low_u, high_u = _between(u[a], u[b], u[c], size_wh[0])
    low_v, high_v = _between(v[a], v[b], v[c], size_wh[1])
    wide, tall = high_u - low_u, high_v - low_v
    count = wide * tall
    some = np.flatnonzero(count)
    keep, count = keep[some], count[some]
    face = np.repeat(np.arange(len(some), dtype=np.int32), count)
    within = np.arange(len(face), dtype=np.int32) - np.repeat(np.cumsum(count, dtype=np.int32) - count, count)
    across = wide[some][face]
    row = within // across
    column = within - row * across + low_u[some][face]
    row += low_v[some][face]
    of = keep[face]
    du, dv = column.astype(np.float32) - u[faces[of, 0]], row.astype(np.float32) - v[faces[of, 0]]
    w1 = (du * e2v[of] - dv * e2u[of]) / area[of]
    w2 = (e1u[of] * dv - e1v[of] * du) / area[of]
    inside = np.flatnonzero((w1 >= 0) & (w2 >= 0) & (w1 + w2 <= 1))
    w1, w2, corners = w1[inside], w2[inside], faces[of[inside]]
    # Compared later with what a picture in single precision holds
    weights = (np.stack([1 - w1 - w2, w1, w2], 1) / z[corners]).astype(np.float32)
    return corners, row[inside] * np.int32(size_wh[0]) + column[inside], weights, weights.sum(1)


class _Shadow:
    """How deep the light gets, from the vertices of all meshes on a grid across the light."""

    _CELL_M, _BIAS_M = 0.03, 0.05

    def __init__(self, meshes: list[Mesh], light: Light) -> None:
        x = normalize(np.cross([0.0, 1.0, 0.01], light.toward))
        self._R = np.stack([x, np.cross(light.toward, x), light.toward]).astype(np.float32)
        points = np.concatenate([m.vertices for m in meshes]) @ self._R.T
        self._low = points[:, :2].min(0) - 2 * self._CELL_M
        size = ((points[:, :2].max(0) - self._low) / self._CELL_M).astype(int) + 3
        self._size = np.minimum(size, 600)
        top = np.full((self._size[1], self._size[0]), -1e6, np.float32)
        column, row = self._cell(points).T
        np.maximum.at(top.reshape(-1), row * self._size[0] + column, points[:, 2])
        self._top = cv2.dilate(top, np.ones((3, 3), np.uint8))

    def _cell(self, points: Floats) -> NDArray[np.int64]:
        return ((points[:, :2] - self._low) / self._CELL_M).astype(np.int64).clip(0, self._size - 1)

    def lit(self, mesh: Mesh) -> Floats:
        """(V,) share of the light that reaches the vertices."""
        points = (mesh.vertices + 0.01 * mesh.normals) @ self._R.T
        column, row = self._cell(points).T
        total = np.zeros(len(points), np.float32)
        for du, dv in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
            u, v = (column + du).clip(0, self._size[0] - 1), (row + dv).clip(0, self._size[1] - 1)
            total += points[:, 2] + self._BIAS_M > self._top[v, u]
        return total / 4
