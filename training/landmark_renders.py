"""Renders of people with known truth, seen by the landmark network: `python -m training.landmark_renders --work DIR`.

Two sets, in resumable shards DIR/<set>_<number>.npz: `singles`, every picture another camera, and `windows`, a few
dozen pictures of one camera each, kept aside to try focal lengths on. `training.measure_landmarks` reads them.
Needs the packages of benchmarks.make_demo (Anny); nothing of this runs in the stream.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.demo_person import Person
from benchmarks.demo_scene import Room
from benchmarks.render import Light, Surface, View, draw, rasterise
from engines.blazepose import BlazePose
from pipeline.body import PosedBody
from pipeline.frames import Array, R_world_camera_from_up, exp_so3, up_from_pitch_roll
from pipeline.types import Landmarks
from training.anny_rig import AnnyBody
from training.random_people import random_light, random_look, random_phenotype
from training.random_poses import CmuPoses, Pose, procedural

log = logging.getLogger(__name__)

SIDE = 640
SHARD = 40
#: Height of a standing person over the picture's: where a picture is taken at all.
SMALLEST, LARGEST = 0.22, 1.35
ROUNDS = 3


@dataclass(frozen=True)
class Shot:
    """A camera's angles (degrees; positive pitch looks down) and focal length over the picture's height."""

    focal: float
    pitch_deg: float
    roll_deg: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Shot:
        """Focal 0.5..3 log-uniform, pitch -20..45, roll within 10 degrees."""
        return cls(float(np.exp(rng.uniform(np.log(0.5), np.log(3.0)))), rng.uniform(-20, 45), rng.uniform(-10, 10))

    @property
    def K(self) -> Array:
        """(3, 3), pixels."""
        f, c = self.focal * SIDE, (SIDE - 1) / 2
        return np.array([[f, 0.0, c], [0.0, f, c], [0.0, 0.0, 1.0]])

    @property
    def R_world_camera(self) -> Array:
        """(3, 3)."""
        return R_world_camera_from_up(up_from_pitch_roll(np.radians(self.pitch_deg), np.radians(self.roll_deg)))


def _place(rng: np.random.Generator, shot: Shot, stature_m: float) -> Array | None:
    """A pelvis in the camera (3,), somewhere in the picture, 1.5 to 8 m away, or None when it would be too large."""
    distance = rng.uniform(1.5, 8.0)
    if not SMALLEST <= shot.focal * stature_m / distance <= LARGEST:
        return None
    pixel = rng.uniform(0.12, 0.88, 2) * SIDE
    ray = np.linalg.solve(shot.K, [*pixel, 1.0])
    return ray / np.linalg.norm(ray) * distance


def _background(rng: np.random.Generator, view: View, camera_height_m: float) -> Array:
    kind = rng.random()
    if kind < 0.45 and camera_height_m > 0.3:
        room = Room(
            rng.uniform(3, 6), rng.uniform(8, 12), max(camera_height_m + 0.4, rng.uniform(2.6, 3.4)),
            tuple(rng.uniform(0.3, 0.85, 3)), tuple(rng.uniform(0.25, 0.75, 3)), rng.uniform(0.1, 0.6),
            int(rng.integers(1000)), rng.uniform(0.5, 4.0),
        )  # fmt: skip
        small = View(np.diag([0.25, 0.25, 1.0]) @ view.K, view.R_camera_world, view.t_camera_world, (SIDE // 4,) * 2)
        picture = room.picture(small).astype(np.float64)
        return np.clip(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), 0.02, 0.98)
    colours = rng.uniform(0.1, 0.9, (2, 3))
    x, y = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    angle = rng.uniform(0, 2 * np.pi)
    share = np.clip(0.5 + (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)), 0, 1)[..., None]
    image = colours[0] * share + colours[1] * (1 - share)
    if kind > 0.7:
        coarse = rng.normal(0, 0.35 if kind > 0.9 else 0.15, (int(rng.integers(4, 40)),) * 2 + (3,))
        image = image + cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0.02, 0.98)


def _hidden_by_m(surface: Surface, landmarks_camera: Array, view: View, factor: int = 4) -> Array:
    """How far (33,) metres each landmark lies behind the surface that the camera sees there; nan outside."""
    p = view.to_camera(surface.vertices)
    z = np.maximum(p[:, 2:], 0.05)
    size = SIDE // factor
    near = rasterise((p / z) @ view.K[:2].T / factor, p[:, 2], surface.faces, (size, size))[2]
    uv = (landmarks_camera / np.maximum(landmarks_camera[:, 2:], 0.05)) @ view.K[:2].T / factor
    cell = np.round(uv).astype(int)
    inside = ((cell >= 0) & (cell < size)).all(-1) & (landmarks_camera[:, 2] > 0.05)
    out = np.full(33, np.nan)
    q = near[cell[inside, 1], cell[inside, 0]]
    out[inside] = landmarks_camera[inside, 2] - np.where(q > 0, 1.0 / np.maximum(q, 1e-6), np.inf)
    return out


class Studio:
    """One process's body model, networks and motions."""

    def __init__(self, motion: Path | None) -> None:
        cv2.setNumThreads(1)
        self.anny = AnnyBody.open()
        self.pose_net = BlazePose.open(threads=1, max_batch=1)
        self.cmu = None if motion is None else CmuPoses.read(motion, skip=("02_05", "02_09", "03_04"))

    def pose(self, rng: np.random.Generator) -> Pose:
        """CMU's for one in two pictures, when there is any."""
        return self.cmu.draw(rng) if self.cmu is not None and rng.random() < 0.5 else procedural(rng)

    def person(self, rng: np.random.Generator) -> Person:
        """Somebody, dressed."""
        return Person.dressed(self.anny, random_phenotype(rng), random_look(rng))

    def picture(
        self, rng: np.random.Generator, person: Person, shot: Shot, light: Light
    ) -> tuple[np.ndarray, dict[str, Any]] | None:
        """A picture (SIDE, SIDE, 3) uint8 and its truth, or None where the person would not fit in it."""
        pelvis = _place(rng, shot, person.stature_m)
        if pelvis is None:
            return None
        pose, yaw = self.pose(rng), rng.uniform(-np.pi, np.pi)
        heading = np.arctan2(pose.R_world_root[0, 2], pose.R_world_root[2, 2])
        R_world_root = exp_so3([0.0, yaw - heading, 0.0]) @ pose.R_world_root
        R = shot.R_world_camera
        in_world = person.body.shaped(np.zeros(1)).posed(R_world_root, R @ pelvis, pose.Rs_parent_joint)
        V = in_world.mesh()
        camera_height = -float(V[:, 1].min())
        if pelvis[2] < 0.5 or ((V @ R)[:, 2].min() < 0.15):
            return None
        view = View(shot.K, R.T, np.array([0.0, 0.0, 0.0]), (SIDE, SIDE))
        floored = View(shot.K, R.T, -R.T @ np.array([0.0, camera_height, 0.0]), (SIDE, SIDE))
        image = _background(rng, floored, camera_height)
        surface = person.surface(in_world)
        draw(image, [surface], view, light)
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 0.9)) ** rng.uniform(0.8, 1.15)
        noisy = 255 * np.clip(soft, 0, 1) + rng.normal(0, rng.uniform(0.5, 4.0), image.shape)
        truth = self._truth(person, in_world, shot, R_world_root, pose)
        truth["hidden_by_m"] = _hidden_by_m(surface, truth["landmarks"], view)
        return np.clip(noisy, 0, 255).round().astype(np.uint8), truth

    @staticmethod
    def _truth(person: Person, in_world: PosedBody, shot: Shot, R_world_root: Array, pose: Pose) -> dict[str, Any]:
        R = shot.R_world_camera
        return {
            "joints": in_world.joints @ R,
            "Rs_camera_joint": R.T @ in_world.Rs_frame_joint,
            "landmarks": in_world.landmarks @ R,
            "joints_rest": person.body.joints,
            "landmarks_rest": person.body.landmarks,
            "stature_m": person.stature_m,
            "K": shot.K,
            "up_camera": R[1],
            "R_world_root": R_world_root,
            "kind": pose.kind,
        }

    def look(self, image: np.ndarray, truth: dict[str, Any]) -> dict[str, Any] | None:
        """What the network says after ROUNDS rounds, or None when nobody is found near the person's hips."""
        hips = (truth["landmarks"][23] + truth["landmarks"][24]) / 2
        at = (truth["K"] @ hips)[:2] / hips[2]
        found = [r for r, _ in self.pose_net.detect(image) or self.pose_net.detect_tiled(image)]
        if not found:
            return None
        region = min(found, key=lambda r: float(np.hypot(*(np.array(r.center_px) - at))))
        if np.hypot(*(np.array(region.center_px) - at)) > 0.3 * region.size_px:
            return None
        marks: Landmarks | None = None
        for _ in range(ROUNDS):
            used = region
            marks, region = self.pose_net.landmarks(image, [used])[0]
        assert marks is not None
        return {
            "points_px": marks.points_px, "points_m": marks.points_m, "visibility": marks.visibility,
            "depth_px": marks.depth_px, "score": marks.score,
            "region": np.array([*used.center_px, used.size_px, used.angle_rad]),
        }  # fmt: skip


