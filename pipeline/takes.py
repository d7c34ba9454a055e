"""Recordings that are started and ended while the stream runs."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from pipeline.limited_log import LimitedLog
from pipeline.recording import Recording, open_recorder
from pipeline.types import Frame, FrameResult

log = logging.getLogger(__name__)


class Takes:
    """A sink that records from `start` to `stop`, one file at a time, into one folder. Use by one thread.

    Making a file of a journal takes its time, so that is done beside the stream; `close` waits for it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recorder: Recording | None = None
        self._path, self._frames = folder, 0
        self._closing: list[threading.Thread] = []
        self._limited = LimitedLog(log)

    @property
    def name(self) -> str | None:
        """The file that is being recorded, or None."""
        return None if self._recorder is None else self._path.name

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Writes one frame while a recording goes on; a disk that fills up is said now and then."""
        if self._recorder is None:
            return
        try:
            self._recorder.write(result)
            self._frames += 1
        except OSError as error:
            self._limited.warning("%s", error)

    def start(self, name: str) -> Path:
        """Begins a recording, .npz unless `name` ends in .mcap; where it will be.

        Raises ValueError for a name that is no plain file name or while another goes on, OSError where the folder
        cannot be written or has such a file.
        """
        if self._recorder is not None:
            raise ValueError(f"{self.name} is being recorded: stop that first.")
        if Path(name).name != name:
            raise ValueError(f"Expected a plain name for a recording, without folders, got {name!r}.")
        path = self._folder / (name if name.endswith((".npz", ".mcap")) else f"{name}.npz")
        self._folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise FileExistsError(f"{path} exists already: name another file.")
        try:
            self._recorder = open_recorder(path)
        except ImportError as error:
            raise ValueError(f"Not recorded: {error}") from error
        self._path, self._frames = path, 0
        return path

    def stop(self) -> tuple[Path, int]:
        """Ends the recording; its file, which is there a moment later, and how many frames it has.

        Raises ValueError while nothing is recorded.
        """
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            raise ValueError("Nothing is being recorded.")
        thread = threading.Thread(target=_finish, args=(recorder,), name="take")
        thread.start()
        self._closing = [t for t in self._closing if t.is_alive()] + [thread]
        return self._path, self._frames

    def close(self) -> None:
        """Ends what is recorded and waits for its file. A second call does nothing."""
        if self._recorder is not None:
            self.stop()
        for thread in self._closing:
            thread.join()


def _finish(recorder: Recording) -> None:
    try:
        recorder.__exit__(None, None, None)
    except OSError as error:
        log.warning("%s", error)
