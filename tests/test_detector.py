"""The detector stage: groups found, ids kept, the detector's work spread over frames."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.blazepose import BlazePose, Region
from engines.mediapipe_reference import MediaPipeReference
from engines.models import ModelError, verify
from pipeline.appearance import look_at, look_distance
from pipeline.clock import StageClock
from pipeline.detector import MediaPipeDetector, PersonDetector
from pipeline.frames import Array
from pipeline.sighting import Sighting, same_body
from pipeline.types import Detection, Frame, Landmarks

CLIPS = Path(os.environ.get("WHMR_CLIPS", Path(__file__).parents[2] / "shared" / "clips"))
DEMO = Path(__file__).parents[1] / "benchmarks" / "clips"
Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pose() -> Iterator[BlazePose]:
    try:
        store = verify()
    except ModelError as e:
        pytest.skip(str(e))
    opened = BlazePose.open(store, threads=2, max_batch=2)
    yield opened
    opened.close()


def frame(image: Image, index: int = 0, fps: float = 30.0) -> Frame:
    t_ns = int(index / fps * 1e9)
    return Frame("camera", index, t_ns, t_ns, t_ns, np.ascontiguousarray(image))


def still(name: str) -> Image:
    path = CLIPS / "stills_nogt" / name
    if not path.is_file():
        pytest.skip(f"the shared picture {name} is not here")
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def clip(name: str, start: int, stop: int, step: int = 1) -> Iterator[tuple[int, Image]]:
    path = (DEMO if name.startswith("demo") else CLIPS) / name / "video.mp4"
    if not path.is_file():
        pytest.skip(f"the clip {name} is not here")
    video = cv2.VideoCapture(str(path))
    for i in range(stop):
        assert video.grab()
        if i >= start and (i - start) % step == 0:
            yield i, np.asarray(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB), np.uint8)


def assert_no_doubles(people: Sequence[Detection]) -> None:
    sightings = [Sighting(p.landmarks) for p in people if p.landmarks]
    assert len(sightings) == len(people)
    for a, b in itertools.combinations(sightings, 2):
        assert not same_body(a, b)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("camhmr_1.jpg", 5, 7), ("op_241.jpg", 3, 3), ("mmp_103319.jpg", 2, 2), ("mmp_003799.jpg", 2, 4)],
)
def test_groups_are_found_in_a_single_picture(pose: BlazePose, name: str, least: int, most: int) -> None:
    clock = StageClock()
    people = PersonDetector(pose, max_people=8)(frame(still(name)), clock)
    assert least <= len(people) <= most
    assert_no_doubles(people)
    assert [p.track_id for p in people] == list(range(1, len(people) + 1))
    assert list(clock.take()) == ["detect", "landmarks"]
    for p in people:
        assert p.landmarks
        assert p.score >= 0.5
        assert (p.box_xyxy[:2] <= p.landmarks.points_px).all()
        assert (p.box_xyxy[2:] >= p.landmarks.points_px).all()


class Counted:
    """The real network, with the number of windows that were looked into."""

    def __init__(self, network: BlazePose) -> None:
        self._network, self.looks = network, 0

    def window(self, center_px: tuple[float, float], size_px: float, angle_rad: float = 0.0) -> Region:
        return self._network.window(center_px, size_px, angle_rad)

    def windows(self, size_wh: tuple[int, int]) -> list[Region]:
        return self._network.windows(size_wh)

    def detect(self, image: Image, threshold: float, windows: Sequence[Region]) -> list[tuple[Region, float]]:
        self.looks += len(windows)
        return self._network.detect(image, threshold, windows)

    def landmarks(self, image: Image, regions: Sequence[Region]) -> list[tuple[Landmarks, Region]]:
        return self._network.landmarks(image, regions)


def test_a_group_that_walks_in_is_found_within_a_second_one_window_a_frame(pose: BlazePose) -> None:
    group = still("op_241.jpg")
    network = Counted(pose)
    detect = PersonDetector(network, max_people=3)
    assert detect(frame(np.full_like(group, 127)), StageClock()) == ()
    people: tuple[Detection, ...] = ()
    for i in range(1, 31):
        network.looks = 0
        people = detect(frame(group, i), StageClock())
        assert network.looks <= 1
        if len(people) == 3:
            break
    assert len(people) == 3
    network.looks = 0
    again = detect(frame(group, 31), StageClock())
    assert network.looks == 0, "nobody is looked for when as many are followed as may be"
    assert [p.track_id for p in again] == [p.track_id for p in people]


def test_the_detector_rests_when_nothing_changes(pose: BlazePose) -> None:
    network = Counted(pose)
    detect = PersonDetector(network, max_people=4)
    person = still("mmp_000000000785.jpg")
    for i in range(40):
        detect(frame(person, i), StageClock())
    network.looks = 0
    for i in range(40, 100):
        assert len(detect(frame(person, i), StageClock())) == 1
    assert 6 <= network.looks <= 12, "five times a second"

    empty = np.full((240, 320, 3), 127, np.uint8)
    network.looks = 0
    for i in range(100, 400):
        assert detect(frame(empty, i), StageClock()) == ()
    assert network.looks < 15 + 5 * 30 + 5 * 6, "every frame for five seconds, then five times a second"


def test_ids_stay_with_three_people(pose: BlazePose) -> None:
    detect = PersonDetector(pose, max_people=4)
    places: dict[int, list[Array]] = {}
    for i, image in clip("clips_gt/p2s_beam_cgperson_cam1", 0, 40, 2):
        people = detect(frame(image, i), StageClock())
        assert_no_doubles(people)
        for p in people:
            places.setdefault(p.track_id, []).append((p.box_xyxy[:2] + p.box_xyxy[2:]) / 2)
    assert sorted(places) == [1, 2, 3]
    for track in places.values():
        assert len(track) >= 18
        assert np.linalg.norm(np.diff(track, axis=0), axis=1).max() < 200


def test_two_people_keep_their_ids_through_two_crossings(pose: BlazePose) -> None:
    detect = PersonDetector(pose, max_people=2)
    people: tuple[Detection, ...] = ()
    ids, shirts = set(), {}
    for i, image in clip("demo_two", 0, 201, 2):
        people = detect(frame(image, i), StageClock())
        assert_no_doubles(people)
        ids |= {p.track_id for p in people}
        if i in (0, 80, 200):
            for p in people:
                assert p.landmarks
                shirts[i, p.track_id] = look_at(image, p.landmarks)
    assert ids == {1, 2}
    for i in (80, 200):
        for one, other in ((1, 2), (2, 1)):
            same, swapped = (look_distance(shirts[0, one], shirts[i, k]) for k in (one, other))
            assert same is not None
            assert swapped is not None
            assert same < swapped


def test_a_jumper_is_followed_through_a_somersault_at_a_low_rate(pose: BlazePose) -> None:
    detect = PersonDetector(pose, max_people=1)
    seen = [detect(frame(image, i), StageClock()) for i, image in clip("clips_nogt/sports2d_demo", 120, 165, 3)]
    assert all(len(people) == 1 for people in seen)
    assert {p.track_id for people in seen for p in people} == {1}


def test_small_huge_and_cut_pictures(pose: BlazePose) -> None:
    rng = np.random.default_rng(0)
    for shape in ((64, 64, 3), (1, 1, 3), (1, 400, 3)):
        detect = PersonDetector(pose)
        for i in range(3):
            assert detect(frame(rng.integers(0, 255, shape, dtype=np.uint8), i), StageClock()) == ()
    group = still("op_241.jpg")
    half = PersonDetector(pose)(frame(group[:, 230:]), StageClock())
    assert half
    assert any(p.box_xyxy[0] < 0 for p in half), "a box may reach out of the picture"
    huge = np.zeros((4320, 7680, 3), np.uint8)
    huge[:, 2000:5240] = cv2.resize(group, (3240, 4320))
    assert len(PersonDetector(pose)(frame(huge), StageClock())) == 3


def test_a_gap_ends_tracks_and_ids_are_not_used_again(pose: BlazePose) -> None:
    detect = PersonDetector(pose, max_people=1)
    person = still("mmp_000000000785.jpg")
    first = detect(frame(person, 0), StageClock())
    later = detect(frame(person, 300), StageClock())
    assert [p.track_id for p in (*first, *later)] == [1, 2]
    with pytest.raises(ValueError, match="1 or more, got 0"):
        PersonDetector(pose, max_people=0)


def test_mediapipe_is_tracked_by_the_same_rules(pose: BlazePose) -> None:
    reference = MediaPipeReference(3, "video")
    ours, theirs = PersonDetector(pose, max_people=1), MediaPipeDetector(reference, max_people=3)
    for i, image in clip("clips_gt/p2s_beam_cam1", 0, 20, 2):
        (a,), (b,) = ours(frame(image, i), StageClock()), theirs(frame(image, i), StageClock())
        assert a.track_id == b.track_id == 1
        assert a.landmarks
        assert b.landmarks
        assert np.linalg.norm(a.landmarks.points_px - b.landmarks.points_px, axis=1).mean() < 25
    reference.close()
