"""Files, folders, paced playback, names, bad input, and a webcam through OpenCV's own V4L2 back end."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.capture import to_rgb
from pipeline.handover import LatestSlot, LosslessQueue
from pipeline.source import SourceError, SourceState, open_source, redact, sanitize_camera_id
from pipeline.types import Frame
from tests.support.videos import (
    damage,
    number_in,
    numbered_picture,
    retime,
    rotate_in_metadata,
    write_grey_video,
    write_video,
)
from tests.support.webcam import build_webcam, webcam_environment, why_no_webcam, write_yuyv

SECRET = "s3cret"
ROOT = Path(__file__).parents[1]


def read_all(spec: Path | str, **options: object) -> list[Frame]:
    with open_source(str(spec), **options) as source:  # type: ignore[arg-type]
        frames = list(source.frames())
        assert source.state is SourceState.ENDED
        assert source.read(0.0) is None
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("capture-", "decode-"))]
    return frames


def write_png(path: Path, picture: np.ndarray) -> Path:
    cv2.imencode(".png", picture)[1].tofile(path)
    return path


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


# recorded sources


def test_a_file_gives_every_frame_in_order_at_its_own_time(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", 40, fps=25.0)
    frames = read_all(video)
    assert [number_in(f.image) for f in frames] == [f.index for f in frames] == list(range(40))
    assert [f.t_capture_ns for f in frames] == [i * 40_000_000 for i in range(40)]
    assert all(f.t_wall_ns == f.t_capture_ns for f in frames)
    assert all(b.t_grab_ns > a.t_grab_ns for a, b in itertools.pairwise(frames))
    red, blue = frames[0].image[200, 50], frames[0].image[200, 270]
    assert red[0] > 150 > red[2]
    assert blue[2] > 150 > blue[0]


def test_a_file_is_the_same_every_time(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", 20)
    first, second = read_all(video), read_all(video)
    assert [(f.camera_id, f.index, f.t_capture_ns) for f in first] == [
        (f.camera_id, f.index, f.t_capture_ns) for f in second
    ]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


def test_a_slow_reader_of_a_file_loses_nothing(tmp_path: Path) -> None:
    with open_source(str(write_video(tmp_path / "clip.mp4", 15))) as source:
        assert not source.live
        assert source.size_wh == (320, 240)
        assert source.fps == 30.0
        numbers = []
        for frame in source.frames():
            numbers.append(number_in(frame.image))
            time.sleep(0.01)
        assert source.dropped == 0
    assert numbers == list(range(15))


def test_variable_frame_rate(tmp_path: Path) -> None:
    durations = [512, 512, 2048, 256, 1024, 512, 4096, 512]
    video = retime(write_video(tmp_path / "clip.mp4", 8, fps=30.0), durations)
    frames = read_all(video)
    starts = np.concatenate([[0], np.cumsum(durations[:-1])]) / 15360
    assert [number_in(f.image) for f in frames] == list(range(8))
    np.testing.assert_allclose([f.t_capture_ns / 1e9 for f in frames], starts, atol=1e-3)


@pytest.mark.parametrize(("degrees", "red_at"), [(90, "top"), (180, "right"), (270, "bottom")])
def test_rotation_in_the_metadata_is_honoured(tmp_path: Path, degrees: int, red_at: str) -> None:
    # without rotation the left half is red
    video = rotate_in_metadata(write_video(tmp_path / "phone.mp4", 3), degrees)
    with open_source(str(video)) as source:
        size_wh = source.size_wh
        frame = source.read(5.0)
    assert frame is not None
    assert frame.size_wh == size_wh == ((240, 320) if degrees != 180 else (320, 240))
    h, w = frame.image.shape[:2]
    edge = {"top": (h // 6, w // 2), "right": (h // 2, w * 5 // 6), "bottom": (h * 5 // 6, w // 2)}[red_at]
    assert frame.image[edge][0] > 150 > frame.image[edge][2]


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_videos_become_rgb(tmp_path: Path, bits: int) -> None:
    frames = read_all(write_grey_video(tmp_path / "grey.mkv", [0, 60, 120, 250], bits=bits))
    for frame, level in zip(frames, [0, 60, 120, 250], strict=True):
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (120, 160, 3)
        assert np.abs(frame.image.astype(int) - level).max() <= 2


@pytest.mark.parametrize(("size_wh", "codec", "suffix"), [((64, 64), "mp4v", ".mp4"), ((7680, 4320), "MJPG", ".avi")])
def test_very_small_and_very_large(tmp_path: Path, size_wh: tuple[int, int], codec: str, suffix: str) -> None:
    frames = read_all(write_video(tmp_path / f"clip{suffix}", 2, size_wh=size_wh, codec=codec))
    assert [f.size_wh for f in frames] == [size_wh] * 2
    assert [number_in(f.image) for f in frames] == [0, 1]


def test_damage_in_the_middle_is_counted_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = damage(write_video(tmp_path / "clip.mp4", 60), 0.3, 0.5)
    with open_source(str(video)) as source:
        frames = list(source.frames())
        dropped = source.dropped
    assert 0 < dropped < 40
    assert len(frames) + dropped == 60
    assert frames[-1].index == 59
    assert number_in(frames[-1].image) == 59
    assert abs(frames[-1].t_capture_ns / 1e9 - 59 / 30) < 1e-3
    assert all(b.t_capture_ns > a.t_capture_ns for a, b in itertools.pairwise(frames))
    assert len([r for r in caplog.records if "damaged" in r.message]) == 1


def test_a_cut_off_file_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = write_video(tmp_path / "clip.avi", 40, codec="MJPG")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert 10 < len(read_all(video)) < 30
    assert "of 40 frames: the rest is damaged or missing" in caplog.text


def test_loop_goes_on_with_rising_times(tmp_path: Path) -> None:
    with open_source(str(write_video(tmp_path / "clip.mp4", 5)), loop=True) as source:
        frames = list(itertools.islice(source.frames(), 13))
    assert [number_in(f.image) for f in frames] == [i % 5 for i in range(13)]
    assert [f.index for f in frames] == list(range(13))
    np.testing.assert_allclose(np.diff([f.t_capture_ns for f in frames]), 1e9 / 30, atol=2e6)


def test_realtime_paces_and_stamps_like_a_camera(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", 20, fps=50.0)
    start, wall = time.monotonic_ns(), time.time_ns()
    with open_source(str(video), realtime=True) as source:
        assert source.live
        frames = list(source.frames())
        assert len(frames) + source.dropped == 20
    assert frames[-1].t_capture_ns - frames[0].t_capture_ns >= 0.9 * (frames[-1].index - frames[0].index) * 20e6
    assert all(start < f.t_capture_ns == f.t_grab_ns and f.t_wall_ns >= wall for f in frames)
    assert [number_in(f.image) for f in frames] == [f.index for f in frames]


def test_a_late_reader_of_a_paced_file_skips_frames(tmp_path: Path) -> None:
    with open_source(str(write_video(tmp_path / "clip.mp4", 60, fps=100.0)), realtime=True) as source:
        indices = []
        for frame in source.frames():
            indices.append(frame.index)
            time.sleep(0.1)
        assert source.dropped == 60 - len(indices) > 20
    assert all(b > a for a, b in itertools.pairwise(indices))
    assert indices[-1] == 59


def test_closing_early_leaves_no_thread(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", 60)
    for realtime in (False, True):
        with open_source(str(video), realtime=realtime) as source:
            assert source.read(5.0) is not None
        assert source.state is SourceState.ENDED
        assert source.read() is None
    assert not [t.name for t in threading.enumerate() if t.name.startswith("decode-")]


# folders of images


def test_a_folder_is_sorted_as_a_person_would(tmp_path: Path) -> None:
    for number in (1, 2, 10, 11, 100):
        write_png(tmp_path / f"img{number}.png", numbered_picture(number)[..., ::-1])
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._img1.png").write_bytes(b"x")
    frames = read_all(tmp_path, fps=10.0)
    assert [number_in(f.image) for f in frames] == [1, 2, 10, 11, 100]
    assert [f.t_capture_ns for f in frames] == [0, 100_000_000, 200_000_000, 300_000_000, 400_000_000]
    assert frames[0].image[200, 50, 0] == 200


def test_images_of_any_kind_become_rgb(tmp_path: Path) -> None:
    grey = np.full((48, 64), 100, np.uint8)
    write_png(tmp_path / "1.png", grey)
    write_png(tmp_path / "2.png", grey.astype(np.uint16) * 257)
    write_png(tmp_path / "3.png", np.dstack([grey, grey, grey, grey // 2]))
    (tmp_path / "4.png").write_bytes(b"no image")
    write_png(tmp_path / "5 ü.png", np.dstack([grey, grey, grey]))
    with open_source(str(tmp_path)) as source:
        frames = list(source.frames())
        assert source.dropped == 1
    assert [f.index for f in frames] == [0, 1, 2, 4]
    assert all(f.image.shape == (48, 64, 3) and (f.image == 100).all() for f in frames)
    assert read_all(tmp_path / "1.png")[0].size_wh == (64, 48)


def test_a_folder_of_mixed_sizes_stops_with_a_sentence(tmp_path: Path) -> None:
    write_png(tmp_path / "1.png", np.zeros((48, 64, 3), np.uint8))
    write_png(tmp_path / "2.png", np.zeros((64, 48, 3), np.uint8))
    with open_source(str(tmp_path)) as source:
        assert source.read(5.0) is not None
        with pytest.raises(SourceError, match=r"2\.png is 48x64, the images before it are 64x48"):
            source.read(5.0)
        assert source.state is SourceState.ENDED


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_to_rgb(dtype: type, channels: int | None) -> None:
    shape = (4, 6) if channels is None else (4, 6, channels)
    image: np.ndarray = np.zeros(shape, dtype)
    image[..., -1 if channels in (None, 1) else 2] = 200 * (257 if dtype is np.uint16 else 1)
    rgb = to_rgb(image)
    assert rgb.shape == (4, 6, 3)
    assert rgb.dtype == np.uint8
    assert rgb.max() == 200
    if channels in (3, 4):
        assert (rgb[..., 0] == 200).all()
        assert (rgb[..., 2] == 0).all()


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


def run_python(
    code: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


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


# handing over


def test_the_latest_slot_keeps_the_newest() -> None:
    slot: LatestSlot[int] = LatestSlot()
    assert slot.take(0.0) is None
    assert all(slot.put(i) for i in range(5))
    assert slot.dropped == 4
    assert slot.take(0.0) == 4
    slot.put(5)
    slot.close(ValueError("lost"))
    assert not slot.put(6)
    assert not slot.ended
    assert slot.take(0.0) == 5
    with pytest.raises(ValueError, match="lost"):
        slot.take(0.0)
    assert slot.ended
    assert slot.take(0.0) is None


def test_the_lossless_queue_waits_for_room_and_closing_wakes_it() -> None:
    queue: LosslessQueue[int] = LosslessQueue(2)
    kept: list[bool] = []
    thread = threading.Thread(target=lambda: kept.extend(queue.put(i) for i in range(5)))
    thread.start()
    assert [queue.take(5.0), queue.take(5.0)] == [0, 1]
    deadline = time.monotonic() + 5.0
    while len(kept) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    queue.close(discard=True)
    thread.join(5.0)
    assert kept == [True, True, True, True, False]
    assert queue.ended


# a webcam

_NO_WEBCAM = why_no_webcam()
needs_webcam = pytest.mark.skipif(bool(_NO_WEBCAM), reason=_NO_WEBCAM)

_WATCHES = """
import json, logging, sys, threading, time
from pathlib import Path
import numpy as np
from pipeline.source import SourceState, open_source
from tests.support.videos import number_in

