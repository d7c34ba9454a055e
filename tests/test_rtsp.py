"""Network streams from real servers: freshness, loss and recovery, and the sentence for each way to fail."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.source import Source, SourceError, SourceState, open_source
from pipeline.stream_probe import why_no_picture
from pipeline.types import Frame
from tests.support.rtsp import RtspServer, free_port, stamped_ms, why_no_server
from tests.support.videos import number_in, numbered_picture, write_video

_MISSING = why_no_server()
needs_server = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)
SECRET = "s3cret"


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer() as running:
        yield running


def next_frame(source: Source, within_s: float = 20.0) -> Frame:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        frame = source.read(0.5)
        if frame is not None:
            return frame
    raise AssertionError(f"no frame within {within_s} s, the source is {source.state}")


def wait_until(condition: Callable[[], bool], source: Source, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"the source is still {source.state}"
        source.read(0.05)


def age_ms(frame: Frame) -> int:
    return (time.time_ns() // 1_000_000 - stamped_ms(frame.image)) & 0xFFFFFFFF


def capture_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("capture-", "decode-"))]


@needs_server
def test_a_stream_is_live_and_its_frames_are_stamped_at_capture(server: RtspServer) -> None:
    with open_source(server.url()) as source:
        assert source.live
        assert source.camera_id == f"rtsp-127-0-0-1-{server.port}-cam"
        assert source.size_wh == (640, 480)
        frames = list(itertools.islice(source.frames(), 10))
        assert source.state is SourceState.STREAMING
    assert all(b.index > a.index and b.t_capture_ns > a.t_capture_ns for a, b in itertools.pairwise(frames))
    for frame in frames:
        assert frame.camera_id == source.camera_id
        drawn_to_grabbed_ms = (frame.t_wall_ns // 1_000_000 - stamped_ms(frame.image)) & 0xFFFFFFFF
        assert drawn_to_grabbed_ms < 2000
    assert source.state is SourceState.ENDED
    assert source.read() is None
    assert not capture_threads()


@needs_server
def test_a_slow_reader_gets_fresh_frames(server: RtspServer) -> None:
    ages = []
    with open_source(server.url()) as source:
        for _ in range(30):
            frame = next_frame(source)
            ages.append(age_ms(frame))
            time.sleep(0.1)
        dropped = source.dropped
    # without a capture thread the age is 2 s by now and grows
    assert max(ages[-10:]) < 1000
    assert dropped >= 20
    assert frame.index >= 45


@needs_server
def test_a_killed_server_is_reconnected_when_it_is_back() -> None:
    with RtspServer() as server, open_source(server.url(), camera_id="Front Door") as source:
        before = next_frame(source)
        server.kill()
        wait_until(lambda: source.state is SourceState.RECONNECTING, source)
        server.start()
        wait_until(lambda: source.state is SourceState.STREAMING, source)
        after = next_frame(source)
        assert before.camera_id == after.camera_id == source.camera_id == "front-door"
        assert after.index > before.index
        assert after.t_capture_ns > before.t_capture_ns
        assert age_ms(after) < 2000
    assert not capture_threads()


@needs_server
def test_a_frozen_server_is_found_and_reconnected() -> None:
    with RtspServer() as server, open_source(server.url()) as source:
        next_frame(source)
        server.freeze()
        wait_until(lambda: source.state in (SourceState.STALE, SourceState.RECONNECTING), source)
        wait_until(lambda: source.state is SourceState.RECONNECTING, source)
        server.thaw()
        wait_until(lambda: source.state is SourceState.STREAMING, source)
        assert age_ms(next_frame(source)) < 2000
        assert source.camera_id.endswith(f"{server.port}-cam")


_READS_UNTIL_TOLD = """
import sys
from pipeline.source import open_source
source = open_source(sys.argv[1])
assert source.read(5.0)
print("streaming", flush=True)
sys.stdin.readline()
source.read(0.5)
source.close()
"""


@needs_server
def test_a_program_ends_cleanly_while_its_stream_hangs() -> None:
    root = Path(__file__).parents[1]
    with RtspServer() as server:
        command = [sys.executable, "-c", _READS_UNTIL_TOLD, server.url()]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        program = subprocess.Popen(command, cwd=root, text=True, **pipes)  # type: ignore[call-overload]
        assert program.stdout.readline() == "streaming\n"
        server.freeze()
        time.sleep(0.2)
        _, errors = program.communicate("\n", timeout=20)
    assert program.returncode == 0
    assert errors == ""


@needs_server
def test_the_server_of_the_tests_serves_a_video(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", 30, size_wh=(640, 480))
    with RtspServer("--video", str(video)) as server, open_source(server.url()) as source:
        picture = next_frame(source).image
    assert number_in(picture[40:]) in range(30)
    red, blue = picture[300, 100], picture[300, 540]
    assert red[0] > 150 > red[2]
    assert blue[2] > 150 > blue[0]


@needs_server
@pytest.mark.parametrize("method", ["basic", "digest"])
def test_passwords(method: str) -> None:
    options = ("--user", "viewer", "--password", SECRET, *(["--digest"] if method == "digest" else []))
    with RtspServer(*options) as server:
        with open_source(server.url(f"viewer:{SECRET}")) as source:
            assert next_frame(source).size_wh == (640, 480)
            assert SECRET not in source.camera_id
            assert "viewer" not in source.camera_id
        with pytest.raises(SourceError, match="refuses the user name or the password") as wrong:
            open_source(server.url(f"viewer:{SECRET}x"))
        with pytest.raises(SourceError, match=f"type rtsp://USER:PASSWORD@127.0.0.1:{server.port}/cam"):
            open_source(server.url())
        assert SECRET not in str(wrong.value)
        assert "answers, but" in why_no_picture(server.url(f"viewer:{SECRET}"))
        with pytest.raises(SourceError, match="has no stream at /other"):
            open_source(server.url(f"viewer:{SECRET}", "/other"))
    assert not capture_threads()


def test_nobody_listens() -> None:
    port = free_port()
    with pytest.raises(SourceError, match=f"nothing listens on 127.0.0.1 port {port}"):
        open_source(f"rtsp://user:{SECRET}@127.0.0.1:{port}/cam")
    assert not capture_threads()


def test_unknown_host() -> None:
    with pytest.raises(SourceError, match="no host is called no-such-camera"):
        open_source("rtsp://no-such-camera.invalid/cam")


def test_a_password_that_is_not_escaped_is_explained_and_not_shown() -> None:
    with pytest.raises(SourceError, match="%2F for /") as error:
        open_source(f"rtsp://user:{SECRET}/x@127.0.0.1/cam")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(("answer", "reason"), [(b"SSH-2.0-x\r\n\r\n", "does not speak RTSP"), (b"", "did not answer")])
def test_something_else_listens(answer: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                link.sendall(answer)
                done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        assert reason in why_no_picture(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/cam", timeout_s=0.3)
        done.set()
        thread.join()


class _MotionJpeg(BaseHTTPRequestHandler):
    """/video is endless motion JPEG, /clip.mp4 a file, /private wants a password."""

    clip = b""

    def do_GET(self) -> None:
        if self.path == "/clip.mp4":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.clip)))
            self.end_headers()
            self.wfile.write(self.clip)
        elif self.path == "/video":
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            self._stream()
        else:
            self.send_error(401 if self.path == "/private" else 404)

    def _stream(self) -> None:
        for number in itertools.count():
            jpeg = cv2.imencode(".jpg", np.ascontiguousarray(numbered_picture(number % 256)[..., ::-1]))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            try:
                self.wfile.write(head + jpeg + b"\r\n")
            except OSError:
                return
            time.sleep(0.03)

    def log_message(self, *_: object) -> None:
        """Keeps the test's output clean."""


@contextmanager
def http_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _MotionJpeg)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_motion_jpeg_over_http_is_live() -> None:
    with http_server() as root, open_source(f"{root}/video") as source:
        frames = list(itertools.islice(source.frames(), 8))
    assert source.live
    numbers = [number_in(frame.image) for frame in frames]
    assert all(b > a for a, b in itertools.pairwise(numbers))


def test_a_finite_video_over_http_is_read_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_MotionJpeg, "clip", write_video(tmp_path / "clip.avi", 12, codec="MJPG").read_bytes())
    with http_server() as root, open_source(f"{root}/clip.mp4") as source:
        frames = list(source.frames())
    assert not source.live
    assert [number_in(frame.image) for frame in frames] == list(range(12))


@pytest.mark.parametrize(("path", "reason"), [("/private", "asks for a user name"), ("/nothing", "has no stream at")])
def test_http_errors(path: str, reason: str) -> None:
    with http_server() as root, pytest.raises(SourceError, match=reason):
        open_source(root + path)


def test_low_delay_options_do_not_stay_in_the_environment() -> None:
    with pytest.raises(SourceError):
        open_source(f"rtsp://127.0.0.1:{free_port()}/cam")
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ
