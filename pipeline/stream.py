"""The stream: one camera's frames through every stage, in the order of the list in `process`. Start reading here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from pipeline.clock import StageClock
from pipeline.contact import ABOVE_SOLE_M, POINTS
from pipeline.frames import Array
from pipeline.limited_log import LimitedLog
from pipeline.orientation import OrientationCorrector
from pipeline.recovery import Recovery
from pipeline.scene_watch import SceneWatch
from pipeline.smoothing import Poses, PoseSmoother
from pipeline.source_base import Source, SourceState
from pipeline.types import CalibrationStatus, CameraCalibration, Detection, Frame, FrameResult, Person

log = logging.getLogger(__name__)

#: A person who is gone for longer than this comes back as a stranger to every stage.
REMEMBER_S = 10.0
KEEP_EVERY_S = 10.0
READ_TIMEOUT_S = 0.1
#: Feet that are seen less surely do not tell where the floor is.
STANDS_CONFIDENCE = 0.3
_BAD_FRAME = (ValueError, ArithmeticError, np.linalg.LinAlgError, cv2.error)


class Detector(Protocol):
    """Finds and follows people: `pipeline.detector` has the ones there are."""

    def __call__(self, frame: Frame, clock: StageClock) -> tuple[Detection, ...]:
        """Everybody in the frame, each with an id that stays."""
        ...


class Calibrates(Protocol):
    """Follows one camera: `pipeline.calibration` has the one for landmarks."""

    @property
    def current(self) -> CameraCalibration:
        """The calibration as it stands."""
        ...

    def update(self, t_s: float, detections: Sequence[Detection]) -> CameraCalibration:
        """Takes what was seen at `t_s` seconds."""
        ...

    def camera_moved(self, t_s: float) -> CameraCalibration:
        """What was known of gravity and height is void."""
        ...

    def set_floor(self, points_m: Array, above_m: Array) -> CameraCalibration:
        """Points (n, 3) in the camera are (n,) metres above the floor."""
        ...

    def resize(self, grown: dict[int, float]) -> None:
        """People turned out so many times as large, by track id."""
        ...


class Keeps(Protocol):
    """Keeps calibrations for the next start: `calibration_cache.store` does."""

    def save(self, calibration: CameraCalibration) -> Path | None:
        """Where it is kept, or None when it is not."""
        ...

    def clear(self, camera_id: str) -> int:
        """Forgets those of one camera; how many there were."""
        ...


@runtime_checkable
class Sighted(Protocol):
    """A calibrator or recovery that wants the picture itself."""

    def see(self, frame: Frame) -> None:
        """Takes the frame that its next call is about."""
        ...


class Sink(Protocol):
    """Takes what the stream makes of each frame."""

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Must not block."""
        ...


