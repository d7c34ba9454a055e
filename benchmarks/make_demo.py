"""Makes the two demo clips and their ground truth: `python -m benchmarks.make_demo [demo_one|demo_two] [--out DIR]`.

Needs the packages `anny` (see training.bake_body for its cache) and `av`, whose wheels bring an H.264 encoder; the
stream needs neither. The format of the files is in benchmarks/clips/README.md. Deterministic on one machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.demo_motion import Script, perform
from benchmarks.demo_person import Look, Person
from benchmarks.demo_scene import LIGHT, Room, box
from benchmarks.demo_truth import camera_record, truth_arrays
from benchmarks.render import FloorShadow, Surface, View, draw
from pipeline.body import PosedBody
from pipeline.frames import Array, R_world_camera_from_up, up_from_pitch_roll
from training.anny_rig import AnnyBody

DEFAULT_OUT = Path(__file__).parent / "clips"


@dataclass(frozen=True)
class Camera:
    """Focal length and picture size in pixels, height in metres, pitch (positive looks down) and roll in degrees."""

    focal_px: float
    size_wh: tuple[int, int]
    fps: int
    height_m: float
    pitch_deg: float
    roll_deg: float

    def view(self) -> View:
        """The camera above the world's origin."""
        w, h = self.size_wh
        K = np.array([[self.focal_px, 0.0, (w - 1) / 2], [0.0, self.focal_px, (h - 1) / 2], [0.0, 0.0, 1.0]])
        up = up_from_pitch_roll(np.deg2rad(self.pitch_deg), np.deg2rad(self.roll_deg))
        R = R_world_camera_from_up(up).T
        return View(K, R, -R @ np.array([0.0, self.height_m, 0.0]), self.size_wh)


@dataclass(frozen=True)
class Part:
    """Someone in a clip: Anny's phenotype values 0..1, the clothes, and what to do (told its body's seat height)."""

    phenotype: dict[str, float]
    look: Look
    script: Callable[[], Script]


@dataclass(frozen=True)
class Clip:
    """Everything a clip is made from. `seat` is (x, z, yaw, height) of a box to sit on, or None."""

    name: str
    camera: Camera
    seconds: float
    room: Room
    parts: tuple[Part, ...]
    seat: tuple[float, float, float, float] | None
    crf: int
    notes: str


SEAT = (1.02, -5.12, -0.25, 0.46)


def _visitor() -> Script:
    s = Script(-0.65, -5.3, 0.15)
    s.wait(0.6).walk([(-0.5, -4.4), (-0.35, -3.45)]).wait(0.15)
    s.gesture("wave", 2.1).gesture("look", 2.6, np.array([0.0, 1.7, 0.0])).wait(1.95)
    s.turn(1.25, 0.46).walk([(0.65, -4.0), (SEAT[0] - 0.09, SEAT[1] + 0.36)]).turn(SEAT[2], 0.46)
    seat = np.array([SEAT[0], SEAT[3] + 0.088, SEAT[1]])
    s.gesture("sit", 4.3, seat, 0.05).gesture("look", 1.6, np.array([-2.5, 1.2, -3.0]), 1.5).wait(4.25)
    return s.walk([(0.1, -4.75), (-0.9, -4.6), (-1.35, -5.4)]).wait(1.0)


def _crosser() -> Script:
    s = Script(-1.62, -3.6, np.pi / 2)
    path = [(0.0, -3.55), (1.25, -3.6), (1.5, -4.1), (1.0, -4.45), (0.0, -4.4), (-1.3, -4.0)]
    s.wait(0.1).walk(path, 0.62).turn(0.35, 0.44).wait(0.3)
    return s.gesture("look", 2.0, np.array([0.2, 1.3, -1.0]), -0.6).wait(2.0)


