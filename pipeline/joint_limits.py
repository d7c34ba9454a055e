"""Knees and elbows bend one way: shins and forearms that landmarks have bent the other way are straightened."""

from __future__ import annotations

import numpy as np

from pipeline.frames import Array, exp_so3, log_so3
from pipeline.types import JOINT, JOINT_PARENTS

#: Smallest and largest rotation vectors of a joint in its parent's axes, degrees: a knee bends about +x, a left elbow
#: about -y and a right one about +y. What an elbow turns about x is the forearm's roll, which mixes into z when bent.
_LIMITS_DEG: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "left_knee": ((-5.0, -35.0, -25.0), (160.0, 35.0, 25.0)),
    "right_knee": ((-5.0, -35.0, -25.0), (160.0, 35.0, 25.0)),
    "left_elbow": ((-110.0, -160.0, -75.0), (110.0, 8.0, 75.0)),
    "right_elbow": ((-110.0, -8.0, -75.0), (110.0, 160.0, 75.0)),
}
_HINGES = np.array([JOINT[name] for name in _LIMITS_DEG])
_PARENTS = np.array([JOINT_PARENTS[j] for j in _HINGES])
_LOW, _HIGH = (np.radians([limits[k] for limits in _LIMITS_DEG.values()]) for k in (0, 1))


def within_limits(Rs_frame_joint: Array) -> Array:
    """Rotations (P, 24, 3, 3) whose shins and forearms keep to what knees and elbows can do.

    Hands and feet stay as they are; the input is returned when all is within the limits, else a copy.
    """
    above = Rs_frame_joint[:, _PARENTS]
    turns = log_so3(np.swapaxes(above, -1, -2) @ Rs_frame_joint[:, _HINGES])
    kept = np.minimum(np.maximum(turns, _LOW), _HIGH)
    if np.array_equal(kept, turns):
        return Rs_frame_joint
    Rs = Rs_frame_joint.copy()
    Rs[:, _HINGES] = above @ exp_so3(kept)
    return Rs
