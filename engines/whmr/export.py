"""`python -m engines.whmr.export OUT_DIR --weights W`: the three engines as ONNX files, any batch.

Opset 17 is what ONNX Runtime and TensorRT 8.6 and later take; GridSample is in it. All weights stay fp32.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.whmr import checkpoint, synthetic
from engines.whmr.checkpoint import CheckpointError
from engines.whmr.network import WHMR
from engines.whmr.parts import PARTS, example, part

log = logging.getLogger(__name__)

OPSET = 17
SYNTHETIC = "synthetic"
#: Traced with a batch of its own, so that no length of one or three is taken for a constant.
TRACED_BATCH = 2


def export(net: WHMR, out: str | Path, names: Iterable[str] = tuple(PARTS)) -> list[Path]:
    """Writes `out`/NAME.onnx for each engine and returns the paths; raises ValueError for an unknown name."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    return [export_part(part(net, name), name, folder / f"whmr_{name}.onnx") for name in names]


def export_part(module: nn.Module, name: str, path: Path) -> Path:
    """Writes one engine as ONNX, dynamic in the batch (`camera`: also in height and width), and returns `path`."""
    feed = example(name, TRACED_BATCH, size_wh=(320, 256))
    spec = PARTS[name]
    axes = {tensor: {0: "batch"} for tensor in (*spec.inputs, *spec.outputs)}
    if name == "camera":
        axes["picture"] |= {2: "height", 3: "width"}
    partial = path.with_name(f".{path.name}.part")
    try:
        with warnings.catch_warnings():
            # the exporter that needs no further package; it says so in every call
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                module,
                tuple(feed[key] for key in spec.inputs),
                str(partial),
                input_names=list(spec.inputs),
                output_names=list(spec.outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        with torch.no_grad():
            _state_shapes(partial, module(*feed.values()))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _state_shapes(path: Path, outputs: Iterable[Tensor]) -> None:
    """Writes the outputs' lengths, which the exporter leaves open in places, into the file."""
    import onnx

    model = onnx.load(path)
    for info, value in zip(model.graph.output, outputs, strict=True):
        for axis, length in list(zip(info.type.tensor_type.shape.dim, value.shape, strict=True))[1:]:
            axis.Clear()
            axis.dim_value = length
    onnx.save(model, path)


def weights(name: str, markers: str | Path | None) -> WHMR:
    """The network of a file, or of `synthetic`; raises CheckpointError."""
    return synthetic.build() if name == SYNTHETIC else checkpoint.load(name, markers)


def largest_difference(module: nn.Module, path: Path, feed: dict[str, Tensor]) -> dict[str, float]:
    """Output name -> largest difference of ONNX Runtime from torch over torch's largest value, for one feed."""
    from engines.onnx_engine import OnnxEngine

    engine = OnnxEngine(path, threads=2)
    with torch.no_grad():
        ours = module(*feed.values())
    theirs = engine({key: value.numpy() for key, value in feed.items()})
    named = dict(zip(PARTS[path.stem.removeprefix("whmr_")].outputs, ours, strict=True))
    engine.close()
    return {
        key: float((torch.from_numpy(theirs[key]) - value).abs().max() / value.abs().max().clamp_min(1e-12))
        for key, value in named.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m engines.whmr.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", metavar="OUT_DIR", help="folder for whmr_camera.onnx, whmr_body.onnx, whmr_regress.onnx")
    parser.add_argument("--weights", default=SYNTHETIC, help=f"checkpoint or .safetensors (default: {SYNTHETIC})")
    parser.add_argument("--markers", metavar="FILE", help="smpl_ssm.npy, unless the weights note it")
    parser.add_argument("--engine", action="append", choices=list(PARTS), help="only this one (may be repeated)")
    parser.add_argument("--check", type=int, metavar="B", help="compare with ONNX Runtime for a batch of B")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("torch.onnx").setLevel(logging.WARNING)
    try:
        net = weights(options.weights, options.markers)
        for path in export(net, options.out, options.engine or tuple(PARTS)):
            log.info("%s: wrote %.0f MB", path, path.stat().st_size / 1e6)
            if options.check:
                name = path.stem.removeprefix("whmr_")
                found = largest_difference(part(net, name), path, example(name, options.check))
                log.info("  %s", ", ".join(f"{k} {v:.2g}" for k, v in found.items()))
    except (CheckpointError, ValueError) as e:
        log.error("%s", e)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
