"""`python -m engines.build --weights W --backend tensorrt --precision fp16`: engines that open at once later.

Exports W-HMR's engines where that was not done, builds plans of them into the store, and compares what they
give with the fp32 export on ONNX Runtime. `--onnx-dir DIR` takes engines that were exported elsewhere, without weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from engines import agreement, plan_store, tensorrt_build, torch2trt_build
from engines.runtime import Engine, EngineError, open_engine
from engines.torch_engine import write_note
from engines.whmr import export, prepare, store
from engines.whmr.checkpoint import CheckpointError
from engines.whmr.network import WHMR
from engines.whmr.parts import PARTS

log = logging.getLogger(__name__)

BACKENDS = ("tensorrt", "torch2trt", "onnx", "torch")
CHECKED_BATCHES = (1, 3)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 1 where something is missing or the engines differ too much."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("torch.onnx").setLevel(logging.WARNING)
    names = tuple(PARTS) if "all" in options.engine else tuple(dict.fromkeys(options.engine))
    if options.backend == "torch2trt" and "all" in options.engine:
        names = torch2trt_build.CONVERTIBLE
    try:
        # what takes a second is asked before what takes minutes
        if options.backend == "tensorrt":
            tensorrt_build.tensorrt()
        if options.backend == "torch2trt":
            torch2trt_build.converter()
        folder = _exported(options, names)
        plans = _plans(options, folder, names)
        return 0 if options.no_check else _check(options, folder, names, plans)
    except (CheckpointError, EngineError, OSError, ValueError) as e:
        log.error("%s", e)
        return 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engines.build", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", metavar="W", help="checkpoint, .safetensors file, or synthetic")
    parser.add_argument("--markers", metavar="FILE", help="smpl_ssm.npy, unless the weights note it")
    parser.add_argument("--onnx-dir", type=Path, metavar="DIR", help="engines exported before, instead of --weights")
    store_help = "where exported engines lie (default: engines/store/whmr)"
    parser.add_argument("--store", type=Path, default=store.STORE, metavar="DIR", help=store_help)
    parser.add_argument("--engine", action="append", choices=["all", *PARTS], help="(default: all; may be repeated)")
    parser.add_argument("--backend", choices=BACKENDS, default="tensorrt", help="(default: tensorrt)")
    parser.add_argument("--precision", choices=["fp32", "fp16"], default="fp16", help="(default: fp16)")
    parser.add_argument("--device", help="cuda:0, cpu (default: cuda; cpu for onnx and torch)")
    parser.add_argument("--no-check", action="store_true", help="do not compare with fp32 afterwards")
    options = parser.parse_args(arguments)
    options.engine = options.engine or ["all"]
    options.device = options.device or ("cpu" if options.backend in ("onnx", "torch") else "cuda")
    if (options.weights is None) == (options.onnx_dir is None):
        parser.error("expected --weights W or --onnx-dir DIR")
    if options.weights is None and options.backend in ("torch", "torch2trt"):
        parser.error(f"--backend {options.backend} needs --weights W")
    return options


def _exported(options: argparse.Namespace, names: Sequence[str]) -> Path:
    """The folder with the ONNX files in fp32 and in the wanted precision."""
    if options.onnx_dir is not None:
        for name, precision in [*((n, "fp32") for n in PARTS), *((n, options.precision) for n in names)]:
            path = options.onnx_dir / export.file_name(name, precision)
            if not path.is_file():
                again = f"python -m engines.whmr.export {options.onnx_dir} --weights WEIGHTS --precision {precision}"
                raise EngineError(f"{path}: there is no such file. Type: {again}")
        return Path(options.onnx_dir)
    folder = options.store / store.key(options.weights, options.markers)
    try:
        store.find(options.weights, options.markers, options.store)
    except CheckpointError:
        log.info("%s: exporting the engines", folder)
        prepare.prepare(_network(options.weights, options.markers), folder)
    if options.backend == "torch":
        for name in names:
            note = write_note(folder / f"whmr_{name}.torch.json", name, options.weights, options.markers)
            log.info("%s: noted which weights", note)
    elif missing := store.lacking(folder, names, options.precision):
        log.info("%s: exporting %s in %s", folder, ", ".join(missing), options.precision)
        made = export.export(_network(options.weights, options.markers), folder, missing, options.precision)
        store.add(folder, made)
    return folder


@cache
def _network(weights: str, markers: str | None) -> WHMR:
    """Read once, and only where something is made of it."""
    return export.weights(weights, markers)


def _plans(options: argparse.Namespace, folder: Path, names: Sequence[str]) -> list[Path]:
    """Builds what is not in the store yet; the paths of all plans, none where the back end has none."""
    plans = []
    for name in names if options.backend in ("tensorrt", "torch2trt") else ():
        path = folder / export.file_name(name, options.precision)
        builder = None
        if options.backend == "torch2trt":
            builder = f"{torch2trt_build.version()} tensorrt {tensorrt_build.tensorrt().__version__}"
        key, stem = tensorrt_build.key_of(path, options.device, options.precision, builder), path.stem
        try:
            plan_store.load(stem, key)
            log.info("%s: its plan is in the store", stem)
        except plan_store.PlanError:
            log.info("%s: building with %s for %s; this takes minutes", stem, key.builder, key.gpu)
            start = time.monotonic()
            if builder is None:
                plan = tensorrt_build.build(path, options.device, options.precision)
            else:
                net = _network(options.weights, options.markers)
                plan = torch2trt_build.build(net, name, options.device, options.precision, key.profile)
            plan_store.save(stem, key, plan)
            log.info("%s: %.0f MB in %.0f s", stem, len(plan) / 1e6, time.monotonic() - start)
        plans.append(plan_store.plan_path(stem, key))
    return plans


def _check(options: argparse.Namespace, folder: Path, names: Sequence[str], plans: Sequence[Path]) -> int:
    backend = "tensorrt" if plans else options.backend
    reference: dict[str, Engine] = {}
    other: dict[str, Engine] = {}
    try:
        for name in PARTS:
            reference[name] = open_engine(folder / export.file_name(name), "cpu", "onnx")
        for name in names:
            path = folder / export.file_name(name)
            other[name] = open_engine(path, options.device, backend, options.precision)
        found: dict[str, float] = {}
        for batch in CHECKED_BATCHES:
            for key, value in agreement.differences(reference, other, batch, seed=batch).items():
                found[key] = max(found.get(key, 0.0), value)
    finally:
        for engine in (*reference.values(), *other.values()):
            engine.close()
    for path in plans:
        plan_store.annotate(path, {"largest differences to fp32": found, "batches": CHECKED_BATCHES})
    log.info("Largest differences to fp32 on ONNX Runtime: %s", json.dumps({k: round(v, 4) for k, v in found.items()}))
    if failures := agreement.beyond(found):
        log.error("The engines differ too much from fp32: %s. Use --precision fp32.", ", ".join(failures))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
