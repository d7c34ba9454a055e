"""The parts of the calibration: what is known of bodies, the bundle, the floor of exact landmarks, wide lenses."""

import dataclasses
import logging

import numpy as np
import pytest

from benchmarks.landmark_noise import LandmarkNoise, observe
from benchmarks.synthetic import SIZE_WH, Space, act, camera, in_camera
from pipeline.body import BodyModel
from pipeline.calibration import Calibrator
from pipeline.calibration_bundle import Before, Bundle
from pipeline.calibration_exact import vertical_from_floor
from pipeline.calibration_prior import ANY, UPRIGHT, PosePrior
from pipeline.calibration_sample import BODY, SOLES_AT, Sample, make_sample
from pipeline.calibration_standing import camera_height, mean_axis
from pipeline.frames import Array, exp_so3, normalize, project
from pipeline.types import CalibrationStatus, Detection

MODEL = BodyModel.load()
FPS = 10.0


@pytest.fixture(scope="module")
def performance():
    """Fifteen seconds of somebody who bends, sits and walks four metres away."""
    return act(MODEL, MODEL.betas_for_height(1.72), Space(4.0, 1.2, 1.0), 15.0, FPS)


def watched(detections: list[tuple[Detection, ...]]) -> Calibrator:
    calibrator = Calibrator("test", SIZE_WH)
    for i, found in enumerate(detections):
        calibrator.update(i / FPS, found)
    return calibrator


def samples_of(detections: list[tuple[Detection, ...]], K: Array, every: int = 5) -> list[Sample]:
    made = [make_sample(d.landmarks, 1, i / FPS, K, np.zeros(5), SIZE_WH)
            for i, (d,) in list(enumerate(detections))[::every] if d.landmarks is not None]  # fmt: skip
    return [s for s in made if isinstance(s, Sample)]


def test_bodies_of_the_prior_are_people_who_face_forward():
    prior = PosePrior.load()
    for kind in (UPRIGHT, ANY):
        mean = prior.mean[kind]
        assert mean[0, 0] > 0.1 > -0.1 > mean[1, 0]
        assert mean[16, 1] > mean[0, 1] > 0.0 > mean[8, 1] > mean[10, 1]
        assert mean[16, 2] > 0.0
    assert prior.mean[UPRIGHT, 10, 1] < prior.mean[ANY, 10, 1]
    assert (prior.rest < 0.05).all()


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_file_that_is_no_prior_is_refused(tmp_path, content):
    file = tmp_path / "prior.npz"
    if content is None:
        np.savez(file, format=1)
    else:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"training\.bake_pose_prior"):
        PosePrior.load(file)


def test_the_bundle_converges_and_knows_more_from_more_people(performance):
    truth = camera(800.0, 18.0, 3.0, 1.9)
    samples = samples_of(observe(performance, truth, FPS, LandmarkNoise(), 2), truth.K)
    before = Before(0.3, camera(800.0, 5.0, 0.0).up_camera, (0.35, 0.25))
    bundle = Bundle(PosePrior.load(), before)
    first = bundle.solve(samples[:2], iterations=6)
    found = bundle.solve(samples, iterations=6)
    again = bundle.solve(samples, iterations=1)
    assert abs(again.log_focal - found.log_focal) < 0.02
    assert np.arccos(found.up @ again.up) < np.radians(0.5)
    assert found.log_focal_sigma < first.log_focal_sigma < 0.3
    assert found.up_sigma_rad < first.up_sigma_rad
    assert np.arccos(found.up @ truth.up_camera) < np.arccos(before.up @ truth.up_camera) / 2


@pytest.mark.parametrize(("focal", "pitch", "seed"), [(700.0, 20.0, 1), (1000.0, 8.0, 2), (1300.0, 30.0, 3)])
def test_noisy_landmarks_give_a_camera_within_its_spreads(performance, focal, pitch, seed):
    truth = camera(focal, pitch, -4.0, 1.9)
    found = watched(observe(performance, truth, FPS, LandmarkNoise(), seed)).current
    assert found.status is CalibrationStatus.CALIBRATED
    assert abs(np.log(found.K[0, 0] / focal)) < 2 * found.focal_spread
    assert np.arccos(found.up_camera @ truth.up_camera) < 2 * found.gravity_spread_rad
    assert abs(found.camera_height_m - 1.9) < 2 * found.height_spread_m
    assert found.focal_spread < 0.35


