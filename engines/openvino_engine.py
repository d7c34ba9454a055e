"""OpenVINO: the default on CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtime import EngineError, Feed, TensorSpec, blank_feed, checked_feed

#: Larger inputs, such as maps of features, are read where they are; smaller ones are copied.
SHARED_BYTES = 1 << 20


class OpenVinoEngine:
    """An ONNX model in OpenVINO. Each batch size is compiled for itself on first use: 8 % faster than dynamic shapes.

    Raises EngineError when OpenVINO is not installed, cannot read the model, or is asked for another device or
    precision than cpu and fp32.
    """

    def __init__(self, path: Path, device: str = "cpu", precision: str = "fp32", threads: int | None = None) -> None:
        if device != "cpu" or precision != "fp32":
            raise EngineError(f"OpenVINO is used on cpu in fp32 only, not on {device} in {precision}.")
        try:
            import openvino
        except ImportError as e:
            raise EngineError(f"OpenVINO is not installed ({e}). Type: pip install openvino") from e
        self.name, self.device, self.precision = path.stem, device, precision
        # its own choice on newer CPUs is bf16, which moves landmarks by tens of pixels
        self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        # a pinned thread that shares its core with a decoder waits for it although another core is free
        self._options["ENABLE_CPU_PINNING"] = False
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._core: Any = openvino.Core()
        try:
            self._model: Any = self._core.read_model(path)
        except RuntimeError as e:
            raise EngineError(f"{path}: OpenVINO cannot read the model ({str(e).splitlines()[-1]}).") from e
        self.inputs = tuple(_spec(port) for port in self._model.inputs)
        self.outputs = tuple(_spec(port) for port in self._model.outputs)
        # by the inputs' shapes: the request, and the tensors that are its own
        self._requests: dict[tuple[tuple[int, ...], ...], tuple[Any, dict[str, Any]]] = {}
        self._tensor: Any = openvino.Tensor

    def __call__(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `engines.runtime.Engine`."""
        checked_feed(self.inputs, feed)
        shapes = tuple(feed[spec.name].shape for spec in self.inputs)
        request, own = self._requests.get(shapes) or self._compile(shapes)
        for spec in self.inputs:
            value = feed[spec.name]
            tensor = own[spec.name]
            if value.nbytes >= SHARED_BYTES and value.flags.c_contiguous and value.flags.writeable:
                tensor = self._tensor(value, shared_memory=True)
            else:
                tensor.data[:] = value
            request.set_tensor(spec.name, tensor)
        request.infer()
        # what belongs to the caller is held no longer than the call
        for spec in self.inputs:
            request.set_tensor(spec.name, own[spec.name])
        return {spec.name: request.get_tensor(spec.name).data for spec in self.outputs}

    def warm(self, batches: Sequence[int]) -> None:
        """See `engines.runtime.Engine`."""
        for batch in batches:
            self(blank_feed(self.inputs, batch))

    def close(self) -> None:
        """See `engines.runtime.Engine`."""
        self._requests.clear()
        self._core = self._model = None

    def _compile(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[Any, dict[str, Any]]:
        if self._core is None:
            raise ValueError(f"{self.name}: the engine is closed.")
        model = self._model.clone()
        model.reshape({spec.name: list(shape) for spec, shape in zip(self.inputs, shapes, strict=True)})
        request = self._core.compile_model(model, "CPU", self._options).create_infer_request()
        self._requests[shapes] = request, {spec.name: request.get_tensor(spec.name) for spec in self.inputs}
        return self._requests[shapes]


def _spec(port: Any) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    return TensorSpec(port.get_any_name(), shape, np.dtype(port.get_element_type().to_dtype()))
