"""A pose message as ROS messages: REP-103 axes, TF, REP-155 bodies, markers, camera. No ROS installation is needed.

A `RosMessage` names its type and holds plain values; `bridges.ros_outputs` and `bridges.ros_mcap` turn it into objects
of rclpy, rospy or rosbags. Every header has the frame's capture time, `t_wall_ns`.

TF tree (`Frames` has the names; axes x forward, y left, z up, but for the optical frame, which is OpenCV's)::

    world -> camera_link -> camera_optical_frame (static)
    world -> body_p1 -> smpl_pelvis_p1 -> smpl_left_hip_p1 -> smpl_left_knee_p1 ...       each joint under its parent

`body_p1` is where REP-155 has it: in the middle between the hips, x out of the body, z toward the head; its axes are
the root's, so a person who stands upright and faces the camera has x toward the camera. At zero rotation (the T-pose)
all joints' axes are the body's. With `Frames.parent` the tree hangs on an optical frame of the user's robot instead.

Of REP-155's topics a pose message can fill `tracked`, `roi` and `skeleton2d` (the five points of the face, which SMPL's
joints lack, have confidence 0). `cropped` needs the picture. `joint_states` is left out: the standard's URDF has 20
revolute joints and no spine, collars, wrists or feet, so angles for it would be invented; TF has all joints.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from bridges.axes import ros_points, ros_quats
from bridges.ros_covariance import pose_covariance, twist_covariance
from bridges.ros_markers import markers
from bridges.ros_values import Frames, Outgoing, RosMessage, body_id, header, quaternion, tf, transform, xyz
from pipeline import frames
from pipeline.frames import Array
from pipeline.messages import Calibration, PersonMessage, PoseMessage
from pipeline.types import JOINT_NAMES, JOINT_PARENTS

#: REP-103: an optical frame (x right, y down, z forward) in its link (x forward, y left, z up).
QUAT_LINK_OPTICAL = (-0.5, 0.5, -0.5, 0.5)
_R_OPTICAL_LINK: Array = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
_R_ROS_OURS: Array = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
#: hri_msgs/Skeleton2D's codes 2 to 13, right arm, left arm, right leg, left leg, as SMPL's joints; code 1 is the neck.
_COCO_JOINTS = [17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7]
_COCO_CODES = [*range(2, 14), 1]
_SHOULDERS = [16, 17]
_UNKNOWN_POINT = RosMessage("hri_msgs/msg/NormalizedPointOfInterest2D", {"x": 0.0, "y": 0.0, "c": 0.0})


def frame_messages(message: PoseMessage, names: Frames, left: Sequence[int] = ()) -> Iterator[Outgoing]:
    """All messages of one frame but the static transform; `left` are track ids that were there and are no longer."""
    stamp = message.t_wall_ns
    yield Outgoing("/tf", tf([camera_transform(message, names), *body_transforms(message, names)]))
    yield Outgoing("/whmr_stream/camera_info", camera_info(message, names))
    yield Outgoing("/humans/bodies/tracked", tracked(stamp, names, [p.id for p in message.people]))
    for person in message.people:
        topic = f"/humans/bodies/{body_id(person.id)}"
        yield Outgoing(f"{topic}/roi", roi(message, person, names))
        yield Outgoing(f"{topic}/skeleton2d", skeleton2d(message, person, names))
        yield Outgoing(f"{topic}/pose", pose(message, person, names))
        yield Outgoing(f"{topic}/twist", twist(message, person, names))
    yield Outgoing("/whmr_stream/markers", markers(stamp, names, message.people, left))


def static_messages(stamp_ns: int, names: Frames) -> Iterator[Outgoing]:
    """What a late subscriber must get too: the optical frame in its link; nothing when the robot has a camera frame."""
    if names.parent is None:
        optical = transform(stamp_ns, f"{names.camera}_link", names.optical, (0.0, 0.0, 0.0), QUAT_LINK_OPTICAL)
        yield Outgoing("/tf_static", tf([optical]), latched=True)


def gone_messages(stamp_ns: int, names: Frames, left: Sequence[int]) -> Iterator[Outgoing]:
    """What says that nobody is there any more: no body is tracked, the markers of `left` are deleted."""
    yield Outgoing("/humans/bodies/tracked", tracked(stamp_ns, names, []))
    yield Outgoing("/whmr_stream/markers", markers(stamp_ns, names, (), left))


def camera_transform(message: PoseMessage, names: Frames) -> RosMessage:
    """world -> camera_link, or with `names.parent` that optical frame -> world."""
    c = message.calibration
    R_world_optical = _R_ROS_OURS @ _R_world_camera(c)
    t = ros_points(c.t_world_camera_m)
    if names.parent is not None:
        back = R_world_optical.T
        return transform(message.t_wall_ns, names.parent, names.world, -back @ t, frames.quat_xyzw(back))
    quat = frames.quat_xyzw(R_world_optical @ _R_OPTICAL_LINK)
    return transform(message.t_wall_ns, names.world, f"{names.camera}_link", t, quat)


def body_transforms(message: PoseMessage, names: Frames) -> list[RosMessage]:
    """world -> body of each person, and all 24 joints under it, each under its parent."""
    found = []
    for person in message.people:
        ident = body_id(person.id)
        joint_frames = [f"smpl_{name}_{ident}" for name in JOINT_NAMES]
        parents = [f"body_{ident}"] + [joint_frames[p] for p in JOINT_PARENTS[1:]]
        points, quats = joint_offsets(person)
        found.append(
            transform(
                message.t_wall_ns, names.world, f"body_{ident}", ros_points(mid_hip(person)),
                ros_quats(person.quat_world_root_xyzw),
            )
        )  # fmt: skip
        for parent, child, point, quat in zip(
            parents, joint_frames, points.tolist(), ros_quats(quats).tolist(), strict=True
        ):
            found.append(transform(message.t_wall_ns, parent, child, point, quat))
    return found


def mid_hip(person: PersonMessage) -> Array:
    """The middle between the hip joints in our world (3,), metres."""
    middle: Array = person.joints_world_m[1:3].mean(axis=0)
    return middle


def joint_offsets(person: PersonMessage) -> tuple[Array, Array]:
    """Each joint in its parent's frame: points (24, 3) in REP-103's axes, metres, and our quaternions (24, 4) x y z w.

    The pelvis' parent is the body frame. Points come from the joints' places, so TF's chain ends exactly at them.
    """
    root = frames.from_quat_xyzw(person.quat_world_root_xyzw)
    local = frames.from_quat_xyzw(person.quats_parent_joint_xyzw)
    Rs_world_joint = [root]
    for joint in range(1, len(JOINT_PARENTS)):
        Rs_world_joint.append(Rs_world_joint[JOINT_PARENTS[joint]] @ local[joint - 1])
    Rs_world_parent = np.stack([root] + [Rs_world_joint[p] for p in JOINT_PARENTS[1:]])
    joints = person.joints_world_m
    away = joints - np.vstack([mid_hip(person), joints[list(JOINT_PARENTS[1:])]])
    points = np.einsum("nji,nj->ni", Rs_world_parent, away)
    return ros_points(points), np.vstack([[0.0, 0.0, 0.0, 1.0], person.quats_parent_joint_xyzw])


def camera_info(message: PoseMessage, names: Frames) -> RosMessage:
    """sensor_msgs/CameraInfo of the calibration in use; the picture is not rectified, so R is the identity."""
    c = message.calibration
    k = c.K.ravel().tolist()
    fields = {
        "header": header(message.t_wall_ns, names.optical),
        "width": int(c.size_wh[0]),
        "height": int(c.size_wh[1]),
        "distortion_model": "plumb_bob",
        "d": c.distortion.tolist(),
        "k": k,
        "r": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "p": [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
    }
    return RosMessage("sensor_msgs/msg/CameraInfo", fields)


def tracked(stamp_ns: int, names: Frames, ids: Sequence[int]) -> RosMessage:
    """hri_msgs/IdsList of the bodies that are there."""
    fields = {"header": header(stamp_ns, names.optical), "ids": [body_id(i) for i in ids]}
    return RosMessage("hri_msgs/msg/IdsList", fields)


def roi(message: PoseMessage, person: PersonMessage, names: Frames) -> RosMessage:
    """hri_msgs/NormalizedRegionOfInterest2D: the person's box, cut at the picture's edges, 0..1; c is the score."""
    w, h = message.size_wh
    box = np.clip((person.box_xyxy + 0.5) / (w, h, w, h), 0.0, 1.0).tolist()
    fields = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    fields |= {"header": header(message.t_wall_ns, names.optical), "c": float(person.score)}
    return RosMessage("hri_msgs/msg/NormalizedRegionOfInterest2D", fields)


def skeleton2d(message: PoseMessage, person: PersonMessage, names: Frames) -> RosMessage:
    """hri_msgs/Skeleton2D: 18 points, 0..1; c is 0 for the face, which is not known, and outside the picture."""
    pixels = distorted_pixels(person.joints_camera_m, message.calibration)
    places, sure = (pixels + 0.5) / message.calibration.size_wh, person.confidence
    neck = places[_SHOULDERS].mean(axis=0), sure[_SHOULDERS].min()
    known = [*np.column_stack([places[_COCO_JOINTS], sure[_COCO_JOINTS]]).tolist(), [*neck[0].tolist(), float(neck[1])]]
    points = [_UNKNOWN_POINT] * 18
    for code, (x, y, c) in zip(_COCO_CODES, known, strict=True):
        if 0.0 <= x <= 1.0 and 0.0 <= y <= 1.0:
            points[code] = RosMessage("hri_msgs/msg/NormalizedPointOfInterest2D", {"x": x, "y": y, "c": c})
    fields = {"header": header(message.t_wall_ns, names.optical), "skeleton": points}
    return RosMessage("hri_msgs/msg/Skeleton2D", fields)


def distorted_pixels(points_camera_m: Array, calibration: Calibration) -> Array:
    """Pixels (N, 2) of points (N, 3) in camera metres, by K and OpenCV's k1 k2 p1 p2 k3; nan behind the camera."""
    z = points_camera_m[:, 2]
    x, y = (points_camera_m[:, :2] / np.where(z > 1e-6, z, np.nan)[:, None]).T
    k1, k2, p1, p2, k3 = calibration.distortion
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    u = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
    v = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
    return np.stack([u, v, np.ones_like(u)], axis=-1) @ calibration.K[:2].T


