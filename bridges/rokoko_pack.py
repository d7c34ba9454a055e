"""Frames in the form of Rokoko Studio's "JSON v3" live stream, read off the receivers that Rokoko publishes.

rokoko-studio-live-unity (JsonLiveSerializerV3.cs, Actor.cs) and rokoko-studio-live-blender (live_data_manager.py): one
JSON object with all actors in one datagram, compressed as an LZ4 frame whose header has the size. A bone has its place
and rotation in the world, Unity's axes, metres; a rotation contains that of the suit's T-pose, which receivers take
out again::

    q = q_world_joint * q_suit_t_pose          so a person at rest sends the suit's T-pose

Fingers, which nobody measured, are straight: receivers pose a hand with whatever is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
import numpy as np

from bridges import axes
from bridges.local_pose import LocalPose, local_pose
from pipeline import frames
from pipeline.frames import Array
from pipeline.messages import PersonMessage
from pipeline.names import JOINT

Format = Literal["lz4", "plain"]

_HALF = 0.5**0.5
_LEG, _FOOT = (0.0, _HALF, 0.0, _HALF), (0.0, _HALF, -_HALF, 0.0)
_SPINE = (0.0, 0.0, 1.0, 0.0)
_ARM = (-0.5, -0.5, 0.5, -0.5)
#: Bone, SMPL's joint, and the suit's T-pose x y z w in Unity's axes (Actor.cs); those of one side, without it.
_MIDDLE = (
    ("hip", "pelvis", (0.0, 0.0, 0.0, 1.0)), ("spine", "spine1", _SPINE), ("chest", "spine3", _SPINE),
    ("neck", "neck", _SPINE), ("head", "head", _SPINE),
)  # fmt: skip
_LEFT = (
    ("Shoulder", "collar", (0.0, 0.0, _HALF, -_HALF)), ("UpperArm", "shoulder", _ARM), ("LowerArm", "elbow", _ARM),
    ("Hand", "wrist", _ARM), ("UpLeg", "hip", _LEG), ("Leg", "knee", _LEG), ("Foot", "ankle", _FOOT),
    ("Toe", "foot", _FOOT), ("ToeEnd", "foot", _FOOT),
    ("ThumbProximal", "hand", (-0.56098, -0.70106, 0.43046, -0.0923)),
    ("ThumbMedial", "hand", (-0.65328, -0.65328, 0.2706, -0.2706)),
    ("ThumbDistal", "hand", (-0.65328, -0.65328, 0.2706, -0.2706)),
    ("ThumbTip", "hand", (-0.65328, -0.65328, 0.2706, -0.2706)),
    *(
        (f"{finger}{part}", "hand", _ARM)
        for finger in ("Index", "Middle", "Ring", "Little") for part in ("Proximal", "Medial", "Distal", "Tip")
    ),
)  # fmt: skip
#: Of the default body, all shapes within a centimetre: the sole under the toe's joint, the crown over the head's.
_SOLE_M, _CROWN_M = 0.028, 0.20
_COLORS = ((57, 134, 224), (224, 122, 57), (92, 184, 92), (184, 92, 170), (214, 194, 66))
_DECIMALS = 6


def _bones() -> tuple[list[str], list[int], Array]:
    """Names, SMPL's joints and the suit's T-pose (N, 4) of all bones, both sides."""
    found = [(name, joint, quat) for name, joint, quat in _MIDDLE]
    for name, joint, (x, y, z, w) in _LEFT:
        found.append((f"left{name}", f"left_{joint}", (x, y, z, w)))
        found.append((f"right{name}", f"right_{joint}", (x, -y, -z, w)))
    names, joints, quats = zip(*found, strict=True)
    t_pose = np.array(quats)
    return list(names), [JOINT[joint] for joint in joints], t_pose / np.linalg.norm(t_pose, axis=1, keepdims=True)


_NAMES, _JOINTS, _T_POSE = _bones()
#: The T-pose in our axes; the mapping between the two is its own inverse.
_RS_T_POSE = frames.from_quat_xyzw(axes.unity_quats(_T_POSE))


class RokokoPacker:
    """Makes the datagrams of frames. Use by one thread."""

    def __init__(self, form: Format = "lz4") -> None:
        """Raises ImportError when "lz4" is wanted and its package is not there."""
        self._compress = _lz4_frame().compress if form == "lz4" else None

    def pack(self, people: Iterable[tuple[str, int, PersonMessage]], time_s: float, fps: float = 30.0) -> bytes:
        """The datagram of a frame: of each person its actor's name, place (for the colour) and pose; may be empty."""
        actors = [_actor(name, place, person) for name, place, person in people]
        scene = {"timestamp": time_s, "actors": actors, "props": []}
        data = msgspec.json.encode({"version": 3.0, "fps": fps, "scene": scene})
        return data if self._compress is None else self._compress(data, store_size=True)


def _actor(name: str, place: int, person: PersonMessage) -> dict[str, Any]:
    pose = local_pose(person)
    points = axes.unity_points(person.joints_world_m).take(_JOINTS, 0).round(_DECIMALS).tolist()
    quats = axes.unity_quats(frames.quat_xyzw(pose.Rs_world_joint.take(_JOINTS, 0) @ _RS_T_POSE))
    body = {
        bone: {"position": {"x": px, "y": py, "z": pz}, "rotation": {"x": x, "y": y, "z": z, "w": w}}
        for bone, (px, py, pz), (x, y, z, w) in zip(_NAMES, points, quats.round(_DECIMALS).tolist(), strict=True)
    }
    hip_height_m = _hip_height_m(pose)
    spine = [JOINT[joint] for joint in ("spine1", "spine2", "spine3", "neck", "head")]
    spine_m = float(pose.offsets_m[spine, 1].sum())
    return {
        "name": name,
        "color": list(_COLORS[place % len(_COLORS)]),
        "meta": {
            "hasGloves": False, "hasLeftGlove": False, "hasRightGlove": False, "hasBody": True, "hasFace": False,
        },
        "dimensions": {
            "totalHeight": round(hip_height_m + spine_m + _CROWN_M, 4), "hipHeight": round(hip_height_m, 4),
        },
        "body": body,
    }  # fmt: skip


def _hip_height_m(pose: LocalPose) -> float:
    """Pelvis joint over the sole at rest: what the legs' bones fall, mean of both sides."""
    legs = [JOINT[f"{side}_{joint}"] for side in ("left", "right") for joint in ("hip", "knee", "ankle", "foot")]
    return float(-pose.offsets_m[legs, 1].sum() / 2 + _SOLE_M)


def _lz4_frame() -> Any:
    try:
        import lz4.frame
    except ImportError as error:
        raise ImportError("Compressed frames need the package lz4: pip install lz4, or --format plain.") from error
    return lz4.frame
