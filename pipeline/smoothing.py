"""Temporal smoothing per person: every bone's turn, the root's way, and feet that stay where they touch the floor.

Bones are filtered on SO(3) in camera axes (`pipeline.rotation_filter`), the root by a Kalman filter whose noise is
largest along the viewing ray (`pipeline.root_filter`). Feet that touch the floor (`pipeline.contact`) tell where the
root is as well, and the legs reach for them (`pipeline.leg_ik`). dt comes from capture times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.body import BodyModel, ShapedBody
from pipeline.contact import POINTS, Feet, Seen
from pipeline.frames import Array
from pipeline.grouped import joined, one_of, stack
from pipeline.leg_ik import give_way, reach, spare_knees
from pipeline.root_filter import RootFilter, RootNoise
from pipeline.rotation_filter import TurnGains, Turning
from pipeline.skeleton_fit import local_rotations
from pipeline.types import BodyPose, CameraCalibration, WorldPose

#: A person that was not seen for longer is gone; one that comes back later starts afresh.
MAX_GAP_S = 0.3
#: A calibration that moves a person by less from one frame to the next only settles; they come along that slowly.
SETTLES_M, SETTLE_S = 0.10, 6.0
#: The same for a body whose shape is fitted anew.
REGROWN_M = 0.5


@dataclass(frozen=True)
class SmoothingLevel:
    """How strongly to smooth: the bones' turns, and what the root's filter believes of its measurements."""

    turns: TurnGains
    root: RootNoise


_LOW = SmoothingLevel(TurnGains(0.8, 0.6, 0.85, 0.4, 0.2), RootNoise(0.008, 0.03, 12.0))
LEVELS: dict[str, SmoothingLevel | None] = {
    "off": None,
    "low": _LOW,
    "default": SmoothingLevel(TurnGains(0.7, 0.5, 0.7), RootNoise(0.012, 0.06, 6.0)),
    "high": SmoothingLevel(TurnGains(0.55, 0.3, 0.5), RootNoise(0.02, 0.12, 3.0)),
}

_UP = np.array([0.0, 1.0, 0.0])


def level(name: str) -> SmoothingLevel | None:
    """The level called `name`. Raises ValueError naming the ones there are."""
    if name not in LEVELS:
        raise ValueError(f"--smoothing: expected one of {', '.join(LEVELS)}, got {name!r}.")
    return LEVELS[name]


@dataclass(frozen=True, eq=False)
class Poses:
    """One person in both frames."""

    world: WorldPose
    camera: BodyPose


@dataclass(eq=False)
class _Track:
    """What is remembered of one person; `turning` is of P = 1 people.

    moved_m  (3,) from where the body is in the world to where the picture shows it, in camera axes
    aside_m  (3,) how far the settling calibration has moved the measurements since they were believed, in the world
    """

    t_s: float
    turning: Turning
    feet: Feet
    root: RootFilter
    poses: Poses
    moved_m: Array
    aside_m: Array


class PoseSmoother:
    """Both poses of each person smoothed as one body, and carried on for a moment when nobody is seen.

    name_of_level  "off", "low", "default" or "high"
    """

    def __init__(self, model: BodyModel, name_of_level: str = "default") -> None:
        self._model = model
        self._off = level(name_of_level) is None
        self._params = level(name_of_level) or _LOW
        self._tracks: dict[int, _Track] = {}
        self._group: tuple[list[bytes], ShapedBody] | None = None
        self._calibration: CameraCalibration | None = None

    def set_level(self, name: str) -> None:
        """Smooths at another level from the next frame on. Raises ValueError for one that there is not."""
        new, was_off = level(name), self._off
        self._off, self._params = new is None, new or _LOW
        if was_off and not self._off:
            self._tracks.clear()
        for track in self._tracks.values():
            track.root.noise = self._params.root

    def restart(self) -> None:
        """Everybody starts from what they are in the next frame."""
        self._tracks.clear()

    def touching(self, track_id: int) -> tuple[bool, ...]:
        """Which of left ankle, right ankle, left ball, right ball touch the floor; none while smoothing is off."""
        track = self._tracks.get(track_id)
        return (False,) * 4 if track is None or self._off else track.feet.touching

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
                self._tracks[track_id] = self._start(poses, moved, t_s)
            elif self._off:
                velocity = (poses.world.t_world_root - track.poses.world.t_world_root) / (t_s - track.t_s)
                out[i] = track.poses = Poses(replace(poses.world, velocity_m_s=velocity), poses.camera)
                from_camera = calibration.R_world_camera @ poses.camera.t_camera_root
                track.root.update(poses.world.t_world_root, from_camera, t_s - track.t_s)
                track.t_s, track.moved_m = t_s, moved
            else:
                track.moved_m = moved
                known.append(i)
        if known:
            tracks = [self._tracks[track_ids[i]] for i in known]
            for i, poses in zip(known, self._filter(tracks, [people[i] for i in known], calibration, t_s), strict=True):
                out[i] = poses
        return out

    def _start(self, poses: Poses, moved_m: Array, t_s: float) -> _Track:
        turning = Turning.start(_turns(self._shaped([poses]), [poses]))
        feet = Feet(poses.camera.joints_camera_m[POINTS])
        root = RootFilter(poses.world.t_world_root, self._params.root)
        return _Track(t_s, turning, feet, root, poses, moved_m, np.zeros(3))

    def _filter(
        self, tracks: list[_Track], people: list[Poses], calibration: CameraCalibration, t_s: float
    ) -> list[Poses]:
        dts = [t_s - track.t_s for track in tracks]
        shaped = self._shaped(people)
        confidence = stack([p.camera.confidence for p in people])
        turning: Turning = joined([track.turning for track in tracks])
        turning, Rs = turning.filtered(_turns(shaped, people), confidence, np.array(dts), self._params.turns)
        Rs_world_camera = _Rs_world_camera(people)
        Rs = Rs_world_camera[:, None] @ Rs
        joints = shaped.joints_from_root(Rs)
        for i, (track, poses) in enumerate(zip(tracks, people, strict=True)):
            track.turning = one_of(turning, i, len(tracks))
            self._stand(track, poses, Rs[i], joints[i], calibration, dts[i])
        smoothed = self._records(tracks, people, Rs_world_camera, Rs, joints, calibration)
        for track, poses in zip(tracks, smoothed, strict=True):
            track.t_s, track.poses = t_s, poses
        return smoothed

    def _stand(
        self, track: _Track, poses: Poses, Rs: Array, joints: Array, calibration: CameraCalibration, dt_s: float
    ) -> None:
        """Moves joints (24, 3) about the pelvis to where the body is, in place, its feet where they touch the floor."""
        feet, floor_known = track.feet, calibration.camera_height_m is not None
        from_camera = calibration.R_world_camera @ poses.camera.t_camera_root
        away = float(np.sqrt(from_camera @ from_camera))
        track.aside_m = track.aside_m * np.exp(-dt_s / SETTLE_S)
        if poses.camera.betas.tobytes() != track.poses.camera.betas.tobytes():
            track.aside_m = track.aside_m + _regrown(track, poses, dt_s)
        aside = track.aside_m + feet.lift_m * _UP
        world = poses.world.joints_world_m[POINTS] - aside
        camera, offsets = poses.camera.joints_camera_m[POINTS].tolist(), joints[POINTS]
        confidence, view = poses.camera.confidence[POINTS].tolist(), (from_camera / max(away, 1e-6)).tolist()
        feet.look(Seen(camera, world.tolist(), confidence, away, view, floor_known), dt_s)
        held, count = feet.root(offsets.tolist())
        position = track.root.update(poses.world.t_world_root - aside, from_camera, dt_s, held, count)
        track.moved_m = track.moved_m + aside @ calibration.R_world_camera
        goals = feet.place((offsets + position).tolist(), dt_s, floor_known)
        joints += position
        joints += give_way(joints, goals)
        reach(Rs, joints, spare_knees(joints, goals))
        feet.let_go(goals, joints[POINTS].tolist())

    def predict(self, calibration: CameraCalibration, track_id: int, t_s: float) -> Poses | None:
        """Somebody carried on to `t_s` with nothing seen, or None when unknown or gone too long.

        The root goes on at a fading speed over the feet that stand, rotations stay, confidence fades.
        """
        self._reframe(calibration)
        track = self._tracks.get(track_id)
        if track is None or not 0.0 < t_s - track.t_s <= MAX_GAP_S:
            self._tracks.pop(track_id, None)
            return None
        ahead = t_s - track.t_s
        fade = 1.0 - ahead / MAX_GAP_S
        position = track.poses.world.t_world_root + track.root.velocity * ahead * (0.5 + 0.5 * fade)
        confidence = track.poses.camera.confidence * fade
        last = [Poses(replace(track.poses.world, confidence=confidence),
                      replace(track.poses.camera, confidence=confidence))]  # fmt: skip
        shaped, Rs_world_camera = self._shaped(last), _Rs_world_camera(last)
        Rs = Rs_world_camera[:, None] @ _turns(shaped, last)
        joints = shaped.joints_from_root(Rs) + position
        reach(Rs[0], joints[0], track.feet.held(joints[0, POINTS].tolist()))
        return self._records([track], last, Rs_world_camera, Rs, joints, calibration)[0]

    def _reframe(self, calibration: CameraCalibration) -> None:
        """Moves what is remembered into the world of a new calibration: people did not move, the world did.

        Where it moves little it only settles: then people stay, and what is measured of them is moved for a while.
        """
        old, self._calibration = self._calibration, calibration
        if old is None or old is calibration:
            return
        R = calibration.R_world_camera @ old.R_world_camera.T
        before = after = old.t_world_camera
        if old.camera_height_m is None or calibration.camera_height_m is None:
            after = calibration.t_world_camera
        # else the corrector sets people on the floor again, however high the camera
        t = after - R @ before
        # The same picture at another focal length is as much farther away
        farther = np.array([1.0, 1.0, calibration.K[0, 0] / old.K[0, 0]])
        for track in self._tracks.values():
            place = track.poses.camera.t_camera_root
            shift = calibration.R_world_camera @ (place * farther) - old.R_world_camera @ place + after - before
            if np.abs(shift).max() < SETTLES_M:
                track.aside_m = track.aside_m + shift
                continue
            world = track.poses.world
            world = replace(world, R_world_root=R @ world.R_world_root, t_world_root=R @ world.t_world_root + t)
            track.poses = Poses(world, track.poses.camera)
            track.aside_m = R @ track.aside_m
            track.root.move(R, t)
            track.feet.move(R, t)

    def _shaped(self, people: Sequence[Poses]) -> ShapedBody:
        """The people's bodies as one batch, made again only when a shape is another one."""
        key = [p.camera.betas.tobytes() for p in people]
        if self._group is None or self._group[0] != key:
            self._group = key, self._model.shaped(stack([p.camera.betas for p in people]))
        return self._group[1]

    def _records(
        self, tracks: list[_Track], people: list[Poses], Rs_world_camera: Array, Rs: Array, joints: Array,
        calibration: CameraCalibration,
    ) -> list[Poses]:  # fmt: skip
        """Both records of bodies with joints (P, 24, 3) and their turns `Rs` (P, 24, 3, 3), in the world."""
        local = local_rotations(Rs)
        in_camera = np.swapaxes(Rs_world_camera, -1, -2) @ Rs[:, 0]
        positions = joints[:, 0]
        roots = (positions - calibration.t_world_camera) @ calibration.R_world_camera
        roots = roots + stack([track.moved_m for track in tracks])
        joints_camera = (joints - positions[:, None]) @ Rs_world_camera + roots[:, None]
        return [
            Poses(
                WorldPose(Rs[i, 0], positions[i], local[i], p.camera.betas, joints[i], p.world.confidence,
                          tracks[i].root.velocity),
                BodyPose(in_camera[i], roots[i], local[i], p.camera.betas, joints_camera[i], p.camera.confidence),
            )
            for i, p in enumerate(people)
        ]  # fmt: skip


