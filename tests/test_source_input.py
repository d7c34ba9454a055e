"""What a user may type: names that show no password, and one sentence for each bad input."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.source import SourceError, open_source, redact, sanitize_camera_id
from tests.support.programs import run_python
from tests.support.videos import (
    damage,
    write_video,
)

SECRET = "s3cret"

# names


@pytest.mark.parametrize(
    ("spec", "camera_id"),
    [
        ("0", "webcam-0"),
        ("/dev/video0", "webcam-0"),
        ("/dev/v4l/by-id/usb-046d_C920-index0", "dev-v4l-by-id-usb-046d-c920-index0"),
        ("rtsp://host/cam1", "rtsp-host-554-cam1"),
        (f"rtsp://user:{SECRET}@host:554/cam1", "rtsp-host-554-cam1"),
        (f"rtsp://user:{SECRET}@host:8554/Cam 1/", "rtsp-host-8554-cam-1"),
        (f"rtsp://u:{SECRET}/@{SECRET}@host/cam", "rtsp-host-554-cam"),
        (f"rtsp://10.0.0.9/user=admin_password={SECRET}_channel=1.sdp", "rtsp-10-0-0-9-554-channel-1-sdp"),
        (f"http://h/video.cgi?user=a&pwd={SECRET}&channel=2", "http-h-80-video-cgi-channel-2"),
        ("demo", "demo-one"),
        ("demo:two", "demo-two"),
    ],
)
def test_camera_id(spec: str, camera_id: str) -> None:
    assert sanitize_camera_id(spec) == camera_id


_WORD = st.text("abcXYZ019-._", min_size=1, max_size=12)


@given(
    user=_WORD,
    password=st.text("QqJj%!$&()*+,;=:@/?#", min_size=1, max_size=12).map(lambda text: f"7{text}7"),
    host=st.text("abcdef", min_size=1, max_size=10),
    path=st.text("abc012/", max_size=20),
)
def test_a_password_is_in_no_name_and_no_log_line(user: str, password: str, host: str, path: str) -> None:
    spec = f"rtsp://{user}:{password}@{host}/{path}"
    camera_id = sanitize_camera_id(spec)
    assert camera_id == sanitize_camera_id(f"rtsp://{host}/{path}")
    assert set(camera_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert password not in redact(spec)
    assert redact(spec).startswith("rtsp://***@")


def test_two_files_of_one_name_are_two_cameras(tmp_path: Path) -> None:
    names = {sanitize_camera_id(str(tmp_path / folder / "x" / "video.mp4")) for folder in "ab"}
    assert len(names) == 2
    assert all(name.startswith("x-video-") for name in names)
    long = sanitize_camera_id(str(tmp_path / ("ü" * 50 + "long" * 40) / "video.mp4"))
    assert len(long) <= 60


def test_a_password_in_the_query_is_redacted() -> None:
    assert redact(f"http://h/v?user=a&pwd={SECRET}&channel=2") == "http://h/v?user=***&pwd=***&channel=2"
    assert redact("clip@home.mp4") == "clip@home.mp4"


# bad input


def _bad_input(case: str, folder: Path) -> str:
    """The source of one bad case, made in `folder`."""
    path = folder / "clip.mp4"
    if case == "0 bytes":
        path.touch()
    elif case == "text":
        path.write_text("this is no video\n" * 50)
    elif case == "text that FFmpeg would play as a terminal":
        path = folder / "screen.txt"
        path.write_text("this is no video\n" * 50)
    elif case == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif case == "cut off":
        path.write_bytes(write_video(path, 10).read_bytes()[:2000])
    elif case == "missing image":
        path = folder / "none.png"
    elif case == "empty folder":
        path = folder
    elif case == "folder without images":
        (folder / "a.txt").write_text("x")
        path = folder
    elif case == "folder of broken images":
        (folder / "a.png").write_bytes(b"x")
        path = folder
    elif case == "too long a name":
        path = folder / ("x" * 400)
    return str(path)


BAD_INPUTS = {
    "0 bytes": r"is empty \(0 bytes\)",
    "text": "is a text file",
    "text that FFmpeg would play as a terminal": "is a text file",
    "noise": "is no video that can be decoded",
    "cut off": "or it is cut off",
    "missing": r"There is no .*clip\.mp4: check the path",
    "missing image": r"There is no .*none\.png",
    "empty folder": "has no image in it",
    "folder without images": "has no image in it",
    "folder of broken images": "none of its 1 images can be read",
    "too long a name": "There is no .*xxx: check the path",
}


def check_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence) as error:
        open_source(spec)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    assert SECRET not in str(error.value)
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("capture-", "decode-"))]


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_a_bad_file_is_one_sentence(tmp_path: Path, case: str) -> None:
    check_sentence(_bad_input(case, tmp_path), BAD_INPUTS[case])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("", "The source is empty"),
        (f"ftp://u:{SECRET}@host/x.mp4", "expected an address that starts with rtsp://"),
        ("demo:three", "type demo:one or demo:two"),
        ("/dev/video97", "no camera /dev/video97|Camera /dev/video97 cannot be opened"),
        ("97", "no camera /dev/video97|Camera 97 cannot be opened"),
    ],
)
def test_a_bad_name_is_one_sentence(spec: str, sentence: str) -> None:
    check_sentence(spec, sentence)


@pytest.mark.skipif(sys.platform == "win32", reason="file permissions are those of POSIX")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read every file")
def test_a_forbidden_file_is_one_sentence(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", 3)
    video.chmod(0)
    check_sentence(str(video), "may not be read by you: type chmod")


_OPENS = """
import sys
from pipeline.source import SourceError, open_source
for spec in sys.argv[1:]:
    try:
        with open_source(spec) as source:
            print(sum(1 for _ in source.frames()))
    except SourceError as error:
        print(error)
"""


def test_the_libraries_own_noise_stays_off_the_terminal(tmp_path: Path) -> None:
    specs = ["/dev/video97", str(damage(write_video(tmp_path / "damaged.mp4", 60), 0.3, 0.5))]
    for case in ("noise", "cut off", "folder of broken images"):
        (tmp_path / case).mkdir()
        specs.append(_bad_input(case, tmp_path / case))
    done = run_python(_OPENS, *specs)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(specs)
    # only our own line about the damaged frame, which a program without logging set up prints as well
    assert [line for line in done.stderr.splitlines() if "is damaged and left out" not in line] == []
