"""File formats, one module each. A writer is `write(path, scene)`; what it needs is imported when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridges.motion import Scene


@dataclass(frozen=True)
class Format:
    """What `bridges.convert` must know of a format before it writes one.

    module  in this package
    alone   whether a file holds one take of one person only
    ups     which worlds it can be written in, the usual one first
    """

    module: str
    alone: bool
    ups: tuple[str, ...]

    @property
    def write(self) -> Callable[[Path, Scene], None]:
        """Writes a scene; raises ImportError, one sentence that says what to install, without its package."""
        writer: Callable[[Path, Scene], None] = importlib.import_module(f"bridges.formats.{self.module}").write
        return writer


FORMATS = {
    ".bvh": Format("bvh", alone=True, ups=("y",)),
    ".glb": Format("glb", alone=False, ups=("y",)),
    ".npz": Format("amass", alone=True, ups=("z",)),
    ".usd": Format("usd", alone=False, ups=("y", "z")),
    ".usda": Format("usd", alone=False, ups=("y", "z")),
    ".usdc": Format("usd", alone=False, ups=("y", "z")),
    ".fbx": Format("fbx", alone=True, ups=("y",)),
    ".c3d": Format("c3d", alone=False, ups=("z", "y")),
    ".csv": Format("csv_table", alone=False, ups=("y", "z")),
}