spec, size, fps, switch, word = sys.argv[1:]
logging.basicConfig(format="%(message)s")
size_wh = tuple(map(int, size.split("x"))) if size else None

def until(source, state):
    deadline = time.monotonic() + 20
    while source.state is not state and time.monotonic() < deadline:
        source.read(0.05)
    return source.state is state

with open_source(spec, size_wh=size_wh, fps=float(fps) if fps else None) as source:
    frames = [source.read(5.0) for _ in range(10)]
    seen = {
        "id": source.camera_id,
        "live": source.live,
        "size": source.size_wh,
        "numbers": [number_in(f.image) for f in frames],
        "indices": [f.index for f in frames],
        "age_ms": [(f.t_grab_ns - f.t_capture_ns) / 1e6 for f in frames],
        "steps_ms": (np.diff([f.t_capture_ns for f in frames]) / 1e6).tolist(),
        "colour": frames[-1].image[300, 100].tolist(),
    }
    if word:
        Path(switch).write_text(word)
        seen["lost"] = until(source, SourceState.RECONNECTING)
        Path(switch).unlink()
        seen["back"] = until(source, SourceState.STREAMING)
        seen["index after"] = source.read(5.0).index
deadline = time.monotonic() + 5
while threading.active_count() > 1 and time.monotonic() < deadline:
    time.sleep(0.01)
