"""Calibrations the user supplies: OpenCV and ROS files, a focal length, a field of view.

Read are OpenCV FileStorage (YAML, XML, JSON), ROS `camera_info` YAML (as `camera_calibration` writes it, and as
`rostopic echo` prints it) and plain JSON or YAML with the same keys. Where the camera stands is optional and ours:
`up_in_camera` (unit up vector in camera axes), or `pitch_deg` (positive looks down) and `roll_deg` (positive: the
scene's up leans to the image's right), and `camera_height_m`; or `R_world_to_cam` and `t_world_to_cam_m` of a world
with Z up whose floor is Z = 0.

Gravity that the file does not give is a level camera with a spread of 30 degrees (`UNKNOWN_GRAVITY_SPREAD_RAD`), and
an unknown height is None: the estimator goes on refining both while K stays as supplied. What the file does give has
the spread 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from calibration_cache.store import check_camera_id, implausibility, write_atomic
from pipeline.frames import Array, R_world_camera_from_up, up_from_pitch_roll
from pipeline.types import CalibrationStatus, CameraCalibration

UNKNOWN_GRAVITY_SPREAD_RAD = float(np.radians(30.0))

MATRIX_KEYS = ("camera_matrix", "cameraMatrix", "K", "k", "M1", "mtx", "intrinsic_matrix")
DISTORTION_KEYS = (
    "distortion_coefficients", "dist_coeffs", "distCoeffs", "dist_coeff", "dist", "distortion", "D", "d", "D1",
)  # fmt: skip
WIDTH_KEYS, HEIGHT_KEYS = ("image_width", "width"), ("image_height", "height")
SIZE_KEYS = ("image_size", "size_wh", "imageSize", "resolution")
PINHOLE_MODELS = ("", "plumb_bob", "plumb bob", "rational_polynomial", "radtan", "opencv", "pinhole", "none")

_MAX_BYTES = 4_000_000
_LEVEL_UP = (0.0, -1.0, 0.0)


class _OpenCVLoader(yaml.SafeLoader):
    """Safe YAML that takes OpenCV's `!!opencv-matrix` for the mapping it is."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_OpenCVLoader.add_constructor("tag:yaml.org,2002:opencv-matrix", _mapping)


def read_calibration_file(
    path: str | Path, camera_id: str, size_wh: tuple[int, int] | None = None
) -> CameraCalibration:
    """The calibration a file gives for `camera_id`: status `supplied`, focal spread 0.

    `size_wh` are the pixels of the stream: a file for another size of the same aspect ratio is rescaled, and a file
    that names no size is taken to be for the stream's.
    Raises FileNotFoundError or ValueError with one sentence for a file that is missing, unreadable, without a camera
    matrix, of another camera model, implausible, or for pictures of another aspect ratio.
    """
    path = Path(path)
    check_camera_id(camera_id)
    try:
        content = _load(path)
        size = _size(content) or size_wh
        if size is None:
            raise ValueError("it does not say the size of its pictures; add image_width and image_height.")
        up, gravity_spread_rad, height_m = _extrinsics(content)
        calibration = _supplied(
            camera_id, size, _matrix(content), _distortion(content), up, gravity_spread_rad, height_m, "supplied file"
        )
        return calibration.for_size(size_wh) if size_wh else calibration
    except ValueError as error:
        raise ValueError(f"The calibration file {path} cannot be used: {error}") from error


def calibration_from_focal(camera_id: str, size_wh: tuple[int, int], focal_px: float) -> CameraCalibration:
    """A camera of a known focal length in pixels, principal point in the middle, no distortion, gravity unknown.

    Raises ValueError when the focal length is no plausible one for pictures of this size.
    """
    K = np.array([[focal_px, 0.0, (size_wh[0] - 1) / 2], [0.0, focal_px, (size_wh[1] - 1) / 2], [0.0, 0.0, 1.0]])
    if not (np.isfinite(focal_px) and focal_px > 0):
        raise ValueError(f"A focal length is a positive number of pixels, got {focal_px}.")
    spread = UNKNOWN_GRAVITY_SPREAD_RAD
    try:
        return _supplied(camera_id, size_wh, K, np.zeros(5), np.array(_LEVEL_UP), spread, None, "supplied focal")
    except ValueError as error:
        raise ValueError(f"A focal length of {focal_px:g} px cannot be used: {error}") from error


