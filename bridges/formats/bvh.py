"""BVH: one person a file, y up, facing +z, centimetres, degrees, channels Z X Y (R = Rz Rx Ry).

The rest pose is the T-pose, so all angles are zero in it. The root has position and rotation, every other joint only
rotation. Leaves end in an `End Site`, which gives importers a bone for head, hands and toes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from bridges.motion import Scene
from pipeline.frames import Array
from pipeline.types import JOINT, JOINT_NAMES, JOINT_PARENTS

CM = 100.0
#: Tips of the leaf bones as a multiple of the bone that leads to them; a head is longer than its neck.
_TIPS = {"head": 1.6, "left_foot": 0.5, "right_foot": 0.5, "left_hand": 1.0, "right_hand": 1.0}


def write(path: Path, scene: Scene) -> None:
    """Writes the scene's only take."""
    (motion,) = scene.takes
    angles = euler_zxy_deg(motion.Rs_parent_joint)
    values = np.concatenate([motion.t_world_root_m * CM, angles.reshape(len(motion), -1)], axis=1)
    order = [0, 1, 2, *(3 + 3 * joint + axis for joint in _depth_first(0) for axis in range(3))]
    with open(path, "w", encoding="ascii", newline="\n") as file:
        file.write("HIERARCHY\n")
        file.writelines(_joint(0, motion.offsets_m, 0))
        file.write(f"MOTION\nFrames: {len(motion)}\nFrame Time: {1.0 / scene.fps:.10f}\n")
        np.savetxt(file, values[:, order], fmt="%.6f")


def euler_zxy_deg(Rs: Array) -> Array:
    """Angles (T, J, 3) in degrees, order Z X Y, of rotations (T, J, 3, 3): R = Rz Rx Ry.

    Of the two triples that make a rotation (and whole turns) the one nearest to the frame before, so that curves
    are smooth.
    """
    with np.errstate(all="ignore"):
        first = Rotation.from_matrix(Rs.reshape(-1, 3, 3)).as_euler("ZXY", degrees=True, suppress_warnings=True)
    first = first.reshape(*Rs.shape[:2], 3)
    other = np.stack([first[..., 0] + 180.0, 180.0 - first[..., 1], first[..., 2] + 180.0], axis=-1)
    angles = first.copy()
    for frame in range(1, len(angles)):
        near = [_near(triple[frame], angles[frame - 1]) for triple in (first, other)]
        costs = [np.abs(triple - angles[frame - 1]).sum(axis=-1, keepdims=True) for triple in near]
        angles[frame] = np.where(costs[0] <= costs[1], *near)
    return angles


def tip_m(offsets_m: Array, joint: int) -> Array:
    """(3,) from a leaf joint to the end of its bone at rest, metres."""
    name = JOINT_NAMES[joint]
    length = _TIPS[name] * float(np.linalg.norm(offsets_m[joint]))
    direction = {"head": [0.0, 1.0, 0.0]}.get(name, offsets_m[joint])
    return np.asarray(direction) / max(float(np.linalg.norm(direction)), 1e-9) * length


def _near(angles: Array, before: Array) -> Array:
    return angles + 360.0 * np.round((before - angles) / 360.0)


def _children(joint: int) -> list[int]:
    return [child for child, parent in enumerate(JOINT_PARENTS) if parent == joint]


def _depth_first(joint: int) -> list[int]:
    return [joint, *(each for child in _children(joint) for each in _depth_first(child))]


def _joint(joint: int, offsets_m: Array, depth: int) -> Iterator[str]:
    pad = "\t" * depth
    kind = "ROOT" if joint == JOINT["pelvis"] else "JOINT"
    yield f"{pad}{kind} {JOINT_NAMES[joint]}\n{pad}{{\n{pad}\tOFFSET {_numbers(offsets_m[joint])}\n"
    places = "6 Xposition Yposition Zposition" if depth == 0 else "3"
    yield f"{pad}\tCHANNELS {places} Zrotation Xrotation Yrotation\n"
    for child in _children(joint):
        yield from _joint(child, offsets_m, depth + 1)
    if not _children(joint):
        yield f"{pad}\tEnd Site\n{pad}\t{{\n{pad}\t\tOFFSET {_numbers(tip_m(offsets_m, joint))}\n{pad}\t}}\n"
    yield f"{pad}}}\n"


def _numbers(vector_m: Array) -> str:
    return " ".join(f"{value:.6f}" for value in vector_m * CM)
