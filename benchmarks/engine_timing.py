"""What the engines' benchmarks share: back ends as variants, calls in turns, rows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engines.runtime import Engine, open_engine
from engines.torch_engine import whmr_engine
from engines.whmr import export
from engines.whmr.network import WHMR

REFERENCE = ("eager", "fp32")
Arrays = Mapping[str, NDArray[Any]]
Variant = tuple[str, str]
Row = dict[str, Any]


def opened(net: WHMR, folder: Path, name: str, variant: Variant, options: argparse.Namespace) -> Engine:
    """The engine `name` in one variant; raises EngineError where its back end or plan is not there."""
    backend, precision = variant
    if backend in ("eager", "graphs", "compile"):
        # the reference is the network as it was trained, layer for layer; all others have it folded
        graphs, as_trained = backend != "eager", variant == REFERENCE
        return whmr_engine(net, name, options.device, precision, backend == "compile", graphs, as_trained)
    path = folder / export.file_name(name, precision)
    return open_engine(path, options.device, backend, precision, options.threads)


def clock_of(options: argparse.Namespace) -> Callable[[], float]:
    """What counts seconds: the wall's clock, or the process's CPU time with `options.cpu_time`."""
    return time.process_time if options.cpu_time else time.perf_counter


def timed(calls: Mapping[Any, Callable[[], Any]], options: argparse.Namespace) -> dict[Any, NDArray[np.float64]]:
    """Seconds of each call, in turns of one call that does not count and one that does.

    The first meets the threads of the one before, which still wait for work. `options.repeats` turns, or as many, one
    at least, as begin within `options.seconds`; with `options.cpu_time` of the process's own CPU time.
    """
    clock = clock_of(options)
    taken: dict[Any, list[float]] = {key: [] for key in calls}
    end = time.monotonic() + options.seconds
    for i in range(options.repeats):
        if i and time.monotonic() > end:
            break
        for key, call in calls.items():
            for counts in (False, True):
                start = clock()
                call()
                if counts:
                    taken[key].append(clock() - start)
    return {key: np.array(value) for key, value in taken.items()}


def summary(t: NDArray[np.float64], reference: NDArray[np.float64]) -> Row:
    """Milliseconds, and how many times faster than the reference: by the medians and by the best of each."""
    p50, p95 = np.percentile(t, (50, 95)) * 1e3
    return {
        "p50_ms": round(float(p50), 3),
        "p95_ms": round(float(p95), 3),
        "min_ms": round(float(t.min() * 1e3), 3),
        "speedup": round(float(np.median(reference) / np.median(t)), 2),
        "speedup_best": round(float(reference.min() / t.min()), 2),
        "runs": len(t),
    }


def parity(ours: Arrays, reference: Arrays) -> float:
    """The largest difference over the reference's largest value, over all outputs."""
    ratios = (np.abs(ours[k] - v).max() / max(np.abs(v).max(), 1e-12) for k, v in reference.items())
    return float(f"{max(map(float, ratios)):.2g}")


def used_mb(device: torch.device) -> float:
    """Memory in use: the process's on a CPU, the whole GPU's on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        free, total = torch.cuda.mem_get_info(device)
        return (total - free) / 1e6
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * 4096 / 1e6
