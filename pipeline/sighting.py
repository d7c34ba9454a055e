"""What one frame shows of one person, and how two such sightings compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.appearance import body_center, body_size
from pipeline.types import Landmarks

#: Mean distance of the body's landmarks in body sizes under which two are the same person.
SAME_BODY = 0.09
#: The same of a single landmark.
SAME_LIMB = 0.06
_BODY = slice(11, 29)


@dataclass(eq=False)
class Sighting:
    """Landmarks of somebody in this frame.

    `region` is where to look for him next, `used` where he was looked for, and `track` (a `pipeline.tracking.Track`)
    whose region that was, or None.
    """

    landmarks: Landmarks
    region: Any = None
    used: Any = None
    track: Any = None

    def __post_init__(self) -> None:
        self.center = body_center(self.landmarks)
        self.size = body_size(self.landmarks)


def same_body(a: Sighting, b: Sighting) -> bool:
    """Whether two sightings are the landmarks of one person."""
    limit = SAME_BODY * min(a.size, b.size)
    if np.abs(a.center - b.center).max() > 3 * limit:
        return False
    apart = np.linalg.norm(a.landmarks.points_px[_BODY] - b.landmarks.points_px[_BODY], axis=1)
    return bool(np.mean(apart) < limit)


def is_double(s: Sighting, others: Sequence[Sighting]) -> bool:
    """Whether a candidate is somebody else over again, or put together from limbs that others have already."""
    if not others or any(same_body(s, o) for o in others):
        return bool(others)
    points = np.stack([o.landmarks.points_px[_BODY] for o in others])
    apart = np.linalg.norm(points - s.landmarks.points_px[_BODY], axis=2)
    near = np.array([SAME_LIMB * min(s.size, o.size) for o in others])
    return float((apart < near[:, None]).any(0).mean()) >= 0.45


def distance(a: Sighting, b: Sighting) -> float:
    """Distance of two people in sizes of the smaller."""
    return float(np.hypot(*(a.center - b.center)) / min(a.size, b.size))


def covered(a: Sighting, b: Sighting) -> float:
    """The part of a's extent that lies in b's, 0..1."""
    pa, pb = a.landmarks.points_px, b.landmarks.points_px
    shared = np.clip(np.minimum(pa.max(0), pb.max(0)) - np.maximum(pa.min(0), pb.min(0)), 0, None).prod()
    return float(shared / max(np.ptp(pa, axis=0).prod(), 1e-9))
