"""Temporal smoothing per person: One Euro on SO(3) for every rotation, a Kalman filter for the root.

Rotations are filtered by the logarithm of the step from the filtered to the measured one (no Euler angles, no
component-wise quaternions), with Casiez et al.'s One Euro rule (CHI 2012) on the step's angular speed. The root is a
constant-velocity Kalman filter whose noise is largest along the viewing ray, where one camera knows least.
dt comes from capture times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from filterpy.kalman import KalmanFilter

from pipeline.body import BodyModel, ShapedBody
from pipeline.frames import Array, exp_so3, from_quat_xyzw, log_so3, quat_xyzw
from pipeline.types import BodyPose, CameraCalibration, WorldPose

#: A person that was not seen for longer is gone; one that comes back later starts afresh.
MAX_GAP_S = 0.3


@dataclass(frozen=True)
class SmoothingLevel:
    """How strongly to smooth.

    min_cutoff_hz, beta  cut-off of rotations at rest, and what each rad/s adds, Hz
    across_m             standard deviation of the root across the view, metres
    along_per_m          the same along the view for each metre of distance: depth errs in proportion
    acceleration_m_s2    standard deviation of the root's acceleration
    """

    min_cutoff_hz: float
    beta: float
    across_m: float
    along_per_m: float
    acceleration_m_s2: float


_LOW = SmoothingLevel(1.5, 1.5, 0.008, 0.03, 12.0)
LEVELS: dict[str, SmoothingLevel | None] = {
    "off": None,
    "low": _LOW,
    "default": SmoothingLevel(0.5, 1.0, 0.012, 0.06, 6.0),
    "high": SmoothingLevel(0.4, 0.3, 0.02, 0.12, 3.0),
}
_SPEED_CUTOFF_HZ = 2.0


def level(name: str) -> SmoothingLevel | None:
    """The level called `name`. Raises ValueError naming the ones there are."""
    if name not in LEVELS:
        raise ValueError(f"--smoothing: expected one of {', '.join(LEVELS)}, got {name!r}.")
    return LEVELS[name]


@dataclass(eq=False)
class Rotations:
    """One Euro's memory of a stack of rotations (..., 3, 3): the filtered ones, and their angular speeds (..., 1)."""

    Rs: Array
    speed: Array

    @staticmethod
    def start(Rs: Array) -> Rotations:
        """At rest at `Rs`."""
        return Rotations(Rs, np.zeros((*Rs.shape[:-2], 1)))

    def filtered(self, Rs: Array, dt_s: Array | float, params: SmoothingLevel) -> Rotations:
        """After a measurement `Rs` of the same shape, `dt_s` > 0 (scalar or (..., 1)) seconds after the last."""
        step = log_so3(np.swapaxes(self.Rs, -1, -2) @ Rs)
        speed = np.sqrt(np.sum(step * step, axis=-1, keepdims=True)) / dt_s
        speed = self.speed + _gain(np.array(_SPEED_CUTOFF_HZ), dt_s) * (speed - self.speed)
        gain = _gain(params.min_cutoff_hz + params.beta * speed, dt_s)
        # By way of quaternions, so that rounding never leaves SO(3)
        return Rotations(from_quat_xyzw(quat_xyzw(self.Rs @ exp_so3(gain * step))), speed)


def _gain(cutoff_hz: Array, dt_s: Array | float) -> Array:
    """Share of a first-order low-pass (Casiez et al. 2012, equation 6)."""
    r = 2.0 * np.pi * cutoff_hz * dt_s
    return r / (r + 1.0)


