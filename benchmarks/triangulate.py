"""Joints' truth for clips that filmed one person at once from several sides: `python -m benchmarks.triangulate`.

    python -m benchmarks.triangulate CLIP CLIP CLIP... --out DIR

Clips of one scene, frame by frame at the same time, whose camera.json says where each camera stands. The landmarks
that each of them shows are put where their rays meet, and DIR gets a folder for each clip, as `benchmarks.accuracy`
takes it: its video and camera as they are, and joints.npz. What one view gets wrong the others outvote: rays count less
the more they miss (Cauchy), and a joint counts only where three views agree within AGREE_PX.

This truth lies where MediaPipe's landmarks lie, which is not quite where a body's joints are (docs/landmarks.md): the
raw landmarks are measured at their own places by it, the body's joints at others, centimetres apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.truth import SCORED, read_camera
from engines.blazepose import BlazePose
from pipeline.clock import StageClock
from pipeline.detector import PersonDetector
from pipeline.frames import Array
from pipeline.perspective import rays_of
from pipeline.source import open_source
from pipeline.types import LANDMARK

#: Rays that miss by more count less; a joint is known where so many views agree within so many pixels.
MISS_PX, AGREE_PX, AGREEING = 5.0, 12.0, 3
_ROUNDS = 6
_JOINTS = [LANDMARK[name] for name in SCORED]


def triangulated(rays: Array, weights: Array, cameras: Array, focals_px: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Points (T, N, 3) where rays meet, in the cameras' common world, and whether enough views agree (T, N).

    rays       (V, T, N, 2) x/z and y/z of each view, nan where it sees nobody
    weights    (V, T, N) >= 0
    cameras    (V, 3, 4) [R | t] from the world to each camera
    focals_px  (V,)

    Linear triangulation (Hartley and Zisserman, Multiple View Geometry, section 12.2), weighed anew each round.
    """
    seen = np.isfinite(rays).all(-1)
    uv = np.nan_to_num(rays)
    trust = np.where(seen, weights + 1e-3, 0.0)
    used = trust
    for _ in range(_ROUNDS):
        rows = uv[..., None] * cameras[:, None, None, 2:3] - cameras[:, None, None, :2]
        A = np.moveaxis(rows * used[..., None, None], 0, 2).reshape(*rays.shape[1:3], -1, 4)
        point = np.linalg.svd(A, full_matrices=False)[2][..., -1, :]
        points = point[..., :3] / point[..., 3:]
        there = np.einsum("vij,tnj->vtni", cameras[..., :3], points) + cameras[:, None, None, :, 3]
        miss = np.linalg.norm(there[..., :2] / there[..., 2:] - uv, axis=-1) * focals_px[:, None, None]
        used = trust / (1.0 + (miss / MISS_PX) ** 2)
    miss = np.sort(np.where(seen, miss, np.inf), axis=0)
    return points, miss[min(AGREEING, len(rays)) - 1] < AGREE_PX


def sightings(video: Path, blazepose: BlazePose, K: Array, distortion: Array) -> tuple[Array, Array]:
    """Rays (T, 12, 2) and weights (T, 12) of SCORED of whoever is seen best in each frame; nan and 0 where nobody."""
    detector, rays, weights = PersonDetector(blazepose), [], []
    with open_source(str(video)) as source:
        for frame in source.frames():
            people = [d.landmarks for d in detector(frame, StageClock()) if d.landmarks is not None]
            best = max(people, key=lambda marks: float(marks.visibility.mean()), default=None)
            if best is None:
                rays.append(np.full((len(SCORED), 2), np.nan))
                weights.append(np.zeros(len(SCORED)))
            else:
                rays.append(rays_of(best.points_px[_JOINTS], K, distortion))
                weights.append(best.visibility[_JOINTS] ** 2)
    return np.stack(rays), np.stack(weights)


def triangulate(clips: Sequence[Path], out: Path) -> str:
    """Writes a folder for each clip; says how much of it is known. Raises ValueError, OSError in one sentence."""
    if len(clips) < AGREEING:
        raise ValueError(f"expected {AGREEING} or more clips of one scene at one time, got {len(clips)}.")
    seen, cameras, focals = [], [], []
    with closing(BlazePose.open()) as blazepose:
        for clip in clips:
            camera = read_camera(clip)
            if camera.K is None or camera.R_camera_file is None or camera.t_camera_file_m is None:
                raise ValueError(f"{clip}/camera.json: expected K, R_world_to_cam and t_world_to_cam_m in it.")
            distortion = np.array(camera.record.get("dist", np.zeros(5)), dtype=np.float64)
            seen.append(sightings(clip / "video.mp4", blazepose, camera.K, distortion))
            cameras.append(np.column_stack([camera.R_camera_file, camera.t_camera_file_m]))
            focals.append(camera.K[0, 0])
    shortest = min(len(rays) for rays, _ in seen)
    points, known = triangulated(
        np.stack([rays[:shortest] for rays, _ in seen]), np.stack([w[:shortest] for _, w in seen]),
        np.stack(cameras), np.array(focals),
    )  # fmt: skip
    names = np.array([name.replace("left_", "l_").replace("right_", "r_") for name in SCORED])
    for clip in clips:
        folder = out / clip.name
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("video.mp4", "camera.json"):
            (folder / name).write_bytes((clip / name).read_bytes())
        np.savez(folder / "joints.npz", joints=points, conf=known.astype(np.float64), names=names)
    return f"{out}: {len(clips)} clips, {shortest} frames, {100 * known.mean():.0f} % of the joints known"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triangulate", description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="a folder with video.mp4 and camera.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the folders with joints go")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(triangulate(options.clips, options.out) + "\n")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"benchmarks.triangulate: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
