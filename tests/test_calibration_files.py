"""Calibrations the user supplies: the formats that exist, and a sentence for everything else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_cache import (
    calibration_from_focal,
    calibration_from_fov,
    read_calibration_file,
    write_camera_info,
)
from calibration_cache.files import UNKNOWN_GRAVITY_SPREAD_RAD
from pipeline.frames import R_world_camera_from_up, exp_so3, pitch_roll_rad, up_from_pitch_roll
from pipeline.types import CalibrationStatus, CameraCalibration

SIZE = (640, 480)
K = np.array([[520.5, 0.0, 318.25], [0.0, 521.75, 242.5], [0.0, 0.0, 1.0]])
DISTORTION = np.array([-0.25, 0.11, 1.5e-05, -3e-4, -0.02])
CLIPS = Path(os.environ.get("WHMR_CLIPS", Path(__file__).parents[2] / "shared" / "clips"))

OST_YAML = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [520.5, 0., 318.25, 0., 521.75, 242.5, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.25, 0.11, 1.5e-05, -3e-4, -0.02]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [500., 0., 318., 0., 0., 500., 242., 0., 0., 0., 1., 0.]
"""
ROSTOPIC_ECHO = """\
header:
  seq: 12
  stamp:
    secs: 1
    nsecs:  5
  frame_id: "camera"
height: 480
width: 640
distortion_model: "plumb_bob"
D: [-0.25, 0.11, 1.5e-05, -0.0003, -0.02]
K: [520.5, 0.0, 318.25, 0.0, 521.75, 242.5, 0.0, 0.0, 1.0]
R: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
P: [500.0, 0.0, 318.0, 0.0, 0.0, 500.0, 242.0, 0.0, 0.0, 0.0, 1.0, 0.0]
binning_x: 0
roi:
  width: 0
---
height: 1
width: 1
"""
OPENCV_4_YAML = """\
%YAML:1.0
---
calibration_time: "Tue 01 Jan 2030 10:00:00"
image_width: 640
image_height: 480
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 5.2050e+02, 0., 3.1825e+02, 0., 5.2175e+02, 2.425e+02,
       0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ -0.25, 0.11, 1.5e-05, -3e-4, -0.02 ]
avg_reprojection_error: 3.1e-01
"""


def ros2_echo() -> str:
    lists = {"d": DISTORTION.tolist(), "k": K.ravel().tolist()}
    head: dict[str, Any] = {"height": 480, "width": 640, "distortion_model": "plumb_bob"}
    return yaml.safe_dump(head | lists, default_flow_style=False)


def write(folder: Path, text: str, name: str = "camera.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def read_json(folder: Path, **content: Any) -> CameraCalibration:
    base: dict[str, Any] = {"image_size": SIZE, "K": K.tolist()}
    return read_calibration_file(write(folder, json.dumps(base | content), "camera.json"), "cam")


def assert_is_the_camera(calibration: CameraCalibration) -> None:
    np.testing.assert_allclose(calibration.K, K, rtol=1e-12)
    np.testing.assert_allclose(calibration.distortion, DISTORTION, rtol=1e-12)
    assert calibration.size_wh == SIZE
    assert calibration.camera_id == "cam"
    assert calibration.status is CalibrationStatus.SUPPLIED
    assert calibration.focal_spread == 0.0


@pytest.mark.parametrize("text", [OST_YAML, ROSTOPIC_ECHO, OPENCV_4_YAML, ros2_echo()])
def test_yaml_of_ros_and_opencv(tmp_path: Path, text: str) -> None:
    calibration = read_calibration_file(write(tmp_path, text), "cam", SIZE)
    assert_is_the_camera(calibration)
    assert calibration.gravity_spread_rad == UNKNOWN_GRAVITY_SPREAD_RAD
    assert calibration.camera_height_m is None
    np.testing.assert_allclose(calibration.up_camera, [0, -1, 0])


@pytest.mark.parametrize("extension", ["yml", "xml", "json"])
@pytest.mark.parametrize(
    ("matrix_key", "distortion_key"),
    [("camera_matrix", "distortion_coefficients"), ("K", "dist"), ("cameraMatrix", "distCoeffs"), ("M1", "D1")],
)
def test_what_opencv_itself_writes(tmp_path: Path, extension: str, matrix_key: str, distortion_key: str) -> None:
    path = tmp_path / f"camera.{extension}"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 640)
    storage.write("image_height", 480)
    storage.write(matrix_key, K)
    storage.write(distortion_key, DISTORTION[None])
    storage.release()
    assert_is_the_camera(read_calibration_file(path, "cam", SIZE))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([-0.1, 0.2, 0.01, 0.02], [-0.1, 0.2, 0.01, 0.02, 0.0]),
        ([[-0.1, 0.2, 0.01, 0.02, 0.3]], [-0.1, 0.2, 0.01, 0.02, 0.3]),
        ([-0.1, 0.2, 0.01, 0.02, 0.3, 0.0, 0.0, 0.0], [-0.1, 0.2, 0.01, 0.02, 0.3]),
        ([0.0] * 14, [0.0] * 5),
        ([], [0.0] * 5),
    ],
)
def test_distortions_of_every_length(tmp_path: Path, given: list[Any], expected: list[float]) -> None:
    np.testing.assert_array_equal(read_json(tmp_path, dist=given).distortion, expected)