class RootFilter:
    """Constant-velocity Kalman filter of a point in the world, metres and seconds."""

    def __init__(self, position: Array, params: SmoothingLevel) -> None:
        self._params = params
        # filterpy's kinematic_kf has a wrong H for three dimensions, so the matrices are set here
        self._kf = KalmanFilter(dim_x=6, dim_z=3)
        self._kf.x[:3, 0] = position
        self._kf.H = np.eye(3, 6)
        self._kf.P = np.diag([0.05**2] * 3 + [1.0] * 3)

    def predict(self, dt_s: float) -> Array:
        """Position (3,) `dt_s` later with nothing seen."""
        F, Q = np.eye(6), np.zeros((6, 6))
        power = self._params.acceleration_m_s2**2
        i = np.arange(3)
        F[i, i + 3] = dt_s
        Q[i, i], Q[i + 3, i + 3] = 0.25 * dt_s**4 * power, dt_s**2 * power
        Q[i, i + 3] = Q[i + 3, i] = 0.5 * dt_s**3 * power
        self._kf.predict(F=F, Q=Q)
        return self.position

    def update(self, position: Array, from_camera: Array, dt_s: float) -> Array:
        """Position (3,) after a measurement `dt_s` > 0 later; `from_camera` (3,) leads from the camera to it."""
        self.predict(dt_s)
        distance = float(np.linalg.norm(from_camera))
        view = from_camera / max(distance, 1e-6)
        across = self._params.across_m
        along = max(across, self._params.along_per_m * distance)
        R = across**2 * np.eye(3) + (along**2 - across**2) * np.outer(view, view)
        self._kf.update(position, R=R)
        return self.position

    def move(self, R: Array, t: Array) -> None:
        """Into another frame: `p_new = R @ p_old + t`."""
        x = self._kf.x[:, 0]
        self._kf.x[:, 0] = np.concatenate([R @ x[:3] + t, R @ x[3:]])

    @property
    def position(self) -> Array:
        """Metres (3,)."""
        return self._kf.x[:3, 0].copy()

    @property
    def velocity(self) -> Array:
        """Metres a second (3,)."""
        return self._kf.x[3:, 0].copy()


@dataclass(frozen=True, eq=False)
class Poses:
    """One person in both frames."""

    world: WorldPose
    camera: BodyPose


@dataclass(eq=False)
class _Track:
    t_s: float
    rotations: Rotations
    root: RootFilter
    poses: Poses
    moved_m: Array


