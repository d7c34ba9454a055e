"""What an overlay shows lies where the calibration says, and the video can be played whatever happens."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawing import FLOOR, HORIZON, LEFT, RIGHT, Image, draw, drawing_size
from pipeline.drawing_geometry import clip_near, clip_to_picture, floor_grid, horizon_camera, pixels
from pipeline.frames import Array, R_world_camera_from_up, exp_so3, up_from_pitch_roll
from pipeline.overlay import LONGEST_STILL_S, OverlayWriter, screen_problem
from pipeline.types import (
    JOINT,
    BodyPose,
    CalibrationStatus,
    CameraCalibration,
    FrameResult,
    Person,
    WorldPose,
)

ROOT = Path(__file__).parents[1]
#: A rough T-pose: metres from the pelvis, y up, left at +x, in SMPL's order.
BODY = np.array([
    [0, 0, 0], [0.06, -0.09, 0], [-0.06, -0.09, 0], [0, 0.11, 0], [0.11, -0.48, 0], [-0.11, -0.48, 0], [0, 0.24, 0],
    [0.09, -0.9, 0], [-0.09, -0.9, 0], [0, 0.3, 0], [0.11, -0.95, 0.1], [-0.11, -0.95, 0.1], [0, 0.5, 0],
    [0.08, 0.42, 0], [-0.08, 0.42, 0], [0, 0.62, 0], [0.19, 0.43, 0], [-0.19, 0.43, 0], [0.45, 0.43, 0],
    [-0.45, 0.43, 0], [0.7, 0.43, 0], [-0.7, 0.43, 0], [0.78, 0.43, 0], [-0.78, 0.43, 0],
])  # fmt: skip


def camera(size_wh: tuple[int, int] = (640, 480), **changes: object) -> CameraCalibration:
    focal_px = 0.9 * size_wh[0]
    K = np.array([[focal_px, 0, (size_wh[0] - 1) / 2], [0, focal_px, (size_wh[1] - 1) / 2], [0, 0, 1]])
    one = CameraCalibration(
        "cam", size_wh, K, np.zeros(5), R_world_camera_from_up(up_from_pitch_roll(0.2, 0.0)), 1.7, 0.03, 0.01, 0.05,
        CalibrationStatus.CALIBRATED, 40, "landmark 1",
    )  # fmt: skip
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def person(calibration: CameraCalibration, z: float = -4.0, yaw: float = 0.0, predicted: bool = False) -> Person:
    R_world_root = exp_so3([0.0, yaw, 0.0])
    joints_world = BODY @ R_world_root.T + [0.0, 1.0, z]
    R_camera_world = calibration.R_world_camera.T
    joints_camera = (joints_world - calibration.t_world_camera) @ R_camera_world.T
    local, betas, sure = np.tile(np.eye(3), (23, 1, 1)), np.zeros(10), np.ones(24)
    with np.errstate(invalid="ignore"):
        seen = np.nan_to_num(pixels(joints_camera, calibration))
    return Person(
        7, np.concatenate([seen.min(axis=0), seen.max(axis=0)]), 0.9,
        BodyPose(R_camera_world @ R_world_root, joints_camera[0], local, betas, joints_camera, sure),
        WorldPose(R_world_root, joints_world[0], local, betas, joints_world, sure), predicted,
    )  # fmt: skip


def result(calibration: CameraCalibration, *people: Person) -> FrameResult:
    return FrameResult("cam", 0, 0, 0, 0, calibration.size_wh, 0, {}, calibration, people)


def plain(size_wh: tuple[int, int], grey: int = 60) -> Image:
    return np.full((size_wh[1], size_wh[0], 3), grey, np.uint8)


def nearest(image: Image, colour: tuple[int, int, int], tolerance: int = 6) -> Array:
    """Pixels (N, 2) u, v of this colour."""
    v, u = np.nonzero((np.abs(image.astype(int) - colour) <= tolerance).all(axis=2))
    return np.stack([u, v], axis=1).astype(np.float64)


def test_the_picture_itself_is_left_alone() -> None:
    calibration = camera()
    image = plain((640, 480))
    image.flags.writeable = False
    drawn = draw(image, result(calibration, person(calibration)), age_ms=40.0, fps=30.0)
    assert (image == 60).all()
    assert drawn.shape == image.shape
    assert not np.shares_memory(drawn, image)
    again = draw(image, result(calibration, person(calibration)), age_ms=40.0, fps=30.0)
    np.testing.assert_array_equal(drawn, again)


def test_left_and_right_are_where_the_joints_are() -> None:
    calibration = camera()
    one = person(calibration)
    drawn = draw(plain((640, 480)), result(calibration, one))
    seen = pixels(one.camera.joints_camera_m, calibration)
    for side, colour in (("left", LEFT), ("right", RIGHT)):
        coloured = nearest(drawn, colour)
        for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"):
            distance = np.linalg.norm(coloured - seen[JOINT[f"{side}_{joint}"]], axis=1).min()
            assert distance <= 1.0, (side, joint)
    # who faces the camera has the left hand on the picture's right
    assert nearest(drawn, LEFT)[:, 0].mean() > nearest(drawn, RIGHT)[:, 0].mean()


def test_a_predicted_person_is_dashed() -> None:
    calibration = camera((1280, 720))
    image = plain((1280, 720))
    seen, predicted = (
        len(nearest(draw(image, result(calibration, person(calibration, predicted=p))), LEFT)) for p in (False, True)
    )
    assert 0 < predicted < 0.7 * seen


def test_the_horizon_is_level_with_the_camera() -> None:
    """Far away, whatever is at the camera's own height is on the horizon."""
    calibration = camera(R_world_camera=R_world_camera_from_up(up_from_pitch_roll(0.15, 0.1)), camera_height_m=None)
    drawn = draw(plain((640, 480)), result(calibration))
    coloured = nearest(drawn, HORIZON, 40)
    assert np.ptp(coloured[:, 0]) > 500
    far_world = np.array([[x, 0.0, -1e6] for x in (-3e5, 0.0, 3e5)])
    for point in pixels(far_world @ calibration.R_world_camera, calibration):
        assert np.linalg.norm(coloured - point, axis=1).min() <= 1.5


