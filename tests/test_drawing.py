"""What is drawn lies where the calibration says."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawing import FLOOR, HORIZON, LEFT, RIGHT, Image, draw, drawing_size
from pipeline.drawing_geometry import clip_near, clip_to_picture, floor_grid, horizon_camera, pixels
from pipeline.frames import Array, R_world_camera_from_up, exp_so3, up_from_pitch_roll
from pipeline.types import (
    JOINT,
    BodyPose,
    CalibrationStatus,
    CameraCalibration,
    FrameResult,
    Person,
    WorldPose,
)

#: A rough T-pose: metres from the pelvis, y up, left at +x, in SMPL's order.
BODY = np.array([
    [0, 0, 0], [0.06, -0.09, 0], [-0.06, -0.09, 0], [0, 0.11, 0], [0.11, -0.48, 0], [-0.11, -0.48, 0], [0, 0.24, 0],
    [0.09, -0.9, 0], [-0.09, -0.9, 0], [0, 0.3, 0], [0.11, -0.95, 0.1], [-0.11, -0.95, 0.1], [0, 0.5, 0],
    [0.08, 0.42, 0], [-0.08, 0.42, 0], [0, 0.62, 0], [0.19, 0.43, 0], [-0.19, 0.43, 0], [0.45, 0.43, 0],
    [-0.45, 0.43, 0], [0.7, 0.43, 0], [-0.7, 0.43, 0], [0.78, 0.43, 0], [-0.78, 0.43, 0],
])  # fmt: skip


def camera(size_wh: tuple[int, int] = (640, 480), **changes: object) -> CameraCalibration:
    focal_px = 0.9 * size_wh[0]
    K = np.array([[focal_px, 0, (size_wh[0] - 1) / 2], [0, focal_px, (size_wh[1] - 1) / 2], [0, 0, 1]])
    one = CameraCalibration(
        "cam", size_wh, K, np.zeros(5), R_world_camera_from_up(up_from_pitch_roll(0.2, 0.0)), 1.7, 0.03, 0.01, 0.05,
        CalibrationStatus.CALIBRATED, 40, "landmark 1",
    )  # fmt: skip
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def person(calibration: CameraCalibration, z: float = -4.0, yaw: float = 0.0, predicted: bool = False) -> Person:
    R_world_root = exp_so3([0.0, yaw, 0.0])
    joints_world = BODY @ R_world_root.T + [0.0, 1.0, z]
    R_camera_world = calibration.R_world_camera.T
    joints_camera = (joints_world - calibration.t_world_camera) @ R_camera_world.T
    local, betas, sure = np.tile(np.eye(3), (23, 1, 1)), np.zeros(10), np.ones(24)
    with np.errstate(invalid="ignore"):
        seen = np.nan_to_num(pixels(joints_camera, calibration))
    return Person(
        7, np.concatenate([seen.min(axis=0), seen.max(axis=0)]), 0.9,
        BodyPose(R_camera_world @ R_world_root, joints_camera[0], local, betas, joints_camera, sure),
        WorldPose(R_world_root, joints_world[0], local, betas, joints_world, sure), predicted,
    )  # fmt: skip


def result(calibration: CameraCalibration, *people: Person) -> FrameResult:
    return FrameResult("cam", 0, 0, 0, 0, calibration.size_wh, 0, {}, calibration, people)


def plain(size_wh: tuple[int, int], grey: int = 60) -> Image:
    return np.full((size_wh[1], size_wh[0], 3), grey, np.uint8)


def nearest(image: Image, colour: tuple[int, int, int], tolerance: int = 6) -> Array:
    """Pixels (N, 2) u, v of this colour."""
    v, u = np.nonzero((np.abs(image.astype(int) - colour) <= tolerance).all(axis=2))
    return np.stack([u, v], axis=1).astype(np.float64)


def test_the_picture_itself_is_left_alone() -> None:
    calibration = camera()
    image = plain((640, 480))
    image.flags.writeable = False
    drawn = draw(image, result(calibration, person(calibration)), age_ms=40.0, fps=30.0)
    assert (image == 60).all()
    assert drawn.shape == image.shape
    assert not np.shares_memory(drawn, image)
    again = draw(image, result(calibration, person(calibration)), age_ms=40.0, fps=30.0)
    np.testing.assert_array_equal(drawn, again)


def test_left_and_right_are_where_the_joints_are() -> None:
    calibration = camera()
    one = person(calibration)
    drawn = draw(plain((640, 480)), result(calibration, one))
    seen = pixels(one.camera.joints_camera_m, calibration)
    for side, colour in (("left", LEFT), ("right", RIGHT)):
        coloured = nearest(drawn, colour)
        for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"):
            distance = np.linalg.norm(coloured - seen[JOINT[f"{side}_{joint}"]], axis=1).min()
            assert distance <= 1.0, (side, joint)
    # who faces the camera has the left hand on the picture's right
    assert nearest(drawn, LEFT)[:, 0].mean() > nearest(drawn, RIGHT)[:, 0].mean()


def test_a_predicted_person_is_dashed() -> None:
    calibration = camera((1280, 720))
    image = plain((1280, 720))
    seen, predicted = (
        len(nearest(draw(image, result(calibration, person(calibration, predicted=p))), LEFT)) for p in (False, True)
    )
    assert 0 < predicted < 0.7 * seen


def test_the_horizon_is_level_with_the_camera() -> None:
    """Far away, whatever is at the camera's own height is on the horizon."""
    calibration = camera(R_world_camera=R_world_camera_from_up(up_from_pitch_roll(0.15, 0.1)), camera_height_m=None)
    drawn = draw(plain((640, 480)), result(calibration))
    coloured = nearest(drawn, HORIZON, 40)
    assert np.ptp(coloured[:, 0]) > 500
    far_world = np.array([[x, 0.0, -1e6] for x in (-3e5, 0.0, 3e5)])
    for point in pixels(far_world @ calibration.R_world_camera, calibration):
        assert np.linalg.norm(coloured - point, axis=1).min() <= 1.5


