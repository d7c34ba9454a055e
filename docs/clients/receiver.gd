# Somebody's pose in Godot 4: 24 nodes for the joints, and the bones of a humanoid Skeleton3D.
#
#     python -m bridges.udp_json --people 1          beside the stream; it sends what arrives here
#
# Put this script on a Node3D. Its children become the joints, `pelvis`, `pelvis/left_hip` and so on: hang things on
# them. To move an avatar, set `skeleton_path` to its Skeleton3D, retargeted on import to SkeletonProfileHumanoid
# (Advanced Import Settings, Skeleton3D, Bone Map) and at rest in a T-pose.
#
# Axes: the stream's world and Godot's are the same (right-handed, metres, y up), so nothing is converted. The camera
# looks along -z from above the origin, as Godot's do; somebody who faces it looks along +z, as imported models do.
extends Node3D

@export var port := 5570
# Which of the people, counted from 0 as `place` in the messages.
@export var place := 0
@export var skeleton_path := NodePath("")

const SCHEMA_VERSION = 1
const SECONDS_UNTIL_GONE = 0.5
const PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
const NAMES = [
	"pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
	"spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
	"right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
]
const BONES = [
	"Hips", "LeftUpperLeg", "RightUpperLeg", "Spine", "LeftLowerLeg", "RightLowerLeg", "Chest", "LeftFoot", "RightFoot",
	"UpperChest", "LeftToes", "RightToes", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftUpperArm",
	"RightUpperArm", "LeftLowerArm", "RightLowerArm", "LeftHand", "RightHand",
]

# The newest person as it came (docs/wire.md has the fields), null while there is none.
var person = null
var joints = []
var _udp := PacketPeerUDP.new()
var _silent_s := 0.0
var _refused := false


func _ready():
	if _udp.bind(port) != OK:
		push_error("UDP port %d is in use: close the other receiver or set another port here and with --port." % port)
	for i in range(24):
		var joint = Node3D.new()
		joint.name = NAMES[i]
		(self if i == 0 else joints[PARENTS[i]]).add_child(joint)
		joints.append(joint)
	visible = false


func _exit_tree():
	_udp.close()


func _process(delta):
	var newest = ""
	while _udp.get_available_packet_count() > 0:
		newest = _udp.get_packet().get_string_from_utf8()
	_silent_s = 0.0 if newest != "" else _silent_s + delta
	if newest != "":
		_take(newest)
	elif _silent_s > SECONDS_UNTIL_GONE:
		person = null
	visible = person != null


func _take(text):
	var message = JSON.parse_string(text)
	if typeof(message) != TYPE_DICTIONARY or not message.has("people"):
		return
	if message["v"] > SCHEMA_VERSION:
		if not _refused:
			push_error("The stream's schema version is %d: update this script." % message["v"])
		_refused = true
		return
	person = null
	for candidate in message["people"]:
		if candidate["place"] == place:
			person = candidate
	if person != null:
		_pose_joints()
		if not skeleton_path.is_empty():
			_pose_skeleton(get_node(skeleton_path))


func _point(numbers, i):
	return Vector3(numbers[3 * i], numbers[3 * i + 1], numbers[3 * i + 2])


# R_parent_joint of joint i; of the pelvis R_world_root.
func _turn(i):
	var q = person["quat_world_root_xyzw"] if i == 0 else person["quats_parent_joint_xyzw"]
	var k = 0 if i == 0 else 4 * (i - 1)
	return Quaternion(q[k], q[k + 1], q[k + 2], q[k + 3]).normalized()


func _pose_joints():
	var turns = []
	var in_world = []
	for i in range(24):
		turns.append(_turn(i) if i == 0 else turns[PARENTS[i]] * _turn(i))
		in_world.append(Transform3D(Basis(turns[i]), _point(person["joints_world_m"], i)))
		joints[i].transform = in_world[i] if i == 0 else in_world[PARENTS[i]].inverse() * in_world[i]


# Bones of another body than the measured one: they keep their lengths and turn as the joints do.
func _pose_skeleton(skeleton):
	for i in range(BONES.size()):
		var bone = skeleton.find_bone(BONES[i])
		if bone < 0:
			continue
		var rest = _rest_in_skeleton(skeleton, bone)
		if i == 0:
			skeleton.transform.origin = _point(person["joints_world_m"], 0) - rest.origin
		# a bone's own axes are any: what turns in the body's axes turns in them by conjugation
		var axes = rest.basis.orthonormalized().get_rotation_quaternion()
		_turn_from_rest(skeleton, bone, axes.inverse() * _turn(i) * axes)


func _turn_from_rest(skeleton, bone, turn):
	skeleton.set_bone_pose_rotation(bone, skeleton.get_bone_rest(bone).basis.get_rotation_quaternion() * turn)


func _rest_in_skeleton(skeleton, bone):
	var rest = skeleton.get_bone_rest(bone)
	var parent = skeleton.get_bone_parent(bone)
	while parent >= 0:
		rest = skeleton.get_bone_rest(parent) * rest
		parent = skeleton.get_bone_parent(parent)
	return rest
