"""What the trained networks say of the camera, pooled over looks at people: a focal length and a vertical.

Each look is an opinion with a spread of its own (`pipeline.landmark_net`). Opinions on one clip err alike, so together
they are worth a few independent ones at most. What they agree on is where the bundle (`pipeline.calibration_bundle`)
starts from, in place of what is assumed of a camera that nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.frames import Array, normalize, shortest_rotation
from pipeline.landmark_net import Reading

#: Independent looks that all of a clip are worth, and what no number of looks takes away: the bundle looks at the same
#: landmarks, so that a vertical from here must not count beside it as if it were another witness.
WORTH = 1.5
FOCAL_FLOOR, UP_FLOOR_RAD = 0.25, np.radians(10.0)
#: Opinions that are kept, and the newest of them that are never thinned out.
KEPT, NEWEST = 64, 6
_AXIS = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Opinion:
    """One look: log_focal over the picture's long side and up_ray (3,), each with its sigma; hip_px (2,) of the hips
    from the picture's middle, over its long side."""

    log_focal: float
    focal_sigma: float
    up_ray: Array
    up_sigma_rad: float
    hip: Array

    @classmethod
    def of(cls, reading: Reading, size_wh: tuple[int, int]) -> Opinion:
        """What a reading says."""
        hips = reading.landmarks.points_px[23:25].mean(0)
        hip = (hips - (np.asarray(size_wh) - 1) / 2) / max(size_wh)
        return cls(reading.log_focal, reading.log_focal_sigma, reading.up_ray, reading.up_sigma_rad, hip)


def keep(opinions: list[Opinion], new: Opinion, look: int) -> None:
    """Adds one; the list holds the newest and, ever thinner, the older ones. `look` counts looks."""
    opinions.append(new)
    if len(opinions) > KEPT:
        del opinions[look * 7 % (KEPT - NEWEST)]


def pooled_focal(opinions: Sequence[Opinion]) -> tuple[float, float]:
    """Log of the focal length over the long side, and its sigma."""
    values = np.array([o.log_focal for o in opinions])
    w = 1.0 / np.array([o.focal_sigma for o in opinions]) ** 2
    share = min(1.0, WORTH / len(opinions))
    return float(w @ values / w.sum()), float(np.hypot(FOCAL_FLOOR, 1.0 / np.sqrt(share * w.sum())))


def pooled_up(opinions: Sequence[Opinion], log_focal: float) -> tuple[Array, float]:
    """The vertical (3,) in a camera of that focal length, and its sigma in radians; outliers count less."""
    hips = np.array([o.hip for o in opinions]) / np.exp(log_focal)
    rays = normalize(np.column_stack([hips, np.ones(len(hips))]))
    turns = shortest_rotation(np.broadcast_to(_AXIS, rays.shape), rays)
    ups = (turns @ np.stack([o.up_ray for o in opinions])[..., None])[..., 0]
    sigma = np.array([o.up_sigma_rad for o in opinions])
    w = 1.0 / sigma**2
    up = normalize(w @ ups)
    for _ in range(3):
        off = np.arccos(np.clip(ups @ up, -1.0, 1.0))
        robust = w / np.maximum(1.0, off / (1.5 * sigma))
        up = normalize(robust @ ups)
    share = min(1.0, WORTH / len(opinions))
    return up, float(np.hypot(UP_FLOOR_RAD, 1.0 / np.sqrt(share * robust.sum())))
