"""One message of a feed, what decides which messages a bridge gets, and what a feed is."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec

from pipeline import messages
from pipeline.limited_log import LimitedLog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One message.

    topic        as on the wire, for instance "pose/cam1/"
    kind         "pose", "calibration", "status", "pose_json" ...
    message      decoded
    raw          the whole ZeroMQ message as it came: topic, NUL, payload
    log_time_ns  Unix time at which it was received, or its time in the recording; never goes back
    """

    topic: str
    kind: str
    message: messages.Message
    raw: bytes
    log_time_ns: int


class _Version(msgspec.Struct):
    v: int


class Gate:
    """Decodes what came and decides what a bridge gets: one camera, messages that this reader understands."""

    def __init__(self, camera: str | None, name: str) -> None:
        """`camera`: None takes the first that comes. `name`: where messages come from, for sentences."""
        self.camera, self._name = camera, name
        self._fixed = camera is not None
        self.others: set[str] = set()
        self._refused: set[str] = set()
        self._limited = LimitedLog(log)

    def item(self, raw: bytes, log_time_ns: int) -> Item | None:
        """The message, or None for one that is another camera's, malformed or of a newer schema; that is logged."""
        topic = raw.partition(b"\0")[0].decode("ascii", "replace")
        kind, _, camera = topic.rstrip("/").partition("/")
        if self.camera is not None and camera != self.camera:
            self._pass_by(camera)
            return None
        try:
            topic, message = messages.decode(raw)
        except ValueError as error:
            self._refuse(kind, raw, error)
            return None
        self._refused.discard(kind)
        self.camera = camera
        return Item(topic, kind, message, raw, log_time_ns)

    def _pass_by(self, camera: str) -> None:
        if camera in self.others:
            return
        self.others.add(camera)
        if not self._fixed:
            log.warning(
                "%s has several cameras: taking %r, which came first, and leaving out %r; --camera NAME picks one.",
                self._name, self.camera, camera,
            )  # fmt: skip

    def _refuse(self, kind: str, raw: bytes, error: ValueError) -> None:
        if not _is_newer(raw):
            self._limited.warning("%s: %s", self._name, error)
        elif kind not in self._refused:
            self._refused.add(kind)
            log.warning("%s: %s Nothing is taken from it until then.", self._name, error)


def _is_newer(raw: bytes) -> bool:
    payload = raw.partition(b"\0")[2]
    decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
    try:
        return decode(payload, type=_Version).v > messages.SCHEMA_VERSION
    except (msgspec.MsgspecError, RecursionError):
        return False


class Feed(ABC):
    """Where items come from; a context manager. Use by one thread."""

    @abstractmethod
    def receive(self, timeout_s: float) -> Item | None:
        """The next item, or None when none came in time. What cannot be read is logged and left out."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether a recording is over; a live stream never is."""

    @abstractmethod
    def silence(self) -> str:
        """One sentence on why nothing came, empty when there is nothing to say."""

    @abstractmethod
    def close(self) -> None:
        """Frees what is open. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
