"""Handing pictures from the thread that gets them to the thread that works on them."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class _Handover(Generic[T]):
    """At most `capacity` items wait. One thread puts, another takes; either may close."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None

    def take(self, timeout_s: float) -> T | None:
        """The oldest waiting item; waits at most `timeout_s` for one.

        None when none came in that time or none will ever come (`ended`). Raises what the putting thread handed to
        `close`, once the items before it are taken.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._items and not self._closed:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return None
                self._changed.wait(remaining)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def close(self, error: BaseException | None = None, discard: bool = False) -> None:
        """No more items will come; with `discard`, those that wait are not wanted either. May be called again."""
        with self._changed:
            self._closed = True
            if error is not None:
                self._error = error
            if discard:
                self._items.clear()
                self._error = None
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """True when closed and everything was taken."""
        with self._changed:
            return self._closed and not self._items and self._error is None


class LatestSlot(_Handover[T]):
    """One slot: a newer item takes the place of one that nobody took, so what is taken is never old."""

    def __init__(self) -> None:
        super().__init__(1)
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Never waits. False when closed: then the item is not kept."""
        with self._changed:
            if self._closed:
                return False
            if self._items:
                self._items.clear()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True


class LosslessQueue(_Handover[T]):
    """Keeps everything in order: `put` waits while `capacity` items wait."""

    def put(self, item: T) -> bool:
        """Waits for room. False when closed: then the item is not kept."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True