def test_no_horizon_when_looking_straight_down() -> None:
    straight = camera(R_world_camera=R_world_camera_from_up([0.0, 0.0, -1.0]))
    assert horizon_camera(straight) is None
    assert draw(plain((640, 480)), result(straight)).shape == (480, 640, 3)


def test_the_grid_lies_on_the_floor_in_metres() -> None:
    calibration = camera()
    pieces, strengths, side_m = floor_grid(calibration)
    world = pieces @ calibration.R_world_camera.T + calibration.t_world_camera
    np.testing.assert_allclose(world[..., 1], 0.0, atol=1e-9)
    np.testing.assert_allclose(world, np.round(world), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(world[:, 1] - world[:, 0], axis=1), side_m)
    assert side_m == 1.0
    distance = np.linalg.norm(world.mean(axis=1)[:, [0, 2]], axis=1)
    assert np.corrcoef(distance, strengths)[0, 1] < -0.99
    assert floor_grid(camera(camera_height_m=12.0))[2] == 5.0


def test_the_grid_is_drawn_below_the_horizon_only() -> None:
    calibration = camera(camera_height_m=1.7)
    bare = camera(camera_height_m=None)
    image = plain((640, 480))
    with_grid, without = (draw(image, result(c)).astype(int) for c in (calibration, bare))
    changed = np.abs(with_grid - without).max(axis=2) > 8
    # the panel says the height, so leave its corner out
    changed[:160, :200] = False
    rows = np.nonzero(changed)[0]
    horizon_row = pixels(np.array([0.0, 0.0, -1e6]) @ calibration.R_world_camera, calibration)[1]
    assert len(rows) > 500
    assert rows.min() >= horizon_row - 1
    metre_ahead = np.array([[-1.0, 0.0, -3.0], [1.0, 0.0, -4.0]]) - calibration.t_world_camera
    for u, v in np.round(pixels(metre_ahead @ calibration.R_world_camera, calibration)).astype(int):
        assert (with_grid[v, u] > 60 + 0.3 * (np.array(FLOOR) - 60)).all()