def pose(message: PoseMessage, person: PersonMessage, names: Frames) -> RosMessage:
    """geometry_msgs/PoseWithCovarianceStamped of the body frame in the world."""
    covariance = pose_covariance(person, message.calibration, _R_world_camera(message.calibration))
    middle = ros_points(mid_hip(person))
    place = {"position": xyz("Point", middle), "orientation": quaternion(ros_quats(person.quat_world_root_xyzw))}
    inner = {"pose": RosMessage("geometry_msgs/msg/Pose", place), "covariance": covariance.ravel().tolist()}
    fields = {
        "header": header(message.t_wall_ns, names.world),
        "pose": RosMessage("geometry_msgs/msg/PoseWithCovariance", inner),
    }
    return RosMessage("geometry_msgs/msg/PoseWithCovarianceStamped", fields)


def twist(message: PoseMessage, person: PersonMessage, names: Frames) -> RosMessage:
    """geometry_msgs/TwistWithCovarianceStamped of the pelvis in the world's axes; no angular velocity is measured."""
    covariance = twist_covariance(person, message.calibration, _R_world_camera(message.calibration))
    speeds = {
        "linear": xyz("Vector3", ros_points(person.velocity_world_m_s)),
        "angular": xyz("Vector3", (0.0, 0.0, 0.0)),
    }
    inner = {"twist": RosMessage("geometry_msgs/msg/Twist", speeds), "covariance": covariance.ravel().tolist()}
    fields = {
        "header": header(message.t_wall_ns, names.world),
        "twist": RosMessage("geometry_msgs/msg/TwistWithCovariance", inner),
    }
    return RosMessage("geometry_msgs/msg/TwistWithCovarianceStamped", fields)


@functools.lru_cache(maxsize=2)
def _R_world_camera(calibration: Calibration) -> Array:
    return frames.from_quat_xyzw(calibration.quat_world_camera_xyzw)
