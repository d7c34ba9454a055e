"""Whether the camera still stands as it stood, told by the picture's background alone.

A few times a second a small grey copy of the picture is compared, block by block, with the background remembered.
Both are normalised by their local contrast first, so that switched lights, exposure and slow drifts of light change
little; blocks that people cover, that have no texture or that never were still do not count. Either nearly all blocks
have changed, or nearly all of those that tell fit better when the whole picture is shifted: then, once the new
background has itself been still for a moment, the camera has moved. What goes away again (a hand before the lens, a
crowd) leaves the old background and was nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.limited_log import LimitedLog
from pipeline.types import Detection

log = logging.getLogger(__name__)

Grey = NDArray[np.float32]

LOOK_S = 0.2
#: The new background must be still for so long: longer than a hand is before the lens.
CONFIRM_S = 1.2
#: Long sides in pixels of the small copy, and in blocks.
LONG_PX, LONG_BLOCKS = 192, 16
#: Width over which contrast is normalised, pixels, and contrast below which there is only noise, grey levels.
LOCAL_PX, NOISE = 9, 4.0
#: Normalised power of a block that has texture; correlation of one that is still, gain of one that fits better shifted.
TEXTURED, STILL, BETTER = 0.12, 0.5, 0.15
#: Shares of blocks: more are still and nothing happened, fewer and all has changed; how many must have texture then.
SAME_SHARE, CHANGED_SHARE, TEXTURED_SHARE = 0.6, 0.35, 0.4
#: Blocks without which nothing is said; share of them that must tell of a shift, and how many times as many as deny it.
MIN_BLOCKS, SHIFT_SHARE, SHIFT_ODDS = 8, 0.3, 4
#: A shift of less, in pixels of the small copy, turns the camera by less than its calibration errs: half a degree.
MIN_SHIFT_PX = 2
#: Looks for which a block must have been still before it counts, and at most counts on.
TRUSTED, TRUST_MAX = 2.0, 10.0
REFRESH = 0.05  # share of a look that goes into a still block's memory
#: Nothing fits for so long: the background is learned anew, in silence.
LOST_S = 10.0
#: Moved without rest for so long: the camera is carried. Events come at least PAUSE_S apart, twice that each time one
#: follows within FORGIVE_S.
CARRIED_S, PAUSE_S, FORGIVE_S = 5.0, 4.0, 60.0
_GROW = 0.1  # a person's shadow and motion blur reach out of the box


class Verdict(Enum):
    """What a look says of a background; NUDGED: shifted, by less than matters."""

    SAME = "same"
    NUDGED = "nudged"
    CHANGED = "changed"
    UNSURE = "unsure"


@dataclass(frozen=True, eq=False)
class Look:
    """A picture as it is compared: contrast (h, w), about -2..2, and 1 where there is background (h, w), else 0."""

    contrast: Grey
    background: Grey

    @staticmethod
    def at(image: NDArray[np.uint8], people: Sequence[Detection] = ()) -> Look:
        """Of a picture (H, W, 3) in which `people` are no background."""
        h, w = image.shape[:2]
        scale = LONG_PX / max(h, w)
        size = max(1, round(w * scale)), max(1, round(h * scale))
        # Every few pixels are enough to average over, and far cheaper to fetch
        step = max(1, int(0.5 / scale))
        green = np.ascontiguousarray(image[::step, ::step, 1])
        grey = np.asarray(cv2.resize(green, size, interpolation=cv2.INTER_AREA), np.float32)
        grey = np.asarray(cv2.GaussianBlur(grey, (3, 3), 0.7), np.float32)
        around = grey - np.asarray(cv2.blur(grey, (LOCAL_PX, LOCAL_PX)), np.float32)
        power = np.asarray(cv2.blur(around * around, (LOCAL_PX, LOCAL_PX)), np.float32)
        background = np.ones_like(grey)
        for person in people:
            left, top, right, bottom = person.box_xyxy * scale
            x, y = _GROW * (right - left), _GROW * (bottom - top)
            background[max(0, int(top - y)) : max(0, int(bottom + y) + 1),
                       max(0, int(left - x)) : max(0, int(right + x) + 1)] = 0.0  # fmt: skip
        return Look(around / np.sqrt(power + np.float32(NOISE**2)), background)


def compare(old: Look, new: Look, counted: NDArray[np.bool_] | None = None) -> tuple[Verdict, NDArray[np.bool_]]:
    """How the background of `new` stands to that of `old`, and which blocks (rows, columns) are still.

    counted  blocks that may speak; None: all
    """
    agree, known, textured_now = _blocks(old, new)
    still = known & (agree > STILL)
    valid = known if counted is None else known & counted
    n = int(np.count_nonzero(valid))
    if n < MIN_BLOCKS:
        return Verdict.UNSURE, still
    shift = _shift(old, new)
    if shift != (0, 0):
        shifted, also, _ = _blocks(old, _moved(new, shift))
        gain = (shifted - agree)[valid & also]
        better = int(np.count_nonzero(gain > BETTER))
        if better >= max(SHIFT_SHARE * n, MIN_BLOCKS) and better >= SHIFT_ODDS * np.count_nonzero(gain < -BETTER):
            return Verdict.CHANGED if max(map(abs, shift)) >= MIN_SHIFT_PX else Verdict.NUDGED, still
    share = np.count_nonzero(still & valid) / n
    if share >= SAME_SHARE:
        return Verdict.SAME, still
    changed = (
        share <= CHANGED_SHARE
        and np.count_nonzero(textured_now & valid) >= TEXTURED_SHARE * n
        and not _half_is_still(still & valid, valid)
    )
    return (Verdict.CHANGED if changed else Verdict.UNSURE), still


def _blocks(old: Look, new: Look) -> tuple[Grey, NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each block the correlation, whether it is background with texture in `old`, and has texture in `new`."""
    both = old.background * new.background
    a, b = old.contrast * both, new.contrast * both
    share = _means(both)
    aa, bb = _means(a * a), _means(b * b)
    agree = _means(a * b) / np.sqrt(aa * bb + np.float32(1e-6))
    known = (share > 0.5) & (aa > TEXTURED * share)
    return agree, known, bb > 0.5 * TEXTURED * share


