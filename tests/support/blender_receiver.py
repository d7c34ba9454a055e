"""Runs inside Blender's Python: docs/clients/blender_receiver.py on an armature of its own and on one of somebody's.

python blender_receiver.py SCRIPT PORT   < {"bone": [parent or null, [x, y, z] at rest in Blender's world]} or {}

Prints "ready", takes frames until one showed somebody, prints where the bones' heads are then as JSON. The modal
operator needs a window; what it does at each tick is done here.
"""

import importlib.util
import json
import sys
import time

import bpy
from blender_scene import armature, say

PATIENCE_S = 60.0


def main(script, port):
    rest = json.load(sys.stdin)
    spec = importlib.util.spec_from_file_location("blender_receiver", script)
    addon = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(addon)
    addon.register()
    scene = bpy.context.scene
    scene.mocap_target = armature(rest) if rest else None
    receiver = addon.Receiver(port, scene.mocap_target)
    say("ready")
    end_s = time.monotonic() + PATIENCE_S
    while not (receiver.step() and receiver.armatures) and time.monotonic() < end_s:
        time.sleep(0.005)
    bpy.context.view_layer.update()
    shown = receiver.armatures[0]
    say(json.dumps({bone.name: list(shown.matrix_world @ bone.head) for bone in shown.pose.bones}))
    receiver.close()
    addon.unregister()


main(sys.argv[1], int(sys.argv[2]))
