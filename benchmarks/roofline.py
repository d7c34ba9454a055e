"""What a machine could do at best: measured peaks, and the least time that a network's work takes at them.

The bound is max(FLOPs / peak, bytes / bandwidth) (Williams et al., Roofline, 2009). FLOPs are torch's own count of
products and convolutions; bytes are the least that must move: every weight once, inputs and outputs once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SIDES = {"cpu": 1536, "cuda": 8192}
COPIED_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
REPEATS = 10


@dataclass(frozen=True)
class Peak:
    """Measured: FLOP/s of a square matrix product in fp32 and fp16 (equal to fp32 on a CPU), bytes/s of a copy."""

    flops: dict[str, float]
    bytes_per_s: float


@dataclass(frozen=True)
class Cost:
    """Of one call: FLOPs (two for each multiply-add) and least bytes in fp32 and in fp16 weights."""

    flops: float
    bytes: dict[str, float]

    def bound_s(self, peak: Peak, precision: str) -> float:
        """The least seconds at `peak`."""
        return max(self.flops / peak.flops[precision], self.bytes[precision] / peak.bytes_per_s)


def better(a: Peak, b: Peak) -> Peak:
    """The higher of both in everything: other work on the machine only ever lowers a peak."""
    return Peak({k: max(v, b.flops[k]) for k, v in a.flops.items()}, max(a.bytes_per_s, b.bytes_per_s))


def measure(device: torch.device, clock: Callable[[], float] = time.perf_counter) -> Peak:
    """The peaks of a device, in the best of several runs each, in seconds of `clock`; takes a second or two."""
    kinds = {"fp32": torch.float32, "fp16": torch.float16 if device.type == "cuda" else torch.float32}
    flops = {}
    for name, kind in kinds.items():
        side = SIDES[device.type]
        a = torch.randn(side, side, device=device).to(kind)
        flops[name] = 2 * side**3 / _best(lambda a=a: a @ a, device, clock)  # type: ignore[misc]
    source = torch.zeros(COPIED_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    return Peak(flops, moved / _best(lambda: target.copy_(source), device, clock))


def cost(module: nn.Module, feed: dict[str, Tensor]) -> Cost:
    """The work of a module in fp32 for these inputs, all on one device."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        outputs = module(*feed.values())
    moved = sum(t.nbytes for t in (*feed.values(), *outputs))
    kept = {t.data_ptr(): t.nbytes for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()}
    weights = sum(kept.values())
    return Cost(float(counter.get_total_flops()), {"fp32": weights + moved, "fp16": weights / 2 + moved})


def _best(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    times = []
    for _ in range(REPEATS):
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return min(times)
