"""USD: a UsdSkel skeleton, animation and skinned mesh for each person; metres, y up or z up, right-handed.

`/World/person<id>` is a SkelRoot with `Skeleton`, `Motion` (SkelAnimation) and `Body` (Mesh), at rest in the T-pose
facing +z. With `--up z` the stage is z up and the SkelRoot is turned by 90 degrees about x, so what is inside stays as
it was. Whoever is not there is invisible. `.usd` and `.usdc` are binary, `.usda` is text. Through usd-core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bridges.formats.optional import needed
from bridges.formats.skin import Skin, skin
from bridges.motion import Motion, Scene
from pipeline.body import open_body
from pipeline.frames import Array
from pipeline.types import JOINT_NAMES, JOINT_PARENTS


def write(path: Path, scene: Scene) -> None:
    """Writes every take of the scene. Raises ImportError, naming what to install, without usd-core."""
    pxr = needed("pxr", "usd-core")
    for part in ("Gf", "Sdf", "Usd", "UsdGeom", "UsdSkel", "Vt"):
        needed(f"pxr.{part}", "usd-core")
    model = open_body(scene.body)
    stage = pxr.Usd.Stage.CreateNew(str(path))
    pxr.UsdGeom.SetStageUpAxis(stage, scene.up.upper())
    pxr.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(scene.fps)
    stage.SetFramesPerSecond(scene.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(scene.count - 1)
    stage.SetDefaultPrim(pxr.UsdGeom.Xform.Define(stage, "/World").GetPrim())
    stage.GetRootLayer().comment = f"Body: {model.credit}"
    for takes in scene.people:
        _add_person(pxr, stage, scene, takes, skin(model, takes[0]))
    stage.Save()


def joint_paths() -> list[str]:
    """The joints as UsdSkel names them, each with its parents: pelvis, pelvis/left_hip, ..."""
    paths: list[str] = []
    for name, parent in zip(JOINT_NAMES, JOINT_PARENTS, strict=True):
        paths.append(name if parent < 0 else f"{paths[parent]}/{name}")
    return paths


def _add_person(pxr: Any, stage: Any, scene: Scene, takes: tuple[Motion, ...], body: Skin) -> None:
    path = f"/World/{scene.label(takes)}"
    root = pxr.UsdSkel.Root.Define(stage, path)
    if scene.up == "z":
        root.AddRotateXOp().Set(90.0)
    skeleton = pxr.UsdSkel.Skeleton.Define(stage, f"{path}/Skeleton")
    skeleton.CreateJointsAttr(joint_paths())
    skeleton.CreateRestTransformsAttr(_moves(pxr, takes[0].offsets_m))
    skeleton.CreateBindTransformsAttr(_moves(pxr, takes[0].joints_rest_m))
    animation = pxr.UsdSkel.Animation.Define(stage, f"{path}/Motion")
    _add_motion(pxr, animation, scene, takes)
    binding = pxr.UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
    binding.CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    _add_mesh(pxr, stage, f"{path}/Body", body, skeleton)
    _add_extents(pxr, root, skeleton, scene, takes)
    _add_visibility(pxr, root, scene, takes)


def _moves(pxr: Any, places: Array) -> Any:
    return pxr.Vt.Matrix4dArray([pxr.Gf.Matrix4d(1.0).SetTranslate(pxr.Gf.Vec3d(*p)) for p in places.tolist()])


def _vectors(pxr: Any, values: Array) -> Any:
    return pxr.Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, dtype=np.float32))


def _integers(pxr: Any, values: np.ndarray) -> Any:
    return pxr.Vt.IntArray.FromNumpy(np.ascontiguousarray(values.reshape(-1), dtype=np.int32))


def _add_motion(pxr: Any, animation: Any, scene: Scene, takes: tuple[Motion, ...]) -> None:
    animation.CreateJointsAttr(joint_paths())
    animation.CreateScalesAttr(pxr.Vt.Vec3hArray([pxr.Gf.Vec3h(1.0)] * 24))
    turns, places = animation.CreateRotationsAttr(), animation.CreateTranslationsAttr()
    local = takes[0].offsets_m.copy()
    for take in takes:
        quats = np.ascontiguousarray(take.quats_xyzw, dtype=np.float32)
        for row, frame in enumerate(range(scene.count)[scene.span(take)]):
            local[0] = take.t_world_root_m[row]
            turns.Set(pxr.Vt.QuatfArray.FromNumpy(quats[row]), frame)
            places.Set(_vectors(pxr, local), frame)


def _add_mesh(pxr: Any, stage: Any, path: str, body: Skin, skeleton: Any) -> None:
    mesh = pxr.UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(_vectors(pxr, body.vertices_m))
    mesh.CreateNormalsAttr(_vectors(pxr, body.normals))
    mesh.SetNormalsInterpolation(pxr.UsdGeom.Tokens.vertex)
    mesh.CreateFaceVertexCountsAttr(pxr.Vt.IntArray(len(body.faces), 3))
    mesh.CreateFaceVertexIndicesAttr(_integers(pxr, body.faces))
    mesh.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
    mesh.CreateExtentAttr(_vectors(pxr, np.stack([body.vertices_m.min(axis=0), body.vertices_m.max(axis=0)])))
    binding = pxr.UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    binding.CreateJointIndicesPrimvar(False, 4).Set(_integers(pxr, body.joints))
    binding.CreateJointWeightsPrimvar(False, 4).Set(
        pxr.Vt.FloatArray.FromNumpy(body.weights.reshape(-1).astype(np.float32))
    )
    binding.CreateGeomBindTransformAttr(pxr.Gf.Matrix4d(1.0))


def _add_extents(pxr: Any, root: Any, skeleton: Any, scene: Scene, takes: tuple[Motion, ...]) -> None:
    """Boxes around all joints of all frames, with a hand's breadth of flesh; the SkelRoot's axes are y up."""
    joints = np.concatenate([take.joints_world_m.reshape(-1, 3) for take in takes])
    box = _vectors(pxr, np.stack([joints.min(axis=0) - 0.2, joints.max(axis=0) + 0.2]))
    for prim in (root.GetPrim(), skeleton.GetPrim()):
        pxr.UsdGeom.Boundable(prim).CreateExtentAttr(box)


def _add_visibility(pxr: Any, root: Any, scene: Scene, takes: tuple[Motion, ...]) -> None:
    if len(takes) == 1 and len(takes[0]) == scene.count:
        return
    visibility = pxr.UsdGeom.Imageable(root.GetPrim()).CreateVisibilityAttr()
    spans = [scene.span(take) for take in takes]
    if spans[0].start > 0:
        visibility.Set(pxr.UsdGeom.Tokens.invisible, 0)
    for span in spans:
        visibility.Set(pxr.UsdGeom.Tokens.inherited, span.start)
        if span.stop < scene.count:
            visibility.Set(pxr.UsdGeom.Tokens.invisible, span.stop)
