"""Our world in other people's axes: Unity and VMC, Unreal, ROS (REP-103).

Ours is right-handed, metres, y up, x the camera's right, z toward the camera (`pipeline.frames`). With M the signed
permutation that takes our axes to the other's, and s its unit of length::

    p' = s M p          R' = M R M^-1          q'_xyz = det(M) M q_xyz,  q'_w = q_w

so a mirror (det M = -1: Unity, Unreal) turns the sense of each rotation round and the formula that turns a vector by a
quaternion stays the same. The same M holds for a world, for a bone's axes and for parent-relative transforms, and no
mapping exchanges left and right: a raised left arm is a raised left arm everywhere.

==========  =====  ==  =======  ============  =========================================
axes        hand   up  forward  metres times  a person with the identity as root
==========  =====  ==  =======  ============  =========================================
ours        right  y   z        1             faces +z (the camera), left hand at +x
Unity, VMC  left   y   z        1             faces +z, left hand at -x
Unreal      left   z   y        100           faces +y (as its mannequin), left at +x
ROS         right  z   x        1             faces +x, left hand at +y
==========  =====  ==  =======  ============  =========================================
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.frames import Array

CM_PER_M = 100.0


def unity_points(points: ArrayLike) -> Array:
    """Unity's and VMC's points (..., 3), metres, of ours (..., 3), metres: (x, y, z) -> (-x, y, z)."""
    p = np.asarray(points, dtype=np.float64)
    return p * (-1.0, 1.0, 1.0)


def unity_quats(quats: ArrayLike) -> Array:
    """Unity's and VMC's quaternions (..., 4) of ours, both x y z w: (x, y, z, w) -> (x, -y, -z, w)."""
    q = np.asarray(quats, dtype=np.float64)
    return q * (1.0, -1.0, -1.0, 1.0)


def unreal_points(points: ArrayLike) -> Array:
    """Unreal's points (..., 3), centimetres, of ours (..., 3), metres: (x, y, z) -> 100 (x, z, y)."""
    p = np.asarray(points, dtype=np.float64)
    return p[..., (0, 2, 1)] * CM_PER_M


def unreal_quats(quats: ArrayLike) -> Array:
    """Unreal's quaternions (..., 4) of ours, both x y z w: (x, y, z, w) -> (-x, -z, -y, w)."""
    q = np.asarray(quats, dtype=np.float64)
    return q[..., (0, 2, 1, 3)] * (-1.0, -1.0, -1.0, 1.0)


def ros_points(points: ArrayLike) -> Array:
    """REP-103's points (..., 3), metres, of ours (..., 3), metres: (x, y, z) -> (z, x, y)."""
    p = np.asarray(points, dtype=np.float64)
    return p[..., (2, 0, 1)]


def ros_quats(quats: ArrayLike) -> Array:
    """REP-103's quaternions (..., 4) of ours, both x y z w: (x, y, z, w) -> (z, x, y, w).

    Turns what the quaternion turns: the root's axes too become x forward, y left, z up.
    """
    q = np.asarray(quats, dtype=np.float64)
    return q[..., (2, 0, 1, 3)]
