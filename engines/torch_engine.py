"""torch as a back end: eager or compiled; on a GPU recorded as CUDA graphs. It runs where nothing else does.

W-HMR's engines are no files of their own for torch: a note (`whmr_body.torch.json`) names the weights and the engine.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engines.runtime import EngineError, TensorSpec
from engines.tensor_engine import Shapes, TensorEngine, Tensors, Work, gpu

NOTE_VERSION = 1


class TorchEngine(TensorEngine):
    """A module in eval mode; it is moved to `device` and must compute in `precision` with fp32 outside.

    inputs    of the module, in the order of its arguments
    example   tensors of the batch size 1, from which the outputs' shapes are learnt
    outputs   names, in the module's order
    compiled  by `torch.compile`, once for each set of shapes; takes up to minutes the first time
    any_size  the inputs' axes after the second are open too
    graphs    on a GPU: replay CUDA graphs; without, every kernel is launched anew

    Raises EngineError where the device is not there.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        example: Mapping[str, Tensor],
        outputs: Sequence[str],
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
        any_size: bool = False,
        graphs: bool = True,
    ) -> None:
        super().__init__(name, device, precision, graphs)
        if self._device.type == "cuda":
            gpu(device)
        self._module = module.eval().to(self._device)
        self._compiled, self._names = compiled, tuple(outputs)
        self.inputs = tuple(_spec(k, v, any_size) for k, v in example.items())
        with self._quiet():
            values = self._module(*(v.to(self._device) for v in example.values()))
        self.outputs = tuple(_spec(k, v, False) for k, v in zip(outputs, values, strict=True))

    def _work(self, shapes: Shapes) -> Work:
        run: Any = torch.compile(self._module, dynamic=False) if self._compiled else self._module

        def work(inputs: Tensors) -> Tensors:
            return dict(zip(self._names, run(*(inputs[spec.name] for spec in self.inputs)), strict=True))

        return work

    def close(self) -> None:
        """See `engines.runtime.Engine`."""
        super().close()
        self._module = nn.Identity()

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        # what is fp32 in an engine is so on purpose, and cuDNN would take 10 bits of it
        allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
        try:
            with super()._quiet():
                yield
        finally:
            torch.backends.cudnn.allow_tf32 = allowed


def _spec(name: str, value: Tensor, any_size: bool) -> TensorSpec:
    lengths = tuple(None if any_size and axis > 1 else n for axis, n in enumerate(value.shape))
    return TensorSpec(name, (None, *lengths[1:]), np.dtype(str(value.dtype).removeprefix("torch.")))


def whmr_engine(
    net: Any,
    name: str,
    device: str = "cpu",
    precision: str = "fp32",
    compiled: bool = False,
    graphs: bool = True,
    as_trained: bool = False,
) -> TorchEngine:
    """W-HMR's engine `name` of a `WHMR` network on the CPU; on a GPU it has its own copy of the weights.

    as_trained: layer for layer as the network has them, in fp32; without, folded (`engines.whmr.folded`).
    Raises ValueError for an unknown engine or precision, EngineError where the device is not there.
    """  # fmt: skip
    from engines.whmr.half import in_precision
    from engines.whmr.parts import PARTS, example, part

    kind = torch.device(device).type
    whole = as_trained and precision == "fp32"
    module = part(net, name) if whole else in_precision(net, name, precision, for_cpu=kind == "cpu")
    if kind != "cpu":
        # moving would take the network's own weights along
        module = copy.deepcopy(module)
    small = example(name, 1, size_wh=(128, 96))
    outputs = PARTS[name].outputs
    return TorchEngine(f"whmr_{name}", module, small, outputs, device, precision, compiled, name == "camera", graphs)


def write_note(path: Path, name: str, weights: str, markers: str | None = None) -> Path:
    """Writes the note that `open_engine` takes for torch: which engine of which weights. Raises OSError."""
    where = weights if weights == "synthetic" else str(Path(weights).resolve())
    note = {"version": NOTE_VERSION, "engine": name, "weights": where, "markers": markers}
    path.write_text(json.dumps(note, indent=1) + "\n")
    return path


def open_eager(path: Path, device: str, precision: str, threads: int | None) -> TorchEngine:
    """The engine of a note; `threads` sets torch's CPU threads, which all of the process share.

    Raises EngineError for another file, or weights that are missing or others.
    """
    return _open(path, device, precision, threads, False)


def open_compiled(path: Path, device: str, precision: str, threads: int | None) -> TorchEngine:
    """As `open_eager`, compiled."""
    return _open(path, device, precision, threads, True)


def _open(path: Path, device: str, precision: str, threads: int | None, compiled: bool) -> TorchEngine:
    from engines.whmr.checkpoint import CheckpointError
    from engines.whmr.export import weights

    try:
        note = json.loads(path.read_bytes())
        version, name, where, markers = (note[k] for k in ("version", "engine", "weights", "markers"))
    except (ValueError, KeyError, TypeError):
        version = None
    if version != NOTE_VERSION:
        raise EngineError(
            f"{path}: torch cannot open it; expected a note of an engine and its weights. "
            "Type: python -m engines.build --backend torch --weights WEIGHTS"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return whmr_engine(weights(where, markers), name, device, precision, compiled)
    except CheckpointError as e:
        raise EngineError(str(e)) from e
