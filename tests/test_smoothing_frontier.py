"""Jitter against lag: the filters that are compared, and how the knee is found."""

import numpy as np
import pytest

from benchmarks import metrics
from benchmarks.landmark_noise import LandmarkNoise
from benchmarks.smoothing_frontier import (
    Point,
    frontier,
    knee,
    measure,
    one_euro,
    our_level,
    over_clips,
    plot,
    reference,
    report,
)
from benchmarks.sweep import Cell, film
from pipeline import smoothing


def point(lag: float, ratio: float, family: str = "ours", name: str = "x", clip: str = "a") -> Point:
    return Point(clip, family, name, 100 * ratio, ratio, lag, 20 * lag)


def test_one_euro_leaves_rest_alone_takes_noise_and_follows_speed():
    rng = np.random.default_rng(0)
    rest = np.ones((100, 2, 3))
    assert np.allclose(one_euro(rest, 30.0, 1.0, 1.0), rest)
    noisy = rest + rng.normal(0.0, 0.01, rest.shape)
    assert metrics.jitter(one_euro(noisy, 30.0, 1.0, 0.1), 30.0) < 0.3 * metrics.jitter(noisy, 30.0)
    ramp = np.zeros((100, 1, 3))
    ramp[:, 0, 0] = np.arange(100) / 30.0
    behind = [float(ramp[-1, 0, 0] - one_euro(ramp, 30.0, 1.0, beta)[-1, 0, 0]) for beta in (0.0, 5.0)]
    # A first-order low-pass trails a ramp by its time constant times the speed, and that much less for a sample
    assert behind[0] == pytest.approx(1 / (2 * np.pi), abs=0.01)
    assert behind[1] < behind[0] / 3


def test_one_euro_starts_anew_after_a_gap():
    x = np.zeros((20, 1, 3))
    x[10:] = 1.0
    x[9] = np.nan
    out = one_euro(x, 30.0, 0.5, 0.0)
    assert np.isnan(out[9]).all()
    assert np.allclose(out[10:], 1.0)


def test_the_reference_has_no_lag_and_less_noise():
    t = np.arange(200) / 30.0
    x = np.zeros((200, 12, 3))
    x[..., 1] = 0.2 * np.sin(5.0 * t)[:, None] + 0.1 * np.sin(8.3 * t)[:, None] * np.arange(12)
    noisy = x + np.random.default_rng(1).normal(0.0, 0.01, x.shape)
    noisy[50:53] = np.nan
    smooth = reference(noisy, 30.0)
    assert np.isnan(smooth[50:53]).all()
    assert metrics.lag_frames(smooth, x) == pytest.approx(0.0, abs=0.05)
    assert metrics.jitter(smooth, 30.0) < 0.3 * metrics.jitter(noisy, 30.0)


def test_frontier_and_knee():
    points = [point(0.0, 1.0), point(0.3, 0.9), point(0.4, 0.25), point(0.5, 0.5), point(1.0, 0.2), point(2.0, 0.19)]
    assert [p.lag_frames for p in frontier(points)] == [0.0, 0.3, 0.4, 1.0, 2.0]
    assert knee(points) == point(0.4, 0.25)
    assert knee([]) is None
    assert knee(points[:1]) == points[0]


def test_medians_over_clips_and_the_sentences():
    points = [point(0.2 + 0.1 * i, 0.5, clip=str(i)) for i in range(3)] + [point(0.9, 0.3, name="slow")]
    medians = over_clips(points)
    assert [(p.name, round(p.lag_frames, 3)) for p in medians] == [("x", 0.3), ("slow", 0.9)]
    said = "\n".join(report(medians))
    assert "Least jitter of our filters at no more than 1 frame: slow (0.30 of raw, 0.90 frames)." in said


def test_a_level_of_ours_is_there_only_while_it_is_asked_for():
    before = dict(smoothing.LEVELS)
    with our_level(0.7, 0.2) as name:
        level = smoothing.level(name)
        assert (level.turns.angle, level.turns.output) == (0.7, 0.2)
    assert before == smoothing.LEVELS


def test_every_smoothing_is_measured_on_the_same_detections(tmp_path):
    run, _ = film(Cell(1.0, 10.0, 3.0), LandmarkNoise(), seconds=9.0)
    points = measure("made up", run, ours=((0.4, 0.6), (0.9, 0.9)), euros=((1.0, 0.5), (4.0, 2.0)))
    raw = next(p for p in points if p.family == "raw")
    assert raw.jitter_ratio == 1.0
    assert abs(raw.lag_frames) < 0.1
    levels = {p.name: p for p in points if p.family == "level"}
    assert set(levels) == set(smoothing.LEVELS)
    assert levels["high"].jitter < levels["default"].jitter < levels["off"].jitter
    euro = [p for p in points if p.family == "one euro"]
    assert min(p.jitter_ratio for p in euro) < 0.6
    assert plot(tmp_path / "frontier.png", over_clips(points)).read_bytes().startswith(b"\x89PNG")
