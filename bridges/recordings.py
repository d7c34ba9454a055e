"""Reads recordings of every kind, and when their messages are due again.

for recorded in read_recording(path): ...          messages in order, as bytes
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import msgspec

from pipeline.mcap_file import MAGIC as MCAP_MAGIC
from pipeline.mcap_file import Recorded, read_mcap
from pipeline.recorder import MAGIC as JOURNAL_MAGIC
from pipeline.recorder import journal_messages

#: A capture time further from the time of recording than this is a time in a file, not on a clock.
FILE_TIME_NS = 3_600_000_000_000
_EXPECTED = "expected a recording, x.mcap of python -m bridges.record or run_stream.py --record, or x.npz.partial"


class _Times(msgspec.Struct):
    t_wall_ns: int
    t_publish_wall_ns: int


def read_recording(path: Path) -> Iterator[Recorded]:
    """The messages of an .mcap file, or of the journal x.npz.partial; a cut end is logged.

    Raises ValueError for a file that is neither, OSError for one that cannot be read, at once.
    """
    with open(path, "rb") as file:
        start = file.read(max(len(MCAP_MAGIC), len(JOURNAL_MAGIC)))
    if start.startswith(MCAP_MAGIC):
        found = read_mcap(path)
    elif start == JOURNAL_MAGIC:
        found = (Recorded(raw, _times(raw).t_publish_wall_ns) for raw in journal_messages(path))
    else:
        what = "an .npz file, which holds arrays" if path.suffix == ".npz" else f"one that starts with {start[:8]!r}"
        raise ValueError(f"{path}: {_EXPECTED}, got {what}.")
    first = next(found, None)
    return iter(()) if first is None else chain([first], found)


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
