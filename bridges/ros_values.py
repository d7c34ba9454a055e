"""What ROS messages are built of here: a type's name and plain values, and the few types that all others contain."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RosMessage:
    """`type` is ROS 2's name, as "geometry_msgs/msg/Point"; `fields` are numbers, text, RosMessages and lists of them.

    Numbers are Python's own, with floats where the definition has floats, because rclpy refuses others.
    """

    type: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and its topic; `latched`: late subscribers get it too (transient local)."""

    topic: str
    message: RosMessage
    latched: bool = False


@dataclass(frozen=True, slots=True)
class Frames:
    """Names of TF frames.

    world   the gravity-aligned frame
    camera  the camera's prefix: `<camera>_link` and `<camera>_optical_frame`
    parent  an optical frame that the robot publishes itself: `world` becomes its child, and no camera frame is sent
    """

    world: str = "world"
    camera: str = "camera"
    parent: str | None = None

    @property
    def optical(self) -> str:
        """The camera's optical frame."""
        return self.parent or f"{self.camera}_optical_frame"


def body_id(track_id: int) -> str:
    """REP-155's body id of a track id: starts with a letter."""
    return f"p{track_id}"


@functools.lru_cache(maxsize=8)
def header(stamp_ns: int, frame: str) -> RosMessage:
    """std_msgs/Header at a Unix time in nanoseconds."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = RosMessage("builtin_interfaces/msg/Time", {"sec": sec, "nanosec": nanosec})
    return RosMessage("std_msgs/msg/Header", {"stamp": stamp, "frame_id": frame})


def xyz(kind: str, values: Any) -> RosMessage:
    """geometry_msgs/Point, Vector3 ... (`kind`) of three numbers."""
    x, y, z = values
    return RosMessage(f"geometry_msgs/msg/{kind}", {"x": float(x), "y": float(y), "z": float(z)})


def quaternion(values: Any) -> RosMessage:
    """geometry_msgs/Quaternion of x y z w."""
    x, y, z, w = values
    return RosMessage("geometry_msgs/msg/Quaternion", {"x": float(x), "y": float(y), "z": float(z), "w": float(w)})


def color(r: float, g: float, b: float, a: float) -> RosMessage:
    """std_msgs/ColorRGBA, 0..1."""
    return RosMessage("std_msgs/msg/ColorRGBA", {"r": r, "g": g, "b": b, "a": a})


def transform(stamp_ns: int, parent: str, child: str, point: Any, quat: Any) -> RosMessage:
    """geometry_msgs/TransformStamped: the child's origin (3,) and quaternion x y z w (4,) in the parent."""
    turn = {"translation": xyz("Vector3", point), "rotation": quaternion(quat)}
    fields = {
        "header": header(stamp_ns, parent),
        "child_frame_id": child,
        "transform": RosMessage("geometry_msgs/msg/Transform", turn),
    }
    return RosMessage("geometry_msgs/msg/TransformStamped", fields)


def tf(transforms: list[RosMessage]) -> RosMessage:
    """tf2_msgs/TFMessage."""
    return RosMessage("tf2_msgs/msg/TFMessage", {"transforms": transforms})
