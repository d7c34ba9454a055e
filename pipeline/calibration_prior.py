"""How people hold themselves against gravity, and how their bodies differ: what calibration knows before it looks.

Two Gaussians of the landmarks in a frame whose y is up and whose heading is the body's own: people upright on their
legs, and anybody. Made by `python -m training.bake_pose_prior` from CMU's motion capture (mocap.cs.cmu.edu, NSF
EIA-0196217) and procedural poses; nothing of it is fitted to a video.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Array

FORMAT = 1
DEFAULT_FILE = Path(__file__).parent / "data" / "pose_prior.npz"
COMPONENTS = 16
UPRIGHT, ANY = 0, 1


@dataclass(frozen=True, eq=False)
class PosePrior:
    """Gaussians of the 19 body landmarks, UPRIGHT and ANY: `mean + directions @ c`, c of unit variance.

    mean        (2, 19, 3) metres about the hips' middle, y up, left at +x, of people of 1.72 m
    directions  (2, 57, K) metres, x y z of each landmark after another
    rest        (2, 19) metres, standard deviation of what the directions leave out
    shape       (57, S) metres, one standard deviation each of proportions that stay with a person
    """

    mean: Array
    directions: Array
    rest: Array
    shape: Array

    @classmethod
    def load(cls, path: str | Path | None = None) -> PosePrior:
        """From a file of `python -m training.bake_pose_prior`; without a path the project's own (kept).

        Raises ValueError when the file is not one or has another format, OSError when it cannot be read.
        """
        return _own() if path is None else _read(Path(path))


def _read(file: Path) -> PosePrior:
    try:
        with np.load(file, allow_pickle=False) as data:
            number = int(data["format"])
            mean, directions, rest = (
                np.stack([data[f"{name}_{part}"].astype(np.float64) for name in ("upright", "any")])
                for part in ("mean", "directions", "rest")
            )
    except (ValueError, KeyError, EOFError) as e:
        raise ValueError(f"{file}: expected a file of `python -m training.bake_pose_prior`, got {e!r}.") from e
    if number != FORMAT or directions.shape != (2, 19, 3, COMPONENTS):
        raise ValueError(f"{file}: expected format {FORMAT}, got {number}; run `python -m training.bake_pose_prior`.")
    return PosePrior(mean, directions.reshape(2, 57, COMPONENTS), rest, _proportions(mean[UPRIGHT]))


@cache
def _own() -> PosePrior:
    return _read(DEFAULT_FILE)


#: Standard deviations of proportions at one stature and of where a network puts its landmarks; metres, shares.
_TALL, _TRUNK_TALL, _HEAD, _ARMS, _FEET, _STANCE, _LEAN, _LEGS = 0.05, 0.04, 0.03, 0.03, 0.02, 0.03, 0.04, 0.03
_PLACE = 0.015


def _proportions(mean: Array) -> Array:
    """Directions (57, S) in which bodies, clothes and landmarks' places differ from person to person.

    The first is height against width. They stand in the body's upright frame, so they are wrong for a limb that is
    turned far, by less than what they allow for.
    """
    columns = []

    def add(which: NDArray[np.int64], axis: int, values: Array | float) -> None:
        column = np.zeros((19, 3))
        column[which, axis] = values
        columns.append(column.ravel())

    everything, head = np.arange(19), np.arange(16, 19)
    arms, legs, feet = np.arange(6), np.arange(8, 16), np.arange(10, 16)
    upper = np.concatenate([arms, head])
    left = np.tile([1.0, -1.0], 4)
    add(everything, 1, _TALL * mean[:, 1])
    add(upper, 1, _TRUNK_TALL * mean[upper, 1])
    add(head, 1, _HEAD)
    add(head, 2, _HEAD)
    add(arms, 0, _ARMS * left[:6])
    add(feet, 1, _FEET)
    add(feet, 0, _STANCE * left[:6])
    add(upper, 2, _LEAN)
    add(legs, 2, _LEGS)
    # Each pair of the trunk and the legs by itself, alike on both sides
    for k in (0, 3, 4, 5, 6, 7):
        for axis in range(3):
            add(np.array([2 * k, 2 * k + 1]), axis, _PLACE * (left[:2] if axis == 0 else 1.0))
    for axis in range(3):
        add(np.array([17, 18]), axis, _PLACE * (left[:2] if axis == 0 else 1.0))
    for axis in (1, 2):
        add(np.array([16]), axis, _PLACE)
    return np.stack(columns, axis=-1)
