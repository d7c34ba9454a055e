"""Somebody made up in about a second of a motion, before a camera or on the way there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.body import PosedBody
from pipeline.frames import Array
from pipeline.types import JOINT
from training.data.drawing import Figure, Mesh
from training.data.motions import FPS

FRAMES, STEP_S = 8, 0.1
#: Frames of a motion from one picture to the next, and from the first to the last.
STRIDE = round(STEP_S * FPS)
SPAN = (FRAMES - 1) * STRIDE + 1


@dataclass(frozen=True, eq=False)
class Actor:
    """Somebody moving in the world of the camera: R (FRAMES, 24, 3, 3), pelvis (FRAMES, 3)."""

    figure: Figure
    Rs_world_joint: Array
    t_world_root: Array

    @cached_property
    def posed(self) -> PosedBody:
        """The body in every frame; its mesh is `mesh`."""
        Rs = self.Rs_world_joint
        joints = self.t_world_root[:, None] + self.figure.shaped.joints_from_root(Rs)
        return PosedBody(self.figure.shaped, joints, Rs, Rs[:, 1:])

    def mesh(self, k: int) -> Mesh:
        """What to draw in frame k."""
        joints = self.posed.joints
        return self.figure.mesh(self.figure.vertices(self.Rs_world_joint[k], joints[k]))

    @property
    def stature_m(self) -> float:
        """Crown to sole."""
        return self.figure.person.stature_m

    def moved(self, R: Array, shift: Array) -> Actor:
        """Turned about the origin, then shifted."""
        return replace(self, Rs_world_joint=R @ self.Rs_world_joint, t_world_root=self.t_world_root @ R.T + shift)

    @property
    def facing_rad(self) -> float:
        """Heading of the chest, 0 for +z."""
        front = self.Rs_world_joint[FRAMES // 2, JOINT["spine3"]]
        return float(np.arctan2(front[0, 2], front[2, 2]))
