"""Real clips with joint truth, in the form of renders, so that what was found there can be held beside the model.

A clip is a folder as `benchmarks.truth` reads it. Truth joints of the limbs become landmarks as they are; hands and
face, of which there is no truth, are put where such a body has them, and nothing is judged by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.truth import read_camera, read_clip
from engines.blazepose import BlazePose
from pipeline.clock import StageClock
from pipeline.detector import PersonDetector
from pipeline.frames import Array, cross, normalize, project
from pipeline.source import open_source
from pipeline.types import LANDMARK, Detection
from training.error_renders import BELIEVED, Renders

_NAMED = {
    f"{side}_{part}": f"{side[0]}_{theirs}"
    for side in ("left", "right")
    for part, theirs in (("shoulder", "shoulder"), ("elbow", "elbow"), ("wrist", "wrist"), ("hip", "hip"),
                         ("knee", "knee"), ("ankle", "ankle"), ("heel", "heel"), ("foot_index", "bigtoe"))
}  # fmt: skip
#: Places on the head about the nose, metres: to the person's left, up, forward.
_HEAD = {
    "eye_inner": (0.016, 0.035, -0.02), "eye": (0.031, 0.035, -0.025), "eye_outer": (0.045, 0.035, -0.035),
    "ear": (0.075, 0.0, -0.12), "mouth": (0.025, -0.045, -0.015),
}  # fmt: skip
#: A hand's points beyond the wrist, shares of the forearm.
_HAND = {"pinky": 0.33, "index": 0.36, "thumb": 0.2}
STATURE_OF_LEG = 1.7 / 0.86  # hip to knee to ankle
_FARTHEST_PX_SHARE = 0.1


def landmarks_of(joints: Array, names: list[str]) -> Array:
    """(T, 33, 3) of truth joints (T, N, 3)."""
    out = np.zeros((len(joints), 33, 3))
    at = {name: joints[:, k] for k, name in enumerate(names)}
    for name, theirs in _NAMED.items():
        out[:, LANDMARK[name]] = at[theirs]
    up = normalize(at["head"] - at["neck"])
    ahead = at["nose"] - at["neck"]
    ahead = normalize(ahead - np.sum(ahead * up, -1, keepdims=True) * up)
    left = cross(up, ahead)
    out[:, LANDMARK["nose"]] = at["nose"]
    for part, (x, y, z) in _HEAD.items():
        for side, sign in (("left", 1.0), ("right", -1.0)):
            name = f"mouth_{side}" if part == "mouth" else f"{side}_{part}"
            if part.startswith("eye_"):
                name = f"{side}_{part}"
            out[:, LANDMARK[name]] = at["nose"] + sign * x * left + y * up + z * ahead
    for side in ("left", "right"):
        wrist, elbow = (out[:, LANDMARK[f"{side}_{p}"]] for p in ("wrist", "elbow"))
        for part, share in _HAND.items():
            out[:, LANDMARK[f"{side}_{part}"]] = wrist + share * (wrist - elbow)
    return out


def _nearest(people: tuple[Detection, ...], true_px: Array, reach: float) -> Detection | None:
    """Who has hips and shoulders nearest the true ones (4, 2), within `reach` pixels."""
    best, far = None, reach
    for person in people:
        if person.landmarks is not None and person.landmarks.score > BELIEVED:
            d = float(np.linalg.norm(person.landmarks.points_px[[11, 12, 23, 24]].mean(0) - true_px.mean(0)))
            if d < far:
                best, far = person, d
    return best


def read(folder: Path, blazepose: BlazePose) -> tuple[Renders, float]:
    """A clip as one sequence, and seconds a picture. Raises OSError or ValueError when it is none with joint truth."""
    clip, camera = read_clip(folder), read_camera(folder)
    if clip.K is None or camera.R_camera_file is None or camera.t_camera_file_m is None or not clip.people:
        raise ValueError(f"{folder}: expected K, the camera's pose and joints.npz; name a clip that has them.")
    with np.load(folder / "joints.npz", allow_pickle=False) as z:
        names, joints = [str(n) for n in z["names"]], z["joints"].astype(np.float64)
    truth = landmarks_of(joints @ camera.R_camera_file.T + camera.t_camera_file_m, names)
    dist = np.array(camera.record.get("dist", [0.0] * 5), dtype=np.float64)
    detector, rows = PersonDetector(blazepose), []
    with open_source(str(clip.video)) as source:
        step_s = 1.0 / source.fps
        for frame, true in zip(source.frames(), truth, strict=False):
            people = detector(frame, StageClock())
            seen = _nearest(people, project(true[[11, 12, 23, 24]], clip.K), _FARTHEST_PX_SHARE * max(clip.size_wh))
            rows.append(None if seen is None else seen.landmarks)
    T = len(rows)
    px, metres, visibility = np.full((T, 33, 2), np.nan), np.full((T, 33, 3), np.nan), np.zeros((T, 33))
    for t, marks in enumerate(rows):
        if marks is not None:
            ideal = cv2.undistortPoints(marks.points_px[:, None], clip.K, dist, P=clip.K)
            px[t], metres[t], visibility[t] = ideal[:, 0], marks.points_m, marks.visibility
    legs = np.linalg.norm(truth[:T, 23:25] - truth[:T, 25:27], axis=-1)
    legs += np.linalg.norm(truth[:T, 25:27] - truth[:T, 27:29], axis=-1)
    values = {
        "landmarks": truth[None, :T], "K": clip.K[None], "size_wh": np.array([clip.size_wh]),
        "stature_m": np.array([STATURE_OF_LEG * np.nanmedian(legs)]), "hidden_by_m": np.full((1, T, 33), np.nan),
        "points_px": px[None], "points_m": metres[None], "visibility": visibility[None],
    }  # fmt: skip
    found = np.isfinite(px[None]).all((-1, -2)) & np.isfinite(truth[None, :T]).all((-1, -2))
    tensors = {k: torch.tensor(v, dtype=torch.float32) for k, v in values.items()}
    return Renders(**tensors, found=torch.tensor(found), group=torch.zeros(1, dtype=torch.long)), step_s


def clips(folders: list[Path]) -> Iterator[tuple[str, Renders, float]]:
    """Name, sequence and seconds a picture of each clip."""
    blazepose = BlazePose.open(threads=1) if folders else None
    for folder in folders:
        assert blazepose is not None
        yield folder.name, *read(folder, blazepose)
