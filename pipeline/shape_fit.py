"""A person's shape from the lengths of their bones: the first few components, height first, fitted slowly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.body import BodyModel
from pipeline.calibration_sample import BODY
from pipeline.frames import Array
from pipeline.types import LANDMARK

#: Landmark pairs whose distances give the shape: bones, the widths of shoulders and hips, the flanks.
_ENDS = (
    ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"),
    ("right_elbow", "right_wrist"), ("left_hip", "left_knee"), ("right_hip", "right_knee"),
    ("left_knee", "left_ankle"), ("right_knee", "right_ankle"), ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
)  # fmt: skip
_PAIRS = np.array([[list(BODY).index(LANDMARK[name]) for name in pair] for pair in _ENDS]).T
_FREE_BETAS = 4
_MOST_BETA = 3.0
SIGMA_LENGTH_M = 0.03
MIN_VISIBILITY = 0.5
#: The shape is fitted again when this many looks have been seen, then it stays: bones do not grow.
FIT_AT = (1, 8, 25, 60, 120)


def bone_lengths(marks: Array) -> Array:
    """Distances (..., 12) in metres between pairs of the landmarks BODY (..., n, 3)."""
    difference = marks[..., _PAIRS[0], :] - marks[..., _PAIRS[1], :]
    return np.asarray(np.sqrt(np.vecdot(difference, difference)))


def fit_shape(body: BodyModel, lengths_m: Array, sigma_m: float = SIGMA_LENGTH_M) -> Array:
    """Betas (10,), the first few free, whose bones have `lengths_m` (12,), nan where unknown; 0 is the prior.

    Gauss-Newton with standard normal betas and lengths known to `sigma_m`.
    """
    known = np.isfinite(lengths_m)
    betas = np.zeros(10)
    steps = np.concatenate([np.zeros((1, 10)), 0.05 * np.eye(_FREE_BETAS, 10)])
    for _ in range(3):
        model = bone_lengths(body.shaped(betas + steps).landmarks_rest[:, BODY])[:, known]
        J = (model[1:] - model[0]).T / 0.05 / sigma_m
        r = (model[0] - lengths_m[known]) / sigma_m
        H = J.T @ J + np.eye(_FREE_BETAS)
        betas[:_FREE_BETAS] -= np.linalg.solve(H, J.T @ r + betas[:_FREE_BETAS])
    return np.clip(betas, -_MOST_BETA, _MOST_BETA)


@dataclass(eq=False)
class Looks:
    """The lengths seen of one person so far."""

    lengths: list[Array] = field(default_factory=list)

    @property
    def wanted(self) -> bool:
        """Whether another look can still change the shape."""
        return len(self.lengths) < FIT_AT[-1]

    def add(self, lengths_m: Array, visibility: NDArray[np.float64]) -> Array | None:
        """Takes lengths (12,) of landmarks BODY with `visibility` (n,); when a fit is due, their medians so far.

        A length that was seen in fewer than a quarter of the looks is nan; None when no fit is due or none is known.
        """
        seen = np.minimum(visibility[_PAIRS[0]], visibility[_PAIRS[1]]) > MIN_VISIBILITY
        self.lengths.append(np.where(seen, lengths_m, np.nan))
        if len(self.lengths) not in FIT_AT:
            return None
        every = np.stack(self.lengths)
        enough = np.count_nonzero(np.isfinite(every), axis=0) >= max(1, len(every) // 4)
        if not enough.any():
            return None
        median = np.full(len(_ENDS), np.nan)
        median[enough] = np.nanmedian(every[:, enough], axis=0)
        return median
