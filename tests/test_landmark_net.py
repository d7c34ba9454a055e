"""The trained networks in the stream: what is remembered, what they are asked, and what becomes of their answers."""

import dataclasses
from contextlib import ExitStack

import numpy as np
import pytest

from benchmarks.landmark_noise import LandmarkNoise, observe
from benchmarks.replay import replay
from benchmarks.synthetic import SIZE_WH, Space, act, camera
from engines.landmark_networks import open_networks
from pipeline.body import BodyModel
from pipeline.calibration_opinion import FOCAL_FLOOR, UP_FLOOR_RAD, Opinion, pooled_focal, pooled_up
from pipeline.frames import R_world_camera_from_up, normalize, shortest_rotation, up_from_pitch_roll
from pipeline.landmark_net import (
    CORRECTOR_FILE,
    MEMORY_S,
    NETWORK_FILE,
    STATURE_M,
    TAPS_S,
    UNKNOWN_CAMERA,
    LandmarkReader,
    Networks,
)
from pipeline.learned_orientation import LearnedOrientation
from pipeline.recovery import AS_SURE_M, LandmarkRecovery, networks_share
from pipeline.types import BodyPose, Detection, Landmarks

BODY = BodyModel.load()
FPS = 30.0


@pytest.fixture(scope="module")
def networks():
    with ExitStack() as stack:
        yield Networks(*open_networks((NETWORK_FILE, CORRECTOR_FILE), stack, max_batch=2))


@pytest.fixture(scope="module")
def film():
    """Somebody who moves before a known camera, as a landmark network that errs sees them."""
    calibration = camera(focal_px=1000.0, pitch_deg=14.0, roll_deg=4.0)
    posed = act(BODY, BODY.betas_for_height(1.72), Space(3.6, 0.8, 0.5), 4.0, FPS)
    return calibration, observe(posed, calibration, FPS, LandmarkNoise(), 3)


def someone(x=0.0, track_id=1):
    points = np.tile([600.0 + x, 300.0], (33, 1))
    points[:, 1] += np.arange(33)
    marks = Landmarks(points, np.zeros(33), np.ones(33), np.zeros((33, 3)), 1.0)
    return Detection(np.array([0.0, 0, 100, 100]), 1.0, track_id, marks)


class Asked:
    """Keeps what the network was asked, and answers as the real one does."""

    def __init__(self, runs):
        self.runs, self.feeds = runs, []

    def __call__(self, feed):
        self.feeds.append(feed)
        return self.runs(feed)


@pytest.mark.parametrize("fps", [6.0, 25.0, 30.0, 60.0])
def test_a_second_is_remembered_at_any_rate(networks, fps):
    asked = Asked(networks.reads)
    reader = LandmarkReader(asked)
    for i in range(int(2 * fps)):
        reader.read((someone(i),), i / fps, SIZE_WH)
    ages, last = asked.feeds[-1]["ages_s"][0], asked.feeds[-1]["points_px"][0, :, 0, 0]
    assert ages[0] == 0
    assert np.abs(ages - TAPS_S).max() <= 0.5 / fps + 1e-6
    # Each picture is the one of its age
    np.testing.assert_allclose(last, 600 + (int(2 * fps) - 1) - ages * fps, atol=1e-3)


def test_who_just_came_is_seen_as_often_as_there_are_pictures(networks):
    asked = Asked(networks.reads)
    reader = LandmarkReader(asked)
    reader.read((someone(),), 0.0, SIZE_WH)
    assert (asked.feeds[-1]["ages_s"] == 0).all()
    reader.read((someone(),), MEMORY_S + 1.0, SIZE_WH)
    assert (asked.feeds[-1]["ages_s"] == 0).all()  # nothing is known across a gap


