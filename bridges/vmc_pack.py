"""VMC protocol datagrams of one person (protocol.vmc.info, v3.1): OSC bundles for port 39539, Unity's axes.

What receivers need: every argument in its true type (EVMC4U stops for good on a missing one), Hips as the first bone
and `/VMC/Ext/Blend/Apply` last (VMCLiveLink pushes a frame only then), real rest offsets as bones' positions (some
apply them), a calibration state of 3 (EVMC4U can hide the model otherwise), bundles below the size at which packets
are cut.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bridges import axes
from bridges.local_pose import local_pose
from bridges.osc import BundleTemplate, OscMessage, split
from pipeline.frames import Array
from pipeline.messages import PersonMessage

Translation = Literal["hips", "root"]
UpperChest = Literal["send", "merge"]

#: Unity's HumanBodyBones of SMPL's joints 0 to 21; 22 and 23 are inside the hands, which have no such bone.
BONES = (
    "Hips", "LeftUpperLeg", "RightUpperLeg", "Spine", "LeftLowerLeg", "RightLowerLeg", "Chest", "LeftFoot",
    "RightFoot", "UpperChest", "LeftToes", "RightToes", "Neck", "LeftShoulder", "RightShoulder", "Head",
    "LeftUpperArm", "RightUpperArm", "LeftLowerArm", "RightLowerArm", "LeftHand", "RightHand",
)  # fmt: skip
UPPER_CHEST = BONES.index("UpperChest")
MAX_BUNDLE_BYTES = 1400
_LOADED, _CALIBRATED, _MODE_NORMAL = 1, 3, 0
_AT_REST = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def _ok(tracking: int) -> OscMessage:
    return OscMessage("/VMC/Ext/OK", (_LOADED, _CALIBRATED, _MODE_NORMAL, tracking))


class VmcPacker:
    """Makes the datagrams of people. Use by one thread.

    translation  "hips": the pelvis' place in the world is the Hips bone's and the root stays at the origin.
                 "root": the root stands on the floor (y = 0) under the pelvis, the Hips bone has the height
    upper_chest  "send" the UpperChest bone, or "merge" its rotation into Chest for models that have none
    """

    def __init__(self, translation: Translation = "hips", upper_chest: UpperChest = "send") -> None:
        self._root_walks = translation == "root"
        self._merge = upper_chest == "merge"
        bones = [i for i in range(len(BONES)) if not (self._merge and i == UPPER_CHEST)]
        self._joints = np.array(bones)
        messages = [
            _ok(tracking=1),
            OscMessage("/VMC/Ext/T", (0.0,)),
            OscMessage("/VMC/Ext/Root/Pos", ("root", *_AT_REST)),
            *(OscMessage("/VMC/Ext/Bone/Pos", (BONES[i], *_AT_REST)) for i in bones),
            OscMessage("/VMC/Ext/Blend/Apply"),
        ]
        self._bundles = split(messages, MAX_BUNDLE_BYTES)
        ends = np.cumsum([bundle.floats for bundle in self._bundles]).tolist()
        self._parts = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self._floats = np.zeros(ends[-1])
        self._floats[1:8] = _AT_REST
        self._transforms = self._floats[8:].reshape(-1, 7)
        self._lost = BundleTemplate([_ok(tracking=0), OscMessage("/VMC/Ext/T", (0.0,))])

    def pack(self, person: PersonMessage, time_s: float) -> list[bytes]:
        """The datagrams of one person of one frame, to be sent in this order; `time_s` counts from any start."""
        self._floats[0] = time_s
        offsets, quats = self._unity(person)
        if self._root_walks:
            self._floats[1:4] = offsets[0] * (1.0, 0.0, 1.0)
            offsets[0, ::2] = 0.0
        self._transforms[:, :3] = offsets.take(self._joints, 0)
        self._transforms[:, 3:] = quats.take(self._joints, 0)
        values = self._floats
        return [bundle.pack(values[part]) for bundle, part in zip(self._bundles, self._parts, strict=True)]

    def lost(self, time_s: float) -> bytes:
        """The datagram that says: nobody is tracked."""
        return self._lost.pack((time_s,))

    def _unity(self, person: PersonMessage) -> tuple[Array, Array]:
        pose = local_pose(person, self._merge)
        return axes.unity_points(pose.offsets_m), axes.unity_quats(pose.quats_xyzw)
