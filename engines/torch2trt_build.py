"""torch2trt as another builder, for systems that have it, such as a Jetson with TensorRT 8 or 10.

It converts W-HMR's `camera` call by call; for `body` it goes through its own ONNX export, as it knows no fused
attention. `regress` samples maps and poses a body, for which it has no converters: that one is for `tensorrt`. The plan
runs in the same engine as TensorRT's own.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from typing import Any

from torch import nn

from engines import tensorrt_build
from engines.plan_store import Profile
from engines.runtime import EngineError
from engines.whmr.network import WHMR
from engines.whmr.parts import PARTS, example, part

CONVERTIBLE = ("camera", "body")
#: That way needs onnx_graphsurgeon too, and with a new torch onnxscript.
THROUGH_ONNX = ("body",)
INSTALL = (
    "pip install --no-build-isolation onnx_graphsurgeon onnxscript git+https://github.com/NVIDIA-AI-IOT/torch2trt "
    "beside TensorRT 8 or 10, or use --backend tensorrt"
)


def version() -> str | None:
    """ "torch2trt 0.5.0", None where it is not installed."""
    try:
        return f"torch2trt {importlib.metadata.version('torch2trt')}"
    except importlib.metadata.PackageNotFoundError:
        return None


def converter() -> Any:
    """torch2trt's function; raises EngineError, in one sentence with what to type, where it or its TensorRT is not."""
    if version() is None:
        raise EngineError(f"torch2trt is not installed. Type: {INSTALL}")
    trt = tensorrt_build.tensorrt()
    try:
        return importlib.import_module("torch2trt").torch2trt
    # under TensorRT 11 its import meets names that are gone
    except (ImportError, AttributeError) as e:
        raise EngineError(f"torch2trt does not work with TensorRT {trt.__version__} ({e}). Type: {INSTALL}") from e


def build(net: WHMR, name: str, device: str, precision: str, profile: Profile) -> bytes:
    """The plan of the engine `name`, for shapes in `profile`.

    fp16 here lets TensorRT choose per layer, as torch2trt has nothing finer. Raises ValueError for an engine that it
    cannot convert, EngineError where it or a GPU is missing, or where the conversion fails.
    """
    if name not in CONVERTIBLE:
        raise ValueError(f"torch2trt: expected {' or '.join(CONVERTIBLE)}, got {name}. Use --backend tensorrt for it.")
    convert = converter()
    module: nn.Module = part(net, name).to(device)
    spec = PARTS[name]
    small, usual, large = ([shapes[k] for shapes in (profile[n] for n in spec.inputs)] for k in range(3))
    height_width = usual[0][2:] if name == "camera" else (0, 0)
    feed = example(name, 1, size_wh=(height_width[1], height_width[0]))
    wanted: dict[str, Any] = {
        "input_names": list(spec.inputs),
        "output_names": list(spec.outputs),
        "fp16_mode": precision == "fp16",
        "max_workspace_size": tensorrt_build.WORKSPACE_BYTES,
        "use_onnx": name in THROUGH_ONNX,
        "min_shapes": small,
        "opt_shapes": usual,
        "max_shapes": large,
    }
    known = inspect.signature(convert).parameters
    if lacking := [key for key in wanted if key not in known]:
        raise EngineError(f"expected torch2trt 0.5.0, got one without {', '.join(lacking)}. Type: {INSTALL}")
    try:
        converted = convert(module, [feed[n].to(device) for n in spec.inputs], **wanted)
    # converters fail in as many ways as there are layers
    except Exception as e:
        raise EngineError(f"{name}: torch2trt cannot convert it ({e}). Use --backend tensorrt.") from e
    finally:
        module.to("cpu")
    if converted.engine is None:
        raise EngineError(
            f"{name}: torch2trt built no plan; TensorRT's messages above say why. Use --backend tensorrt."
        )
    return bytes(converted.engine.serialize())