def _other_crosser() -> Script:
    s = Script(1.6, -4.5, -np.pi / 2)
    path = [(0.2, -4.55), (-1.2, -4.45), (-1.5, -3.9), (-1.0, -3.55), (0.2, -3.5), (1.2, -3.55)]
    s.wait(0.2).walk(path, 0.58, 0.5).turn(0.2, 0.40)
    return s.gesture("wave", 2.2, None, -0.4).gesture("look", 3.0, np.array([0.0, 1.3, 0.0]), -0.8).wait(3.0)


CLIPS = (
    Clip(
        name="demo_one",
        camera=Camera(905.0, (1280, 720), 25, 1.90, 14.0, 3.0),
        seconds=20.0,
        room=Room(3.6, 7.6, 2.9, (0.70, 0.68, 0.62), (0.62, 0.47, 0.33), 0.16, 5, 3.2),
        parts=(
            Part(
                {"gender": 0.05, "age": 0.72, "muscle": 0.6, "weight": 0.45, "height": 0.40, "proportions": 0.6},
                Look((0.70, 0.16, 0.14), (0.16, 0.20, 0.33), (0.16, 0.16, 0.17), (0.12, 0.08, 0.05)),
                _visitor,
            ),
        ),
        seat=SEAT,
        crf=22,
        notes="One person walks up, waves, turns, walks away to a box, sits down, stands up and walks off sideways.",
    ),
    Clip(
        name="demo_two",
        camera=Camera(742.0, (960, 540), 30, 1.32, 4.0, -2.0),
        seconds=10.0,
        room=Room(4.4, 8.4, 3.1, (0.56, 0.62, 0.64), (0.50, 0.46, 0.42), 0.28, 11, 2.4),
        parts=(
            Part(
                {"gender": 0.0, "age": 0.8, "muscle": 0.45, "weight": 0.72, "height": 0.47, "proportions": 0.4},
                Look((0.24, 0.32, 0.52), (0.33, 0.30, 0.26), (0.25, 0.16, 0.10), (0.25, 0.22, 0.20), sleeve=0.93),
                _crosser,
            ),
            Part(
                {"gender": 1.0, "age": 0.69, "muscle": 0.4, "weight": 0.35, "height": 0.34, "proportions": 0.7},
                Look((0.85, 0.70, 0.25), (0.12, 0.13, 0.15), (0.80, 0.80, 0.82), (0.22, 0.12, 0.06), (0.66, 0.47, 0.36),
                     0.3, 0.06, (0.92, 0.90, 0.86), True),
                _other_crosser,
            ),
        ),
        seat=None,
        crf=22,
        notes="Two people of different build cross in front of each other twice.",
    ),
)  # fmt: skip


