"""Made-up people before made-up cameras, by the hundred thousand and without a picture: what the networks learn from.

Motions (`training.make_data motions`) on bodies of the project's shape space, seen by cameras that stand where cameras
stand and look where somebody wants to film; the landmarks get the errors of `training.error_model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.body import BodyModel
from pipeline.types import JOINT_NAMES, JOINT_PARENTS, LANDMARK_NAMES
from training.error_model import LandmarkErrors
from training.network import HIPS, N_TAPS, STATURE_M, TAPS_S, exp_turn, ray_rotation
from training.scene_cameras import random_cameras
from training.scene_errors import less_turned, limbs_apart, milder

_PARENTS = torch.tensor(JOINT_PARENTS[1:])
#: Landmarks that must be in the picture: trunk and limbs, and how many of them.
_LIMBS = torch.tensor([11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
MIN_INSIDE = 6
#: Or so many of the face and the arms.
MIN_UPPER = 12
#: Deviation of the shapes, of the shape space's own, and of where landmarks are put on somebody, metres.
SHAPE_SIGMA, ELSEWHERE_M = 1.1, 0.012
SELDOM_KINDS, SELDOM = ("lie", "floor", "handstand", "plank", "rise"), 0.3


def _mirror_of(names: tuple[str, ...]) -> Tensor:
    other = [n.replace("left", "?").replace("right", "left").replace("?", "right") for n in names]
    return torch.tensor([names.index(n) for n in other])


MIRROR_JOINTS, MIRROR_MARKS = _mirror_of(JOINT_NAMES), _mirror_of(LANDMARK_NAMES)
_FLIP = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))


def rotations_of_quats(q: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of unit quaternions (..., 4), order x y z w."""
    x, y, z, w = q.unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]  # fmt: skip
    return torch.stack(rows, -1).reshape(*x.shape, 3, 3)


@dataclass(frozen=True, eq=False)
class Motions:
    """The file of `python -m training.make_data motions`: frames of all motions in a row, 30 a second, y up.

    Rs_world_joint quaternions (N, 24, 4) x y z w; t_world_root (N, 3) metres; starts, lengths, weights (M,).
    """

    quats: Tensor
    t_world_root: Tensor
    starts: Tensor
    lengths: Tensor
    weights: Tensor
    fps: float

    @classmethod
    def load(cls, path: Path, held_out: bool) -> Motions:
        """The motions that are for training, or those kept aside. Raises OSError or KeyError for another file."""
        with np.load(path, allow_pickle=False) as z:
            keep = z["held_out"].astype(bool) == held_out
            kinds = z["kind"][keep]
            lengths = z["lengths"][keep].astype(np.int64)
            weights = np.minimum(lengths, 900).astype(np.float64)
            for kind in np.unique(kinds):
                # No kind drowns the others, and what cameras seldom see stays seldom
                share = SELDOM if str(kind) in SELDOM_KINDS else 1.0
                weights[kinds == kind] *= share / weights[kinds == kind].sum() ** 0.6
            q = torch.from_numpy(z["quats_world_joint_xyzw"].astype(np.float32))
            t = torch.from_numpy(z["t_world_root"].astype(np.float32))
            return cls(q, t, torch.from_numpy(z["starts"][keep].astype(np.int64)), torch.from_numpy(lengths),
                       torch.from_numpy(weights), float(z["fps"]))  # fmt: skip

    def windows(self, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rs_world_joint (n, N_TAPS, 24, 3, 3), newest first, and t_world_root (n, N_TAPS, 3); some mirrored."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=g)
        speed = torch.empty(n).uniform_(0.7, 1.3, generator=g)
        back = torch.tensor(TAPS_S)[None] * speed[:, None] * self.fps
        span = torch.minimum(back[:, -1].ceil().long() + 1, self.lengths[which])
        now = (torch.rand(n, generator=g) * (self.lengths[which] - span + 1)).long() + span - 1
        at = self.starts[which][:, None] + (now[:, None] - back.round().long()).clamp_min(0)
        Rs, t = rotations_of_quats(self.quats[at]), self.t_world_root[at]
        other = torch.rand(n, generator=g) < 0.5
        Rs[other] = _FLIP @ Rs[other][:, :, MIRROR_JOINTS] @ _FLIP
        t[other] = t[other] * torch.tensor([-1.0, 1.0, 1.0])
        return Rs, t


def varied(Rs_world: Tensor, g: torch.Generator) -> Tensor:
    """Rs_world_joint (n, T, 24, 3, 3) with another's arms now and then, and every joint a little turned for good."""
    n = len(Rs_world)
    local = torch.cat([Rs_world[:, :, :1], Rs_world[:, :, _PARENTS].transpose(-1, -2) @ Rs_world[:, :, 1:]], 2)
    swap = torch.rand(n, generator=g) < 0.15
    arms = torch.tensor([13, 14, 16, 17, 18, 19, 20, 21, 22, 23])
    someone = torch.randperm(n, generator=g)
    mixed = local[someone][:, :, arms]
    local[swap.nonzero()[:, 0, None], :, arms[None]] = mixed[swap].transpose(1, 2)
    # Most a little, some so much that nobody moved like that in the captures: people balance, play, fall
    much = torch.where(torch.rand(n, generator=g) < 0.35, torch.tensor(0.2), torch.tensor(0.06))
    turn = torch.randn(n, 1, 24, 3, generator=g) * much[:, None, None, None]
    turn[:, :, 0] *= 0.7
    drift = torch.randn(n, 1, 24, 3, generator=g) * 0.5 * much[:, None, None, None]
    age = torch.tensor(TAPS_S)[None, :, None, None] / TAPS_S[-1]
    local = local @ exp_turn(turn + drift * age)
    world = [local[:, :, 0]]
    for joint in range(1, 24):
        world.append(world[JOINT_PARENTS[joint]] @ local[:, :, joint])
    return torch.stack(world, 2)


def placed_elsewhere(n: int, g: torch.Generator) -> Tensor:
    """Where the landmark network puts landmarks on n people besides, (n, 33, 3) metres in the axes of their joints.

    No two people are marked alike, in clothes least of all: on somebody the hips are a little higher in every picture.
    """
    both = torch.randn(n, 33, 3, generator=g)
    both = 0.5**0.5 * (both + both[:, MIRROR_MARKS] * torch.tensor([-1.0, 1.0, 1.0]))
    each = torch.randn(n, 33, 3, generator=g)
    return ELSEWHERE_M * (0.8**0.5 * both + 0.2**0.5 * each)


FIELDS: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
    "points_px": ((N_TAPS, 33, 2), torch.float32), "visibility": ((N_TAPS, 33), torch.float16),
    "points_m": ((N_TAPS, 33, 3), torch.float16), "ages_s": ((N_TAPS,), torch.float32),
    "size_wh": ((2,), torch.float32), "focal_px": ((), torch.float32), "up_camera": ((3,), torch.float32),
    "place_m": ((3,), torch.float32), "Rs_6d": ((24, 6), torch.float16), "betas": ((10,), torch.float16),
    "true_px": ((33, 2), torch.float32), "true_ray_m": ((33, 3), torch.float16), "pelvis_ray_m": ((3,), torch.float16),
    "stature_m": ((), torch.float32),
}  # fmt: skip


