"""Our own recordings, `.npz`, `.npz.partial` and `.mcap`, read as messages or as the arrays of docs/wire.md."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import messages
from pipeline.messages import PoseMessage
from pipeline.recorder import Columns, journal_messages
from pipeline.schema import SCHEMA_VERSION, Calibration, PersonMessage, array_shapes

_FRAMES = ("index", "t_capture_ns", "t_wall_ns", "t_grab_ns", "t_publish_ns", "t_publish_wall_ns", "dropped")
_PERSON = ("score", "predicted")
_CALIBRATION = ("id", "status", "estimator", "n_samples")
_CALIBRATION_NUMBERS = (
    "focal_px", "focal_spread", "pitch_rad", "roll_rad", "gravity_spread_rad", "camera_height_m", "height_spread_m",
)  # fmt: skip
#: How long to wait for a recording's next message; it lies on a disk.
_WAIT_S = 1.0


def read_columns(path: Path, camera: str | None = None) -> Mapping[str, NDArray[Any]]:
    """Frames' times and indices, the rows of people and the camera's name; keys and shapes as in docs/wire.md.

    Raises ValueError for what is no recording, is empty, is of a newer schema or has another camera than the one
    asked for; OSError when it cannot be read, ImportError when reading it needs a package that is not there.
    """
    columns = _load(path) if path.suffix == ".npz" else columns_of(read_messages(path, camera))
    if not len(columns["t_capture_ns"]):
        raise ValueError(f"{path}: expected a recording of at least one frame, got none.")
    if camera not in (None, str(columns["camera"])):
        raise ValueError(f"{path} is of camera {str(columns['camera'])!r}, not {camera!r}: leave out --camera.")
    return columns


def read_messages(path: Path, camera: str | None = None) -> Iterator[PoseMessage]:
    """The messages of `pose/` of one camera, in order; of several cameras the one that comes first.

    Raises what `read_columns` raises.
    """
    if path.name.endswith(".npz.partial"):
        for raw in journal_messages(path):
            yield _pose(messages.decode(raw)[1])
    elif path.suffix == ".npz":
        yield from messages_of(_load(path))
    elif path.suffix == ".mcap":
        yield from _read_mcap(path, camera)
    else:
        raise ValueError(f"Expected a recording named *.npz, *.npz.partial or *.mcap, got {str(path)!r}.")


def columns_of(poses: Iterable[PoseMessage]) -> Mapping[str, NDArray[Any]]:
    """The arrays of frames and people that `read_columns` gives, of messages."""
    times, indices, camera = [], [], ""
    rows: dict[str, list[Any]] = {name: [] for name in ("person_frame", "person_id", *_PERSON)}
    arrays: dict[str, list[Any]] = {name: [] for name in array_shapes(PersonMessage)}
    for row, pose in enumerate(poses):
        camera = pose.camera
        times.append(pose.t_capture_ns)
        indices.append(pose.index)
        for person in pose.people:
            values = (row, person.id, person.score, person.predicted)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
            for name, column in arrays.items():
                column.append(getattr(person, name))
    kinds = {"score": np.float32, "predicted": np.bool_}
    shapes = array_shapes(PersonMessage)
    return {
        "camera": np.array(camera),
        "t_capture_ns": np.array(times, dtype=np.int64),
        "index": np.array(indices, dtype=np.int64),
        **{name: np.array(column, dtype=kinds.get(name, np.int64)) for name, column in rows.items()},
        **{name: np.array(column).reshape(-1, *shapes[name]) for name, column in arrays.items()},
    }


def messages_of(columns: Mapping[str, NDArray[Any]]) -> Iterator[PoseMessage]:
    """The messages that an .npz recording was made of."""
    calibrations = [_calibration(columns, row) for row in range(len(columns["calibration_id"]))]
    stages = [str(name) for name in columns["stage_names"]]
    bounds = np.searchsorted(columns["person_frame"], np.arange(len(columns["index"]) + 1))
    for row in range(len(columns["index"])):
        times = zip(stages, columns["stages_ms"][row].tolist(), strict=True)
        width, height = columns["size_wh"][row].tolist()
        yield PoseMessage(
            v=int(columns["v"]),
            camera=str(columns["camera"]),
            size_wh=(width, height),
            # the array is float32, the wire has milliseconds to three decimals
            stages_ms={name: round(ms, 3) for name, ms in times if not math.isnan(ms)},
            calibration=calibrations[int(columns["calibration_row"][row])],
            people=tuple(_person(columns, at) for at in range(bounds[row], bounds[row + 1])),
            **{name: int(columns[name][row]) for name in _FRAMES},
        )


def _load(path: Path) -> Columns:
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path}: expected a recording made with --record, but it is none: {error}.") from error
    if missing := {"v", "camera", "person_frame", "t_capture_ns", "quats_parent_joint_xyzw"} - columns.keys():
        raise ValueError(f"{path}: expected a recording made with --record, got an .npz without {sorted(missing)[0]}.")
    if int(columns["v"]) > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema version {int(columns['v'])}, this program knows version {SCHEMA_VERSION}: update it."
        )
    return columns


def _read_mcap(path: Path, camera: str | None) -> Iterator[PoseMessage]:
    from bridges.recorded_feed import RecordedFeed

    with RecordedFeed(path, ("pose",), camera, False, math.inf) as feed:
        while not feed.ended:
            item = feed.receive(_WAIT_S)
            if item is not None:
                yield _pose(item.message)


def _pose(message: messages.Message) -> PoseMessage:
    if not isinstance(message, PoseMessage):
        raise ValueError(f"Expected a message of pose/, got a {type(message).__name__}.")
    return message


def _calibration(columns: Mapping[str, NDArray[Any]], row: int) -> Calibration:
    def value(name: str) -> Any:
        return columns[f"calibration_{name}"][row].tolist()

    fields: dict[str, Any] = {name: value(name) for name in _CALIBRATION}
    fields |= {name: None if math.isnan(value(name)) else value(name) for name in _CALIBRATION_NUMBERS}
    for name in array_shapes(Calibration):
        fields[name] = columns[f"calibration_{name}"][row].astype(np.float64).reshape(-1)
    return Calibration(size_wh=tuple(value("size_wh")), **fields)


def _person(columns: Mapping[str, NDArray[Any]], row: int) -> PersonMessage:
    arrays = {name: columns[name][row].astype(np.float64) for name in array_shapes(PersonMessage)}
    plain = {name: columns[name][row].item() for name in _PERSON}
    return PersonMessage(id=int(columns["person_id"][row]), **plain, **arrays)
