"""Records a stream's own results into an MCAP file: what a subscriber to pose, calibration and status would get."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline import messages
from pipeline.mcap_file import McapWriter
from pipeline.messages import Message, StatusMessage
from pipeline.publisher import CALIBRATION_EVERY_S, CALIBRATION_PAUSE_S, program_version
from pipeline.schema import SCHEMA_VERSION
from pipeline.types import CameraCalibration, FrameResult

log = logging.getLogger(__name__)

STATUS_EVERY_S = 1.0


class McapRecorder:
    """Records the results of one camera into `path`, a new .mcap file; a context manager. Use by one thread.

    Calibrations are kept when they change and once a second, as they are published; so is the status.
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a name that is not .mcap, FileExistsError for a file that is there, OSError."""
        self._file = McapWriter(path)
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self._start_s = time.monotonic()
        self._last: FrameResult | None = None
        self._calibration: CameraCalibration | None = None
        self._calibrated_s = self._status_s = -1e9
        self._frames = self._frames_before = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, result: FrameResult) -> None:
        """Keeps one frame. Raises OSError when the disk is full; what was kept before stays."""
        self._keep("pose", messages.pose_message(result, time.monotonic_ns(), self._now_ns()))
        self._frames, self._last = self._frames + 1, result
        now_s = time.monotonic()
        if self._calibration_due(result.calibration, now_s - self._calibrated_s):
            self._calibration, self._calibrated_s = result.calibration, now_s
            part = messages.calibration_message(result.calibration, time.monotonic_ns(), self._now_ns())
            self._keep("calibration", part)
        if now_s - self._status_s >= STATUS_EVERY_S:
            fps = (self._frames - self._frames_before) / (now_s - self._status_s)
            self._status_s, self._frames_before = now_s, self._frames
            self._keep("status", self._status(result, "running", round(fps, 2)))

    def close(self) -> None:
        """Writes index and end. A second call does nothing. Raises OSError when the disk is full; the file stays."""
        if self._last is not None:
            result, self._last = self._last, None
            try:
                self._keep("status", self._status(result, "ended", 0.0))
            finally:
                self._file.close()
            log.info("Recorded %d frames to %s.", self._frames, self._file.path)
        self._file.close()

    def _calibration_due(self, calibration: CameraCalibration, pause_s: float) -> bool:
        before = self._calibration
        if before is None or calibration.status != before.status or pause_s > CALIBRATION_EVERY_S:
            return True
        return calibration is not before and pause_s > CALIBRATION_PAUSE_S

    def _status(self, result: FrameResult, state: str, fps: float) -> StatusMessage:
        part = messages.calibration_part(result.calibration)
        return StatusMessage(
            v=SCHEMA_VERSION,
            camera=result.camera_id,
            t_publish_ns=time.monotonic_ns(),
            t_publish_wall_ns=self._now_ns(),
            state=state,
            fps=fps,
            people=len(result.people),
            frames=self._frames,
            dropped=result.dropped,
            pose_age_ms=(time.monotonic_ns() - result.t_grab_ns) / 1e6,
            calibration_id=part.id,
            calibration_status=part.status,
            program=program_version(),
            uptime_s=round(time.monotonic() - self._start_s, 3),
        )

    def _keep(self, kind: str, message: Message) -> None:
        self._file.write(messages.encode(kind, message), message, self._now_ns())

    def _now_ns(self) -> int:
        # a system clock that is set meanwhile must not tear the recording apart
        return self._epoch_ns + time.monotonic_ns()