seen["threads"] = threading.active_count()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def webcam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_webcam(tmp_path_factory.mktemp("webcam"))


def watch(webcam: Path, folder: Path, word: str = "", size: str = "", fps: str = "") -> tuple[dict, str, str]:
    recording = write_yuyv(folder / "frames.yuyv", [numbered_picture(n, (640, 480)) for n in range(50)])
    log = folder / "asked.log"
    environment = webcam_environment(webcam, frames=recording, log=log, switch=folder / "switch")
    done = run_python(_WATCHES, "0", size, fps, str(folder / "switch"), word, environment=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr, log.read_text()


@needs_webcam
def test_a_webcam(webcam: Path, tmp_path: Path) -> None:
    seen, errors, asked = watch(webcam, tmp_path)
    assert errors == ""
    assert (seen["id"], seen["live"], seen["size"]) == ("webcam-0", True, [640, 480])
    # OpenCV throws the very first picture away
    assert seen["numbers"] == [index + 1 for index in seen["indices"]]
    # the driver's own stamp: evenly spaced, and before the program had the picture
    assert all(age > 0 for age in seen["age_ms"])
    assert all(step > 0 for step in seen["steps_ms"])
    assert seen["colour"][0] > 150 > seen["colour"][2]
    assert seen["threads"] == 1
    assert "MJPG" not in asked


@needs_webcam
def test_a_webcam_is_asked_for_a_size_and_says_what_it_gives(webcam: Path, tmp_path: Path) -> None:
    seen, errors, asked = watch(webcam, tmp_path, size="1280x720", fps="60")
    assert seen["size"] == [640, 480]
    assert errors.strip() == "camera 0 was asked for 1280x720 at 60 fps and gives 640x480 at 30 fps"
    assert any(line.startswith("MJPG") for line in asked.splitlines())
    assert any(line.endswith("1280 720") for line in asked.splitlines())


@needs_webcam
@pytest.mark.parametrize("word", ["unplugged", "frozen"])
def test_a_lost_webcam_is_found_and_taken_again(webcam: Path, tmp_path: Path, word: str) -> None:
    seen, errors, _ = watch(webcam, tmp_path, word)
    assert seen["lost"]
    assert seen["back"]
    assert seen["index after"] > seen["indices"][-1]
    assert seen["threads"] == 1
    assert ("hangs in its driver" if word == "frozen" else "is lost; connecting again") in errors
