"""Opens the networks trained on landmarks, which ship with the project."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from engines.runtime import Engine, open_engine


def open_networks(
    files: Sequence[Path], stack: ExitStack, backend: str = "auto", threads: int | None = 1, max_batch: int = 4
) -> list[Engine]:
    """The engines of `files`, warmed for 1 to `max_batch` people; `stack` closes them. Raises as `open_engine` does.

    One thread: they are small, and waking another costs more than it does. For the same reason "auto" is ONNX Runtime,
    whose call costs less than OpenVINO's.
    """
    backend = "onnx" if backend == "auto" else backend
    engines = []
    for file in files:
        engine = stack.enter_context(closing(open_engine(file, "cpu", backend, threads=threads)))
        engine.warm(range(1, max_batch + 1))
        engines.append(engine)
    return engines
