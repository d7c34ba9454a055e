"""ONNX file -> TensorRT plan by TensorRT's own Python API; one code for 8.6, 10.x and 11.x.

What differs: 8.6 wants EXPLICIT_BATCH and has no typed networks, so fp16 is a flag and every layer that the file keeps
in fp32 is pinned; 10 takes the types of the file when told so (STRONGLY_TYPED); 11 does nothing else and has neither
flag. A name that a version lacks is asked for, never assumed.
"""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from engines.models import store_dir, write_whole
from engines.plan_store import FOLDER, PlanKey, Profile, sha256
from engines.runtime import EngineError

log = logging.getLogger(__name__)

INSTALL = "pip install -r requirements-gpu.txt"
MAX_BATCH = 8
WORKSPACE_BYTES = 4 << 30
OLDEST = (8, 6)
#: Smallest, usual and largest height and width of whole pictures of short side 600: from 9:21 to 32:9.
PICTURE_HEIGHTS, PICTURE_WIDTHS = (224, 600, 1440), (224, 1066, 2144)


def tensorrt() -> ModuleType:
    """The module, once it is known to work here.

    Raises EngineError, in one sentence with what to type, where TensorRT or a GPU is missing or TensorRT is too old.
    """
    try:
        import tensorrt as trt
    except (ImportError, OSError) as e:
        raise EngineError(f"TensorRT is not installed ({e}). On a machine with an NVIDIA GPU, type: {INSTALL}") from e
    version = tuple(int(n) for n in re.findall(r"\d+", trt.__version__)[:2])
    if version < OLDEST or not hasattr(trt, "Builder"):
        raise EngineError(f"expected the full TensorRT 8.6 or newer, got {trt.__version__}. Type: {INSTALL}")
    gpu_name("cuda")
    return trt


def gpu_name(device: str) -> str:
    """Name and compute capability of a GPU, such as "NVIDIA A10 8.6"; raises EngineError where there is none."""
    import torch

    from engines.tensor_engine import gpu

    if not torch.cuda.is_available():
        raise EngineError(
            f"TensorRT needs an NVIDIA GPU and a torch that sees it; torch {torch.__version__} sees none. "
            "Use --backend openvino, onnx or torch on this machine"
        )
    properties = torch.cuda.get_device_properties(gpu(device))
    return f"{properties.name} {properties.major}.{properties.minor}"


def profile_of(path: Path) -> Profile:
    """The shapes to build for: batches of 1 to 8 with 1 in mind; whole pictures one at a time, any usual size.

    Raises EngineError for a file that is no ONNX model.
    """
    return {name: _range(shape) for name, shape in _inputs(path).items()}


def key_of(path: Path, device: str, precision: str, builder: str | None = None) -> PlanKey:
    """The key of the plan of an ONNX file for a GPU here; raises EngineError as `tensorrt` does."""
    version = str(tensorrt().__version__)
    made_by = builder or f"tensorrt {version}"
    return PlanKey(sha256(path), made_by, version, gpu_name(device), precision, profile_of(path))


def build(path: Path, device: str, precision: str) -> bytes:
    """The plan of an ONNX file, for the GPU `device`; takes minutes.

    precision: what the file computes in (`engines.whmr.export --precision`). What is fp32 is never TF32.
    Raises EngineError where it cannot be built, with what TensorRT said.
    """
    import torch

    trt, profile = tensorrt(), profile_of(path)
    with torch.cuda.device(torch.device(device)):
        logger = trt.Logger(trt.Logger.WARNING)
        builder = _builder(trt, logger)
        network = builder.create_network(_network_flags(trt))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(path.read_bytes()):
            said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise EngineError(f"{path}: TensorRT {trt.__version__} cannot read the model ({said}).")
        config = _config(trt, builder, network, precision)
        optimization = builder.create_optimization_profile()
        for name, shapes in profile.items():
            optimization.set_shape(name, *shapes)
        config.add_optimization_profile(optimization)
        remembered = _remembered(config, timings := timings_path(str(trt.__version__), gpu_name(device)))
        plan = builder.build_serialized_network(network, config)
        if plan is not None and remembered is not None:
            _remember(remembered, timings)
    if plan is None:
        raise EngineError(f"{path}: TensorRT {trt.__version__} could not build a plan; its messages above say why.")
    return bytes(plan)


