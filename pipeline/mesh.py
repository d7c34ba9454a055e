"""Surfaces of people in the world, for those who subscribe to `mesh/`."""

from __future__ import annotations

import hashlib
import time

import numpy as np
from numpy.typing import NDArray

from pipeline.body import BodyModel, ShapedBody
from pipeline.schema import SCHEMA_VERSION, MeshMessage, MeshPerson
from pipeline.types import FrameResult, Person, WorldPose

Points32 = NDArray[np.float32]


class Meshes:
    """Makes the mesh messages of one stream, whose people are of `body`. Use by one thread.

    The same surface as `PosedBody.mesh`, in single precision, with no nine numbers for each vertex in between and what
    only the shape changes kept: a fraction of its time.
    """

    def __init__(self, body: BodyModel) -> None:
        self.body = body
        self.faces = body.faces.astype("<u4")
        self.topology = hashlib.sha256(self.faces.tobytes()).hexdigest()[:8]
        self._weights = np.ascontiguousarray(body.weights.T, dtype=np.float32)
        self._pose_dirs = None if body.pose_dirs is None else body.pose_dirs.astype(np.float32)
        self._shapes: dict[int, tuple[bytes, ShapedBody, Points32]] = {}

    def message(self, result: FrameResult, with_faces: bool) -> MeshMessage:
        """Everybody of one frame, published now; `with_faces` for those who cannot draw without."""
        present = {person.track_id for person in result.people}
        self._shapes = {id_: shape for id_, shape in self._shapes.items() if id_ in present}
        people = tuple(MeshPerson(person.track_id, self.vertices(person)) for person in result.people)
        return MeshMessage(
            v=SCHEMA_VERSION,
            camera=result.camera_id,
            index=result.index,
            t_capture_ns=result.t_capture_ns,
            t_wall_ns=result.t_wall_ns,
            t_publish_ns=time.monotonic_ns(),
            t_publish_wall_ns=time.time_ns(),
            body=self.body.name,
            topology=self.topology,
            n_vertices=len(self.body.vertices),
            faces=self.faces if with_faces else None,
            people=people,
        )

    def vertices(self, person: Person) -> Points32:
        """The surface (V, 3) in the world, metres, single precision."""
        pose = person.world
        shaped, rest = self._shape(person.track_id, pose)
        # about the pelvis, so that precision does not depend on where in the world somebody is
        posed = shaped.posed(pose.R_world_root, np.zeros(3), pose.Rs_parent_joint)
        R = posed.Rs_frame_joint
        shift = posed.joints - (R @ shaped.joints_rest[..., None])[..., 0]
        moves = np.concatenate([R.reshape(24, 9), shift + pose.t_world_root], axis=1).astype(np.float32)
        blend = moves.T @ self._weights
        x, y, z = rest if self._pose_dirs is None else rest + _bulges(pose, self._pose_dirs)
        found = np.empty((rest.shape[1], 3), dtype=np.float32)
        for i in range(3):
            found[:, i] = blend[3 * i] * x + blend[3 * i + 1] * y + blend[3 * i + 2] * z + blend[9 + i]
        return found

    def _shape(self, track_id: int, pose: WorldPose) -> tuple[ShapedBody, Points32]:
        key = pose.betas.tobytes()
        known = self._shapes.get(track_id)
        if known is None or known[0] != key:
            shaped = self.body.shaped(pose.betas)
            known = key, shaped, np.ascontiguousarray(shaped.vertices_rest.T, dtype=np.float32)
            self._shapes[track_id] = known
        return known[1], known[2]


def _bulges(pose: WorldPose, pose_dirs: Points32) -> Points32:
    """The pose-dependent surface of an SMPL file (3, V), metres."""
    feature = (pose.Rs_parent_joint - np.eye(3)).reshape(207).astype(np.float32)
    return (feature @ pose_dirs).reshape(-1, 3).T