def _turns(shaped: ShapedBody, people: Sequence[Poses]) -> Array:
    """Every joint's turn in the camera (P, 24, 3, 3)."""
    roots = stack([p.camera.R_camera_root for p in people])
    return shaped.posed(roots, np.zeros(3), stack([p.camera.Rs_parent_joint for p in people])).Rs_frame_joint


def _Rs_world_camera(people: Sequence[Poses]) -> Array:
    """What turns each body from the camera into the world (P, 3, 3): the calibration and the root's correction."""
    in_world = stack([p.world.R_world_root for p in people])
    return in_world @ np.swapaxes(stack([p.camera.R_camera_root for p in people]), -1, -2)


def _regrown(track: _Track, poses: Poses, dt_s: float) -> Array:
    """How far (3,) along the floor a body of another size seems to stand from where it was going."""
    expected = track.root.position + dt_s * track.root.velocity + track.aside_m
    jump = (poses.world.t_world_root - expected) * np.array([1.0, 0.0, 1.0])
    return jump if np.abs(jump).max() < REGROWN_M else np.zeros(3)


def _moved_m(poses: Poses, calibration: CameraCalibration) -> Array:
    """How far (3,) the orientation corrector moved the body from where the picture shows it, in camera axes."""
    there = (poses.world.t_world_root - calibration.t_world_camera) @ calibration.R_world_camera
    return poses.camera.t_camera_root - there
