"""What a user can get wrong: each a sentence and exit status 2, or a stream that says how it is; never a traceback."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

import run_stream
from engines.models import STORE_VARIABLE
from tests.support.program import Finished, free_port, load, run
from tests.support.truth import CLIPS
from tests.support.videos import write_grey_video

WITHIN_S = 60.0
DEMO = CLIPS / "demo_one" / "video.mp4"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: --source"),
        (["--recovery", "magic"], "invalid choice: 'magic' (choose from 'auto', 'landmark', 'landmark-analytic'"),
        (["--smoothing", "much"], "invalid choice: 'much' (choose from 'off', 'low', 'default', 'high')"),
        (["--detector", "yolo"], "invalid choice: 'yolo' (choose from 'blazepose', 'mediapipe')"),
        (["--backend", "tea"], "invalid choice: 'tea' (choose from 'auto', 'openvino', 'onnx', 'tensorrt', "),
        (["--size", "nonsense"], "expected WIDTHxHEIGHT like 1280x720, got 'nonsense'"),
        (["--size", "0x720"], "expected WIDTHxHEIGHT like 1280x720, got '0x720'"),
        (["--fps", "-1"], "expected 1 to 1000 frames a second, got '-1'"),
        (["--height", "180"], "expected 0.5 to 2.5 metres, got '180'"),
        (["--fov", "nan"], "expected 1 to 179 degrees, got 'nan'"),
        (["--focal", "0"], "expected 1 to 1e+06 pixels, got '0'"),
        (["--focal", "900", "--fov", "60"], "not allowed with argument"),
        (["--max-people", "9"], "expected 1 to 8 people, got '9'"),
        (["--threads", "0"], "expected 1 or more threads, got '0'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_the_command_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--source", "demo"] if arguments else []
    with pytest.raises(SystemExit) as end:
        run_stream.main([*source, *arguments])
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.out == ""
    assert says in said.err
    assert said.err.startswith("run_stream.py: ")
    assert said.err.count("\n") == 1


@dataclass(frozen=True)
class Mistake:
    """A command line that cannot work, and what must be said of it; `prepare` makes its files in a folder."""

    arguments: Callable[[Path], list[str]]
    says: str
    environment: Callable[[Path], dict[str, str]] = lambda folder: {}


def _write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def _other_camera(folder: Path, size_wh: tuple[int, int]) -> str:
    width, height = size_wh
    return _write(
        folder / "camera.yaml",
        f"image_width: {width}\nimage_height: {height}\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
        f"  data: [500, 0, {width / 2}, 0, 500, {height / 2}, 0, 0, 1]\n"
        "distortion_coefficients:\n  rows: 1\n  cols: 5\n  data: [0, 0, 0, 0, 0]\n",
    )


def _demo(*arguments: str) -> list[str]:
    return ["--source", "demo", *arguments]


_NOISE = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
_SECRET = "s3cret"

MISTAKES = {
    "no such device": Mistake(lambda d: ["--source", "/dev/video7"], "There is no camera /dev/video7"),
    "no such file": Mistake(lambda d: ["--source", str(d / "clip.mp4")], "clip.mp4: check the path."),
    "text as video": Mistake(lambda d: ["--source", _write(d / "a.mp4", "not a film\n" * 50)], "is a text file"),
    "empty file": Mistake(lambda d: ["--source", _write(d / "a.mp4", "")], "is empty (0 bytes)"),
    "noise as video": Mistake(lambda d: ["--source", _write(d / "a.mp4", _NOISE)], "is no video that can be decoded"),
    "no such demo": Mistake(lambda d: ["--source", "demo:ten"], "type demo:one or demo:two."),
    "nobody streams": Mistake(
        lambda d: ["--source", f"rtsp://viewer:{_SECRET}@127.0.0.1:{free_port()}/cam"], "nothing listens on 127.0.0.1"
    ),
    "calibration of another shape": Mistake(
        lambda d: _demo("--calibration", _other_camera(d, (640, 480))), "640x480"
    ),
    "calibration that is none": Mistake(
        lambda d: _demo("--calibration", _write(d / "camera.yml", _NOISE)), "camera.yml cannot be used"
    ),
    "unknown body": Mistake(lambda d: _demo("--body", "marble"), 'expected "default" or "smpl=FILE", got "marble"'),
    "missing body": Mistake(lambda d: _demo("--body", f"smpl={d / 'missing.npz'}"), "missing.npz"),
    "recording is there": Mistake(lambda d: _demo("--record", _write(d / "a.npz", "")), "a.npz exists already"),
    "recording of another kind": Mistake(lambda d: _demo("--record", str(d / "a.bvh")), "is an .npz file"),
    "overlay of another kind": Mistake(lambda d: _demo("--overlay", str(d / "a.avi")), "name that ends in .mp4"),
    "overlay into a file": Mistake(
        lambda d: _demo("--overlay", str(Path(_write(d / "file", "")) / "a.mp4")), "cannot be written"
    ),
    "no models": Mistake(
        lambda d: _demo(), "Type: python -m engines.models fetch", lambda d: {STORE_VARIABLE: str(d / "models")}
    ),
    "no address": Mistake(lambda d: _demo("--bind", "here"), "Cannot publish at 'here'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def clumsy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Finished]]]:
    """Every mistake made, two at a time."""

    def make(mistake: Mistake) -> Finished:
        folder = tmp_path_factory.mktemp("mistake")
        bind = ["--bind", f"tcp://127.0.0.1:{free_port()}"]
        environment = os.environ | mistake.environment(folder)
        return run("run_stream.py", *bind, *mistake.arguments(folder), timeout_s=WITHIN_S, environment=environment)

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(make, mistake) for name, mistake in MISTAKES.items()}


def assert_one_sentence(done: Finished, says: str) -> None:
    assert done.status == 2, done.errors
    assert done.output == ""
    assert says in done.errors
    assert done.errors.startswith("run_stream.py: ")
    assert done.errors.count("\n") == 1, done.errors
    assert "Traceback" not in done.errors
    assert _SECRET not in done.errors


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name: str, clumsy: dict[str, Future[Finished]]) -> None:
    assert_one_sentence(clumsy[name].result(), MISTAKES[name].says)


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("run_stream.py", "--source", "demo", "--bind", f"tcp://127.0.0.1:{port}", timeout_s=WITHIN_S)
    assert_one_sentence(done, f"tcp://127.0.0.1:{port} is in use by another program")


def _pictures(count: int) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(DEMO))
    pictures = [capture.read()[1] for _ in range(count)]
    capture.release()
    return pictures


def _write_video(path: Path, pictures: list[np.ndarray]) -> Path:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (width, height))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def _grey(folder: Path) -> Path:
    return write_grey_video(folder / "grey.mkv", [90] * 10)


def _deep(folder: Path) -> Path:
    return write_grey_video(folder / "deep.mkv", [90] * 10, bits=16)


def _tiny(folder: Path) -> Path:
    return _write_video(folder / "tiny.avi", [cv2.resize(p[:, 280:1000], (64, 64)) for p in _pictures(10)])


def _huge(folder: Path) -> Path:
    return _write_video(folder / "huge.avi", [cv2.resize(p, (7680, 4320)) for p in _pictures(3)])


def _nobody(folder: Path) -> Path:
    return _write_video(folder / "nobody.avi", [p[:, :400] for p in _pictures(40)])


def _half(folder: Path) -> Path:
    """Cut at the waist, and at the side."""
    return _write_video(folder / "half.avi", [p[: p.shape[0] * 55 // 100, : p.shape[1] * 55 // 100]
                                               for p in _pictures(90)[50:]])  # fmt: skip


ODD: dict[str, Callable[[Path], Path]] = {
    "grey": _grey, "deep": _deep, "tiny": _tiny, "huge": _huge, "nobody": _nobody, "half": _half,
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[tuple[Finished, dict[str, np.ndarray]]]]]:
    """Every odd video through the program, two at a time."""

    def play(write: Callable[[Path], Path]) -> tuple[Finished, dict[str, np.ndarray]]:
        folder = tmp_path_factory.mktemp("odd")
        recording = folder / "poses.npz"
        arguments = ["--source", str(write(folder)), "--record", str(recording), "--overlay", str(folder / "o.mp4")]
        done = run("run_stream.py", "--bind", f"tcp://127.0.0.1:{free_port()}", *arguments, timeout_s=WITHIN_S)
        assert done.status == 0, done.errors
        overlay = cv2.VideoCapture(str(folder / "o.mp4"))
        assert overlay.grab()
        overlay.release()
        return done, load(recording)

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(play, write) for name, write in ODD.items()}


@pytest.mark.parametrize(("name", "frames"), [
    ("grey", 10), ("deep", 10), ("tiny", 10), ("huge", 3), ("nobody", 40), ("half", 40),
])  # fmt: skip
def test_an_odd_video_is_a_stream(
    name: str, frames: int, odd: dict[str, Future[tuple[Finished, dict[str, np.ndarray]]]]
) -> None:
    done, recording = odd[name].result()
    assert len(recording["index"]) == frames, done.errors
    assert "WARNING" not in done.errors
    assert "Traceback" not in done.errors
    assert np.isfinite(recording["joints_world_m"]).all()


@pytest.mark.parametrize("name", ["grey", "deep", "nobody"])
def test_nobody_is_an_empty_frame(name: str, odd: dict[str, Future[tuple[Finished, dict[str, np.ndarray]]]]) -> None:
    done, recording = odd[name].result()
    assert recording["person_id"].size == 0
    assert set(recording["calibration_status"]) == {"uncalibrated"}
    assert "0 people · uncalibrated" in done.errors


def test_half_a_person_is_a_person(odd: dict[str, Future[tuple[Finished, dict[str, np.ndarray]]]]) -> None:
    _, recording = odd["half"].result()
    found = np.unique(recording["person_frame"]).size
    assert found >= 36, f"found in {found} of 40 frames"
    assert np.unique(recording["person_id"]).size == 1
    hidden = [list(recording["joint_names"]).index(name) for name in ("left_ankle", "right_ankle")]
    shown = [list(recording["joint_names"]).index(name) for name in ("left_shoulder", "right_shoulder")]
    confidence = recording["confidence"].mean(axis=0)
    assert confidence[hidden].max() < confidence[shown].min()
    # legs that nobody sees say nothing of the floor
    assert np.isnan(recording["calibration_camera_height_m"]).all()


def test_a_huge_picture_has_the_same_person(odd: dict[str, Future[tuple[Finished, dict[str, np.ndarray]]]]) -> None:
    _, recording = odd["huge"].result()
    assert recording["person_frame"].tolist() == [0, 1, 2]
    assert recording["size_wh"].tolist() == [[7680, 4320]] * 3
    assert recording["box_xyxy"].max() > 2000
