"""What every video source is to the stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import StrEnum
from types import TracebackType
from typing import Self

from pipeline.types import Frame


class SourceState(StrEnum):
    """Where a source stands."""

    CONNECTING = "connecting"
    STREAMING = "streaming"
    STALE = "stale"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class Source(ABC):
    """One camera, live or recorded. A context manager; `read` is for one thread, the rest for any.

    camera_id  names the camera in topics and in the cache; the same after every reconnection
    live       true when the newest frame wins; false when every frame is given, in order
    size_wh    pixels of the pictures, after rotation
    fps        nominal frames a second
    """

    camera_id: str
    live: bool
    size_wh: tuple[int, int]
    fps: float

    @abstractmethod
    def read(self, timeout_s: float = 1.0) -> Frame | None:
        """The next frame; blocks for at most `timeout_s`.

        Live: the newest frame that was not given yet, so a slow reader skips frames and never gets an old one. None
        when none came in time: `state` says whether the camera is being reconnected. A camera that worked once never
        raises here; it is reconnected for as long as the source is open.

        Recorded: the next frame of the file, whatever the time. None with state "ended" at its end. Raises
        SourceError when the rest cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the capture thread and gives the device back. May be called again; `read` gives None afterwards.

        A thread that waits inside a driver cannot be woken; it is left alone after a second, delivers nothing any
        more, and ends when the driver's own time-out does.
        """

    @property
    @abstractmethod
    def dropped(self) -> int:
        """Frames that were never given since the start: overtaken by newer ones, or damaged."""

    @property
    @abstractmethod
    def state(self) -> SourceState:
        """Where the source stands now."""

    def frames(self) -> Iterator[Frame]:
        """Every frame that `read` gives, until the source ends; waits through reconnections."""
        while True:
            frame = self.read()
            if frame is not None:
                yield frame
            elif self.state is SourceState.ENDED:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