def calibration_from_fov(
    camera_id: str, size_wh: tuple[int, int], fov_deg: float, axis: str = "horizontal"
) -> CameraCalibration:
    """As `calibration_from_focal`, from the field of view in degrees: f = side / (2 tan(fov / 2)).

    `axis`: the side it is measured along: horizontal, vertical or diagonal. Raises ValueError for another axis, and
    for an angle that is not between 0 and 180 or gives an implausible focal length.
    """
    sides = {"horizontal": size_wh[0], "vertical": size_wh[1], "diagonal": float(np.hypot(*size_wh))}
    if axis not in sides:
        raise ValueError(f"A field of view is measured along one of {', '.join(sides)}, got {axis!r}.")
    if not 0.0 < fov_deg < 180.0:
        raise ValueError(f"A field of view is between 0 and 180 degrees, got {fov_deg}.")
    focal_px = sides[axis] / (2.0 * np.tan(np.radians(fov_deg) / 2.0))
    return calibration_from_focal(camera_id, size_wh, float(focal_px))


def write_camera_info(calibration: CameraCalibration, path: str | Path) -> None:
    """Writes ROS `camera_info` YAML which `read_calibration_file` reads back: size, K, distortion, up, height.

    The heading of R_world_camera is not kept (the world has the camera's own heading), nor are spreads; an up
    direction no better than unknown is left out. ROS ignores the keys that are ours. Raises OSError.
    """
    K = calibration.K
    P = np.hstack([K, np.zeros((3, 1))])
    content: dict[str, Any] = {
        "image_width": int(calibration.size_wh[0]),
        "image_height": int(calibration.size_wh[1]),
        "camera_name": calibration.camera_id,
        "camera_matrix": _ros_matrix(K),
        "distortion_model": "plumb_bob",
        "distortion_coefficients": _ros_matrix(calibration.distortion[None]),
        "rectification_matrix": _ros_matrix(np.eye(3)),
        "projection_matrix": _ros_matrix(P),
    }
    if calibration.gravity_spread_rad < UNKNOWN_GRAVITY_SPREAD_RAD:
        content["up_in_camera"] = calibration.up_camera.tolist()
    if calibration.camera_height_m is not None:
        content["camera_height_m"] = float(calibration.camera_height_m)
    write_atomic(Path(path), yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110).encode())


def _ros_matrix(matrix: Array) -> dict[str, Any]:
    return {"rows": matrix.shape[0], "cols": matrix.shape[1], "data": matrix.ravel().tolist()}


def _supplied(
    camera_id: str, size_wh: tuple[int, int], K: Array, distortion: Array, up: Array, gravity_spread_rad: float,
    height_m: float | None, estimator: str,
) -> CameraCalibration:  # fmt: skip
    calibration = CameraCalibration(
        camera_id=check_camera_id(camera_id),
        size_wh=(int(size_wh[0]), int(size_wh[1])),
        K=K,
        distortion=distortion,
        R_world_camera=R_world_camera_from_up(up),
        camera_height_m=height_m,
        focal_spread=0.0,
        gravity_spread_rad=gravity_spread_rad,
        height_spread_m=None if height_m is None else 0.0,
        status=CalibrationStatus.SUPPLIED,
        n_samples=0,
        estimator=estimator,
    )
    problem = implausibility(calibration)
    if problem:
        raise ValueError(problem)
    return calibration


def _load(path: Path) -> dict[str, Any]:
    """The file's top-level mapping. Raises FileNotFoundError, or ValueError where it is none."""
    if not path.exists():
        raise FileNotFoundError(f"There is no calibration file {path}.")
    try:
        data = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b"\0"
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError("it is not a text file; expected OpenCV or ROS camera_info YAML, XML or JSON.")
    content = _parse(text)
    if not isinstance(content, dict):
        raise ValueError("it has no keys; expected OpenCV or ROS camera_info YAML, XML or JSON with a camera_matrix.")
    return content


def _parse(text: str) -> Any:
    head = text.lstrip()[:200]
    try:
        if head.startswith("<"):
            storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
            return _from_node(storage.root())
        if head.startswith("{"):
            return json.loads(text)
        # OpenCV's first line is not the YAML directive it looks like
        lines = [line for line in text.splitlines() if not line.startswith("%YAML")]
        return next((one for one in yaml.load_all("\n".join(lines), _OpenCVLoader) if one is not None), None)
    except (yaml.YAMLError, ValueError, RecursionError, cv2.error, SystemError) as error:
        kind = "XML" if head.startswith("<") else "JSON" if head.startswith("{") else "YAML"
        reason = "" if kind == "XML" else f" ({' '.join(str(error).split())[:160]})"
        raise ValueError(f"it is not valid OpenCV or ROS {kind}{reason}.") from error


def _from_node(node: cv2.FileNode) -> Any:
    if node.isMap():
        return {key: _from_node(node.getNode(key)) for key in node.keys()}  # noqa: SIM118
    if node.isSeq():
        return [_from_node(node.at(i)) for i in range(node.size())]
    return node.string() if node.isString() else node.real()