class Stream:
    """Owns the stages of one camera and what they remember; for one thread.

    calibrator_for  makes the calibrator once the size of the pictures is known, and again if it changes
    store           is given calibrations worth keeping, now and then and at the end; None: nobody keeps them
    corrector       sets bodies upright in the world; None: the default
    """

    def __init__(
        self,
        detector: Detector,
        calibrator_for: Callable[[str, tuple[int, int]], Calibrates],
        recovery: Recovery,
        smoother: PoseSmoother,
        store: Keeps | None = None,
        corrector: OrientationCorrector | None = None,
    ) -> None:
        self._detector = detector
        self._calibrator_for = calibrator_for
        self._recovery = recovery
        self._corrector = corrector or OrientationCorrector()
        self._smoother = smoother
        self._store = store
        self._kept: CameraCalibration | None = None
        self._next_keep_s = 0.0
        self._calibrator: Calibrates | None = None
        self._watch: SceneWatch | None = None
        self._sighted: list[Sighted] = []
        self._size_wh = (0, 0)
        self._seen: dict[int, tuple[float, Detection]] = {}
        self._people: tuple[Person, ...] = ()
        self.clock = StageClock()
        self.bad_frames = 0
        self._bad_log = LimitedLog(log)

    @property
    def calibration(self) -> CameraCalibration | None:
        """The camera's calibration as it stands, or None before the first frame."""
        return None if self._calibrator is None else self._calibrator.current

    def process(self, frame: Frame, dropped: int = 0) -> FrameResult:
        """One frame through detection, calibration, recovery, orientation correction and smoothing."""
        clock, t_s = self.clock, frame.t_capture_ns / 1e9
        if self._calibrator is None or self._watch is None or frame.size_wh != self._size_wh:
            self._calibrator = self._calibrator_for(frame.camera_id, frame.size_wh)
            self._watch = SceneWatch(frame.camera_id)
            self._sighted = [stage for stage in (self._calibrator, self._recovery) if isinstance(stage, Sighted)]
            self._size_wh = frame.size_wh
        detections = self._detector(frame, clock)
        for stage in self._sighted:
            stage.see(frame)
        with clock.stage("calibration"):
            if self._watch.moved(t_s, frame.image, detections):
                calibration = self._calibrator.camera_moved(t_s)
                self._corrector.keep_only(set())
            else:
                calibration = self._calibrator.update(t_s, detections)
        with clock.stage("recovery"):
            bodies = self._recovery(detections, calibration, t_s)
        found = [(d, b) for d, b in zip(detections, bodies, strict=True) if b is not None]
        ids = [d.track_id for d, _ in found]
        self._seen.update({d.track_id: (t_s, d) for d, _ in found})
        with clock.stage("orientation"):
            worlds = self._corrector([b for _, b in found], calibration, ids, t_s)
        with clock.stage("smoothing"):
            poses = [Poses(world, body) for world, (_, body) in zip(worlds, found, strict=True)]
            poses = self._smoother(poses, calibration, ids, t_s)
        people = [
            Person(d.track_id, d.box_xyxy, d.score, p.camera, p.world) for (d, _), p in zip(found, poses, strict=True)
        ]
        with clock.stage("smoothing"):
            people += self._missed(set(ids), calibration, t_s)
        people.sort(key=lambda p: p.track_id)
        self._people = tuple(people)
        return FrameResult(
            camera_id=frame.camera_id, index=frame.index, t_capture_ns=frame.t_capture_ns, t_wall_ns=frame.t_wall_ns,
            t_grab_ns=frame.t_grab_ns, size_wh=frame.size_wh, dropped=dropped, stages_ms=clock.take(),
            calibration=calibration, people=self._people,
        )  # fmt: skip

    def recalibrate(self) -> int:
        """Forgets the calibration, and what was kept of it; how much that was. Between two frames.

        The next frame starts from what `calibrator_for` gives then. Raises OSError when that cannot be removed.
        """
        known, forgotten = self.calibration, 0
        if self._store is not None and known is not None:
            forgotten = self._store.clear(known.camera_id)
        self._calibrator = self._kept = None
        self._corrector.keep_only(set())
        return forgotten

    def save(self) -> Path:
        """Keeps the calibration now; where. Raises ValueError when it is not ready or nobody keeps any."""
        calibration = self.calibration
        if calibration is None or calibration.status is not CalibrationStatus.CALIBRATED:
            status = CalibrationStatus.UNCALIBRATED if calibration is None else calibration.status
            raise ValueError(f"Not saved: expected a calibration that is calibrated, this one is {status}.")
        where = None if self._store is None else self._store.save(calibration)
        if where is None:
            raise ValueError(
                "Not saved: this stream keeps no calibrations; start it with --calibration-dir DIR, without --no-cache."
            )
        self._kept = calibration
        return where

    def set_floor(self) -> CameraCalibration | None:
        """The floor is where those who were just seen have their feet, until the camera moves. Between two frames.

        The calibration with its new height; None when no foot of anybody is seen to stand.
        """
        feet: list[tuple[Array, float]] = []
        for person in self._people:
            if not person.predicted and min(person.camera.confidence[POINTS]) > STANDS_CONFIDENCE:
                touching, points = self._smoother.touching(person.track_id), person.camera.joints_camera_m[POINTS]
                feet += [(p, a) for p, a, t in zip(points, ABOVE_SOLE_M, touching, strict=True) if t]
        if self._calibrator is None or not feet:
            return None
        return self._calibrator.set_floor(np.stack([p for p, _ in feet]), np.array([above for _, above in feet]))

    def set_person_height(self, height_m: float) -> None:
        """People are `height_m` tall from now on. Between two frames. Raises ValueError outside 0.5 to 2.5 metres."""
        grown = self._recovery.set_height(height_m)
        self._smoother.restart()
        if self._calibrator is not None:
            self._calibrator.resize(grown)

    def set_smoothing(self, level: str) -> None:
        """Smooths at another level. Between two frames. Raises ValueError for one that there is not."""
        self._smoother.set_level(level)

    def _missed(self, found: set[int], calibration: CameraCalibration, t_s: float) -> list[Person]:
        """The people who were there a moment ago, carried on; forgets those who are long gone."""
        people = []
        for track_id, (seen_s, detection) in list(self._seen.items()):
            if track_id in found:
                continue
            if not 0.0 <= t_s - seen_s <= REMEMBER_S:
                del self._seen[track_id]
                self._recovery.keep_only(set(self._seen))
                self._corrector.keep_only(set(self._seen))
                continue
            carried = self._smoother.predict(calibration, track_id, t_s)
            if carried is not None:
                box, score = detection.box_xyxy, detection.score
                people.append(Person(track_id, box, score, carried.camera, carried.world, predicted=True))
        return people

    def run(
        self,
        source: Source,
        sinks: Sequence[Sink],
        stop: threading.Event,
        idle: Callable[[Source], None] = lambda source: None,
    ) -> None:
        """Frames from `source` to every sink until it ends or `stop` is set.

        `idle` is called after every frame and at least ten times a second without one. A frame that a stage cannot
        take is counted, logged at a limited rate and left out.
        """
        try:
            while not stop.is_set():
                frame = source.read(READ_TIMEOUT_S)
                if frame is not None:
                    self._one(frame, source, sinks)
                elif source.state is SourceState.ENDED:
                    return
                idle(source)
        finally:
            self._keep_calibration(force=True)

    def _one(self, frame: Frame, source: Source, sinks: Sequence[Sink]) -> None:
        try:
            result = self.process(frame, source.dropped)
        except _BAD_FRAME as error:
            self.clock.take()
            self.bad_frames += 1
            self._bad_log.warning("Frame %d of %s could not be used: %s", frame.index, frame.camera_id, error)
            log.debug("Where it failed:", exc_info=True)
            return
        for sink in sinks:
            sink(frame, result)
        self._keep_calibration()

    def _keep_calibration(self, force: bool = False) -> None:
        now, calibration = time.monotonic(), self.calibration
        if calibration is None or calibration.status is not CalibrationStatus.CALIBRATED or self._store is None:
            return
        if calibration is not self._kept and (force or now >= self._next_keep_s):
            self._kept, self._next_keep_s = calibration, now + KEEP_EVERY_S
            self._store.save(calibration)
