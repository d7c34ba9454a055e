"""What the stream's own detector finds in a short sequence of pictures, told where to look first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.blazepose import BlazePose, Region
from pipeline.clock import StageClock
from pipeline.detector import PersonDetector
from pipeline.frames import Array
from pipeline.types import LANDMARK, Frame, Landmarks

Image = NDArray[np.uint8]
#: As of landmarks that were not found.
NOTHING: dict[str, Any] = {
    "points_px": np.full((33, 2), np.nan), "points_m": np.full((33, 3), np.nan), "visibility": np.zeros(33),
    "depth_px": np.zeros(33), "score": 0.0, "region": np.zeros(4), "found": False,
}  # fmt: skip
_HIPS = [LANDMARK["left_hip"], LANDMARK["right_hip"]]
_SHOULDERS = [LANDMARK["left_shoulder"], LANDMARK["right_shoulder"]]
#: Found hips farther from the true ones than this, in true regions, are somebody else's.
_ASTRAY = 0.3


def true_region(points_px: Array) -> Region:
    """The region that the networks would give somebody whose landmarks (33, 2) are known; nan where one is not."""
    hips, shoulders = points_px[_HIPS].mean(0), points_px[_SHOULDERS].mean(0)
    du, dv = shoulders - hips
    size = 2.5 * float(np.nanmax(np.linalg.norm(points_px - hips, axis=1)))
    angle = float(np.arctan2(dv, du)) + np.pi / 2
    return Region(
        (float(hips[0]), float(hips[1])), max(size, 8.0), float(np.remainder(angle + np.pi, 2 * np.pi) - np.pi)
    )


class Guide:
    """The landmark networks for one sequence, whose detector finds whom it is told to.

    `truth` is where the person is in the present picture. The first look goes there, not too exactly, or is the real
    detector's into the whole picture (`honest`), the candidate that is nearest; later ones, of people lost, are real.
    """

    def __init__(self, network: BlazePose, rng: np.random.Generator, honest: bool) -> None:
        self._network, self._rng, self._honest = network, rng, honest
        self.truth = Region((0.0, 0.0), 1.0)
        self.used: list[tuple[Landmarks, Region]] = []

    window, windows = staticmethod(BlazePose.window), staticmethod(BlazePose.windows)

    def detect(self, image: Image, threshold: float, windows: Sequence[Region]) -> list[tuple[Region, float]]:
        """Where the person may be: at most one region, and its score."""
        first = len(windows) > 1
        found: list[tuple[Region, float]] = []
        if self._honest or not first:
            found = self._network.detect(image, threshold, windows[:1])
        if not found and first:
            return [(self._roughly(), 1.0)]
        near = [f for f in found if self._away(f[0].center_px) < _ASTRAY]
        return sorted(near, key=lambda f: self._away(f[0].center_px))[:1]

    def landmarks(self, image: Image, regions: Sequence[Region]) -> list[tuple[Landmarks, Region]]:
        """As the network's, and keeps in mind what was looked at."""
        found = self._network.landmarks(image, regions)
        self.used += [(marks, region) for (marks, _), region in zip(found, regions, strict=True)]
        return found

    def _roughly(self) -> Region:
        r, rng = self.truth, self._rng
        u, v = np.array(r.center_px) + rng.normal(0, 0.05, 2) * r.size_px
        return Region(
            (float(u), float(v)), r.size_px * float(np.exp(rng.normal(0, 0.12))), r.angle_rad + rng.normal(0, 0.12)
        )

    def _away(self, center_px: Sequence[float] | Array) -> float:
        return float(np.hypot(*(np.asarray(center_px) - self.truth.center_px))) / self.truth.size_px


def look(
    network: BlazePose, rng: np.random.Generator, images: Sequence[Image], true_px: Array, step_s: float
) -> list[dict[str, Any]]:
    """What is found of the person whose landmarks are `true_px` (T, 33, 2), in pictures `step_s` apart."""
    guide = Guide(network, rng, honest=bool(rng.random() < 0.35))
    detector: PersonDetector[Region] = PersonDetector(guide, max_people=1)
    rows = []
    for k, (image, points) in enumerate(zip(images, true_px, strict=True)):
        t_ns = round(k * step_s * 1e9)
        guide.truth, guide.used = true_region(points), []
        people = detector(Frame("made", k, t_ns, t_ns, t_ns, image), StageClock())
        marks = people[0].landmarks if people else None
        near = marks is not None and guide._away(marks.points_px[_HIPS].mean(0)) < _ASTRAY
        if marks is None or not near:
            rows.append(NOTHING)
            continue
        used = next(region for found, region in guide.used if found is marks)
        rows.append({
            "points_px": marks.points_px, "points_m": marks.points_m, "visibility": marks.visibility,
            "depth_px": marks.depth_px, "score": marks.score, "found": True,
            "region": np.array([*used.center_px, used.size_px, used.angle_rad]),
        })  # fmt: skip
    return rows
