"""What is no usable calibration file is refused in one sentence."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_cache import (
    read_calibration_file,
)
from tests.test_calibration_files import OPENCV_4_YAML, OST_YAML, ROSTOPIC_ECHO, SIZE, write


def spoilt(old: str, new: str) -> str:
    assert old in OST_YAML
    return OST_YAML.replace(old, new)


FISHEYE = "K: [500, 0, 320, 0, 500, 240, 0, 0, 1]\nwidth: 640\nheight: 480\nfisheye_model: 1\n"
SENTENCES = {
    "nothing in it": ("", "has no keys"),
    "prose": ("Dear diary, today I calibrated.", "has no keys"),
    "a list": ("- 1\n- 2\n", "has no keys"),
    "broken YAML": ("K: [1, 2", "not valid OpenCV or ROS YAML"),
    "broken JSON": ('{"K": [1, 2', "not valid OpenCV or ROS JSON"),
    "broken XML": ('<?xml version="1.0"?>\n<opencv_storage><K>', "not valid OpenCV or ROS XML"),
    "a web page": ("<html><body>404</body></html>", "not valid OpenCV or ROS XML"),
    "deep JSON": ('{"K": ' + "[" * 100_000, "not valid OpenCV or ROS JSON"),
    "code in YAML": ("K: !!python/object/apply:os.getcwd []", "not valid OpenCV or ROS YAML"),
    "other keys": ("name: garden\nfps: 30\n", "expected camera_matrix or K, found name, fps"),
    "half a file": (OST_YAML[: OST_YAML.index("data")], "camera matrix"),
    "3x4": ("K: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]\nwidth: 640\nheight: 480\n", "projection matrix"),
    "2x2": ("K: [[1, 0], [0, 1]]\nwidth: 640\nheight: 480\n", "expected 3x3"),
    "words": (spoilt("520.5", "wide"), "camera matrix is not a list or matrix of numbers"),
    "nan": (spoilt("520.5", ".nan"), "not finite"),
    "negative focal": (spoilt("520.5", "-520.5"), "positive focal"),
    "metres for pixels": (spoilt("520.5", "0.0036"), "fx is 0.0036 px, expected 64 to 12800 px"),
    "principal point": (spoilt("318.25", "3182.5"), "principal point"),
    "transposed": (
        spoilt("0., 318.25, 0., 521.75, 242.5, 0., 0., 1.", "0., 0., 0., 521.75, 0., 318.25, 242.5, 1."),
        "K is not of the form",
    ),
    "a huge number": (spoilt("520.5", "1" + "0" * 400), "not a list or matrix of numbers"),
    "size": (spoilt("image_width: 640", "image_width: -640"), "size of its pictures"),
    "half a size": (spoilt("image_width: 640\n", ""), "size of the pictures"),
    "fisheye": (spoilt("plumb_bob", "equidistant"), "lens model is equidistant"),
    "fisheye of OpenCV": (FISHEYE, "lens model is fisheye"),
    "three coefficients": (spoilt("5\n  data: [-0.25, 0.11,", "3\n  data: ["), "3 distortion coefficients"),
    "rational": (spoilt("5\n  data: [-0.25,", "8\n  data: [-0.25, 1, 1, 1,"), "only k1 k2 p1 p2 k3 are understood"),
    "up": (OST_YAML + "up_in_camera: [0, -2, 0]\n", "up_in_camera is not a unit vector"),
    "height": (OST_YAML + "camera_height_m: 1700\n", "camera height is 1700 m"),
    "no rotation": (OST_YAML + "R_world_to_cam: [[1, 0, 0], [0, 2, 0], [0, 0, 1]]\n", "not a rotation"),
    "translation": (
        OST_YAML + "R_world_to_cam: [[1, 0, 0], [0, 1, 0], [0, 0, 1]]\nt_world_to_cam_m: [1, 2]\n",
        "t_world_to_cam_m",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SENTENCES)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, name: str) -> None:
    text, part = SENTENCES[name]
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=part) as raised:
        read_calibration_file(path, "cam", SIZE)
    sentence = str(raised.value)
    assert sentence.startswith(f"The calibration file {path} cannot be used: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 400 + len(str(path))


@settings(max_examples=150, deadline=None)
@given(
    source=st.sampled_from([OST_YAML, ROSTOPIC_ECHO, OPENCV_4_YAML, json.dumps(yaml.safe_load(OST_YAML))]),
    cuts=st.tuples(st.floats(0, 1), st.integers(0, 30)),
    put=st.text(alphabet="0.-[]{}:,!&*%'\"\n aN9", max_size=6),
)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, source: str, cuts: tuple[float, int], put: str
) -> None:
    at = int(cuts[0] * len(source))
    path = write(tmp_path_factory.getbasetemp(), source[:at] + put + source[at + cuts[1] :], "damaged.yaml")
    with contextlib.suppress(ValueError):
        assert read_calibration_file(path, "cam", SIZE).size_wh == SIZE


def test_no_file_no_text_no_permission_to_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no calibration file"):
        read_calibration_file(tmp_path / "none.yaml", "cam")
    (tmp_path / "video.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42\xff\xfe" * 100)
    with pytest.raises(ValueError, match="not a text file"):
        read_calibration_file(tmp_path / "video.mp4", "cam")
    with pytest.raises(ValueError, match="cannot be read"):
        read_calibration_file(tmp_path, "cam")


def test_another_shape_is_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, OST_YAML)
    with pytest.raises(ValueError, match="for 640x480 pictures and cannot be rescaled to 1280x720"):
        read_calibration_file(path, "cam", (1280, 720))


def test_an_unsafe_camera_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="A camera id is made of"):
        read_calibration_file(write(tmp_path, OST_YAML), "rtsp://user:secret@host")
