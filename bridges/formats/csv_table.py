"""CSV: a row a frame, a header that names every column with its unit.

`frame`, `time_s`, then for each person `<joint>_x_m ..`, `<joint>_qx ..` and `<joint>_confidence`. Places are in the
world, so is the pelvis' rotation; the other rotations are relative to the parent joint. With more than one person in
the file their columns start with `person<id>_`; cells are empty while a person is not there.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bridges.motion import Motion, Scene
from pipeline.types import JOINT_NAMES


def write(path: Path, scene: Scene) -> None:
    """Writes every take of the scene."""
    people = [tuple(t.z_up() for t in takes) if scene.up == "z" else takes for takes in scene.people]
    header, blocks = ["frame", "time_s"], []
    for takes in people:
        prefix = f"{scene.label(takes)}_" if len(people) > 1 else ""
        header += [prefix + name for name in _names()]
        blocks.append(_block(scene, takes))
    table = np.concatenate(blocks, axis=1)
    with open(path, "w", encoding="ascii", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row, values in enumerate(table):
            time_s = f"{(row + scene.first) / scene.fps:.6f}"
            writer.writerow([row, time_s, *("" if np.isnan(v) else f"{v:.6f}" for v in values)])


def _names() -> list[str]:
    places = [f"{joint}_{axis}_m" for joint in JOINT_NAMES for axis in "xyz"]
    turns = [f"{joint}_q{axis}" for joint in JOINT_NAMES for axis in "xyzw"]
    return [*places, *turns, *(f"{joint}_confidence" for joint in JOINT_NAMES)]


def _block(scene: Scene, takes: tuple[Motion, ...]) -> np.ndarray:
    names = ("joints_world_m", "quats_xyzw", "confidence")
    return np.concatenate([scene.spread(takes, name).reshape(scene.count, -1) for name in names], axis=1)
