"""Orientation correction: the body's root in the gravity-aligned world, upright even where the camera's angles err.

W-HMR (paper section 3.4) corrects the root orientation apart from the local body, so that errors of the camera's
angles do not pile up in it. Here the correction is what standing says: over seconds, the legs of a standing person
carry the trunk vertically over the feet; what is left of a lean in that mean is the camera's error, not the
person's. The local pose is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.frames import Array, exp_so3, log_so3, normalize, shortest_rotation
from pipeline.types import JOINT, BodyPose, CameraCalibration, WorldPose

UP = np.array([0.0, 1.0, 0.0])
_HIPS = np.array([JOINT["left_hip"], JOINT["right_hip"]])
_KNEES = np.array([JOINT["left_knee"], JOINT["right_knee"]])
_ANKLES = np.array([JOINT["left_ankle"], JOINT["right_ankle"]])
_TOES = np.array([JOINT["left_foot"], JOINT["right_foot"]])

#: Joints above the sole of a standing adult (SMPL's ankle and ball of the foot).
ANKLE_HEIGHT_M, TOE_HEIGHT_M = 0.08, 0.03

SETTLE_S = 4.0
MAX_CORRECTION_RAD = np.radians(12.0)
STRAIGHT, TOGETHER, PLAUSIBLE = np.cos(np.radians(25.0)), np.cos(np.radians(30.0)), np.cos(np.radians(20.0))
MAX_FLOOR_OFFSET_M = 0.5
MIN_CONFIDENCE = 0.4


@dataclass(eq=False)
class _Track:
    t_s: float
    lean: Array = field(default_factory=lambda: np.zeros(3))
    stood_s: float = 0.0
    floor_m: float = 0.0
    floor_known_s: float = 0.0


class OrientationCorrector:
    """Camera-frame bodies to world-frame bodies, with a slow correction per person."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}

    def keep_only(self, track_ids: set[int]) -> None:
        """Forgets everybody else."""
        for gone in self._tracks.keys() - track_ids:
            del self._tracks[gone]

    def __call__(self, body: BodyPose, calibration: CameraCalibration, track_id: int, t_s: float) -> WorldPose:
        """The body in the world at capture time `t_s`, seconds.

        The root turns by the correction about the pelvis, the body is set on the floor by the height its resting
        feet had; joints, bone lengths and the local rotations stay as they are.
        """
        track = self._tracks.setdefault(track_id, _Track(t_s))
        dt = float(np.clip(t_s - track.t_s, 0.0, 0.2))
        track.t_s = t_s
        R = calibration.R_world_camera
        R_world_root = R @ body.R_camera_root
        t_world_root = R @ body.t_camera_root + calibration.t_world_camera
        offsets = (body.joints_camera_m - body.t_camera_root) @ R.T
        self._learn_lean(track, offsets, body.confidence, dt)
        turn = exp_so3(track.lean)
        offsets = offsets @ turn.T
        if calibration.camera_height_m is not None:
            self._learn_floor(track, t_world_root[1] + offsets[:, 1], body.confidence, dt)
            t_world_root = t_world_root - track.floor_m * UP
        return WorldPose(
            turn @ R_world_root, t_world_root, body.Rs_parent_joint, body.betas, offsets + t_world_root, body.confidence
        )

    def _learn_lean(self, track: _Track, offsets: Array, confidence: Array, dt: float) -> None:
        """Moves the correction toward the turn that sets the standing body's legs upright, within seconds."""
        thighs = normalize(offsets[_HIPS] - offsets[_KNEES])
        shins = normalize(offsets[_KNEES] - offsets[_ANKLES])
        legs = normalize(offsets[_HIPS].mean(0) - offsets[_ANKLES].mean(0))
        trunk = normalize(offsets[JOINT["neck"]])
        standing = (
            confidence[[*_KNEES, *_ANKLES]].min() > MIN_CONFIDENCE
            and np.sum(thighs * shins, axis=-1).min() > STRAIGHT
            and thighs[0] @ thighs[1] > TOGETHER
            and legs @ trunk > STRAIGHT
            and legs[1] > PLAUSIBLE
        )
        if not standing:
            return
        track.stood_s += dt
        target = log_so3(shortest_rotation(normalize(2 * legs + trunk), UP))
        # The mean of all standing so far, then a window of SETTLE_S: early looks count, late ones cannot run away
        share = dt / max(min(track.stood_s, SETTLE_S), 0.5)
        lean = track.lean + share * (target - track.lean)
        angle = np.linalg.norm(lean)
        track.lean = lean * min(1.0, MAX_CORRECTION_RAD / max(angle, 1e-9))

    def _learn_floor(self, track: _Track, joints_y: Array, confidence: Array, dt: float) -> None:
        """Moves the floor offset toward the lowest foot; jumps are too short to move it."""
        feet = np.concatenate([_ANKLES, _TOES])
        if confidence[feet].min() < MIN_CONFIDENCE:
            return
        soles = joints_y[feet] - np.array([ANKLE_HEIGHT_M, ANKLE_HEIGHT_M, TOE_HEIGHT_M, TOE_HEIGHT_M])
        lowest = float(soles.min())
        track.floor_known_s += dt
        rising = lowest > track.floor_m
        share = dt / max(min(track.floor_known_s, 2.0 * SETTLE_S if rising else SETTLE_S / 2), 0.3)
        step = min(share, 1.0) * (lowest - track.floor_m)
        track.floor_m = float(np.clip(track.floor_m + step, -MAX_FLOOR_OFFSET_M, MAX_FLOOR_OFFSET_M))
