"""Recordings in MCAP files (mcap.dev): messages of the wire as they were, appended; a kill costs FLUSH_S at most.

One channel a topic; its messages are the payloads of the wire, byte for byte (message encoding "msgpack" for `pose/`,
"json" for the rest), its schema is the record's JSON Schema. `log_time` is the Unix time at which a message was
received (or, recorded by the stream itself, made), `publish_time` the message's own `t_publish_wall_ns`, `sequence` a
pose's index. A metadata record "whmr-stream" says program, schema version, joint names, joint parents and world axes.
Chunks are closed and handed to the system every FLUSH_S, so a file without its end is read up to there (a power cut
may lose what the system had not written yet).
"""

from __future__ import annotations

import functools
import json
import logging
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import msgspec

from pipeline.messages import SCHEMA_VERSION, CalibrationMessage, Message, PoseMessage, StatusMessage
from pipeline.publisher import program_version
from pipeline.schema import WORLD_AXES
from pipeline.types import JOINT_NAMES, JOINT_PARENTS

try:
    import zstandard
    from mcap.exceptions import McapError
    from mcap.records import Channel, Chunk, Footer, McapRecord, Metadata, Schema
    from mcap.records import Message as McapMessage
    from mcap.stream_reader import StreamReader, breakup_chunk
    from mcap.writer import LIBRARY_IDENTIFIER, Writer
except ImportError as error:
    raise ImportError(f".mcap recordings need a package that is missing ({error}): pip install mcap==1.6.0") from error

log = logging.getLogger(__name__)

MAGIC = b"\x89MCAP0\r\n"
METADATA = "whmr-stream"
#: Seconds of messages that a kill may cost.
FLUSH_S = 0.25
#: No record of ours is longer; a length above this is damage.
_LONGEST = 1 << 28
_DAMAGE = (McapError, ValueError, struct.error, zstandard.ZstdError, EOFError, MemoryError, OverflowError)


@dataclass(frozen=True)
class Recorded:
    """A message of a recording: the bytes that ZeroMQ carried (topic, NUL, payload) and their Unix time."""

    raw: bytes
    log_time_ns: int


class _Appender:
    """What the MCAP writer writes to: bytes that a full disk refuses wait for the next flush, so none is torn out."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._pending = bytearray()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._pending += data
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        while self._pending:
            del self._pending[: self._file.write(self._pending)]


class _Rest:
    """What is left of a file to read; a damaged length does not ask for more memory than that."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, length: int) -> bytes:
        return self._file.read(max(0, min(length, self._size - self._file.tell())))


class McapWriter:
    """Appends messages to a new file; a context manager. Use by one thread."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a name that is not .mcap, FileExistsError for a file that is there, OSError."""
        if path.suffix != ".mcap":
            raise ValueError(f"Expected a name that ends with .mcap for the recording, got {str(path)!r}.")
        try:
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115
        except FileExistsError as error:
            raise FileExistsError(f"{path} exists already: name another file, or remove this one.") from error
        except OSError as error:
            raise OSError(f"Cannot record to {path}: {error.strerror}; name another file.") from error
        self.path, self.count = path, 0
        self._appender = _Appender(self._file)
        self._writer = Writer(cast(IO[bytes], self._appender))
        self._schemas: dict[tuple[type, str], int] = {}
        self._channels: dict[bytes, int] = {}
        # made before the first frame, which would wait for them
        for record, blobs in ((PoseMessage, True), (CalibrationMessage, False), (StatusMessage, False)):
            _schema_text(record, blobs)
        self._writer.start(library=f"{program_version()}; {LIBRARY_IDENTIFIER}")
        self._writer.add_metadata(METADATA, _metadata())
        self._due_s, self._full = 0.0, ""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, raw: bytes, message: Message, log_time_ns: int) -> None:
        """Keeps one message: `raw` as on the wire, `message` decoded, Unix time in nanoseconds.

        Raises OSError when the disk is full; what was kept before stays, and later messages are kept again when there
        is room.
        """
        if self._full:
            self.flush()
        topic, _, payload = raw.partition(b"\0")
        if topic not in self._channels:
            self._channels[topic] = self._channel(topic.decode(), payload, type(message))
        self._writer.add_message(
            self._channels[topic],
            log_time=log_time_ns,
            data=payload,
            publish_time=max(0, getattr(message, "t_publish_wall_ns", log_time_ns)),
            sequence=getattr(message, "index", 0) & 0xFFFFFFFF,
        )
        self.count += 1
        self.tick()

    def tick(self) -> None:
        """Writes what was collected where that is due; for loops in which nothing came. Raises as `write`."""
        if time.monotonic() >= self._due_s:
            self.flush()

    def flush(self) -> None:
        """Hands everything to the system, so that a kill cannot take it. Raises OSError when the disk is full."""
        self._due_s = time.monotonic() + FLUSH_S
        try:
            self._writer.flush()
        except OSError as error:
            self._full = f"{self.path} cannot grow ({error.strerror}): it keeps what was recorded before."
            raise OSError(self._full) from error
        self._full = ""

    def close(self) -> None:
        """Writes index and end. A second call does nothing. Raises OSError when the disk is full; the file stays."""
        if self._file.closed:
            return
        try:
            self._writer.finish()
            self._appender.flush()
        except OSError as error:
            raise OSError(
                f"{self.path} has no end, {error.strerror}; what it holds can be read, and made whole later: "
                f"python -m bridges.record recover {self.path}"
            ) from error
        finally:
            self._file.close()

    def _channel(self, topic: str, payload: bytes, record: type) -> int:
        encoding = "json" if payload[:1] == b"{" else "msgpack"
        if (record, encoding) not in self._schemas:
            text = _schema_text(record, encoding == "msgpack")
            self._schemas[record, encoding] = self._writer.register_schema(record.__name__, "jsonschema", text)
        return self._writer.register_channel(topic, encoding, self._schemas[record, encoding])


