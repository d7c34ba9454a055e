"""SONIC's numbers for one person at one moment, and the 50 Hz at which its robot takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from bridges.axes import ros_points
from pipeline import frames
from pipeline.frames import Array
from pipeline.messages import PersonMessage
from pipeline.types import JOINT_NAMES

RATE_HZ = 50
STEP_NS = 1_000_000_000 // RATE_HZ
#: A new start leaves out this many frame numbers, from which their reader sees that it is one.
RESTART_STEP = 100
#: Frames that are kept for messages that repeat them; one more than their reader may be behind.
_KEPT = 256
#: T: their world of ours, z up. M: REP-103's axes of ours.
_R_THEIRS_OURS: Array = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_R_ROS_OURS: Array = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
#: Roll left, right, pitch left, right, yaw left, right: the Unitree G1's limits, radians.
_WRIST_LIMITS_RAD: Array = np.array([1.97, 1.97, 1.61, 1.61, 1.61, 1.61])


@dataclass(frozen=True, eq=False)
class Moment:
    """One person at one capture time, in our axes.

    t_ns        capture time
    Rs          (24, 3, 3) R_world_root, then R_parent_joint of joints 1..23
    joints_m    (24, 3) from the pelvis, in the root's axes
    root_m      (3,) pelvis in the world
    root_m_s    (3,) its velocity
    confidence  (24,)
    wrists      whether their angles are wanted
    """

    t_ns: int
    Rs: Array
    joints_m: Array
    root_m: Array
    root_m_s: Array
    confidence: Array
    wrists: bool


@dataclass(frozen=True, eq=False)
class SonicFrame:
    """One frame of the stream, in SONIC's axes.

    index           counts frames of 20 ms; a new start leaves a hole
    t_ns            its moment on the capture clock
    joints_m        (24, 3) from the pelvis, in the body's axes x forward, y left, z up
    pose_rotvecs    (21, 3) R_parent_joint of SMPL's joints 1..21 as axis times angle, SMPL's axes
    body_quat_wxyz  (4,) the body in their world
    root_m          (3,) pelvis in their world
    root_m_s        (3,) its velocity
    confidence      (24,) 0..1
    wrists_rad      (6,) the robot's roll left, right, pitch left, right, yaw left, right
    """

    index: int
    t_ns: int
    joints_m: Array
    pose_rotvecs: Array
    body_quat_wxyz: Array
    root_m: Array
    root_m_s: Array
    confidence: Array
    wrists_rad: Array


def moment(person: PersonMessage, t_ns: int, wrists: bool = False) -> Moment:
    """A person of a message at its capture time."""
    Rs = frames.from_quat_xyzw(np.vstack([person.quat_world_root_xyzw, person.quats_parent_joint_xyzw]))
    joints = (person.joints_world_m - person.joints_world_m[0]) @ Rs[0]
    return Moment(
        t_ns, Rs, joints, person.t_world_root_m, person.velocity_world_m_s, np.clip(person.confidence, 0.0, 1.0), wrists
    )


def choose(
    people: Sequence[PersonMessage], wanted: int | None, current: int | None, waits: bool
) -> PersonMessage | None:
    """Whom to follow: `wanted`, or else `current` (a track id) while seen, or else the nearest who is really seen.

    None when that one is not in view; `waits` says that `current` may come back, so that nobody else is taken.
    """
    ident = current if wanted is None else wanted
    if ident is not None:
        found = next((p for p in people if p.id == ident), None)
        if found is not None or wanted is not None or waits:
            return found
    seen = [p for p in people if not p.predicted]
    return min(seen, key=lambda p: float(np.linalg.norm(p.t_camera_root_m)), default=None)


class Resampler:
    """Frames of 20 ms between the moments that come; rotations by slerp, the rest linearly. Use by one thread."""

    def __init__(self, gap_s: float) -> None:
        """`gap_s`: moments further apart than this, seconds, are not joined."""
        self._gap_ns = round(gap_s * 1e9)
        self._last: Moment | None = None
        self._next_ns = 0
        self._index = -1
        self._frames: deque[SonicFrame] = deque(maxlen=_KEPT)

    def restart(self) -> None:
        """The next moment is joined to none before."""
        self._last = None
        self._frames.clear()

    def add(self, new: Moment) -> int:
        """How many new frames there are now that this moment is known; a moment that is not later gives none."""
        last = self._last
        if last is not None and not 0 <= new.t_ns - last.t_ns <= self._gap_ns:
            self.restart()
            last = None
        if last is None:
            self._index += 1 if self._index < 0 else RESTART_STEP
            self._next_ns = new.t_ns
            last = new
        before = self._index
        while self._next_ns <= new.t_ns:
            span = new.t_ns - last.t_ns
            self._append(_between(last, new, (self._next_ns - last.t_ns) / span if span else 1.0), self._next_ns)
            self._next_ns += STEP_NS
        self._last = new
        return self._index - before

    def newest(self, count: int) -> list[SonicFrame]:
        """The last `count` frames since the start, oldest first."""
        return list(self._frames)[-count:]

    def _append(self, at: Moment, t_ns: int) -> None:
        body = _R_THEIRS_OURS @ at.Rs[0] @ _R_ROS_OURS.T
        quat = frames.quat_xyzw(body)[[3, 0, 1, 2]]
        if self._frames and quat @ self._frames[-1].body_quat_wxyz < 0:
            quat = -quat
        frame = SonicFrame(
            index=self._index,
            t_ns=t_ns,
            joints_m=ros_points(at.joints_m),
            pose_rotvecs=frames.log_so3(at.Rs[1:22]),
            body_quat_wxyz=quat,
            root_m=_R_THEIRS_OURS @ at.root_m,
            root_m_s=_R_THEIRS_OURS @ at.root_m_s,
            confidence=at.confidence,
            wrists_rad=wrist_angles(at.Rs) if at.wrists else np.zeros(6),
        )
        self._frames.append(frame)
        self._index += 1


def wrist_angles(Rs: Array) -> Array:
    """The G1's wrist angles (6,) of R_parent_joint (rows 1..23 of (24, 3, 3)), radians, within the robot's limits.

    SMPL's elbow bends about y and the rest of its rotation is the forearm's, which the robot has in its wrist: with
    elbow = twist about y times swing, Euler angles x y z of swing and wrist, roll is x of both, pitch y of the wrist,
    yaw z of both; the right arm points the other way. This is what SONIC's own VR teleoperation sends.
    """
    found = np.zeros((3, 2))
    for side, sign in ((0, 1.0), (1, -1.0)):
        elbow = Rotation.from_matrix(Rs[JOINT_NAMES.index(("left_elbow", "right_elbow")[side])])
        _, y, _, w = elbow.as_quat()
        flex = Rotation.from_quat([0.0, y, 0.0, w]) if abs(y) + abs(w) > 1e-9 else Rotation.identity()
        swing = (flex.inv() * elbow).as_euler("XYZ")
        wrist = Rotation.from_matrix(Rs[JOINT_NAMES.index(("left_wrist", "right_wrist")[side])]).as_euler("XYZ")
        found[:, side] = sign * (swing[0] + wrist[0]), sign * wrist[1], swing[2] + wrist[2]
    return np.clip(found.ravel(), -_WRIST_LIMITS_RAD, _WRIST_LIMITS_RAD)


def _between(a: Moment, b: Moment, share: float) -> Moment:
    if share >= 1.0:
        return b
    turn = frames.log_so3(np.swapaxes(a.Rs, -1, -2) @ b.Rs)
    return Moment(
        t_ns=b.t_ns,
        Rs=a.Rs @ frames.exp_so3(share * turn),
        joints_m=a.joints_m + share * (b.joints_m - a.joints_m),
        root_m=a.root_m + share * (b.root_m - a.root_m),
        root_m_s=a.root_m_s + share * (b.root_m_s - a.root_m_s),
        confidence=a.confidence + share * (b.confidence - a.confidence),
        wrists=b.wrists,
    )
