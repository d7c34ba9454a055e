"""Runs inside Blender's Python: the receiver of Rokoko's own add-on, as its authors wrote it, on a T-posed armature.

python blender_rokoko.py ADDON_FOLDER PORT   < {"bone": [parent or null, [x, y, z] at rest in Blender's world]}

Prints "ready", takes frames for two seconds, prints each bone's turn from rest (quaternion x y z w, Blender's world)
as JSON. The add-on's panels and log-in are left out; the properties they would register are registered here.
"""

import importlib
import json
import sys
import time
import types
from pathlib import Path

import bpy
from blender_scene import armature, say
from bpy.props import BoolProperty, FloatProperty, IntProperty, StringProperty

TICKS, TICK_S = 40, 0.05


def addon(folder):
    """The add-on's modules without what its __init__ starts."""
    for name, path in (("rokoko", Path(folder)), ("rokoko.core", Path(folder) / "core")):
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module
    bones = importlib.import_module("rokoko.core.animation_lists")
    scene, thing = bpy.types.Scene, bpy.types.Object
    scene.rsl_recording, scene.rsl_receiver_fps = BoolProperty(default=False), IntProperty(default=60)
    scene.rsl_scene_scaling, thing.rsl_use_custom_scale = FloatProperty(default=1.0), BoolProperty()
    for name in ("actors", "faces", "props_trackers"):
        setattr(thing, f"rsl_animations_{name}", StringProperty())
    for name in {**bones.actor_bones, **bones.glove_bones}:
        setattr(thing, f"rsl_actor_{name}", StringProperty())
    return importlib.import_module("rokoko.core.receiver").Receiver()


def main(folder, port):
    rest = json.load(sys.stdin)
    receiver = addon(folder)
    made = armature(rest, quaternions=True)
    bpy.context.view_layer.update()
    # what the add-on's button "Set as T-Pose" keeps
    made["CUSTOM"] = {
        "rsl_tpose_bones": {
            bone.name: {
                "location_object": list(bone.matrix @ bone.location),
                "rotation_global": list(bone.matrix.to_quaternion()),
            }
            for bone in made.pose.bones
        }
    }
    made.rsl_animations_actors = "Body1"
    for name in rest:
        setattr(made, f"rsl_actor_{name}", name)
    receiver.start(port)
    say("ready")
    for _ in range(TICKS):
        time.sleep(TICK_S)
        receiver.run()
        bpy.context.view_layer.update()
    turns = {}
    for bone in made.pose.bones:
        w, x, y, z = bone.matrix.to_quaternion() @ bone.bone.matrix_local.to_quaternion().inverted()
        turns[bone.name] = [x, y, z, w]
    say(json.dumps(turns))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
