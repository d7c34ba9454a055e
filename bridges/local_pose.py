"""Parent-local transforms of one person: what engines that pose a skeleton want instead of joints in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline import frames
from pipeline.frames import Array
from pipeline.messages import PersonMessage
from pipeline.names import JOINT, JOINT_PARENTS

_PARENTS = np.array(JOINT_PARENTS)
_SPINE2, _SPINE3 = JOINT["spine2"], JOINT["spine3"]
_PARENTS_MERGED = np.where(_PARENTS == _SPINE3, _SPINE2, _PARENTS)


def _ancestors() -> list[np.ndarray]:
    """Of each joint the ancestor 1, 2, 4 and 8 joints up; 24 is the world, which is its own."""
    up = np.array([*(24 if parent < 0 else parent for parent in JOINT_PARENTS), 24])
    steps = [up]
    for _ in range(3):
        steps.append(steps[-1][steps[-1]])
    return steps


_ANCESTORS = _ancestors()


@dataclass(frozen=True, eq=False)
class LocalPose:
    """One person in our axes; row 0 is the pelvis, whose parent is the world.

    offsets_m        (24, 3) place of each joint in the axes of its parent, `R_world_parent^T (p - p_parent)`, metres
    quats_xyzw       (24, 4) R_parent_joint, row 0 R_world_root
    Rs_world_joint   (24, 3, 3)
    """

    offsets_m: Array
    quats_xyzw: Array
    Rs_world_joint: Array


def _world_rotations(Rs_local: Array) -> Array:
    """Rs_world_joint (24, 3, 3) of R_world_root and the Rs_parent_joint, by pointer jumping.

    Four products of all joints, each of which doubles the length of the chains, take a third of the time of a product
    for each of eight generations.
    """
    Rs = np.concatenate([Rs_local, np.eye(3)[None]])
    for up in _ANCESTORS:
        Rs = Rs.take(up, 0) @ Rs
    return Rs[:24]


def _product(a: Array, b: Array) -> tuple[float, float, float, float]:
    """The quaternion x y z w of R_a R_b (Hamilton), many times faster for one pair than by way of matrices."""
    ax, ay, az, aw = a.tolist()
    bx, by, bz, bw = b.tolist()
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def local_pose(person: PersonMessage, merge_spine3: bool = False) -> LocalPose:
    """The transforms that give back `joints_world_m` of a message, whatever body model the joints are of.

    `merge_spine3` is for skeletons that end at spine2: spine2 then has the rotation of both and neck and collars hang
    on it; row 9 is of no use. Neck and collars stay where they are, so their offsets bend a little with the spine.
    """
    quats = np.concatenate([person.quat_world_root_xyzw[None], person.quats_parent_joint_xyzw])
    Rs = _world_rotations(frames.from_quat_xyzw(quats))
    if merge_spine3:
        Rs[_SPINE2] = Rs[_SPINE3]
        quats[_SPINE2] = _product(quats[_SPINE2], quats[_SPINE3])
    parents = (_PARENTS_MERGED if merge_spine3 else _PARENTS)[1:]
    joints_m = person.joints_world_m
    offsets = np.empty((24, 3))
    offsets[0] = joints_m[0]
    bones = joints_m[1:] - joints_m.take(parents, 0)
    # a row vector times R is R^T times the column
    offsets[1:] = (bones[:, None] @ Rs.take(parents, 0))[:, 0]
    return LocalPose(offsets, quats, Rs)
