"""Cameras that somebody aimed at people: webcams in front of faces, and cameras anywhere in a room."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.frames import Array, R_world_camera_from_up, exp_so3, up_from_pitch_roll
from pipeline.types import JOINT

#: Width over height of pictures, and how often.
ASPECTS, SHARES = (16 / 9, 9 / 16, 4 / 3, 3 / 4, 1.0), (0.5, 0.14, 0.22, 0.07, 0.07)
PITCH_DEG, ROLL_DEG, HEIGHT_M, DISTANCE_M = (-40.0, 60.0), 30.0, (0.3, 4.0), (0.8, 10.0)
#: A webcam is nearer than other cameras get.
NEAREST_M = 0.55
#: How often people who do such things are filmed by a webcam.
_WEBCAM = {"desk": 0.85, "reach": 0.8, "phone": 0.65, "talk": 0.45}
_ELSEWHERE = 0.08
BEFORE_WEBCAMS = tuple(_WEBCAM)


@dataclass(frozen=True)
class Shot:
    """A camera at (0, height_m, 0), heading for -z, and where it sees somebody.

    size_wh  pixels
    focal    in picture heights
    pitch_deg, roll_deg  as in `pipeline.frames`
    target   (3,) point of the person, as given to `draw_shot`, which is seen in direction `toward` (3,), a unit vector
             in the world, `distance_m` away, after the person was turned by `turn_rad` about the vertical
    """

    size_wh: tuple[int, int]
    focal: float
    pitch_deg: float
    roll_deg: float
    height_m: float
    target: Array
    toward: Array
    distance_m: float
    turn_rad: float
    webcam: bool

    @property
    def R_world_person(self) -> Array:
        """(3, 3) the turn of the person."""
        return exp_so3([0.0, self.turn_rad, 0.0])

    @property
    def t_world_person(self) -> Array:
        """(3,) the shift after that turn, over the floor only."""
        seen_at = self.t_world_camera + self.distance_m * self.toward
        return np.asarray((seen_at - self.R_world_person @ self.target) * [1.0, 0.0, 1.0])

    @property
    def K(self) -> Array:
        """(3, 3), pixels; the principal point is the picture's middle."""
        (w, h), f = self.size_wh, self.focal * self.size_wh[1]
        return np.array([[f, 0.0, (w - 1) / 2], [0.0, f, (h - 1) / 2], [0.0, 0.0, 1.0]])

    @property
    def R_world_camera(self) -> Array:
        """(3, 3)."""
        return R_world_camera_from_up(up_from_pitch_roll(np.radians(self.pitch_deg), np.radians(self.roll_deg)))

    @property
    def t_world_camera(self) -> Array:
        """(3,)."""
        return np.array([0.0, self.height_m, 0.0])

    def scaled(self, long_side_px: int) -> Shot:
        """The same with pictures of another size."""
        factor = long_side_px / max(self.size_wh)
        return replace(self, size_wh=(round(self.size_wh[0] * factor), round(self.size_wh[1] * factor)))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _height(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.15:
        return float(rng.uniform(2.0, HEIGHT_M[1]))
    if kind < 0.27:
        return float(rng.uniform(HEIGHT_M[0], 0.8))
    return float(np.clip(1.4 * np.exp(0.35 * rng.normal()), *HEIGHT_M))


def draw_shot(rng: np.random.Generator, joints: Array, facing_rad: float, stature_m: float, kind: str) -> Shot | None:
    """A camera for somebody whose joints are (24, 3), y up, floor at 0; None where the draw came to nothing sensible.

    facing_rad  heading of the person, 0 for +z
    """
    webcam = rng.random() < _WEBCAM.get(kind, _ELSEWHERE)
    aspect = float(rng.choice(ASPECTS, p=SHARES))
    size = (1280, round(1280 / aspect)) if aspect >= 1 else (round(1280 * aspect), 1280)
    head, chest, pelvis = joints[JOINT["head"]], joints[JOINT["spine3"]], joints[0]
    if webcam:
        focal, away = _log_uniform(rng, 0.7, 1.6), float(rng.uniform(NEAREST_M, 1.7))
        target = head + rng.uniform(0.0, 0.8) * (chest - head)
        height = target[1] + rng.normal(0.05, 0.15)
        heading = rng.normal(0, 0.35)
        off = rng.uniform(-0.35, 0.35, 2)
    else:
        focal, share = _log_uniform(rng, 0.5, 3.0), _log_uniform(rng, 0.2, 2.0)
        away = float(np.clip(focal * stature_m / share, *DISTANCE_M))
        target = pelvis + (rng.random() if share < 1 else rng.uniform(0.3, 1.3)) * (chest - pelvis)
        height = _height(rng)
        heading = rng.uniform(-np.pi, np.pi)
        off = np.array([rng.uniform(-0.7, 0.7), np.clip(0.32 * rng.normal(), -0.8, 0.8)])
    height = float(np.clip(height, target[1] - 0.6 * away, target[1] + 0.85 * away))
    line = np.arcsin(np.clip((height - target[1]) / away, -1, 1))
    roll = float(np.clip(rng.normal(0, 14.0 if rng.random() < 0.2 else 2.5), -ROLL_DEG, ROLL_DEG))
    pitch = float(np.degrees(line - np.arctan(off[1] * 0.5 / focal)))
    if not PITCH_DEG[0] <= pitch <= PITCH_DEG[1]:
        return None
    shot = Shot(size, focal, pitch, roll, height, target, np.zeros(3), away, 0.0, webcam)
    pixel = (0.5 + 0.5 * off) * (np.array(size) - 1)
    ray = shot.R_world_camera @ np.linalg.solve(shot.K, [*pixel, 1.0])
    ray = ray / np.linalg.norm(ray)
    height = float(target[1] - ray[1] * away)
    if not 0.2 <= height <= HEIGHT_M[1] + 0.2:
        return None
    # The camera sees along -z, so who faces it faces +z
    return replace(shot, height_m=height, toward=ray, turn_rad=float(heading - facing_rad))
