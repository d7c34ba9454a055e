"""What torch and TensorRT engines share: fixed tensors for each set of shapes, and CUDA graphs that replay the work."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.runtime import EngineError, Feed, TensorSpec, blank_feed, checked_feed

Tensors = dict[str, Tensor]
Work = Callable[[Tensors], Tensors]
Shapes = tuple[tuple[int, ...], ...]
#: Runs before a graph is recorded: libraries choose their algorithms and allocate in the first ones.
RUNS_BEFORE_RECORDING = 3


def gpu(device: str) -> torch.device:
    """The GPU of that name, such as "cuda" or "cuda:1"; raises EngineError where torch does not see it."""
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (torch.device(device).index or 0) >= seen:
        number = f" {torch.device(device).index}; it sees {seen}" if seen else ""
        raise EngineError(f"torch {torch.__version__} sees no CUDA device{number}. Expected one for {device}.")
    return torch.device(device)


class Recorded:
    """Work on CUDA tensors of fixed shape and place, recorded once; `replay` is one launch.

    inputs, outputs  by name, on the device; what is written into `inputs` counts in the next replay
    graphs           False runs the work anew each time, for comparison
    The first call with arrays sets page-locked buffers beside them, for transfers that do not wait.
    """

    def __init__(self, work: Work, inputs: Tensors, graphs: bool = True) -> None:
        self.inputs, self._work, self._graph = inputs, work, torch.cuda.CUDAGraph() if graphs else None
        device = next(iter(inputs.values())).device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(RUNS_BEFORE_RECORDING):
                self.outputs = work(inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        torch.cuda.synchronize(device)
        if self._graph is not None:
            with torch.cuda.graph(self._graph):
                self.outputs = work(inputs)
        self._host_inputs: Tensors = {}
        self._host_outputs: Tensors = {}

    def replay(self, feed: Mapping[str, Tensor]) -> Tensors:
        """The outputs for tensors on the device, in the order of the current stream."""
        for name, fixed in self.inputs.items():
            if feed[name].data_ptr() != fixed.data_ptr():
                fixed.copy_(feed[name], non_blocking=True)
        return self._run()

    def from_host(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """The outputs for arrays on the host, when they are there."""
        if not self._host_inputs:
            self._host_inputs, self._host_outputs = _page_locked(self.inputs), _page_locked(self.outputs)
        for name, fixed in self.inputs.items():
            self._host_inputs[name].numpy()[...] = feed[name]
            fixed.copy_(self._host_inputs[name], non_blocking=True)
        self._run()
        for name, value in self.outputs.items():
            self._host_outputs[name].copy_(value, non_blocking=True)
        torch.cuda.current_stream(next(iter(self.inputs.values())).device).synchronize()
        return {name: value.numpy() for name, value in self._host_outputs.items()}

    def _run(self) -> Tensors:
        if self._graph is None:
            self.outputs = self._work(self.inputs)
        else:
            self._graph.replay()
        return self.outputs


def _page_locked(tensors: Tensors) -> Tensors:
    return {k: torch.empty(v.shape, dtype=v.dtype, pin_memory=True) for k, v in tensors.items()}


class TensorEngine(ABC):
    """An `engines.runtime.DeviceEngine` around work on torch tensors, which `_work` prepares for each set of shapes."""

    name: str
    device: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(self, name: str, device: str, precision: str, graphs: bool = True) -> None:
        self._graphs = graphs
        self.name, self.device, self.precision = name, device, precision
        self._device = torch.device(device)
        self._recorded: dict[Shapes, Recorded] = {}
        self._works: dict[Shapes, Work] = {}
        self._closed = False

    @abstractmethod
    def _work(self, shapes: Shapes) -> Work:
        """What makes outputs of inputs of these shapes; raises ValueError for shapes that cannot be had."""

    def __call__(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `engines.runtime.Engine`."""
        checked_feed(self.inputs, feed)
        shapes = self._shapes(feed)
        with self._quiet():
            if self._device.type == "cuda":
                return self._record(shapes).from_host(feed)
            # arrays of other owners may be read-only, which torch warns of although nothing writes
            tensors = {s.name: torch.from_numpy(np.require(feed[s.name], requirements=("C", "W"))) for s in self.inputs}
            return {name: value.numpy() for name, value in self._prepared(shapes)(tensors).items()}

    def on_device(self, feed: Mapping[str, Tensor]) -> Tensors:
        """See `engines.runtime.DeviceEngine`; raises ValueError for a missing input or one on another device."""
        for spec in self.inputs:
            value = feed.get(spec.name)
            if value is None or not self._takes(spec, value):
                got = "none" if value is None else f"{value.dtype} {tuple(value.shape)} on {value.device}"
                raise ValueError(
                    f"{spec.name}: expected a {spec.dtype} tensor of shape {spec.shape} on {self.device}, got {got}."
                )
        shapes = self._shapes(feed)
        with self._quiet():
            if self._device.type == "cuda":
                return self._record(shapes).replay(feed)
            return self._prepared(shapes)(dict(feed))

    def warm(self, batches: Sequence[int]) -> None:
        """See `engines.runtime.Engine`."""
        for batch in batches:
            feed = blank_feed(self.inputs, batch)
            if self._device.type == "cuda":
                # nothing crosses to the host: engines that are chained never need buffers there
                self.on_device({name: torch.from_numpy(value).to(self._device) for name, value in feed.items()})
            else:
                self(feed)

    def close(self) -> None:
        """See `engines.runtime.Engine`."""
        self._recorded.clear()
        self._works.clear()
        self._closed = True

    def _takes(self, spec: TensorSpec, value: Tensor) -> bool:
        if value.device.type != self._device.type or value.dtype != getattr(torch, spec.dtype.name):
            return False
        lengths = zip(spec.shape, value.shape, strict=False)
        return value.ndim == len(spec.shape) and all(want in (None, got) for want, got in lengths)

    def _shapes(self, feed: Mapping[str, Any]) -> Shapes:
        if self._closed:
            raise ValueError(f"{self.name}: the engine is closed.")
        return tuple(tuple(feed[spec.name].shape) for spec in self.inputs)

    def _prepared(self, shapes: Shapes) -> Work:
        if shapes not in self._works:
            self._works[shapes] = self._work(shapes)
        return self._works[shapes]

    def _record(self, shapes: Shapes) -> Recorded:
        if shapes not in self._recorded:
            kinds = [getattr(torch, spec.dtype.name) for spec in self.inputs]
            inputs = {
                spec.name: torch.zeros(shape, dtype=kind, device=self._device)
                for spec, shape, kind in zip(self.inputs, shapes, kinds, strict=True)
            }
            self._recorded[shapes] = Recorded(self._prepared(shapes), inputs, self._graphs)
        return self._recorded[shapes]

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        guard = torch.cuda.device(self._device) if self._device.type == "cuda" else contextlib.nullcontext()
        with torch.inference_mode(), guard:
            yield
