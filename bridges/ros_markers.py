"""People as visualization_msgs/MarkerArray, to be seen in RViz and Foxglove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bridges.axes import ros_points
from bridges.ros_values import Frames, RosMessage, body_id, color, header, quaternion, xyz
from pipeline.messages import PersonMessage
from pipeline.types import JOINT_NAMES, JOINT_PARENTS

_BONES = [i for joint, parent in enumerate(JOINT_PARENTS) if parent >= 0 for i in (parent, joint)]
_MARKER_ADD, _MARKER_DELETE = 0, 2
_LINE_LIST, _SPHERE_LIST, _TEXT = 5, 7, 9
_MARKER_NAMESPACES = ("bones", "joints", "names")
#: Markers vanish by themselves when nobody renews them for this long.
_MARKER_LIFE_S = 1
_PALETTE = ((0.12, 0.47, 0.71), (1.0, 0.5, 0.05), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16), (0.58, 0.4, 0.74))


def markers(stamp_ns: int, names: Frames, people: Sequence[PersonMessage], left: Sequence[int]) -> RosMessage:
    """visualization_msgs/MarkerArray: joints (opacity: confidence), bones and id of each person, DELETE for `left`."""
    head = header(stamp_ns, names.world)
    found = []
    for ident in left:
        for namespace in _MARKER_NAMESPACES:
            fields = {"header": head, "ns": namespace, "id": ident % 2**31, "action": _MARKER_DELETE}
            found.append(RosMessage("visualization_msgs/msg/Marker", fields))
    for person in people:
        r, g, b = _PALETTE[person.id % len(_PALETTE)]
        points = [xyz("Point", p) for p in ros_points(person.joints_world_m).tolist()]
        opacity = (0.15 + 0.85 * np.clip(person.confidence, 0.0, 1.0)).tolist()
        colors = [color(r, g, b, a) for a in opacity]
        top = points[JOINT_NAMES.index("head")].fields
        above = xyz("Point", (top["x"], top["y"], top["z"] + 0.25))
        base = {"header": head, "id": person.id % 2**31, "color": color(r, g, b, 0.9)}
        found.append(_marker(base, "joints", _SPHERE_LIST, 0.06, points=points, colors=colors))
        found.append(_marker(base, "bones", _LINE_LIST, 0.025, points=[points[i] for i in _BONES]))
        found.append(_marker(base, "names", _TEXT, 0.12, text=body_id(person.id), at=above))
    return RosMessage("visualization_msgs/msg/MarkerArray", {"markers": found})


def _marker(
    base: dict[str, Any], namespace: str, kind: int, size_m: float, at: RosMessage | None = None, **fields: Any
) -> RosMessage:
    place = {"position": at or xyz("Point", (0.0, 0.0, 0.0)), "orientation": quaternion((0.0, 0.0, 0.0, 1.0))}
    life = RosMessage("builtin_interfaces/msg/Duration", {"sec": _MARKER_LIFE_S, "nanosec": 0})
    fixed = {
        "ns": namespace, "type": kind, "action": _MARKER_ADD, "pose": RosMessage("geometry_msgs/msg/Pose", place),
        "scale": xyz("Vector3", (size_m, size_m, size_m)), "lifetime": life,
    }  # fmt: skip
    return RosMessage("visualization_msgs/msg/Marker", {**base, **fixed, **fields})