def test_bodies_are_read_with_what_is_believed_of_the_camera(networks):
    asked = Asked(networks.reads)
    reader = LandmarkReader(asked)
    before = reader.read((someone(),), 0.0, SIZE_WH)
    np.testing.assert_allclose(asked.feeds[0]["camera"], [UNKNOWN_CAMERA])
    believed = dataclasses.replace(camera(900.0, 10.0, 3.0), focal_spread=0.1, gravity_spread_rad=0.05)
    LandmarkRecovery(BODY, reader=reader)((someone(), dataclasses.replace(someone(), track_id=2)), believed, 0.1)
    expected = [*believed.up_camera, 0.05, np.log(believed.K[0, 0] / max(SIZE_WH)), 0.1]
    np.testing.assert_allclose(asked.feeds[1]["camera"], [expected] * 2, atol=1e-6)
    assert set(before) == {1}


def test_who_is_forgotten_comes_anew(networks):
    asked = Asked(networks.reads)
    reader = LandmarkReader(asked)
    recovery = LandmarkRecovery(BODY, reader=reader)
    for i in range(10):
        reader.read((someone(i),), i / FPS, SIZE_WH)
    recovery.keep_only(set())
    reader.read((someone(10),), 10 / FPS, SIZE_WH)
    assert (asked.feeds[-2]["ages_s"][0, 1:] > 0).all()
    assert (asked.feeds[-1]["ages_s"] == 0).all()


def test_one_call_a_frame_whoever_asks(networks):
    asked = Asked(networks.reads)
    reader = LandmarkReader(asked)
    people = someone(0, 1), someone(50, 7)
    first = reader.read(people, 1.0, SIZE_WH)
    assert reader.read(people, 1.0, SIZE_WH) is first
    assert len(asked.feeds) == 1
    assert set(first) == {1, 7}
    assert asked.feeds[0]["points_px"].shape[0] == 2
    assert reader.latest(3) is None
    bare = dataclasses.replace(someone(), landmarks=None)
    assert reader.read((bare,), 2.0, SIZE_WH) == {}


def test_people_do_not_change_one_another(networks, film):
    _, detections = film
    alone, together = LandmarkReader(networks.reads), LandmarkReader(networks.reads)
    for i in range(30):
        (person,) = detections[i]
        other = dataclasses.replace(person, track_id=99)
        a = alone.read((person,), i / FPS, SIZE_WH)[person.track_id]
        b = together.read((other, person), i / FPS, SIZE_WH)[person.track_id]
    np.testing.assert_allclose(a.points_m, b.points_m, atol=1e-4)
    np.testing.assert_allclose(a.up_ray, b.up_ray, atol=1e-4)


def opinion(log_focal, sigma, up, hip=(0.0, 0.0), up_sigma=0.1):
    return Opinion(log_focal, sigma, np.asarray(up, dtype=float), up_sigma, np.asarray(hip, dtype=float))


def test_pooled_opinions():
    up = up_from_pitch_roll(0.3, 0.05)
    log_focal = np.log(0.8)
    made = []
    for hip in ((-0.3, 0.1), (0.2, -0.1), (0.0, 0.2)):
        ray = normalize(np.append(np.array(hip) / 0.8, 1.0))
        made.append(opinion(log_focal, 0.3, shortest_rotation(ray, np.array([0.0, 0.0, 1.0])) @ up, hip))
    focal, sigma = pooled_focal(made)
    assert focal == pytest.approx(log_focal)
    assert FOCAL_FLOOR < sigma < 0.4
    # Rays bend with the focal length: only with the right one do looks from all over the picture agree
    found, up_sigma = pooled_up(made, log_focal)
    assert np.degrees(np.arccos(found @ up)) < 1e-3
    assert UP_FLOOR_RAD < up_sigma < 1.2 * UP_FLOOR_RAD
    wild = opinion(log_focal, 0.3, [1.0, 0.0, 0.0])
    assert np.degrees(np.arccos(pooled_up([*made * 3, wild], log_focal)[0] @ up)) < 4
    assert pooled_focal([opinion(0.0, 0.1, up), opinion(1.0, 1.0, up)])[0] < 0.02
    assert pooled_focal(made * 50)[1] >= FOCAL_FLOOR  # looks at one clip err alike


