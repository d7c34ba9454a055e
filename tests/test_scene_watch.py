"""A camera that moves is noticed by its picture; what only looks like it is not."""

import logging
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.replay import open_stream
from benchmarks.splice import main as splice_main
from benchmarks.splice import measure, run_bump
from benchmarks.sweep import SIZE_WH, Cell, film
from benchmarks.truth import read_clip
from engines.blazepose import BlazePose
from pipeline.body import BodyModel
from pipeline.scene_watch import CONFIRM_S, LOOK_S, PAUSE_S, SceneWatch
from pipeline.source import open_source
from pipeline.types import CalibrationStatus, Detection, Frame

DEMOS = Path(__file__).parents[1] / "benchmarks" / "clips"
REAL = Path(__file__).parents[2] / "shared" / "clips" / "clips_gt"
WH = 320, 180
ON_S = 3.0


def room(seed=0):
    """A picture (180, 320, 3) of walls with edges and things in front of them, larger by a margin of 40."""
    rng = np.random.default_rng(seed)
    image = np.full((WH[1] + 80, WH[0] + 80, 3), 90, np.uint8)
    for _ in range(60):
        x, y = rng.integers(0, [WH[0] + 60, WH[1] + 60])
        w, h = rng.integers(8, 50, 2)
        colour = tuple(int(c) for c in rng.integers(20, 230, 3))
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
    return image


ROOM, OTHER_ROOM = room(0), room(1)
CLOTH = cv2.resize(np.random.default_rng(2).integers(0, 255, (30, 50, 3)).astype(np.uint8), WH)


def seen(image=ROOM, right=0.0, down=0.0, roll_deg=0.0, zoom=1.0):
    """What a camera that has turned by so many widths sees of a room."""
    centre = image.shape[1] / 2, image.shape[0] / 2
    A = cv2.getRotationMatrix2D(centre, roll_deg, zoom)
    A[:, 2] -= 40 + WH[0] * right, 40 + WH[0] * down
    return cv2.warpAffine(image, A, WH)


def events(picture, seconds=9.0, fps=10.0, people=lambda t: (), watch=None):
    """Seconds at which the watch speaks, over pictures(t) with a camera's noise."""
    rng = np.random.default_rng(3)
    watch = watch or SceneWatch("test")
    times = np.arange(round(seconds * fps)) / fps
    noisy = (np.clip(picture(t) + rng.normal(0, 2, (WH[1], WH[0], 1)), 0, 255).astype(np.uint8) for t in times)
    return [float(t) for t, image in zip(times, noisy, strict=True) if watch.moved(t, image, people(t))]


def covered(image, with_, share):
    out = image.copy()
    wide = round(share * WH[0])
    out[:, :wide] = with_[:, :wide]
    return out


def on(t, seconds=np.inf):
    return ON_S <= t < ON_S + seconds


def lit(image, gain, offset=0.0, gamma=1.0):
    return np.clip(255 * (image / 255.0) ** gamma * gain + offset, 0, 255).astype(np.uint8)


def flicker(t):
    image = seen()
    image[20:90, 100:200] = CLOTH[20:90, 100:200] * (round(10 * t) % 3 / 2)
    return image


def curtain(t):
    image = seen()
    image[:, 220:] = np.roll(CLOTH, round(6 * np.sin(2 * t)), axis=1)[:, 220:]
    return image


