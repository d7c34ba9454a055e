"""ROS 2 messages without ROS: CDR by rosbags, into an MCAP file that Foxglove, `ros2 bag play` and rqt_bag read.

The file holds the message definitions, so readers need no packages of ours. Latched topics carry their quality of
service. A program that is killed leaves a file without index; `mcap recover` (mcap's command line tool) mends it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bridges.ros_values import Outgoing, RosMessage

try:
    from mcap.writer import Writer
    from rosbags.interfaces import Nodetype
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
except ImportError as missing:
    raise ImportError(
        f"Writing ROS 2 messages to a file needs rosbags and mcap ({missing}): pip install rosbags mcap."
    ) from missing

log = logging.getLogger(__name__)

#: Fields of ros4hri's hri_msgs 2 that REP-155 asks for; rosbags knows only the common interfaces.
HRI_DEFINITIONS = {
    "hri_msgs/msg/IdsList": "std_msgs/Header header\nstring[] ids",
    "hri_msgs/msg/NormalizedPointOfInterest2D": "float32 x\nfloat32 y\nfloat32 c",
    "hri_msgs/msg/NormalizedRegionOfInterest2D": (
        "std_msgs/Header header\nfloat32 xmin\nfloat32 ymin\nfloat32 xmax\nfloat32 ymax\nfloat32 c"
    ),
    "hri_msgs/msg/Skeleton2D": "std_msgs/Header header\nhri_msgs/NormalizedPointOfInterest2D[18] skeleton",
}
_LATCHED = (
    "- history: 1\n  depth: 1\n  reliability: 1\n  durability: 1\n  deadline: {sec: 2147483647, nsec: 4294967295}\n"
    "  lifespan: {sec: 2147483647, nsec: 4294967295}\n  liveliness: 1\n"
    "  liveliness_lease_duration: {sec: 2147483647, nsec: 4294967295}\n  avoid_ros_namespace_conventions: false\n"
)
_DTYPES = {
    "bool": np.bool_, "byte": np.uint8, "uint8": np.uint8, "int8": np.int8, "uint16": np.uint16, "int16": np.int16,
    "uint32": np.uint32, "int32": np.int32, "uint64": np.uint64, "int64": np.int64, "float32": np.float32,
    "float64": np.float64,
}  # fmt: skip


class Cdr:
    """Turns a RosMessage into CDR bytes and names its definition. Fields that are not given are zero or empty."""

    def __init__(self) -> None:
        self._store = get_typestore(Stores.ROS2_HUMBLE)
        for name, text in HRI_DEFINITIONS.items():
            self._store.register(get_types_from_msg(text, name))
        self._empty: dict[str, dict[str, Any]] = {}

    def definition(self, name: str) -> bytes:
        """The message definition with all those it uses, as MCAP's schema encoding "ros2msg" wants it."""
        return self._store.generate_msgdef(name, ros_version=2)[0].encode()

    def encode(self, message: RosMessage) -> bytes:
        """CDR bytes, little-endian, with their header. Raises KeyError for a type, TypeError for a field it lacks."""
        return bytes(self._store.serialize_cdr(self._object(message), message.type))

    def _object(self, message: RosMessage) -> Any:
        given = {name: self._value(message.type, name, value) for name, value in message.fields.items()}
        return self._store.types[message.type](**{**self._empty_fields(message.type), **given})

    def _value(self, kind: str, name: str, value: Any) -> Any:
        if isinstance(value, RosMessage):
            return self._object(value)
        if not isinstance(value, list):
            return value
        if value and isinstance(value[0], RosMessage):
            return [self._object(v) for v in value]
        empty = self._empty_fields(kind)[name]
        return np.array(value, dtype=empty.dtype) if isinstance(empty, np.ndarray) else value

    def _empty_fields(self, kind: str) -> dict[str, Any]:
        if kind not in self._empty:
            self._empty[kind] = {name: self._empty_value(desc) for name, desc in self._store.fielddefs[kind][1]}
        return self._empty[kind]

    def _empty_value(self, description: Any) -> Any:
        node, what = description
        if node == Nodetype.NAME:
            return self._store.types[what](**self._empty_fields(what))
        if node == Nodetype.BASE:
            kind = what[0]
            return "" if kind == "string" else _DTYPES[kind](0).item()
        inner, count = what
        if inner[0] == Nodetype.BASE and inner[1][0] != "string":
            return np.zeros(count if node == Nodetype.ARRAY else 0, dtype=_DTYPES[inner[1][0]])
        return [self._empty_value(inner) for _ in range(count)] if node == Nodetype.ARRAY else []


class McapOutput:
    """Writes messages to `path`. Use by one thread."""

    def __init__(self, path: Path) -> None:
        """Raises FileExistsError when `path` is there, ValueError for another suffix, OSError for a bad folder."""
        if path.suffix != ".mcap":
            raise ValueError(f"ROS messages go into an .mcap file, got {str(path)!r}: type --out {path.stem}.mcap.")
        if path.exists():
            raise FileExistsError(f"{path} exists already: name another file for --out, or remove this one.")
        self._path, self._cdr = path, Cdr()
        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115
        self._writer = Writer(self._file, chunk_size=1 << 18)
        self._writer.start(profile="ros2", library="whmr-stream")
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def send(self, outgoing: Outgoing, log_time_ns: int, publish_time_ns: int) -> None:
        """Appends a message. Raises OSError when the disk is full."""
        channel = self._channel(outgoing)
        count = self._counts[outgoing.topic] = self._counts.get(outgoing.topic, 0) + 1
        data = self._cdr.encode(outgoing.message)
        self._writer.add_message(channel, log_time_ns, data, publish_time_ns, count)

    def forget(self, topics: str) -> None:
        """Nothing to do: a file keeps its topics."""

    def close(self) -> None:
        """Writes the index; a file that got nothing is removed. A second call does nothing."""
        if self._file.closed:
            return
        self._writer.finish()
        self._file.close()
        if not self._counts:
            self._path.unlink()
            log.warning("Nothing came, so %s was not kept.", self._path)

    def _channel(self, outgoing: Outgoing) -> int:
        kind = outgoing.message.type
        if kind not in self._schemas:
            self._schemas[kind] = self._writer.register_schema(kind, "ros2msg", self._cdr.definition(kind))
        if outgoing.topic not in self._channels:
            about = {"offered_qos_profiles": _LATCHED} if outgoing.latched else {}
            self._channels[outgoing.topic] = self._writer.register_channel(
                outgoing.topic, "cdr", self._schemas[kind], about
            )
        return self._channels[outgoing.topic]
