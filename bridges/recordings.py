"""Reads recordings of every kind, and when their messages are due again.

for recorded in read_recording(path): ...          messages in order, as bytes
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import msgspec

from pipeline import messages
from pipeline.mcap_file import MAGIC as MCAP_MAGIC
from pipeline.mcap_file import Recorded, read_mcap
from pipeline.messages import CalibrationMessage, PoseMessage
from pipeline.recorder import MAGIC as JOURNAL_MAGIC
from pipeline.recorder import journal_messages

#: A capture time further from the time of recording than this is a time in a file, not on a clock.
FILE_TIME_NS = 3_600_000_000_000
_ZIP_MAGIC = b"PK\3\4"


class _Times(msgspec.Struct):
    t_wall_ns: int
    t_publish_wall_ns: int


def read_recording(path: Path) -> Iterator[Recorded]:
    """The messages of an .mcap file, of an .npz file or of its journal x.npz.partial; a cut end is logged.

    Those of .npz are made again from its arrays, equal but for the score's last digits. It and its journal hold poses
    only, so calibrations are made of theirs, when they change. Raises ValueError for a file that is no recording,
    OSError for one that cannot be read, at once.
    """
    with open(path, "rb") as file:
        start = file.read(max(len(MCAP_MAGIC), len(JOURNAL_MAGIC)))
    if start.startswith(MCAP_MAGIC):
        found = read_mcap(path)
    elif start == JOURNAL_MAGIC:
        found = _calibrated(Recorded(raw, _times(raw).t_publish_wall_ns) for raw in journal_messages(path))
    elif start.startswith(_ZIP_MAGIC):
        found = _calibrated(_read_arrays(path))
    else:
        raise ValueError(
            f"{path}: expected a recording (.mcap, .npz or .npz.partial, as python -m bridges.record and run_stream.py "
            f"--record make them), got a file that starts with {start[:8]!r}."
        )
    first = next(found, None)
    return iter(()) if first is None else chain([first], found)


def _read_arrays(path: Path) -> Iterator[Recorded]:
    from bridges.formats.recording import read_messages

    for message in read_messages(path):
        yield Recorded(messages.encode("pose", message), message.t_publish_wall_ns)


def _calibrated(poses: Iterable[Recorded]) -> Iterator[Recorded]:
    before = None
    for recorded in poses:
        pose = messages.decode(recorded.raw)[1]
        if isinstance(pose, PoseMessage) and (pose.calibration.id, pose.calibration.status) != before:
            before = pose.calibration.id, pose.calibration.status
            made = CalibrationMessage(pose.v, pose.camera, pose.t_publish_ns, pose.t_publish_wall_ns, pose.calibration)
            yield Recorded(messages.encode("calibration", made), recorded.log_time_ns)
        yield recorded


def _times(raw: bytes) -> _Times:
    """The times of a pose; ValueError for something else."""
    try:
        return msgspec.msgpack.decode(raw.partition(b"\0")[2], type=_Times)
    except msgspec.MsgspecError as error:
        raise ValueError(f"a pose message without times: {error}") from error


class Timeline:
    """Seconds from the first message of a recording to each one, as they were taken.

    They follow the recording's log times. Poses of a file that was processed at its own pace, slower or faster than
    its camera, follow their capture times in that file, and what comes between two poses comes with the first. A time
    that goes back, as between two recordings in one file, counts as none.
    """

    def __init__(self) -> None:
        self._at_s = 0.0
        self._in_file = False
        self._before_ns: int | None = None

    def at_s(self, recorded: Recorded) -> float:
        """Seconds since the first message, of the one after that which was asked for before."""
        if recorded.raw.startswith(b"pose/"):
            t_ns = recorded.log_time_ns
            try:
                t_wall_ns = _times(recorded.raw).t_wall_ns
            except ValueError:
                t_wall_ns = t_ns
            in_file = abs(t_wall_ns - t_ns) > FILE_TIME_NS
            self._advance(t_wall_ns if in_file else t_ns, in_file)
        elif not self._in_file:
            self._advance(recorded.log_time_ns, False)
        return self._at_s

    def _advance(self, t_ns: int, in_file: bool) -> None:
        if self._before_ns is not None and in_file == self._in_file:
            self._at_s += max(0, t_ns - self._before_ns) / 1e9
        self._before_ns, self._in_file = t_ns, in_file
