"""Averages checkpoints of one network: `python -m training.average A.pt B.pt ... --out WORK/stage2.pt`.

Where trainings went on from one another on other data, the mean of their weights often errs less on data of another
kind than each of them (Wortsman et al., Model soups, ICML 2022).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch


def average(files: list[Path], out: Path) -> None:
    """Writes the mean of the averaged weights of checkpoints of `training.train`.

    Raises OSError for a file that is none, ValueError for checkpoints of different networks.
    """
    parts = [torch.load(file, weights_only=True)["average"] for file in files]
    shapes = [{name: tuple(value.shape) for name, value in part.items()} for part in parts]
    for file, shape in zip(files, shapes, strict=True):
        if shape != shapes[0]:
            raise ValueError(
                f"{file}: expected the network of {files[0]}, got another; name checkpoints of one config."
            )
    mean = {name: (sum(p[name].double() for p in parts) / len(parts)).to(value) for name, value in parts[0].items()}
    torch.save({"average": mean}, out)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.average", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        average(options.checkpoints, options.out)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
