"""The video can be played whatever happens."""

from __future__ import annotations

import dataclasses
import logging
import signal
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.drawing import Image, drawing_size
from pipeline.overlay import LONGEST_STILL_S, OverlayWriter

ROOT = Path(__file__).parents[1]


def plain(size_wh: tuple[int, int], grey: int = 60) -> Image:
    return np.full((size_wh[1], size_wh[0], 3), grey, np.uint8)


@dataclasses.dataclass
class Video:
    """A file as a player sees it."""

    codec: str
    fps: float
    index_length: int
    times_s: list[float]
    images: list[Image]


def decoded(path: Path) -> Video:
    times_s, images = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            times_s.append(float(frame.time or 0.0))
            images.append(frame.to_ndarray(format="rgb24").astype(np.uint8))
        codec = f"{stream.codec_context.name} {stream.codec_context.pix_fmt}"
        return Video(codec, float(stream.average_rate or 0), stream.frames, times_s, images)


def striped(i: int, size_wh: tuple[int, int] = (128, 96)) -> Image:
    """A picture that is told from its neighbours by its brightness."""
    return plain(size_wh, 20 + 4 * i)


def numbers(images: list[Image]) -> list[int]:
    return [round((float(image.mean()) - 20) / 4) for image in images]


def write_all(path: Path, times_s: list[float], fps: float = 10.0) -> None:
    size_wh = (480, 320)
    with OverlayWriter(path, fps, size_wh) as writer:
        for i, t in enumerate(times_s):
            writer.write(striped(i, size_wh), round(t * 1e9) + 5_000_000_000)


def test_the_video_is_h264_and_reads_in_opencv_too(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "out.MP4"
    write_all(path, [i / 29.97 for i in range(40)], 29.97)
    video = decoded(path)
    assert video.codec == "h264 yuv420p"
    assert video.fps == pytest.approx(29.97, rel=1e-4)
    np.testing.assert_allclose(np.diff(video.times_s), 1 / 29.97, atol=1e-4)
    assert numbers(video.images) == list(range(40))
    # an ordinary MP4, not a fragmented one: its index counts every frame
    assert video.index_length == 40
    capture = cv2.VideoCapture(str(path))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 40
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97, rel=1e-3)
    capture.release()


def test_colours_survive(tmp_path: Path) -> None:
    image = plain((480, 320))
    image[:, :160], image[:, 160:320], image[:, 320:] = (200, 40, 40), (40, 180, 60), (50, 60, 210)
    with OverlayWriter(tmp_path / "out.mp4", 10, (480, 320)) as writer:
        for i in range(3):
            writer.write(image, i * 100_000_000)
    last = decoded(tmp_path / "out.mp4").images[-1].astype(int)
    for u in (80, 240, 400):
        np.testing.assert_allclose(last[160, u], image[160, u], atol=6)


def test_missing_pictures_are_repeated_and_early_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write_all(path, [0.0, 0.1, 0.4, 0.41, 0.52, 0.6])
    assert numbers(decoded(path).images) == [0, 1, 1, 1, 2, 4, 5]


def test_a_long_silence_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "out.mp4"
    write_all(path, [0.0, 0.1, 100.0, 100.1, 3.0, 3.1])
    assert numbers(decoded(path).images) == [0, 1, 2, 3, 4, 5]
    assert caplog.text.count("leaves out") == 2
    assert LONGEST_STILL_S < 3.0


@pytest.mark.parametrize("size_wh", [(64, 64), (641, 479), (7680, 4320)])
def test_pictures_of_every_size_are_written(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    with OverlayWriter(tmp_path / "out.mp4", 10, size_wh) as writer:
        writer.write(plain(drawing_size(size_wh)), 0)
        writer.write(plain((200, 300), 200), 100_000_000)
    images = decoded(tmp_path / "out.mp4").images
    width, height = drawing_size(size_wh)
    assert [image.shape for image in images] == [(height + height % 2, width + width % 2, 3)] * 2
    # the narrow one stands in the middle between black bars
    assert images[1][height // 2, width // 2].min() > 190
    assert images[1][height // 2, 2].max() < 10


@pytest.mark.parametrize("name", ["out.avi", "out", "out.mp4.txt"])
def test_another_format_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a name that ends in \.mp4, got"):
        OverlayWriter(tmp_path / name, 30, (640, 480))


@pytest.mark.parametrize("fps", [0.0, -5.0, float("nan"), 10_000.0])
def test_a_frame_rate_that_is_none_is_one_sentence(tmp_path: Path, fps: float) -> None:
    with pytest.raises(ValueError, match="Overlay frame rate: expected 1 to 240"):
        OverlayWriter(tmp_path / "out.mp4", fps, (640, 480))


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "file" / "out.mp4", tmp_path / "folder.mp4"):
        with pytest.raises(OSError, match=r"The overlay .* cannot be written \(.+\)"):
            OverlayWriter(path, 30, (640, 480))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_video_and_not_the_stream(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.mp4"
    path.symlink_to("/dev/full")
    writer = OverlayWriter(path, 10, (320, 320))
    noise = np.random.default_rng(0)
    for i in range(60):
        writer.write(noise.integers(0, 255, (320, 320, 3), dtype=np.uint8), i * 100_000_000)
    writer.close()
    assert "No space left" in caplog.text
    assert writer.frames_written < 60


FILLED = """
import resource, signal, sys
from tests.test_overlay import OverlayWriter, striped, np
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
writer = OverlayWriter(Path(sys.argv[1]), 10, (480, 320))
noise = np.random.default_rng(0)
for i in range(50):
    image = striped(i, (480, 320))
    image[:200] = noise.integers(0, 255, (200, 480, 3), dtype=np.uint8)
    writer.write(image, i * 100_000_000)
writer.close()
sys.stdout.write(str(writer.frames_written))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_what_was_written_before_the_disk_was_full_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    command = [sys.executable, "-c", FILLED, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert "ends early, the stream goes on" in done.stderr
    played = [image[250:] for image in decoded(path).images]
    assert 10 <= len(played) <= int(done.stdout) < 50
    assert numbers(played) == list(range(len(played)))


def test_no_picture_at_all_leaves_nothing_that_raises(tmp_path: Path) -> None:
    writer = OverlayWriter(tmp_path / "out.mp4", 30, (640, 480))
    writer.close()
    writer.close()
    writer.write(plain((640, 480)), 0)
    assert writer.frames_written == 0


KILLED = """
import os, signal, sys
from tests.test_overlay import OverlayWriter, striped
from pathlib import Path
writer = OverlayWriter(Path(sys.argv[1]), 10, (480, 320))
for i in range(35):
    writer.write(striped(i, (480, 320)), i * 100_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_video_plays_up_to_its_last_second(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    played = numbers(decoded(path).images)
    assert played == list(range(len(played)))
    assert len(played) >= 35 - 2 * 10
