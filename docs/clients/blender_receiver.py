"""People in Blender, live: an armature for each, or one of yours that moves with them. Nothing to install but this.

    python -m bridges.udp_json                     beside the stream; it sends what arrives here

Edit, Preferences, Add-ons, Install from Disk: this file. Then in the 3D view's sidebar (N), tab Mocap: Listen. Each
person becomes an armature, `Body1`, `Body2` ... To move an armature of yours with the first person, name it in the
panel: at rest it must stand in a T-pose and face -y (front view), its bones are called as the joints are (`left_hip`),
as Mixamo does (`mixamorig:LeftUpLeg`) or as VRM's humanoid does (`LeftUpperLeg`). Esc ends.

Axes: Blender's world, right-handed, metres, z up: (x, y, z) of the stream is (x, -z, y). The camera looks along +y from
above the origin; somebody who faces it faces -y. For keyframes take `python -m bridges.convert` instead.
"""

import json
import socket

import bpy
from mathutils import Matrix, Quaternion, Vector

bl_info = {
    "name": "World-space mocap receiver",
    "author": "whmr-stream",
    "version": (1, 0, 0),
    "blender": (3, 6, 0),
    "location": "View3D > Sidebar > Mocap",
    "category": "Animation",
}

SCHEMA_VERSION = 1
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
_MIXAMO = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2",
    "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
    "LeftForeArm", "RightForeArm", "LeftHand", "RightHand",
)  # fmt: skip
_HUMANOID = (
    "Hips", "LeftUpperLeg", "RightUpperLeg", "Spine", "LeftLowerLeg", "RightLowerLeg", "Chest", "LeftFoot", "RightFoot",
    "UpperChest", "LeftToes", "RightToes", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftUpperArm",
    "RightUpperArm", "LeftLowerArm", "RightLowerArm", "LeftHand", "RightHand",
)  # fmt: skip
NAMINGS = (JOINTS, tuple(f"mixamorig:{name}" for name in _MIXAMO), _HUMANOID, _MIXAMO)
#: Length of bones that have no child to reach to, metres.
STUB_M = 0.08


def point(numbers, i=0):
    """Point i of a flat list, in Blender's axes."""
    x, y, z = numbers[3 * i : 3 * i + 3]
    return Vector((x, -z, y))


def turn(numbers, i=0):
    """Quaternion i of a flat list of x y z w, in Blender's axes."""
    x, y, z, w = numbers[4 * i : 4 * i + 4]
    return Quaternion((w, x, -z, y)).normalized()


def turns(person):
    """R_parent_joint of all 24 joints, of the pelvis R_world_root."""
    return [turn(person["quat_world_root_xyzw"])] + [turn(person["quats_parent_joint_xyzw"], i) for i in range(23)]


def joints_at_rest(person):
    """The person's joints in the T-pose, with the pelvis at the origin: rotations taken out of the measured ones."""
    joints = [point(person["joints_world_m"], i) for i in range(24)]
    in_world, rest = turns(person), [Vector((0.0, 0.0, 0.0))]
    for i in range(1, 24):
        up = PARENTS[i]
        in_world[i] = in_world[up] @ in_world[i]
        rest.append(rest[up] + in_world[up].inverted() @ (joints[i] - joints[up]))
    return rest


def make_armature(name, rest):
    """An armature of 24 bones whose heads are `rest`; needs object mode."""
    data = bpy.data.armatures.new(name)
    made = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(made)
    before = bpy.context.view_layer.objects.active
    bpy.context.view_layer.objects.active = made
    bpy.ops.object.mode_set(mode="EDIT")
    for i, joint in enumerate(JOINTS):
        bone = data.edit_bones.new(joint)
        children = [rest[k] for k in range(24) if PARENTS[k] == i]
        along = sum(children, Vector()) / len(children) - rest[i] if children else rest[i] - rest[PARENTS[i]]
        bone.head = rest[i]
        bone.tail = rest[i] + (along if children else along.normalized() * STUB_M)
        bone.parent = data.edit_bones[JOINTS[PARENTS[i]]] if i else None
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.view_layer.objects.active = before
    return made


