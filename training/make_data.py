"""Makes the data to train on: `python -m training.make_data motions|render|report`.

    python -m training.make_data motions --motion DIR --out DATA/motions.npz
    python -m training.make_data render --motions DATA/motions.npz --out DATA/renders --sequences 4000
    python -m training.make_data report --renders DATA/renders

All is seeded: the same call makes the same data. DIR holds captured motions (`training.data.captures`); without it
the file holds made-up ones only. Renders are shards that are made once each, so a call that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.data.motions import Motion, save
from training.data.plays import PLAYS, play


def progress(done: int, of: int, what: str) -> None:
    """Draws a bar on standard error."""
    share = done / max(of, 1)
    sys.stderr.write(f"\r[{'#' * round(30 * share):<30}] {done} of {of} {what}")
    sys.stderr.write("\n" if done == of else "")
    sys.stderr.flush()


def make_motions(folder: Path | None, out: Path, seed: int, share: float) -> list[Motion]:
    """All captured motions below `folder` (None: none) and a `share` of the made-up ones; written to `out`."""
    motions: list[Motion] = []
    if folder is not None:
        from training.data.captures import read_all

        for motion in read_all(folder):
            motions.append(motion.resampled())
            sys.stderr.write(f"\r{len(motions)} captured motions")
        sys.stderr.write("\n")
    wanted = [(kind, n) for kind, (_, count) in PLAYS.items() for n in range(round(count * share))]
    for done, (kind, n) in enumerate(wanted):
        motions.append(play(seed, kind, n))
        progress(done + 1, len(wanted), "made-up motions")
    save(motions, out)
    return motions


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.make_data", description=(__doc__ or "").partition("\n\n")[0],
        epilog="example: python -m training.make_data motions --motion ~/motion --out ~/data/motions.npz",
    )  # fmt: skip
    parts = parser.add_subparsers(dest="part", required=True)
    motions = parts.add_parser("motions", help="captured and made-up motions into one file")
    motions.add_argument("--motion", type=Path, help="folder of captured motions, or of their .tar.xz archives")
    motions.add_argument("--out", type=Path, required=True, help="file to write, .npz, outside the repository")
    motions.add_argument("--seed", type=int, default=5)
    motions.add_argument("--share", type=float, default=1.0, help="how much of the made-up motions (1: all 552)")
    renders = parts.add_parser("render", help="pictures of people moving, seen by the landmark network, in shards")
    renders.add_argument("--motions", type=Path, required=True, help="file of the part `motions`")
    renders.add_argument("--out", type=Path, required=True, help="folder for the shards, outside the repository")
    renders.add_argument("--sequences", type=int, default=4000, help="of 8 pictures each")
    renders.add_argument("--seed", type=int, default=5)
    renders.add_argument("--workers", type=int, default=1, help="processes, each of one thread")
    told = parts.add_parser("report", help="how well the landmark network did on the renders")
    told.add_argument("--renders", type=Path, required=True, help="folder of the part `render`")
    return parser


def make_renders(options: argparse.Namespace) -> str:
    """Makes the shards that are missing; returns a line that says what there is."""
    from training.data.renders import render

    done = of = 0
    for done, of in render(options.motions, options.out, options.sequences, options.seed, options.workers):
        progress(done, of, "shards")
    return f"{options.out}: {done} of {of} shards"


def main(arguments: list[str] | None = None) -> int:
    """Runs one part; returns the exit status."""
    options = _arguments().parse_args(arguments)
    try:
        if options.part == "render":
            sys.stdout.write(make_renders(options) + "\n")
            return 0
        if options.part == "report":
            from training.data.summary import report

            sys.stdout.write(report(options.renders) + "\n")
            return 0
        motions = make_motions(options.motion, options.out, options.seed, options.share)
    except (OSError, KeyError) as e:
        sys.stderr.write(f"{e}\n")
        return 2
    seconds = sum(len(m.t_world_root) / m.fps for m in motions)
    kept = sum(m.held_out for m in motions)
    sys.stdout.write(f"{options.out}: {len(motions)} motions, {seconds / 60:.1f} minutes, {kept} kept aside\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
