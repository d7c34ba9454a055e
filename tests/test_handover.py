"""Handing pictures from one thread to another."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.handover import LatestSlot, LosslessQueue


def test_the_latest_slot_keeps_the_newest() -> None:
    slot: LatestSlot[int] = LatestSlot()
    assert slot.take(0.0) is None
    assert all(slot.put(i) for i in range(5))
    assert slot.dropped == 4
    assert slot.take(0.0) == 4
    slot.put(5)
    slot.close(ValueError("lost"))
    assert not slot.put(6)
    assert not slot.ended
    assert slot.take(0.0) == 5
    with pytest.raises(ValueError, match="lost"):
        slot.take(0.0)
    assert slot.ended
    assert slot.take(0.0) is None


def test_the_lossless_queue_waits_for_room_and_closing_wakes_it() -> None:
    queue: LosslessQueue[int] = LosslessQueue(2)
    kept: list[bool] = []
    thread = threading.Thread(target=lambda: kept.extend(queue.put(i) for i in range(5)))
    thread.start()
    assert [queue.take(5.0), queue.take(5.0)] == [0, 1]
    deadline = time.monotonic() + 5.0
    while len(kept) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    queue.close(discard=True)
    thread.join(5.0)
    assert kept == [True, True, True, True, False]
    assert queue.ended