def test_no_horizon_when_looking_straight_down() -> None:
    straight = camera(R_world_camera=R_world_camera_from_up([0.0, 0.0, -1.0]))
    assert horizon_camera(straight) is None
    assert draw(plain((640, 480)), result(straight)).shape == (480, 640, 3)


def test_the_grid_lies_on_the_floor_in_metres() -> None:
    calibration = camera()
    pieces, strengths, side_m = floor_grid(calibration)
    world = pieces @ calibration.R_world_camera.T + calibration.t_world_camera
    np.testing.assert_allclose(world[..., 1], 0.0, atol=1e-9)
    np.testing.assert_allclose(world, np.round(world), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(world[:, 1] - world[:, 0], axis=1), side_m)
    assert side_m == 1.0
    distance = np.linalg.norm(world.mean(axis=1)[:, [0, 2]], axis=1)
    assert np.corrcoef(distance, strengths)[0, 1] < -0.99
    assert floor_grid(camera(camera_height_m=12.0))[2] == 5.0


def test_the_grid_is_drawn_below_the_horizon_only() -> None:
    calibration = camera(camera_height_m=1.7)
    bare = camera(camera_height_m=None)
    image = plain((640, 480))
    with_grid, without = (draw(image, result(c)).astype(int) for c in (calibration, bare))
    changed = np.abs(with_grid - without).max(axis=2) > 8
    # the panel says the height, so leave its corner out
    changed[:160, :200] = False
    rows = np.nonzero(changed)[0]
    horizon_row = pixels(np.array([0.0, 0.0, -1e6]) @ calibration.R_world_camera, calibration)[1]
    assert len(rows) > 500
    assert rows.min() >= horizon_row - 1
    metre_ahead = np.array([[-1.0, 0.0, -3.0], [1.0, 0.0, -4.0]]) - calibration.t_world_camera
    for u, v in np.round(pixels(metre_ahead @ calibration.R_world_camera, calibration)).astype(int):
        assert (with_grid[v, u] > 60 + 0.3 * (np.array(FLOOR) - 60)).all()


def test_the_lens_is_bent_as_opencv_bends_it() -> None:
    distortion = np.array([-0.28, 0.09, 1e-3, -2e-3, -0.01])
    calibration = camera(distortion=distortion)
    points = np.random.default_rng(0).uniform([-1.5, -1.2, 2.0], [1.5, 1.2, 6.0], (200, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), calibration.K, distortion)
    np.testing.assert_allclose(pixels(points, calibration), expected.reshape(-1, 2), atol=1e-6)


def test_a_lens_polynomial_is_not_believed_where_it_folds_back() -> None:
    calibration = camera(distortion=np.array([-0.3, 0.0, 0.0, 0.0, 0.0]))
    turn = np.sqrt(1 / 0.9)
    just_inside, outside = pixels(np.array([[0.99 * turn, 0.0, 1.0], [1.5 * turn, 0.0, 1.0]]), calibration)
    assert np.isfinite(just_inside).all()
    assert np.isnan(outside).all()


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 6), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_clipping_at_the_near_plane_keeps_the_line(rows: list[tuple[float, ...]]) -> None:
    segments = np.array(rows).reshape(-1, 2, 3)
    clipped = clip_near(segments)
    behind = (segments[..., 2] < 0.05).all(axis=1)
    assert np.isnan(clipped[behind]).all()
    kept, ours = segments[~behind], clipped[~behind]
    assert (ours[..., 2] >= 0.05 - 1e-9).all()
    along = np.cross(kept[:, None, 1] - kept[:, None, 0], ours - kept[:, None, 0])
    np.testing.assert_allclose(along, 0.0, atol=1e-7)


