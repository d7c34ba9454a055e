"""Weights from files: the released checkpoint, or the safetensors file that `convert` made of it.

Both hold the same 634 tensors. Only tensors are read (`weights_only=True`); nothing in a file is executed.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.whmr.graphormer import HybridRound
from engines.whmr.network import MARKERS, POINT_CHANNELS, ROUNDS, WHMR, Config
from engines.whmr.smpl import PARENTS, VERTICES

CONVERT_COMMAND = "python -m engines.whmr.convert CHECKPOINT OUT.safetensors"
OFFICIAL = "w-hmr-p-vitpose_checkpoint.pt"
_AGAIN = f"Download {OFFICIAL} again and compare its size."
#: Where the safetensors file notes the marker ids, so that one file is enough.
MARKER_KEY = "marker_ids"
#: Body model tensors that every round of the checkpoint carries, and that must agree.
_SHARED = ("v_template", "shapedirs", "posedirs", "lbs_weights", "J_regressor", "faces_tensor")


class CheckpointError(OSError):
    """A file of weights or markers is missing, cut or another one; the message ends with what to do."""


def read_markers(path: str | Path) -> Tensor:
    """The 67 marker vertex ids, int64, of a .npy file (`smpl_ssm.npy` of the W-HMR data); raises CheckpointError."""
    expected = f"expected a .npy file of {MARKERS} vertex numbers in 0..{VERTICES - 1}, W-HMR's data/smpl/smpl_ssm.npy"
    try:
        ids = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; {expected}. Name it with --markers FILE") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise CheckpointError(f"{path}: {expected}, got a file that NumPy cannot read ({e}).") from None
    if not isinstance(ids, np.ndarray) or ids.shape != (MARKERS,) or ids.dtype.kind not in "iu":
        got = f"{ids.dtype} {ids.shape}" if isinstance(ids, np.ndarray) else "an archive"
        raise CheckpointError(f"{path}: {expected}, got {got}.")
    if ids.min() < 0 or ids.max() >= VERTICES:
        raise CheckpointError(f"{path}: {expected}, got numbers from {ids.min()} to {ids.max()}.")
    return torch.from_numpy(ids.astype(np.int64))


@cache
def expected(config: Config | None = None) -> Mapping[str, Tensor]:
    """Name -> tensor without memory, with the shape and type that a file must have."""
    return MappingProxyType(_skeleton(torch.zeros(MARKERS, dtype=torch.int64), config).state_dict())


def read(path: str | Path) -> tuple[dict[str, Tensor], Tensor | None]:
    """The checked tensors by name, on the CPU, and the marker ids if the file notes them.

    The tensors may lie in the mapped file. Raises CheckpointError for a missing, cut or other file.
    """
    path = Path(path)
    state, markers = _read_safetensors(path) if _is_safetensors(path) else (_read_torch(path), None)
    check(state, str(path))
    return state, markers


def marker_ids(path: str | Path, markers: str | Path | None = None) -> Tensor:
    """The marker ids that go with the weights `path`: of the file `markers`, else those the weights note.

    Raises CheckpointError when the weights are missing or cut, or there are no such markers.
    """
    path = Path(path)
    if _is_safetensors(path):
        return _markers(path, markers, _noted_markers(path))
    _check_zip(path)
    return _markers(path, markers, None)


def _markers(path: Path, markers: str | Path | None, noted: Tensor | None) -> Tensor:
    if markers is not None:
        return read_markers(markers)
    if noted is None:
        raise CheckpointError(
            f"{path}: it does not note the {MARKERS} marker vertices; expected --markers smpl_ssm.npy beside it, or "
            f"type: {CONVERT_COMMAND} --markers smpl_ssm.npy"
        )
    return noted


def _is_safetensors(path: Path) -> bool:
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file; expected {OFFICIAL} from the authors of W-HMR, or what this wrote: "
            f"{CONVERT_COMMAND}"
        )
    with path.open("rb") as f:
        return f.read(9)[8:] == b"{"


def load(
    path: str | Path,
    markers: str | Path | None = None,
    device: str | torch.device = "cpu",
    config: Config | None = None,
) -> WHMR:
    """The network in eval mode with the weights of `path` on `device`.

    markers  the .npy file of marker ids; None where the safetensors file notes them
    Raises CheckpointError for files that are missing, cut or others.
    """
    state, noted = read(path)
    return assemble(state, _markers(Path(path), markers, noted), config).to(device)


def assemble(state: Mapping[str, Tensor], marker_ids: Tensor, config: Config | None = None) -> WHMR:
    """The network in eval mode around the tensors of `state`, which it takes without copying.

    A round that the released weights lack (`Config.hybrid`) starts from its own initial values.
    """
    net = _skeleton(marker_ids, config)
    state = dict(state)
    if config is not None and config.hybrid is not None and not any(k.startswith("hybrid.") for k in state):
        fresh = HybridRound(config.hybrid, POINT_CHANNELS * MARKERS)
        fresh.set_mesh(state["regressor.0.smpl.faces_tensor"].numpy(), state["maf_extractor.0.Dmap"].numpy())
        state |= {f"hybrid.{name}": value for name, value in fresh.state_dict().items()}
    net.load_state_dict(state, strict=True, assign=True)
    return net.eval()


def check(state: Mapping[str, Tensor], source: str, config: Config | None = None) -> None:
    """Raises CheckpointError, beginning with `source`, unless names, shapes and types are those of the network."""
    want = expected(config)
    ending = f"Expected {OFFICIAL}: its {len(want)} tensors."
    if missing := [k for k in want if k not in state]:
        raise CheckpointError(f"{source}: {len(missing)} tensors are missing, {missing[0]} first. {ending}")
    if extra := [k for k in state if k not in want]:
        raise CheckpointError(f"{source}: {len(extra)} tensors are unknown, {extra[0]} first. {ending}")
    for name, value in state.items():
        w = want[name]
        if value.shape != w.shape or value.dtype != w.dtype:
            kinds = [f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (w, value)]
            raise CheckpointError(f"{source}: {name}: expected {kinds[0]}, got {kinds[1]}. {ending}")
    for r in range(ROUNDS):
        # Some writers keep the root's parent as an unsigned -1
        if state[f"regressor.{r}.smpl.parents"][1:].tolist() != list(PARENTS[1:]):
            raise CheckpointError(f"{source}: regressor.{r}.smpl.parents is not SMPL's tree. {ending}")
        for name in _SHARED:
            key = f"smpl.{name}"
            if not torch.equal(state[f"regressor.{r}.{key}"], state[f"regressor.0.{key}"]):
                raise CheckpointError(f"{source}: rounds 0 and {r} have different body models ({key}). {ending}")


def _skeleton(marker_ids: Tensor, config: Config | None) -> WHMR:
    with torch.device("meta"):
        return WHMR(marker_ids, config)


def _check_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: expected a PyTorch or safetensors file, got a cut or another file. {_AGAIN}")


def _read_torch(path: Path) -> dict[str, Tensor]:
    _check_zip(path)
    try:
        with torch.serialization.safe_globals(_NUMPY_DATA):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as e:
        reason = str(e).splitlines()[0]
        raise CheckpointError(f"{path}: expected tensors only, got something that would run code ({reason}).") from None
    except (RuntimeError, ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as e:
        raise CheckpointError(f"{path}: PyTorch cannot read it ({str(e).splitlines()[0]}). {_AGAIN}") from None
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        keys = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path}: expected the weights under the key model, got {keys}. {_AGAIN}")
    return state


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Tensor | None]:
    with _opened(path) as f:
        state = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (it is no dict)
    return state, _noted_markers(path)


def _noted_markers(path: Path) -> Tensor | None:
    with _opened(path) as f:
        noted = (f.metadata() or {}).get(MARKER_KEY)
    return None if noted is None else torch.tensor(json.loads(noted))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as f:
            yield f
    except (SafetensorError, OSError, ValueError) as e:
        raise CheckpointError(
            f"{path}: expected whole weights, got a cut file ({e}). Type: {CONVERT_COMMAND}"
        ) from None


def save(state: Mapping[str, Tensor], path: str | Path, marker_ids: Tensor | None = None) -> None:
    """Writes the tensors as safetensors, in one move; notes the marker ids if given. Raises OSError where it cannot."""
    from safetensors.torch import save_file

    path = Path(path)
    note = {MARKER_KEY: json.dumps(marker_ids.tolist())} if marker_ids is not None else {}
    partial = path.with_name(f".{path.name}.part")
    try:
        save_file(_apart(state), partial, {"format": "pt"} | note)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in memory of its own, which safetensors insists on."""
    apart, taken = {}, set()
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        if tensor.untyped_storage().nbytes() > tensor.nbytes or tensor.data_ptr() in taken:
            tensor = tensor.clone()
        taken.add(tensor.data_ptr())
        apart[name] = tensor
    return apart


#: Scalars and arrays of NumPy that a training loop may have noted beside the weights.
_NUMPY_DATA: list[Any] = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),  # type: ignore[attr-defined]
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64", "bool")),
]