def timings_path(version: str, gpu: str, store: str | Path | None = None) -> Path:
    """Where the kernels' times measured on a GPU lie, with which a plan of other weights is built in seconds."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"tensorrt {version} {gpu}")
    return store_dir(store) / FOLDER / f"{name}.timings"


def _remembered(config: Any, path: Path) -> Any:
    """A timing cache of the file, an empty one without, in use by `config`; None where TensorRT takes neither."""
    for content in (path.read_bytes() if path.is_file() else b"", b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _remember(cache: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, bytes(cache.serialize()))
    except OSError as e:
        log.warning("%s: the kernels' times cannot be kept (%s).", path, e)


def _builder(trt: Any, logger: Any) -> Any:
    try:
        return trt.Builder(logger)
    # pybind11 raises TypeError where the library's own constructor gives nothing
    except (TypeError, RuntimeError) as e:
        raise EngineError(
            f"TensorRT {trt.__version__} does not start on this GPU or driver ({str(e).splitlines()[0]}). "
            "Type: nvidia-smi"
        ) from e


def _typed(trt: Any) -> bool:
    """Whether types come from the network; always so from 11 on, where the flag may be gone."""
    return int(trt.__version__.split(".")[0]) >= 10


def _network_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    wanted = getattr(flags, "STRONGLY_TYPED" if _typed(trt) else "EXPLICIT_BATCH", None)
    return 0 if wanted is None else 1 << int(wanted)


def _config(trt: Any, builder: Any, network: Any, precision: str) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if (tf32 := getattr(trt.BuilderFlag, "TF32", None)) is not None:
        config.clear_flag(tf32)
    if not _typed(trt) and precision == "fp16":
        config.set_flag(trt.BuilderFlag.FP16)
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        _pin_single(trt, network)
    preview = getattr(trt, "PreviewFeature", None)
    if (sharing := getattr(preview, "PROFILE_SHARING_0806", None)) is not None and not _typed(trt):
        config.set_preview_feature(sharing, True)
    if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
        config.progress_monitor = _progress(trt)
    return config


def _pin_single(trt: Any, network: Any) -> None:
    """Keeps in fp32 what the file computes in fp32, where types are only hints."""
    moved = {trt.LayerType.SHAPE, trt.LayerType.CONSTANT, trt.LayerType.CAST, trt.LayerType.IDENTITY}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        outputs = [layer.get_output(k) for k in range(layer.num_outputs)]
        floats = all(t is not None and t.dtype == trt.float32 and t.is_execution_tensor for t in outputs)
        if layer.type in moved or not outputs or not floats:
            continue
        layer.precision = trt.float32
        for k in range(layer.num_outputs):
            layer.set_output_type(k, trt.float32)


def _progress(trt: Any) -> Any:
    """A monitor that logs how far each phase is, every few seconds."""

    class Progress(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.said = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            total = self.steps.get(phase_name, 0)
            if total > 1 and time.monotonic() - self.said > 2:
                done = round(20 * step / total)
                log.info("  [%s%s] %s", "#" * done, "." * (20 - done), phase_name)
                self.said = time.monotonic()
            return True

    return Progress()


def _inputs(path: Path) -> dict[str, list[int | None]]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except DecodeError as e:
        raise EngineError(f"{path}: expected an ONNX model, got another or a cut file.") from e
    constants = {tensor.name for tensor in graph.initializer}
    return {
        value.name: [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
        for value in graph.input
        if value.name not in constants
    }


def _range(shape: list[int | None]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    open_axes = [axis for axis, n in enumerate(shape) if n is None]
    small, usual, large = ([n or 1 for n in shape] for _ in range(3))
    if open_axes == [0]:
        large[0] = MAX_BATCH
    elif open_axes == [0, 2, 3]:
        for axis, lengths in ((2, PICTURE_HEIGHTS), (3, PICTURE_WIDTHS)):
            small[axis], usual[axis], large[axis] = lengths
    elif open_axes:
        raise EngineError(f"expected a model whose batch, or batch and picture size, are open; got the shape {shape}.")
    return tuple(small), tuple(usual), tuple(large)
