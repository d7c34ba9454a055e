"""Calibration from exact landmarks of known people before known cameras, its gates, status and blending."""

import dataclasses

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.calibration import Calibrator
from pipeline.calibration_prior import ANY
from pipeline.calibration_sample import make_sample
from pipeline.calibration_unknown import FOCAL_PRIOR, pinhole, uncalibrated
from pipeline.frames import angle_between
from pipeline.perspective import fit_perspective
from pipeline.types import CalibrationStatus, CameraCalibration, Detection
from tests.support.synthetic import SIZE_WH, camera, see, stand, walking

BODY = BodyModel.load()


def walk(truth: CameraCalibration, seconds: float = 12.0, noise_px: float = 0.0) -> list[tuple[float, Detection]]:
    """Somebody who walks a curve three to five metres before the camera, ten pictures a second."""
    rng = np.random.default_rng(3)
    people = []
    for t in np.arange(0.0, seconds, 0.1):
        place = (0.8 * np.sin(0.5 * t), -4.0 + np.cos(0.7 * t))
        posed = stand(BODY, walking(6.0 * t), 0.6 * t, place)
        people.append((float(t), see(posed, truth, noise_px=noise_px, rng=rng)))
    return people


def run(calibrator: Calibrator, people: list[tuple[float, Detection]]) -> CameraCalibration:
    for t, person in people:
        calibrator.update(t, [person])
    return calibrator.current


@pytest.mark.parametrize(
    ("focal", "pitch", "roll", "height"), [(700, 20, -4, 2.4), (1000, 12, 3, 1.7), (1700, 5, 0, 1.2)]
)
def test_exact_landmarks_give_the_camera(focal, pitch, roll, height):
    truth = camera(focal, pitch, roll, height)
    found = run(Calibrator("test", SIZE_WH), walk(truth))
    assert found.status is CalibrationStatus.CALIBRATED
    assert abs(found.K[0, 0] / focal - 1) < 0.05
    assert np.degrees(angle_between(found.R_world_camera, truth.R_world_camera)) < 3.0
    assert abs(found.camera_height_m - height) < 0.15
    assert abs(np.log(found.K[0, 0] / focal)) < 2 * found.focal_spread
    assert np.arccos(found.up_camera @ truth.up_camera) < 2 * found.gravity_spread_rad


def test_noise_widens_nothing_beyond_its_spread():
    truth = camera(1000, 15, 2, 2.0)
    found = run(Calibrator("test", SIZE_WH), walk(truth, noise_px=4.0))
    assert abs(np.log(found.K[0, 0] / 1000)) < 2 * found.focal_spread
    assert np.arccos(found.up_camera @ truth.up_camera) < 2 * found.gravity_spread_rad
    assert abs(found.camera_height_m - 2.0) < 2 * found.height_spread_m


def test_before_anybody_is_seen_it_says_that_it_knows_nothing():
    calibrator = Calibrator("test", SIZE_WH)
    start = calibrator.update(0.0, [])
    assert start.status is CalibrationStatus.UNCALIBRATED
    assert start.camera_height_m is None
    assert start.n_samples == 0
    assert start.K[0, 0] == FOCAL_PRIOR * 1280


def test_status_goes_over_calibrating():
    calibrator = Calibrator("test", SIZE_WH)
    seen = []
    for t, person in walk(camera()):
        status = calibrator.update(t, [person]).status
        if not seen or seen[-1] is not status:
            seen.append(status)
    assert seen == [CalibrationStatus.CALIBRATING, CalibrationStatus.CALIBRATED]


def test_a_supplied_camera_keeps_its_k_and_learns_gravity_and_height():
    truth = camera(900, 18, -3, 2.1)
    given = dataclasses.replace(
        uncalibrated("test", SIZE_WH), K=pinhole(900, SIZE_WH), focal_spread=0.0, status=CalibrationStatus.SUPPLIED
    )
    found = run(Calibrator("test", SIZE_WH, given), walk(truth))
    assert found.status is CalibrationStatus.SUPPLIED
    assert np.array_equal(found.K, given.K)
    assert np.degrees(np.arccos(found.up_camera @ truth.up_camera)) < 3.0
    assert abs(found.camera_height_m - 2.1) < 0.12


def test_a_camera_that_was_given_whole_stays_as_it_was_given():
    given = camera(900, 18, -3, 2.1)
    found = run(Calibrator("test", SIZE_WH, given), walk(camera(900, 16, -1, 2.1), seconds=5))
    assert np.array_equal(found.K, given.K)
    assert np.allclose(found.R_world_camera, given.R_world_camera, atol=1e-9)


