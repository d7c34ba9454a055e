"""Run by a Python with bpy: `FILE COUNT FPS`; opens the file in Blender and prints its joints as JSON, frame by frame.

{"person1": [[[x, y, z] of each joint] of each frame], ...} in Blender's world: metres, z up. The names of joints and
the extent of each mesh follow under "names" and "meshes".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(path, count, fps):
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps = fps
    first = 0
    if path.suffix == ".bvh":
        bpy.ops.import_anim.bvh(filepath=str(path), global_scale=0.01, frame_start=0)
        first = 1
    elif path.suffix == ".fbx":
        bpy.ops.import_scene.fbx(filepath=str(path))
        first = 1
    elif path.suffix == ".glb":
        bpy.ops.import_scene.gltf(filepath=str(path))
    else:
        bpy.ops.wm.usd_import(filepath=str(path))
    found = {"names": [], "meshes": []}
    armatures = [thing for thing in scene.objects if thing.type == "ARMATURE"]
    for frame in range(first, first + count):
        scene.frame_set(frame)
        for thing in armatures:
            bones = thing.pose.bones
            found["names"] = [bone.name for bone in bones]
            places = [(thing.matrix_world @ bone.head)[:] for bone in bones]
            found.setdefault(thing.name, []).append(places)
    for thing in scene.objects:
        if thing.type == "MESH" and thing.modifiers:
            shown = thing.evaluated_get(bpy.context.evaluated_depsgraph_get())
            points = [(shown.matrix_world @ v.co)[:] for v in shown.to_mesh().vertices]
            found["meshes"].append([[f(axis) for axis in zip(*points, strict=True)] for f in (min, max)])
    sys.stdout.write(f"\nJOINTS {json.dumps(found)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
