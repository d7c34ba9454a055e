"""How sure a body's place, orientation and velocity are, from the spreads that the stream publishes.

With r from the camera to the pelvis, d the camera's optical axis, z the depth along it, y up, all in the world; H =
diag(1, 0, 1) the two horizontal axes about which the vertical may be wrong; c the pelvis' confidence::

    C_place = (z s_focal)^2 d d^T       a longer focal length moves what is seen along the optical axis, in proportion
            + s_size^2 r r^T            a larger body that looks the same stands farther away along its ray
            + s_height^2 y y^T          the floor
            + (s_joint / c)^2 I         the landmarks
            + s_gravity^2 J H J^T       a vertical that is wrong by w turns the world about the camera: w x r = -[r]x w
    C_turn  = (s_turn / c)^2 I + s_gravity^2 H             and between place and turn: s_gravity^2 J H, J = -[r]x
    C_speed = (s_focal v_d)^2 d d^T + s_size^2 v v^T + s_gravity^2 [v]x H [v]x^T + (s_speed / c)^2 I

s_focal, s_gravity and s_height are the calibration's; one that is unknown is taken wider than any that the stream
states, and an unknown height is none, because the origin is then at the camera. The causes are taken as independent;
the height was found with the same focal length and vertical, so vertical variances are rather too large.
"""

from __future__ import annotations

import numpy as np

from bridges.axes import ros_points
from pipeline.frames import Array
from pipeline.messages import Calibration, PersonMessage

#: Deviation of adults' stature about their common mean, relative: 9 cm of 170.
SIZE_SPREAD = 0.054
#: Median distance of the hips' landmarks from their places (docs/landmarks.md), metres.
JOINT_SPREAD_M = 0.028
#: Not measured on clips: guesses for the root's orientation (8.6 degrees) and its filtered velocity.
TURN_SPREAD_RAD = 0.15
SPEED_SPREAD_M_S = 0.1
UNKNOWN_FOCAL_SPREAD, UNKNOWN_GRAVITY_SPREAD_RAD = 0.5, 0.35
#: Stands for "not measured" in a diagonal, as robot_localization and others understand it.
UNKNOWN_VARIANCE = 1e6
_LEAST_CONFIDENCE = 0.05
_HORIZONTAL: Array = np.diag([1.0, 0.0, 1.0])
_UP: Array = np.diag([0.0, 1.0, 0.0])


def pose_covariance(person: PersonMessage, calibration: Calibration, R_world_camera: Array) -> Array:
    """(6, 6) of place (metres) and turn about the world's axes (radians), in REP-103's x y z order."""
    c = max(float(person.confidence[0]), _LEAST_CONFIDENCE)
    depth = float(person.t_camera_root_m[2])
    axis = R_world_camera[:, 2]
    r = R_world_camera @ person.t_camera_root_m
    J = np.vstack([-_cross_matrix(r), np.eye(3)])
    C = _gravity(calibration) ** 2 * J @ _HORIZONTAL @ J.T
    C[:3, :3] += (depth * _focal(calibration)) ** 2 * np.outer(axis, axis) + SIZE_SPREAD**2 * np.outer(r, r)
    C[:3, :3] += (calibration.height_spread_m or 0.0) ** 2 * _UP + (JOINT_SPREAD_M / c) ** 2 * np.eye(3)
    C[3:, 3:] += (TURN_SPREAD_RAD / c) ** 2 * np.eye(3)
    return _in_ros_axes(C)


def twist_covariance(person: PersonMessage, calibration: Calibration, R_world_camera: Array) -> Array:
    """(6, 6) of linear (metres a second) and angular velocity, in REP-103's x y z order; the latter is not measured."""
    c = max(float(person.confidence[0]), _LEAST_CONFIDENCE)
    v, axis = person.velocity_world_m_s, R_world_camera[:, 2]
    across = _cross_matrix(v)
    C = np.zeros((6, 6))
    C[:3, :3] = (_focal(calibration) * (axis @ v)) ** 2 * np.outer(axis, axis) + SIZE_SPREAD**2 * np.outer(v, v)
    C[:3, :3] += _gravity(calibration) ** 2 * across @ _HORIZONTAL @ across.T + (SPEED_SPREAD_M_S / c) ** 2 * np.eye(3)
    C[3:, 3:] = UNKNOWN_VARIANCE * np.eye(3)
    return _in_ros_axes(C)


def _focal(calibration: Calibration) -> float:
    return UNKNOWN_FOCAL_SPREAD if calibration.focal_spread is None else calibration.focal_spread


def _gravity(calibration: Calibration) -> float:
    return UNKNOWN_GRAVITY_SPREAD_RAD if calibration.gravity_spread_rad is None else calibration.gravity_spread_rad


def _cross_matrix(vector: Array) -> Array:
    x, y, z = vector.tolist()
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _in_ros_axes(C: Array) -> Array:
    order = ros_points(np.arange(3)).astype(int)
    both = np.concatenate([order, order + 3])
    return C[np.ix_(both, both)]
