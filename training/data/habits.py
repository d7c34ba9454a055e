"""What actors do besides: where their hands go, how they sway, sit and lean."""

from __future__ import annotations

import numpy as np

from pipeline.frames import Array, normalize
from training.data.acting import Curves, drift, eased, rest, timeline

#: Where wrists rest or go, from the shoulder: outward, up, forward; then how far the elbow is lifted, degrees.
_PLACES = {
    "hang": (0.10, -0.48, 0.06, 12), "keyboard": (-0.03, -0.27, 0.36, 25), "mouse": (0.12, -0.28, 0.38, 30),
    "lap": (-0.05, -0.37, 0.24, 20), "chin": (-0.13, 0.05, 0.21, 20), "ear": (-0.06, 0.13, 0.12, 40),
    "mouth": (-0.12, 0.10, 0.23, 35), "text": (-0.11, -0.13, 0.30, 15), "hips": (0.08, -0.41, -0.02, 75),
    "crossed": (-0.24, -0.18, 0.19, 20), "neck": (-0.09, 0.21, -0.04, 95), "back": (-0.08, -0.40, -0.14, 35),
    "knees": (0.02, -0.40, 0.28, 25), "reach": (-0.02, 0.02, 0.50, 30), "up": (0.04, 0.50, 0.03, 60),
    "side": (0.50, 0.0, 0.02, 40), "front": (0.0, 0.0, 0.50, 40), "selfie": (0.02, 0.17, 0.45, 35),
    "wave": (0.20, 0.22, 0.18, 45), "hair": (-0.05, 0.28, 0.05, 80), "glasses": (-0.11, 0.17, 0.19, 40),
}  # fmt: skip


def pairs(text: str) -> list[list[str]]:
    """Places of the left and the right hand, "lap/mouse keyboard*4": one for both, or left/right; *n for n times."""
    out = []
    for word in text.split():
        names, _, times = word.partition("*")
        left, _, right = names.partition("/")
        out += [[left, right or left]] * int(times or 1)
    return out


def hands(
    rng: np.random.Generator, t: Array, c: Curves, places: list[list[str]], move_s: tuple[float, float] = (0.35, 1.0),
    hold_s: tuple[float, float] = (0.2, 2.0), apart: float = 0.06,
) -> None:  # fmt: skip
    """Hands that go from one of `places` (pairs for left and right, or "gesture") to the next."""
    together = rng.random() < 0.6
    times, which = timeline(rng, t[-1], move_s, hold_s)
    chosen = rng.integers(len(places), size=which.max() + 1)
    for k in range(2):
        if not together and k:
            times, which = timeline(rng, t[-1], move_s, hold_s)
            chosen = rng.integers(len(places), size=which.max() + 1)
        keys = np.array([place(rng, places[i][k], apart) for i in chosen])
        c.hands[:, k] = path(keys[which, :3], times, t) + drift(rng, t, 0.006, 3)
        c.elbows[:, k] = eased(keys[which, 3], times, t)
        c.palms[:, k] = eased(rng.normal(0, 35, len(keys))[which], times, t).clip(-85, 85)
        c.wrists = np.zeros((len(t), 2, 3)) if len(c.wrists) == 1 else c.wrists
        c.wrists[:, k] = eased(rng.normal(0, [8, 10, 18], (len(keys), 3))[which], times, t)


def path(places: Array, times: Array, t: Array) -> Array:
    """Hands go around the shoulder, by the front, never through it."""
    far = np.linalg.norm(places, axis=1, keepdims=True)
    way = eased(places / far, times, t)
    way = way + (1 - np.linalg.norm(way, axis=1, keepdims=True)) * np.array([0.4, 0.0, 0.9])
    return np.asarray(normalize(way) * eased(far, times, t))


def place(rng: np.random.Generator, name: str, apart: float) -> Array:
    """Place (3,) of a wrist and how far its elbow is lifted, `apart` metres from where others would have it."""
    if name == "gesture":
        return np.array([*rng.uniform([-0.12, -0.28, 0.16], [0.30, 0.14, 0.42]), rng.uniform(5, 60)])
    return np.array(_PLACES[name]) + rng.normal(0, [apart * 0.6, apart * 0.6, apart * 0.6, 8])


def sway(rng: np.random.Generator, t: Array, c: Curves, much: float = 1.0) -> None:
    """Adds what nobody who stands or sits can help."""
    c.root[:, :] += drift(rng, t, 0.7 * much, 3) * [1.0, 0.5, 1.0]
    c.trunk += drift(rng, t, 1.2 * much, 3)
    c.head += drift(rng, t, 2.0 * much, 3)
    c.legs += drift(rng, t, 0.5 * much, 8).reshape(-1, 2, 4) * [1.0, 1.0, 0.3, 0.0]
    c.legs[:, :, 3] = np.maximum(c.legs[:, :, 3], 0.0)


def wander(
    rng: np.random.Generator, t: Array, size: tuple[float, float, float], hold_s: tuple[float, float] = (0.4, 2.5),
    middle: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Array:  # fmt: skip
    """Three angles (T, 3) that change now and then."""
    times, which = timeline(rng, t[-1], (0.3, 1.0), hold_s)
    return eased(rng.normal(middle, size, (which.max() + 1, 3))[which], times, t)


def seated(rng: np.random.Generator, t: Array) -> Curves:
    """Somebody on a chair, the feet on the floor, legs crossed now and then."""
    c = rest(len(t))
    flex, spread, knee = rng.uniform(72, 98), rng.uniform(0, 22), rng.uniform(65, 115)
    c.legs[:] = [flex, spread, rng.uniform(-5, 15), knee]
    c.legs[:, 1] += rng.normal(0, [3, 5, 6, 8])
    if rng.random() < 0.2:
        c.legs[:, int(rng.integers(2))] = [rng.uniform(95, 108), -8.0, 5.0, rng.uniform(80, 100)]
    c.head[:] = [rng.uniform(0, 12), 0, 0]
    sway(rng, t, c, 0.5)
    return c


def lean(rng: np.random.Generator, t: Array, c: Curves, low: float, high: float) -> None:
    """Leans of the trunk, half from the hips, the head staying up."""
    times, which = timeline(rng, t[-1], (0.5, 1.6), (0.5, 3.5))
    lean = eased(np.column_stack([rng.uniform(low, high, which.max() + 1), rng.normal(0, 7, which.max() + 1),
                                  rng.normal(0, 9, which.max() + 1)])[which], times, t)  # fmt: skip
    c.root[:, 0] += 0.55 * lean[:, 0]
    c.root[:, 2] += 0.35 * lean[:, 1]
    c.trunk += lean * [0.45, 0.65, 1.0]
    c.head[:, 0] -= 0.6 * lean[:, 0]
