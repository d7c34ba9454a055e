"""GLB: skinned and animated bodies, glTF 2.0. Its axes are ours: right-handed, metres, y up, a person faces +z.

Each person is a skeleton of 24 nodes named as SMPL's joints and a mesh with a skin, at rest in the T-pose. One
animation, "motion", moves everybody on the file's one time axis; while somebody is not there the skeleton's scale is 0.
glTF's JSON is written out directly, which needs no package.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bridges.formats.skin import Skin, skin
from bridges.motion import Motion, Scene
from pipeline.body import BodyModel, open_body
from pipeline.frames import Array
from pipeline.types import JOINT_NAMES, JOINT_PARENTS

_FLOAT, _U8, _U32 = 5126, 5121, 5125
_VERTICES, _INDICES = 34962, 34963
_TYPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (16,): "MAT4"}
_COLOURS = [(0.35, 0.55, 0.75), (0.80, 0.50, 0.35), (0.45, 0.65, 0.40), (0.65, 0.50, 0.70)]


def write(path: Path, scene: Scene) -> None:
    """Writes every take of the scene. Raises what `open_body` raises for `scene.body`."""
    model = open_body(scene.body)
    glb = _Glb()
    animation: dict[str, Any] = {"name": "motion", "channels": [], "samplers": []}
    for number, takes in enumerate(scene.people):
        first = _add_person(glb, skin(model, takes[0]), takes[0], scene.label(takes), number)
        _add_motion(glb, animation, scene, takes, first)
    glb.document["animations"] = [animation]
    glb.document["asset"] = {"version": "2.0", "generator": "whmr-stream", "copyright": _credit(model)}
    path.write_bytes(glb.packed())


def _credit(model: BodyModel) -> str:
    return f"Body: {model.credit}"


@dataclass
class _Glb:
    """A glTF document that grows, and its one binary chunk."""

    data: bytearray = field(default_factory=bytearray)
    document: dict[str, Any] = field(
        default_factory=lambda: {
            "scene": 0, "scenes": [{"nodes": []}], "nodes": [], "meshes": [], "skins": [], "materials": [],
            "accessors": [], "bufferViews": [],
        }
    )  # fmt: skip

    def add(self, kind: str, value: dict[str, Any]) -> int:
        self.document[kind].append(value)
        return len(self.document[kind]) - 1

    def accessor(self, values: np.ndarray, component: int, target: int | None = None, bounds: bool = False) -> int:
        """Index of an accessor for (N, ...) values: scalars, vectors of 3 or 4, 16 numbers of a matrix."""
        dtype = {_FLOAT: "<f4", _U8: "u1", _U32: "<u4"}[component]
        rows = np.ascontiguousarray(values, dtype=dtype)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": rows.nbytes}
        if target is not None:
            view["target"] = target
        self.data += rows.tobytes()
        self.data += bytes(-len(self.data) % 4)
        accessor: dict[str, Any] = {
            "bufferView": self.add("bufferViews", view),
            "componentType": component,
            "count": len(rows),
            "type": _TYPES[rows.shape[1:]],
        }
        if bounds:
            table = rows.reshape(len(rows), -1).astype(np.float64)
            accessor |= {"min": table.min(axis=0).tolist(), "max": table.max(axis=0).tolist()}
        return self.add("accessors", accessor)

    def packed(self) -> bytes:
        self.document["buffers"] = [{"byteLength": len(self.data)}]
        text = json.dumps(self.document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
        chunks += struct.pack("<II", len(self.data), 0x004E4942) + self.data
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _add_person(glb: _Glb, body: Skin, motion: Motion, label: str, number: int) -> int:
    """Adds skeleton, skin and mesh; returns the node of the pelvis, from which the joints' nodes follow in order."""
    first = len(glb.document["nodes"]) + 1
    glb.document["scenes"][0]["nodes"].append(glb.add("nodes", {"name": label, "children": [first]}))
    for joint, name in enumerate(JOINT_NAMES):
        children = [first + child for child, parent in enumerate(JOINT_PARENTS) if parent == joint]
        place = motion.t_world_root_m[0] if joint == 0 else motion.offsets_m[joint]
        node: dict[str, Any] = {"name": name, "translation": place.tolist()}
        glb.add("nodes", node | ({"children": children} if children else {}))
    inverse = np.tile(np.eye(4), (24, 1, 1))
    inverse[:, :3, 3] = -motion.joints_rest_m
    # glTF's matrices are written column by column
    matrices = glb.accessor(inverse.transpose(0, 2, 1).reshape(24, 16), _FLOAT)
    joints = [first + joint for joint in range(24)]
    bones = glb.add("skins", {"joints": joints, "inverseBindMatrices": matrices, "skeleton": first})
    node = {"name": f"{label}_body", "mesh": _add_mesh(glb, body, label, number), "skin": bones}
    glb.document["scenes"][0]["nodes"].append(glb.add("nodes", node))
    return first


