"""A webcam through OpenCV's own V4L2 back end, its driver played by `fake_webcam.c`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.programs import run_python
from tests.support.videos import (
    numbered_picture,
)
from tests.support.webcam import build_webcam, webcam_environment, why_no_webcam, write_yuyv

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