_studio: Studio | None = None


def _begin(motion: Path | None) -> None:
    global _studio
    _studio = Studio(motion)


def _singles(studio: Studio, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for _ in range(SHARD // 10):
        person, made = studio.person(rng), 0
        while made < 10:
            shot = studio.picture(rng, person, Shot.draw(rng), random_light(rng))
            if shot is not None:
                made += 1
                yield _row(studio, *shot)


def _window(studio: Studio, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    person, light, made, tries = studio.person(rng), random_light(rng), 0, 0
    shot = Shot.draw(rng)
    while made < SHARD:
        picture = studio.picture(rng, person, shot, light)
        tries += 1
        if picture is not None:
            made += 1
            yield _row(studio, *picture)
        elif tries > 200 and made == 0:
            shot, tries = Shot.draw(rng), 0


_NOTHING: dict[str, Any] = {
    "points_px": np.full((33, 2), np.nan), "points_m": np.full((33, 3), np.nan), "visibility": np.zeros(33),
    "depth_px": np.zeros(33), "score": 0.0, "region": np.zeros(4),
}  # fmt: skip


def _row(studio: Studio, image: np.ndarray, truth: dict[str, Any]) -> dict[str, Any]:
    seen = studio.look(image, truth)
    return {**truth, **(seen or _NOTHING), "found": seen is not None}


def shard(job: tuple[Path, str, int, int]) -> Path:
    """Makes one shard unless it is there: (folder, set, number, seed) -> its file."""
    folder, name, number, seed = job
    file = folder / f"{name}_{number:04d}.npz"
    if not file.exists():
        assert _studio is not None
        rng = np.random.default_rng([seed, ("singles", "windows").index(name), number])
        rows = list((_singles if name == "singles" else _window)(_studio, rng))
        part = file.with_suffix(".part")
        with part.open("wb") as handle:
            arrays: dict[str, Any] = {k: np.stack([row[k] for row in rows]) for k in rows[0]}
            np.savez_compressed(handle, **arrays)
        part.rename(file)
    return file


def main() -> None:
    """Makes the shards that are missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the shards, outside the repository")
    parser.add_argument("--singles", type=int, default=2000, help="pictures, each with a camera of its own")
    parser.add_argument("--windows", type=int, default=30, help="cameras with 40 pictures each")
    parser.add_argument("--motion", type=Path, help="folder of CMU's motions, SUBJECT/SUBJECT.asf and SUBJECT/*.amc")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.work.mkdir(parents=True, exist_ok=True)
    counts = {"singles": -(-args.singles // SHARD), "windows": args.windows}
    # Both sets grow alike, so that what there is can be measured before all of it is
    order = sorted(((k + 0.5) / n, name, k) for name, n in counts.items() for k in range(n))
    jobs = [(args.work, name, k, args.seed) for _, name, k in order]
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), _begin, (args.motion,)) as pool:
        for k, file in enumerate(pool.map(shard, jobs)):
            log.info("%d of %d: %s", k + 1, len(jobs), file.name)


if __name__ == "__main__":
    main()