class Scenes:
    """Draws batches of windows with truth; the newest picture's truth is of people of STATURE_M.

    FIELDS names what a batch holds: the network's inputs, K's focal length, up in the camera, the hips' place, the
    body (R_ray_root and Rs_parent_joint by their first two columns; betas), true image landmarks, true landmarks in
    ray axes about the hips and the pelvis joint there; how tall they truly are.
    """

    def __init__(self, motions: Motions, errors: LandmarkErrors, body: BodyModel | None = None) -> None:
        self.motions, self.errors = motions, errors
        self.body = BodyModel.load() if body is None else body

    def batch(self, n: int, g: torch.Generator) -> dict[str, Tensor]:
        """About n / 2 windows: those whose people are in the picture and were found."""
        Rs, t = self.motions.windows(n, g)
        Rs = varied(Rs, g)
        betas = SHAPE_SIGMA * torch.randn(n, 10, generator=g)
        dirs = torch.tensor(self.body.stature_dirs, dtype=torch.float32)
        betas[:, 0] = (STATURE_M - self.body.stature_m - betas[:, 1:] @ dirs[1:]) / dirs[0]
        shaped = self.body.shaped(betas[:, None])
        joints = shaped.joints_from_root(Rs)
        at = torch.as_tensor(self.body.landmark_joint)
        marks = joints[:, :, at] + (Rs[:, :, at] @ shaped.landmark_offsets[..., None])[..., 0]
        elsewhere = (Rs[:, :, at] @ placed_elsewhere(n, g)[:, None, ..., None])[..., 0]
        # Statures differ: the same body, larger or smaller, stands in the same scene
        child = torch.rand(n, generator=g) < 0.12
        stature = torch.where(child, torch.empty(n).uniform_(0.95, 1.55, generator=g),
                              STATURE_M * (1 + 0.055 * torch.randn(n, generator=g)).clamp(0.85, 1.17))  # fmt: skip
        size = (stature / STATURE_M)[:, None, None, None]
        root = t - t[:, :1] * torch.tensor([1.0, 0.0, 1.0])
        world = size * (marks + root[:, :, None])
        target = world[:, 0].mean(1)
        cameras = random_cameras(target, g)
        R = cameras.R_world_camera.transpose(1, 2)
        camera = (world - cameras.t_world_camera[:, None, None]) @ R[:, None].transpose(-1, -2)
        seen_at = camera + size * elsewhere @ R[:, None].transpose(-1, -2)
        z = camera[..., 2:]
        uv = (camera / z.clamp_min(0.05)) @ cameras.K[:, None, :2].transpose(-1, -2)
        inside = ((uv >= 0) & (uv < cameras.size_wh[:, None, None])).all(-1) & (z[..., 0] > 0.1)
        body_mean = camera[:, 0].mean(1)
        enough = (inside[:, 0, _LIMBS].sum(-1) >= MIN_INSIDE) | (inside[:, 0, :17].sum(-1) >= MIN_UPPER)
        good = enough & (z[..., 0].amin((1, 2)) > 0.15) & (body_mean[:, 2] > 0.35)
        extent = (uv[:, 0].amax(1) - uv[:, 0].amin(1)).amax(-1)
        good &= extent > 70
        keep = good.nonzero()[:, 0]
        camera, uv, Rs, betas, stature = camera[keep], uv[keep], Rs[keep], betas[keep], stature[keep]
        K, size_wh = cameras.K[keep], cameras.size_wh[keep]
        # What is marked on this person, and where that is seen
        seen_at = seen_at[keep]
        seen_uv = (seen_at / seen_at[..., 2:].clamp_min(0.05)) @ K[:, None, :2].transpose(-1, -2)
        times = torch.tensor(TAPS_S)
        # Time runs forward for the errors
        found = self.errors.sample(seen_at.flip(1), K, size_wh, stature, (times[-1] - times).flip(0), g)
        px, visibility, metres, ok = (
            v.flip(1) for v in (found.points_px, found.visibility, found.points_m, found.found)
        )
        px, metres = milder(px, metres, seen_uv, seen_at, g)
        metres = less_turned(limbs_apart(metres, seen_at, g), seen_at, g)
        px, visibility, metres, ages = without_gaps(px, visibility, metres, ok, times, g)
        hips = camera[:, 0, list(HIPS)].mean(1)
        to_ray = ray_rotation(hips).transpose(1, 2)
        scale = (STATURE_M / stature)[:, None, None]
        true_ray = scale * ((camera[:, 0] - hips[:, None]) @ to_ray.transpose(1, 2))
        Rs_now = Rs[:, 0]
        local = torch.cat([(to_ray @ R[keep] @ Rs_now[:, 0])[:, None],
                           Rs_now[:, _PARENTS].transpose(-1, -2) @ Rs_now[:, 1:]], 1)  # fmt: skip
        pelvis = size[keep][:, 0, 0] * root[keep][:, 0] - cameras.t_world_camera[keep]
        pelvis_ray = scale[:, 0] * ((to_ray @ ((R[keep] @ pelvis[..., None])[..., 0] - hips)[..., None])[..., 0])
        out = {
            "points_px": px, "visibility": visibility, "points_m": metres, "ages_s": ages, "size_wh": size_wh,
            "focal_px": K[:, 0, 0], "up_camera": cameras.up_camera[keep], "place_m": scale[:, 0] * hips,
            "Rs_6d": local[..., :2].transpose(-1, -2).flatten(2), "betas": betas, "true_px": uv[:, 0],
            "true_ray_m": true_ray, "pelvis_ray_m": pelvis_ray, "stature_m": stature,
        }  # fmt: skip
        seen = ok[:, 0] & torch.isfinite(px).all(-1).all(-1).all(-1)
        return {name: out[name][seen].to(dtype) for name, (_, dtype) in FIELDS.items()}