class PoseSmoother:
    """Both poses of each person smoothed as one body, and carried on for a moment when nobody is seen.

    name_of_level  "off", "low", "default" or "high"
    """

    def __init__(self, model: BodyModel, name_of_level: str = "default") -> None:
        self._model = model
        self._off = level(name_of_level) is None
        self._params = level(name_of_level) or _LOW
        self._tracks: dict[int, _Track] = {}
        self._group: tuple[list[Array], ShapedBody] | None = None
        self._calibration: CameraCalibration | None = None

    def __call__(
        self, people: Sequence[Poses], calibration: CameraCalibration, track_ids: Sequence[int], t_s: float
    ) -> list[Poses]:
        """Everybody of a frame smoothed at capture time `t_s`; a new id, or one after a gap, starts from what it is."""
        self._reframe(calibration)
        out = list(people)
        known: list[int] = []
        for i, (track_id, poses) in enumerate(zip(track_ids, people, strict=True)):
            track = self._tracks.get(track_id)
            moved = _moved_m(poses, calibration)
            if track is None or not 0.0 < t_s - track.t_s <= MAX_GAP_S:
                root = RootFilter(poses.world.t_world_root, self._params)
                self._tracks[track_id] = _Track(t_s, Rotations.start(_stacked(poses)), root, poses, moved)
            elif self._off:
                velocity = (poses.world.t_world_root - track.poses.world.t_world_root) / (t_s - track.t_s)
                out[i] = track.poses = Poses(replace(poses.world, velocity_m_s=velocity), poses.camera)
                from_camera = calibration.R_world_camera @ poses.camera.t_camera_root
                track.root.update(poses.world.t_world_root, from_camera, t_s - track.t_s)
                track.rotations = Rotations.start(_stacked(poses))
                track.t_s, track.moved_m = t_s, moved
            else:
                track.moved_m = moved
                known.append(i)
        if known:
            tracks = [self._tracks[track_ids[i]] for i in known]
            for i, poses in zip(known, self._filter(tracks, [people[i] for i in known], calibration, t_s), strict=True):
                out[i] = poses
        return out

    def _filter(
        self, tracks: list[_Track], people: list[Poses], calibration: CameraCalibration, t_s: float
    ) -> list[Poses]:
        dts = np.array([t_s - track.t_s for track in tracks])
        before = Rotations(np.stack([t.rotations.Rs for t in tracks]), np.stack([t.rotations.speed for t in tracks]))
        after = before.filtered(np.stack([_stacked(p) for p in people]), dts[:, None, None], self._params)
        R = calibration.R_world_camera
        for i, (track, poses) in enumerate(zip(tracks, people, strict=True)):
            track.rotations = Rotations(after.Rs[i], after.speed[i])
            track.root.update(poses.world.t_world_root, R @ poses.camera.t_camera_root, float(dts[i]))
        smoothed = self._posed(tracks, after.Rs, np.stack([t.root.position for t in tracks]), people, calibration)
        for track, poses in zip(tracks, smoothed, strict=True):
            track.t_s, track.poses = t_s, poses
        return smoothed

    def predict(self, calibration: CameraCalibration, track_id: int, t_s: float) -> Poses | None:
        """Somebody carried on to `t_s` with nothing seen, or None when unknown or gone too long.

        The root goes on at a fading speed, rotations stay, confidence fades.
        """
        self._reframe(calibration)
        track = self._tracks.get(track_id)
        if track is None or not 0.0 < t_s - track.t_s <= MAX_GAP_S:
            self._tracks.pop(track_id, None)
            return None
        ahead = t_s - track.t_s
        fade = 1.0 - ahead / MAX_GAP_S
        position = track.root.position + track.root.velocity * ahead * (0.5 + 0.5 * fade)
        confidence = track.poses.camera.confidence * fade
        faded = Poses(
            replace(track.poses.world, confidence=confidence), replace(track.poses.camera, confidence=confidence)
        )
        return self._posed([track], track.rotations.Rs[None], position[None], [faded], calibration)[0]

    def _reframe(self, calibration: CameraCalibration) -> None:
        """Moves what is remembered into the world of a new calibration: people did not move, the world did."""
        old, self._calibration = self._calibration, calibration
        if old is None or old is calibration:
            return
        R = calibration.R_world_camera @ old.R_world_camera.T
        t = calibration.t_world_camera - R @ old.t_world_camera
        for track in self._tracks.values():
            world = track.poses.world
            track.poses = replace(track.poses, world=replace(world, t_world_root=R @ world.t_world_root + t))
            track.root.move(R, t)
            track.rotations.Rs = np.concatenate([R[None] @ track.rotations.Rs[:1], track.rotations.Rs[1:]])

    def _posed(
        self, tracks: list[_Track], Rs: Array, positions: Array, people: list[Poses], calibration: CameraCalibration
    ) -> list[Poses]:
        """Records with rotations (P, 25, 3, 3: world root, camera root, joints) and roots at `positions` (P, 3)."""
        betas = [p.camera.betas for p in people]
        same = self._group is not None and len(self._group[0]) == len(betas)
        if self._group is None or not (same and all(a is b for a, b in zip(self._group[0], betas, strict=True))):
            self._group = betas, self._model.shaped(np.stack(betas))
        offsets = self._group[1].posed(np.eye(3), np.zeros(3), Rs[:, 2:]).joints
        in_world = offsets @ np.swapaxes(Rs[:, 0], 1, 2) + positions[:, None]
        roots = (positions - calibration.t_world_camera) @ calibration.R_world_camera
        roots = roots + np.stack([track.moved_m for track in tracks])
        in_camera = offsets @ np.swapaxes(Rs[:, 1], 1, 2) + roots[:, None]
        return [
            Poses(
                replace(p.world, R_world_root=Rs[i, 0], t_world_root=positions[i], Rs_parent_joint=Rs[i, 2:],
                        joints_world_m=in_world[i], velocity_m_s=tracks[i].root.velocity),
                replace(p.camera, R_camera_root=Rs[i, 1], t_camera_root=roots[i], Rs_parent_joint=Rs[i, 2:],
                        joints_camera_m=in_camera[i]),
            )
            for i, p in enumerate(people)
        ]  # fmt: skip


def _stacked(poses: Poses) -> Array:
    """World root, camera root and joints (25, 3, 3)."""
    return np.concatenate([poses.world.R_world_root[None], poses.camera.R_camera_root[None],
                           poses.camera.Rs_parent_joint])  # fmt: skip


def _moved_m(poses: Poses, calibration: CameraCalibration) -> Array:
    """How far (3,) the orientation corrector moved the body from where the picture shows it, in camera axes."""
    there = (poses.world.t_world_root - calibration.t_world_camera) @ calibration.R_world_camera
    return poses.camera.t_camera_root - there
