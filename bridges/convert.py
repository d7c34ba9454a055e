"""Turns a recording into a file of another tool's: BVH, GLB, AMASS npz, USD, FBX, C3D, CSV, MCAP.

    python -m bridges.convert walk.npz walk.bvh

docs/bridges.md says what each tool wants; the modules of `bridges.formats` say what is in each file.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridges.feed import bridge_parser, exit_status, positive
from bridges.formats import FORMATS, Format
from bridges.formats.recording import read_columns
from bridges.motion import Motion, Scene, held, motions, nominal_fps

log = logging.getLogger(__name__)

PROG = "python -m bridges.convert"
EXAMPLE = """python -m bridges.convert walk.npz walk.bvh
python -m bridges.convert walk.npz walk.glb --start 2 --end 8
python -m bridges.convert two.mcap two.fbx --person 1 --fps 60"""


@dataclass(frozen=True)
class Choice:
    """What of a recording goes into files, and how.

    person      an id, or None for everybody
    camera      of a recording with several, or None
    start_s     seconds since the recording's first frame
    end_s       as `start_s`
    fps         frames a second of the files, or None: the recording's
    max_gap_s   a person who is missing for longer begins a new take; shorter gaps are interpolated
    min_take_s  takes that are shorter are left out
    hold        no takes: the last pose stays while a person is missing, and everybody has all frames
    """

    person: int | None = None
    camera: str | None = None
    start_s: float = 0.0
    end_s: float = math.inf
    fps: float | None = None
    max_gap_s: float = 0.5
    min_take_s: float = 0.5
    hold: bool = False


def people(recording: Path, choice: Choice) -> tuple[tuple[tuple[Motion, ...], ...], float]:
    """The takes of each person of a recording, all sampled at the same moments, and the frames a second.

    Raises ValueError when nobody is left, and what `read_columns` raises.
    """
    columns = read_columns(recording, choice.camera)
    fps = choice.fps or nominal_fps(columns["t_capture_ns"])
    everybody = motions(columns)
    ids = [motion.person_id for motion in everybody]
    if choice.person is not None and choice.person not in ids:
        raise ValueError(f"{recording} has no person {choice.person}: it has {_listed(ids)}.")
    chosen = [m for m in everybody if choice.person in (None, m.person_id)]
    kept = [takes for motion in chosen if (takes := _takes(motion, choice, fps))]
    if not kept:
        raise ValueError(
            f"Nobody is in {recording} for {choice.min_take_s:g} s between --start and --end: it has {_listed(ids)}; "
            "a smaller --min-take keeps shorter takes."
        )
    if choice.hold:
        scene = Scene(tuple(kept), fps)
        kept = [(held(takes, fps, scene.first, scene.count),) for takes in kept]
    return tuple(kept), fps


def _takes(motion: Motion, choice: Choice, fps: float) -> tuple[Motion, ...]:
    part = motion.between(choice.start_s, choice.end_s)
    takes = part.takes(choice.max_gap_s) if part else []
    long = [take for take in takes if take.times_s[-1] - take.times_s[0] >= choice.min_take_s - 1e-9]
    if len(long) < len(takes):
        count, label = len(takes) - len(long), f"person {motion.person_id}"
        log.warning("%d take(s) of %s are left out: shorter than %g s.", count, label, choice.min_take_s)
    return tuple(sampled for take in long if (sampled := take.resampled(fps)))


def files(out: Path, scene: Scene, split: bool, alone: bool) -> Iterator[tuple[Path, Scene]]:
    """What goes where: everything into `out`, or `out-person1.bvh`, or `out-person1-take2.bvh`.

    `split` gives each person a file, `alone` also each take. A name says no more than it must.
    """
    if not split and not alone:
        yield out, scene
        return
    for takes in scene.people:
        who = f"-{scene.label(takes)}" if len(scene.people) > 1 else ""
        for number, group in enumerate([(take,) for take in takes] if alone else [takes], start=1):
            which = f"-take{number}" if alone and len(takes) > 1 else ""
            yield out.with_name(f"{out.stem}{who}{which}{out.suffix}"), dataclasses.replace(scene, people=(group,))


def convert(options: argparse.Namespace) -> None:
    """Writes what the command line asks for. Raises ValueError, OSError or ImportError with a sentence."""
    out: Path = options.out
    if out.suffix.lower() == ".mcap":
        _to_mcap(options)
        return
    kind = _format(out)
    up = options.up or kind.ups[0]
    if up not in kind.ups:
        raise ValueError(f"{out.suffix} is written with {' or '.join(kind.ups)} up, not {up}: leave out --up.")
    choice = Choice(
        options.person, options.camera, options.start, options.end, options.fps, options.max_gap, options.min_take,
        options.hold,
    )  # fmt: skip
    everybody, fps = people(options.recording, choice)
    scene = Scene(everybody, fps, up, options.body)
    jobs = list(files(out, scene, options.split, kind.alone))
    _refuse_existing([path for path, _ in jobs], options.force)
    for path, part in jobs:
        with _written_whole(path) as beside:
            kind.write(beside, part)
        sys.stdout.write(f"{_summary(path, part)}\n")


def _format(out: Path) -> Format:
    try:
        return FORMATS[out.suffix.lower()]
    except KeyError:
        known = ", ".join([*FORMATS, ".mcap"])
        raise ValueError(f"Expected an output that ends with one of {known}, got {str(out)!r}.") from None


def _refuse_existing(paths: list[Path], force: bool) -> None:
    if not force and (there := [path for path in paths if path.exists()]):
        raise FileExistsError(f"{there[0]} exists already: name another file, or replace it with --force.")


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """All of the file or none of it: the name to write to, beside `path`, that is moved there at the end."""
    beside = path.with_name(f"{path.stem}.writing{path.suffix}")
    try:
        beside.unlink(missing_ok=True)
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _summary(path: Path, scene: Scene) -> str:
    start_s = scene.first / scene.fps
    end_s = start_s + (scene.count - 1) / scene.fps
    who = ", ".join(
        f"person {takes[0].person_id}" + (f" in {len(takes)} takes" if len(takes) > 1 else "") for takes in scene.people
    )
    return f"{path}: {who}, {scene.count} frames at {scene.fps:g} a second, {start_s:.2f} to {end_s:.2f} s"


def _listed(ids: list[int]) -> str:
    return f"person {', '.join(map(str, ids))}" if ids else "nobody"


def _to_mcap(options: argparse.Namespace) -> None:
    from bridges.formats.mcap import write_part

    shaping = {"--fps": options.fps, "--hold": options.hold, "--split": options.split, "--up": options.up}
    if given := [name for name, value in shaping.items() if value]:
        raise ValueError(f"A .mcap recording keeps messages as they were: leave out {given[0]}.")
    out: Path = options.out
    _refuse_existing([out], options.force)
    with _written_whole(out) as beside:
        poses, count = write_part(beside, options.recording, options.camera, options.person, options.start, options.end)
    sys.stdout.write(f"{out}: {poses} poses, {count} messages\n")


def _person(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a person's id or all, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, got {text!r}")
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = bridge_parser(PROG, "Turn a recording into a file that other tools open.", EXAMPLE)
    p.add_argument("recording", type=Path, help="*.npz or *.npz.partial of --record, or *.mcap")
    p.add_argument("out", type=Path, help=f"what to write: {' '.join(FORMATS)} .mcap")
    p.add_argument("--person", type=_person, metavar="ID", help="only this person (default: all)")
    p.add_argument("--camera", metavar="NAME", help="of a recording with several cameras (default: the first)")
    p.add_argument("--start", type=_seconds, default=0.0, metavar="S", help="since the recording's first frame")
    p.add_argument("--end", type=_seconds, default=math.inf, metavar="S", help="as --start")
    p.add_argument("--fps", type=positive, metavar="N", help="frames a second (default: the recording's)")
    p.add_argument("--split", action="store_true", help="a file for each person; .bvh .npz .fbx always are so")
    p.add_argument("--hold", action="store_true", help="a missing person's pose stays, all files have all frames")
    p.add_argument(
        "--max-gap",
        type=_seconds,
        default=0.5,
        metavar="S",
        help="interpolate so far, else a new take (%(default)s)",
    )
    p.add_argument("--min-take", type=_seconds, default=0.5, metavar="S", help="leave out shorter takes (%(default)s)")
    p.add_argument("--up", choices=["y", "z"], help="world of .usd .csv (default y) and .c3d (default z)")
    p.add_argument("--body", default="default", metavar="BODY", help="default, or smpl=FILE: surface of .glb .usd .fbx")
    p.add_argument("--force", action="store_true", help="replace files that are there")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Converts; returns the exit status."""
    options = parser().parse_args(arguments)
    return exit_status(options, PROG, lambda: convert(options))


if __name__ == "__main__":
    sys.exit(main())
