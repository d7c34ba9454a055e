"""One person in the live viewer: a skinned body, a label, the way they went, and marks where feet rest."""

from __future__ import annotations

from collections import deque

import numpy as np
import viser
from numpy.typing import NDArray
from viser import _messages

from bridges.viewer_mesh import Skin
from pipeline.body import BodyModel, ShapedBody
from pipeline.contact import ABOVE_SOLE_M, POINTS
from pipeline.frames import Array, from_quat_xyzw, quat_xyzw
from pipeline.messages import PersonMessage
from pipeline.types import JOINT

#: Told apart by people who see no red or no green as well (Okabe and Ito).
COLORS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0), (0, 114, 178))
TRAIL_S, TRAIL_EVERY_S, TRAIL_STEPS = 6.0, 0.2, 30
JUMPS_M = 1.0
OVER_HEAD_M = 0.28
#: A point of a foot rests when it is this low over its place on a standing foot and this slow.
RESTS_M, RESTS_M_S = 0.05, 0.2
#: A body whose bones differ by more from the joints that came is of another body model.
SAME_BODY_M = 0.01
_IDENTITY = np.tile([1.0, 0.0, 0.0, 0.0], (24, 1))
_FLAT = (0.7071068, 0.7071068, 0.0, 0.0)


class PersonView:
    """The scene's nodes of one person, used again for somebody else when they leave.

    Nothing is ever taken out of the scene: the page of viser 1.1.1 breaks when a skinned mesh is removed.
    """

    def __init__(self, scene: viser.SceneApi, model: BodyModel, skin: Skin, slot: int) -> None:
        self._model, self._skin = model, skin
        name = f"/people/{slot}"
        self._root = scene.add_frame(name, show_axes=False)
        self._label = scene.add_label(f"{name}/label", "", anchor="bottom-center")
        points = np.zeros((TRAIL_STEPS - 1, 2, 3), dtype=np.float32)
        self._trail = scene.add_line_segments(f"{name}/trail", points, COLORS[0], thickness=0.015)
        self._marks = [
            scene.add_cylinder(f"{name}/contact/{i}", 0.05, 0.004, (255, 255, 255), wxyz=_FLAT, visible=False,
                               cast_shadow=False)
            for i in range(4)
        ]  # fmt: skip
        self._shaped = model.shaped(np.zeros(model.n_betas))
        self._mesh = scene.add_mesh_skinned(
            f"{name}/body", self._shaped.vertices_rest[skin.kept], skin.faces, bone_wxyzs=_IDENTITY,
            bone_positions=self._shaped.joints_rest, skin_weights=skin.weights, color=COLORS[0], side="double",
        )  # fmt: skip
        self._betas: bytes = b""
        self._predicted = False
        self._steps: deque[tuple[float, float, float]] = deque(maxlen=TRAIL_STEPS)
        self._next_step_s = -np.inf
        self._feet: tuple[float, Array] | None = None

    def take(self, track_id: int) -> None:
        """Becomes the view of somebody."""
        color = COLORS[(track_id - 1) % len(COLORS)]
        self._label.text = str(track_id)
        self._mesh.color = color
        self._trail.colors = np.full((TRAIL_STEPS - 1, 2, 3), color, dtype=np.uint8)
        self._steps.clear()
        self._next_step_s, self._feet = -np.inf, None
        self._root.visible = True

    def leave(self) -> None:
        """Is nobody's until `take`, and not seen."""
        self._root.visible = False

    def show(self, person: PersonMessage, t_s: float, floor_known: bool) -> None:
        """Moves the person to where they were at `t_s` seconds (capture time)."""
        if person.betas.tobytes() != self._betas:
            self._betas = person.betas.tobytes()
            self._shaped = shape_of(self._model, person)
            self._mesh.vertices = self._shaped.vertices_rest[self._skin.kept].astype(np.float32)
            self._mesh.bone_positions = self._shaped.joints_rest.astype(np.float32)
        if person.predicted != self._predicted:
            self._predicted = person.predicted
            self._mesh.opacity = 0.45 if person.predicted else None
        Rs = from_quat_xyzw(person.quats_parent_joint_xyzw)
        R_root = from_quat_xyzw(person.quat_world_root_xyzw)
        quats = quat_xyzw(self._shaped.posed(R_root, person.t_world_root_m, Rs).Rs_frame_joint)
        move_bones(self._mesh, quats[:, [3, 0, 1, 2]], person.joints_world_m)
        self._label.position = person.joints_world_m[JOINT["head"]] + [0.0, OVER_HEAD_M, 0.0]
        self._walk(person.t_world_root_m, t_s)
        self._mark(person.joints_world_m[POINTS], t_s, floor_known)

    def _walk(self, root: Array, t_s: float) -> None:
        if self._next_step_s - 2.0 * TRAIL_EVERY_S < t_s < self._next_step_s:
            return
        if t_s < self._next_step_s:
            self._steps.clear()  # a file that starts over
        if self._steps and np.hypot(root[0] - self._steps[-1][0], root[2] - self._steps[-1][2]) > JUMPS_M:
            self._steps.clear()
        self._next_step_s = t_s + TRAIL_EVERY_S
        self._steps.append((float(root[0]), 0.01, float(root[2])))
        way = np.array([self._steps[0]] * (TRAIL_STEPS - len(self._steps)) + list(self._steps), dtype=np.float32)
        self._trail.points = np.stack([way[:-1], way[1:]], axis=1)

    def _mark(self, points: Array, t_s: float, floor_known: bool) -> None:
        for mark, rests, at in zip(self._marks, self._resting(points, t_s, floor_known), points, strict=True):
            if rests and not mark.visible:
                mark.position = at * [1.0, 0.0, 1.0] + [0.0, 0.006, 0.0]
            if rests != mark.visible:
                mark.visible = bool(rests)

    def _resting(self, points: Array, t_s: float, floor_known: bool) -> NDArray[np.bool_]:
        """Which of ankles and balls (4, 3) are low and slow."""
        before, self._feet = self._feet, (t_s, points)
        if before is None or not 0.0 < t_s - before[0] < 0.5:
            return np.zeros(4, dtype=bool)
        heights = points[:, 1] - ABOVE_SOLE_M
        heights = heights if floor_known else heights - heights.min()
        speeds = np.linalg.norm(points - before[1], axis=1) / (t_s - before[0])
        return np.asarray((np.abs(heights) < RESTS_M) & (speeds < RESTS_M_S))


