"""`python -m engines.whmr.convert CHECKPOINT OUT.safetensors`: the released checkpoint as a file that opens fast."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

from engines.whmr import checkpoint
from engines.whmr.checkpoint import CheckpointError

log = logging.getLogger(__name__)


def convert(source: str | Path, out: str | Path, markers: str | Path | None = None) -> Path:
    """Checks `source`, writes its tensors to `out`, compares them with what was written, and returns `out`.

    markers: the .npy file of marker ids to note in it. Raises CheckpointError for a wrong or cut file, or where `out`
    cannot be written.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: expected a name that ends in .safetensors. Type: {checkpoint.CONVERT_COMMAND}")
    state, noted = checkpoint.read(source)
    ids = checkpoint.read_markers(markers) if markers is not None else noted
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{source}: expected finite numbers, {name} has others. Download the checkpoint again."
            )
    try:
        checkpoint.save(state, out, ids)
    except OSError as e:
        raise CheckpointError(f"{out}: cannot write it ({e}). Name a folder with 800 MB of room.") from e
    written, _ = checkpoint.read(out)
    if not all(torch.equal(written[name], value) for name, value in state.items()):
        raise CheckpointError(f"{out}: what was written reads otherwise. Check the disk.")
    return out


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m engines.whmr.convert", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help=f"{checkpoint.OFFICIAL}, from the authors of W-HMR")
    parser.add_argument("out", help="file to write, ending in .safetensors")
    parser.add_argument("--markers", metavar="FILE", help="W-HMR's data/smpl/smpl_ssm.npy, to be noted in the file")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        out = convert(options.checkpoint, options.out, options.markers)
    except CheckpointError as e:
        log.error("%s", e)
        return 1
    log.info("%s: wrote the network, %.0f MB.", out, out.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
