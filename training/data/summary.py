"""What a folder of renders holds and how well the landmark network did: `python -m training.make_data report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics import pa_mpjpe_mm
from pipeline.frames import Array
from training.error_renders import true_landmarks

#: Shoulders, elbows, wrists, hips, knees and ankles.
LIMBS = np.array([11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
_FIELDS = ("joints", "joints_rest", "landmarks_rest", "stature_m", "Rs_camera_joint", "K", "size_wh", "points_px",
           "points_m", "found", "score", "hidden_by_m", "kind", "webcam", "people")  # fmt: skip


def gathered(folder: Path) -> dict[str, Any]:
    """The arrays of all shards in `folder`, one after another. Raises OSError when there is none."""
    files = sorted(folder.glob("sequences_*.npz"))
    if not files:
        raise OSError(
            f"{folder}: expected shards sequences_*.npz of `python -m training.make_data render`, found none."
        )
    parts = []
    for file in files:
        with np.load(file) as z:
            parts.append({k: z[k] for k in _FIELDS})
    return {k: np.concatenate([p[k] for p in parts]) for k in _FIELDS}


def _pixels(points: Array, K: Array) -> Array:
    z = np.where(points[..., 2:] > 0.1, points[..., 2:], np.nan)
    return np.asarray((points / z) @ np.swapaxes(K[..., :2, :], -1, -2))


def report(folder: Path) -> str:
    """A table, kind by kind: sequences, share of pictures found, median error of limb landmarks in the picture.

    In pixels, in % of the person's size in the picture (stature times focal length over depth), and for those that
    nothing hides; PA-MPJPE of metric landmarks of pictures that hold ten limb landmarks or more, mean and median.
    """
    d = gathered(folder)
    truth = true_landmarks(d)
    true_px = _pixels(truth, d["K"])
    inside = ((true_px >= 0) & (true_px < d["size_wh"][..., None, :])).all(-1) & d["found"][..., None]
    error = np.where(inside, np.linalg.norm(d["points_px"] - true_px, axis=-1), np.nan)[..., LIMBS]
    size = d["stature_m"] * d["K"][..., 0, 0] / np.maximum(truth[..., 23:25, 2].mean(-1), 0.2)
    free = np.where(d["hidden_by_m"][..., LIMBS] < 0.12, error, np.nan) / size[..., None]
    whole = inside[..., LIMBS].sum(-1) >= 10
    rows = ["kind                 sequences  found  2D px  2D %  seen %  PA mean mm  median"]
    kinds: list[tuple[str, Any]] = [("all", np.ones(len(truth), bool)), ("webcams", d["webcam"])]
    kinds += [("several people", d["people"] > 1)] + [(str(k), d["kind"] == k) for k in np.unique(d["kind"])]
    for name, which in kinds:
        if not which.any():
            continue
        pairs = zip(d["points_m"][whole & which[:, None]], truth[whole & which[:, None]], strict=True)
        aligned = [pa_mpjpe_mm(a[None, LIMBS], b[None, LIMBS]) for a, b in pairs] or [np.nan]
        share = 100 * d["found"][which].mean()
        percent = [100 * float(np.nanmedian(e[which])) for e in (error / size[..., None], free)]
        rows.append(
            f"{name:20s} {which.sum():9d} {share:5.1f}% {np.nanmedian(error[which]):6.2f} {percent[0]:5.2f} "
            f"{percent[1]:7.2f} {np.mean(aligned):9.1f} {np.median(aligned):9.1f}"
        )
    return "\n".join(rows)
