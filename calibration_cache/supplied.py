"""What the user says of the camera, by whichever option."""

from __future__ import annotations

from pathlib import Path

from calibration_cache.files import calibration_from_focal, calibration_from_fov, read_calibration_file
from pipeline.types import CameraCalibration


def supplied_calibration(
    camera_id: str, size_wh: tuple[int, int], file: Path | None, focal_px: float | None, fov_deg: float | None
) -> CameraCalibration | None:
    """The calibration that comes of the first of a file, a focal length and a horizontal field of view there is.

    Raises what `calibration_cache.files` does; None where nothing is said.
    """
    if file is not None:
        return read_calibration_file(file, camera_id, size_wh)
    if focal_px is not None:
        return calibration_from_focal(camera_id, size_wh, focal_px)
    if fov_deg is not None:
        return calibration_from_fov(camera_id, size_wh, fov_deg)
    return None
