"""The live viewer in a real browser beside a real stream, and its parts alone."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import messages
from pipeline.body import open_body
from pipeline.messages import PersonMessage
from pipeline.types import Frame
from pipeline.viewer_link import small_jpeg
from tests.support.bridge_stream import walk
from tests.support.program import STUCK_S, Listener, Program, load
from tests.support.rtsp import free_port

pytest.importorskip("viser", reason="viser is not installed")

from bridges import viewer
from bridges.viewer_body import shape_of
from bridges.viewer_latency import Ages
from bridges.viewer_mesh import coarse

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
         "--disable-gpu-watchdog"]  # fmt: skip
PATIENCE_MS = 120_000
#: From before the camera's picture, so that nothing but the person moves; the person is left of the panel.
VIEW = "initialCameraPosition=0.6,1.1,-0.6&initialCameraLookAt=0.6,0.85,-3.2"
#: Half of the pixels along each side: Chromium draws them on the CPU here, and says so over the scene.
SCALE, NO_NOTES = 0.5, "[class*=Notification] { display: none !important; }"
#: The part of the page beside the panel, where people are.
SEEN = {"x": 0, "y": 0, "width": 420, "height": 400}


class Browser:
    """A page that shows a running stream, and what it asked for."""

    def __init__(self, page, program: Program, listener: Listener, folder: Path, port: int) -> None:
        self.page, self.program, self.listener, self.folder, self.port = page, program, listener, folder, port
        self.urls: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.urls.append(request.url))
        page.on("websocket", lambda opened: self.urls.append(opened.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def press(self, name: str) -> None:
        """Clicks a button of the panel."""
        self.page.get_by_role("button", name=re.compile(f"^{name}")).click(timeout=PATIENCE_MS)

    def reads(self, text: str) -> str:
        """Waits for a sentence of the stream in the panel; all of it."""
        found = self.page.locator(".answer", has_text=text)
        found.wait_for(timeout=PATIENCE_MS)
        return found.inner_text()

    def bodies(self) -> NDArray[np.bool_]:
        """Where the page is as colourful as bodies are; the room is not."""
        shot = self.page.screenshot(clip=SEEN, timeout=PATIENCE_MS)
        pixels = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        return np.asarray((np.ptp(pixels.astype(int), axis=2) > 90) & (pixels.max(2) > 120))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    folder, port = tmp_path_factory.mktemp("viewer"), free_port()
    program = Program(
        folder, "--source", "demo", "--realtime", "--loop", "--max-people", "1", "--viewer", str(port),
        "--takes", str(folder / "takes"), "--calibration-dir", str(folder / "cache"),
    )  # fmt: skip
    with Listener(program.address, ("pose/",)) as listener, program, playwright.sync_playwright() as started:
        program.until(lambda: "Open http" in program.errors and listener.count(), "page and poses")
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": 760, "height": 400}, device_scale_factor=SCALE)
        shown = Browser(page, program, listener, folder, port)
        page.goto(f"http://127.0.0.1:{port}/?{VIEW}", timeout=PATIENCE_MS)
        page.add_style_tag(content=NO_NOTES)
        yield shown
        chromium.close()


def test_the_page_loads_and_the_body_moves(browser: Browser) -> None:
    browser.page.get_by_text("frames a second").wait_for(timeout=PATIENCE_MS)
    shown: list[NDArray[np.bool_]] = []

    def moved() -> bool:
        bodies = browser.bodies()
        if bodies.sum() > 150:
            shown.append(bodies)
        return len(shown) > 1 and (shown[0] ^ shown[-1]).sum() > 60

    browser.program.until(moved, "body that moves", 2 * STUCK_S)
    # all of somebody who stands: taller than wide
    rows, columns = np.nonzero(shown[-1])
    assert np.ptp(np.percentile(rows, [2, 98])) > 1.3 * np.ptp(np.percentile(columns, [10, 90]))
    assert browser.errors == []


def test_buttons_act_on_the_stream(browser: Browser) -> None:
    browser.press("Set person height")
    assert browser.reads("tall now").endswith("People are 1.75 m tall now.")

    def height(person: PersonMessage) -> float:
        return float(open_body().shaped(person.betas).height_m)

    def tall() -> bool:
        people = browser.listener.poses[-1].people
        return bool(people) and abs(height(people[0]) - 1.75) < 0.01

    browser.program.until(tall, "people of that height")
    browser.program.until(lambda: browser.listener.poses[-1].calibration.n_samples > 3, "samples")
    count = browser.listener.count()
    browser.press("Recalibrate")
    browser.reads("Calibrating again from nothing.")
    browser.program.until(
        lambda: any(pose.calibration.n_samples <= 1 for pose in browser.listener.poses[count:]), "a new calibration"
    )
    browser.page.get_by_role("slider").first.press("ArrowRight")
    browser.reads("Smoothing is high now.")


def test_a_recording_is_made_from_the_page(browser: Browser) -> None:
    browser.press("Record")
    browser.reads("Recording to ")
    count = browser.listener.count()
    browser.program.until(lambda: browser.listener.count() > count + 3, "poses")
    browser.press("Stop take-1.npz")
    said = re.search(r"Recorded (\d+) frames", browser.reads("Recorded "))
    assert said is not None
    path = browser.folder / "takes" / "take-1.npz"
    browser.program.until(path.exists, "file")
    assert len(load(path)["index"]) == int(said[1]) > 3


def test_no_request_leaves_the_machine(browser: Browser) -> None:
    assert browser.page.url in browser.urls
    assert any(url.startswith(f"ws://127.0.0.1:{browser.port}") for url in browser.urls)
    hosts = {urlsplit(url.removeprefix("blob:")).hostname for url in browser.urls if not url.startswith("data:")}
    assert hosts == {"127.0.0.1"}


def test_pages_of_other_sites_are_refused(browser: Browser) -> None:
    import viser
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect
    from websockets.typing import Origin, Subprotocol

    url, version = f"ws://127.0.0.1:{browser.port}", [Subprotocol(f"viser-v{viser.__version__}")]
    for origin in ("http://example.org", f"http://127.0.0.1.example.org:{browser.port}", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(url, origin=Origin(origin), subprotocols=version)
    with connect(url, origin=Origin(f"http://localhost:{browser.port}"), subprotocols=version) as opened:
        assert opened.recv(timeout=20)


def test_the_viewer_ends_with_its_stream(browser: Browser) -> None:
    browser.program.end()

    def free() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", browser.port)) != 0

    for _ in range(200):
        if free():
            break
        browser.page.wait_for_timeout(50)
    assert free()


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert viewer.main(["--port", str(port)]) == 2
    assert f"Port {port} is in use by another program" in capsys.readouterr().err


def test_pictures_need_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert viewer.main(["--pictures", "here"]) == 2
    assert "--pictures here: expected an address" in capsys.readouterr().err


def person() -> PersonMessage:
    """Somebody on the wire."""
    data = messages.encode("pose", messages.pose_message(walk(3), 0, 0))
    message = messages.decode(data)[1]
    assert isinstance(message, messages.PoseMessage)
    return message.people[0]


def test_a_body_has_the_shape_that_came_or_the_size_of_another_model() -> None:
    import msgspec

    body, sent = open_body(), person()
    assert shape_of(body, sent).betas == pytest.approx(sent.betas)
    other = msgspec.structs.replace(sent, betas=np.full(10, 2.5), joints_world_m=1.2 * sent.joints_world_m)
    ours = float(shape_of(body, other).height_m)
    assert ours == pytest.approx(1.2 * float(body.shaped(sent.betas).height_m), rel=0.05)


def test_the_coarse_skin_is_the_body_with_fewer_faces() -> None:
    body = open_body()
    skin = coarse(body)
    assert len(skin.kept) < 0.4 * len(body.vertices)
    assert len(skin.faces) < 0.4 * len(body.faces)
    assert skin.faces.max() == len(skin.kept) - 1
    assert skin.weights.sum(1) == pytest.approx(1.0)
    corners = body.vertices[skin.kept][skin.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # the volume inside (divergence theorem) is the body's, so faces look outward and nothing is missing
    volume = np.einsum("fi,fi->", corners[:, 0], normals) / 6
    full = body.vertices[body.faces]
    whole = np.einsum("fi,fi->", full[:, 0], np.cross(full[:, 1] - full[:, 0], full[:, 2] - full[:, 0])) / 6
    assert volume == pytest.approx(whole, rel=0.05)
    assert np.abs(np.ptp(body.vertices[skin.kept], axis=0) - np.ptp(body.vertices, axis=0)).max() < 0.02


def test_ages_are_of_the_capture_and_for_files_of_the_picture() -> None:
    import msgspec

    ages, second = Ages(), 1_000_000_000
    message = messages.pose_message(walk(0), 0, 0)
    now = 7_200 * second
    for k in range(10):
        shown = msgspec.structs.replace(message, t_capture_ns=now - 50_000_000 - k * 1_000_000)
        ages.add(shown, now + k * 100_000_000)
    times, median, worst = ages.curves()
    assert times.tolist() == [-0.5, 0.0]
    assert worst[-1] >= median[-1] > median[0] > 50
    assert ages.since == "capture"
    ages.add(msgspec.structs.replace(message, t_capture_ns=0, t_grab_ns=now - 20_000_000), now)
    assert (ages.since, ages.newest_ms) == ("picture", 20.0)


def test_the_module_is_light_to_import() -> None:
    from tests.support.program import run

    done = run("-c", "import sys, bridges.viewer; sys.exit('viser' in sys.modules)")
    assert done.status == 0, done.errors


@pytest.mark.parametrize(
    ("width", "height", "small"), [(1280, 720, (384, 216)), (3840, 2160, (384, 216)), (200, 300, (200, 300))]
)
def test_pictures_are_small_whole_and_of_the_right_colours(width: int, height: int, small: tuple[int, int]) -> None:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, :, 0] = 200
    image[height // 2 :, :, 2] = 200
    shown = cv2.imdecode(np.frombuffer(small_jpeg(Frame("cam", 0, 0, 0, 0, image)), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert shown is not None
    assert (shown.shape[1], shown.shape[0]) == small
    assert np.abs(shown[5, 5].astype(int) - [200, 0, 0]).max() < 12
    assert np.abs(shown[-5, -5].astype(int) - [0, 0, 200]).max() < 12
