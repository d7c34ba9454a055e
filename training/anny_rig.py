"""SMPL's joints, MediaPipe's landmarks and SMPL's skin weights among Anny's bones and vertices.

Anny is z up and faces -y; everything that leaves this module is y up and faces +z (`pipeline.frames`, root).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.frames import Array
from pipeline.types import JOINT, LANDMARK_NAMES

Bones = Mapping[str, Array]
#: p_body = R_BODY_ANNY @ p_anny
R_BODY_ANNY: Array = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

_LANDMARK_JOINT_NAMES = {
    **dict.fromkeys(LANDMARK_NAMES[:11], "head"),
    **{f"{s}_{p}": f"{s}_{j}" for s in ("left", "right") for p, j in (
        ("shoulder", "collar"), ("elbow", "shoulder"), ("wrist", "wrist"), ("pinky", "wrist"), ("index", "wrist"),
        ("thumb", "wrist"), ("knee", "knee"), ("ankle", "ankle"), ("heel", "ankle"), ("foot_index", "foot"),
    )},
    "left_hip": "pelvis",
    "right_hip": "pelvis",
}  # fmt: skip
#: The joint each of MediaPipe's landmarks is attached to (33,).
LANDMARK_JOINTS = np.array([JOINT[_LANDMARK_JOINT_NAMES[name]] for name in LANDMARK_NAMES])

_BONE_JOINTS: dict[str, dict[str, float]] = {
    "root": {"pelvis": 1}, "pelvis": {"pelvis": 1}, "spine05": {"pelvis": 1},
    "spine04": {"pelvis": 0.4, "spine1": 0.6}, "spine03": {"spine1": 1}, "spine02": {"spine1": 0.25, "spine2": 0.75},
    "spine01": {"spine3": 1}, "neck01": {"neck": 1}, "neck02": {"neck": 1}, "neck03": {"neck": 0.5, "head": 0.5},
    "head": {"head": 1}, "eye": {"head": 1},
    "clavicle": {"collar": 1}, "shoulder01": {"collar": 0.55, "shoulder": 0.45},
    "upperarm": {"shoulder": 1}, "lowerarm": {"elbow": 1},
    "wrist": {"wrist": 1}, "metacarpal": {"wrist": 1}, "finger1": {"wrist": 0.6, "hand": 0.4}, "finger": {"hand": 1},
    "upperleg": {"hip": 1}, "lowerleg": {"knee": 1},
    "foot": {"ankle": 1}, "toe": {"foot": 1},
}  # fmt: skip


def bone_joints(bone: str) -> dict[int, float]:
    """SMPL joints that move an Anny bone, with their shares, e.g. "upperarm01.L" -> {16: 1.0}."""
    stem, _, side = bone.partition(".")
    key = next(k for k in sorted(_BONE_JOINTS, key=len, reverse=True) if stem.startswith(k))
    prefix = {"L": "left_", "R": "right_"}.get(side, "")
    shares = _BONE_JOINTS[key].items()
    return {JOINT[j if j in JOINT else prefix + j]: float(share) for j, share in shares}


@dataclass(frozen=True)
class AnnyBody:
    """Anny's full body: its model, faces (F, 3) and bone names. Needs the package `anny`."""

    model: Any
    faces: np.ndarray
    bones: tuple[str, ...]

    @classmethod
    def open(cls) -> AnnyBody:
        """Constructs Anny; the first time this takes minutes (see training.bake_body)."""
        import anny

        model = anny.Anny(skinning_method="lbs")
        return cls(model, model.faces.numpy(), tuple(model.bone_labels))

    def rest(self, phenotypes: Mapping[str, Array | float]) -> Iterator[tuple[Array, Bones]]:
        """Rest vertices (V, 3) and bone heads in the body's axes, phenotype by phenotype.

        Each phenotype value is (S,) or a number, 0..1, 0.5 where none is given. Raises ValueError for unknown names.
        """
        import torch

        unknown = set(phenotypes) - set(self.model.phenotype_labels)
        if unknown:
            raise ValueError(f"Anny knows the phenotypes {self.model.phenotype_labels}, got {sorted(unknown)}.")
        columns = np.broadcast_arrays(np.zeros(1), *phenotypes.values())[1:]
        for row in zip(*columns, strict=True) if columns else [()]:
            with torch.no_grad():
                out = self.model(phenotype_kwargs=dict(zip(phenotypes, map(float, row), strict=True)))
            heads = out["rest_bone_heads"][0].numpy() @ R_BODY_ANNY.T
            yield out["rest_vertices"][0].numpy() @ R_BODY_ANNY.T, dict(zip(self.bones, heads, strict=True))


def merged_weights(anny: AnnyBody) -> Array:
    """Skin weights (V, 24) of Anny's bones added up on SMPL's joints."""
    index, value = anny.model.vertex_bone_indices.numpy(), anny.model.vertex_bone_weights.numpy()
    merge = np.zeros((len(anny.bones), 24))
    for b, name in enumerate(anny.bones):
        for j, share in bone_joints(name).items():
            merge[b, j] += share
    weights = np.einsum("vk,vkj->vj", value, merge[index])
    return weights / weights.sum(1, keepdims=True)


