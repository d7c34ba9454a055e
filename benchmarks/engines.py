"""W-HMR's engines: latency, throughput, memory and parity of each back end, against torch eager fp32 in the same run.

    python -m benchmarks.engines [--weights synthetic|FILE] [--batches 1 2 4 8] [--device cpu] [--json]

The back ends take turns, so that the machine's other work meets all of them. `parity` is the largest
difference from torch eager fp32 over its largest value; `roofline` is the least time at the machine's measured peaks
over the time taken. On a CPU the whole is also compared with the released forward's cost structure at equal outputs
(`benchmarks.released_cost`); ours runs the camera net once in `--camera-every` frames, as a camera stands still.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import roofline
from benchmarks.engine_timing import REFERENCE, Arrays, Row, Variant, clock_of, opened, parity, summary, timed, used_mb
from benchmarks.engines_whole import measure_whole
from engines import agreement
from engines.runtime import Engine, EngineError
from engines.whmr import export
from engines.whmr.checkpoint import CheckpointError
from engines.whmr.network import WHMR
from engines.whmr.parts import PARTS, part

log = logging.getLogger(__name__)

#: The engines that together are the released network, mesh and all.
WHOLE = ("camera", "body", "regress")
#: Back end and precision of each variant, by the kind of device; the reference first.
VARIANTS = {
    "cpu": [REFERENCE, ("onnx", "fp32"), ("openvino", "fp32")],
    "cuda": [
        REFERENCE,
        *(("graphs", "fp32"), ("eager", "fp16"), ("graphs", "fp16"), ("compile", "fp16")),
        *(("onnx", "fp32"), ("onnx", "fp16"), ("tensorrt", "fp32"), ("tensorrt", "fp16")),
    ],
}


def caller(engine: Engine, feed: Arrays, device: torch.device) -> Callable[[], Any]:
    """One call as a stream makes it: on a GPU with tensors that are there already, waiting for the end."""
    on_device = getattr(engine, "on_device", None)
    if device.type == "cpu" or on_device is None:
        return lambda: engine(feed)
    tensors = {key: torch.from_numpy(value).to(device) for key, value in feed.items()}

    def call() -> None:
        on_device(tensors)
        torch.cuda.synchronize(device)

    return call


def measure_engine(
    net: WHMR, folder: Path, name: str, options: argparse.Namespace, peak: roofline.Peak
) -> Iterator[Row]:
    """A row for each variant and batch size of one engine."""
    device = torch.device(options.device)
    engines: dict[Variant, Engine] = {}
    memory: dict[Variant, float] = {}
    for variant in options.variants:
        before = used_mb(device)
        try:
            engines[variant] = opened(net, folder, name, variant, options)
            engines[variant](agreement.arrays(name, 1))
        except (EngineError, ValueError) as e:
            engines.pop(variant, None)
            log.warning("%s on %s in %s is left out: %s", name, *variant, e)
            continue
        memory[variant] = used_mb(device) - before
    module = copy.deepcopy(part(net, name)).to(device)
    for batch in options.batches:
        feed = agreement.arrays(name, batch, seed=batch)
        work = roofline.cost(module, {k: torch.from_numpy(v).to(device) for k, v in feed.items()})
        outputs, calls = {}, {}
        for variant, engine in engines.items():
            try:
                outputs[variant] = {k: v.copy() for k, v in engine(feed).items()}
            except ValueError as e:
                log.warning("%s on %s in %s: batch %d is left out: %s", name, *variant, batch, e)
                continue
            calls[variant] = caller(engine, feed, device)
        times = timed(calls, options)
        for variant, t in times.items():
            bound = work.bound_s(peak, variant[1])
            yield {
                "engine": name,
                "backend": variant[0],
                "precision": variant[1],
                "batch": batch,
                **summary(t, times[REFERENCE]),
                "per_second": round(batch / float(np.median(t)), 1),
                "memory_mb": round(memory[variant]),
                "parity": parity(outputs[variant], outputs[REFERENCE]),
                "gflop": round(work.flops / 1e9, 2),
                "roofline": round(bound / float(np.median(t)), 3),
            }
    for engine in engines.values():
        engine.close()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", default=export.SYNTHETIC, help=f"(default: {export.SYNTHETIC})")
    parser.add_argument("--markers", metavar="FILE", help="smpl_ssm.npy, unless the weights note it")
    parser.add_argument(
        "--onnx-dir", type=Path, metavar="DIR", help="keep the exported engines here, for plans and reuse"
    )
    parser.add_argument("--engine", action="append", choices=[*PARTS, "whole"], help="(default: all)")
    parser.add_argument("--backend", action="append", metavar="B", help="besides eager, such as openvino or compile")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (default: 2)")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, for each engine and batch (default: 20)")
    cpu_time = "count CPU time, which other work on the machine hardly changes; with --threads 1"
    parser.add_argument("--cpu-time", action="store_true", help=cpu_time)
    parser.add_argument("--camera-every", type=int, default=300, metavar="N", help="frames (default: 300, 10 s)")
    parser.add_argument("--json", action="store_true", help="one object a line")
    options = parser.parse_args(arguments)
    if options.cpu_time and (options.threads != 1 or options.device != "cpu"):
        parser.error("--cpu-time: expected --threads 1 --device cpu with it, as threads that wait spend time too")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(options.threads)
    # without this torch's convolutions are TF32 on a GPU, and the reference would be no fp32
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device(options.device)
    options.variants = _variants(device, options.backend)
    try:
        net = export.weights(options.weights, options.markers)
        with tempfile.TemporaryDirectory() as scratch:
            run(net, options.onnx_dir or Path(scratch), options)
    except (CheckpointError, EngineError) as e:
        log.error("%s", e)
        return 1
    return 0


def _variants(device: torch.device, backends: list[str] | None) -> list[Variant]:
    known = VARIANTS[device.type] + ([("compile", "fp32")] if backends and "compile" in backends else [])
    return [v for v in known if v == REFERENCE or backends is None or v[0] in backends]


def run(net: WHMR, folder: Path, options: argparse.Namespace) -> None:
    """Measures and writes the rows to the standard output."""
    device = torch.device(options.device)
    for precision in {v[1] for v in options.variants if v[0] in ("onnx", "openvino", "tensorrt")}:
        for name in PARTS:
            if not (folder / export.file_name(name, precision)).is_file():
                export.export(net, folder, [name], precision)
    clock = clock_of(options)
    peak = roofline.measure(device, clock)
    for _ in range(3):
        peak = roofline.better(peak, roofline.measure(device, clock))
    names = options.engine or [*PARTS, "whole"]
    head: Row = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "threads": options.threads,
    }
    head.update({f"peak_gflops_{k}": round(v / 1e9) for k, v in peak.flops.items()})
    _write(head | {"bandwidth_gb_s": round(peak.bytes_per_s / 1e9, 1)}, options.json)
    rows = []
    for name in (n for n in PARTS if n in names):
        peak = roofline.better(peak, roofline.measure(device, clock))
        for row in measure_engine(net, folder, name, options, peak):
            rows.append(row)
            _write(row, options.json)
    for row in totals(rows):
        _write(row, options.json)
    if "whole" in names:
        for row in measure_whole(net, folder, options):
            _write(row, options.json)


def totals(rows: list[Row]) -> Iterator[Row]:
    """A row for each variant and batch of which all three engines were measured: their times together."""
    rows = [r for r in rows if r["engine"] in WHOLE]
    for backend, precision, batch in dict.fromkeys((r["backend"], r["precision"], r["batch"]) for r in rows):
        ours, eager = (
            [r for r in rows if (r["backend"], r["precision"], r["batch"]) == (*variant, batch)]
            for variant in ((backend, precision), REFERENCE)
        )
        if len(ours) == len(eager) == len(WHOLE):
            p50, best = (sum(r[key] for r in ours) for key in ("p50_ms", "min_ms"))
            row = {"engine": "+".join(WHOLE), "backend": backend, "precision": precision, "batch": batch}
            ratios = {
                "speedup": round(sum(r["p50_ms"] for r in eager) / p50, 2),
                "speedup_best": round(sum(r["min_ms"] for r in eager) / best, 2),
            }
            yield row | {"p50_ms": round(p50, 3), "min_ms": round(best, 3)} | ratios


def _write(row: Row, as_json: bool) -> None:
    line = json.dumps(row) if as_json else "  ".join(f"{key} {value}" for key, value in row.items())
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
