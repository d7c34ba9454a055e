# Runs docs/clients/receiver.gd, its names changed to Godot 3's, and prints where it put things.
extends SceneTree

const BONES = preload("res://receiver.gd").BONES
const PARENTS = preload("res://receiver.gd").PARENTS
var receiver
var skeleton
var turns


func _init():
	var setup = parse_json(OS.get_environment("RECEIVER_SETUP"))
	skeleton = Skeleton.new()
	skeleton.name = "Avatar"
	var rests = []
	for i in range(BONES.size()):
		var q = setup["axes"][i]
		var p = setup["joints"][i]
		rests.append(Transform(Basis(Quat(q[0], q[1], q[2], q[3])), Vector3(p[0], p[1], p[2])))
		skeleton.add_bone(BONES[i])
		if i > 0:
			skeleton.set_bone_parent(i, PARENTS[i])
		skeleton.set_bone_rest(i, rests[i] if i == 0 else rests[PARENTS[i]].inverse() * rests[i])
	receiver = preload("res://receiver.gd").new()
	receiver.port = int(setup["port"])
	receiver.skeleton_path = NodePath("../Avatar")
	get_root().add_child(skeleton)
	get_root().add_child(receiver)
	print("ready")


func numbers(point):
	return [point.x, point.y, point.z]


func _idle(_delta):
	if receiver.person == null:
		return false
	var found = {"joints": [], "bones": [], "visible": receiver.visible, "id": receiver.person["id"]}
	for joint in receiver.joints:
		found["joints"].append(numbers(joint.global_transform.origin))
	for i in range(BONES.size()):
		found["bones"].append(numbers((skeleton.global_transform * skeleton.get_bone_global_pose(i)).origin))
	print("found " + to_json(found))
	return true
