"""Who is who: keeps an id with a person through misses, occlusions and crossings.

A track carries its own landmarks from frame to frame, so most of the time there is nothing to associate. What is
left: two tracks that fall onto one person, people who come back, and two people who leave a crossing with each
other's ids. Place (a Kalman filter) and look (the colours of shirt and trousers) decide those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.appearance import Motion, look_at, look_distance
from pipeline.frames import Array
from pipeline.sighting import Sighting, covered, distance, is_double, same_body

#: A person is taken up at this score, and given up when it stays below it for some frames or falls far below it.
ACCEPT, SURELY_LOST, DOUBTFUL_FRAMES = 0.5, 0.2, 4
CLEAR = 0.8
#: Who appears while others are followed must be seen this well, every time until he is confirmed.
ACCEPT_RUNNING = 0.65
#: A candidate below ACCEPT gets another look from a better region if it is not hopeless.
HOPEFUL = 0.2
#: Who stands in front of or behind somebody else must be seen this well to be taken up as one more person.
ACCEPT_OVERLAPPING = 0.8
#: Seconds for which a lost person is looked for, and is known again if he turns up by himself, in like colours.
SEARCH_S, REUNION_S = 1.2, 2.5
_MEET, _PART, _PART_S, _EXCHANGE_MARGIN = 0.35, 0.5, 0.15, 0.15
_LOOK_EVERY_NS = 150_000_000


@dataclass(eq=False)
class Track:
    """One person followed. `id` is 0 until the person is confirmed; `lost_ns` is when he was last seen, or 0.

    `clear` is the last sighting that was beyond doubt.
    """

    sighting: Sighting
    clear: Sighting
    motion: Motion
    id: int = 0
    passes: int = 0
    doubts: int = 0
    lost_ns: int = 0
    look: Array | None = None
    look_ns: int = 0


@dataclass(eq=False)
class Crossing:
    """Two tracks that met, with the place and look each had just before; `apart_ns` is when both were seen apart."""

    tracks: tuple[Track, Track]
    motions: tuple[Motion, Motion]
    looks: tuple[Array | None, Array | None]
    apart_ns: int = 0


@dataclass(eq=False)
class Tracker:
    """The tracks of one camera. Ids count from 1 and are never used again."""

    max_people: int
    active: list[Track] = field(default_factory=list)
    lost: list[Track] = field(default_factory=list)
    _crossings: list[Crossing] = field(default_factory=list)
    _next_id: int = 1

    def update(self, t_ns: int, image: NDArray[np.uint8], sightings: Sequence[Sighting], confirm: int) -> None:
        """Takes in everything seen in the frame of time `t_ns`, its `image` (H, W, 3) RGB for colours.

        A candidate is confirmed, and gets its id, after it was seen well `confirm` times running.
        """
        self.lost = [t for t in self.lost if t_ns - t.lost_ns <= REUNION_S * 1e9]
        self._meet()
        own = self._keep(t_ns, image, [s for s in sightings if s.track is not None])
        fresh = self._fresh(own, [s for s in sightings if s.track is None])
        kept = {id(s.track) for s in own}
        for track in [t for t in self.active if id(t) not in kept]:
            self._lose(track, t_ns)
        for sighting in fresh[: max(0, self.max_people - len(self.active))]:
            sighting.track = Track(sighting, sighting, Motion(t_ns, sighting.center, sighting.size))
            self.active.append(sighting.track)
        self._reunite(t_ns, image)
        for track in self.active:
            self._confirm(track, confirm)
        self._part(t_ns, image)
        self._remember(t_ns, image)

    def forget(self) -> None:
        """Ends all tracks, as after a gap; their ids stay used."""
        self.active, self.lost, self._crossings = [], [], []

    def people(self) -> list[Track]:
        """The confirmed tracks that were seen in the last frame."""
        return [t for t in self.active if t.id]

    def missing(self, t_ns: int) -> list[Track]:
        """The people lost so lately that it is worth looking for them where they should be."""
        return [t for t in self.lost if t_ns - t.lost_ns <= SEARCH_S * 1e9]

    def _keep(self, t_ns: int, image: NDArray[np.uint8], sightings: list[Sighting]) -> list[Sighting]:
        """The sightings by which tracks live on: good enough, and one a person."""
        good = []
        for s in sightings:
            # A good frame takes back one doubt, not all: things that now and then look like somebody flicker
            s.track.doubts = s.track.doubts + 1 if s.landmarks.score < ACCEPT else max(s.track.doubts - 1, 0)
            if s.landmarks.score >= SURELY_LOST and s.track.doubts < DOUBTFUL_FRAMES:
                good.append(s)
        for i, a in enumerate(good):
            for b in good[i + 1 :]:
                if a.track and b.track and same_body(a, b):
                    worse = a if self._misfit(t_ns, image, a) > self._misfit(t_ns, image, b) else b
                    worse.track = None
        good = [s for s in good if s.track]
        for s in good:
            s.track.sighting = s
            s.track.motion.update(t_ns, s.center, s.size, blurred=self._is_crossing(s.track))
        return good

    def _misfit(self, t_ns: int, image: NDArray[np.uint8], s: Sighting) -> float:
        """How badly a sighting fits its track, by what was known of the person before he met anybody.

        A newcomer fits worse than anybody who has an id.
        """
        track = s.track
        motion, past = track.motion, track.look
        for c in self._crossings:
            if track in c.tracks:
                motion, past = c.motions[c.tracks.index(track)], c.looks[c.tracks.index(track)]
        look = look_distance(past, look_at(image, s.landmarks))
        return motion.distance(t_ns, s.center) + (look or 0.0) + (0.0 if track.id else 10.0)

    def _fresh(self, own: list[Sighting], candidates: list[Sighting]) -> list[Sighting]:
        """Candidates that are hopeful and nobody's double, the most prominent first."""
        fresh: list[Sighting] = []
        hopeful = [s for s in candidates if s.landmarks.score >= HOPEFUL]
        for s in sorted(hopeful, key=lambda s: -s.landmarks.score):
            others = [*own, *fresh]
            hidden = any(covered(s, o) > 0.5 for o in others)
            if not is_double(s, others) and not (hidden and s.landmarks.score < ACCEPT_OVERLAPPING):
                fresh.append(s)
        return sorted(fresh, key=lambda s: -s.landmarks.score * s.size)

    def _lose(self, track: Track, t_ns: int) -> None:
        self.active.remove(track)
        if track.id:
            track.lost_ns, track.doubts = t_ns, 0
            self.lost.append(track)

    def _reunite(self, t_ns: int, image: NDArray[np.uint8]) -> None:
        """Gives lost tracks back to newcomers who are where they should be and look alike."""
        news = [t for t in self.active if not t.id and t.sighting.landmarks.score >= ACCEPT]
        if not news or not self.lost:
            return
        cost = np.array([[self._strangeness(t_ns, image, t, n.sighting) for n in news] for t in self.lost])
        pairs = zip(*linear_sum_assignment(cost), strict=True)
        for track, new in [(self.lost[i], news[j]) for i, j in pairs if cost[i, j] < 1]:
            self.lost.remove(track)
            self.active[self.active.index(new)] = track
            track.sighting, track.lost_ns, new.sighting.track = new.sighting, 0, track
            track.motion.update(t_ns, new.sighting.center, new.sighting.size, blurred=False)

    def _strangeness(self, t_ns: int, image: NDArray[np.uint8], track: Track, s: Sighting) -> float:
        """How unlike the lost track a candidate is: 1 and more is somebody else.

        After a crossing he may be the other one, whose region this track took with it; `_part` puts that right.
        """
        persons = [(track.motion, track.look)]
        for c in self._crossings:
            if track in c.tracks:
                persons += zip(c.motions, c.looks, strict=True)
        gone_s, now = (t_ns - track.lost_ns) / 1e9, look_at(image, s.landmarks)
        costs = []
        for motion, past in persons:
            place = motion.distance(t_ns, s.center) / min(0.4 + 0.6 * gone_s, 1.0)
            look = look_distance(past, now)
            if gone_s > SEARCH_S:
                look = np.inf if look is None else 1.5 * look
            growth = abs(np.log(s.size / motion.size)) / 0.6
            costs.append(min(max(place, growth, look or 0.0), 1e3) + 1e-3 * place)
        return float(min(costs))

    def _confirm(self, track: Track, confirm: int) -> None:
        if track.sighting.landmarks.score >= CLEAR:
            track.clear = track.sighting
        if not track.id:
            enough = ACCEPT if confirm == 1 else ACCEPT_RUNNING
            track.passes = track.passes + 1 if track.sighting.landmarks.score >= enough else 0
            if track.passes >= confirm:
                track.id, self._next_id = self._next_id, self._next_id + 1

    def _is_crossing(self, track: Track) -> bool:
        """Whether somebody else who is seen stands before or behind the track."""
        return any(track in c.tracks and not any(t.lost_ns for t in c.tracks) for c in self._crossings)

    def _meet(self) -> None:
        """Notes the pairs of tracks that come close, while it is still known who is who."""
        known = [t for t in self.active if t.id]
        for i, a in enumerate(known):
            for b in known[i + 1 :]:
                near = distance(a.sighting, b.sighting) < _MEET
                if near and not any(a in c.tracks and b in c.tracks for c in self._crossings):
                    self._crossings.append(Crossing((a, b), (a.motion.copy(), b.motion.copy()), (a.look, b.look)))

    def _part(self, t_ns: int, image: NDArray[np.uint8]) -> None:
        """Ends the crossings whose tracks are apart again, and gives the bodies back where they were exchanged."""
        alive = {id(t) for t in (*self.active, *self.lost)}
        for c in list(self._crossings):
            a, b = c.tracks
            if id(a) not in alive or id(b) not in alive:
                self._crossings.remove(c)
            elif a.lost_ns or b.lost_ns or distance(a.sighting, b.sighting) < _PART:
                c.apart_ns = 0
            elif not c.apart_ns:
                c.apart_ns = t_ns
            elif t_ns - c.apart_ns >= _PART_S * 1e9:
                self._crossings.remove(c)
                if exchanged(t_ns, c, image):
                    for part in ("sighting", "clear", "motion"):
                        mine, yours = getattr(a, part), getattr(b, part)
                        setattr(a, part, yours)
                        setattr(b, part, mine)

    def _remember(self, t_ns: int, image: NDArray[np.uint8]) -> None:
        """Renews what people look like, but for those who stand before one another."""
        for track in self.active:
            due = track.look is None or t_ns - track.look_ns >= _LOOK_EVERY_NS
            if due and not self._is_crossing(track):
                seen = look_at(image, track.sighting.landmarks)
                if seen is not None:
                    track.look = seen if track.look is None else 0.8 * track.look + 0.2 * seen
                    track.look_ns = t_ns


def exchanged(t_ns: int, crossing: Crossing, image: NDArray[np.uint8]) -> bool:
    """Whether the two tracks of a crossing fit each other's past clearly better than their own."""
    sightings = [t.sighting for t in crossing.tracks]
    looks = [look_at(image, s.landmarks) for s in sightings]

    def cost(now: int, past: int) -> float:
        look = look_distance(crossing.looks[past], looks[now])
        place = min(crossing.motions[past].distance(t_ns, sightings[now].center), 1.0)
        return place + (0.0 if look is None else 2.0 * min(look, 1.0))

    return cost(0, 1) + cost(1, 0) + _EXCHANGE_MARGIN < cost(0, 0) + cost(1, 1)