def test_a_moved_camera_is_noticed_and_calibrated_again_without_a_jump():
    before, after = camera(600, 5, 0, 1.8), camera(600, 24, 8, 1.8)
    calibrator = Calibrator("test", SIZE_WH)
    run(calibrator, walk(before))
    assert calibrator.current.status is CalibrationStatus.CALIBRATED
    statuses, steps, last = [], [], calibrator.current
    for t, person in walk(after, seconds=20.0):
        now = calibrator.update(100.0 + t, [person])
        steps.append(float(np.degrees(angle_between(last.R_world_camera, now.R_world_camera))))
        statuses.append(now.status)
        last = now
    assert CalibrationStatus.MOVED in statuses
    assert statuses[-1] is CalibrationStatus.CALIBRATED
    assert np.degrees(np.arccos(last.up_camera @ after.up_camera)) < 3.0
    assert max(steps) < 10.0


@pytest.mark.parametrize("given", [False, True])
def test_a_camera_whose_picture_jumped_is_calibrated_again_within_five_seconds(given):
    before, after = camera(900, 8, 0, 1.8), camera(900, 14, 6, 1.9)
    calibrator = Calibrator("test", SIZE_WH, before if given else None)
    known = run(calibrator, walk(before))
    moved = calibrator.camera_moved(12.0)
    assert moved.status is CalibrationStatus.MOVED
    assert calibrator.current is moved
    assert np.array_equal(moved.K, known.K)
    assert moved.gravity_spread_rad > np.radians(15.0)
    statuses = [calibrator.update(12.0 + t, [person]).status for t, person in walk(after, 5.0)]
    settled = CalibrationStatus.SUPPLIED if given else CalibrationStatus.CALIBRATED
    assert statuses[0] is not settled
    assert statuses[-1] is settled
    assert np.degrees(np.arccos(calibrator.current.up_camera @ after.up_camera)) < 3.0


def test_a_cached_camera_starts_calibrated_and_is_overruled_when_it_does_not_fit():
    cached = run(Calibrator("test", SIZE_WH), walk(camera(600, 5, 0, 1.8)))
    again = Calibrator("test", SIZE_WH, cached)
    assert again.current.status is CalibrationStatus.CALIBRATED
    assert run(again, walk(camera(600, 5, 0, 1.8), 3.0)).status is CalibrationStatus.CALIBRATED
    statuses = set()
    other = Calibrator("test", SIZE_WH, cached)
    for t, person in walk(camera(600, 25, -6, 1.8)):
        statuses.add(other.update(t, [person]).status)
    assert CalibrationStatus.MOVED in statuses


def test_gates_refuse_what_says_nothing_and_are_counted():
    truth = camera()
    person = see(stand(BODY, walking(0.0), 0.0, (0.0, -4.0)), truth)
    hidden = dataclasses.replace(person.landmarks, visibility=np.full(33, 0.1))
    far = see(stand(BODY, walking(0.0), 0.0, (0.0, -60.0)), truth)
    nonsense = dataclasses.replace(person.landmarks, points_m=np.random.default_rng(0).normal(0, 0.5, (33, 3)))
    K, none = truth.K, np.zeros(5)
    assert make_sample(hidden, 1, 0.0, K, none, SIZE_WH) == "few_landmarks"
    assert make_sample(far.landmarks, 1, 0.0, K, none, SIZE_WH) == "small"
    assert make_sample(nonsense, 1, 0.0, K, none, SIZE_WH) == "poor_fit"
    calibrator = Calibrator("test", SIZE_WH)
    run(calibrator, [(0.5 * i, person) for i in range(4)])
    assert calibrator.gates["accepted"] == 1
    assert calibrator.gates["repeated"] == 3


def test_a_body_bent_or_seated_does_not_pass_for_gravity():
    from pipeline.frames import exp_so3
    from pipeline.types import JOINT

    seated = walking(0.0)
    for side in ("left", "right"):
        seated[JOINT[f"{side}_hip"] - 1] = exp_so3([-1.5, 0.0, 0.0])
        seated[JOINT[f"{side}_knee"] - 1] = exp_so3([1.5, 0.0, 0.0])
    truth = camera()
    sample = make_sample(
        see(stand(BODY, seated, 0.3, (0, -3.5)), truth).landmarks, 1, 0.0, truth.K, np.zeros(5), SIZE_WH
    )
    assert sample.axis_m is None
    assert sample.kind == ANY


def test_perspective_fit_finds_pose_and_the_true_focal_length_has_the_least_error():
    rng = np.random.default_rng(1)
    points = rng.normal(0.0, 0.4, (19, 3))
    camera_points = points + np.array([0.3, -0.2, 3.0])
    rays = camera_points[:, :2] / camera_points[:, 2:]
    ratios = np.exp(np.linspace(-0.6, 0.6, 13))
    fit = fit_perspective(points, rays[None] / ratios[:, None, None], np.ones(19), iterations=10)
    assert np.argmin(fit.error_m2) == 6
    assert np.allclose(fit.ts[6], [0.3, -0.2, 3.0], atol=1e-3)
    assert np.degrees(angle_between(fit.Rs[6], np.eye(3))) < 0.05
    with pytest.raises(ValueError, match="needs 4 points"):
        fit_perspective(points, rays[None], np.zeros(19))
