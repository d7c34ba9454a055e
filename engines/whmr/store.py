"""Where exported engines lie: `engines/store/whmr/KEY`, one folder for each file of weights.

KEY is `synthetic`, or the hash of the weights and the marker ids, so other weights never meet old engines. A folder
holds the engines, `body.npz` (the weights' own body model) and, written last, `manifest.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.models import write_whole
from engines.whmr import checkpoint
from engines.whmr.checkpoint import CheckpointError
from engines.whmr.export import SYNTHETIC, file_name
from engines.whmr.network import WHMR
from engines.whmr.parts import PARTS

STORE = Path(__file__).parents[1] / "store" / "whmr"
MANIFEST, BODY = "manifest.json", "body.npz"
#: Counts up whenever what is exported changes, so that older exports are refused.
FORMAT = 3
_BODY_ARRAYS = ("v_template", "shapedirs", "J_regressor", "lbs_weights", "posedirs", "faces_tensor")


def key(weights: str | Path, markers: str | Path | None = None) -> str:
    """Name of the folder for a file of weights with its marker ids; reads the file once.

    Raises CheckpointError for a missing file, and for markers that are missing or others.
    """
    if str(weights) == SYNTHETIC:
        return SYNTHETIC
    ids = checkpoint.marker_ids(weights, markers)
    with Path(weights).open("rb") as f:
        digest = hashlib.file_digest(f, "sha256")
    digest.update(ids.numpy().tobytes())
    return digest.hexdigest()[:16]


def prepare_command(weights: str | Path, markers: str | Path | None = None) -> str:
    """What to type to have the engines of these weights."""
    return f"python -m engines.whmr.prepare --weights {weights}" + (f" --markers {markers}" if markers else "")


def engine_file(folder: Path, name: str) -> Path:
    """The ONNX file of the engine `name` in fp32; others lie beside it."""
    return folder / file_name(name)


def note(net: WHMR, folder: Path, files: Iterable[Path]) -> None:
    """Writes the body model and the manifest beside engines that were exported into `folder` as `files`."""
    tensors = {name: getattr(net.smpl, name).numpy() for name in _BODY_ARRAYS}
    np.savez(folder / BODY, **tensors)
    sizes = {path.name: path.stat().st_size for path in (*files, folder / BODY)}
    text = json.dumps({"format": FORMAT, "depth": len(net.vit.blocks), "bytes": sizes}, indent=1)
    write_whole(folder / MANIFEST, f"{text}\n".encode())


def add(folder: Path, files: Iterable[Path]) -> None:
    """Notes in the manifest of a whole folder that `files` were exported into it too, such as those in fp16."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["bytes"] |= {path.name: path.stat().st_size for path in files}
    write_whole(folder / MANIFEST, f"{json.dumps(manifest, indent=1)}\n".encode())


def lacking(folder: Path, names: Iterable[str], precision: str) -> list[str]:
    """Those of the engines `names` that a folder found whole has not in this precision, by its manifest and sizes."""
    sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["bytes"]
    paths = {name: folder / file_name(name, precision) for name in names}
    return [name for name, path in paths.items() if not _as_noted(path, sizes)]


def _as_noted(path: Path, sizes: Mapping[str, int]) -> bool:
    return path.is_file() and path.stat().st_size == sizes.get(path.name)


def find(weights: str | Path, markers: str | Path | None = None, store: Path | None = None) -> Path:
    """The folder with all engines of these weights.

    Raises CheckpointError where they were not exported, are not whole or are of another format, with what to type;
    and for weights or markers that are missing or others.
    """
    folder = (store or STORE) / key(weights, markers)
    problem = _problem(folder)
    if problem is None:
        return folder
    if str(weights) != SYNTHETIC:
        checkpoint.read(weights)  # a wrong file is said to be one, before anybody tries to export it
    command = prepare_command(weights, markers) + (f" --store {store}" if store else "")
    raise CheckpointError(f"{weights}: {problem}. Type: {command}")


def body_arrays(folder: Path) -> Mapping[str, NDArray[Any]]:
    """The body model of the weights, by SMPL's names: v_template, shapedirs, J_regressor, ..."""
    with np.load(folder / BODY) as z:
        return {name: z[name] for name in _BODY_ARRAYS}


def _problem(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sizes, version = dict(manifest["bytes"]), manifest["format"]
    except FileNotFoundError:
        return "its engines have not been exported yet"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{folder / MANIFEST} cannot be read"
    if version != FORMAT:
        return f"its engines were exported in format {version}, this program reads format {FORMAT}"
    for name in (*(engine_file(folder, part).name for part in PARTS), BODY):
        if not _as_noted(folder / name, sizes):
            return f"{folder / name} is missing or cut"
    return None