def test_a_file_without_a_size_is_for_the_stream(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"K": K.tolist()}))
    assert read_calibration_file(path, "cam", SIZE).size_wh == SIZE
    with pytest.raises(ValueError, match="add image_width and image_height"):
        read_calibration_file(path, "cam")


def test_another_size_of_the_same_shape_is_rescaled(tmp_path: Path) -> None:
    path = write(tmp_path, OST_YAML)
    twice = read_calibration_file(path, "cam", (1280, 960))
    np.testing.assert_allclose(twice.K, read_calibration_file(path, "cam").for_size((1280, 960)).K)
    assert twice.K[0, 0] == pytest.approx(1041.0)


def test_where_the_camera_stands(tmp_path: Path) -> None:
    stands = read_json(tmp_path, pitch_deg=20.0, roll_deg=-5.0, camera_height_m=2.25)
    np.testing.assert_allclose(np.degrees(pitch_roll_rad(stands.up_camera)), [20.0, -5.0])
    assert (stands.camera_height_m, stands.height_spread_m, stands.gravity_spread_rad) == (2.25, 0.0, 0.0)
    only_pitch = read_json(tmp_path, pitch_deg=10.0)
    np.testing.assert_allclose(np.degrees(pitch_roll_rad(only_pitch.up_camera)), [10.0, 0.0], atol=1e-12)
    up = up_from_pitch_roll(0.4, 0.1)
    np.testing.assert_allclose(read_json(tmp_path, up_in_camera=up.tolist()).up_camera, up, atol=1e-12)
    height_alone = read_json(tmp_path, camera_height_m=1.1)
    assert height_alone.camera_height_m == 1.1
    assert height_alone.gravity_spread_rad == UNKNOWN_GRAVITY_SPREAD_RAD


def test_a_world_with_z_up(tmp_path: Path) -> None:
    """A camera at (3, -2, 1.7) looking along the world's +y and 15 degrees down."""
    level = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    R_camera_world = exp_so3([np.radians(15.0), 0.0, 0.0]) @ level
    t = -R_camera_world @ np.array([3.0, -2.0, 1.7])
    read = read_json(tmp_path, R_world_to_cam=R_camera_world.tolist(), t_world_to_cam_m=t.tolist())
    assert read.camera_height_m == pytest.approx(1.7)
    np.testing.assert_allclose(np.degrees(pitch_roll_rad(read.up_camera)), [15.0, 0.0], atol=1e-9)


def test_a_focal_length_alone() -> None:
    calibration = calibration_from_focal("cam", (1280, 720), 1000.0)
    np.testing.assert_array_equal(calibration.K, [[1000.0, 0.0, 639.5], [0.0, 1000.0, 359.5], [0.0, 0.0, 1.0]])
    assert calibration.status is CalibrationStatus.SUPPLIED
    assert calibration.gravity_spread_rad == UNKNOWN_GRAVITY_SPREAD_RAD
    for focal_px in (0.0, -5.0, float("nan"), float("inf"), 1.0, 1e6):
        with pytest.raises(ValueError, match="focal length"):
            calibration_from_focal("cam", (1280, 720), focal_px)


