"""Left and right kept apart: a landmark network now and then exchanges the sides of a body, of its arms or its legs.

Exchanged sides leave every pair's middle where it is and reverse the vector from right to left. No limb reverses like
that between two pictures, so an exchange is seen as it happens; which of the two labellings is right, the network
itself says by giving it most of the time. So short exchanges are undone, and one that lasts is believed after 0.4
seconds: sides that were wrong from the start stay wrong no longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, sqrt

import numpy as np

from pipeline.types import LANDMARK, LANDMARK_NAMES, Landmarks

#: The other side's landmark for each of the 33.
_OTHER = np.array([
    LANDMARK[n.replace("left", "?").replace("right", "left").replace("?", "right")] for n in LANDMARK_NAMES
])  # fmt: skip


_FACE = np.array([i for i, n in enumerate(LANDMARK_NAMES) if n == "nose" or "eye" in n or "mouth" in n])
_EARS = np.array([LANDMARK["left_ear"], LANDMARK["right_ear"]])


def _those(*parts: str) -> np.ndarray:
    names = [f"{side}_{part}" for part in parts for side in ("left", "right")]
    return np.array([LANDMARK[n] for n in names] + [i for i in _FACE if "ear" in parts and LANDMARK_NAMES[i] != "nose"])


#: Trunk and head, arms, legs: what is exchanged together.
_PARTS = (
    _those("shoulder", "hip", "ear"),
    _those("elbow", "wrist", "pinky", "index", "thumb"),
    _those("knee", "ankle", "heel", "foot_index"),
)
#: Two pairs of each part tell whether its sides were exchanged.
_TELLING = ("shoulder", "hip", "elbow", "wrist", "knee", "ankle")
_LEFT, _RIGHT = (np.array([LANDMARK[f"{side}_{part}"] for part in _TELLING]) for side in ("left", "right"))
#: Pairs whose sides would have to part faster than this to be reversed (m/s, across the view) were exchanged.
_SPEEDS_M_S = (8.0, 14.0, 12.0)
LEAST_S = 1 / 30  # at higher frame rates they must come as far as in this time
REVERSED = -0.75  # cosine with what was, of a part alone
REVERSED_TOO, SPEED_TOO = -0.5, 0.4  # cosine, and share of the speed, of a part beside one that is surely reversed
MIN_VISIBILITY = 0.3
MEMORY_S = 0.6  # a labelling that is new is believed after 0.7 of this; wrong ones last up to a third of a second
FIRST_S = 0.03  # what the first picture counts
GAP_S = 0.3  # nothing is known of sides across a longer one


@dataclass(eq=False)
class Sides:
    """The sides of one person from picture to picture."""

    t_s: float = -1e9
    #: Whether the network's labels are exchanged against those it began with, trunk, arms, legs: 1 or -1.
    turned: list[int] = field(default_factory=lambda: [1, 1, 1])
    #: Which of the two it gives most of the time: above 0 those it began with.
    usual: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    before: list[list[float]] = field(default_factory=list)

    def kept(self, landmarks: Landmarks, t_s: float) -> Landmarks:
        """The landmarks with the sides they usually have."""
        points, visibility = landmarks.points_m, landmarks.visibility
        across = (points[_LEFT, :2] - points[_RIGHT, :2]).tolist()
        seen = np.minimum(visibility[_LEFT], visibility[_RIGHT]).tolist()
        dt = t_s - self.t_s
        followed = 0.0 < dt <= GAP_S
        if followed:
            self._follow(across, seen, dt)
        else:
            self.turned, self.usual = [1, 1, 1], [0.0, 0.0, 0.0]
        gain = 1.0 - exp(-(dt if followed else FIRST_S) / MEMORY_S)
        for part, sign in enumerate(self.turned):
            self.usual[part] += gain * (sign - self.usual[part])
            for pair in (2 * part, 2 * part + 1):
                across[pair] = [sign * v for v in across[pair]]
        if followed:
            # In the middle of an exchange the network may put both sides in one place: that is not where they were
            across = [[0.5 * (x + x0), 0.5 * (y + y0)] for (x, y), (x0, y0) in zip(across, self.before, strict=True)]
        self.before, self.t_s = across, t_s
        wrong = [part for part in range(3) if self.turned[part] * self.usual[part] < 0.0]
        return exchanged(landmarks, wrong) if wrong else landmarks

    def _follow(self, across: list[list[float]], seen: list[float], dt: float) -> None:
        """Notes which parts' labels were exchanged since the pictures before."""
        found = [self._reversal(part, across, seen, dt) for part in range(3)]
        if not any(cosine < REVERSED and speed > 1.0 for cosine, speed in found):
            return
        for part, (cosine, speed) in enumerate(found):
            if (cosine < REVERSED and speed > 1.0) or (cosine < REVERSED_TOO and speed > SPEED_TOO):
                self.turned[part] = -self.turned[part]

    def _reversal(self, part: int, across: list[list[float]], seen: list[float], dt: float) -> tuple[float, float]:
        """Cosine between how a part's sides lie and how they lay, and how fast they came there over what they may."""
        together = size = apart = 0.0
        n = 0
        for pair in (2 * part, 2 * part + 1):
            if seen[pair] < MIN_VISIBILITY:
                continue
            x, y = (self.turned[part] * v for v in across[pair])
            x0, y0 = self.before[pair]
            together += x * x0 + y * y0
            size += 0.5 * (x * x + y * y + x0 * x0 + y0 * y0)
            apart += (x - x0) ** 2 + (y - y0) ** 2
            n += 1
        far = _SPEEDS_M_S[part] * max(dt, LEAST_S)
        return together / max(size, 1e-9), sqrt(apart / max(n, 1)) / far


def exchanged(landmarks: Landmarks, parts: list[int]) -> Landmarks:
    """The landmarks with left and right of some parts (0 trunk and head, 1 arms, 2 legs) exchanged.

    With the trunk's sides goes the belief that one sees its front or its back: the face is put before the ears or
    behind them, wherever it was not.
    """
    order = np.arange(33)
    for part in parts:
        order[_PARTS[part]] = _OTHER[_PARTS[part]]
    points_m, depth_px = landmarks.points_m[order], landmarks.depth_px[order]
    if 0 in parts:
        points_m[_FACE, 2] = 2.0 * points_m[_EARS, 2].mean() - points_m[_FACE, 2]
        depth_px[_FACE] = 2.0 * depth_px[_EARS].mean() - depth_px[_FACE]
    return Landmarks(landmarks.points_px[order], depth_px, landmarks.visibility[order], points_m, landmarks.score)
