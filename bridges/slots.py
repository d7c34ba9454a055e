"""Which person goes to which place: receivers have a fixed port, subject or actor, people come and go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class _Slot:
    person_id: int | None = None
    seen_s: float = 0.0


class Slots:
    """`count` places; times are seconds on any clock that does not go back.

    A person keeps its place while it is there, and for `hold_s` after it left in case it comes back. A newcomer gets
    the lowest place that nobody stands at and waits while that one is held: so the one person of a scene whom the
    tracker lost and found again under another id goes on at the first place.
    """

    def __init__(self, count: int, hold_s: float) -> None:
        """Raises ValueError for less than one place or a negative time."""
        if count < 1 or hold_s < 0:
            raise ValueError(f"Expected at least one place and a time of 0 s or more, got {count} and {hold_s} s.")
        self._slots = [_Slot() for _ in range(count)]
        self._hold_s = hold_s

    def update(self, ids: Iterable[int], now_s: float) -> dict[int, int]:
        """The places, counted from 0, of the people who are there; who has none (yet) is left out."""
        present = list(ids)
        known = {slot.person_id: i for i, slot in enumerate(self._slots) if slot.person_id is not None}
        places = {person: known[person] for person in present if person in known}
        for slot in self._slots:
            if slot.person_id not in places and now_s - slot.seen_s >= self._hold_s:
                slot.person_id = None
        nobody_there = (i for i in range(len(self._slots)) if i not in places.values())
        newcomers = [person for person in present if person not in places]
        # a list, because `places` changes inside
        for person, i in list(zip(newcomers, list(nobody_there), strict=False)):
            if self._slots[i].person_id is None:
                self._slots[i].person_id, places[person] = person, i
        for i in places.values():
            self._slots[i].seen_s = now_s
        return places

    def held(self, now_s: float) -> list[int]:
        """Places whose person left and is still waited for, at the time of the last `update` or later."""
        waited = [(i, now_s - s.seen_s) for i, s in enumerate(self._slots) if s.person_id is not None]
        return [i for i, gone_s in waited if 0 < gone_s < self._hold_s]


class Pace:
    """Lets at most `rate_hz` frames a second through; None lets all. Times as in `Slots`."""

    def __init__(self, rate_hz: float | None) -> None:
        self._period_s = 0.0 if rate_hz is None else 1.0 / rate_hz
        self._due_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """Whether the frame of this moment goes; one that comes a little early for the beat goes too."""
        if now_s < self._due_s - 0.25 * self._period_s:
            return False
        # after a pause the beat starts anew, or a burst would make up for it
        beat_s = self._due_s if now_s - self._due_s < self._period_s else now_s
        self._due_s = beat_s + self._period_s
        return True