class Shoot:
    """A clip being filmed: `frame(k)` renders one picture."""

    def __init__(self, clip: Clip) -> None:
        anny = AnnyBody.open()
        self.clip, self.view = clip, clip.camera.view()
        self.people = [Person.dressed(anny, part.phenotype, part.look) for part in clip.parts]
        self.n_frames = round(clip.seconds * clip.camera.fps)
        self.motions = [
            perform(part.script(), p.body, p.sole_m, self.n_frames, clip.camera.fps)
            for part, p in zip(clip.parts, self.people, strict=True)
        ]
        room = clip.room.picture(self.view.scaled(2))
        self._room: Array = cv2.resize(room, clip.camera.size_wh, interpolation=cv2.INTER_AREA).astype(np.float64)
        width = clip.room.half_width_m
        self._shadow = FloorShadow(self.view, LIGHT, np.array([-width, -clip.room.depth_m]), np.array([width, -1.5]))
        self._furniture: list[Surface] = []
        if clip.seat is not None:
            x, z, yaw, height = clip.seat
            self._furniture.append(box((x, z), yaw, (0.46, height, 0.42), np.array([0.33, 0.42, 0.40])))

    def posed(self, person: int, k: int) -> PosedBody:
        """Person `person` in frame `k`."""
        m = self.motions[person]
        return self._pose(person, m.R_world_root[k], m.t_world_root[k], m.Rs_parent_joint[k])

    def _pose(self, person: int, R: Array, t: Array, Rs: Array) -> PosedBody:
        return self.people[person].body.shaped(np.zeros(1)).posed(R, t, Rs)

    def frame(self, k: int) -> np.ndarray:
        """Picture `k` (H, W, 3) uint8 RGB."""
        surfaces = [p.surface(self.posed(i, k)) for i, p in enumerate(self.people)] + self._furniture
        image = self._room * self._shadow.factor(surfaces)
        corners = np.concatenate([self.view.to_pixels(s.vertices) for s in surfaces])
        w, h = self.view.size_wh
        low = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, [w - 1, h - 1])
        high = np.clip(np.ceil(corners.max(0)).astype(int) + 3, low + 1, [w, h])
        K = self.view.K.copy()
        K[:2, 2] -= low
        part = View(
            K, self.view.R_camera_world, self.view.t_camera_world, (int(high[0] - low[0]), int(high[1] - low[1]))
        )
        big = np.zeros((2 * part.size_wh[1], 2 * part.size_wh[0], 3))
        mask = draw(big, surfaces, part.scaled(2), LIGHT)
        alpha = cv2.resize(mask.astype(np.float64), part.size_wh, interpolation=cv2.INTER_AREA)[..., None]
        cut = (slice(low[1], high[1]), slice(low[0], high[0]))
        image[cut] = image[cut] * (1 - alpha) + cv2.resize(big, part.size_wh, interpolation=cv2.INTER_AREA)
        return self._sensor(image, k)

    def _sensor(self, image: Array, k: int) -> np.ndarray:
        """Lens and sensor: a little blur, vignetting and noise."""
        h, w = image.shape[:2]
        y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        soft = cv2.GaussianBlur(image, (0, 0), 0.55) * (1.0 - 0.10 * (x**2 + y**2))[..., None]
        noise = np.random.default_rng(k).normal(0.0, 1.4, image.shape)
        return np.clip(255 * np.clip(soft, 0, 1) ** 0.92 + noise, 0, 255).round().astype(np.uint8)

    def truth(self, person: int) -> dict[str, Any]:
        """The arrays of one person's joints.npz."""
        m, p = self.motions[person], self.people[person]
        posed = self._pose(person, m.R_world_root, m.t_world_root, m.Rs_parent_joint)
        return truth_arrays(p, m, posed)


_filming: Shoot | None = None


def _begin(clip: Clip) -> None:
    global _filming
    cv2.setNumThreads(1)
    _filming = Shoot(clip)


def _film(k: int) -> np.ndarray:
    assert _filming is not None
    return _filming.frame(k)


def encode(frames: Any, path: Path, camera: Camera, crf: int) -> None:
    """Writes RGB frames as H.264 (yuv420p, key frame every two seconds, header first so that it streams)."""
    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=camera.fps)
        stream.width, stream.height = camera.size_wh
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryslow", "threads": "1", "g": str(2 * camera.fps)}
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def make(clip: Clip, out: Path, jobs: int) -> None:
    """Writes video.mp4, camera.json and a joints file for each person into `out`/name."""
    folder = out / clip.name
    folder.mkdir(parents=True, exist_ok=True)
    shoot = Shoot(clip)
    statures = [p.stature_m for p in shoot.people]
    record = camera_record(shoot.view, clip.camera.fps, shoot.n_frames, statures, clip.notes)
    (folder / "camera.json").write_text(json.dumps(record, indent=1) + "\n")
    for i in range(len(shoot.people)):
        name = "joints.npz" if len(shoot.people) == 1 else f"joints_{i}.npz"
        np.savez_compressed(folder / name, **shoot.truth(i))
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (clip,)) as pool:
        encode(pool.map(_film, range(shoot.n_frames), chunksize=4), folder / "video.mp4", clip.camera, clip.crf)


def main() -> None:
    """Makes the clips that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clips", nargs="*", choices=[c.name for c in CLIPS], metavar="CLIP")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    for clip in CLIPS:
        if not args.clips or clip.name in args.clips:
            make(clip, args.out, args.jobs)


if __name__ == "__main__":
    main()
