"""The per-camera store: one readable JSON file for each camera and picture size.

Only what was estimated and reached `calibrated` is kept; a supplied calibration has its own file, and an unfinished
one would start the next run on a wrong footing. Nothing in here can stop a stream: a file that does not fit is
rejected with a logged reason, and a folder that cannot be written is a warning.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from pipeline.types import CalibrationStatus, CameraCalibration

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FOLDER_VARIABLE = "WHMR_CALIBRATION_DIR"
DEFAULT_FOLDER = Path(__file__).parent / "store"

#: Focal lengths are believed between these multiples of the picture's longer side.
FOCAL_RANGE = (0.1, 20.0)
HEIGHT_RANGE_M = (0.05, 100.0)

_CAMERA_ID = re.compile(r"[A-Za-z0-9._-]+")
_STALE_S = 60.0
_ARRAYS = ("K", "distortion", "R_world_camera")
_Row = tuple[float, float, float]
_Int = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Version(msgspec.Struct):
    schema_version: int


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """The file's content; units as in CameraCalibration."""

    schema_version: int
    camera_id: str
    size_wh: tuple[_Int, _Int]
    saved_wall_ns: _Int
    estimator: str
    status: str
    n_samples: _Int
    K: tuple[_Row, _Row, _Row]
    distortion: tuple[float, float, float, float, float]
    R_world_camera: tuple[_Row, _Row, _Row]
    camera_height_m: float | None
    focal_spread: float
    gravity_spread_rad: float
    height_spread_m: float | None


@dataclass(frozen=True)
class StoredFile:
    """One file of the store; `calibration` and `saved_wall_ns` (Unix time) are None where `problem` says why."""

    path: Path
    calibration: CameraCalibration | None
    saved_wall_ns: int | None
    problem: str | None = None


def check_camera_id(camera_id: str) -> str:
    """`camera_id` itself. Raises ValueError unless it is letters, digits, dots, dashes and underscores only."""
    if not _CAMERA_ID.fullmatch(camera_id):
        raise ValueError(
            f"A camera id is made of letters, digits, '.', '_' and '-', got {camera_id!r}; "
            "`python -m calibration_cache list` shows those that are stored."
        )
    return camera_id


def implausibility(calibration: CameraCalibration) -> str | None:
    """A sentence on the first value that no real camera has, or None.

    Looked at: the focal lengths, the principal point, K's form, the height and the spreads.
    """
    K, (width, height) = calibration.K, calibration.size_wh
    low, high = (f * max(width, height) for f in FOCAL_RANGE)
    for name, focal in (("fx", K[0, 0]), ("fy", K[1, 1])):
        if not low <= focal <= high:
            return f"{name} is {focal:g} px, expected {low:g} to {high:g} px for {width}x{height} pictures."
    if not np.allclose(K[2], [0, 0, 1]) or K[1, 0] != 0:
        return "K is not of the form [fx s cx; 0 fy cy; 0 0 1]."
    if not (-0.5 * width <= K[0, 2] <= 1.5 * width and -0.5 * height <= K[1, 2] <= 1.5 * height):
        return f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) is far outside the {width}x{height} picture."
    camera_height = calibration.camera_height_m
    if camera_height is not None and not HEIGHT_RANGE_M[0] <= camera_height <= HEIGHT_RANGE_M[1]:
        return f"the camera height is {camera_height:g} m, expected {HEIGHT_RANGE_M[0]:g} to {HEIGHT_RANGE_M[1]:g} m."
    spreads = (calibration.focal_spread, calibration.gravity_spread_rad, calibration.height_spread_m or 0.0)
    if not (np.isfinite(spreads).all() and min(spreads) >= 0):
        return f"a spread is negative or not finite: {spreads}."
    if calibration.n_samples < 0:
        return f"the number of samples is {calibration.n_samples}."
    return None