def _first(content: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((content[key] for key in keys if content.get(key) is not None), None)


def _numbers(name: str, value: Any) -> Array:
    """A float array of a nested list or of a {rows, cols, data} mapping. Raises ValueError."""
    try:
        if isinstance(value, dict):
            flat = np.array(value["data"], dtype=object).astype(np.float64)
            array = flat.reshape(int(value.get("rows", 1)), int(value.get("cols", flat.size)))
        else:
            array = np.array(value, dtype=object).astype(np.float64)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"{name} is not a list or matrix of numbers.") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a number that is not finite.")
    return array


def _size(content: dict[str, Any]) -> tuple[int, int] | None:
    width, height, size = (_first(content, keys) for keys in (WIDTH_KEYS, HEIGHT_KEYS, SIZE_KEYS))
    if width is None and height is None and size is None:
        return None
    wh = _numbers("the size of the pictures", [width, height] if size is None else size).ravel()
    if wh.shape != (2,) or (wh < 1).any() or (wh != wh.round()).any():
        raise ValueError(f"the size of its pictures is {wh.tolist()}, expected a positive width and height.")
    return int(wh[0]), int(wh[1])


def _matrix(content: dict[str, Any]) -> Array:
    value = _first(content, MATRIX_KEYS)
    if value is None:
        names = ", ".join(list(content)[:8]) or "nothing"
        raise ValueError(f"it has no camera matrix; expected camera_matrix or K, found {names}.")
    K = _numbers("the camera matrix", value)
    K = K.reshape(3, 3) if K.shape in ((9,), (1, 9), (9, 1)) else K
    if K.shape != (3, 3):
        hint = " (a projection matrix is another thing)" if K.shape == (3, 4) or K.size == 12 else ""
        raise ValueError(f"the camera matrix has shape {K.shape}, expected 3x3 pixels{hint}.")
    return K


def _distortion(content: dict[str, Any]) -> Array:
    """The five coefficients k1 k2 p1 p2 k3, zeros where the file has none."""
    model = str(content.get("distortion_model") or content.get("camera_model") or "").lower()
    if model not in PINHOLE_MODELS or content.get("fisheye_model"):
        raise ValueError(f"its lens model is {model or 'fisheye'}, only the pinhole model plumb_bob is understood.")
    value = _first(content, DISTORTION_KEYS)
    if value is None:
        return np.zeros(5)
    k = _numbers("the distortion", value).ravel()
    if k.size not in (0, 4, 5, 8, 12, 14):
        raise ValueError(f"it has {k.size} distortion coefficients, expected 4 or 5 (k1 k2 p1 p2 k3).")
    if np.any(k[5:]):
        raise ValueError(
            f"it has {k.size} distortion coefficients, only k1 k2 p1 p2 k3 are understood; calibrate with five."
        )
    return np.concatenate([k, np.zeros(5)])[:5]


def _extrinsics(content: dict[str, Any]) -> tuple[Array, float, float | None]:
    """Up in the camera (3,), its spread in radians, and the height in metres or None."""
    up, height = content.get("up_in_camera"), content.get("camera_height_m")
    R, t = content.get("R_world_to_cam"), content.get("t_world_to_cam_m")
    pitch, roll = content.get("pitch_deg"), content.get("roll_deg")
    height_m = None if height is None else float(_numbers("camera_height_m", [height])[0])
    up_camera: Array | None = None
    if R is not None:
        R_camera_world = _numbers("R_world_to_cam", R)
        if R_camera_world.shape != (3, 3) or np.abs(R_camera_world @ R_camera_world.T - np.eye(3)).max() > 1e-3:
            raise ValueError("R_world_to_cam is not a rotation matrix.")
        up_camera = R_camera_world[:, 2]
        if t is not None and height_m is None:
            t_camera_world = _numbers("t_world_to_cam_m", t).ravel()
            if t_camera_world.shape != (3,):
                raise ValueError("t_world_to_cam_m is not three numbers.")
            height_m = float(-(R_camera_world.T @ t_camera_world)[2])
    elif pitch is not None or roll is not None:
        angles = np.radians(_numbers("pitch_deg and roll_deg", [pitch or 0.0, roll or 0.0]))
        up_camera = up_from_pitch_roll(float(angles[0]), float(angles[1]))
    if up is not None:
        up_camera = _numbers("up_in_camera", up).ravel()
        if up_camera.shape != (3,) or abs(np.linalg.norm(up_camera) - 1.0) > 0.02:
            raise ValueError("up_in_camera is not a unit vector of three numbers.")
    if up_camera is None:
        return np.array(_LEVEL_UP), UNKNOWN_GRAVITY_SPREAD_RAD, height_m
    return up_camera, 0.0, height_m
