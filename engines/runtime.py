"""Engines: arrays in, arrays out. One `open_engine` for every runtime that can execute a model file.

A back end is a function in `BACKENDS` that opens a file on a device. What it returns is an `Engine`; who uses one
does not know which runtime is behind it.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """A named input or output: its shape, None where any length goes (the batch), and its type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Engine(Protocol):
    """A network that is ready to run.

    name       the model file's name without its ending
    device     where it runs, such as "cpu"
    precision  "fp32" or "fp16", of the arithmetic inside
    """

    name: str
    device: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __call__(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name. The arrays are the engine's own and are overwritten by its next call.

        Raises ValueError for a missing input or another shape. Not for use by two threads at a time.
        """
        ...

    def warm(self, batches: Sequence[int]) -> None:
        """Prepares (compiles, allocates, runs once) the given batch sizes, so that no later call is slow."""
        ...

    def close(self) -> None:
        """Frees the runtime's memory; the engine cannot be called afterwards."""
        ...


class DeviceEngine(Engine, Protocol):
    """An engine that also takes and gives torch tensors on its own device, so that engines chain without a copy.

    `torch` and `tensorrt` give such engines.
    """

    def on_device(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """As a call, for torch tensors on the engine's device, ordered by the current CUDA stream.

        The tensors are the engine's own and are overwritten by its next call.
        """
        ...


class EngineError(OSError):
    """A runtime is missing or cannot open a model."""


_BUILD = "Type: python -m engines.build --weights WEIGHTS --backend "
Opener = Callable[[Path, str, str, int | None], Engine]


def _module_opener(module: str, name: str) -> Opener:
    def open_it(path: Path, device: str, precision: str, threads: int | None) -> Engine:
        return getattr(importlib.import_module(module), name)(path, device, precision, threads)

    return open_it


#: Back end name -> opener(path, device, precision, threads), which raises EngineError where it cannot.
BACKENDS: dict[str, Opener] = {
    "openvino": _module_opener("engines.openvino_engine", "OpenVinoEngine"),
    "onnx": _module_opener("engines.onnx_engine", "OnnxEngine"),
    "tensorrt": _module_opener("engines.tensorrt_engine", "open_plan"),
    "torch": _module_opener("engines.torch_engine", "open_eager"),
    "torch_compile": _module_opener("engines.torch_engine", "open_compiled"),
}

#: What "auto" tries, in this order, by the kind of device (the part of its name before a colon) and the file's ending.
PREFERENCE: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": {".onnx": ("openvino", "onnx"), ".json": ("torch",)},
    "cuda": {".onnx": ("tensorrt", "onnx", "torch"), ".plan": ("tensorrt",), ".json": ("torch",)},
}


def open_engine(
    path: str | Path, device: str = "cpu", backend: str = "auto", precision: str = "fp32", threads: int | None = None
) -> Engine:
    """Opens the model file `path`: an ONNX file, a TensorRT plan (.plan), or a note of weights for torch (.json).

    Beside X.onnx may lie X.fp16.onnx, which fp16 takes, and X.torch.json, which torch takes. TensorRT looks for the
    plan of an ONNX file in the store.

    device     "cpu", or "cuda" or "cuda:1" for a GPU
    backend    a name of `BACKENDS`, or "auto": the first of `PREFERENCE` that opens, the reason logged for the others
    precision  "fp32" or "fp16"
    threads    CPU threads, None for one a physical core

    Raises ValueError for an unknown back end, device or precision, FileNotFoundError for a missing file, and
    EngineError when no runtime opens it.
    """
    path = Path(path)
    kind, colon, number = device.partition(":")
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"backend: expected auto or one of {', '.join(BACKENDS)}, got {backend}.")
    if kind not in PREFERENCE or (colon and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"device: expected one of {', '.join(PREFERENCE)} or cuda:1, got {device}.")
    if precision not in ("fp32", "fp16"):
        raise ValueError(f"precision: expected fp32 or fp16, got {precision}.")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: expected 1 or more, got {threads}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file.")
    if backend != "auto":
        return BACKENDS[backend](_variant(path, backend, precision), device, precision, threads)
    reasons = []
    names = PREFERENCE[kind].get(path.suffix)
    if names is None:
        raise ValueError(f"{path}: expected a file that ends in {' or '.join(PREFERENCE[kind])} for {device}.")
    for name in names:
        try:
            return BACKENDS[name](_variant(path, name, precision), device, precision, threads)
        except EngineError as e:
            log.warning("%s: back end %s is passed over: %s", path.name, name, e)
            reasons.append(f"{name}: {e}")
    raise EngineError(f"{path}: no back end opens it on {device} ({'; '.join(reasons)}).")


def _variant(path: Path, backend: str, precision: str) -> Path:
    """The file beside `path` that a back end takes in its place: X.torch.json, or X.fp16.onnx, for X.onnx."""
    if path.suffix != ".onnx":
        return path
    if backend.startswith("torch"):
        other = path.with_name(f"{path.name.removesuffix('.onnx').removesuffix('.fp16')}.torch.json")
        if not other.is_file():
            raise EngineError(f"{other}: torch opens a note of weights, which is not there. {_BUILD}{backend}")
        return other
    half = path.with_suffix(".fp16.onnx")
    return half if precision == "fp16" and half.is_file() else path


def blank_feed(specs: tuple[TensorSpec, ...], batch: int) -> dict[str, NDArray[Any]]:
    """Zeros for every input, for a batch; any other open length is 1."""
    return {spec.name: np.zeros((batch, *(n or 1 for n in spec.shape[1:])), spec.dtype) for spec in specs}


def checked_feed(specs: tuple[TensorSpec, ...], feed: Mapping[str, Any]) -> int:
    """The batch size of `feed`, whose arrays must fit `specs`; raises ValueError saying what was expected."""
    batch = 0
    for spec in specs:
        value = feed.get(spec.name)
        if value is None:
            raise ValueError(f"{spec.name}: expected an input of that name, got {', '.join(feed) or 'none'}.")
        fits = value.ndim == len(spec.shape) and value.dtype == spec.dtype and value.shape[0] > 0
        if not fits or any(want not in (None, got) for want, got in zip(spec.shape, value.shape, strict=True)):
            raise ValueError(
                f"{spec.name}: expected {spec.dtype} of shape {spec.shape}, got {value.dtype} {value.shape}."
            )
        batch = value.shape[0]
    return batch
