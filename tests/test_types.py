"""Records: checked where they enter, read-only after."""

import numpy as np
import pytest

from pipeline.types import Detection, Frame, Landmarks
from tests.support.synthetic import camera


def test_a_wrong_shape_or_a_nan_is_one_sentence_that_names_it():
    with pytest.raises(ValueError, match=r"Detection.box_xyxy: expected shape \(4,\), got \(3,\)"):
        Detection([0, 0, 1], 1.0, 1)
    points = np.zeros((33, 3))
    points[4] = np.nan
    with pytest.raises(ValueError, match=r"Landmarks\.points_m: expected finite numbers, got 3 that are not"):
        Landmarks(np.zeros((33, 2)), np.zeros(33), np.zeros(33), points, 1.0)
    with pytest.raises(ValueError, match=r"Frame.image: expected \(H, W, 3\) uint8 RGB, got \(4, 4\) uint8"):
        Frame("c", 0, 0, 0, 0, np.zeros((4, 4), np.uint8))


def test_arrays_are_read_only_and_copied():
    box = np.array([0.0, 0.0, 1.0, 1.0])
    detection = Detection(box, 1.0, 1)
    box[0] = 7.0
    assert detection.box_xyxy[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        detection.box_xyxy[0] = 1.0


def test_numpy_scalars_become_plain_numbers():
    detection = Detection([0, 0, 1, 1], np.float32(0.5), np.int64(3))
    assert type(detection.score) is float
    assert type(detection.track_id) is int


def test_an_id_changes_with_the_estimate_and_only_with_it():
    assert camera().id == camera().id
    assert camera().id != camera(focal_px=1001.0).id
    assert camera().id != camera(height_m=None).id


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"K": np.diag([-1.0, 1, 1])}, "positive focal"), ({"R_world_camera": np.diag([1.0, 1, -1])}, "a rotation"),
     ({"size_wh": (0, 3)}, "positive width")],
)  # fmt: skip
def test_an_impossible_camera_is_refused(changes, sentence):
    import dataclasses

    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(camera(), **changes)
