"""Orientation correction by a trained network: W-HMR's OrientCorrect (paper section 3.4), steadied over time.

The network says by how much a body's root is to be turned in the world, from the body's features, the camera's angles
as they are believed, and the local root. It was trained with camera angles that are off by up to 20 degrees and
everything else frozen, so the local pose is never touched. One picture's answer errs by degrees; what is left after
seconds is the camera's error, which all of a person's pictures share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.frames import Array, shortest_rotation
from pipeline.landmark_net import LandmarkReader, Reading, Runs
from pipeline.orientation import OrientationCorrector, Track
from pipeline.types import BodyPose, CameraCalibration, WorldPose

#: A turn that the network is less sure of than this counts for nothing, and a surer one than the other for no more.
SURE_RAD = np.radians(2.0), np.radians(25.0)


class LearnedOrientation(OrientationCorrector):
    """Camera-frame bodies to world-frame bodies; the network's turn takes the place of what standing says."""

    def __init__(self, reader: LandmarkReader, network: Runs) -> None:
        super().__init__()
        self._reader, self._network = reader, network
        self._now: tuple[Sequence[BodyPose], CameraCalibration, Sequence[int]] | None = None

    def __call__(
        self, bodies: Sequence[BodyPose], calibration: CameraCalibration, track_ids: Sequence[int], t_s: float
    ) -> list[WorldPose]:
        """As the class it is made from."""
        self._now = bodies, calibration, track_ids
        return super().__call__(bodies, calibration, track_ids, t_s)

    def _learn_lean(self, tracks: list[Track], offsets: Array, confidence: Array, t_s: float) -> None:
        """Moves each correction toward the turns that the network asks for, within seconds."""
        assert self._now is not None
        bodies, calibration, track_ids = self._now
        readings = [self._reader.latest(i) for i in track_ids]
        at = [i for i, reading in enumerate(readings) if reading is not None]
        dts = [track.look(t_s) for track in tracks]
        if not at:
            return
        turns, scales = self._turns([r for r in readings if r is not None], [bodies[i] for i in at], calibration)
        for i, turn, scale in zip(at, turns, scales, strict=True):
            sure = float(np.clip(1.0 - (scale - SURE_RAD[0]) / (SURE_RAD[1] - SURE_RAD[0]), 0.0, 1.0))
            tracks[i].learn(turn, dts[i] * sure)

    def _turns(
        self, readings: list[Reading], bodies: list[BodyPose], calibration: CameraCalibration
    ) -> tuple[Array, Array]:
        """Turns in the world (P, 3), radians, level ones only, and how far off they may be (P,)."""
        places = np.stack([b.t_camera_root for b in bodies])
        rays = places / np.linalg.norm(places, axis=1, keepdims=True)
        to_camera = shortest_rotation(np.broadcast_to([0.0, 0.0, 1.0], rays.shape), rays)
        ups = (to_camera @ np.stack([r.up_ray for r in readings])[..., None])[..., 0]
        out = self._network({
            "feature": np.stack([r.feature for r in readings]).astype(np.float32),
            "R_world_camera": np.repeat(calibration.R_world_camera[None], len(bodies), 0).astype(np.float32),
            "R_camera_root": np.stack([b.R_camera_root for b in bodies]).astype(np.float32),
            "up_camera": ups.astype(np.float32),
            "log_kappa": np.array([r.log_kappa for r in readings], dtype=np.float32),
        })  # fmt: skip
        turns = out["turn"].astype(np.float64)
        turns[:, 1] = 0.0  # headings are the picture's, not gravity's
        return turns, np.exp(out["log_scale"].astype(np.float64))