def test_the_lens_is_bent_as_opencv_bends_it() -> None:
    distortion = np.array([-0.28, 0.09, 1e-3, -2e-3, -0.01])
    calibration = camera(distortion=distortion)
    points = np.random.default_rng(0).uniform([-1.5, -1.2, 2.0], [1.5, 1.2, 6.0], (200, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), calibration.K, distortion)
    np.testing.assert_allclose(pixels(points, calibration), expected.reshape(-1, 2), atol=1e-6)


def test_a_lens_polynomial_is_not_believed_where_it_folds_back() -> None:
    calibration = camera(distortion=np.array([-0.3, 0.0, 0.0, 0.0, 0.0]))
    turn = np.sqrt(1 / 0.9)
    just_inside, outside = pixels(np.array([[0.99 * turn, 0.0, 1.0], [1.5 * turn, 0.0, 1.0]]), calibration)
    assert np.isfinite(just_inside).all()
    assert np.isnan(outside).all()


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 6), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_clipping_at_the_near_plane_keeps_the_line(rows: list[tuple[float, ...]]) -> None:
    segments = np.array(rows).reshape(-1, 2, 3)
    clipped = clip_near(segments)
    behind = (segments[..., 2] < 0.05).all(axis=1)
    assert np.isnan(clipped[behind]).all()
    kept, ours = segments[~behind], clipped[~behind]
    assert (ours[..., 2] >= 0.05 - 1e-9).all()
    along = np.cross(kept[:, None, 1] - kept[:, None, 0], ours - kept[:, None, 0])
    np.testing.assert_allclose(along, 0.0, atol=1e-7)


@given(st.lists(st.tuples(*[st.floats(-1e7, 1e7)] * 4), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_clipping_to_the_picture_agrees_with_opencv(rows: list[tuple[float, ...]]) -> None:
    segments = np.round(np.array(rows)).reshape(-1, 2, 2)
    clipped = clip_to_picture(segments, (640, 480), 0.0)
    # OpenCV's rectangle ends a pixel earlier; a line that only touches an edge may be seen by one of the two
    sure = sum(cv2.clipLine((1, 1, 638, 478), *s.astype(int).tolist())[0] for s in segments)
    maybe = sum(cv2.clipLine((-1, -1, 643, 483), *s.astype(int).tolist())[0] for s in segments)
    assert sure <= len(clipped) <= maybe
    assert (clipped >= -1e-2).all()
    assert (clipped <= np.array([640, 480]) + 1e-2).all()


@pytest.mark.parametrize("size_wh", [(64, 64), (16, 9), (320, 240), (720, 1280), (4000, 50), (7680, 4320)])
def test_every_size_is_drawn_readably(size_wh: tuple[int, int]) -> None:
    calibration = camera(size_wh)
    drawn = draw(plain(size_wh), result(calibration, person(calibration)), age_ms=40.0, fps=30.0)
    width, height = drawing_size(size_wh)
    assert drawn.shape == (height, width, 3)
    assert max(width, height) <= (4000 if size_wh == (4000, 50) else 3840)
    assert min(width, height) >= min(320, *size_wh)
    assert width / height == pytest.approx(size_wh[0] / size_wh[1], rel=0.02)
    assert (drawn != 60).any()


@pytest.mark.parametrize("status", list(CalibrationStatus))
def test_hard_calibrations_and_poses_are_drawn(status: CalibrationStatus) -> None:
    """Behind the camera, across the near plane, on it, wild lenses, every status: no exception, no warning."""
    for up, height, distortion in (
        (up_from_pitch_roll(0.2, 3.0), 0.05, np.zeros(5)),
        (np.array([0.0, 0.0, 1.0]), None, np.array([0.5, -2.0, 0.1, 0.1, 3.0])),
        (up_from_pitch_roll(-1.2, 0.0), 90.0, np.array([-1.5, 0.0, 0.0, 0.0, 0.0])),
    ):
        calibration = camera(
            R_world_camera=R_world_camera_from_up(up), camera_height_m=height, distortion=distortion, status=status
        )
        people = [person(calibration, z, yaw, predicted) for z, yaw, predicted in
                  ((3.0, 0.0, False), (0.0, 1.5, False), (-0.2, 0.3, True), (-300.0, 0.0, False))]  # fmt: skip
        assert draw(plain((640, 480)), result(calibration, *people)).shape == (480, 640, 3)
