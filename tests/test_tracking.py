"""Who is who: crossings, losses, doubles; what people look like and where they go."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.appearance import Motion, look_at, look_distance
from pipeline.sighting import Sighting, is_double
from pipeline.tracking import Tracker
from pipeline.types import Landmarks

Image = NDArray[np.uint8]


def person_at(u: float, v: float, size: float = 200.0) -> Landmarks:
    """A standing figure `size` pixels tall with its torso's middle at (u, v)."""
    points = np.zeros((33, 2))
    places = {11: (0.1, -0.15), 12: (-0.1, -0.15), 23: (0.07, 0.15), 24: (-0.07, 0.15), 25: (0.07, 0.38)}
    places |= {26: (-0.07, 0.38), 27: (0.07, 0.6), 28: (-0.07, 0.6), 13: (0.15, 0.0), 14: (-0.15, 0.0)}
    points[:11], points[15:23:2], points[16:23:2], points[29:] = (0, -0.4), (0.17, 0.12), (-0.17, 0.12), (0, 0.6)
    for i, place in places.items():
        points[i] = place
    return Landmarks(points * size + (u, v), np.zeros(33), np.ones(33), np.zeros((33, 3)), 1.0)


def picture(people: Sequence[tuple[float, tuple[int, int, int]]]) -> Image:
    """Grey, with coloured people at (u, 150), the last in front."""
    image = np.full((300, 600, 3), 120, np.uint8)
    for u, colour in people:
        cv2.rectangle(image, (int(u) - 24, 110), (int(u) + 24, 240), colour, -1)
    return image


RED, BLUE = (200, 40, 40), (40, 40, 200)


@pytest.mark.parametrize("falls_on", ["front", "wrong"])
def test_ids_after_a_crossing(falls_on: str) -> None:
    """Red walks right behind blue, who walks left. While red is hidden the region that survives is one person's.

    "front": red's region falls on blue and red is lost. "wrong": it is blue's region that is lost and red's goes on
    with blue's body, so that the ids must be exchanged when both are seen again.
    """
    tracker = Tracker(max_people=4)
    for i in range(60):
        t_ns, red, blue = int(i / 30 * 1e9), 150.0 + 5 * i, 450.0 - 5 * i
        image = picture([(red, RED), (blue, BLUE)])
        hidden = abs(red - blue) < 60
        tracks = {t.id: t for t in tracker.active}
        if i == 0:
            sightings = [Sighting(person_at(red, 150)), Sighting(person_at(blue, 150))]
        elif hidden:
            survivor = {"front": 2, "wrong": 1}[falls_on]
            sightings = [Sighting(person_at(blue, 150), track=tracks.get(survivor) or next(iter(tracks.values())))]
        else:
            sightings = []
            for track in tracks.values():
                near = min((red, blue), key=lambda u: abs(u - track.sighting.center[0]))
                sightings.append(Sighting(person_at(near, 150), track=track))
            taken = [s.center[0] for s in sightings]
            for u in (red, blue):
                if all(abs(u - t) > 5 for t in taken):
                    sightings.append(Sighting(person_at(u, 150)))
        tracker.update(t_ns, image, sightings, confirm=1)
        assert len(tracker.people()) == (1 if hidden else 2)
    ends = {t.id: t.sighting.center[0] for t in tracker.people()}
    assert set(ends) == {1, 2}
    assert ends[1] == pytest.approx(150 + 5 * 59, abs=10)
    assert ends[2] == pytest.approx(450 - 5 * 59, abs=10)


def test_two_tracks_on_one_person_leave_the_older() -> None:
    tracker, image = Tracker(max_people=4), picture([(200, RED)])
    tracker.update(0, image, [Sighting(person_at(200, 150)), Sighting(person_at(320, 150))], confirm=1)
    tracks = list(tracker.active)
    tracker.update(33_000_000, image, [Sighting(person_at(200 + i, 150), track=t) for i, t in enumerate(tracks)], 1)
    assert [t.id for t in tracker.people()] == [1]


def test_the_lost_are_known_again_and_strangers_are_not() -> None:
    def seen_after(gap_ns: int, u: float, colour: tuple[int, int, int]) -> int:
        tracker, image = Tracker(max_people=2), picture([(200, RED)])
        tracker.update(0, image, [Sighting(person_at(200, 150))], confirm=1)
        tracker.update(33_000_000, image, [Sighting(person_at(200, 150), track=tracker.active[0])], confirm=1)
        tracker.update(66_000_000, image, [], confirm=1)
        assert tracker.people() == []
        tracker.update(66_000_000 + gap_ns, picture([(u, colour)]), [Sighting(person_at(u, 150))], confirm=1)
        return tracker.people()[0].id

    assert seen_after(500_000_000, 210, RED) == 1
    assert seen_after(500_000_000, 210, BLUE) == 2, "another look"
    assert seen_after(500_000_000, 500, RED) == 2, "another place"
    assert seen_after(4_000_000_000, 210, RED) == 2, "too late"


def test_a_body_of_other_peoples_limbs_is_no_person() -> None:
    a, b = Sighting(person_at(200, 150)), Sighting(person_at(260, 150))
    mixed = person_at(200, 150).points_px.copy()
    mixed[23:] = b.landmarks.points_px[23:]
    marks = Landmarks(mixed, np.zeros(33), np.ones(33), np.zeros((33, 3)), 1.0)
    assert is_double(Sighting(marks), [a, b])
    assert not is_double(Sighting(person_at(320, 150)), [a, b])
    assert not is_double(a, [])


def test_motion_predicts_a_steady_walk() -> None:
    motion = Motion(0, np.array([0.0, 50.0]), 100.0)
    for i in range(1, 31):
        motion.update(int(i / 30 * 1e9), np.array([4.0 * i, 50.0]), 100.0, blurred=False)
    np.testing.assert_allclose(motion.center(int(33 / 30 * 1e9)), [132.0, 50.0], atol=1.0)
    assert motion.size == pytest.approx(100.0, rel=1e-3)
    assert motion.distance(int(1e9), np.array([220.0, 50.0])) == pytest.approx(1.0, abs=0.02)


def test_looks_tell_colours_apart() -> None:
    red, blue = (look_at(picture([(200, c)]), person_at(200, 150)) for c in (RED, BLUE))
    darker = look_at((picture([(200, RED)]) * 0.85).astype(np.uint8), person_at(200, 150))
    assert look_distance(red, red) == 0
    same, other = look_distance(red, darker), look_distance(red, blue)
    assert same is not None
    assert other is not None
    assert same < 0.5 < 1.0 < other
    assert look_at(picture([]), person_at(200, 150, size=5)) is None
    assert look_at(picture([]), person_at(-500, 150)) is None
    assert look_distance(red, None) is None
