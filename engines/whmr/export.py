"""`python -m engines.whmr.export OUT_DIR --weights W`: the engines as ONNX files, any batch.

Opset 17 is what ONNX Runtime and TensorRT 8.6 and later take; GridSample is in it. `--precision fp16` writes
`whmr_NAME.fp16.onnx` with the types of `engines.whmr.half`; inputs and outputs stay fp32.
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
from engines.whmr.half import in_precision
from engines.whmr.network import WHMR
from engines.whmr.parts import PARTS, example, part

log = logging.getLogger(__name__)

OPSET = 17
SYNTHETIC = "synthetic"
#: The entry of the file's metadata that says in which precision it computes; none is fp32.
PRECISION_KEY = "precision"
#: Traced with a batch of its own, so that no length of one or three is taken for a constant.
TRACED_BATCH = 2


def file_name(name: str, precision: str = "fp32") -> str:
    """The name of an engine's file: whmr_body.onnx, whmr_body.fp16.onnx."""
    return f"whmr_{name}.onnx" if precision == "fp32" else f"whmr_{name}.{precision}.onnx"


def export(net: WHMR, out: str | Path, names: Iterable[str] = tuple(PARTS), precision: str = "fp32") -> list[Path]:
    """Writes `out`/`file_name` for each engine and returns the paths.

    Raises ValueError for an unknown name or precision.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    modules = ((in_precision(net, name, precision), name) for name in names)
    return [export_part(module, name, folder / file_name(name, precision), precision) for module, name in modules]


def export_part(module: nn.Module, name: str, path: Path, precision: str = "fp32") -> Path:
    """Writes one engine as ONNX, dynamic in the batch (`camera`: also in height and width), and returns `path`.

    precision is noted in the file; what is computed in which is up to `module`.
    """
    feed = example(name, TRACED_BATCH, size_wh=(160, 128))
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
            _complete(partial, module(*feed.values()), precision)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _complete(path: Path, outputs: Iterable[Tensor], precision: str) -> None:
    """Writes the outputs' lengths, which the exporter leaves open in places, and the precision into the file."""
    import onnx

    model = onnx.load(path)
    for info, value in zip(model.graph.output, outputs, strict=True):
        for axis, length in list(zip(info.type.tensor_type.shape.dim, value.shape, strict=True))[1:]:
            axis.Clear()
            axis.dim_value = length
    model.metadata_props.add(key=PRECISION_KEY, value=precision)
    onnx.save(model, path)


def engine_name(path: Path) -> str:
    """The engine that a file of `export` holds, by its name."""
    return path.name.removeprefix("whmr_").partition(".")[0]


def precision_of(path: Path) -> str:
    """The precision of a file of `export`, by its name."""
    return "fp16" if path.name.endswith(".fp16.onnx") else "fp32"


def weights(name: str, markers: str | Path | None) -> WHMR:
    """The network of a file, or of `synthetic`; raises CheckpointError."""
    return synthetic.build() if name == SYNTHETIC else checkpoint.load(name, markers)


def largest_difference(module: nn.Module, path: Path, feed: dict[str, Tensor]) -> dict[str, float]:
    """Output name -> largest difference of ONNX Runtime from torch over torch's largest value, for one feed."""
    from engines.onnx_engine import OnnxEngine

    engine = OnnxEngine(path, threads=2, precision=precision_of(path))
    with torch.no_grad():
        ours = module(*feed.values())
    theirs = engine({key: value.numpy() for key, value in feed.items()})
    named = dict(zip(PARTS[engine_name(path)].outputs, ours, strict=True))
    engine.close()
    return {
        key: float((torch.from_numpy(theirs[key]) - value).abs().max() / value.abs().max().clamp_min(1e-12))
        for key, value in named.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m engines.whmr.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", metavar="OUT_DIR", help="folder for whmr_camera.onnx, whmr_body.onnx, ...")
    parser.add_argument("--weights", default=SYNTHETIC, help=f"checkpoint or .safetensors (default: {SYNTHETIC})")
    parser.add_argument("--markers", metavar="FILE", help="smpl_ssm.npy, unless the weights note it")
    parser.add_argument("--engine", action="append", choices=list(PARTS), help="only this one (may be repeated)")
    parser.add_argument("--precision", choices=["fp32", "fp16"], default="fp32", help="(default: fp32)")
    parser.add_argument("--check", type=int, metavar="B", help="compare with ONNX Runtime for a batch of B")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("torch.onnx").setLevel(logging.WARNING)
    try:
        net = weights(options.weights, options.markers)
        for path in export(net, options.out, options.engine or tuple(PARTS), options.precision):
            log.info("%s: wrote %.0f MB", path, path.stat().st_size / 1e6)
            if options.check:
                name = engine_name(path)
                whole = part(net, name)
                found = largest_difference(whole, path, example(name, options.check, size_wh=(320, 256)))
                log.info("  %s", ", ".join(f"{k} {v:.2g}" for k, v in found.items()))
    except (CheckpointError, ValueError) as e:
        log.error("%s", e)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