def write_atomic(path: Path, data: bytes) -> None:
    """Puts `data` at `path` whole or not at all: a reader or a kill sees the old file or the new one.

    Raises OSError when the folder cannot be made or written; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class CalibrationStore:
    """Keeps `calibrated` calibrations in a folder, one file for each camera and size."""

    def __init__(self, folder: str | Path | None = None) -> None:
        """`folder`: given here, else by the environment variable WHMR_CALIBRATION_DIR, else beside this module."""
        self.folder = Path(folder or os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)

    def path(self, camera_id: str, size_wh: tuple[int, int]) -> Path:
        """Where the file of this camera and size is, or would be. Raises ValueError for an unusable camera id."""
        return self.folder / f"{_stem(camera_id)}@{size_wh[0]}x{size_wh[1]}.json"

    def save(self, calibration: CameraCalibration, saved_wall_ns: int | None = None) -> Path | None:
        """Writes the calibration atomically; the path, or None when nothing was written.

        Not written: a status other than `calibrated`; an implausible value or a folder that cannot be written (a
        logged warning). Raises ValueError for an unusable camera id. `saved_wall_ns` is Unix time, now if None.
        """
        path = self.path(calibration.camera_id, calibration.size_wh)
        if calibration.status is not CalibrationStatus.CALIBRATED:
            logger.debug("The calibration of %s is %s: not stored.", calibration.camera_id, calibration.status)
            return None
        problem = implausibility(calibration)
        if problem:
            logger.warning("The calibration of %s is not stored: %s", calibration.camera_id, problem)
            return None
        data = _encode(calibration, time.time_ns() if saved_wall_ns is None else saved_wall_ns)
        try:
            write_atomic(path, data)
            _remove_stale(self.folder)
        except OSError as error:
            logger.warning("The calibration could not be stored at %s (%s); the stream goes on.", path, error)
            return None
        return path

    def load(self, camera_id: str, size_wh: tuple[int, int], estimator: str) -> CameraCalibration | None:
        """What was stored for this camera by this `estimator`, for pictures of `size_wh`, or None.

        Where this size has no usable file, the newest one of the same aspect ratio is rescaled. Every file that is
        passed over is logged with its reason. Raises ValueError for an unusable camera id.
        """
        exact = self.path(camera_id, size_wh)
        found = [self._read(exact)] if exact.is_file() else []
        found += sorted(
            (stored for stored in self.show(camera_id) if stored.path != exact),
            key=lambda stored: -(stored.saved_wall_ns or 0),
        )
        for stored in found:
            problem = stored.problem
            if stored.calibration is not None:
                if stored.calibration.camera_id != camera_id:
                    problem = f"it belongs to camera {stored.calibration.camera_id}."
                elif stored.calibration.estimator != estimator:
                    problem = f"it was made by estimator {stored.calibration.estimator}, this one is {estimator}."
                else:
                    try:
                        return stored.calibration.for_size(size_wh)
                    except ValueError as error:
                        problem = str(error)
            logger.warning("The stored calibration %s is not used: %s", stored.path, problem)
        return None

    def list(self) -> tuple[StoredFile, ...]:
        """Every file of the store in the order of its names, those that cannot be read with their problem."""
        try:
            paths = sorted(self.folder.glob("*@*.json")) if self.folder.is_dir() else []
        except OSError as error:
            logger.warning("The calibrations in %s cannot be listed (%s).", self.folder, error)
            return ()
        return tuple(self._read(path) for path in paths)

    def show(self, camera_id: str) -> tuple[StoredFile, ...]:
        """The files of one camera, one for each size. Raises ValueError for an unusable camera id."""
        stem = _stem(camera_id)
        return tuple(stored for stored in self.list() if stored.path.name.partition("@")[0] == stem)

    def clear(self, camera_id: str | None = None) -> int:
        """Removes the files of one camera, or of all; how many there were.

        Raises ValueError for an unusable camera id and OSError when a file cannot be removed.
        """
        stored = self.list() if camera_id is None else self.show(camera_id)
        for one in stored:
            one.path.unlink(missing_ok=True)
        return len(stored)

    def _read(self, path: Path) -> StoredFile:
        try:
            calibration, saved_wall_ns = _decode(path.read_bytes())
        except (OSError, ValueError) as error:
            return StoredFile(path, None, None, str(error) or type(error).__name__)
        return StoredFile(path, calibration, saved_wall_ns)


def _stem(camera_id: str) -> str:
    check_camera_id(camera_id)
    if len(camera_id) <= 120:
        return camera_id
    return f"{camera_id[:100]}-{hashlib.sha256(camera_id.encode()).hexdigest()[:8]}"


def _remove_stale(folder: Path) -> None:
    """Removes what a killed process left half written."""
    for path in folder.glob(".*@*.json.*.tmp"):
        if time.time() - path.stat().st_mtime > _STALE_S:
            path.unlink(missing_ok=True)


def _encode(calibration: CameraCalibration, saved_wall_ns: int) -> bytes:
    values = {f.name: getattr(calibration, f.name) for f in dataclasses.fields(calibration)}
    values |= {name: np.asarray(values[name]).tolist() for name in _ARRAYS}
    values |= {"schema_version": SCHEMA_VERSION, "saved_wall_ns": saved_wall_ns, "status": str(calibration.status)}
    text = json.dumps({name: values[name] for name in _Record.__struct_fields__}, indent=2, allow_nan=False)
    # a matrix reads better with a row on a line than with a number on a line
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda row: " ".join(row[0].split()), text).encode() + b"\n"


def _decode(data: bytes) -> tuple[CameraCalibration, int]:
    """Raises ValueError (msgspec's own errors are such) with a sentence on the first thing that is wrong."""
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise ValueError(f"it has schema version {version}, this program reads {SCHEMA_VERSION}.")
        record = msgspec.json.decode(data, type=_Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is broken or not a stored calibration ({error}).") from error
    if record.status != CalibrationStatus.CALIBRATED:
        raise ValueError(f"its status is {record.status!r}, expected 'calibrated'.")
    check_camera_id(record.camera_id)
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(CameraCalibration)}
    values |= {name: np.array(values[name]) for name in _ARRAYS}
    values["status"] = CalibrationStatus.CALIBRATED
    calibration = CameraCalibration(**values)
    problem = implausibility(calibration)
    if problem:
        raise ValueError(problem)
    return calibration, record.saved_wall_ns