@pytest.mark.parametrize(
    ("axis", "edge"), [("horizontal", (1280, 0)), ("vertical", (0, 720)), ("diagonal", (1280, 720))]
)
def test_a_field_of_view_reaches_from_edge_to_edge(axis: str, edge: tuple[int, int]) -> None:
    focal_px = calibration_from_fov("cam", (1280, 720), 70.0, axis).K[0, 0]
    half = np.hypot(*edge) / 2
    assert np.degrees(2 * np.arctan2(half, focal_px)) == pytest.approx(70.0)


def test_a_field_of_view_that_is_none() -> None:
    for fov_deg in (0.0, -10.0, 180.0, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 180 degrees"):
            calibration_from_fov("cam", SIZE, fov_deg)
    with pytest.raises(ValueError, match="one of horizontal, vertical, diagonal, got 'sideways'"):
        calibration_from_fov("cam", SIZE, 60.0, "sideways")
    with pytest.raises(ValueError, match="cannot be used"):
        calibration_from_fov("cam", SIZE, 0.5)


@settings(max_examples=40, deadline=None)
@given(
    focal=st.floats(100.0, 10_000.0),
    centre=st.floats(100.0, 500.0),
    pitch=st.floats(-1.4, 1.4),
    roll=st.floats(-3.0, 3.0),
    height=st.none() | st.floats(0.05, 100.0),
    distortion=st.lists(st.floats(-1, 1), min_size=5, max_size=5),
)
def test_camera_info_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    focal: float,
    centre: float,
    pitch: float,
    roll: float,
    height: float | None,
    distortion: list[float],
) -> None:
    K = np.array([[focal, 0.0, centre], [0.0, focal * 1.1, centre], [0.0, 0.0, 1.0]])
    written = CameraCalibration(
        "cam", SIZE, K, np.array(distortion),
        R_world_camera_from_up(up_from_pitch_roll(pitch, roll)), height, 0.0, 0.0, None if height is None else 0.0,
        CalibrationStatus.SUPPLIED, 0, "supplied file",
    )  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "camera_info.yaml"
    write_camera_info(written, path)
    read = read_calibration_file(path, "cam", SIZE)
    np.testing.assert_array_equal(read.K, written.K)
    np.testing.assert_array_equal(read.distortion, written.distortion)
    np.testing.assert_allclose(read.R_world_camera, written.R_world_camera, atol=1e-12)
    assert read.camera_height_m == written.camera_height_m
    assert read.size_wh == written.size_wh


def test_camera_info_does_not_claim_a_gravity_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "camera_info.yaml"
    write_camera_info(calibration_from_focal("cam", SIZE, 500.0), path)
    assert "up_in_camera" not in path.read_text()
    assert read_calibration_file(path, "cam").gravity_spread_rad == UNKNOWN_GRAVITY_SPREAD_RAD
    content = yaml.safe_load(path.read_text())
    assert content["camera_matrix"]["data"] == [500.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0]
    assert len(content["projection_matrix"]["data"]) == 12


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared clips are not here")
def test_the_shared_cameras() -> None:
    read = 0
    for path in sorted([*CLIPS.glob("clips_gt/*/camera.json"), *CLIPS.glob("stills_gt/*/camera.json")]):
        truth = json.loads(path.read_text())
        calibration = read_calibration_file(path, "cam")
        np.testing.assert_allclose(calibration.K, truth["K"])
        assert calibration.size_wh == tuple(truth["image_size"])
        if "pitch_down_deg" in truth:
            angles = np.degrees(pitch_roll_rad(calibration.up_camera))
            np.testing.assert_allclose(angles, [truth["pitch_down_deg"], truth["roll_deg"]], atol=0.02)
        if "camera_center_world_m" in truth:
            assert calibration.camera_height_m == pytest.approx(truth["camera_center_world_m"][2], abs=1e-6)
        read += 1
    assert read > 0
