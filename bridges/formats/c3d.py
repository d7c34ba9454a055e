"""C3D: joints as points, millimetres, z up by default: (x, y, z) becomes (x, -z, y). Through ezc3d.

Labels are SMPL's joint names, with `person<id>_` before them when there are several people. A joint that is not there
is a point of residual -1, as the format wants it. X_SCREEN and Y_SCREEN say which axes a viewer shows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bridges.formats.optional import needed
from bridges.motion import Scene
from pipeline.types import JOINT_NAMES

MM = 1000.0


def write(path: Path, scene: Scene) -> None:
    """Writes every take of the scene. Raises ImportError, naming what to install, without ezc3d."""
    ezc3d = needed("ezc3d", "ezc3d")
    labels, blocks = [], []
    for takes in scene.people:
        prefix = f"{scene.label(takes)}_" if len(scene.people) > 1 else ""
        labels += [prefix + name for name in JOINT_NAMES]
        shown = tuple(t.z_up() for t in takes) if scene.up == "z" else takes
        blocks.append(scene.spread(shown, "joints_world_m"))
    points = np.concatenate(blocks, axis=1)
    homogeneous = np.concatenate([points * MM, np.ones((*points.shape[:2], 1))], axis=-1)
    file = ezc3d.c3d()
    file["parameters"]["POINT"]["RATE"]["value"] = [scene.fps]
    file["parameters"]["POINT"]["UNITS"]["value"] = ["mm"]
    file["parameters"]["POINT"]["LABELS"]["value"] = labels
    file.add_parameter("POINT", "X_SCREEN", ["+X"])
    file.add_parameter("POINT", "Y_SCREEN", ["+Z" if scene.up == "z" else "+Y"])
    file["data"]["points"] = homogeneous.transpose(2, 1, 0)
    file["data"]["meta_points"]["residuals"] = np.where(np.isnan(points[..., 0]), -1.0, 0.0).T[None]
    file.write(str(path))
