"""Which recorder a name asks for."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol

from pipeline.recorder import Recorder
from pipeline.types import FrameResult


class Recording(Protocol):
    """What keeps frames; a context manager that finishes its file."""

    def write(self, result: FrameResult) -> None:
        """Keeps one frame. Raises OSError when the disk is full; what was kept before stays."""

    def __enter__(self) -> Recording: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_recorder(path: Path) -> Recording:
    """The recorder of a name: plain arrays for .npz, messages for .mcap.

    Raises ValueError for another ending, FileExistsError for a file that is there, OSError for one that cannot be
    written, ImportError when .mcap needs a package that is missing.
    """
    if path.suffix != ".mcap":
        return Recorder(path)
    from pipeline.mcap_recorder import McapRecorder

    return McapRecorder(path)
