"""What the straight lines of a picture say of its camera: a vertical and a focal length, before anybody has moved.

Rooms and streets are built along three directions square to each other, one of them upright. Every line segment in the
picture runs along one of the three or along none; that mixture's likelihood has its peak where the camera is (Coughlan
and Yuille, Manhattan World, ICCV 1999; by expectation-maximisation as in Schindler and Dellaert, Atlanta World, CVPR
2004). What is built is never quite square, so each direction may be off by a degree or two as a whole: no number of
segments along one shelf makes it surer than that.

Pictures whose lines do not fit (leaves, cloth, crowds, domes) are told by how few of their segments any three
directions explain, and say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Array, cross, exp_so3, normalize, pitch_roll_rad, up_from_pitch_roll
from pipeline.perspective import rays_of
from pipeline.types import Detection

#: Long side in pixels at which segments are looked for; shares of it: the shortest used, and how well ends are placed.
LONG_PX, SHORTEST, END_SIGMA = 800, 0.025, 0.0012
BAR = 0.9  # share of the picture's side that only the edge of a bar beside it spans
BEND_SIGMA_RAD = np.radians(0.5)  # of a long segment: lenses bend lines
MOST, FEWEST, SEARCHED = 300, 20, 150
#: Shares of segments along the vertical, along each horizontal, and along none.
_UPRIGHT, _LEVEL, _ELSE = 0.25, 0.15, 0.45
#: What one segment is worth: edges of one thing are not independent of each other.
WORTH = 0.3
#: How far what is built stands off the vertical and off square, each direction as a whole.
OFF_RAD = np.radians([1.0, 1.5, 1.5])
#: Share of the segments that the three directions must explain, and how many must be upright.
EXPLAINED, MIN_UPRIGHT = 0.6, 5.0
#: A direction with fewer segments is chance.
LEAST_LINES, LEAST_SHARE = np.array([5.0, 12.0, 12.0]), np.array([0.05, 0.1, 0.1])
_PITCH = np.radians(np.arange(-36.0, 78.0, 2.5))
_ROLL = np.radians(np.arange(-45.0, 46.0, 2.5))
_YAW = np.radians(np.arange(0.0, 90.0, 4.0))
_LOG_FOCAL = np.linspace(np.log(0.42), np.log(2.6), 8)
#: Errors are taken for larger than they are while the search is coarse; then the factor of each refining step.
_COARSE, _STEPS = 3.0, (3.0, 3.0, 2.0, 2.0, 1.5, 1.5, 1.5, 1.5)
_KEPT, _REFINED, _SAID = 40, 10, 4
_MOST_TURN = 0.15  # radians, or log of focal length, in one step
_GROWN = 0.05  # of a person's box, on each side


@dataclass(frozen=True, eq=False)
class Guess:
    """What is assumed of the camera before its lines are read: log of the focal length over the picture's long side
    with its sigma, pitch and roll in radians with theirs."""

    log_focal: float
    log_focal_sigma: float
    pitch_roll: tuple[float, float]
    pitch_roll_sigma: tuple[float, float]


@dataclass(frozen=True, eq=False)
class LineReading:
    """One way to read the lines.

    log_focal     of the focal length over the picture's long side
    up            (3,) unit, the vertical in the camera
    information   (3, 3) on the log focal length and the vertical along `across`; nothing of the guess is in it
    across        (2, 3) unit vectors square to `up` and to each other
    log_evidence  against the other ways
    """

    log_focal: float
    up: Array
    information: Array
    across: Array
    log_evidence: float


@dataclass(frozen=True, eq=False)
class Segments:
    """Line segments as the scorer needs them; lengths over the picture's long side, from the principal point.

    middle     (N, 2)
    direction  (N, 2) unit
    sigma      (N,) of the direction, radians
    """

    middle: Array
    direction: Array
    sigma: Array

    def __len__(self) -> int:
        return len(self.sigma)

    @classmethod
    def between(cls, starts: Array, ends: Array) -> Segments:
        """From ends (N, 2) each, over the long side."""
        along = ends - starts
        length = np.linalg.norm(along, axis=1)
        sigma = np.hypot(END_SIGMA / length, BEND_SIGMA_RAD)
        return cls((starts + ends) / 2.0, along / length[:, None], sigma)

    @classmethod
    def joined(cls, parts: Sequence[Segments], most: int = MOST) -> Segments:
        """All of them, the longest first, `most` of them."""
        if not parts:
            return cls(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
        middle, direction, sigma = (np.concatenate([getattr(p, n) for p in parts]) for n in cls.__annotations__)
        longest = np.argsort(sigma, kind="stable")[:most]
        return cls(middle[longest], direction[longest], sigma[longest])

    def without(self, others: Segments, place: float, turn: float) -> Segments:
        """Those that no other lies within `place` and `turn` (radians) of."""
        near = np.linalg.norm(self.middle[:, None] - others.middle, axis=-1) < place
        alike = np.abs(self.direction @ others.direction.T) > np.cos(turn)
        new = ~(near & alike).any(1)
        return Segments(self.middle[new], self.direction[new], self.sigma[new])


def find_segments(image: NDArray[np.uint8], people: Sequence[Detection], K: Array, distortion: Array) -> Segments:
    """The longest segments of a picture (H, W, 3) outside `people`, whose lens K (3, 3) and `distortion` straighten.

    Line segment detector of Grompone von Gioi et al. (LSD, PAMI 2010), as OpenCV has it.
    """
    high, wide = image.shape[:2]
    scale = min(1.0, LONG_PX / max(high, wide))
    grey = np.ascontiguousarray(image[..., 1])
    if scale < 1.0:
        grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(grey)[0]
    ends = np.zeros((0, 2, 2)) if found is None else found.reshape(-1, 2, 2).astype(np.float64) / scale
    middle = ends.mean(1)
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    free = length > SHORTEST * max(high, wide)
    # Bars beside a picture are not of the scene
    free &= (np.abs(ends[:, 1] - ends[:, 0]) < BAR * np.array([wide, high])).all(1)
    for person in people:
        left, top, right, bottom = person.box_xyxy
        grow = _GROWN * np.array([right - left, bottom - top])
        inside = (middle > np.array([left, top]) - grow) & (middle < np.array([right, bottom]) + grow)
        free &= ~inside.all(1)
    ends = ends[free][np.argsort(-length[free], kind="stable")[:MOST]]
    rays = rays_of(ends, K, distortion) * (K[0, 0] / max(high, wide))
    return Segments.between(rays[:, 0], rays[:, 1])


def read_lines(segments: Segments, guess: Guess) -> tuple[LineReading, ...]:
    """What the segments may say, likeliest first; nothing where they are few or do not fit three directions."""
    if len(segments) < FEWEST:
        return ()
    readings: list[tuple[float, LineReading]] = []
    for frame, log_focal in _starts(Segments.joined([segments], SEARCHED), guess):
        score, explained, upright, reading = _refined(segments, frame, log_focal, guess)
        known = any(_alike(reading, other) for _, other in readings)
        if explained >= EXPLAINED and upright >= MIN_UPRIGHT and not known:
            readings.append((score, reading))
    readings.sort(key=lambda r: -r[0])
    return tuple(reading for _, reading in readings[:_SAID])


def _alike(a: LineReading, b: LineReading) -> bool:
    return bool(a.up @ b.up > np.cos(0.02) and abs(a.log_focal - b.log_focal) < 0.02)


def _errors(segments: Segments, directions: Array, focal: Array) -> Array:
    """Sine of the angle (..., N) between segments and the pictures of lines along `directions` (..., 3) there."""
    x, y, z = np.moveaxis(directions, -1, 0)[..., None]
    f = np.asarray(focal)[..., None]
    tx, ty = f * x - segments.middle[:, 0] * z, f * y - segments.middle[:, 1] * z
    across = tx * segments.direction[:, 1] - ty * segments.direction[:, 0]
    return np.asarray(across / (np.sqrt(tx * tx + ty * ty) + 1e-9))


def _density(errors: Array, sigma: Array) -> Array:
    return np.exp(-0.5 * (errors / sigma) ** 2) / (sigma * np.sqrt(2.0 * np.pi))


def _level(up: Array, yaw: Array) -> tuple[Array, Array]:
    """The two level directions (..., 3), the first of them `yaw` from where the camera looks."""
    ahead = np.array([0.0, 0.0, 1.0]) - up[..., 2:] * up
    ahead = normalize(ahead + 1e-9)
    aside = cross(up, ahead)
    c, s = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    return c * ahead + s * aside, c * aside - s * ahead


def _starts(segments: Segments, guess: Guess) -> list[tuple[Array, float]]:
    """Frames (3, 3), upright and level directions in rows, and log focal lengths to refine, from a search over all.

    First the vertical alone, with every focal length, then the heading of the best.
    """
    log_focals = _LOG_FOCAL if guess.log_focal_sigma > 0.02 else np.array([guess.log_focal])
    pitch, roll, log_focal = (a.ravel() for a in np.meshgrid(_PITCH, _ROLL, log_focals, indexing="ij"))
    held = _held(pitch, roll, log_focal, guess)
    near = held > -8.0
    pitch, roll, log_focal, held = pitch[near], roll[near], log_focal[near], held[near]
    ups = np.stack([np.sin(roll) * np.cos(pitch), -np.cos(roll) * np.cos(pitch), -np.sin(pitch)], axis=-1)
    sigma = _COARSE * segments.sigma
    score = np.empty(len(ups))
    for at in np.array_split(np.arange(len(ups)), max(1, len(ups) // 400)):
        upright = _density(_errors(segments, ups[at], np.exp(log_focal[at])), sigma)
        score[at] = WORTH * np.log(1.0 - _UPRIGHT + _UPRIGHT * np.pi * upright).sum(-1)
    best = _apart(np.column_stack([pitch, roll, log_focal]), score + held, 0.05, _KEPT)
    at = np.repeat(best, len(_YAW))
    yaw = np.tile(_YAW, len(best))
    first, second = _level(ups[at], yaw)
    frames = np.stack([ups[at], first, second], axis=1)
    score = np.concatenate([
        _score(segments, frames[part], log_focal[at][part], _COARSE)
        for part in np.array_split(np.arange(len(at)), max(1, len(at) // 300))
    ])  # fmt: skip
    best = _apart(np.column_stack([pitch[at], roll[at], yaw, log_focal[at]]), score + held[at], 0.06, _REFINED)
    return [(frames[i], float(log_focal[at][i])) for i in best]


def _apart(places: Array, score: Array, least: float, most: int) -> NDArray[np.int64]:
    """The best of places (N, D) that differ by `least` in some coordinate."""
    taken: list[int] = []
    for i in np.argsort(-score, kind="stable")[: 40 * most]:
        if not taken or np.abs(places[taken] - places[i]).max(1).min() > least:
            taken.append(int(i))
        if len(taken) == most:
            break
    return np.array(taken)


def _held(pitch: Array, roll: Array, log_focal: Array, guess: Guess) -> Array:
    """Log of what the guess thinks of these."""
    values = (pitch, roll, log_focal)
    means, sigmas = (*guess.pitch_roll, guess.log_focal), (*guess.pitch_roll_sigma, max(guess.log_focal_sigma, 1e-3))
    return np.asarray(sum(-0.5 * ((v - m) / s) ** 2 for v, m, s in zip(values, means, sigmas, strict=True)))


def _mixture(segments: Segments, frames: Array, log_focal: Array, widened: float) -> tuple[Array, Array, Array]:
    """Errors (..., 3, N), the densities of the three directions by their shares, and the sum with that of none."""
    errors = _errors(segments, frames, np.exp(np.asarray(log_focal))[..., None])
    shares = np.array([_UPRIGHT, _LEVEL, _LEVEL])[:, None]
    densities = shares * _density(errors, widened * segments.sigma)
    return errors, densities, densities.sum(-2) + _ELSE / np.pi


def _score(segments: Segments, frames: Array, log_focal: Array, widened: float) -> Array:
    """Log likelihood (...) of frames (..., 3, 3) against lines that run anywhere."""
    return np.asarray(WORTH * np.log(np.pi * _mixture(segments, frames, log_focal, widened)[2]).sum(-1))


def _refined(
    segments: Segments, frame: Array, log_focal: float, guess: Guess
) -> tuple[float, float, float, LineReading]:
    """From a start to the peak: its log evidence, the share of segments explained, how many are upright, the reading.

    Unknowns are the log focal length and a turn of the frame in the camera; each step Gauss-Newton on what segments
    most likely belong to.
    """
    held = np.zeros((4, 4))
    for widened in _STEPS:
        errors, densities, total = _mixture(segments, frame, np.array(log_focal), widened)
        belongs = densities / total
        weight = WORTH * belongs / (widened * segments.sigma) ** 2
        J = _slopes(segments, frame, log_focal, errors)
        A = np.swapaxes(J * weight[..., None], 1, 2)
        information, gradient = (A @ J).sum(0), (A @ errors[..., None])[..., 0].sum(0)
        pull, held = _pull(frame[0], log_focal, guess)
        step = -np.linalg.solve(information + held, gradient + pull)
        step *= min(1.0, _MOST_TURN / float(np.abs(step).max()))
        log_focal += float(step[0])
        frame = frame @ exp_so3(step[1:]).T
    # Each direction as a whole may be off: that is taken out of what its segments know
    slack = A @ J * _counts(belongs)[:, None, None]
    turns = slack[:, :, 1:]
    loose = np.linalg.solve(slack[:, 1:, 1:] + np.eye(3) / OFF_RAD[:, None, None] ** 2, np.swapaxes(turns, 1, 2))
    information = (slack - turns @ loose).sum(0)
    at, (pitch, roll) = np.array(log_focal), map(np.array, pitch_roll_rad(frame[0]))
    evidence = float(_score(segments, frame, at, 2.0) + _held(pitch, roll, at, guess))
    evidence -= 0.5 * float(np.linalg.slogdet(information + held)[1])
    reading = _without_heading(frame[0], log_focal, information, evidence)
    return evidence, float(belongs.sum() / len(segments)), float(belongs[0].sum()), reading


def _without_heading(up: Array, log_focal: float, information: Array, evidence: float) -> LineReading:
    """The reading of information (4, 4) on the log focal length and turns about the camera's axes."""
    aside = np.array([0.0, 0.0, 1.0]) if abs(up[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    first = normalize(cross(up, aside))
    across = np.stack([first, cross(up, first)])
    # Turns about these move the vertical along `across`; the last, about the vertical itself, is the heading
    basis = np.eye(4)
    basis[1:, 1:] = np.column_stack([cross(up, across[0]), cross(up, across[1]), up])
    full = basis.T @ information @ basis
    known = full[:3, :3] - np.outer(full[:3, 3], full[3, :3]) / max(full[3, 3], 1e-9)
    return LineReading(log_focal, up, known, across, evidence)


def _counts(belongs: Array) -> Array:
    """1 for each direction (3,) that enough of the segments (3, N) belong to, else 0: a few lie along any direction."""
    return np.where(belongs.sum(1) >= np.maximum(LEAST_LINES, LEAST_SHARE * belongs.shape[1]), 1.0, 0.0)


def _slopes(segments: Segments, frame: Array, log_focal: float, errors: Array) -> Array:
    """Derivatives (3, N, 4) of the errors by log focal length and by turns about the camera's axes."""
    eps = 1e-5
    out = np.empty((3, len(segments), 4))
    out[..., 0] = (_errors(segments, frame, np.exp(log_focal + eps)) - errors) / eps
    for k, turn in enumerate(exp_so3(eps * np.eye(3))):
        out[..., k + 1] = (_errors(segments, frame @ turn.T, np.exp(log_focal)) - errors) / eps
    return out


def _pull(up: Array, log_focal: float, guess: Guess) -> tuple[Array, Array]:
    """Gradient (4,) and curvature (4, 4) of the guess, by log focal length and turns about the camera's axes."""
    off = cross(up_from_pitch_roll(*guess.pitch_roll), up)
    sigma = max(guess.log_focal_sigma, 1e-3)
    weight = np.array(
        [1.0 / sigma**2, 1.0 / guess.pitch_roll_sigma[0] ** 2, 1e-3, 1.0 / guess.pitch_roll_sigma[1] ** 2]
    )
    return weight * np.array([log_focal - guess.log_focal, off[0], 0.0, off[2]]), np.diag(weight)
