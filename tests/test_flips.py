"""Sides that a landmark network exchanges for some frames, and motion that only looks like it."""

import dataclasses

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.flips import Sides, exchanged
from pipeline.landmark_model import LandmarkModel
from pipeline.recovery import LandmarkRecovery
from pipeline.types import JOINT, LANDMARK
from tests.support.synthetic import camera, see, stand, walking

BODY = BodyModel.load()
CAMERA = camera()
FPS = 30.0
WHOLE, ARMS, LEGS = [0, 1, 2], [1], [2]


def performance(n=60, yaw=lambda t: 0.9, stride_hz=1.0):
    """A walker, exactly seen; landmarks of n frames, and the detections they came in."""
    detections = []
    for i in range(n):
        posed = stand(BODY, walking(2 * np.pi * stride_hz * i / FPS), yaw(i / FPS), (0.0, -3.5))
        detections.append(see(posed, CAMERA))
    return detections


def followed(detections, wrong):
    """What is kept of landmarks whose `wrong` frames have parts exchanged: the share of frames that equal the truth."""
    sides, right = Sides(), []
    for i, detection in enumerate(detections):
        true = detection.landmarks
        seen = exchanged(true, wrong[i]) if i in wrong else true
        kept = sides.kept(seen, i / FPS)
        right.append(np.allclose(kept.points_px, true.points_px) and np.allclose(kept.points_m, true.points_m))
    return np.array(right)


@pytest.mark.parametrize("parts", [WHOLE, LEGS, ARMS], ids=["whole", "legs", "arms"])
@pytest.mark.parametrize("frames", [[20], [20, 21, 22, 23], [20, 22, 25, 26]], ids=["one", "some", "here and there"])
def test_short_exchanges_are_undone(parts, frames):
    # Legs stand apart in the picture at a quarter of the stride, seen from the side
    phase, yaw = (1.6, 1.2) if parts == LEGS else (0.0, 0.4)
    detections = [see(stand(BODY, walking(phase), yaw, (0.0, -3.5)), CAMERA)] * 40
    assert followed(detections, dict.fromkeys(frames, parts)).all()


def test_an_exchange_that_lasts_is_believed_within_half_a_second():
    right = followed(performance(yaw=lambda t: 0.4, stride_hz=0.0), dict.fromkeys(range(30, 60), WHOLE))
    assert right[:38].all()
    assert not right[45:].any()


def test_half_a_second_in_which_most_pictures_are_exchanged_is_undone():
    """As of somebody who falls (p2s_beam_cam2): the network wavers, after 0.7 s in which it was sure."""
    wrong = {*range(21, 36)} - {22, 25, 27, 33}
    assert followed(performance(yaw=lambda t: 0.4, stride_hz=0.0), dict.fromkeys(wrong, WHOLE)).all()


def test_sides_that_were_wrong_at_first_are_soon_right():
    right = followed(performance(yaw=lambda t: 0.4, stride_hz=0.0), dict.fromkeys(range(3), WHOLE))
    assert right[8:].all()


@pytest.mark.parametrize("turns_a_second", [0.5, 1.0, 2.0])
def test_a_spin_is_no_exchange(turns_a_second):
    assert followed(performance(yaw=lambda t: 2 * np.pi * turns_a_second * t, stride_hz=2.5), {}).all()


def test_nothing_is_known_across_a_gap():
    first, sides = performance(1)[0].landmarks, Sides()
    other = exchanged(first, WHOLE)
    sides.kept(first, 0.0)
    assert sides.kept(other, 5.0) is other
    assert sides.kept(other, 5.0) is other


def test_hidden_limbs_say_nothing():
    detections = performance(40)
    visibility = np.ones(33)
    visibility[25:] = 0.1
    seen = [dataclasses.replace(d.landmarks, visibility=visibility) for d in detections]
    sides = Sides()
    for i, landmarks in enumerate(seen):
        given = exchanged(landmarks, LEGS) if i % 2 else landmarks
        assert sides.kept(given, i / FPS) is given


def test_exchanging_twice_changes_nothing_and_the_face_goes_to_the_other_side_of_the_ears():
    true = performance(1)[0].landmarks
    once = exchanged(true, WHOLE)
    ears = [LANDMARK["left_ear"], LANDMARK["right_ear"]]
    nose = LANDMARK["nose"]
    before, after = (x.points_m[nose, 2] - x.points_m[ears, 2].mean() for x in (true, once))
    assert before < -0.03
    assert after == pytest.approx(-before)
    np.testing.assert_array_equal(once.points_px[LANDMARK["left_knee"]], true.points_px[LANDMARK["right_knee"]])
    np.testing.assert_allclose(exchanged(once, WHOLE).points_m, true.points_m, atol=1e-12)


def test_the_recovery_undoes_them_where_it_knows_the_time():
    detections = performance(40, yaw=lambda t: 0.3, stride_hz=0.0)
    wrong = dataclasses.replace(detections[0], landmarks=exchanged(detections[0].landmarks, WHOLE))
    timed, untimed = (LandmarkRecovery(BODY, errors=LandmarkModel.exact()) for _ in range(2))
    for i, detection in enumerate(detections):
        seen = wrong if i >= 38 else detection
        (with_time,) = timed((seen,), CAMERA, i / FPS)
        (without,) = untimed((seen,), CAMERA)
    hips = JOINT["left_hip"], JOINT["right_hip"]
    assert with_time.joints_camera_m[hips[0], 0] > with_time.joints_camera_m[hips[1], 0] + 0.05
    assert without.joints_camera_m[hips[0], 0] < without.joints_camera_m[hips[1], 0] - 0.05
