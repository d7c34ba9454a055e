"""Keeps every published pose: a journal while the stream runs, an npz file of plain arrays when it ends.

The journal `out.npz.partial` gets each frame when it happens, without a buffer of ours, so a kill of the program loses
nothing (a power cut may lose what the system had not written yet). It is a magic line and then, for each frame,
`<length><crc32>` as little-endian uint32 and the whole message of topic `pose/`. Closing turns it into `out.npz`;
after a kill the next Recorder of that path, or this command, does::

    python -m pipeline.recorder recover out.npz.partial
"""

from __future__ import annotations

import argparse
import logging
import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline import messages
from pipeline.schema import SCHEMA_VERSION, WORLD_AXES, Calibration, PersonMessage, array_shapes
from pipeline.types import JOINT_NAMES, JOINT_PARENTS, FrameResult

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

MAGIC = b"whmr-stream pose journal 1\n"
_HEADER = struct.Struct("<II")
#: No frame is longer; a length above this is damage.
_LONGEST = 1 << 26
_FRAME_FIELDS = (
    "index", "size_wh", "t_capture_ns", "t_wall_ns", "t_grab_ns", "t_publish_ns", "t_publish_wall_ns", "dropped",
    "calibration_row",
)  # fmt: skip
_PERSON_FIELDS = {"person_frame": np.int64, "person_id": np.int64, "score": np.float32, "predicted": np.bool_}
_CALIBRATION_FIELDS = {
    "id": str, "status": str, "estimator": str, "n_samples": np.int64, "size_wh": np.int64,
    "focal_px": float, "focal_spread": float, "pitch_rad": float, "roll_rad": float,
    "gravity_spread_rad": float, "camera_height_m": float, "height_spread_m": float,
}  # fmt: skip

Columns = dict[str, NDArray[np.generic]]


class Recorder:
    """Records the results of one camera into `path`, which must end in .npz. Use by one thread.

    What an earlier, killed program left beside `path` is turned into an npz file first, under a name that is free.
    """

    def __init__(self, path: Path) -> None:
        """Opens the journal.

        Raises ValueError for a name that is not .npz, FileExistsError when `path` is there already, OSError when its
        folder cannot be written or another program is recording to it.
        """
        if path.suffix != ".npz":
            raise ValueError(
                f"A recording is an .npz file or an .mcap file, got {str(path)!r}: type --record {path.stem}.npz."
            )
        if path.exists():
            raise FileExistsError(f"{path} exists already: name another file for --record, or remove this one.")
        self.path, self.partial = path, partial_path(path)
        if self.partial.exists():
            recovered = recover(self.partial, free_name(path.with_name(f"{path.stem}.recovered.npz")))
            log.warning("%s was left by a program that was killed; it is now %s.", self.partial, recovered)
        try:
            self._journal = open(self.partial, "xb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise OSError(
                f"Cannot record to {self.partial}: {error.strerror}; name another file for --record."
            ) from error
        _lock(self._journal, self.partial)
        self._journal.write(MAGIC)
        self.frames = 0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, result: FrameResult) -> None:
        """Keeps one frame. Raises OSError when the disk is full; what was kept before stays."""
        data = messages.encode("pose", messages.pose_message(result, time.monotonic_ns(), time.time_ns()))
        record = _HEADER.pack(len(data), zlib.crc32(data)) + data
        start = self._journal.tell()
        try:
            written, reason = self._journal.write(record), "the disk is full"
        except OSError as error:
            written, reason = 0, str(error.strerror)
        if written != len(record):
            self._journal.seek(start)
            self._journal.truncate()
            raise OSError(
                f"Frame {result.index} was not recorded, {reason}: {self.partial} keeps {self.frames} frames."
            )
        self.frames += 1

    def close(self) -> None:
        """Writes the npz file and removes the journal. A second call does nothing.

        Takes about a second for each ten minutes of one person at 30 Hz; killed before its end, the journal stays.
        """
        if self._journal.closed:
            return
        target = free_name(self.path)
        try:
            _write_npz(target, compile_journal(self.partial))
        except OSError as error:
            raise OSError(
                f"Cannot write {target}: {error.strerror}; the recording stays in {self.partial}, type later: "
                f"python -m pipeline.recorder recover {self.partial}"
            ) from error
        finally:
            self._journal.close()
        self.partial.unlink()
        log.info("Recorded %d frames to %s.", self.frames, target)


def partial_path(path: Path) -> Path:
    """The journal beside a recording."""
    return path.with_name(path.name + ".partial")


def free_name(path: Path) -> Path:
    """`path`, or where that exists the first of `name-2.npz`, `name-3.npz`, ... that does not."""
    names = (path if n == 1 else path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(1, 10_000))
    return next(name for name in names if not name.exists())