def pose(armature, person):
    """Turns the bones of an armature that rests in a T-pose; those it has none of are passed by."""
    bones = armature.pose.bones
    names = max(NAMINGS, key=lambda naming: sum(name in bones for name in naming))
    for i, (name, q) in enumerate(zip(names, turns(person))):  # noqa: B905 Blender 3.6 has Python 3.10
        if name not in bones:
            continue
        bone = bones[name]
        # a bone's own axes are any: what turns in the body's axes turns in them by conjugation
        axes = bone.bone.matrix_local.to_quaternion()
        bone.rotation_mode = "QUATERNION"
        bone.rotation_quaternion = axes.inverted() @ q @ axes
        if i == 0:
            bone.location = axes.inverted() @ (point(person["joints_world_m"]) - bone.bone.head_local)


class Receiver:
    """A UDP port, and an armature for each person who came through it."""

    def __init__(self, port, target=None):
        """Raises OSError when the port is in use. `target`: an armature for the first person."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("", port))
        self._socket.setblocking(False)
        self.armatures = {} if target is None else {0: target}
        self.refused = ""

    def step(self):
        """Takes what came and shows the newest of it; whether anything did."""
        newest = None
        try:
            while True:
                newest = self._socket.recv(65536)
        except BlockingIOError:
            pass
        if newest is None:
            return False
        message = json.loads(newest)
        if message["v"] > SCHEMA_VERSION:
            self.refused = f"The stream's schema version is {message['v']}: update this add-on."
            return False
        for person in message["people"]:
            armature = self._armature(person)
            if armature is not None:
                pose(armature, person)
        return True

    def _armature(self, person):
        place = person["place"]
        try:
            self.armatures[place].name  # noqa: B018 raises when the user deleted it
        except (KeyError, ReferenceError):
            if bpy.context.mode != "OBJECT":
                return None
            self.armatures[place] = make_armature(f"Body{place + 1}", joints_at_rest(person))
            self.armatures[place].matrix_world = Matrix.Identity(4)
        return self.armatures[place]

    def close(self):
        """Frees the port."""
        self._socket.close()


class MOCAP_OT_listen(bpy.types.Operator):
    """Show the people of the stream until Esc."""

    bl_idname = "mocap.listen"
    bl_label = "Listen"

    def invoke(self, context, event):
        """Blender's: opens the port."""
        scene = context.scene
        try:
            self._receiver = Receiver(scene.mocap_port, scene.mocap_target)
        except OSError as error:
            self.report(
                {"ERROR"}, f"UDP port {scene.mocap_port}: {error.strerror}; choose another here and with --port."
            )
            return {"CANCELLED"}
        self._timer = context.window_manager.event_timer_add(1 / 60, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        """Blender's: called at each tick and for each key."""
        if event.type == "ESC" or self._receiver.refused:
            if self._receiver.refused:
                self.report({"ERROR"}, self._receiver.refused)
            self.cancel(context)
            return {"CANCELLED"}
        if event.type == "TIMER" and self._receiver.step() and context.area:
            context.area.tag_redraw()
        return {"PASS_THROUGH"}

    def cancel(self, context):
        """Blender's: also called when it quits or loads another file."""
        context.window_manager.event_timer_remove(self._timer)
        self._receiver.close()


class MOCAP_PT_panel(bpy.types.Panel):
    """Port, armature and the button."""

    bl_label = "Mocap"
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Mocap"

    def draw(self, context):
        """Blender's."""
        self.layout.prop(context.scene, "mocap_port")
        self.layout.prop(context.scene, "mocap_target")
        self.layout.operator(MOCAP_OT_listen.bl_idname)


def register():
    """Blender's."""
    is_armature = lambda _self, thing: thing.type == "ARMATURE"  # noqa: E731
    bpy.types.Scene.mocap_port = bpy.props.IntProperty(name="UDP port", default=5570, min=1, max=65535)
    bpy.types.Scene.mocap_target = bpy.props.PointerProperty(name="Armature", type=bpy.types.Object, poll=is_armature)
    bpy.utils.register_class(MOCAP_OT_listen)
    bpy.utils.register_class(MOCAP_PT_panel)


def unregister():
    """Blender's."""
    bpy.utils.unregister_class(MOCAP_PT_panel)
    bpy.utils.unregister_class(MOCAP_OT_listen)
    del bpy.types.Scene.mocap_target, bpy.types.Scene.mocap_port


if __name__ == "__main__":
    register()
