"""`python -m calibration_cache list | show CAMERA | clear CAMERA | clear --all`: look into the store, or empty it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from calibration_cache.store import FOLDER_VARIABLE, CalibrationStore, StoredFile, check_camera_id
from pipeline.frames import pitch_roll_rad

HEADER = ("camera", "size", "focal", "pitch", "roll", "height", "samples", "age", "file")


def age_text(saved_wall_ns: int, now_wall_ns: int) -> str:
    """How long ago, in the largest unit that gives at least 1: `45 s`, `3 min`, `7 h`, `12 d`."""
    seconds = max(0.0, (now_wall_ns - saved_wall_ns) / 1e9)
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def row(stored: StoredFile, now_wall_ns: int) -> tuple[str, ...]:
    """One line of the table, a cell for each of HEADER."""
    camera_id, _, size = stored.path.stem.rpartition("@")
    c = stored.calibration
    if c is None or stored.saved_wall_ns is None:
        return (camera_id, size, f"unusable: {stored.problem}", "", "", "", "", "", stored.path.name)
    pitch, roll = np.degrees(pitch_roll_rad(c.up_camera))
    height = "unknown"
    if c.camera_height_m is not None:
        height = f"{c.camera_height_m:.2f} ± {c.height_spread_m or 0.0:.2f} m"
    return (
        c.camera_id,
        f"{c.size_wh[0]}x{c.size_wh[1]}",
        f"{c.K[0, 0]:.0f} px ± {100 * c.focal_spread:.1f} %",
        f"{pitch:.1f}°",
        f"{roll:.1f}°",
        height,
        str(c.n_samples),
        age_text(stored.saved_wall_ns, now_wall_ns),
        stored.path.name,
    )


def table(stored: Sequence[StoredFile], now_wall_ns: int) -> str:
    """The files as aligned columns under HEADER; those that cannot be used say why on a line of their own."""
    rows = [HEADER, *(row(one, now_wall_ns) for one in stored if one.calibration is not None)]
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]
    lines += [f"{one.path.name} cannot be used: {one.problem}" for one in stored if one.calibration is None]
    return "\n".join(lines)


def details(stored: StoredFile, now_wall_ns: int) -> str:
    """Everything of one file, a quantity on a line."""
    c = stored.calibration
    if c is None or stored.saved_wall_ns is None:
        return f"{stored.path} cannot be used: {stored.problem}"
    labels = dict(zip(HEADER, row(stored, now_wall_ns), strict=True))
    saved = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(stored.saved_wall_ns / 1e9))
    labels |= {
        "age": f"{labels['age']} (saved {saved})",
        "gravity": f"± {np.degrees(c.gravity_spread_rad):.2f}°",
        "fx fy": f"{c.K[0, 0]:.2f} {c.K[1, 1]:.2f} px",
        "cx cy": f"{c.K[0, 2]:.2f} {c.K[1, 2]:.2f} px",
        "distortion": " ".join(f"{k:g}" for k in c.distortion),
        "estimator": c.estimator,
        "id": c.id,
        "file": str(stored.path),
    }
    return "\n".join(f"{label:<11} {text}" for label, text in labels.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m calibration_cache", description="Camera calibrations that are kept between runs."
    )
    parser.add_argument(
        "--calibration-dir", metavar="DIR", help=f"the store's folder (else ${FOLDER_VARIABLE}, else the default)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|show|clear")
    commands.add_parser("list", help="a table of all cameras")
    show = commands.add_parser("show", help="everything about one camera")
    show.add_argument("camera", help="a camera id from `list`")
    clear = commands.add_parser("clear", help="forget one camera, or all of them")
    clear.add_argument("camera", nargs="?", help="a camera id from `list`")
    clear.add_argument("--all", action="store_true", help="forget every camera")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status: 0, 1 when there is no such camera, 2 for arguments that make no sense."""
    parser = _parser()
    options = parser.parse_args(arguments)
    store = CalibrationStore(options.calibration_dir)
    camera = getattr(options, "camera", None)
    if options.command == "clear" and (camera is None) != options.all:
        parser.error("clear takes one camera id or --all; `python -m calibration_cache list` shows the ids.")
    try:
        if camera is not None:
            check_camera_id(camera)
        status, text = _answer(store, options.command, camera)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    (sys.stderr if status else sys.stdout).write(text + "\n")
    return status


def _answer(store: CalibrationStore, command: str, camera: str | None) -> tuple[int, str]:
    stored = store.list() if camera is None else store.show(camera)
    if not stored and camera is not None:
        known = sorted({one.path.stem.rpartition("@")[0] for one in store.list()})
        return 1, f"No calibration of camera {camera} in {store.folder}; stored: {', '.join(known) or 'none'}."
    if command == "clear":
        count = store.clear(camera)
        return 0, f"Removed {count} calibration{'' if count == 1 else 's'} from {store.folder}."
    if not stored:
        return 0, f"No calibrations in {store.folder}; a stream writes one when its camera is calibrated."
    now = time.time_ns()
    if command == "show":
        return 0, "\n\n".join(details(one, now) for one in stored)
    return 0, table(stored, now)


if __name__ == "__main__":
    sys.exit(main())