STRIPES = np.linspace(0.3, 1.2, WH[0])[None, :, None] * np.linspace(1.1, 0.6, WH[1])[:, None, None]
NOTHING = {
    "nothing": lambda t: seen(),
    "lights dimmed": lambda t: lit(seen(), 0.4 if on(t) else 1.0),
    "lights on": lambda t: lit(seen(), 1.5 if on(t) else 1.0, 10),
    "lights off": lambda t: lit(seen(), 0.02 if on(t) else 1.0),
    "another lamp": lambda t: np.clip(seen() * STRIPES, 0, 255).astype(np.uint8) if on(t) else seen(),
    "exposure": lambda t: lit(seen(), 1.0 + 0.4 * np.sin(2 * t), gamma=1.0 + 0.2 * np.cos(t)),
    "the sun goes down": lambda t: lit(seen(), 1.0 - 0.08 * t),
    "a screen": flicker,
    "a curtain": curtain,
    "a hand": lambda t: cv2.GaussianBlur(CLOTH, (0, 0), 12) if on(t, 1.0) else seen(),
    "a sheet": lambda t: CLOTH if on(t, 1.0) else seen(),
    "a crowd": lambda t: covered(seen(), np.roll(CLOTH, round(60 * t), axis=1), 0.9) if on(t, 4.0) else seen(),
    "a wall before half of it": lambda t: covered(seen(), CLOTH, 0.5) if on(t) else seen(),
    "a frozen grey picture": lambda t: np.full_like(seen(), 128) if on(t) else seen(),
    "coarse compression": lambda t: cv2.imdecode(cv2.imencode(".jpg", seen(), [1, 15])[1], 1) if on(t) else seen(),
    "a floor that swings": lambda t: seen(right=0.003 * np.sin(3 * t), down=0.002 * np.cos(2 * t)),
    "no texture": lambda t: np.full_like(seen(), 60 if on(t) else 200),
}
MOVED = {
    "a cut": lambda t: seen(OTHER_ROOM) if on(t) else seen(),
    "a nudge": lambda t: seen(right=0.012 if on(t) else 0.0),
    "a nudge down": lambda t: seen(down=0.012 if on(t) else 0.0),
    "a push": lambda t: seen(right=0.02 if on(t) else 0.0),
    "a hard push": lambda t: seen(right=0.08, down=-0.03) if on(t) else seen(),
    "a push in the dusk": lambda t: lit(seen(right=0.03), 0.5) if on(t) else seen(),
    "a roll": lambda t: seen(roll_deg=6.0) if on(t) else seen(),
    "a zoom": lambda t: seen(zoom=1.25) if on(t) else seen(),
    "a slow pan": lambda t: seen(right=0.1 * np.clip(t - ON_S, 0.0, 1.0)),
}


@pytest.mark.parametrize("picture", NOTHING.values(), ids=NOTHING.keys())
def test_a_still_camera_is_still(picture):
    assert events(picture) == []


@pytest.mark.parametrize("what", MOVED)
def test_a_moved_camera_is_noticed_once_and_soon(what):
    came = events(MOVED[what])
    assert len(came) == 1
    done = ON_S + (1.0 if "pan" in what else 0.0)
    assert done + CONFIRM_S <= came[0] <= done + CONFIRM_S + 3 * LOOK_S


def walker(t):
    """Somebody in striped clothes who is half the picture wide and walks through it."""
    left = round(np.clip(60 * t - 100, 0, 300))
    return left, min(left + 160, WH[0])


def with_walker(t, image):
    left, right = walker(t)
    out = image.copy()
    out[10:, left:right] = CLOTH[10:, : right - left]
    return out


def test_people_are_no_background():
    def people(t):
        left, right = walker(t)
        return (Detection(np.array([left, 10, right, WH[1]], float), 0.9, 1),)

    assert events(lambda t: with_walker(t, seen()), people=people) == []
    assert events(lambda t: with_walker(t, seen())) == []
    came = events(lambda t: with_walker(t, seen(right=0.03 if on(t) else 0.0)), people=people)
    assert len(came) == 1


def test_boxes_outside_the_picture_and_a_person_before_all_of_it_do_no_harm():
    boxes = np.array([[-900.0, -900, -500, -500], [WH[0] + 50.0, 0, WH[0] + 90, 50], [-50, -50, 900, 900]])
    everywhere = [Detection(box, 0.9, i + 1) for i, box in enumerate(boxes)]
    assert events(MOVED["a cut"], people=lambda t: everywhere[:2]) != []
    assert events(MOVED["a cut"], people=lambda t: everywhere) == []


def test_a_camera_that_comes_back_has_moved_twice():
    came = events(lambda t: seen(OTHER_ROOM) if 3.0 <= t < 10.0 else seen(), 16.0)
    assert len(came) == 2
    assert 3.0 < came[0] < 5.0
    assert 10.0 < came[1] < 12.0


def test_a_carried_camera_is_said_once_and_gives_no_events(caplog):
    with caplog.at_level(logging.WARNING):
        came = events(lambda t: seen(right=0.1 * np.sin(1.3 * t), down=0.08 * np.cos(t)), 20.0)
    assert came == []
    assert [r.getMessage() for r in caplog.records] == [
        "Camera test moves all the time, but a still camera is assumed: set it down, or take world poses as rough."
    ]


