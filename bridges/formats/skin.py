"""A surface for a motion's skeleton: the body of `pipeline.body`, brought to the joints that the motion has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridges.motion import Motion
from pipeline.body import BodyModel
from pipeline.frames import Array, normalize
from pipeline.types import JOINT_PARENTS

#: Bones of the same body differ by what float32 takes off coordinates of some metres.
_SAME_M = 1e-5
_PARENTS = np.array(JOINT_PARENTS[1:])


@dataclass(frozen=True, eq=False)
class Skin:
    """A surface at rest, pelvis at the origin.

    vertices_m  (V, 3) metres
    normals     (V, 3) unit
    faces       (F, 3) vertex indices, counter-clockwise from outside
    joints      (V, 4) the joints that move a vertex, strongest first; 0 where the weight is 0
    weights     (V, 4) their weights, rows sum to one
    """

    vertices_m: Array
    normals: Array
    faces: np.ndarray
    joints: np.ndarray
    weights: Array


def fits(model: BodyModel, motion: Motion) -> bool:
    """Whether the motion's skeleton is that of `model` with the motion's betas."""
    if model.n_betas != len(motion.betas):
        return False
    return bool(np.abs(model.shaped(motion.betas).offsets - motion.offsets_m[1:]).max() < _SAME_M)


def betas_on(model: BodyModel, motion: Motion) -> Array:
    """The motion's betas where the stream used `model`, else those of the nearest bones; (B,)."""
    return motion.betas if fits(model, motion) else nearest_betas(model, motion.offsets_m)


def skin(model: BodyModel, motion: Motion) -> Skin:
    """The surface of `model` on the motion's skeleton.

    Exact when the stream used that model. For another body, betas are those with the nearest bones (ridge least
    squares), and each vertex then moves with its joints by what is still missing, so joints fit exactly.
    """
    shaped = model.shaped(betas_on(model, motion))
    missing = motion.joints_rest_m - (shaped.joints_rest - shaped.joints_rest[0])
    vertices = shaped.vertices_rest - shaped.joints_rest[0] + model.weights @ missing
    strongest = np.argsort(-model.weights, axis=1, kind="stable")[:, :4]
    weights = np.take_along_axis(model.weights, strongest, axis=1)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return Skin(
        vertices_m=vertices,
        normals=_normals(vertices, model.faces),
        faces=model.faces,
        joints=np.where(weights > 0, strongest, 0),
        weights=weights,
    )


def nearest_betas(model: BodyModel, offsets_m: Array) -> Array:
    """Betas (B,) of the body of `model` whose bones are nearest to `offsets_m` (24, 3); ridge least squares."""
    dirs = (model.joints_dirs[1:] - model.joints_dirs[_PARENTS]).reshape(-1, model.n_betas)
    mean = (model.joints[1:] - model.joints[_PARENTS]).reshape(-1)
    # A centimetre of misfit in every bone weighs as much as one deviation of shape
    square = dirs.T @ dirs + 1e-4 * np.eye(model.n_betas)
    return np.linalg.solve(square, dirs.T @ (offsets_m[1:].reshape(-1) - mean))


def _normals(vertices: Array, faces: np.ndarray) -> Array:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    area = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], area)
    return normalize(normals, [0.0, 1.0, 0.0])
