"""OSC 1.0 messages and bundles, packed once; afterwards only their floats are written (opensoundcontrol.org/spec-1_0).

Everything in OSC is a multiple of four bytes and big-endian, so a bundle is an array of words.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Argument = str | int | float
#: The time tag that says "at once": receivers that look at times wait for no clock.
_AT_ONCE = b"\0\0\0\0\0\0\0\1"
_BUNDLE_HEAD = b"#bundle\0" + _AT_ONCE


@dataclass(frozen=True)
class OscMessage:
    """An address and its arguments; Python's str, int and float become OSC's s, i and f."""

    address: str
    arguments: tuple[Argument, ...] = ()

    def packed(self) -> tuple[bytes, list[int]]:
        """The bytes, and where in them each float begins. Raises TypeError for another type, such as numpy's."""
        tags, data, floats = ",", b"", []
        for value in self.arguments:
            tag = {str: "s", int: "i", float: "f"}.get(type(value))
            if tag is None:
                raise TypeError(f"{self.address}: expected str, int or float as argument, got {type(value).__name__}.")
            if tag == "f":
                floats.append(len(data))
            tags += tag
            data += _string(value) if isinstance(value, str) else struct.pack(f">{tag}", value)
        head = _string(self.address) + _string(tags)
        return head + data, [len(head) + at for at in floats]


def _string(text: str) -> bytes:
    raw = text.encode("ascii")
    return raw + b"\0" * (4 - len(raw) % 4)


class BundleTemplate:
    """One bundle whose floats are written anew for every frame. Use by one thread."""

    def __init__(self, messages: Sequence[OscMessage]) -> None:
        """Packs the messages with the floats they have."""
        data, slots = bytearray(_BUNDLE_HEAD), []
        for message in messages:
            packed, floats = message.packed()
            data += struct.pack(">i", len(packed))
            slots += [(len(data) + at) // 4 for at in floats]
            data += packed
        self._words = np.frombuffer(data, dtype=">f4")
        self._slots = np.array(slots, dtype=np.intp)

    @property
    def size(self) -> int:
        """Bytes of the datagram."""
        return self._words.nbytes

    @property
    def floats(self) -> int:
        """How many floats `pack` takes."""
        return len(self._slots)

    def pack(self, values: ArrayLike) -> bytes:
        """The datagram with `values` (floats,) in the order of the messages' float arguments."""
        self._words[self._slots] = values
        return self._words.tobytes()


def split(messages: Sequence[OscMessage], max_bytes: int) -> list[BundleTemplate]:
    """Bundles of at most `max_bytes` each that hold the messages in their order, as few as possible.

    Raises ValueError when one message alone is larger.
    """
    bundles: list[list[OscMessage]] = []
    size = max_bytes + 1
    for message in messages:
        length = 4 + len(message.packed()[0])
        if len(_BUNDLE_HEAD) + length > max_bytes:
            raise ValueError(f"{message.address}: {length} bytes do not fit into a bundle of {max_bytes}.")
        if size + length > max_bytes:
            bundles.append([])
            size = len(_BUNDLE_HEAD)
        bundles[-1].append(message)
        size += length
    return [BundleTemplate(bundle) for bundle in bundles]
