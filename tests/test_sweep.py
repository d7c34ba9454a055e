"""Made-up people before made-up cameras: the truth is true, exact landmarks give it back, and what the report says."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.landmark_noise import FAULTLESS, LandmarkNoise, observe
from benchmarks.replay import Run, replay
from benchmarks.splice import Splice, jumps
from benchmarks.splice import measure as measure_splice
from benchmarks.sweep import FPS, Cell, Outcome, film, judge
from benchmarks.sweep_plot import plot
from benchmarks.sweep_report import EXACT, TABLES, conclusions, table
from benchmarks.synthetic import OUTSIDE, SIZE_WH, Space, act, camera, in_camera, in_ray_axes
from pipeline.body import BodyModel
from pipeline.frames import angle_between, project
from pipeline.types import JOINT

BODY = BodyModel.load()
SPACE = Space(3.5, 1.0, 0.6)
#: Near and far, looking up, level and down, wide and long lenses, whole people.
CELLS = (Cell(0.75, 15.0, 2.5), Cell(1.0, -15.0, 4.5), Cell(1.0, 30.0, 4.5), Cell(1.5, 0.0, 4.5), Cell(2.1, 15.0, 8.0))


@pytest.fixture(scope="module")
def performance():
    """Ten seconds of somebody of 1.75 m."""
    return act(BODY, BODY.betas_for_height(1.75), SPACE, 10.0, FPS)


@pytest.fixture(scope="module", params=CELLS, ids=str)
def outcome(request) -> Outcome:
    """What exact landmarks give at a cell."""
    return judge(request.param)


def test_somebody_bends_reaches_sits_and_walks(performance):
    joints = performance.joints
    hips, head, wrist = joints[:, JOINT["pelvis"], 1], joints[:, JOINT["head"], 1], joints[:, JOINT["left_wrist"], 1]
    standing = joints[0, JOINT["head"], 1]
    assert hips.min() < 0.65 < 0.9 < hips.max()
    assert head[:30].min() < standing - 0.3
    assert wrist.max() > standing - 0.2
    walked = np.linalg.norm(np.diff(joints[70:, 0][:, [0, 2]], axis=0), axis=-1).sum()
    assert walked > 1.5


def test_feet_stay_planted_on_the_floor(performance):
    soles = performance.landmarks[:, 29:33]
    assert -0.005 < soles[..., 1].min() < 0.03
    ankles = performance.joints[:60, [JOINT["left_ankle"], JOINT["right_ankle"]]]
    assert np.abs(ankles - ankles[0]).max() < 0.01


def test_exact_landmarks_are_the_projection_and_outside_is_said(performance):
    calibration = camera(900.0, 30.0, 2.0, 1.2)
    points = in_camera(performance.landmarks, calibration)
    detections = observe(performance, calibration, FPS, None, 0)
    outside = 0
    for i, found in enumerate(detections):
        for d in found:
            uv = project(points[i], calibration.K)
            inside = ((uv >= 0) & (uv <= np.array(SIZE_WH) - 1)).all(-1)
            assert np.allclose(d.landmarks.points_px, uv)
            metric = in_ray_axes(points[i])
            assert np.allclose(d.landmarks.points_m - d.landmarks.points_m[0], metric - metric[0])
            assert np.array_equal(d.landmarks.visibility > OUTSIDE, inside)
            outside += np.count_nonzero(~inside)
    assert outside > 100


def test_noise_is_as_large_as_it_says_and_the_same_for_the_same_seed(performance):
    calibration = camera(900.0, 5.0, 0.0, 1.4)
    exact = observe(performance, calibration, FPS, None, 0)
    first, again, other = (observe(performance, calibration, FPS, LandmarkNoise(), seed) for seed in (3, 3, 4))

    def pixels(run):
        return np.stack([d.landmarks.points_px for (d,) in run])

    assert np.array_equal(pixels(first), pixels(again))
    assert not np.allclose(pixels(first), pixels(other), atol=1.0)
    assert np.allclose(pixels(observe(performance, calibration, FPS, FAULTLESS, 0)), pixels(exact))
    body_px = np.linalg.norm(np.ptp(pixels(exact), axis=1), axis=-1).mean()
    off = (pixels(first) - pixels(exact))[np.stack([d.landmarks.visibility > OUTSIDE for (d,) in exact])]
    assert 0.008 < off.std() / body_px < 0.025


def test_metric_landmarks_are_the_picture_over_again_with_another_perspective(performance):
    calibration = camera(900.0, 0.0, 0.0, 1.0)

    def metric(noise):
        return np.stack([d.landmarks.points_m for (d,) in observe(performance, calibration, FPS, noise, 0)])

    exact, faultless = metric(None), metric(FAULTLESS)
    # With all of the perspective undone only the axes differ: those of the ray through the hips
    distances = [np.linalg.norm(p[:, None] - p, axis=-1) for p in (exact[10], faultless[10])]
    assert np.allclose(*distances, atol=1e-6)
    squeezed = metric(dataclasses.replace(FAULTLESS, depth_share=0.5))
    assert np.allclose(squeezed[..., 2], 0.5 * faultless[..., 2])
    orthographic = metric(dataclasses.replace(FAULTLESS, nearness_share=0.0))
    nearer = faultless[..., 2] < -0.2
    assert (
        np.linalg.norm(orthographic[nearer][:, :2], axis=-1) > np.linalg.norm(faultless[nearer][:, :2], axis=-1)
    ).all()


def test_exact_landmarks_give_the_focal_length(outcome):
    assert abs(outcome.focal_err_pct) < EXACT["focal_err_pct"]
    assert outcome.status == "calibrated"


def test_exact_landmarks_give_gravity(outcome):
    assert outcome.gravity_err_deg < EXACT["gravity_err_deg"]


def test_exact_landmarks_give_the_joints(outcome):
    assert outcome.mpjpe_mm < EXACT["mpjpe_mm"]


def test_the_truth_lies_within_two_spreads_of_exact_landmarks(outcome):
    assert outcome.focal_within
    assert outcome.gravity_within
    assert outcome.height_within


def test_a_cell_is_the_same_twice_and_worse_with_noise():
    cell = Cell(1.0, 15.0, 2.5)
    assert judge(cell) == judge(cell)
    noisy = judge(cell, noisy=True)
    assert noisy.mpjpe_mm > 20.0
    assert noisy.raw_mpjpe_mm > noisy.raw_pa_mpjpe_mm > 40.0


def test_nobody_in_the_picture_is_no_error():
    nothing = judge(Cell(3.0, -30.0, 8.0))
    assert nothing.seen_pct < 5.0
    assert nothing.mpjpe_mm is None


def outcomes() -> list[Outcome]:
    """Four cells of which one is far off and says a spread that is too small."""
    good = Outcome(1.0, 0.0, 2.5, "calibrated", 100.0, 0.2, 0.1, 0.01, 5.0, 1.0, 0.1, True, True, True, 3.0, 3.0, 10.0)
    return [
        good,
        dataclasses.replace(good, focal=2.0),
        dataclasses.replace(good, distance_m=8.0),
        dataclasses.replace(good, focal=2.0, distance_m=8.0, focal_err_pct=-30.0, focal_within=False),
    ]


def test_the_report_names_what_holds_and_where_it_breaks():
    said = "\n".join(conclusions(outcomes(), noisy=False))
    assert "Focal length within 1 % in 75 % of the cells with whole people" in said
    assert "worst 30 at f 2 x height, pitch +0°, 8 m" in said
    assert (
        "The focal spread is too small for whole people: the truth lies within two spreads in 75 % of 4 cells" in said
    )
    assert "The gravity spread is honest for whole people" in said
    assert "focal length (x height) 2 (15), distance 8 m (15)" in said


def test_tables_have_a_cell_for_each_and_dashes_for_the_unknown():
    some = outcomes()[:3]
    attribute, title, form = TABLES[1]
    lines = list(table(some, attribute, title, form))
    assert len(lines) == 3 + 2
    assert lines[-1].split() == ["2.00", "+0.2", "-"]


def test_the_sweep_is_drawn(tmp_path):
    assert plot(tmp_path / "new" / "sweep.png", outcomes(), noisy=False).read_bytes().startswith(b"\x89PNG")


def test_a_splice_measures_steps_of_the_world_and_the_camera_against_b():
    first, _ = film(Cell(1.0, 0.0, 4.5), seconds=4.0)
    second, truth = film(Cell(1.0, 30.0, 4.5), seconds=6.0)
    run = replay([*first.detections, *second.detections], SIZE_WH, FPS, BODY)
    at = len(first.detections)
    report = measure_splice(Splice(run, at, truth, 30.0))
    assert report["statuses"][0][0] == -4.0
    assert report["gravity_err_deg"] == pytest.approx(
        np.degrees(np.arccos(run.results[-1].calibration.up_camera @ truth.R_world_camera[1]))
    )
    moved, turned, moved_by, turned_by = jumps(run.results)
    turns = [
        angle_between(a.calibration.R_world_camera, b.calibration.R_world_camera) for a, b in pairwise(run.results)
    ]
    assert np.allclose(turned_by[1:], np.degrees(turns))
    # Somebody who is suddenly seen from elsewhere goes somewhere else
    assert np.nanmax(moved[at : at + 3]) > 0.1
    assert np.isfinite(turned[1:]).all()
    assert np.isfinite(moved_by[1:]).all()


def test_jumps_of_a_camera_that_stays_are_the_persons_own():
    run, _ = film(Cell(1.0, 15.0, 4.5), seconds=3.0)
    frozen = run.results[-1].calibration
    still = Run(run.fps, [dataclasses.replace(r, calibration=frozen) for r in run.results], run.detections)
    moved, _, moved_by, turned_by = jumps(still.results)
    assert np.nanmax(moved_by) < 1e-9
    assert np.nanmax(turned_by) < 1e-3
    assert np.nanmax(moved) > 0.0
