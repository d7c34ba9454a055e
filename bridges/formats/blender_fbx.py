"""Run by Blender's own Python: turns a GLB into an FBX. Arguments after `--`: GLB, FBX, frames a second, frames."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> None:
    """Bones keep the axes of the GLB (at rest those of the world), the rate and the frames are those given."""
    import bpy
    import numpy as np

    # Debian 12 pairs Blender 3.4, whose glTF importer says np.bool, with a numpy that has none
    for plain in (bool, object):
        if plain.__name__ not in dir(np):
            setattr(np, plain.__name__, plain)
    source, target, fps, count = arguments[0], arguments[1], float(arguments[2]), int(arguments[3])
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = round(fps), round(fps) / fps
    wanted = {"bone_heuristic": "BLENDER", "disable_bone_shape": True}
    known = bpy.ops.import_scene.gltf.get_rna_type().properties.keys()
    bpy.ops.import_scene.gltf(filepath=source, **{name: value for name, value in wanted.items() if name in known})
    scene.frame_start, scene.frame_end = 0, count - 1
    bpy.ops.export_scene.fbx(
        filepath=target,
        object_types={"ARMATURE", "MESH"},
        apply_scale_options="FBX_SCALE_UNITS",
        add_leaf_bones=False,
        bake_anim=True,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_simplify_factor=0.0,
    )


if __name__ == "__main__":
    main(sys.argv[sys.argv.index("--") + 1 :])