def recover(partial: Path, target: Path) -> Path:
    """Makes `target` from a journal that nobody writes any more, removes the journal, returns `target`.

    Raises ValueError when it is no journal, FileExistsError when `target` exists, OSError while a recorder has it open.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already: name another file with --out.")
    with open(partial, "rb") as journal:
        _lock(journal, partial)
        _write_npz(target, compile_journal(partial))
        partial.unlink()
    return target


def read_journal(partial: Path) -> Iterator[dict[str, Any]]:
    """The fields of each PoseMessage of a journal, arrays still blobs; raises and logs as `journal_messages`."""
    return (msgspec.msgpack.decode(data.partition(b"\0")[2]) for data in journal_messages(partial))


def journal_messages(partial: Path) -> Iterator[bytes]:
    """The whole message of each frame of a journal, topic and all, up to its end or to the first damaged one.

    Damage is logged. Raises ValueError when it is no journal.
    """
    with open(partial, "rb") as journal:
        magic = journal.read(len(MAGIC))
        if not MAGIC.startswith(magic):
            raise ValueError(f"{partial}: expected a recording's journal, which starts with {MAGIC!r}, got {magic!r}.")
        good = journal.tell()
        while len(header := journal.read(_HEADER.size)) == _HEADER.size:
            length, crc = _HEADER.unpack(header)
            data = journal.read(length) if length <= _LONGEST else b""
            if len(data) != length or zlib.crc32(data) != crc:
                break
            good = journal.tell()
            yield data
    if lost := partial.stat().st_size - good:
        log.warning("%s ends with a frame that is cut: %d bytes are left out.", partial, lost)


def compile_journal(partial: Path) -> Columns:
    """The arrays of a recording; docs/wire.md lists them. Raises ValueError when it is no journal."""
    tables = _Tables()
    for message in read_journal(partial):
        tables.add(message)
    return tables.columns()


class _Tables:
    """Three tables that grow: a row for each frame, for each person of a frame, for each calibration."""

    def __init__(self) -> None:
        self.camera = ""
        self.frames: dict[str, list[Any]] = {name: [] for name in _FRAME_FIELDS}
        self.stages: list[dict[str, float]] = []
        self.people: dict[str, list[Any]] = {name: [] for name in _PERSON_FIELDS}
        self.blobs = {name: bytearray() for name in array_shapes(PersonMessage)}
        self.calibrations: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}

    def add(self, message: dict[str, Any]) -> None:
        part = message["calibration"]
        row, _ = self.calibrations.setdefault((part["id"], part["status"]), (len(self.calibrations), part))
        self.camera = message["camera"]
        for person in message["people"]:
            fields = {"person_frame": len(self.stages), "person_id": person["id"], **person}
            for name, column in self.people.items():
                column.append(fields[name])
            for name, blob in self.blobs.items():
                blob += person[name]
        for name, column in self.frames.items():
            column.append(row if name == "calibration_row" else message[name])
        self.stages.append(message["stages_ms"])

    def columns(self) -> Columns:
        columns: Columns = {
            "v": np.array(SCHEMA_VERSION),
            "camera": np.array(self.camera),
            "joint_names": np.array(JOINT_NAMES),
            "joint_parents": np.array(JOINT_PARENTS),
            "world_axes": np.array(WORLD_AXES),
        }
        columns |= {name: np.array(rows, dtype=np.int64) for name, rows in self.frames.items()}
        columns["size_wh"] = columns["size_wh"].reshape(-1, 2)
        names = list(dict.fromkeys(name for stages in self.stages for name in stages))
        times = [[stages.get(name, np.nan) for name in names] for stages in self.stages]
        columns["stage_names"] = np.array(names, dtype=str)
        columns["stages_ms"] = np.array(times, dtype=np.float32).reshape(len(times), len(names))
        columns |= {name: np.array(self.people[name], dtype=dtype) for name, dtype in _PERSON_FIELDS.items()}
        columns |= _arrays(self.blobs, PersonMessage)
        return columns | self._calibration_columns()

    def _calibration_columns(self) -> Columns:
        parts = [part for _, part in self.calibrations.values()]
        blobs = {name: b"".join(part[name] for part in parts) for name in array_shapes(Calibration)}
        columns: Columns = {}
        for name, dtype in _CALIBRATION_FIELDS.items():
            columns[name] = np.array([part[name] for part in parts], dtype=dtype)
        columns["size_wh"] = columns["size_wh"].reshape(-1, 2)
        return {f"calibration_{name}": column for name, column in (columns | _arrays(blobs, Calibration)).items()}


def _arrays(blobs: Mapping[str, bytes | bytearray], record: type) -> Columns:
    shapes = array_shapes(record)
    return {name: np.frombuffer(blob, dtype="<f4").reshape(-1, *shapes[name]) for name, blob in blobs.items()}


def _write_npz(target: Path, columns: Columns) -> None:
    """All of the file or none of it: written beside `target`, then moved there."""
    beside = target.with_name(target.name + ".writing")
    try:
        with open(beside, "wb") as file:
            np.savez(file, allow_pickle=False, **columns)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _lock(journal: BinaryIO | FileIO, partial: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(journal.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OSError(f"{partial} is being recorded by another program: name another file for --record.") from error


def main(arguments: list[str] | None = None) -> int:
    """The command line that recovers a recording; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.recorder", description="Save a recording that was cut.")
    parser.add_argument("command", choices=["recover"])
    parser.add_argument("partial", type=Path, help="the journal, *.npz.partial")
    parser.add_argument("--out", type=Path, help="default: the journal's name without .partial")
    options = parser.parse_args(arguments)
    target = options.out or options.partial.with_suffix("")
    try:
        recover(options.partial, target)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
