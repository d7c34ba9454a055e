"""Temporal smoothing per person: One Euro on SO(3) for every rotation, a Kalman filter for the root.

Rotations are filtered by the logarithm of the step from the filtered to the measured one (no Euler angles, no
component-wise quaternions), with Casiez et al.'s One Euro rule (CHI 2012) on the step's angular speed. The root is a
constant-velocity Kalman filter whose noise is largest along the viewing ray, where one camera knows least.
dt comes from capture times.
"""

from __future__ import annotations

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


LEVELS: dict[str, SmoothingLevel | None] = {
    "off": None,
    "low": SmoothingLevel(4.0, 2.0, 0.008, 0.03, 12.0),
    "default": SmoothingLevel(2.0, 1.5, 0.012, 0.06, 6.0),
    "high": SmoothingLevel(1.0, 0.7, 0.02, 0.12, 3.0),
}
_SPEED_CUTOFF_HZ = 2.0


def level(name: str) -> SmoothingLevel | None:
    """The level called `name`. Raises ValueError naming the ones there are."""
    if name not in LEVELS:
        raise ValueError(f"--smoothing: expected one of {', '.join(LEVELS)}, got {name!r}.")
    return LEVELS[name]


class RotationFilter:
    """One Euro on a stack of rotations (n, 3, 3)."""

    def __init__(self, Rs: Array, params: SmoothingLevel) -> None:
        self._params = params
        self.Rs = Rs
        self._speed = np.zeros((len(Rs), 1))

    def update(self, Rs: Array, dt_s: float) -> Array:
        """The filtered stack after a measurement `Rs` (n, 3, 3), `dt_s` > 0 seconds after the last."""
        step = log_so3(np.swapaxes(self.Rs, 1, 2) @ Rs)
        speed = np.linalg.norm(step, axis=-1, keepdims=True) / dt_s
        self._speed += _gain(np.array(_SPEED_CUTOFF_HZ), dt_s) * (speed - self._speed)
        gain = _gain(self._params.min_cutoff_hz + self._params.beta * self._speed, dt_s)
        # By way of quaternions, so that rounding never leaves SO(3)
        self.Rs = from_quat_xyzw(quat_xyzw(self.Rs @ exp_so3(gain * step)))
        return self.Rs


def _gain(cutoff_hz: Array, dt_s: float) -> Array:
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
        F = np.eye(6)
        F[:3, 3:] = dt_s * np.eye(3)
        G = np.array([[0.5 * dt_s**2], [dt_s]])
        Q = np.kron(G @ G.T, np.eye(3)) * self._params.acceleration_m_s2**2
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

    @property
    def position(self) -> Array:
        """Metres (3,)."""
        return self._kf.x[:3, 0].copy()

    @property
    def velocity(self) -> Array:
        """Metres a second (3,)."""
        return self._kf.x[3:, 0].copy()


@dataclass(eq=False)
class _Track:
    t_s: float
    rotations: RotationFilter
    root: RootFilter
    shaped: ShapedBody
    world: WorldPose
    body: BodyPose
    moved_m: Array


class PoseSmoother:
    """Both poses of a person smoothed as one body, and carried on for a moment when nobody is seen.

    name_of_level  "off", "low", "default" or "high"
    """

    def __init__(self, model: BodyModel, name_of_level: str = "default") -> None:
        self._model = model
        self._off = level(name_of_level) is None
        self._params = level(name_of_level) or LEVELS["low"]
        self._tracks: dict[int, _Track] = {}

    def __call__(
        self, world: WorldPose, body: BodyPose, calibration: CameraCalibration, track_id: int, t_s: float
    ) -> tuple[WorldPose, BodyPose]:
        """The smoothed pair at capture time `t_s`; a new id, or one after a gap, starts from what is measured."""
        assert self._params is not None
        Rs = np.concatenate([world.R_world_root[None], body.R_camera_root[None], body.Rs_parent_joint])
        R_world_camera = calibration.R_world_camera
        # The corrector may have moved the body in the world; the camera's copy stays where the picture shows it
        moved = body.t_camera_root - (world.t_world_root - calibration.t_world_camera) @ R_world_camera
        track = self._tracks.get(track_id)
        if track is None or not 0.0 < t_s - track.t_s <= MAX_GAP_S:
            root = RootFilter(world.t_world_root, self._params)
            shaped = self._model.shaped(body.betas)
            self._tracks[track_id] = _Track(t_s, RotationFilter(Rs, self._params), root, shaped, world, body, moved)
            return world, body
        dt = t_s - track.t_s
        track.t_s, track.moved_m = t_s, moved
        if track.body.betas is not body.betas:
            track.shaped = self._model.shaped(body.betas)
        position = track.root.update(world.t_world_root, R_world_camera @ body.t_camera_root, dt)
        if self._off:
            world = replace(world, velocity_m_s=(world.t_world_root - track.world.t_world_root) / dt)
        else:
            world, body = _posed(track, track.rotations.update(Rs, dt), position, world, body, calibration)
        track.world, track.body = world, body
        return world, body

    def predict(self, calibration: CameraCalibration, track_id: int, t_s: float) -> tuple[WorldPose, BodyPose] | None:
        """The pair carried on to `t_s` with nothing seen, or None when the person is unknown or gone too long.

        The root goes on at a fading speed, rotations stay, confidence fades.
        """
        track = self._tracks.get(track_id)
        if track is None or not 0.0 < t_s - track.t_s <= MAX_GAP_S:
            self._tracks.pop(track_id, None)
            return None
        ahead = t_s - track.t_s
        fade = 1.0 - ahead / MAX_GAP_S
        position = track.world.t_world_root + track.root.velocity * ahead * (0.5 + 0.5 * fade)
        Rs = np.concatenate(
            [track.world.R_world_root[None], track.body.R_camera_root[None], track.body.Rs_parent_joint]
        )
        confidence = track.body.confidence * fade
        world, body = replace(track.world, confidence=confidence), replace(track.body, confidence=confidence)
        return _posed(track, Rs, position, world, body, calibration)

    def forget(self, track_id: int) -> None:
        """Drops what is known of a person."""
        self._tracks.pop(track_id, None)


def _posed(
    track: _Track, Rs: Array, position: Array, world: WorldPose, body: BodyPose, calibration: CameraCalibration
) -> tuple[WorldPose, BodyPose]:
    """Both records with rotations (25, 3, 3: world root, camera root, joints) and the root at `position` (3,)."""
    offsets = track.shaped.posed(np.eye(3), np.zeros(3), Rs[2:]).joints
    t_camera = (position - calibration.t_world_camera) @ calibration.R_world_camera + track.moved_m
    return (
        replace(world, R_world_root=Rs[0], t_world_root=position, Rs_parent_joint=Rs[2:],
                joints_world_m=offsets @ Rs[0].T + position, velocity_m_s=track.root.velocity),
        replace(body, R_camera_root=Rs[1], t_camera_root=t_camera, Rs_parent_joint=Rs[2:],
                joints_camera_m=offsets @ Rs[1].T + t_camera),
    )  # fmt: skip