def _add_mesh(glb: _Glb, body: Skin, label: str, number: int) -> int:
    colour = [*_COLOURS[number % len(_COLOURS)], 1.0]
    look = {"baseColorFactor": colour, "metallicFactor": 0.0, "roughnessFactor": 0.8}
    material = glb.add("materials", {"name": label, "pbrMetallicRoughness": look})
    weights = body.weights.astype(np.float32)
    weights[:, 0] += 1.0 - weights.sum(axis=1)
    return glb.add(
        "meshes",
        {
            "name": label,
            "primitives": [
                {
                    "attributes": {
                        "POSITION": glb.accessor(body.vertices_m, _FLOAT, _VERTICES, bounds=True),
                        "NORMAL": glb.accessor(body.normals, _FLOAT, _VERTICES),
                        "JOINTS_0": glb.accessor(body.joints, _U8, _VERTICES),
                        "WEIGHTS_0": glb.accessor(weights, _FLOAT, _VERTICES),
                    },
                    "indices": glb.accessor(body.faces.reshape(-1), _U32, _INDICES),
                    "material": material,
                }
            ],
        },
    )


def _add_motion(glb: _Glb, animation: dict[str, Any], scene: Scene, takes: tuple[Motion, ...], first: int) -> None:
    quats = np.concatenate([take.quats_xyzw for take in takes])
    places = np.concatenate([take.t_world_root_m for take in takes])
    rows = np.concatenate([np.arange(scene.count)[scene.span(take)] for take in takes])
    times = glb.accessor(rows / scene.fps, _FLOAT, bounds=True)
    _add_channel(glb, animation, times, places, (first, "translation"))
    for joint in range(24):
        _add_channel(glb, animation, times, quats[:, joint], (first + joint, "rotation"))
    shown = _shown(scene, takes)
    if len(shown) > 1 or shown[0, 1] == 0.0:
        when = glb.accessor(shown[:, 0] / scene.fps, _FLOAT, bounds=True)
        _add_channel(glb, animation, when, np.repeat(shown[:, 1:], 3, axis=1), (first, "scale"), "STEP")


def _add_channel(
    glb: _Glb, animation: dict[str, Any], times: int, values: Array, target: tuple[int, str], how: str = "LINEAR"
) -> None:
    sampler = {"input": times, "output": glb.accessor(values, _FLOAT), "interpolation": how}
    animation["samplers"].append(sampler)
    where = {"node": target[0], "path": target[1]}
    animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": where})


def _shown(scene: Scene, takes: tuple[Motion, ...]) -> Array:
    """(N, 2) frames at which the person appears (1) or goes (0), from frame 0 on."""
    events = {0: 0.0}
    for take in takes:
        span = scene.span(take)
        events[span.start] = 1.0
        if span.stop < scene.count:
            events[span.stop] = 0.0
    return np.array(sorted(events.items()))
