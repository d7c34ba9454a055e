"""Renders of `training.landmark_renders` and `training.make_data` as tensors: truth, and what was found.

The shards' landmarks are anatomical places; here they are where the network puts them (`landmark_points.json`), as on
the project's own body.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.frames import Array
from training.anny_rig import LANDMARK_JOINTS
from training.bake_body import measured_points
from training.error_geometry import OTHER, Views

BELIEVED = 0.5
_JUDGED = ((11, 33), (13, 17), (25, 29))
#: Sides count as exchanged when that explains more than this, statures.
_OFF = 0.035


@dataclass(frozen=True, eq=False)
class Renders:
    """S sequences of T pictures each: truth, and what the landmark network found.

    landmarks (S, T, 33, 3) true ones where the network puts them, camera metres; K (S, 3, 3), size_wh (S, 2),
    stature_m (S,), hidden_by_m (S, T, 33), points_px (S, T, 33, 2), points_m (S, T, 33, 3), visibility (S, T, 33),
    found (S, T) found and believed in, group (S,) the shard.
    """

    landmarks: Tensor
    K: Tensor
    size_wh: Tensor
    stature_m: Tensor
    hidden_by_m: Tensor
    points_px: Tensor
    points_m: Tensor
    visibility: Tensor
    found: Tensor
    group: Tensor

    def __len__(self) -> int:
        return len(self.stature_m)

    @classmethod
    def load(cls, files: list[Path]) -> Renders:
        """From shards; pictures (N, ...) count as sequences of one. Raises OSError when there is no file."""
        if not files:
            raise OSError("Expected shards *.npz of training.landmark_renders or training.make_data, found none.")
        parts = [cls._shard(dict(np.load(f)), k) for k, f in enumerate(files)]
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    @classmethod
    def _shard(cls, d: dict[str, np.ndarray], number: int) -> Renders:
        if d["landmarks"].ndim == 3:
            once = {"K", "stature_m", "joints_rest", "landmarks_rest"}
            d = {k: v if k in once else v[:, None] for k, v in d.items()}
        K = d["K"] if d["K"].ndim == 3 else d["K"][:, 0]
        stature = d["stature_m"] if d["stature_m"].ndim == 1 else d["stature_m"][:, 0]
        size = d["size_wh"].reshape(len(K), -1)[:, -2:] if "size_wh" in d else 2 * K[:, :2, 2] + 1
        found = d["found"] & (d["score"] > BELIEVED)
        values: dict[str, Array] = {
            "landmarks": true_landmarks(d), "K": K, "size_wh": size, "stature_m": stature,
            "hidden_by_m": d["hidden_by_m"], "points_px": d["points_px"], "points_m": d["points_m"],
            "visibility": d["visibility"],
        }  # fmt: skip
        tensors = {k: torch.tensor(np.asarray(v), dtype=torch.float32) for k, v in values.items()}
        return cls(**tensors, found=torch.tensor(found), group=torch.full((len(K),), number))

    def where(self, keep: Tensor) -> Renders:
        """Those sequences of a mask or an index."""
        return Renders(**{f.name: getattr(self, f.name)[keep] for f in fields(Renders)})

    def views(self, measured: bool = True) -> Views:
        """All S * T pictures; with what was measured of hidden landmarks, or what the body alone tells."""
        hidden = self.hidden_by_m if measured else None
        return Views.of(self.landmarks, self.K, self.size_wh, self.stature_m, hidden)


def held_out(file: Path) -> bool:
    """Whether a shard NAME_NUMBER.npz is kept aside for `training.error_model --report`: every fifth."""
    digits = file.stem.rpartition("_")[2]
    return digits.isdigit() and int(digits) % 5 == 4


def true_landmarks(d: dict[str, np.ndarray]) -> Array:
    """(S, T, 33, 3) camera metres: the shards' anatomical places moved to where the network puts its landmarks."""
    rest, joints = d["landmarks_rest"], d["joints_rest"]
    stature = np.asarray(d["stature_m"])
    moved = rest - joints[..., LANDMARK_JOINTS, :] + stature[..., None, None] * measured_points()
    moved = moved if moved.ndim == 4 else moved[:, None]
    turns = d["Rs_camera_joint"][..., LANDMARK_JOINTS, :, :]
    return np.asarray(d["joints"][..., LANDMARK_JOINTS, :] + (turns @ moved[..., None])[..., 0])


def flips_of(views: Views, points_px: Tensor) -> Tensor:
    """(N,) which sides the network exchanged: 0 none, 1 whole body, 2 arms, 3 legs."""
    found = views.plane_of(points_px)
    state = torch.zeros(len(found), dtype=torch.long)
    for number in (3, 2, 1):
        a, b = _JUDGED[number - 1]
        own = (found - views.plane)[:, a:b].norm(dim=-1).median(1).values
        other = (found - views.plane[:, OTHER])[:, a:b].norm(dim=-1).median(1).values
        state[(other < 0.6 * own) & (own > _OFF)] = number
    return state


def kinds(files: list[Path]) -> Iterator[Renders]:
    """Single pictures and sequences of the shards apart, whichever there are."""
    loaded: dict[int, list[Path]] = {}
    for file in files:
        with np.load(file) as z:
            loaded.setdefault(z["found"].shape[1] if z["found"].ndim > 1 else 1, []).append(file)
    for _, same in sorted(loaded.items()):
        yield Renders.load(same)
