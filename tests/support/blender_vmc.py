"""Runs inside Blender's Python: the VMC4B add-on as its authors wrote it, on an armature that stands in a T-pose.

python blender_vmc.py ADDON_FOLDER PORT COUNT   < {"bone": [parent or null, [x, y, z] at rest in Blender's world]}

Prints "ready", takes COUNT frames, prints where the bones' heads are then as JSON. The add-on's modal operator needs
a window; what it does at each tick is done here by the same two objects of the add-on.
"""

import importlib
import json
import sys
import time
from pathlib import Path

import bpy
from blender_scene import armature, say

PATIENCE_S = 30.0


def main(folder, port, count):
    rest = json.load(sys.stdin)
    sys.path.insert(0, str(Path(folder).parent))
    addon = importlib.import_module(Path(folder).name)
    addon.register()
    made = armature(rest, quaternions=True)
    scene = bpy.context.scene
    scene.vmc4b_target_armature = made.name
    for name in rest:
        setattr(scene, f"vmc4b_bones_{name}", name)
    state, config = addon.core.state, addon.core.config
    applier = importlib.import_module(f"{Path(folder).name}.core.applier").Applier()
    state.config = config.Config()
    state.server.start("127.0.0.1", port)
    end_s = time.monotonic() + PATIENCE_S
    while state.server.server is None and time.monotonic() < end_s:
        time.sleep(0.01)
    say("ready")
    while count and time.monotonic() < end_s:
        while state.server.queue:
            item = state.server.queue.popleft()
            applier.update(item["address"], item["args"])
            count -= item["address"] == "/VMC/Ext/Blend/Apply"
        time.sleep(0.01)
    state.server.stop()
    bpy.context.view_layer.update()
    say(json.dumps({bone.name: list(made.matrix_world @ bone.head) for bone in made.pose.bones}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
