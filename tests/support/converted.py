"""Reads files that `bridges.convert` wrote with readers that are not ours: joints in the axes and units of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.types import JOINT_NAMES, JOINT_PARENTS


def chain(places: np.ndarray, quats_xyzw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World places (T, 24, 3) and rotations (T, 24, 3, 3) of local places (T, 24, 3) and quaternions (T, 24, 4)."""
    Rs = Rotation.from_quat(quats_xyzw.reshape(-1, 4)).as_matrix().reshape(*quats_xyzw.shape[:2], 3, 3)
    world, turned = places.copy(), Rs.copy()
    for joint in range(1, 24):
        parent = JOINT_PARENTS[joint]
        turned[:, joint] = turned[:, parent] @ Rs[:, joint]
        world[:, joint] = world[:, parent] + (turned[:, parent] @ places[:, joint, :, None])[..., 0]
    return world, turned


def bvh_joints(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Joints (T, 24, 3), their world rotations (T, 24, 3, 3) from the rest pose and the frame time, through bvhio."""
    import bvhio

    file = bvhio.readAsBvh(str(path))
    root = bvhio.convertBvhToHierarchy(file.Root)
    found = {joint.Name: joint for joint, _, _ in root.layout()}

    def rotations() -> np.ndarray:
        quats = [found[name].RotationWorld for name in JOINT_NAMES]
        return Rotation.from_quat([[q.x, q.y, q.z, q.w] for q in quats]).as_matrix()

    # bvhio lays each joint's y axis along its bone
    root.loadRestPose()
    rest = rotations()
    places, turns = [], []
    for frame in range(file.FrameCount):
        root.loadPose(frame)
        places.append([list(found[name].PositionWorld) for name in JOINT_NAMES])
        turns.append(rotations() @ rest.transpose(0, 2, 1))
    return np.array(places), np.array(turns), file.FrameTime


class Glb:
    """A GLB through pygltflib, with the little arithmetic that a viewer does."""

    def __init__(self, path: Path) -> None:
        from pygltflib import GLTF2

        self.file = GLTF2().load(str(path))
        self._data = self.file.binary_blob()
        self.nodes = self.file.nodes

    def numbers(self, index: int) -> np.ndarray:
        """Values (N, width) of an accessor."""
        accessor = self.file.accessors[index]
        view = self.file.bufferViews[accessor.bufferView]
        kind = {5126: "<f4", 5121: "u1", 5125: "<u4"}[accessor.componentType]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor.type]
        values = np.frombuffer(self._data, kind, accessor.count * width, view.byteOffset)
        return values.reshape(-1, width).astype(np.float64)

    def tracks(self, skin: int) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """Times (N,) and values of a skin's nodes by (node's name, "translation" | "rotation" | "scale")."""
        animation = self.file.animations[0]
        found = {}
        for channel in animation.channels:
            if channel.target.node in self.file.skins[skin].joints:
                sampler = animation.samplers[channel.sampler]
                key = self.nodes[channel.target.node].name, channel.target.path
                found[key] = self.numbers(sampler.input)[:, 0], self.numbers(sampler.output)
        return found

    def joints(self, skin: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times (T,), joints (T, 24, 3) and their world rotations (T, 24, 3, 3)."""
        tracks = self.tracks(skin)
        nodes = [self.nodes[node] for node in self.file.skins[skin].joints]
        assert tuple(node.name for node in nodes) == JOINT_NAMES
        times, root = tracks["pelvis", "translation"]
        places = np.tile(np.array([node.translation for node in nodes], dtype=np.float64), (len(times), 1, 1))
        places[:, 0] = root
        quats = np.stack([tracks[name, "rotation"][1] for name in JOINT_NAMES], axis=1)
        return times, *chain(places, quats)

    def surface(self, skin: int, frame: int) -> np.ndarray:
        """Vertices (V, 3) of a skin's mesh at a key frame, as a viewer skins them."""
        _, places, turns = self.joints(skin)
        here = np.tile(np.eye(4), (24, 1, 1))
        here[:, :3, :3], here[:, :3, 3] = turns[frame], places[frame]
        bind = self.numbers(self.file.skins[skin].inverseBindMatrices).reshape(24, 4, 4).transpose(0, 2, 1)
        mesh = next(node.mesh for node in self.nodes if node.skin == skin)
        attributes = self.file.meshes[mesh].primitives[0].attributes
        points = self.numbers(attributes.POSITION)
        joints = self.numbers(attributes.JOINTS_0).astype(int)
        moves = np.einsum("vk,vkij->vij", self.numbers(attributes.WEIGHTS_0), (here @ bind)[joints])
        return np.einsum("vij,vj->vi", moves, np.c_[points, np.ones(len(points))])[:, :3]


def usd_joints(path: Path, person: str) -> tuple[np.ndarray, np.ndarray, Any]:
    """Joints (T, 24, 3) in the stage's world, local rotations (T, 24, 3, 3) and the stage, through UsdSkel."""
    from pxr import Usd, UsdGeom, UsdSkel

    stage = Usd.Stage.Open(str(path))
    skeleton = UsdSkel.Skeleton(stage.GetPrimAtPath(f"/World/{person}/Skeleton"))
    cache = UsdSkel.Cache()
    cache.Populate(UsdSkel.Root(stage.GetPrimAtPath(f"/World/{person}")), Usd.PrimDefaultPredicate)
    query = cache.GetSkelQuery(skeleton)
    places, turns = [], []
    for frame in range(round(stage.GetStartTimeCode()), round(stage.GetEndTimeCode()) + 1):
        world = np.array(UsdGeom.XformCache(frame).GetLocalToWorldTransform(skeleton.GetPrim()))
        inside = np.array([np.array(m) for m in query.ComputeJointSkelTransforms(frame)])
        places.append((inside @ world)[:, 3, :3])
        local = np.array([np.array(m) for m in query.ComputeJointLocalTransforms(frame)])
        turns.append(local[:, :3, :3].transpose(0, 2, 1))
    return np.array(places), np.array(turns), stage


def c3d_points(path: Path) -> tuple[list[str], np.ndarray, Any]:
    """Labels, points (T, labels, 3) and the file, through ezc3d."""
    import ezc3d

    file = ezc3d.c3d(str(path))
    return file["parameters"]["POINT"]["LABELS"]["value"], file["data"]["points"][:3].transpose(2, 1, 0), file