def shape_of(model: BodyModel, person: PersonMessage) -> ShapedBody:
    """The body of a person; where the stream's body model is another one, ours of the same size."""
    sent = np.linalg.norm(np.diff(person.joints_world_m[_BONES], axis=1)[:, 0], axis=-1)
    shaped = model.shaped(person.betas)
    if np.abs(_lengths(shaped) - sent).max() < SAME_BODY_M:
        return shaped
    mean = model.shaped(np.zeros(model.n_betas))
    height = float(mean.height_m) * float(sent.sum() / _lengths(mean).sum())
    return model.shaped(model.betas_for_height(min(max(height, 0.5), 2.5)))


def _lengths(shaped: ShapedBody) -> Array:
    return np.asarray(np.linalg.norm(np.diff(shaped.joints_rest[_BONES], axis=1)[:, 0], axis=-1))


_LIMBS = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
_BONES = np.array([[JOINT[f"{side}_{end}"] for end in limb] for side in ("left", "right") for limb in _LIMBS])


def move_bones(mesh: viser.MeshSkinnedHandle, quats_wxyz: Array, positions: Array) -> None:
    """Sets all bones: (24, 4) and (24, 3).

    The same messages as `mesh.bones[i].wxyz = ...` sends, which compares every one with the value before in numpy:
    2.4 ms a person against 0.3 ms. The pinned version of viser has these names.
    """
    name, queue = mesh.name, mesh._impl.api._queue_scene_message
    for i, (wxyz, position) in enumerate(zip(quats_wxyz.tolist(), positions.tolist(), strict=True)):
        queue(_messages.SetBoneOrientationMessage(name, i, tuple(wxyz)))
        queue(_messages.SetBonePositionMessage(name, i, tuple(position)))
