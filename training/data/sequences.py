"""One short sequence of pictures of somebody made up, with the truth: a person, a motion, a camera, a place.

`Studio.sequence(seed, number)` draws everything from the two numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_person import Person
from benchmarks.demo_scene import box
from benchmarks.render import Light, View
from pipeline.frames import Array, exp_so3, in_picture, project
from pipeline.types import JOINT
from training.anny_rig import AnnyBody
from training.data.actors import FRAMES, SPAN, STEP_S, STRIDE, Actor
from training.data.cameras import BEFORE_WEBCAMS, Shot, draw_shot
from training.data.drawing import Figure, Floats, Mesh, extent, paint, window
from training.data.motions import STATURE_M, Motion, load, lowest
from training.data.pictures import FloorShade, Image, Sensor, backdrop
from training.random_people import random_light, random_look, random_phenotype
from training.random_poses import MIRROR

#: Landmarks of which so many must be in every picture, and how near the camera a pelvis or a joint may come.
_CORE = np.array([0, *range(11, 17), *range(23, 29)])
_MIN_INSIDE, _NEAREST_PELVIS_M, _NEAREST_JOINT_M = 5, 0.35, 0.12
#: Sides of a person in pixels, and of pictures.
_PERSON_PX, _LONG_SIDE_PX = (170, 440), (384, 1280)
_TRIES = 60
#: Sequences running that somebody is in.
_WEAR = 3


@dataclass(frozen=True, eq=False)
class Sequence:
    """Pictures (FRAMES of (H, W, 3) uint8 RGB) and the truth: arrays of FRAMES rows each, and strings.

    joints, Rs_camera_joint, landmarks, joints_rest, landmarks_rest, stature_m, K, size_wh, up_camera, hidden_by_m
    as in `training.landmark_renders`; motion, kind, held_out, webcam of the sequence; true_px (FRAMES, 33, 2).
    """

    images: list[Image]
    truth: dict[str, Any]
    true_px: Array


class Studio:
    """One process's bodies and motions. Raises what `training.data.motions.load` raises."""

    def __init__(self, motions: Path, held_out: bool = False) -> None:
        cv2.setNumThreads(1)
        self.anny = AnnyBody.open()
        self.motions = [m for m in load(motions) if len(m.t_world_root) >= SPAN and m.held_out == held_out]
        weights = np.array([min(len(m.t_world_root), 900) for m in self.motions], dtype=float)
        kinds = np.array([m.kind for m in self.motions])
        for kind in np.unique(kinds):
            weights[kinds == kind] /= weights[kinds == kind].sum() ** 0.55
        weights[np.isin(kinds, BEFORE_WEBCAMS)] *= 1.7
        self._weights = weights / weights.sum()
        self._last: tuple[tuple[int, ...], Figure | None] = ((), None)

    def figure(self, *key: int) -> Figure:
        """A person drawn from some numbers; the last one is kept."""
        if key != self._last[0]:
            rng = np.random.default_rng([*key, 2])
            self._last = key, Figure.of(Person.dressed(self.anny, random_phenotype(rng), random_look(rng)))
        assert self._last[1] is not None
        return self._last[1]

    def actor(self, rng: np.random.Generator, figure: Figure) -> tuple[Actor, Motion]:
        """Somebody in about a second of a motion, some mirrored; standing on y = 0."""
        motion = self.motions[int(rng.choice(len(self.motions), p=self._weights))]
        first = int(rng.integers(len(motion.t_world_root) - SPAN + 1))
        rows = slice(first, first + SPAN, STRIDE)
        Rs, t = motion.Rs_world_joint[rows].astype(float), motion.t_world_root[rows].astype(float)
        t = t - t[FRAMES // 2] * [1.0, 0.0, 1.0]
        if rng.random() < 0.5:
            M = np.diag([-1.0, 1.0, 1.0])
            Rs, t = (M @ Rs @ M)[:, MIRROR], t @ M
        size = figure.person.stature_m / STATURE_M
        above = (t[:, 1] + lowest(Rs)) * size
        joints = figure.shaped.joints_from_root(Rs)
        soles = [float(figure.vertices(R, at)[:, 1].min()) for R, at in zip(Rs, joints, strict=True)]
        return Actor(figure, Rs, np.column_stack([t[:, 0] * size, above - soles, t[:, 2] * size])), motion

    def scene(self, rng: np.random.Generator, figure: Figure) -> tuple[Actor, Motion, Shot]:
        """Somebody before a camera that sees enough of him in every frame."""
        while True:
            actor, motion = self.actor(rng, figure)
            middle = actor.posed.joints[FRAMES // 2]
            for _ in range(_TRIES):
                shot = draw_shot(rng, middle, actor.facing_rad, actor.stature_m, motion.kind)
                if shot is None:
                    continue
                placed = actor.moved(shot.R_world_person, shot.t_world_person)
                if _well_seen(shot, placed):
                    return placed, motion, _at_good_size(rng, shot, placed)

    def sequence(self, seed: int, number: int) -> Sequence:
        """Sequence `number` of a seed."""
        rng = np.random.default_rng([seed, number])
        actor, motion, shot = self.scene(rng, self.figure(seed, number // _WEAR))
        people = [actor, *self._others(rng, actor, shot)]
        light, view = random_light(rng), _view(shot)
        still = _furniture(rng, actor, shot)
        base = backdrop(rng, view, shot.height_m)
        near = np.zeros(base.shape[:2], np.float32)
        middle = actor.t_world_root[FRAMES // 2]
        shade = FloorShade(view, light, middle[[0, 2]]) if rng.random() < 0.8 else None
        if still:
            paint(base, near, still, view, light)
        sensor = Sensor.draw(rng, _extent_px(shot, actor))
        developed = sensor.develop(rng, base)
        truth, images = self._truth(actor, shot), []
        px = _pixels(shot, truth["landmarks"])
        hidden = np.full((FRAMES, 33), np.nan)
        for k in range(FRAMES):
            meshes = [p.mesh(k) for p in people]
            speed = (px[k, _CORE[7]] - px[max(k - 1, 0), _CORE[7]]) / STEP_S
            image, depth, at = _shoot(rng, base, near, developed, meshes, view, light, shade, sensor, speed)
            images.append(image)
            hidden[k] = hidden_by(depth, at, near, truth["landmarks"][k], px[k])
        rows: dict[str, Any] = {**truth, "hidden_by_m": hidden}
        names = {"motion": motion.name, "kind": motion.kind, "held_out": motion.held_out, "webcam": shot.webcam,
                 "people": len(people), "seed": seed, "number": number}  # fmt: skip
        return Sequence(images, rows | names, px)

    def _others(self, rng: np.random.Generator, actor: Actor, shot: Shot) -> list[Actor]:
        """Nobody for the most part, or one or two more people about."""
        chance = rng.random()
        others: list[Actor] = []
        for _ in range(0 if chance < 0.84 else 1 if chance < 0.96 else 2):
            other, _ = self.actor(rng, Figure.of(Person.dressed(self.anny, random_phenotype(rng), random_look(rng))))
            ahead = actor.t_world_root[FRAMES // 2] * [1.0, 0.0, 1.0]
            away = float(np.linalg.norm(ahead)) or 1.0
            depth = away + rng.uniform(-0.3 * away, 2.5)
            across = rng.choice([-1.0, 1.0]) * rng.uniform(0.15, 0.9) + rng.normal(0, 0.3)
            line = ahead / away
            place = line * depth + across * np.array([-line[2], 0.0, line[0]])
            other = other.moved(exp_so3([0.0, rng.uniform(-np.pi, np.pi), 0.0]), place)
            apart = np.linalg.norm((other.t_world_root - actor.t_world_root)[:, [0, 2]], axis=1).min()
            if apart > 0.45 and _camera(shot, other.t_world_root)[:, 2].min() > 0.7:
                others.append(other)
        return others

    @staticmethod
    def _truth(actor: Actor, shot: Shot) -> dict[str, Array]:
        R, body = shot.R_world_camera, actor.figure.person.body

        def every(value: Any) -> Array:
            return np.repeat(np.asarray(value, dtype=float)[None], FRAMES, 0)

        return {
            "joints": _camera(shot, actor.posed.joints), "Rs_camera_joint": R.T @ actor.Rs_world_joint,
            "landmarks": _camera(shot, actor.posed.landmarks), "joints_rest": every(body.joints),
            "landmarks_rest": every(body.landmarks), "stature_m": every(actor.stature_m), "K": every(shot.K),
            "size_wh": every(shot.size_wh), "up_camera": every(R[1]), "camera_height_m": every(shot.height_m),
        }  # fmt: skip


def _camera(shot: Shot, points_world: Array) -> Array:
    return np.asarray((points_world - shot.t_world_camera) @ shot.R_world_camera)


def _view(shot: Shot) -> View:
    R = shot.R_world_camera.T
    return View(shot.K, R, -R @ shot.t_world_camera, shot.size_wh)


def _pixels(shot: Shot, points_camera: Array) -> Array:
    """(..., 2), nan for what is not clearly before the camera."""
    return np.where(points_camera[..., 2:] > 0.1, project(points_camera, shot.K), np.nan)


def _well_seen(shot: Shot, actor: Actor) -> bool:
    joints = _camera(shot, actor.posed.joints)
    if joints[:, 0, 2].min() < _NEAREST_PELVIS_M or joints[..., 2].min() < _NEAREST_JOINT_M:
        return False
    px = _pixels(shot, _camera(shot, actor.posed.landmarks))
    inside = in_picture(px, shot.size_wh)
    trunk = inside[:, [11, 12, 23, 24]].any(1).all()
    return bool(trunk and inside[:, _CORE].sum(1).min() >= _MIN_INSIDE and _extent_px(shot, actor) > 0.11 * 1280)


def _extent_px(shot: Shot, actor: Actor) -> float:
    """Longer side of what the picture holds of somebody."""
    px = _pixels(shot, _camera(shot, actor.posed.landmarks[FRAMES // 2]))
    px = np.clip(px[np.isfinite(px).all(1)], 0, np.array(shot.size_wh) - 1)
    return float(np.ptp(px, axis=0).max())


def _at_good_size(rng: np.random.Generator, shot: Shot, actor: Actor) -> Shot:
    """So many pixels that the person has about as many as the landmark network takes."""
    wanted = rng.uniform(*_PERSON_PX) / max(_extent_px(shot, actor), 1.0)
    return shot.scaled(int(np.clip(max(shot.size_wh) * wanted, *_LONG_SIDE_PX)))


def _furniture(rng: np.random.Generator, actor: Actor, shot: Shot) -> list[Mesh]:
    """A chair under and a desk before who sits, and a box in the way now and then."""
    joints, size = actor.posed.joints[FRAMES // 2], actor.stature_m / STATURE_M
    pelvis, forward = joints[0], np.array([np.sin(actor.facing_rad), 0.0, np.cos(actor.facing_rad)])
    knees = joints[[JOINT["left_knee"], JOINT["right_knee"]]].mean(0)
    sits = 0.28 * size < pelvis[1] < 0.75 * size and abs(pelvis[1] - knees[1]) < 0.2 * size
    out: list[Mesh] = []

    def cloth() -> Array:
        return np.clip(rng.uniform(0.1, 0.85) + rng.normal(0, 0.1, 3), 0.03, 0.95)

    if sits and rng.random() < 0.75:
        at = pelvis - 0.04 * forward
        seat = (rng.uniform(0.4, 0.6), float(max(pelvis[1] - 0.10 * size, 0.1)), rng.uniform(0.38, 0.5))
        out.append(Mesh.of(box((at[0], at[2]), actor.facing_rad, seat, cloth())))
    if sits and rng.random() < 0.55:
        deep, top = rng.uniform(0.45, 0.8), float(pelvis[1] + rng.uniform(0.06, 0.16) * size)
        at = pelvis + (rng.uniform(0.16, 0.36) * size + deep / 2) * forward
        near = float(np.linalg.norm((at - shot.t_world_camera)[[0, 2]]))
        if shot.height_m > top + 0.08 or near > deep:
            out.append(Mesh.of(box((at[0], at[2]), actor.facing_rad, (rng.uniform(0.9, 1.8), top, deep), cloth())))
    if rng.random() < 0.10:
        share = rng.uniform(0.4, 0.85)
        at = shot.t_world_camera + share * (pelvis - shot.t_world_camera) + rng.normal(0, 0.3, 3)
        if share * shot.distance_m > 0.7:
            tall = min(rng.uniform(0.3, 1.2), max(shot.height_m + share * (pelvis[1] + 0.2 - shot.height_m), 0.15))
            shape = (rng.uniform(0.2, 0.8), float(tall), rng.uniform(0.2, 0.5))
            out.append(Mesh.of(box((at[0], at[2]), rng.uniform(0, np.pi), shape, cloth())))
    return out


def _shoot(
    rng: np.random.Generator, base: Floats, near: Floats, developed: Image, meshes: list[Mesh], view: View,
    light: Light, shade: FloorShade | None, sensor: Sensor, speed_px: Array,
) -> tuple[Image, Floats, NDArray[np.int64]]:  # fmt: skip
    """A picture, 1 / depth of its nearest surfaces in a part of it, and that part's first pixel."""
    image = developed.copy()
    part = extent(view, meshes, 0.25)
    if part is None:
        return image, np.zeros((1, 1), np.float32), np.zeros(2, np.int64)
    low, high = part
    rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
    patch, depth = base[rows, columns].copy(), near[rows, columns].copy()
    if shade is not None:
        # Furniture stands on the floor: what is nearer than the floor keeps its light
        patch = np.where((depth > 0)[..., None], patch, patch * shade.factor(meshes, low, high))
    paint(patch, depth, meshes, window(view, low, high), light)
    moved = speed_px if np.isfinite(speed_px).all() else None
    image[rows, columns] = sensor.develop(rng, patch, moved)
    return image, depth, low


def hidden_by(depth: Floats, at: NDArray[np.int64], near: Floats, landmarks_camera: Array, px: Array) -> Array:
    """How far (33,) metres each landmark lies behind the nearest surface; nan outside of the picture.

    `depth` is 1 / metres in the part of the picture whose first pixel is `at`; elsewhere `near` holds.
    """
    whole = near.copy()
    rows, columns = slice(at[1], at[1] + depth.shape[0]), slice(at[0], at[0] + depth.shape[1])
    whole[rows, columns] = np.maximum(whole[rows, columns], depth[: whole.shape[0], : whole.shape[1]])
    out = np.full(33, np.nan)
    inside = in_picture(px, (near.shape[1], near.shape[0]))
    cell = np.round(px[inside]).astype(int)
    q = whole[cell[:, 1], cell[:, 0]]
    out[inside] = landmarks_camera[inside, 2] - np.where(q > 0, 1.0 / np.maximum(q, 1e-6), np.inf)
    return out
