"""TensorRT plans as engines. A plan is never built here: that takes minutes and `python -m engines.build`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines import plan_store, tensorrt_build
from engines.plan_store import PlanError
from engines.runtime import TensorSpec
from engines.tensor_engine import Shapes, TensorEngine, Tensors, Work

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}


def open_plan(path: Path, device: str, precision: str, threads: int | None) -> TensorRtEngine:
    """The engine of an ONNX file, whose plan must be in the store, or of a plan that is named itself.

    Raises EngineError where TensorRT or a GPU is missing, PlanError (an EngineError) where the plan is missing, cut or
    made for something else.
    """
    trt = tensorrt_build.tensorrt()
    if path.suffix != ".plan":
        name = path.name.removesuffix(".onnx")
        return TensorRtEngine(name, find(path, device, precision), device, precision)
    plan = plan_store.load_named(path, str(trt.__version__), tensorrt_build.gpu_name(device), precision)
    return TensorRtEngine(path.stem, plan, device, precision)


def find(path: Path, device: str, precision: str) -> bytes:
    """The stored plan of an ONNX file, TensorRT's own or torch2trt's; raises PlanError where there is neither."""
    from engines import torch2trt_build

    name = path.name.removesuffix(".onnx")
    own = tensorrt_build.key_of(path, device, precision)
    try:
        return plan_store.load(name, own)
    except PlanError as reason:
        builder = torch2trt_build.version()
        if builder is None:
            raise
        other = replace(own, builder=f"{builder} tensorrt {own.runtime}")
        if not plan_store.plan_path(name, other).is_file():
            raise reason
        return plan_store.load(name, other)


class TensorRtEngine(TensorEngine):
    """A plan that was checked, on the GPU `device`; a context and a CUDA graph for each set of shapes.

    Memory is torch's, so tensors of other engines on the same GPU are taken as they are. Raises PlanError for bytes
    that this TensorRT does not take.
    """

    def __init__(self, name: str, plan: bytes, device: str, precision: str) -> None:
        super().__init__(name, device, precision)
        self._trt: Any = tensorrt_build.tensorrt()
        trt = self._trt
        with torch.cuda.device(self._device):
            # the logger must outlive the engine
            self._logger = trt.Logger(trt.Logger.WARNING)
            self._runtime = trt.Runtime(self._logger)
            self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            again = plan_store.BUILD_COMMAND.format(precision=precision)
            raise PlanError(f"{name}: TensorRT {trt.__version__} does not take the plan. Type: {again}")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = {n: self._engine.get_tensor_mode(n) for n in names}
        self.inputs = tuple(self._spec(n) for n in names if modes[n] == trt.TensorIOMode.INPUT)
        self.outputs = tuple(self._spec(n) for n in names if modes[n] == trt.TensorIOMode.OUTPUT)

    def close(self) -> None:
        """See `engines.runtime.Engine`."""
        super().close()
        self._engine = self._runtime = None

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(None if n < 0 else int(n) for n in self._engine.get_tensor_shape(name))
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise PlanError(f"{self.name}: {name} is {kind}; expected a plan whose tensors are {', '.join(_DTYPES)}.")
        return TensorSpec(name, shape, np.dtype(_DTYPES[kind]))

    def _work(self, shapes: Shapes) -> Work:
        for spec, shape in zip(self.inputs, shapes, strict=True):
            small, _, large = (tuple(s) for s in self._engine.get_tensor_profile_shape(spec.name, 0))
            if len(shape) != len(small) or not all(a <= n <= b for a, n, b in zip(small, shape, large, strict=True)):
                raise ValueError(f"{spec.name}: the plan takes {small} to {large}, got {shape}.")
        # a context of its own for each: a recorded graph holds only while its context stays as it was
        context = self._engine.create_execution_context()
        if context is None:
            raise ValueError(f"{self.name}: TensorRT has no memory left for the shapes {shapes}.")
        # versions differ in whether any but the first context starts with the profile
        context.set_optimization_profile_async(0, torch.cuda.current_stream(self._device).cuda_stream)
        torch.cuda.synchronize(self._device)
        for spec, shape in zip(self.inputs, shapes, strict=True):
            if not context.set_input_shape(spec.name, shape):
                raise ValueError(f"{self.name}: TensorRT does not take {spec.name} of shape {shape}.")
        outputs = {
            spec.name: torch.empty(
                tuple(context.get_tensor_shape(spec.name)),
                dtype=getattr(torch, spec.dtype.name),
                device=self._device,
            )
            for spec in self.outputs
        }

        def work(inputs: Tensors) -> Tensors:
            for name, value in (inputs | outputs).items():
                context.set_tensor_address(name, value.data_ptr())
            if not context.execute_async_v3(torch.cuda.current_stream(self._device).cuda_stream):
                raise RuntimeError(f"{self.name}: TensorRT could not run; its messages above say why.")
            return outputs

        return work