def test_a_film_that_is_cut_all_the_time_gives_ever_fewer_events():
    rooms = [seen(room(10 + k)) for k in range(20)]
    came = events(lambda t: rooms[int(t / 3.0)], 60.0, fps=5.0)
    apart = np.diff(came)
    assert apart[0] >= PAUSE_S
    assert (apart[1:] > 1.4 * apart[:-1]).all()
    assert len(came) <= 5


def test_a_film_that_starts_again_is_looked_at_again():
    watch = SceneWatch("test")
    assert events(lambda t: seen(), 4.0, watch=watch) == []
    assert len(events(lambda t: seen(OTHER_ROOM), 4.0, watch=watch)) == 1


def pictures(video, seconds=np.inf):
    with open_source(str(video)) as source:
        for frame in source.frames():
            if frame.t_capture_ns > seconds * 1e9:
                return
            yield frame.t_capture_ns / 1e9, frame.image


def test_demo_clips_are_still_and_a_cut_between_them_is_noticed():
    one, two = (list(pictures(DEMOS / name / "video.mp4", 6.0)) for name in ("demo_one", "demo_two"))
    watch = SceneWatch("one")
    assert not any(watch.moved(t, image) for t, image in one)
    assert any(watch.moved(6.1 + t, cv2.resize(image, (1280, 720))) for t, image in two if t < 1.8)
    watch = SceneWatch("two")
    assert not any(watch.moved(t, image) for t, image in two)


def test_the_stream_calibrates_again():
    first, _ = film(Cell(1.0, 0.0, 4.5), seconds=8.0)
    second, truth = film(Cell(1.0, 20.0, 4.5), seconds=9.0)
    detections = [*first.detections, *second.detections]
    backgrounds = [np.asarray(cv2.resize(r, SIZE_WH), np.uint8) for r in (ROOM, OTHER_ROOM)]
    at = len(first.detections)
    stream = open_stream(lambda frame, clock: detections[frame.index], BodyModel.load())
    results = []
    for i in range(len(detections)):
        t_ns = round(i / first.fps * 1e9)
        results.append(stream.process(Frame("test", i, t_ns, t_ns, t_ns, backgrounds[i >= at])))
    statuses = [r.calibration.status for r in results]
    assert statuses[at - 1] is CalibrationStatus.CALIBRATED
    assert CalibrationStatus.MOVED not in statuses[:at]
    assert CalibrationStatus.MOVED in statuses[at : at + round(2.0 * first.fps)]
    moved = statuses.index(CalibrationStatus.MOVED, at)
    assert CalibrationStatus.CALIBRATED in statuses[moved : at + round(5.0 * first.fps)]
    assert statuses[-1] is CalibrationStatus.CALIBRATED
    up = results[-1].calibration.up_camera
    assert np.degrees(np.arccos(up @ truth.R_world_camera[1])) < 6.0


def test_a_bump_is_measured_on_a_clip():
    clip = read_clip(DEMOS / "demo_two")
    with closing(BlazePose.open()) as blazepose:
        splice = run_bump(clip, 2.0, blazepose, 3.4)
        with pytest.raises(ValueError, match=r"--bump: expected more than 0 and at most 50 percent .* got 70\."):
            run_bump(clip, 70.0, blazepose)
    report = measure(splice)
    assert report["moved_before"] == 0
    assert CONFIRM_S <= report["moved_after_s"] < 1.8
    assert splice.truth.size_wh == (960 - 19, 540)
    assert splice.truth.K[0, 2] == clip.K[0, 2] - 19


def test_a_splice_is_of_two_clips_or_a_bump(capsys):
    with pytest.raises(SystemExit):
        splice_main([str(DEMOS / "demo_two")])
    assert "expected a second clip or --bump PERCENT, and not both" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.is_dir(), reason="the clips of real cameras are not here")
@pytest.mark.parametrize(("first", "second"), [("zju_feng_cam1", "zju_feng_cam13"), ("p2s_beam_cam1", "p2s_beam_cam2")])
def test_real_cameras_are_still_and_a_cut_between_them_is_noticed(first, second):
    a, b = (list(pictures(REAL / name / "video.mp4", 3.0)) for name in (first, second))
    watch = SceneWatch(first)
    assert not any(watch.moved(t, image) for t, image in a)
    shown = b if len(b) > 2.0 * 25 and b[-1][0] > 2.0 else [*b, *((b[-1][0] + t, image) for t, image in b)]
    assert any(watch.moved(a[-1][0] + 0.01 + t, image) for t, image in shown)
