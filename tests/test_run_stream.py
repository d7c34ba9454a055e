"""The program as it runs for days: its cache, its end, its subscribers, its cameras that come and go."""

from __future__ import annotations

import itertools
import signal
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq

from pipeline.messages import PoseMessage
from tests.support.program import Finished, Listener, Program, load, run
from tests.support.rtsp import RtspServer, why_no_server
from tests.support.truth import CLIPS
from tests.support.webcam import SIZE_WH, build_webcam, webcam_environment, why_no_webcam, write_yuyv

CLIP = CLIPS / "demo_two" / "video.mp4"
LIVE = ("--source", "demo:two", "--realtime", "--loop")
READERS = 4
_NO_SERVER, _NO_WEBCAM = why_no_server(), why_no_webcam()


@dataclass(frozen=True, eq=False)
class Run:
    """One run of the program: what each subscriber got, what was written, how it ended."""

    folder: Path
    heard: list[list[PoseMessage]]
    finished: Finished
    ended_after_s: float
    cache: bytes


@dataclass(frozen=True, eq=False)
class Life:
    """A camera's program started three times over one cache."""

    folder: Path
    calibrated: Run
    killed: Run
    listed: Finished
    broken: Run
    listed_broken: Finished
    recovered: Finished


def cache_file(folder: Path) -> Path:
    (path,) = (folder / "cache").glob("*.json")
    return path


def stalled(address: str, stack: ExitStack) -> None:
    """A subscriber that takes everything and reads nothing."""
    context = stack.enter_context(zmq.Context())
    sleeper = stack.enter_context(context.socket(zmq.SUB))
    sleeper.linger, sleeper.rcvhwm, sleeper.rcvbuf, sleeper.reconnect_ivl = 0, 1, 2048, 20
    sleeper.subscribe("")
    sleeper.connect(address)


def first_run(folder: Path) -> Run:
    """Until the camera is calibrated, with five subscribers, one of them stalled; then SIGTERM."""
    arguments = [*LIVE, "--calibration-dir", str(folder / "cache")]
    arguments += ["--record", str(folder / "first.npz"), "--overlay", str(folder / "first.mp4")]
    program = Program(folder, *arguments)
    with ExitStack() as stack:
        stalled(program.address, stack)
        listeners = [stack.enter_context(Listener(program.address)) for _ in range(READERS)]
        with program:
            program.until(lambda: listeners[0].count() >= 30, "30 poses")
            program.until(lambda: listeners[0].poses[-1].calibration.status == "calibrated", "calibration")
            enough = listeners[0].count() + 60
            program.until(lambda: listeners[0].count() >= enough, "60 more poses")
            status = program.end(signal.SIGTERM)
    finished = Finished(status, program.output, program.errors)
    cache = cache_file(folder).read_bytes()
    return Run(folder, [listener.poses for listener in listeners], finished, program.ended_after_s, cache)


