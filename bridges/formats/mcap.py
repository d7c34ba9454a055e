"""MCAP: our own recording (`pipeline.mcap_file`), with a part of a recording's messages.

Messages stay as they were, byte for byte; only where --person leaves somebody out are poses made anew.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from bridges.items import Item
from pipeline import messages
from pipeline.messages import PoseMessage

_KINDS = tuple(kind for kind in messages.KINDS if kind != "pose_json")
_WAIT_S = 1.0


def write_part(
    out: Path, recording: Path, camera: str | None, person: int | None, start_s: float, end_s: float
) -> tuple[int, int]:
    """Writes the messages between `start_s` and `end_s`, seconds since the first pose; returns poses and messages.

    What is not a pose and comes before `start_s` is kept once for each topic, the newest: a reader wants a calibration.
    Raises ValueError when no pose or person is left, OSError, and ImportError, naming what to install, without mcap.
    """
    from bridges.recorded_feed import RecordedFeed
    from pipeline.mcap_file import McapWriter

    waiting: dict[str, Item] = {}
    first_ns, poses, seen = None, 0, False
    with RecordedFeed(recording, _KINDS, camera, False, math.inf) as feed, McapWriter(out) as writer:
        while not feed.ended:
            item = feed.receive(_WAIT_S)
            if item is None:
                continue
            if isinstance(item.message, PoseMessage):
                first_ns = item.message.t_capture_ns if first_ns is None else first_ns
                at_s = (item.message.t_capture_ns - first_ns) / 1e9
                if at_s > end_s + 1e-9:
                    break
                if at_s < start_s - 1e-9:
                    continue
                for earlier in waiting.values():
                    writer.write(earlier.raw, earlier.message, earlier.log_time_ns)
                waiting.clear()
                raw, message = _of_person(item.raw, item.message, person)
                writer.write(raw, message, item.log_time_ns)
                poses, seen = poses + 1, seen or bool(message.people)
            elif poses:
                writer.write(item.raw, item.message, item.log_time_ns)
            else:
                waiting[item.topic] = item
        if not poses:
            raise ValueError(f"{recording}: no pose lies between --start and --end.")
        if person is not None and not seen:
            raise ValueError(f"{recording} has no person {person} between --start and --end.")
        return poses, writer.count


def _of_person(raw: bytes, message: PoseMessage, person: int | None) -> tuple[bytes, PoseMessage]:
    if person is None:
        return raw, message
    part = msgspec.structs.replace(message, people=tuple(p for p in message.people if p.id == person))
    return messages.encode("pose", part), part