def without_gaps(
    px: Tensor, visibility: Tensor, metres: Tensor, ok: Tensor, times: Tensor, g: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Taps (n, T, ...) as the stream has them: what is not known is the next newer one again, age and all.

    People also came into view a moment ago: a share of the windows is cut at a random age.
    """
    n, T = ok.shape
    known = ok.clone()
    young = torch.rand(n, generator=g) < 0.25
    cut = torch.randint(1, T, (n,), generator=g)
    known &= ~(young[:, None] & (torch.arange(T)[None] >= cut[:, None]))
    at = torch.zeros(n, T, dtype=torch.long)
    for k in range(1, T):
        at[:, k] = torch.where(known[:, k], torch.full((n,), k), at[:, k - 1])
    rows = torch.arange(n)[:, None]
    return px[rows, at], visibility[rows, at], metres[rows, at], times[at]


def main(arguments: list[str] | None = None) -> int:
    """Writes windows into OUT: one .pt of tensors a field; returns the exit status."""
    import argparse
    import sys
    import time

    parser = argparse.ArgumentParser(prog="python -m training.scenes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--motions", type=Path, required=True, help="file of `training.make_data motions`")
    parser.add_argument("--errors", type=Path, required=True, help="file of `training.error_model`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=200_000)
    parser.add_argument("--held-out", action="store_true", help="of the motions kept aside")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    g = torch.Generator().manual_seed(options.seed)
    scenes = Scenes(Motions.load(options.motions, options.held_out), LandmarkErrors.load(options.errors))
    parts: dict[str, list[Tensor]] = {name: [] for name in FIELDS}
    done, start = 0, time.monotonic()
    with torch.no_grad():
        while done < options.windows:
            batch = scenes.batch(2048, g)
            for name, values in batch.items():
                parts[name].append(values)
            done += len(batch["ages_s"])
            sys.stderr.write(f"\r{done} of {options.windows} windows, {done / (time.monotonic() - start):.0f} a second")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: torch.cat(values)[: options.windows] for name, values in parts.items()}, options.out)
    sys.stderr.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
