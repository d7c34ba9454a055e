"""How people hold themselves against gravity, as two Gaussians: `python -m training.bake_pose_prior --motion CMU`.

Writes pipeline/data/pose_prior.npz: means and main directions of the body's landmarks in a frame whose y is up and
whose heading is the body's, of people upright on their legs and of anybody. Half of the weight has CMU's motion capture
(mocap.cs.cmu.edu, free to use; NSF EIA-0196217), half the procedural poses of `training.random_poses`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from pipeline.body import BodyModel
from pipeline.calibration_prior import COMPONENTS, DEFAULT_FILE, FORMAT
from pipeline.calibration_sample import BODY, HIPS, is_upright
from pipeline.frames import Array, exp_so3
from pipeline.types import LANDMARK
from training.random_poses import CmuPoses, Pose, mirrored, procedural

STATURE_M, SHAPE_SIGMA = 1.72, 0.8
N_PROCEDURAL, EVERY = 4000, 24
#: Kept aside to judge calibrations on.
ASIDE = ("01_03", "01_06", "01_09", "01_12", "01_14", "02_01", "02_05", "02_07", "02_09", "02_10", "03_02", "03_04")
_CREDIT = "Poses: CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu, NSF EIA-0196217) and procedural."


def landmarks_of(poses: list[Pose], rng: np.random.Generator) -> Array:
    """(N, 33, 3) landmarks about the hips' middle, y up, left at +x, each of another body of one stature."""
    body = BodyModel.load()
    out = []
    for pose in poses:
        betas = body.betas_for_height(STATURE_M, np.concatenate([[0.0], rng.normal(0.0, SHAPE_SIGMA, 9)]))
        posed = body.shaped(betas).posed(pose.R_world_root, np.zeros(3), pose.Rs_parent_joint)
        out.append(np.asarray(posed.landmarks))
    points = np.stack(out)
    points = points - points[:, HIPS].mean(1, keepdims=True)
    left = points[:, LANDMARK["left_shoulder"]] - points[:, LANDMARK["right_shoulder"]]
    left += points[:, LANDMARK["left_hip"]] - points[:, LANDMARK["right_hip"]]
    yaw = np.arctan2(left[:, 2], left[:, 0])
    turned = exp_so3(np.stack([0.0 * yaw, yaw, 0.0 * yaw], axis=-1))
    return np.asarray(points @ np.swapaxes(turned, 1, 2))


def gaussian(points: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Mean (19, 3), directions (19, 3, COMPONENTS) of one standard deviation, and (19,) what they leave out."""
    flat = points[:, BODY].reshape(len(points), -1)
    mean = np.average(flat, axis=0, weights=weights)
    covariance = np.cov(flat.T, aweights=weights)
    values, vectors = np.linalg.eigh(covariance)
    directions = vectors[:, ::-1][:, :COMPONENTS] * np.sqrt(values[::-1][:COMPONENTS])
    rest = np.maximum(np.diag(covariance) - (directions**2).sum(1), 1e-6).reshape(-1, 3).mean(1)
    return mean.reshape(-1, 3), directions.reshape(-1, 3, COMPONENTS), np.sqrt(rest)


def main(arguments: list[str] | None = None) -> int:
    """Writes the file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.bake_pose_prior", description=(__doc__ or "")[:80])
    parser.add_argument("--motion", type=Path, required=True, help="folder of CMU's SUBJECT/*.asf and SUBJECT/*.amc")
    parser.add_argument("--out", type=Path, default=DEFAULT_FILE)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(5)
    cmu = CmuPoses.read(options.motion, EVERY, ASIDE)
    local = [Pose("cmu", *_local(G)) for G in cmu.Rs_world_joint]
    local += [Pose("cmu", *mirrored(p.R_world_root, p.Rs_parent_joint)) for p in local]
    made = [procedural(rng) for _ in range(N_PROCEDURAL)]
    points = landmarks_of(local + made, rng)
    weights = np.concatenate([np.full(len(local), 1.0 / len(local)), np.full(len(made), 1.0 / len(made))])
    upright = is_upright(points)
    fields: dict[str, object] = {"format": FORMAT, "credit": _CREDIT}
    for name, chosen in (("upright", upright), ("any", np.ones(len(points), dtype=bool))):
        mean, directions, rest = gaussian(points[chosen], weights[chosen])
        fields |= {f"{name}_mean": mean.astype(np.float32), f"{name}_directions": directions.astype(np.float32),
                   f"{name}_rest": rest.astype(np.float32)}  # fmt: skip
    np.savez_compressed(options.out, **fields)  # type: ignore[arg-type]
    sys.stdout.write(f"{options.out}: {len(points)} poses, {np.count_nonzero(upright)} upright.\n")
    return 0


def _local(Rs_world: Array) -> tuple[Array, Array]:
    from pipeline.types import JOINT_PARENTS

    return Rs_world[0], np.stack([Rs_world[p].T @ Rs_world[j] for j, p in enumerate(JOINT_PARENTS) if p >= 0])


if __name__ == "__main__":
    sys.exit(main())