def place_joints(bones: Bones) -> Array:
    """SMPL's 24 joints (24, 3) among bone heads, each a fixed linear combination so that shape stays linear.

    SMPL's hips lie medial of the femoral heads, its pelvis joint above them at the height of the sacrum.
    """
    J = np.zeros((24, 3))
    for name, s in (("left", "L"), ("right", "R")):
        hip = 0.75 * bones[f"upperleg01.{s}"] + 0.25 * bones[f"upperleg02.{s}"]
        J[JOINT[f"{name}_hip"]] = hip * np.array([0.8, 1.0, 1.0])
        J[JOINT[f"{name}_knee"]] = bones[f"lowerleg01.{s}"]
        J[JOINT[f"{name}_ankle"]] = bones[f"foot.{s}"]
        J[JOINT[f"{name}_foot"]] = np.mean([bones[f"toe{i}-1.{s}"] for i in (1, 2, 3)], axis=0)
        J[JOINT[f"{name}_collar"]] = 0.5 * bones[f"clavicle.{s}"] + 0.5 * bones[f"shoulder01.{s}"]
        J[JOINT[f"{name}_shoulder"]] = 0.85 * bones[f"upperarm01.{s}"] + 0.15 * bones[f"shoulder01.{s}"]
        J[JOINT[f"{name}_elbow"]] = bones[f"lowerarm01.{s}"]
        J[JOINT[f"{name}_wrist"]] = bones[f"wrist.{s}"]
        knuckles = np.mean([bones[f"finger{i}-1.{s}"] for i in (2, 3, 4, 5)], axis=0)
        J[JOINT[f"{name}_hand"]] = 0.2 * bones[f"wrist.{s}"] + 0.8 * knuckles
    hips = 0.5 * (J[JOINT["left_hip"]] + J[JOINT["right_hip"]])
    J[JOINT["pelvis"]] = [0.0, 0.5 * hips[1] + 0.5 * bones["spine04"][1], hips[2]]
    J[JOINT["spine1"]] = bones["spine03"]
    J[JOINT["spine2"]] = 0.7 * bones["spine02"] + 0.3 * bones["spine01"]
    J[JOINT["spine3"]] = 0.35 * bones["spine02"] + 0.65 * bones["spine01"]
    J[JOINT["neck"]] = bones["neck01"]
    J[JOINT["head"]] = 0.5 * bones["neck02"] + 0.5 * bones["neck03"]
    return J


@dataclass(frozen=True)
class PickedVertices:
    """Where the surface landmarks lie: `weights` (K, V) of `names` (K,) over Anny's vertices."""

    names: tuple[str, ...]
    weights: Array


def pick_vertices(anny: AnnyBody) -> PickedVertices:
    """Anny's own COCO key points, and the eye and mouth corners and toe tips by place on the average body."""
    from anny.keypoints import KeypointsRegressor

    coco = KeypointsRegressor.coco(anny.model)
    names, rows = list(coco.labels), list(coco.regression_weights.numpy())
    vertices, bones = next(anny.rest({}))
    for side, s in ((1.0, "L"), (-1.0, "R")):
        name = {"L": "left", "R": "right"}[s]
        eye = bones[f"eye.{s}"]
        wanted = {
            f"{name}_eye_inner": eye + np.array([-0.015 * side, 0.0, 0.025]),
            f"{name}_eye_outer": eye + np.array([0.017 * side, 0.0, 0.015]),
            f"mouth_{name}": np.array([0.024 * side, eye[1] - 0.066, eye[2] + 0.02]),
            f"{name}_toe": bones[f"toe2-3.{s}"] + np.array([0.0, 0.0, 0.02]),
        }
        for key, place in wanted.items():
            row = np.zeros(len(vertices))
            row[np.linalg.norm(vertices - place, axis=1).argmin()] = 1.0
            names.append(key)
            rows.append(row)
    return PickedVertices(tuple(names), np.stack(rows))


def place_landmarks(vertices: Array, joints: Array, bones: Bones, picked: PickedVertices) -> Array:
    """MediaPipe's 33 landmarks (33, 3) on Anny's rest pose: surface points of the face, joint centres of the limbs."""
    at = dict(zip(picked.names, picked.weights @ vertices, strict=True))
    for name, s in (("left", "L"), ("right", "R")):
        for part in ("elbow", "wrist", "knee", "ankle"):
            at[f"{name}_{part}"] = joints[JOINT[f"{name}_{part}"]]
        at[f"{name}_index"], at[f"{name}_pinky"] = bones[f"finger2-1.{s}"], bones[f"finger5-1.{s}"]
        at[f"{name}_thumb"] = bones[f"finger1-3.{s}"]
        at[f"{name}_foot_index"] = at[f"{name}_toe"]
    return np.stack([at[name] for name in LANDMARK_NAMES])