def test_planted_soles_give_the_vertical_and_stairs_do_not():
    rng = np.random.default_rng(0)
    truth = camera(900.0, 20.0, 5.0, 2.0)
    floor = np.stack([rng.uniform(-1, 1, 40), np.zeros(40), rng.uniform(-5, -3, 40)], axis=1)
    soles = in_camera(floor, truth).reshape(10, 4, 3)
    uv = project(soles, truth.K)
    assert np.isfinite(uv).all()
    visible = np.ones(len(BODY))
    sample = Sample(0.0, 1, np.zeros((19, 2)), visible, np.zeros((19, 3)), ANY, True, None, 4.0, np.zeros(3),
                    np.zeros(38), np.ones(len(SOLES_AT), dtype=bool))  # fmt: skip
    off = normalize(exp_so3([0.08, 0.0, 0.05]) @ truth.up_camera)
    up, sigma = vertical_from_floor([sample] * 10, soles, off, 0.1)
    assert np.degrees(np.arccos(min(up @ truth.up_camera, 1.0))) < 0.05
    assert np.degrees(sigma) < 1.0
    stairs = soles - truth.up_camera * rng.choice([0.0, 0.2, 0.4], (10, 4, 1))
    up, sigma = vertical_from_floor([sample] * 10, stairs, off, 0.1)
    assert np.allclose(up, off)
    assert sigma == 0.1
    in_the_air = dataclasses.replace(sample, planted=np.zeros(4, dtype=bool))
    assert vertical_from_floor([in_the_air] * 10, soles, off, 0.1)[1] == 0.1


def test_one_body_that_lies_does_not_turn_the_mean_axis():
    standing = np.tile([0.0, -1.0, 0.0], (9, 1))
    mean = mean_axis(np.concatenate([standing, [[1.0, 0.0, 0.0]]]))
    assert mean is not None
    assert np.degrees(np.arccos(mean[0] @ standing[0])) < 2.0
    steep = mean_axis(np.tile(camera(900.0, 40.0).up_camera, (9, 1)))
    assert steep is not None
    # A network that loses some of a lean errs in pitch and not in roll
    assert steep[1][0] > 1.1 * steep[1][1]
    assert mean_axis(np.zeros((0, 3))) is None


def test_height_is_unknown_until_feet_are_seen(performance):
    truth = camera(800.0, 15.0, 0.0, 1.8)
    samples = samples_of(observe(performance, truth, FPS, None, 0), truth.K)
    hidden = [
        dataclasses.replace(s, visible=np.where(np.isin(np.arange(19), SOLES_AT), 0.0, s.visible)) for s in samples
    ]
    soles = np.zeros((len(samples), 4, 3))
    assert camera_height(hidden, soles, truth.up_camera, 0.1, 0.05) == (None, None)


@pytest.mark.parametrize(("focal", "said"), [(380.0, 1), (1000.0, 0)])
def test_a_very_wide_lens_is_said_once(performance, caplog, focal, said):
    near = act(MODEL, MODEL.betas_for_height(1.72), Space(2.2, 0.8, 0.5), 15.0, FPS) if said else performance
    with caplog.at_level(logging.WARNING):
        watched(observe(near, camera(focal, 10.0, 0.0, 1.4), FPS, None, 0))
    assert sum("very wide lens" in r.message for r in caplog.records) == said


def test_bends_seats_and_turns_are_no_moved_camera(performance):
    truth = camera(900.0, 12.0, 0.0, 1.8)
    detections = observe(performance, truth, FPS, LandmarkNoise(), 5)
    statuses = set()
    calibrator = Calibrator("test", SIZE_WH)
    for i, found in enumerate(detections):
        statuses.add(calibrator.update(i / FPS, found).status)
    assert CalibrationStatus.MOVED not in statuses
