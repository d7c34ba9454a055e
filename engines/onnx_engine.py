"""ONNX Runtime: runs wherever OpenVINO does not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtime import EngineError, Feed, TensorSpec, blank_feed, checked_feed

_DTYPES = {"float": "float32", "double": "float64"}


class OnnxEngine:
    """An ONNX model in ONNX Runtime, on the CPU or through its CUDA provider.

    A model computes in the precision it was exported in (its metadata say "precision"; none is fp32). Raises
    EngineError when another is asked for, when ONNX Runtime or its provider for `device` is not installed, or when it
    cannot read the model.
    """

    def __init__(self, path: Path, device: str = "cpu", precision: str = "fp32", threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as e:
            raise EngineError(f"ONNX Runtime is not installed ({e}). Type: pip install onnxruntime") from e
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        kind, _, index = device.partition(":")
        provider: Any = "CPUExecutionProvider"
        if kind == "cuda":
            # what is fp32 in a model is so on purpose; its own choice is TF32
            provider = ("CUDAExecutionProvider", {"device_id": int(index or 0), "use_tf32": 0})
            if provider[0] not in onnxruntime.get_available_providers():
                raise EngineError("this ONNX Runtime has no CUDA provider. Type: pip install onnxruntime-gpu")
        self.name, self.device, self.precision = path.stem, device, precision
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        # its errors share no base class but Exception
        except Exception as e:
            raise EngineError(f"{path}: ONNX Runtime cannot open the model ({str(e).splitlines()[0]}).") from e
        exported = self._session.get_modelmeta().custom_metadata_map.get("precision", "fp32")
        if exported != precision:
            raise EngineError(
                f"{path}: ONNX Runtime computes as the model was exported, in {exported}; {precision} was asked for."
            )
        self.inputs = tuple(_spec(a) for a in self._session.get_inputs())
        self.outputs = tuple(_spec(a) for a in self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]

    def __call__(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `engines.runtime.Engine`."""
        checked_feed(self.inputs, feed)
        if self._session is None:
            raise ValueError(f"{self.name}: the engine is closed.")
        values = self._session.run(self._names, {spec.name: feed[spec.name] for spec in self.inputs})
        return dict(zip(self._names, values, strict=True))

    def warm(self, batches: Sequence[int]) -> None:
        """See `engines.runtime.Engine`."""
        for batch in batches:
            self(blank_feed(self.inputs, batch))

    def close(self) -> None:
        """See `engines.runtime.Engine`."""
        self._session = None


def _spec(argument: Any) -> TensorSpec:
    kind = re.sub(r"tensor\((\w+)\)", r"\1", argument.type)
    shape = tuple(n if isinstance(n, int) else None for n in argument.shape)
    return TensorSpec(argument.name, shape, np.dtype(_DTYPES.get(kind, kind)))
