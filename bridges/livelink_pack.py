"""JSONLiveLink datagrams of one person: what the Unreal plugin of that name reads.

One JSON object, `{"Subject": [{"Name", "Parent", "Location", "Rotation", "Scale"}, ...]}`, in plain ASCII because the
plugin takes bytes for characters. Transforms are parent-local, Unreal's axes, centimetres, quaternions x y z w. The
plugin drops a frame that lacks one of the five fields, and keeps names and parents of the first one it sees of a
subject: so a subject's bones never change.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec
import numpy as np

from bridges import axes
from bridges.local_pose import local_pose
from pipeline.messages import PersonMessage
from pipeline.names import JOINT_NAMES, JOINT_PARENTS

Names = Literal["smpl", "mannequin"]

#: Unreal's mannequin (spine_01 to spine_03, as in UE4) for SMPL's joints 0 to 21; it has no bone for 22 and 23.
MANNEQUIN = (
    "pelvis", "thigh_l", "thigh_r", "spine_01", "calf_l", "calf_r", "spine_02", "foot_l", "foot_r", "spine_03",
    "ball_l", "ball_r", "neck_01", "clavicle_l", "clavicle_r", "head", "upperarm_l", "upperarm_r", "lowerarm_l",
    "lowerarm_r", "hand_l", "hand_r",
)  # fmt: skip
_SUBJECT = re.compile(r"[A-Za-z0-9_]{1,48}")
#: A tenth of a micrometre, and less than a thousandth of a degree.
_DECIMALS_CM, _DECIMALS_QUAT = 5, 7
_ROOT_AT_REST = {"Location": [0.0, 0.0, 0.0], "Rotation": [0.0, 0.0, 0.0, 1.0], "Scale": [1.0, 1.0, 1.0]}


class LiveLinkPacker:
    """Makes the datagrams of people. Use by one thread.

    names  "smpl": 24 bones named as on the wire, pelvis first; a skeleton file made by `bridges.convert` has the
           same. "mannequin": `root` at the origin and the 22 bones above. Names only: at rest every bone has the axes
           of the T-pose, not those of Epic's mesh, so between the two stands Unreal's IK Retargeter
    """

    def __init__(self, names: Names = "smpl") -> None:
        mannequin = names == "mannequin"
        bones = MANNEQUIN if mannequin else JOINT_NAMES
        shift = 1 if mannequin else 0
        self._count = len(bones)
        self._fixed = [(name, parent + shift) for name, parent in zip(bones, JOINT_PARENTS[: self._count], strict=True)]
        self._before = [{"Name": "root", "Parent": -1, **_ROOT_AT_REST}] if mannequin else []

    def pack(self, person: PersonMessage, subject: str) -> bytes:
        """The datagram of one person of one frame, about 4 KB. `subject` is one of `checked_subject`."""
        pose = local_pose(person)
        count = len(self._fixed)
        locations = np.round(axes.unreal_points(pose.offsets_m[:count]), _DECIMALS_CM).tolist()
        rotations = np.round(axes.unreal_quats(pose.quats_xyzw[:count]), _DECIMALS_QUAT).tolist()
        bones = [
            {"Name": name, "Parent": parent, "Location": location, "Rotation": rotation, "Scale": [1.0, 1.0, 1.0]}
            for (name, parent), location, rotation in zip(self._fixed, locations, rotations, strict=True)
        ]
        return msgspec.json.encode({subject: self._before + bones})


def checked_subject(name: str) -> str:
    """`name`, which becomes a subject's with a number behind it.

    Raises ValueError unless it is 1 to 48 letters, digits or underscores.
    """
    if not _SUBJECT.fullmatch(name):
        raise ValueError(f"--subject {name!r}: expected 1 to 48 letters, digits or underscores, such as Body.")
    return name
