"""What straight lines say of a camera: exact for built things, nothing for clutter, and what they leave open."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.truth import read_clip
from pipeline.calibration import Calibrator
from pipeline.calibration_lines import CHECK_S, LOOKS_S, LineWitness
from pipeline.calibration_unknown import pinhole, uncalibrated
from pipeline.frames import exp_so3, up_from_pitch_roll
from pipeline.straight_lines import FEWEST, Guess, Segments, find_segments, read_lines
from pipeline.types import CalibrationStatus, Detection, Frame

DEMOS = Path(__file__).parents[1] / "benchmarks" / "clips"
SIZE_WH = (1280, 720)
GUESS = Guess(np.log(0.85), 0.35, (np.radians(10.0), 0.0), (np.radians(20.0), np.radians(15.0)))


def built(pitch_deg, roll_deg, focal, heading_deg=30.0, n=120, noise=0.0005, rng=None):
    """Segments of a built-up scene before a camera of `focal` long sides, and the vertical in that camera."""
    rng = np.random.default_rng(3) if rng is None else rng
    up = up_from_pitch_roll(np.radians(pitch_deg), np.radians(roll_deg))
    ahead = np.array([0.0, 0.0, 1.0]) - up[2] * up
    ahead /= np.linalg.norm(ahead)
    frame = np.stack([up, *(exp_so3(np.radians(heading_deg) * up) @ np.stack([ahead, np.cross(up, ahead)]).T).T])
    starts, ends = [], []
    while len(starts) < n:
        middle = np.array([*rng.uniform([-0.5, -0.28], [0.5, 0.28]) / focal, 1.0]) * rng.uniform(2.0, 6.0)
        half = rng.uniform(0.1, 0.6) * frame[rng.integers(3)]
        a, b = middle - half, middle + half
        if min(a[2], b[2]) < 0.5:
            continue
        a, b = (focal * p[:2] / p[2] + rng.normal(0.0, noise, 2) for p in (a, b))
        if np.linalg.norm(a - b) > 0.03 and max(np.abs([a, b]).max(0)) < 0.5:
            starts.append(a)
            ends.append(b)
    return Segments.between(np.array(starts), np.array(ends)), up


def clutter(n=200, rng=None):
    rng = np.random.default_rng(5) if rng is None else rng
    starts, turn = rng.uniform(-0.4, 0.4, (n, 2)), rng.uniform(0.0, np.pi, n)
    return Segments.between(
        starts, starts + rng.uniform(0.03, 0.1, (n, 1)) * np.column_stack([np.cos(turn), np.sin(turn)])
    )


def degrees(a, b):
    return np.degrees(np.arccos(np.clip(a @ b, -1.0, 1.0)))


@pytest.mark.parametrize(("pitch", "roll", "focal"), [(15, 4, 0.8), (30, -12, 0.55), (20, 0, 1.5), (-10, 3, 0.9)])
def test_built_things_give_the_camera(pitch, roll, focal):
    segments, up = built(pitch, roll, focal)
    best = read_lines(segments, GUESS)[0]
    assert degrees(best.up, up) < 0.5
    assert best.log_focal == pytest.approx(np.log(focal), abs=0.05)


def test_built_things_among_clutter_too():
    segments, up = built(18, -6, 0.9)
    best = read_lines(Segments.joined([segments, clutter(30)]), GUESS)[0]
    assert degrees(best.up, up) < 1.0
    assert best.log_focal == pytest.approx(np.log(0.9), abs=0.08)


@pytest.mark.parametrize("seed", range(5))
def test_clutter_says_nothing(seed):
    assert read_lines(clutter(rng=np.random.default_rng(seed)), GUESS) == ()
    assert read_lines(clutter(FEWEST - 1), GUESS) == ()


def test_a_view_along_a_wall_leaves_the_focal_length_open():
    oblique, along = (read_lines(built(2, 1, 0.9, heading)[0], GUESS)[0] for heading in (35.0, 0.0))
    spreads = [np.sqrt(np.linalg.inv(r.information + 1e-6 * np.eye(3))[0, 0]) for r in (oblique, along)]
    assert spreads[0] < 0.1
    assert spreads[1] > 0.3


def test_no_number_of_segments_makes_it_surer_than_what_is_built_is_square():
    few, many = (read_lines(built(20, 3, 0.9, n=n)[0], GUESS)[0] for n in (60, 280))
    sigma = [np.degrees(np.sqrt(np.diag(np.linalg.inv(r.information))[1:])).max() for r in (few, many)]
    assert 0.7 < sigma[1] <= sigma[0] < 2.0


def test_a_known_focal_length_is_kept():
    segments, up = built(20, 3, 1.1)
    best = read_lines(segments, dataclasses.replace(GUESS, log_focal=np.log(1.1), log_focal_sigma=0.0))[0]
    assert best.log_focal == pytest.approx(np.log(1.1), abs=1e-3)
    assert degrees(best.up, up) < 0.5


@pytest.mark.parametrize("name", ["demo_one", "demo_two"])
def test_the_first_picture_of_a_room_gives_the_camera(name):
    clip = read_clip(DEMOS / name)
    image = first_picture(clip)
    segments = find_segments(image, (), pinhole(0.85 * max(clip.size_wh), clip.size_wh), np.zeros(5))
    best = read_lines(segments, GUESS)[0]
    assert degrees(best.up, clip.R_world_camera[1]) < 1.0
    assert best.log_focal == pytest.approx(np.log(clip.K[0, 0] / max(clip.size_wh)), abs=0.12)


def first_picture(clip):
    return cv2.VideoCapture(str(clip.video)).read()[1][..., ::-1]


def test_segments_on_people_are_left_out():
    clip = read_clip(DEMOS / "demo_one")
    image, K = first_picture(clip), pinhole(1000.0, clip.size_wh)
    everybody = Detection(np.array([0.0, 0.0, *clip.size_wh]), 1.0, 1, None)
    assert len(find_segments(image, (), K, np.zeros(5))) > 100
    assert len(find_segments(image, (everybody,), K, np.zeros(5))) == 0


def test_bars_beside_a_picture_are_not_of_the_scene():
    clip = read_clip(DEMOS / "demo_one")
    K = pinhole(1000.0, clip.size_wh)
    barred = np.zeros((clip.size_wh[1], clip.size_wh[0], 3), np.uint8)
    barred[:, 300:900] = 128
    assert len(find_segments(barred, (), K, np.zeros(5))) == 0


def test_a_bent_picture_is_straightened():
    """Segments of a lens that bends lines, told of it, lie where an ideal lens has them."""
    clip = read_clip(DEMOS / "demo_one")
    image = first_picture(clip)
    distortion = np.array([-0.2, 0.03, 0.0, 0.0, 0.0])
    x, y = np.meshgrid(np.arange(clip.size_wh[0], dtype=np.float32), np.arange(clip.size_wh[1], dtype=np.float32))
    ideal = cv2.undistortPoints(np.stack([x, y], axis=-1).reshape(-1, 1, 2), clip.K, distortion, P=clip.K)
    bent = cv2.remap(image, ideal.reshape(*x.shape, 2), None, cv2.INTER_LINEAR)
    guess = dataclasses.replace(GUESS, log_focal=np.log(clip.K[0, 0] / max(clip.size_wh)), log_focal_sigma=0.0)
    best = read_lines(find_segments(bent, (), clip.K, distortion), guess)[0]
    assert degrees(best.up, clip.R_world_camera[1]) < 1.0


def witness(segments):
    """A witness that has seen these segments of a picture."""
    start = uncalibrated("c", SIZE_WH)
    out = LineWitness(start.K, start, supplied=False)
    out.readings = read_lines(segments, GUESS)
    return out, float(np.log(start.K[0, 0] / max(SIZE_WH)))


def test_what_people_say_is_sharpened():
    segments, up = built(18, 5, 1.0)
    lines, over_side = witness(segments)
    people_up = exp_so3(np.radians([4.0, 0.0, -3.0])) @ up
    log_focal, spread, fused, up_spread = lines.fused(-0.2 - over_side, 0.25, people_up, np.radians(5.0))
    assert degrees(fused, up) < 1.0
    assert log_focal + over_side == pytest.approx(0.0, abs=0.06)
    assert spread < 0.12
    assert up_spread < np.radians(2.0)


def test_lines_that_people_gainsay_are_not_believed():
    segments, up = built(18, 5, 1.0)
    lines, _ = witness(segments)
    people_up = exp_so3(np.radians([0.0, 0.0, 40.0])) @ up
    said = -0.1, 0.25, people_up, np.radians(4.0)
    log_focal, spread, fused, up_spread = lines.fused(*said)
    assert degrees(fused, people_up) < 1.0
    assert log_focal == pytest.approx(-0.1, abs=0.02)
    assert spread == pytest.approx(0.25, rel=0.1)
    assert up_spread == pytest.approx(np.radians(4.0), rel=0.2)


def test_without_lines_people_have_the_word():
    lines, _ = witness(clutter())
    said = -0.1, 0.25, np.array([0.0, -1.0, 0.0]), 0.07
    assert lines.fused(*said) == said


def picture(t_s, image):
    return Frame("c", 0, round(t_s * 1e9), 0, 0, image)


class Counts(LineWitness):
    """Keeps when it looked."""

    def look(self, t_s, image, people):
        before = self._looks
        super().look(t_s, image, people)
        if self._looks != before:
            self.looked = [*getattr(self, "looked", []), t_s]


def watched(images, per_s=10):
    """A calibrator that was shown `images`, and its witness."""
    calibrator = Calibrator("c", (images[0].shape[1], images[0].shape[0]), lines=True)
    calibrator._lines.__class__ = Counts
    for i, image in enumerate(images):
        calibrator.see(picture(i / per_s, image))
        calibrator.update(i / per_s, ())
    return calibrator, calibrator._lines


def test_the_picture_is_looked_at_a_few_times_and_again_when_the_camera_moved():
    image = np.ascontiguousarray(first_picture(read_clip(DEMOS / "demo_one")))
    calibrator, lines = watched([image] * 60)
    assert lines.looked == pytest.approx(LOOKS_S, abs=0.11)
    assert lines.readings
    calibrator.camera_moved(6.0)
    assert lines.readings == ()
    calibrator.see(picture(6.1, image))
    calibrator.update(6.1, ())
    assert lines.looked[-1] == pytest.approx(6.1)
    assert calibrator.current.status is CalibrationStatus.MOVED


def test_the_lines_of_a_carried_camera_are_those_it_shows_now():
    one, two = (np.ascontiguousarray(first_picture(read_clip(DEMOS / name))) for name in ("demo_one", "demo_two"))
    two = cv2.resize(two, one.shape[1::-1])
    truth = read_clip(DEMOS / "demo_two").R_world_camera[1]
    _, lines = watched([one] * 60 + [two] * 100)
    assert lines.looked[-1] == pytest.approx(LOOKS_S[-1] + CHECK_S, abs=0.11)
    assert degrees(lines.readings[0].up, truth) < 1.0
    _, still = watched([one] * 160)
    assert degrees(still.readings[0].up, read_clip(DEMOS / "demo_one").R_world_camera[1]) < 1.0


def test_a_calibrator_that_is_shown_nothing_goes_on_as_before():
    calibrator = Calibrator("c", SIZE_WH, lines=True)
    assert calibrator.update(0.0, ()) == calibrator.current