def _half_is_still(still: NDArray[np.bool_], valid: NDArray[np.bool_]) -> bool:
    """Whether the blocks of the left, right, upper or lower half are still: then something stands before the rest."""
    rows, columns = valid.shape[0] // 2, valid.shape[1] // 2
    halves = np.s_[:, :columns], np.s_[:, -columns:], np.s_[:rows], np.s_[-rows:]
    counts = [(np.count_nonzero(valid[half]), np.count_nonzero(still[half])) for half in halves]
    return any(n >= MIN_BLOCKS / 2 and k >= SAME_SHARE * n for n, k in counts)


def _means(values: Grey) -> Grey:
    h, w = values.shape
    side = max(h, w) / LONG_BLOCKS
    size = max(1, round(w / side)), max(1, round(h / side))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def _shift(old: Look, new: Look) -> tuple[int, int]:
    """Pixels (right, down) by which `new` is best moved to lie on `old`: the peak of their cross-correlation."""
    spectra = [cv2.dft(look.contrast * look.background) for look in (old, new)]
    product = cv2.mulSpectrums(spectra[0], spectra[1], 0, conjB=True)
    _, _, _, (x, y) = cv2.minMaxLoc(cv2.idft(product, flags=cv2.DFT_REAL_OUTPUT))
    h, w = old.contrast.shape
    return (x - w if x > w // 2 else x), (y - h if y > h // 2 else y)


def _moved(look: Look, shift: tuple[int, int]) -> Look:
    by = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    h, w = look.contrast.shape
    contrast = cv2.warpAffine(look.contrast, by, (w, h), flags=cv2.INTER_NEAREST)
    background = cv2.warpAffine(look.background, by, (w, h), flags=cv2.INTER_NEAREST)
    return Look(np.asarray(contrast, np.float32), np.asarray(background, np.float32))


class SceneWatch:
    """Watches the background of one camera's pictures, all of one size; for one thread."""

    def __init__(self, camera_id: str) -> None:
        self._camera_id = camera_id
        self._scene: Look | None = None
        self._trust: Grey = np.zeros((1, 1), np.float32)
        self._next_s = -np.inf
        self._fits_s = 0.0
        self._new: Look | None = None
        self._new_s = self._restless_s = 0.0
        self._event_s, self._pause_s = -np.inf, PAUSE_S
        self._limited = LimitedLog(log, every_s=60.0)

    def moved(self, t_s: float, image: NDArray[np.uint8], people: Sequence[Detection] = ()) -> bool:
        """True once when the camera has moved and stands still again; `image` (H, W, 3) was taken at `t_s` seconds.

        Looks only when LOOK_S have passed since the last look, or when time goes back.
        """
        if self._next_s - LOOK_S <= t_s < self._next_s:
            return False
        self._next_s = t_s + LOOK_S
        now = Look.at(image, people)
        if self._scene is None or self._scene.contrast.shape != now.contrast.shape:
            self._learn(t_s, now)
            return False
        trusted = self._trust >= TRUSTED
        verdict, still = compare(self._scene, now, trusted)
        if verdict is Verdict.SAME or np.count_nonzero(trusted) < MIN_BLOCKS:
            self._refresh(t_s, now, still)
        elif verdict is Verdict.NUDGED:
            self._new, self._fits_s = None, t_s
        elif verdict is Verdict.CHANGED:
            return self._changed(t_s, now)
        elif not 0.0 <= t_s - self._fits_s < LOST_S:
            self._learn(t_s, now)
        return False

    def _learn(self, t_s: float, now: Look) -> None:
        """Starts from this background; nothing in it is trusted yet."""
        self._scene, self._new, self._fits_s = now, None, t_s
        self._trust = np.zeros_like(_means(now.background))

    def _refresh(self, t_s: float, now: Look, still: NDArray[np.bool_]) -> None:
        """Takes in what the same camera sees: still blocks a little, others when they had long enough to come back."""
        assert self._scene is not None
        old, self._new, self._fits_s = self._scene, None, t_s
        seen = _means(now.background) > 0.5
        self._trust = np.clip(self._trust + np.where(seen, np.where(still, 1.0, -0.5), 0.0), 0.0, TRUST_MAX).astype(
            np.float32
        )
        rate = np.where(still, REFRESH, np.where(self._trust <= 0.0, 1.0, 0.0)).astype(np.float32)
        share = cv2.resize(rate, now.contrast.shape[::-1], interpolation=cv2.INTER_NEAREST)
        share = np.where(old.background > 0.0, share, 1.0) * now.background
        self._scene = Look(
            (old.contrast + share * (now.contrast - old.contrast)).astype(np.float32),
            np.maximum(old.background, now.background),
        )

    def _changed(self, t_s: float, now: Look) -> bool:
        """Nothing is where it was: an event once it rests in its new place."""
        if self._new is None:
            self._new, self._new_s, self._restless_s = now, t_s, t_s
            return False
        verdict, _ = compare(self._new, now)
        if verdict in (Verdict.CHANGED, Verdict.NUDGED) or t_s < self._new_s:
            self._new, self._new_s = now, t_s
            if t_s - self._restless_s > CARRIED_S:
                self._limited.warning("Camera %s moves all the time, but a still camera is assumed: set it down, or "
                                      "take world poses as rough.", self._camera_id)  # fmt: skip
            return False
        rested = verdict is Verdict.SAME and t_s - self._new_s >= CONFIRM_S
        if not rested or 0.0 <= t_s - self._event_s < self._pause_s:
            return False
        self._pause_s = min(2.0 * self._pause_s, FORGIVE_S) if t_s - self._event_s < FORGIVE_S else PAUSE_S
        self._event_s = t_s
        self._learn(t_s, now)
        return True