@given(st.lists(st.tuples(*[st.floats(-1e7, 1e7)] * 4), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_clipping_to_the_picture_agrees_with_opencv(rows: list[tuple[float, ...]]) -> None:
    segments = np.round(np.array(rows)).reshape(-1, 2, 2)
    clipped = clip_to_picture(segments, (640, 480), 0.0)
    # OpenCV's rectangle ends a pixel earlier; a line that only touches an edge may be seen by one of the two
    sure = sum(cv2.clipLine((1, 1, 638, 478), *s.astype(int).tolist())[0] for s in segments)
    maybe = sum(cv2.clipLine((-1, -1, 643, 483), *s.astype(int).tolist())[0] for s in segments)
    assert sure <= len(clipped) <= maybe
    assert (clipped >= -1e-2).all()
    assert (clipped <= np.array([640, 480]) + 1e-2).all()


@pytest.mark.parametrize("size_wh", [(64, 64), (16, 9), (320, 240), (720, 1280), (4000, 50), (7680, 4320)])
def test_every_size_is_drawn_readably(size_wh: tuple[int, int]) -> None:
    calibration = camera(size_wh)
    drawn = draw(plain(size_wh), result(calibration, person(calibration)), age_ms=40.0, fps=30.0)
    width, height = drawing_size(size_wh)
    assert drawn.shape == (height, width, 3)
    assert max(width, height) <= (4000 if size_wh == (4000, 50) else 3840)
    assert min(width, height) >= min(320, *size_wh)
    assert width / height == pytest.approx(size_wh[0] / size_wh[1], rel=0.02)
    assert (drawn != 60).any()


@pytest.mark.parametrize("status", list(CalibrationStatus))
def test_hard_calibrations_and_poses_are_drawn(status: CalibrationStatus) -> None:
    """Behind the camera, across the near plane, on it, wild lenses, every status: no exception, no warning."""
    for up, height, distortion in (
        (up_from_pitch_roll(0.2, 3.0), 0.05, np.zeros(5)),
        (np.array([0.0, 0.0, 1.0]), None, np.array([0.5, -2.0, 0.1, 0.1, 3.0])),
        (up_from_pitch_roll(-1.2, 0.0), 90.0, np.array([-1.5, 0.0, 0.0, 0.0, 0.0])),
    ):
        calibration = camera(
            R_world_camera=R_world_camera_from_up(up), camera_height_m=height, distortion=distortion, status=status
        )
        people = [person(calibration, z, yaw, predicted) for z, yaw, predicted in
                  ((3.0, 0.0, False), (0.0, 1.5, False), (-0.2, 0.3, True), (-300.0, 0.0, False))]  # fmt: skip
        assert draw(plain((640, 480)), result(calibration, *people)).shape == (480, 640, 3)


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


def without_a_screen(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")} | more


TRY_A_WINDOW = """
import sys
from pipeline.overlay import Viewer
try:
    Viewer("test")
except OSError as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are named by DISPLAY on Linux only")
@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "There is no screen (DISPLAY is not set)"),
        ({"DISPLAY": ":4711"}, "No window can be opened on screen :4711"),
    ],
)
def test_no_screen_is_one_sentence(environment: dict[str, str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRY_A_WINDOW],
        cwd=ROOT, env=without_a_screen(**environment), capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert done.stdout.startswith(sentence)
    assert done.stdout.endswith("leave out --view, or write a video with --overlay out.mp4.")
    assert "Traceback" not in done.stderr


@pytest.fixture
def screen() -> Iterator[dict[str, str]]:
    """A real X server without a monitor; the environment that names it."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed")
    ours, theirs = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(theirs), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[theirs], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    with open(ours) as written:
        # to its end: the server writes the line feed by itself and gives up when nobody takes it
        number = written.readline().strip()
    try:
        if not number:
            pytest.skip("Xvfb did not start")
        yield without_a_screen(DISPLAY=f":{number}")
    finally:
        server.terminate()
        server.wait(10)


SHOW_A_WINDOW = textwrap.dedent("""
    import sys
    import cv2, numpy as np
    from pipeline.overlay import Viewer
    viewer = Viewer("test")
    image = np.zeros((480, 640, 3), np.uint8)
    shown = [viewer.show(image) for _ in range(10)]
    pollKey, cv2.pollKey = cv2.pollKey, lambda: pollKey() and ord("q")
    shown.append(viewer.show(image))
    cv2.pollKey = pollKey
    cv2.destroyAllWindows()
    cv2.pollKey()
    shown.append(viewer.show(image))
    viewer.close()
    viewer.close()
    sys.stdout.write(repr(shown))
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Xvfb")
def test_a_window_is_shown_until_q_or_until_it_is_closed(screen: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW_A_WINDOW], cwd=ROOT, env=screen, capture_output=True, encoding="utf-8", check=False
    )
    assert done.stdout == repr([True] * 10 + [False, False]), done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Xvfb")
def test_a_screen_that_is_there_is_no_problem(screen: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", screen["DISPLAY"])
    assert screen_problem() is None