def test_the_first_second_knows_gravity_better_than_priors(networks):
    """Networks beside the analytic way, on landmarks that err as another model of MediaPipe's errors has it."""
    errors = {"networks": [], "analytic": []}
    for seed, (pitch, roll, focal) in enumerate(
        ((4, -3, 900), (14, 4, 1100), (22, 0, 1300), (9, 6, 1000), (18, -5, 800))
    ):
        truth = camera(focal_px=focal, pitch_deg=pitch, roll_deg=roll)
        posed = act(BODY, BODY.betas_for_height(1.72), Space(0.0036 * focal, 0.8, 0.5), 1.0, FPS)
        detections = observe(posed, truth, FPS, LandmarkNoise(), seed)
        for name, nets in (("networks", networks), ("analytic", None)):
            up = replay(detections, SIZE_WH, FPS, BODY, networks=nets).results[-1].calibration.up_camera
            errors[name].append(float(np.degrees(np.arccos(np.clip(up @ truth.up_camera, -1, 1)))))
    assert np.mean(errors["networks"]) < 8.0
    assert np.mean(errors["networks"]) < np.mean(errors["analytic"]) + 1.0


def test_networks_are_heeded_as_far_as_they_are_sure():
    shares = [networks_share(sigma) for sigma in (0.02, 0.04, AS_SURE_M, 0.06, 0.2)]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (1.0, 0.0)
    assert shares[2] == pytest.approx(0.5)


@pytest.mark.parametrize("height", [None, 1.5])
def test_people_are_of_the_networks_stature_until_another_is_given(networks, film, height):
    calibration, detections = film
    recovery = LandmarkRecovery(BODY, height, reader=LandmarkReader(networks.reads))
    for i, people in enumerate(detections[:40]):
        (body,) = recovery(people, calibration, i / FPS)
    assert float(BODY.shaped(body.betas).height_m) == pytest.approx(height or STATURE_M, abs=1e-3)
    # The network gives its landmarks a size of its own: the calibration is told how far off that is
    assert recovery.metric_scale(people[0].track_id) == pytest.approx((height or STATURE_M) / 1.69, abs=0.08)


def test_replay_is_deterministic(networks, film):
    _, detections = film
    runs = [replay(detections, SIZE_WH, FPS, BODY, networks=networks) for _ in range(2)]
    for a, b in zip(runs[0].results, runs[1].results, strict=True):
        for p, q in zip(a.people, b.people, strict=True):
            assert np.array_equal(p.world.joints_world_m, q.world.joints_world_m)


def test_corrector_turns_roots_and_nothing_else(networks, film):
    truth, detections = film
    reader = LandmarkReader(networks.reads)
    corrector = LearnedOrientation(reader, networks.corrects)
    wrong = dataclasses.replace(truth, R_world_camera=R_world_camera_from_up(up_from_pitch_roll(np.radians(24.0), 0.0)))
    local = np.tile(np.eye(3), (23, 1, 1))
    shaped = BODY.shaped(np.zeros(10))
    up = truth.up_camera
    root = R_world_camera_from_up(up).T  # upright, facing the camera
    place = np.array([0.0, 0.0, 3.5])
    joints = np.asarray(shaped.posed(root, place, local).joints)
    body = BodyPose(root, place, local, np.zeros(10), joints, np.ones(24))
    lean = []
    for i, people in enumerate(detections):
        reader.read(people, i / FPS, SIZE_WH)
        (world,) = corrector([body], wrong, [people[0].track_id], i / FPS)
        lean.append(float(np.degrees(np.arccos(np.clip(world.R_world_root[1, 1], -1, 1)))))
        assert np.array_equal(world.Rs_parent_joint, local)
    bones = np.linalg.norm(np.diff(world.joints_world_m[[0, 3, 6, 9]], axis=0), axis=1)
    np.testing.assert_allclose(bones, np.linalg.norm(np.diff(joints[[0, 3, 6, 9]], axis=0), axis=1))
    # The camera is believed to look down by ten degrees more than it does
    assert lean[0] > 7
    assert lean[-1] < lean[0] - 2
