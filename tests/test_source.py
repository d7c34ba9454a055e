"""Files and folders of images: every frame in order, or paced like a camera."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture import to_rgb
from pipeline.source import SourceError, SourceState, open_source
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
