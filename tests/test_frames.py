"""SO(3) and the frames: axioms, the hard places near 0 and pi, and the signs that users trip over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline import frames
from pipeline.frames import exp_so3, log_so3

unit = st.floats(-1.0, 1.0).map(lambda x: x if abs(x) > 1e-3 else 0.5)
vectors = arrays(np.float64, 3, elements=st.floats(-1.0, 1.0)).filter(lambda v: np.linalg.norm(v) > 1e-2)
angles = st.one_of(
    st.floats(0.0, np.pi), st.sampled_from([0.0, 1e-12, 1e-8, 1e-5, np.pi - 1e-5, np.pi - 1e-8, np.pi - 1e-12])
)


@given(vectors, angles)
def test_log_inverts_exp_also_near_zero_and_pi(axis, angle):
    v = axis / np.linalg.norm(axis) * angle
    R = exp_so3(v)
    assert np.allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.isclose(np.linalg.det(R), 1.0)
    assert np.isclose(np.linalg.norm(log_so3(R)), angle, atol=1e-7)
    assert np.allclose(exp_so3(log_so3(R)), R, atol=1e-7)


@given(vectors, vectors)
def test_group_axioms(a, b):
    A, B = exp_so3(a), exp_so3(b)
    assert np.allclose(exp_so3(-a), A.T, atol=1e-12)
    assert np.isclose(frames.angle_between(A, B), frames.angle_between(B, A), atol=1e-9)
    assert np.isclose(frames.angle_between(A, A @ exp_so3(b)), np.linalg.norm(b), atol=1e-7)


@given(vectors, angles)
def test_quaternions_are_xyzw_and_round_trip(axis, angle):
    n = axis / np.linalg.norm(axis)
    q = frames.quat_xyzw(exp_so3(n * angle))
    assert np.isclose(q[3], np.cos(angle / 2), atol=1e-9)
    assert np.allclose(frames.from_quat_xyzw(q), exp_so3(n * angle), atol=1e-9)


@given(vectors, vectors)
def test_shortest_rotation_takes_a_to_b_by_their_angle(a, b):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    R = frames.shortest_rotation(a, b)
    assert np.allclose(R @ a, b, atol=1e-6)
    assert np.allclose(R @ R.T, np.eye(3), atol=1e-6)
    angle = np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)
    assert np.isclose(frames.angle_between(R, np.eye(3)), angle, atol=1e-5)


@given(vectors)
def test_shortest_rotation_of_opposite_vectors_is_a_half_turn(a):
    a = a / np.linalg.norm(a)
    R = frames.shortest_rotation(a, -a)
    assert np.allclose(R @ a, -a, atol=1e-9)
    assert np.isclose(np.linalg.det(R), 1.0)


@given(vectors, vectors, st.permutations("xyz"))
def test_basis_from_keeps_the_primary_and_stays_right_handed(primary, secondary, order):
    R = frames.basis_from(primary, secondary, "".join(order[:2]))
    assert np.allclose(R.T @ R, np.eye(3), atol=1e-7)
    assert np.isclose(np.linalg.det(R), 1.0)
    assert np.allclose(R[:, "xyz".index(order[0])], primary / np.linalg.norm(primary))
    assert R[:, "xyz".index(order[1])] @ secondary >= -1e-9


@given(arrays(np.float64, (3, 3), elements=st.floats(-1, 1)))
def test_nearest_rotation_is_one(M):
    R = frames.nearest_rotation(M)
    assert np.allclose(R @ R.T, np.eye(3), atol=1e-9)
    assert np.isclose(np.linalg.det(R), 1.0)


def test_level_camera_sees_the_world_by_a_half_turn():
    R = frames.R_world_camera_from_up([0.0, -1.0, 0.0])
    assert np.allclose(R, frames.R_WORLD_LEVEL_CAMERA)
    in_front, to_the_right = R @ [0, 0, 1], R @ [1, 0, 0]
    assert np.allclose(in_front, [0, 0, -1])
    assert np.allclose(to_the_right, [1, 0, 0])


@given(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2))
def test_pitch_and_roll_round_trip_and_world_stays_level(pitch, roll):
    up = frames.up_from_pitch_roll(pitch, roll)
    assert np.allclose(frames.pitch_roll_rad(up), (pitch, roll), atol=1e-9)
    R = frames.R_world_camera_from_up(up)
    assert np.allclose(R @ up, [0, 1, 0], atol=1e-9)
    forward = R @ [0, 0, 1]
    assert np.isclose(forward[1], -np.sin(pitch), atol=1e-9)
    assert abs(forward[0]) < 1e-9
    assert forward[2] < 0


@pytest.mark.parametrize(("up", "edge"), [([0, 0, -1], [0, -1, 0]), ([0, 0, 1], [0, 1, 0])])
def test_a_camera_that_looks_straight_down_or_up_takes_its_heading_from_the_picture(up, edge):
    R = frames.R_world_camera_from_up(up)
    assert np.allclose(R @ np.array(up), [0, 1, 0])
    assert np.allclose(R @ np.array(edge), [0, 0, -1])


def test_positive_pitch_looks_down_and_positive_roll_leans_the_scene_to_the_right():
    assert frames.up_from_pitch_roll(0.3, 0.0)[2] < 0
    assert frames.up_from_pitch_roll(0.0, 0.3)[0] > 0


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.3, 20), st.floats(200, 4000))
def test_unproject_inverts_project(x, y, z, f):
    K = np.array([[f, 0.0, 640.0], [0.0, 1.1 * f, 360.0], [0.0, 0.0, 1.0]])
    ray = frames.unproject(frames.project([x, y, z], K), K)
    assert np.allclose(ray * z, [x, y, z], atol=1e-6)


def test_a_point_behind_the_camera_has_no_picture():
    assert np.isnan(frames.project([0.0, 0.0, -1.0], np.eye(3))).all()


def test_rescaled_camera_sees_the_same_rays():
    from tests.support.synthetic import camera

    small, large = camera(size_wh=(640, 360)), camera(size_wh=(640, 360)).for_size((1920, 1080))
    corner_small, corner_large = np.array([-0.5, -0.5]), np.array([-0.5, -0.5])
    assert np.allclose(frames.unproject(corner_small, small.K), frames.unproject(corner_large, large.K))
    assert np.allclose(frames.unproject([639.5, 359.5], small.K), frames.unproject([1919.5, 1079.5], large.K))
    with pytest.raises(ValueError, match="another aspect ratio"):
        small.for_size((640, 480))
