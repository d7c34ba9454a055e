"""The detector stage: a frame goes in, tracked people with landmarks come out.

Landmarks of everybody are found in every frame, in one batch, each in the region that follows from the frame before.
The person detector, which finds whom nobody follows yet, runs at most once a frame while people are tracked and
looks into one window of the picture at a time; only a stream's first frame is swept whole at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.clock import StageClock
from pipeline.sighting import Sighting
from pipeline.tracking import ACCEPT, HOPEFUL, Track, Tracker
from pipeline.types import Detection, Frame, Landmarks

Image = NDArray[np.uint8]

_THRESHOLD = 0.5
#: Seconds between detector runs when nothing has changed for a while, and while nobody has been in view for long.
_CALM_S, _IDLE_S = 0.2, 0.2
#: For so long after people came or went the detector runs in every frame; after so long without anybody it idles.
_BUSY_S, _IDLE_AFTER_S = 1.0, 5.0
#: A gap between frames after which nothing of before is trusted.
_GAP_S = 2.0
#: Every so many runs the whole picture is looked at again, where people who walk in are found first.
_WHOLE_EVERY = 3
#: A region whose centre is this near to another's, in sides of the smaller, is on the same person.
_SAME = 0.25
#: Regions that are tried a frame for people who are not followed yet, and rounds of them on a first frame.
_CANDIDATES, _FIRST_CANDIDATES, _ROUNDS = 2, 12, 3
#: Times running that somebody new must be seen well while others are followed.
_CONFIRM = 3
#: Side of the window that looks for a lost person, in regions.
_SEARCH = 1.5
#: A sighting farther from where a track is expected, in body sizes, is not his.
_JUMP = 0.5
#: A region follows the landmarks by a fifth of a small change and the whole of a change of this much: sides of the
#: region, logarithm of its size, radians. The network answers a slightly other region with slightly other landmarks,
#: which give a slightly other region: left alone, that swings.
_STEADY, _STEADY_SHIFT, _STEADY_GROWTH, _STEADY_TURN_RAD = 0.2, 0.05, 0.1, 0.15
#: How much of the expected movement a region is moved by, and in sides of it, how far at most.
_LEAD, _MAX_LEAD = 0.7, 0.15
_BOX_MARGIN = 0.08


class RegionLike(Protocol):
    """A square in the picture: centre (u, v) and side in pixels, turned by angle_rad."""

    @property
    def center_px(self) -> tuple[float, float]: ...
    @property
    def size_px(self) -> float: ...
    @property
    def angle_rad(self) -> float: ...


R = TypeVar("R", bound=RegionLike)


class PoseNetwork(Protocol[R]):
    """What the stage calls: `engines.blazepose.BlazePose`."""

    def window(self, center_px: tuple[float, float], size_px: float, angle_rad: float = 0.0) -> R: ...
    def windows(self, size_wh: tuple[int, int]) -> list[R]: ...
    def detect(self, image: Image, threshold: float, windows: Sequence[R]) -> list[tuple[R, float]]: ...
    def landmarks(self, image: Image, regions: Sequence[R]) -> list[tuple[Landmarks, R]]: ...


class PersonDetector(Generic[R]):
    """Finds and follows up to `max_people` people of one camera with a BlazePose-like network.

    Call it with the frames in order. Who is hidden for a moment is not reported and gets the same id when back.
    """

    def __init__(self, network: PoseNetwork[R], max_people: int = 4) -> None:
        if max_people < 1:
            raise ValueError(f"max_people: expected 1 or more, got {max_people}.")
        self._network, self._max_people = network, max_people
        self._tracker: Tracker = Tracker(max_people)
        self._size_wh, self._t_ns = (0, 0), 0
        self._windows: Iterator[R] = iter(())
        self._run_ns = self._busy_ns = self._seen_ns = 0
        self._runs = 0

    def __call__(self, frame: Frame, clock: StageClock) -> tuple[Detection, ...]:
        """The people in `frame`, by id. Times its stages "detect" and "landmarks" on `clock`."""
        t_ns, image = frame.t_capture_ns, frame.image
        fresh = self._begin(frame)
        before = {t.id for t in self._tracker.people()}
        with clock.stage("detect"):
            if fresh:
                found = self._network.detect(image, _THRESHOLD, self._network.windows(frame.size_wh))
            else:
                window = self._next_window(t_ns)
                found = [] if window is None else self._network.detect(image, _THRESHOLD, [window])
        with clock.stage("landmarks"):
            if self._tracker.active:
                sightings, confirm = self._follow(image, t_ns, found), _CONFIRM
            else:
                sightings, confirm = self._search(image, found, _FIRST_CANDIDATES if fresh else _CANDIDATES), 1
            self._tracker.update(t_ns, image, sightings, confirm)
        people = self._tracker.people()
        if not fresh and {t.id for t in people} != before:
            self._busy_ns = t_ns + int(_BUSY_S * 1e9)
        if people:
            self._seen_ns = t_ns
        return detections(people)

    def _begin(self, frame: Frame) -> bool:
        """Forgets everything at a stream's first frame and after a gap; says whether it did."""
        t_ns, last_ns = frame.t_capture_ns, self._t_ns
        self._t_ns = t_ns
        if frame.size_wh == self._size_wh and 0 <= t_ns - last_ns <= _GAP_S * 1e9:
            return False
        self._size_wh = frame.size_wh
        self._tracker.forget()
        self._windows = _in_turns(self._network.windows(frame.size_wh))
        self._run_ns = self._busy_ns = self._seen_ns = t_ns
        return True

    def _next_window(self, t_ns: int) -> R | None:
        """Where the detector looks in this frame; None when it rests."""
        tracker = self._tracker
        if len(tracker.active) >= self._max_people:
            return None
        rested_s = (t_ns - self._run_ns) / 1e9
        if tracker.active:
            due = t_ns < self._busy_ns or rested_s >= _CALM_S
        else:
            due = (t_ns - self._seen_ns) / 1e9 < _IDLE_AFTER_S or rested_s >= _IDLE_S
        if not due:
            return None
        self._run_ns = t_ns
        self._runs += 1
        if missing := tracker.missing(t_ns):
            if self._runs % 2:
                return None
            if self._runs % 4:
                track = missing[self._runs // 4 % len(missing)]
                return self._network.window(_expected(track, t_ns), _SEARCH * track.clear.region.size_px)
        return next(self._windows)

    def _probe(self, t_ns: int) -> list[R]:
        """The region where somebody lost should be, in the frames in which the detector makes room for it."""
        missing = self._tracker.missing(t_ns)
        if not missing or self._runs % 2 == 0 or len(self._tracker.active) >= self._max_people:
            return []
        track = missing[self._runs // 2 % len(missing)]
        region = track.clear.region
        return [self._network.window(_expected(track, t_ns), region.size_px, region.angle_rad)]

    def _follow(self, image: Image, t_ns: int, found: Sequence[tuple[R, float]]) -> list[Sighting]:
        """Sightings of everybody followed and of a few candidates, in one batch."""
        tracks = list(self._tracker.active)
        regions = [self._ahead(t, t_ns) for t in tracks]
        fresh = [*self._probe(t_ns), *_apart([region for region, _ in found], regions)[:_CANDIDATES]]
        results = self._network.landmarks(image, [*regions, *fresh])
        owners: list[Track | None] = [*tracks, *([None] * len(fresh))]
        used = [*regions, *fresh]
        return [Sighting(m, r, u, owner) for (m, r), u, owner in zip(results, used, owners, strict=True)]

    def _ahead(self, track: Track, t_ns: int) -> R:
        """The region to look for a track in: steady while the person stands, moved on while he goes."""
        used: RegionLike = track.sighting.used
        new: RegionLike = track.sighting.region
        shift = np.subtract(new.center_px, used.center_px)
        growth = math.log(new.size_px / used.size_px)
        turn = math.remainder(new.angle_rad - used.angle_rad, math.tau)
        center = used.center_px + _followed(float(np.hypot(*shift)) / used.size_px, _STEADY_SHIFT) * shift
        size = used.size_px * math.exp(_followed(abs(growth), _STEADY_GROWTH) * growth)
        lead = _LEAD * (track.motion.center(t_ns) - track.sighting.center)
        center = center + lead / max(float(np.hypot(*lead)) / (_MAX_LEAD * size), 1.0)
        angle = used.angle_rad + _followed(abs(turn), _STEADY_TURN_RAD) * turn
        return self._network.window((float(center[0]), float(center[1])), size, angle)

    def _search(self, image: Image, found: Sequence[tuple[R, float]], limit: int) -> list[Sighting]:
        """Sightings of people who passed the landmark network twice, the second time in a region of its own making.

        Where one region of somebody fails, the next round tries another window's.
        """
        kept: list[Sighting] = []
        left = [region for region, _ in found]
        for _ in range(_ROUNDS):
            tried = _apart(left, [s.region for s in kept])[:limit]
            if not tried:
                break
            left = [region for region in left if region not in tried]
            hopeful = [region for marks, region in self._network.landmarks(image, tried) if marks.score >= HOPEFUL]
            results = zip(self._network.landmarks(image, hopeful), hopeful, strict=True)
            kept += [Sighting(marks, region, used) for (marks, region), used in results if marks.score >= ACCEPT]
        return kept


class MediaPipeDetector:
    """The same stage with MediaPipe's own pose landmarker, which finds and follows people by itself.

    `landmarker(image, t_ms)` gives the landmarks of everybody (`engines.mediapipe_reference.MediaPipeReference`);
    the stage adds the ids.
    """

    def __init__(self, landmarker: Callable[[Image, float], list[Landmarks]], max_people: int = 4) -> None:
        self._landmarker, self._tracker = landmarker, Tracker(max_people)

    def __call__(self, frame: Frame, clock: StageClock) -> tuple[Detection, ...]:
        """The people in `frame`, by id. Times its one stage, "landmarks", on `clock`."""
        t_ns = frame.t_capture_ns
        with clock.stage("landmarks"):
            sightings = [Sighting(marks) for marks in self._landmarker(frame.image, t_ns / 1e6)]
            tracks = self._tracker.active
            cost = np.array([[t.motion.distance(t_ns, s.center) for s in sightings] for t in tracks])
            for i, j in zip(*linear_sum_assignment(cost.reshape(len(tracks), len(sightings))), strict=True):
                if cost[i, j] < _JUMP:
                    sightings[j].track = tracks[i]
            self._tracker.update(t_ns, frame.image, sightings, confirm=1)
        return detections(self._tracker.people())


def detections(tracks: Sequence[Track]) -> tuple[Detection, ...]:
    """The records of tracks that were seen in this frame, by id; a box holds the landmarks and a margin."""
    found = []
    for track in sorted(tracks, key=lambda t: t.id):
        marks = track.sighting.landmarks
        low, high = marks.points_px.min(0), marks.points_px.max(0)
        margin = _BOX_MARGIN * (high - low).max()
        found.append(Detection(np.concatenate([low - margin, high + margin]), marks.score, track.id, marks))
    return tuple(found)


def _followed(change: float, whole: float) -> float:
    """The part of a change that a region follows."""
    return min(max(change / whole, _STEADY), 1.0)


def _expected(track: Track, t_ns: int) -> tuple[float, float]:
    """Where the region of somebody lost should have its centre now, pixels."""
    moved = track.motion.center(t_ns) - track.clear.center
    u, v = track.clear.region.center_px
    return u + float(moved[0]), v + float(moved[1])


def _in_turns(windows: Sequence[R]) -> Iterator[R]:
    """The windows over and over, the first of them (the whole picture) in every third place."""
    rest = cycle(windows[1:] or windows)
    while True:
        yield windows[0]
        for _ in range(_WHOLE_EVERY - 1):
            yield next(rest)


def _apart(regions: Sequence[R], others: Sequence[RegionLike]) -> list[R]:
    """Those of `regions` that lie on nobody of `others` nor on one another, the earlier first."""
    kept: list[R] = []
    for region in regions:
        taken: list[RegionLike] = [*others, *kept]
        if all(_distance(region, other) > _SAME for other in taken):
            kept.append(region)
    return kept


def _distance(a: RegionLike, b: RegionLike) -> float:
    """Distance of two regions' centres in sides of the smaller."""
    return math.dist(a.center_px, b.center_px) / max(min(a.size_px, b.size_px), 1e-6)
