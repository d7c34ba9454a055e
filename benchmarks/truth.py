"""The truth of a clip, in the stream's own frames (`pipeline.frames`).

A clip is a folder: video.mp4, camera.json (K, dist, up_in_camera or R_world_to_cam and t_world_to_cam_m, in a world of
metres with z up) and joints*.npz, one a person (joints (T, N, 3) in that world, names, conf). The stream's world is y
up with the camera's heading and its origin on the floor under the camera; the camera ties the two.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.frames import Array, R_world_camera_from_up
from pipeline.types import JOINT_NAMES

#: Joints that the sources of truth define alike within 2 cm; hips only within 4.
SCORED = tuple(
    f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
)


@dataclass(frozen=True, eq=False)
class PersonTruth:
    """One person: SCORED joints (T, 12, 3) in camera metres, nan where there is no truth."""

    joints_camera_m: Array


@dataclass(frozen=True, eq=False)
class ClipTruth:
    """A clip and what is known of it; None where nothing is.

    K                (3, 3) pixels
    R_world_camera   (3, 3)
    camera_height_m  metres
    people           may be empty
    """

    name: str
    video: Path
    size_wh: tuple[int, int]
    K: Array | None
    R_world_camera: Array | None
    camera_height_m: float | None
    people: tuple[PersonTruth, ...]


@dataclass(frozen=True, eq=False)
class CameraTruth:
    """What camera.json says; None where it says nothing.

    record                          the file as it is
    K                               (3, 3) pixels
    R_camera_file, t_camera_file_m  (3, 3), (3,) from the file's world (z up) to the camera
    R_world_camera, height_m        in the stream's world
    """

    record: dict[str, Any]
    K: Array | None
    R_camera_file: Array | None
    t_camera_file_m: Array | None
    R_world_camera: Array | None
    height_m: float | None


def read_camera(folder: Path) -> CameraTruth:
    """The camera of the clip in `folder`. Raises OSError or ValueError, one sentence, when there is none."""
    record_file = folder / "camera.json"
    if not record_file.is_file():
        raise FileNotFoundError(f"{folder}: expected a folder with video.mp4 and camera.json; name such a clip.")
    record = json.loads(record_file.read_text())
    K = np.array(record["K"]) if record.get("K") else None
    R_camera_file = t_camera_file = R = height = None
    if "R_world_to_cam" in record:
        R_camera_file, t_camera_file = np.array(record["R_world_to_cam"]), np.array(record["t_world_to_cam_m"])
        R, height = R_world_camera_from_up(R_camera_file[:, 2]), float((-R_camera_file.T @ t_camera_file)[2])
    if "up_in_camera" in record:
        R = R_world_camera_from_up(record["up_in_camera"])
    return CameraTruth(record, K, R_camera_file, t_camera_file, R, height)


def read_clip(folder: Path) -> ClipTruth:
    """The clip in `folder`. Raises OSError or ValueError, one sentence, when it is not one."""
    camera = read_camera(folder)
    people = []
    if camera.R_camera_file is not None and camera.t_camera_file_m is not None:
        files = sorted(folder.glob("joints*.npz"))
        people = [_person(path, camera.R_camera_file, camera.t_camera_file_m) for path in files]
    width, high = camera.record["image_size"]
    return ClipTruth(
        folder.name, folder / "video.mp4", (width, high), camera.K, camera.R_world_camera, camera.height_m,
        tuple(people),
    )  # fmt: skip


def _person(path: Path, R_camera_file: Array, t_camera_file: Array) -> PersonTruth:
    with np.load(path, allow_pickle=False) as z:
        names = [str(n) for n in z["names"]]
        at = [names.index(n.replace("left_", "l_").replace("right_", "r_")) for n in SCORED]
        joints = z["joints"][:, at].astype(np.float64)
        conf = z["conf"][:, at] if "conf" in z.files else np.ones(joints.shape[:2])
    joints[conf <= 0] = np.nan
    return PersonTruth(joints @ R_camera_file.T + t_camera_file)


#: Where SCORED stand among SMPL's joints.
SCORED_JOINTS = np.array([JOINT_NAMES.index(name) for name in SCORED])
