"""Orientation correction: the body's root in the gravity-aligned world, upright even where the camera's angles err.

W-HMR (paper section 3.4) corrects the root orientation apart from the local body, so that errors of the camera's
angles do not pile up in it. Here the correction is what standing says: over seconds, the legs of a standing person
carry the trunk vertically over the feet; what is left of a lean in that mean is the camera's error, not the
person's. The local pose is never touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.contact import ABOVE_SOLE_M, POINTS
from pipeline.frames import Array, exp_so3, log_so3, normalize, shortest_rotation
from pipeline.leg_ik import ANKLES, HIPS, KNEES
from pipeline.types import JOINT, BodyPose, CameraCalibration, WorldPose

UP = np.array([0.0, 1.0, 0.0])
_LEGS = [*KNEES, *ANKLES]

SETTLE_S = 4.0
#: How often a lean is looked at, which takes seconds to learn, and how softly what was learned is put in.
LOOK_S, EASE_S = 0.09, 0.2
MAX_CORRECTION_RAD = np.radians(12.0)
STRAIGHT, TOGETHER, PLAUSIBLE = np.cos(np.radians(25.0)), np.cos(np.radians(30.0)), np.cos(np.radians(20.0))
MAX_FLOOR_OFFSET_M = 0.5
MIN_CONFIDENCE = 0.4


@dataclass(eq=False)
class Track:
    """The correction of one person: the turn that is learned and the one that is shown, and their floor."""

    t_s: float
    looked_s: float
    lean: Array = field(default_factory=lambda: np.zeros(3))
    shown: Array = field(default_factory=lambda: np.zeros(3))
    stood_s: float = 0.0
    floor_m: float = 0.0
    floor_known_s: float = 0.0

    def look(self, t_s: float) -> float:
        """Seconds since the look before this one, a fifth at most."""
        since_s = min(max(t_s - self.looked_s, 0.0), 0.2)
        self.looked_s = t_s
        return since_s

    def learn(self, lean: Array, worth_s: float) -> None:
        """The mean of all that was seen so far, then a window of SETTLE_S: early looks count, late ones cannot run
        away."""
        self.stood_s += worth_s
        share = worth_s / max(min(self.stood_s, SETTLE_S), 0.5)
        moved = self.lean + share * (lean - self.lean)
        self.lean = moved * min(1.0, MAX_CORRECTION_RAD / max(float(np.linalg.norm(moved)), 1e-9))


class OrientationCorrector:
    """Camera-frame bodies to world-frame bodies, with a slow correction per person."""

    def __init__(self) -> None:
        self._tracks: dict[int, Track] = {}
        self._height_m: float | None = None

    def keep_only(self, track_ids: set[int]) -> None:
        """Forgets everybody else."""
        for gone in self._tracks.keys() - track_ids:
            del self._tracks[gone]

    def __call__(
        self, bodies: Sequence[BodyPose], calibration: CameraCalibration, track_ids: Sequence[int], t_s: float
    ) -> list[WorldPose]:
        """The bodies (all of one frame) in the world at capture time `t_s`, seconds.

        Each root turns by its correction about the pelvis, each body is set on the floor by the height its resting
        feet had; joints, bone lengths and the local rotations stay as they are.
        """
        if not bodies:
            return []
        tracks = [self._tracks.setdefault(i, Track(t_s, t_s)) for i in track_ids]
        dts = np.array([np.clip(t_s - track.t_s, 0.0, 0.2) for track in tracks])
        R = calibration.R_world_camera
        joints = np.stack([b.joints_camera_m for b in bodies])
        roots = np.stack([b.t_camera_root for b in bodies])
        confidence = np.stack([b.confidence for b in bodies])
        offsets = (joints - roots[:, None]) @ R.T
        if any(not 0.0 < t_s - track.looked_s < LOOK_S for track in tracks):
            self._learn_lean(tracks, offsets, confidence, t_s)
        for track, dt in zip(tracks, dts, strict=True):
            track.shown = track.shown + (1.0 - np.exp(-dt / EASE_S)) * (track.lean - track.shown)
        turns = exp_so3(np.stack([track.shown for track in tracks]))
        offsets = offsets @ np.swapaxes(turns, 1, 2)
        places = roots @ R.T + calibration.t_world_camera
        if calibration.camera_height_m is not None:
            raised = calibration.camera_height_m - (self._height_m or calibration.camera_height_m)
            for track in self._tracks.values():
                track.floor_m += raised
            self._height_m = calibration.camera_height_m
            self._learn_floor(tracks, places[:, None, 1] + offsets[..., 1], confidence, dts)
            places = places - np.array([[0.0, track.floor_m, 0.0] for track in tracks])
        R_world_roots = turns @ (R @ np.stack([b.R_camera_root for b in bodies]))
        joints = offsets + places[:, None]
        for track in tracks:
            track.t_s = t_s
        return [
            WorldPose(R_world_roots[i], places[i], b.Rs_parent_joint, b.betas, joints[i], b.confidence)
            for i, b in enumerate(bodies)
        ]

    def _learn_lean(self, tracks: list[Track], offsets: Array, confidence: Array, t_s: float) -> None:
        """Moves each correction toward the turn that sets the standing body's legs upright, within seconds."""
        thighs = normalize(offsets[:, HIPS] - offsets[:, KNEES])
        shins = normalize(offsets[:, KNEES] - offsets[:, ANKLES])
        legs = normalize(offsets[:, HIPS].sum(1) - offsets[:, ANKLES].sum(1))
        trunks = normalize(offsets[:, JOINT["neck"]])
        standing = (
            (confidence[:, _LEGS].min(1) > MIN_CONFIDENCE)
            & (np.sum(thighs * shins, axis=-1).min(1) > STRAIGHT)
            & (np.sum(thighs[:, 0] * thighs[:, 1], axis=-1) > TOGETHER)
            & (np.sum(legs * trunks, axis=-1) > STRAIGHT)
            & (legs[:, 1] > PLAUSIBLE)
        )
        dts = [track.look(t_s) for track in tracks]
        if not standing.any():
            return
        targets = log_so3(shortest_rotation(normalize(2 * legs + trunks), np.broadcast_to(UP, legs.shape)))
        for i in np.flatnonzero(standing):
            tracks[i].learn(targets[i], dts[i])

    def _learn_floor(self, tracks: list[Track], joints_y: Array, confidence: Array, dts: Array) -> None:
        """Moves each floor offset toward the lowest foot; jumps are too short to move it."""
        lowest = (joints_y[:, POINTS] - ABOVE_SOLE_M).min(1)
        for i in np.flatnonzero(confidence[:, POINTS].min(1) >= MIN_CONFIDENCE):
            track = tracks[i]
            track.floor_known_s += dts[i]
            window_s = 2.0 * SETTLE_S if lowest[i] > track.floor_m else SETTLE_S / 2
            share = min(dts[i] / max(min(track.floor_known_s, window_s), 0.3), 1.0)
            floor = track.floor_m + share * (lowest[i] - track.floor_m)
            track.floor_m = float(np.clip(floor, -MAX_FLOOR_OFFSET_M, MAX_FLOOR_OFFSET_M))