def later_run(folder: Path, name: str, number: int) -> Run:
    """Another start over the same cache, ended by a signal after 20 poses."""
    program = Program(folder, *LIVE, "--calibration-dir", str(folder / "cache"), "--record", str(folder / name))
    with Listener(program.address) as listener, program:
        program.until(lambda: listener.count() >= 20, "20 poses")
        status = program.end(number)
    finished = Finished(status, program.output, program.errors)
    return Run(folder, [listener.poses], finished, program.ended_after_s, cache_file(folder).read_bytes())


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("life")
    listing = ("-m", "calibration_cache", "--calibration-dir", str(folder / "cache"), "list")
    calibrated = first_run(folder)
    killed = later_run(folder, "killed.npz", signal.SIGKILL)
    recovered = run("-m", "pipeline.recorder", "recover", str(folder / "killed.npz.partial"))
    listed = run(*listing)
    path = cache_file(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    listed_broken = run(*listing)
    broken = later_run(folder, "broken.npz", signal.SIGTERM)
    return Life(folder, calibrated, killed, listed, broken, listed_broken, recovered)


def test_sigterm_ends_it_and_loses_nothing(life: Life) -> None:
    one = life.calibrated
    assert one.finished.status == 0, one.finished.errors
    assert one.ended_after_s < 5.0, "2 s where nobody else works"
    assert "Traceback" not in one.finished.errors
    heard, recording = one.heard[0], load(life.folder / "first.npz")
    assert [pose.index for pose in heard] == recording["index"].tolist()
    assert f"demo-two: stopped after {len(heard)} frames" in one.finished.errors
    assert not list(life.folder.glob("first.npz.*"))
    capture, frames = cv2.VideoCapture(str(life.folder / "first.mp4")), 0
    while capture.grab():
        frames += 1
    assert frames > 60


def test_a_stalled_subscriber_harms_nobody(life: Life) -> None:
    first, *others = [[(p.index, p.t_publish_ns) for p in heard] for heard in life.calibrated.heard]
    indices = [index for index, _ in first]
    assert len(indices) > 60
    assert indices == sorted(set(indices))
    for other in others:
        assert [index for index, _ in other] == indices
    # each subscriber gets the same message, not another one of the same frame
    assert all(other == first for other in others)


def test_a_paced_file_behaves_like_a_camera(life: Life) -> None:
    heard = life.calibrated.heard[0]
    assert all(0 <= p.t_publish_ns - p.t_capture_ns < 10e9 for p in heard)
    assert all(b.t_capture_ns > a.t_capture_ns for a, b in itertools.pairwise(heard))
    assert heard[-1].dropped >= heard[0].dropped
    assert heard[-1].index + 1 == len(heard) + heard[-1].dropped


def test_the_second_start_is_calibrated_from_the_first_message(life: Life) -> None:
    last, first = life.calibrated.heard[0][-1].calibration, life.killed.heard[0][0].calibration
    assert first.status == "calibrated"
    assert first.focal_px == pytest.approx(last.focal_px, rel=0.05)
    assert first.camera_height_m == pytest.approx(last.camera_height_m, abs=0.15)
    assert first.pitch_rad == pytest.approx(last.pitch_rad, abs=0.05)
    assert first.n_samples >= 15


def test_the_cache_can_be_looked_at(life: Life) -> None:
    assert life.listed.status == 0
    assert "demo-two" in life.listed.output
    assert "960x540" in life.listed.output
    assert life.listed_broken.status == 0
    assert "cannot be used: it is broken" in life.listed_broken.output


def test_sigkill_leaves_the_recording_and_the_cache(life: Life) -> None:
    assert life.killed.finished.status == -signal.SIGKILL
    assert life.recovered.status == 0, life.recovered.errors
    recording = load(life.folder / "killed.npz")
    heard = [pose.index for pose in life.killed.heard[0]]
    kept = recording["index"].tolist()
    assert kept[: len(heard)] == heard[: len(kept)]
    # a kill comes between two frames or within one, after it was published and before it was kept
    assert len(heard) - 1 <= len(kept) <= len(heard) + 3
    assert recording["joints_world_m"].shape == (len(recording["person_id"]), 24, 3)
    assert life.killed.cache.rstrip().endswith(b"}")
    assert not list((life.folder / "cache").glob(".*"))


def test_a_cut_cache_file_is_said_and_passed_over(life: Life) -> None:
    assert life.broken.finished.status == 0, life.broken.finished.errors
    assert "WARNING The stored calibration" in life.broken.finished.errors
    assert "is not used: it is broken" in life.broken.finished.errors
    assert "Traceback" not in life.broken.finished.errors
    assert life.broken.heard[0][0].calibration.status in ("uncalibrated", "calibrating")


def test_a_signal_while_the_source_connects(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = Program(tmp_path, "--source", f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam")
        with program:
            connection, _ = silent.accept()
            with connection:
                program.end(signal.SIGTERM)
    assert program.ended_after_s < 10.0
    assert "Traceback" not in program.errors


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`run_stream.py --print | head -1`."""
    arguments = ["run_stream.py", *LIVE, "--no-cache", "--print"]
    command = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, *{arguments!r}, '--bind', sys.argv[1]], "
        "stdout=subprocess.PIPE); line = p.stdout.readline(); p.stdout.close(); print(p.wait(60), line.decode())"
    )
    done = run("-c", command, Program(tmp_path).address)
    assert done.output.startswith("0 pose/demo-two "), done.errors
    assert "Broken pipe" not in done.errors
    assert "Traceback" not in done.errors


def test_the_printing_subscriber(tmp_path: Path) -> None:
    """`python -m pipeline.messages` in another terminal, and a camera with a name."""
    program = Program(tmp_path, *LIVE, "--no-cache", "--camera-id", "Front Door")
    with program:
        printed = run("-m", "pipeline.messages", "--connect", program.address, "--count", "3", "--timeout", "30")
        program.end()
    assert printed.status == 0, printed.errors
    lines = printed.output.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("pose/front-door ") for line in lines)
    assert "latency" in lines[0]


@pytest.fixture(scope="module")
def webcam(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Listener]:
    """run_stream.py on /dev/video0, which shows the first demo clip."""
    folder = tmp_path_factory.mktemp("webcam")
    capture = cv2.VideoCapture(str(CLIPS / "demo_one" / "video.mp4"))
    pictures = []
    for index in range(100):
        picture = capture.read()[1]
        if index >= 50:
            pictures.append(cv2.resize(picture[:, 160:1120, ::-1], SIZE_WH, interpolation=cv2.INTER_AREA))
    capture.release()
    frames = write_yuyv(folder / "frames.yuyv", pictures)
    environment = webcam_environment(build_webcam(folder), frames=frames)
    arguments = ["--source", "/dev/video0", "--calibration-dir", str(folder / "cache")]
    program = Program(folder, *arguments, environment=environment)
    with Listener(program.address) as listener, program:
        program.until(lambda: listener.count() >= 40, "40 poses")
        status = program.end(signal.SIGINT)
    return Finished(status, program.output, program.errors), listener


@pytest.mark.skipif(bool(_NO_WEBCAM), reason=_NO_WEBCAM)
def test_a_webcam(webcam: tuple[Finished, Listener]) -> None:
    finished, listener = webcam
    assert finished.status == 0, finished.errors
    assert "webcam-0: 640x480, poses on" in finished.errors
    poses = listener.poses
    assert {pose.camera for pose in poses} == {"webcam-0"}
    assert np.mean([len(pose.people) == 1 for pose in poses]) > 0.9
    assert len({person.id for pose in poses for person in pose.people}) == 1
    assert all(b.index > a.index for a, b in itertools.pairwise(poses))
    # the driver's stamp comes before the program has the picture, and before anything is published
    assert all(pose.t_capture_ns <= pose.t_grab_ns < pose.t_publish_ns for pose in poses)
    assert all(0 < pose.t_publish_wall_ns - pose.t_wall_ns < 10e9 for pose in poses)
    assert {state.state for state in listener.states} >= {"running", "ended"}


@pytest.mark.skipif(bool(_NO_SERVER), reason=_NO_SERVER)
def test_a_network_camera_that_goes_and_comes_back(tmp_path: Path) -> None:
    with RtspServer("--video", str(CLIP)) as server:
        program = Program(tmp_path, "--source", server.url(), "--calibration-dir", str(tmp_path / "cache"))
        with Listener(program.address) as listener, program:

            def states() -> list[str]:
                return [state.state for state in listener.states]

            program.until(lambda: listener.count() >= 30 and listener.poses[-1].people, "30 poses")
            server.kill()
            program.until(lambda: states()[-1] == "lost", "state lost")
            before = listener.count()
            server.start()
            program.until(lambda: listener.count() >= before + 15 and states()[-1] == "running", "poses again")
            assert program.end() == 0, program.errors
    order = [state for state, last in zip(states(), ["", *states()], strict=False) if state != last]
    assert order[-4:] == ["running", "lost", "running", "ended"]
    poses = listener.poses
    assert {pose.camera for pose in poses} == {f"rtsp-127-0-0-1-{server.port}-cam"}
    assert all(b.index > a.index and b.t_capture_ns > a.t_capture_ns for a, b in itertools.pairwise(poses))
    # one calibration goes on through the gap, it does not start over
    samples = [pose.calibration.n_samples for pose in poses]
    assert samples == sorted(samples)
    assert samples[before - 1] > 0
    assert poses[before].calibration.focal_px == pytest.approx(poses[before - 1].calibration.focal_px, rel=0.1)
    assert any(pose.people for pose in poses[before:])
    assert "is lost; connecting again" in program.errors
    assert "Traceback" not in program.errors
