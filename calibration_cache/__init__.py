"""What is known of each camera, kept between runs (`store`) or read from the user's files (`files`)."""

from calibration_cache.files import (
    calibration_from_focal,
    calibration_from_fov,
    read_calibration_file,
    write_camera_info,
)
from calibration_cache.store import CalibrationStore, StoredFile, implausibility

__all__ = [
    "CalibrationStore",
    "StoredFile",
    "calibration_from_focal",
    "calibration_from_fov",
    "implausibility",
    "read_calibration_file",
    "write_camera_info",
]
