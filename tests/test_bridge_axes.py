"""Axes of other tools against what their manuals say, not against our formulas: basis, yaw, a raised left arm."""

from __future__ import annotations

import numpy as np
import pytest

from bridges import axes
from pipeline import frames

RIGHT, UP, TOWARD = np.eye(3)
#: For each tool: points, quaternions, unit, handedness, and where our right, up and toward the camera lie in it.
TOOLS = {
    "unity": (axes.unity_points, axes.unity_quats, 1.0, -1, [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "unreal": (axes.unreal_points, axes.unreal_quats, 100.0, -1, [[1, 0, 0], [0, 0, 1], [0, 1, 0]]),
    "ros": (axes.ros_points, axes.ros_quats, 1.0, 1, [[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
}
#: Forward, left and up of a character with no rotation, by each tool's manual.
CHARACTER = {
    "unity": ([0, 0, 1], [-1, 0, 0], [0, 1, 0]),
    "unreal": ([0, 1, 0], [1, 0, 0], [0, 0, 1]),
    "ros": ([1, 0, 0], [0, 1, 0], [0, 0, 1]),
}
HALF = np.sqrt(0.5)


def turned(quat, vector):
    """`vector` by a quaternion x y z w, as Unity, Unreal and tf2 write it: v + 2 w (u x v) + 2 u x (u x v)."""
    u, w = np.asarray(quat)[:3], quat[3]
    v = np.asarray(vector, dtype=float)
    return v + 2 * w * np.cross(u, v) + 2 * np.cross(u, np.cross(u, v))


@pytest.mark.parametrize("tool", TOOLS)
def test_basis_vectors_handedness_and_unit(tool):
    points, _, unit, hand, basis = TOOLS[tool]
    images = points(np.eye(3))
    np.testing.assert_array_equal(images, np.array(basis) * unit)
    assert np.isclose(np.linalg.det(images / unit), hand)
    np.testing.assert_array_equal(points([0.5, 1.5, -3.0]), 0.5 * images[0] + 1.5 * images[1] - 3.0 * images[2])


@pytest.mark.parametrize("tool", TOOLS)
def test_a_character_without_rotation_faces_where_the_tool_says(tool):
    points, quats, unit, _, _ = TOOLS[tool]
    forward, left, up = CHARACTER[tool]
    np.testing.assert_array_equal(quats([0.0, 0.0, 0.0, 1.0]) * [1, 1, 1, 1], [0, 0, 0, 1])
    np.testing.assert_array_equal(points(np.stack([TOWARD, RIGHT, UP])) / unit, [forward, left, up])


@pytest.mark.parametrize(
    ("tool", "quat"), [("unity", [0, -HALF, 0, HALF]), ("unreal", [0, 0, -HALF, HALF]), ("ros", [0, 0, HALF, HALF])]
)
def test_a_quarter_turn_to_the_left(tool, quat):
    # about our up from the camera to the camera's right: the person's own left
    ours = frames.quat_xyzw(frames.exp_so3([0, np.pi / 2, 0]))
    theirs = TOOLS[tool][1](ours)
    np.testing.assert_allclose(theirs, quat, atol=1e-15)
    forward, left, _ = CHARACTER[tool]
    np.testing.assert_allclose(turned(theirs, forward), left, atol=1e-12)


@pytest.mark.parametrize(
    ("tool", "quat", "wrist"),
    [
        ("unity", [0, 0, -HALF, HALF], [-0.2, 2.0, -3.0]),
        ("unreal", [0, -HALF, 0, HALF], [20, -300, 200]),
        ("ros", [HALF, 0, 0, HALF], [-3.0, 0.2, 2.0]),
    ],
)
def test_a_raised_left_arm_stays_left_and_up(tool, quat, wrist):
    points, quats, *_ = TOOLS[tool]
    raise_arm = frames.quat_xyzw(frames.exp_so3([0, 0, np.pi / 2]))
    np.testing.assert_allclose(quats(raise_arm), quat, atol=1e-15)
    _, left, up = CHARACTER[tool]
    np.testing.assert_allclose(turned(quats(raise_arm), left), up, atol=1e-12)
    np.testing.assert_allclose(points([0.2, 2.0, -3.0]), wrist, atol=1e-12)


@pytest.mark.parametrize("tool", TOOLS)
def test_turning_then_converting_is_converting_then_turning(tool):
    points, quats, *_ = TOOLS[tool]
    random = np.random.default_rng(5)
    Rs = frames.exp_so3(random.normal(size=(4, 6, 3)))
    vectors = random.normal(size=(4, 6, 3))
    theirs, converted = quats(frames.quat_xyzw(Rs)), points(vectors)
    assert theirs.shape == (4, 6, 4)
    turned_ours = points((Rs @ vectors[..., None])[..., 0])
    for i in np.ndindex(4, 6):
        np.testing.assert_allclose(turned(theirs[i], converted[i]), turned_ours[i], atol=1e-11)
