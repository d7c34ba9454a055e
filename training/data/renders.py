"""Renders in shards of SHARD sequences, what the real landmark network finds in them beside the truth; resumable."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.blazepose import BlazePose
from training.data.actors import FRAMES, STEP_S
from training.data.sequences import Sequence, Studio
from training.data.sightings import look

SHARD = 10
#: One shard in so many is of motions that are kept aside.
_ASIDE_EVERY = 12
_LINES = ((11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24), (23, 25), (25, 27), (24, 26),
          (26, 28), (27, 31), (28, 32), (0, 7), (0, 8))  # fmt: skip


class Maker:
    """One process's studio and landmark network."""

    def __init__(self, motions: Path) -> None:
        self._motions = motions
        self._studios: dict[bool, Studio] = {}
        self.network = BlazePose.open(threads=1, max_batch=2)

    def sequence(self, seed: int, number: int) -> tuple[Sequence, dict[str, Any]]:
        """Sequence `number` of `seed` and its arrays: the truth and, FRAMES rows each, what was found."""
        held_out = number // SHARD % _ASIDE_EVERY == _ASIDE_EVERY - 1
        if held_out not in self._studios:
            self._studios[held_out] = Studio(self._motions, held_out)
        made = self._studios[held_out].sequence(seed, number)
        rng = np.random.default_rng([seed, number, 1])
        rows = look(self.network, rng, made.images, made.true_px, STEP_S)
        found = {key: np.stack([np.asarray(row[key]) for row in rows]) for key in rows[0]}
        return made, made.truth | found

    def shard(self, file: Path, seed: int, number: int) -> None:
        """Writes sequences number * SHARD and the following to `file`."""
        rows = [self.sequence(seed, number * SHARD + k)[1] for k in range(SHARD)]
        arrays: dict[str, Any] = {key: _column([row[key] for row in rows]) for key in rows[0]}
        part = file.with_suffix(".part")
        with part.open("wb") as handle:
            np.savez_compressed(handle, **arrays)
        part.rename(file)


def _column(values: list[Any]) -> np.ndarray:
    column = np.stack([np.asarray(v) for v in values])
    return column.astype(np.float32) if column.dtype.kind == "f" else column


_maker: Maker | None = None


def _begin(motions: Path) -> None:
    global _maker
    _maker = Maker(motions)


def _one(job: tuple[Path, int, int]) -> Path:
    assert _maker is not None
    _maker.shard(*job)
    return job[0]


def render(motions: Path, out: Path, sequences: int, seed: int, workers: int) -> Iterator[tuple[int, int]]:
    """Makes the shards OUT/sequences_NUMBER.npz that are missing; yields how many there are, of how many.

    Raises OSError when shards are missing and there are no motions.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [(out / f"sequences_{k:04d}.npz", seed, k) for k in range(-(-sequences // SHARD))]
    missing = [job for job in files if not job[0].exists()]
    done = len(files) - len(missing)
    if missing and not motions.is_file():
        raise OSError(f"{motions}: expected a file made by `python -m training.make_data motions`, found none.")
    yield done, len(files)
    if workers <= 1:
        maker = Maker(motions) if missing else None
        for file, of_seed, number in missing:
            assert maker is not None
            maker.shard(file, of_seed, number)
            done += 1
            yield done, len(files)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (motions,)) as pool:
        for future in as_completed([pool.submit(_one, job) for job in missing]):
            future.result()
            done += 1
            yield done, len(files)


def contact_sheet(maker: Maker, seed: int, numbers: list[int], frames: tuple[int, ...] = (0, FRAMES - 1)) -> np.ndarray:
    """Pictures (H, W, 3) RGB of sequences in rows, true landmarks in green and found ones in red: to look at."""
    rows = []
    for number in numbers:
        made, arrays = maker.sequence(seed, number)
        cells = []
        for k in frames:
            image = made.images[k].copy()
            thick = max(1, max(image.shape) // 400)
            for points, colour in ((made.true_px[k], (40, 230, 60)), (arrays["points_px"][k], (255, 50, 40))):
                for a, b in _LINES:
                    if np.isfinite(points[[a, b]]).all():
                        ends = np.clip(points[[a, b]], -4e3, 4e3).round().astype(int).tolist()
                        cv2.line(image, ends[0], ends[1], colour, thick, cv2.LINE_AA)
            side = 360 / max(image.shape[:2])
            small = cv2.resize(image, None, fx=side, fy=side, interpolation=cv2.INTER_AREA)
            cell = np.zeros((372, 372, 3), np.uint8)
            cell[6 : 6 + small.shape[0], 6 : 6 + small.shape[1]] = small
            cv2.putText(
                cell, f"{number} {made.truth['kind']} {arrays['score'][k]:.2f}", (8, 366), 0, 0.42, (255,) * 3, 1
            )
            cells.append(cell)
        rows.append(np.hstack(cells))
    return np.vstack(rows)
