"""Orientation correction by W-HMR's OrientCorrect: the network says how the root stands in the world."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.frames import Array
from pipeline.orientation import OrientationCorrector
from pipeline.types import BodyPose, CameraCalibration, WorldPose
from pipeline.whmr_recovery import OrientedBody


class NetworkOrientation(OrientationCorrector):
    """World-frame bodies whose root is the network's; only the floor is learned as the default does."""

    def __call__(
        self, bodies: Sequence[BodyPose], calibration: CameraCalibration, track_ids: Sequence[int], t_s: float
    ) -> list[WorldPose]:
        """The bodies in the world: each turned about the pelvis until its root is the one it came with."""
        return super().__call__([_turned(b, calibration) for b in bodies], calibration, track_ids, t_s)

    def _learn_lean(self, *_: object) -> None:
        """Nothing: the network corrects the root itself."""


def _turned(body: BodyPose, calibration: CameraCalibration) -> BodyPose:
    """`body` with the root in the camera that its root in the world asks for."""
    if not isinstance(body, OrientedBody):
        return body
    root: Array = calibration.R_world_camera.T @ body.R_world_root
    offsets = (body.joints_camera_m - body.t_camera_root) @ (root @ body.R_camera_root.T).T
    return BodyPose(
        root, body.t_camera_root, body.Rs_parent_joint, body.betas, offsets + body.t_camera_root, body.confidence
    )