@functools.cache
def _schema_text(record: type, blobs: bool) -> bytes:
    return json.dumps(json_schema(record, blobs)).encode()


def json_schema(record: type, blobs: bool) -> dict[str, Any]:
    """The JSON Schema of a record of the wire; `blobs`: arrays are bytes of little-endian numbers, else lists."""
    array: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
    if blobs:
        numbers = "msgpack bin: float32, little-endian; indices are uint32"
        array = {"type": "string", "contentEncoding": "base64", "description": numbers}
    _, found = msgspec.json.schema_components([record], schema_hook=lambda _: array, ref_template="#/$defs/{name}")
    # readers of MCAP want the type of the whole at the top, not a reference to it
    return cast(dict[str, Any], found.pop(record.__name__)) | {"$defs": found}


def _metadata() -> dict[str, str]:
    return {
        "program": program_version(),
        "schema_version": str(SCHEMA_VERSION),
        "joint_names": json.dumps(JOINT_NAMES),
        "joint_parents": json.dumps(JOINT_PARENTS),
        "world_axes": WORLD_AXES,
        "log_time": "Unix time of receiving or, recorded by the stream itself, of making the message; nanoseconds",
    }


def read_mcap(path: Path) -> Iterator[Recorded]:
    """Messages in the order of the file, up to its end or to where it was cut; damage is logged and left out.

    Raises ValueError when it is no MCAP file, OSError when it cannot be read.
    """
    channels: dict[int, bytes] = {}
    for record in _records(path):
        if isinstance(record, Channel):
            channels[record.id] = record.topic.encode() + b"\0"
        elif isinstance(record, McapMessage) and record.channel_id in channels:
            yield Recorded(channels[record.channel_id] + record.data, record.log_time)


def read_metadata(path: Path) -> dict[str, str]:
    """What the recording says about itself: program, schema_version, joint_names ...; empty for other MCAP files."""
    for record in _records(path):
        if isinstance(record, Metadata) and record.name == METADATA:
            return dict(record.metadata)
    return {}


def make_whole(path: Path, out: Path) -> int:
    """Copies what is whole of a recording, as after a kill, into the new file `out`; returns how many messages.

    Pieces of a megabyte compress better than those of a running recording. Raises ValueError when `path` is no MCAP
    file, FileExistsError when `out` is there, OSError.
    """
    count = 0
    schemas: dict[int, int] = {0: 0}
    channels: dict[int, int] = {}
    _check_magic(path)
    with open(out, "xb") as file:
        writer = Writer(file)
        writer.start(library=f"{program_version()}; {LIBRARY_IDENTIFIER}")
        for record in _records(path):
            if isinstance(record, Metadata):
                writer.add_metadata(record.name, record.metadata)
            elif isinstance(record, Schema) and record.id not in schemas:
                schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
            elif isinstance(record, Channel) and record.id not in channels:
                schema = schemas.get(record.schema_id, 0)
                channels[record.id] = writer.register_channel(
                    record.topic, record.message_encoding, schema, record.metadata
                )
            elif isinstance(record, McapMessage) and record.channel_id in channels:
                channel = channels[record.channel_id]
                writer.add_message(channel, record.log_time, record.data, record.publish_time, record.sequence)
                count += 1
        writer.finish()
    return count


def _records(path: Path) -> Iterator[McapRecord]:
    whole = False
    _check_magic(path)
    with open(path, "rb") as file:
        file.seek(len(MAGIC))
        reader = StreamReader(
            cast(IO[bytes], _Rest(file)), skip_magic=True, emit_chunks=True, record_size_limit=_LONGEST
        )
        try:
            for record in reader.records:
                whole = whole or isinstance(record, Footer)
                yield from _opened(path, record) if isinstance(record, Chunk) else (record,)
        except _DAMAGE as error:
            log.debug("%s: %r", path, error)
    if not whole:
        log.warning("%s has no end, as after a kill: what is whole is read.", path)


def _check_magic(path: Path) -> None:
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path}: expected an MCAP recording, as run_stream.py --record x.mcap makes; it is none.")


def _opened(path: Path, chunk: Chunk) -> list[McapRecord]:
    try:
        return breakup_chunk(chunk, validate_crc=True)
    except _DAMAGE as error:
        log.warning("%s: a piece of %d bytes is damaged and left out (%s).", path, chunk.uncompressed_size, error)
        return []
