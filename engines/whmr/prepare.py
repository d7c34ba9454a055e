"""`python -m engines.whmr.prepare --weights W`: exports the engines of W to where `run_stream.py` finds them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from engines.whmr import export, store
from engines.whmr.checkpoint import CheckpointError
from engines.whmr.network import WHMR

log = logging.getLogger(__name__)


def prepare(net: WHMR, folder: Path) -> Path:
    """Exports the network's engines, its body model and their manifest into `folder`, and returns it.

    The manifest is taken away first, so that a folder that is half written is never taken for a whole one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / store.MANIFEST).unlink(missing_ok=True)
    store.note(net, folder, export.export(net, folder))
    return folder


def ensure(
    weights: str | Path,
    markers: str | Path | None = None,
    folder: Path | None = None,
    network: Callable[[str, str | Path | None], WHMR] = export.weights,
) -> Path:
    """The engines of these weights in the store `folder`; those of `synthetic` are exported if they never were.

    network: what reads or makes the weights. Raises CheckpointError as `store.find` does.
    """
    where = (folder or store.STORE) / store.SYNTHETIC
    if str(weights) == store.SYNTHETIC and not (where / store.MANIFEST).exists():
        log.info("%s: exporting the engines, once", where)
        return prepare(network(str(weights), markers), where)
    return store.find(weights, markers, folder)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m engines.whmr.prepare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", required=True, metavar="W", help="checkpoint, .safetensors file, or synthetic")
    parser.add_argument("--markers", metavar="FILE", help="smpl_ssm.npy, unless the weights note it")
    parser.add_argument("--store", type=Path, default=store.STORE, metavar="DIR", help="(default: engines/store/whmr)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("torch.onnx").setLevel(logging.WARNING)
    try:
        folder = options.store / store.key(options.weights, options.markers)
        prepare(export.weights(options.weights, options.markers), folder)
    except (CheckpointError, OSError) as e:
        log.error("%s", e)
        return 1
    log.info("%s: wrote the engines, %.0f MB.", folder, sum(f.stat().st_size for f in folder.iterdir()) / 1e6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
