"""Runs inside Blender's Python: what the programs beside it that try receivers share."""

import sys

import bpy
from mathutils import Vector


def armature(rest, quaternions=False):
    """An armature whose bones point anywhere: the rest axes of a bone must not matter.

    rest: {bone: [parent or null, [x, y, z] at rest in Blender's world]}; bones turn by quaternions or as Blender has it
    """
    data = bpy.data.armatures.new("avatar")
    made = bpy.data.objects.new("avatar", data)
    bpy.context.scene.collection.objects.link(made)
    bpy.context.view_layer.objects.active = made
    bpy.ops.object.mode_set(mode="EDIT")
    for i, (name, (parent, head)) in enumerate(rest.items()):
        bone = data.edit_bones.new(name)
        bone.head = Vector(head)
        bone.tail = bone.head + Vector(((i % 3) - 1.0, (i % 5) - 2.0, 0.5 + i % 2)) * 0.05
        bone.roll = 0.3 * i
        bone.parent = data.edit_bones[parent] if parent else None
    bpy.ops.object.mode_set(mode="OBJECT")
    for turned in (made, *made.pose.bones) if quaternions else ():
        turned.rotation_mode = "QUATERNION"
    return made


def say(line):
    """A line for whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
