"""A body with fewer triangles, for browsers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.body import BodyModel
from pipeline.types import JOINT


@dataclass(frozen=True, eq=False)
class Skin:
    """A part of a body model's vertices with faces of their own.

    kept     (V,) indices of the model's vertices
    faces    (F, 3) indices into `kept`, counter-clockwise from outside
    weights  (V, 24)
    """

    kept: NDArray[np.int64]
    faces: NDArray[np.int64]
    weights: NDArray[np.float64]


#: Sides of a grid's cells: faces and fingers need smaller ones.
CELL_M, FINE_CELL_M = 0.022, 0.011
_FINE = [JOINT[name] for name in ("head", "left_wrist", "right_wrist", "left_hand", "right_hand")]


def coarse(model: BodyModel) -> Skin:
    """One vertex for each cell of a grid and joint that moves it, the one nearest the middle of its cell's vertices.

    Vertex clustering (Rossignac and Borrel, 1993); the joint keeps limbs apart that touch at rest.
    """
    joint = model.weights.argmax(1)
    cell_m = np.where(np.isin(joint, _FINE), FINE_CELL_M, CELL_M)
    keys = np.column_stack([np.floor(model.vertices / cell_m[:, None]), joint])
    _, cluster, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    middle = np.zeros((len(count), 3))
    np.add.at(middle, cluster, model.vertices)
    away = np.linalg.norm(model.vertices - (middle / count[:, None])[cluster], axis=1)
    order = np.lexsort((away, cluster))
    kept = order[np.flatnonzero(np.diff(cluster[order], prepend=-1))]
    faces = cluster[model.faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (a != c)]
    # the smallest index first, so that faces that have become equal are
    turned = np.take_along_axis(faces, (faces.argmin(1)[:, None] + np.arange(3)) % 3, axis=1)
    return Skin(kept, np.unique(turned, axis=0), model.weights[kept])
