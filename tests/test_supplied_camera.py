"""What the user says of the camera and the people, through the stages of the whole program, against the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest

import run_stream
from pipeline.body import open_body
from pipeline.clock import StageClock
from pipeline.messages import PoseMessage, pose_message
from pipeline.options import parser
from pipeline.source import open_source
from pipeline.types import Detection, Frame
from tests.support.truth import CLIPS, ClipTruth, Followed, follow, read_truth

#: He walks up, turns and walks away: enough to tell a right scale from a wrong one.
FRAMES = 300
CALIBRATED = 180


class Replay:
    """A detector that says again what the real one said of each frame, so that the networks run once for all tests."""

    def __init__(self, said: list[tuple[Detection, ...]]) -> None:
        self._said = said

    def __call__(self, frame: Frame, clock: StageClock) -> tuple[Detection, ...]:
        return self._said[frame.index]


@pytest.fixture(scope="module")
def clip() -> ClipTruth:
    return read_truth(CLIPS / "demo_one")


@pytest.fixture(scope="module")
def seen() -> Iterator[tuple[list[Frame], Replay]]:
    with ExitStack() as stack:
        detector = run_stream.open_detector(parser().parse_args(["--source", "demo"]), stack)
        source = stack.enter_context(open_source("demo"))
        frames, said = [], []
        blank = np.zeros((*source.size_wh[::-1], 3), np.uint8)
        for frame in source.frames():
            said.append(detector(frame, StageClock()))
            frames.append(dataclasses.replace(frame, image=blank))
            if len(frames) == FRAMES:
                break
        yield frames, Replay(said)


def poses(seen: tuple[list[Frame], Replay], *arguments: str) -> list[PoseMessage]:
    options = parser().parse_args(["--source", "demo", *arguments])
    with open_source("demo") as source:
        stream = run_stream.open_stream(options, source, seen[1], open_body(options.body))
    return [pose_message(stream.process(frame), 0, 0) for frame in seen[0]]


@pytest.fixture(scope="module")
def unaided(clip: ClipTruth, seen: tuple[list[Frame], Replay]) -> Followed:
    return follow(clip, poses(seen))[0]


def place_error_m(person: Followed) -> float:
    """Mean distance of the pelvis in the camera frame from the true one, once the camera had time to be learnt."""
    off = person.joints_camera_m[:, 0] - person.truth.joints_camera_m[:, 0]
    return float(np.linalg.norm(off[CALIBRATED:], axis=1).mean())


def write_opencv(path: Path, clip: ClipTruth) -> Path:
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for name, value in (("image_width", clip.size_wh[0]), ("image_height", clip.size_wh[1])):
        storage.write(name, value)
    storage.write("camera_matrix", clip.K)
    storage.write("distortion_coefficients", np.zeros((1, 5)))
    storage.release()
    return path


def write_ros(path: Path, clip: ClipTruth) -> Path:
    numbers = ", ".join(str(value) for value in clip.K.ravel())
    path.write_text(
        f"image_width: {clip.size_wh[0]}\nimage_height: {clip.size_wh[1]}\ncamera_name: demo\n"
        f"camera_matrix:\n  rows: 3\n  cols: 3\n  data: [{numbers}]\ndistortion_model: plumb_bob\n"
        "distortion_coefficients:\n  rows: 1\n  cols: 5\n  data: [0, 0, 0, 0, 0]\n"
    )
    return path


@pytest.mark.parametrize("how", ["--focal", "--fov", "opencv", "ros"])
def test_a_known_camera(
    how: str, clip: ClipTruth, seen: tuple[list[Frame], Replay], unaided: Followed, tmp_path: Path
) -> None:
    fov_deg = np.degrees(2 * np.arctan(clip.size_wh[0] / 2 / clip.K[0, 0]))
    given = {
        "--focal": lambda: ["--focal", str(clip.focal_px)],
        "--fov": lambda: ["--fov", str(fov_deg)],
        "opencv": lambda: ["--calibration", str(write_opencv(tmp_path / "camera.yml", clip))],
        "ros": lambda: ["--calibration", str(write_ros(tmp_path / "camera_info.yaml", clip))],
    }[how]()
    made = poses(seen, *given)
    for pose in made:
        assert pose.calibration.status == "supplied"
        np.testing.assert_allclose(pose.calibration.K, clip.K, atol=0.02)
    person = follow(clip, made)[0]
    before, after = place_error_m(unaided), place_error_m(person)
    # He is enough to find the focal length by, so that knowing it gains little
    assert after < min(0.35, 1.05 * before), f"off by {after:.2f} m, by {before:.2f} m without the focal length"
    height = made[-1].calibration.camera_height_m
    assert height == pytest.approx(clip.camera_height_m, abs=0.3)


def test_a_known_person(clip: ClipTruth, seen: tuple[list[Frame], Replay], unaided: Followed) -> None:
    stature = clip.people[0].stature_m
    made = follow(clip, poses(seen, "--height", str(stature)))[0]
    for person, within in ((made, 0.04), (unaided, 0.12)):
        mine, true = (
            np.linalg.norm(np.diff(joints[:, [1, 4, 7]], axis=1), axis=2).sum(axis=1)
            for joints in (person.joints_camera_m, person.truth.joints_camera_m)
        )
        assert np.median(mine / true) == pytest.approx(1.0, abs=within), f"legs of {np.median(mine):.3f} m"
    joint_errors = [p.joint_errors_m().mean() for p in (made, unaided)]
    assert joint_errors[0] < joint_errors[1] + 0.005


def test_a_known_camera_and_a_known_person(
    clip: ClipTruth, seen: tuple[list[Frame], Replay], unaided: Followed
) -> None:
    given = ["--height", str(clip.people[0].stature_m), "--focal", str(clip.focal_px)]
    person = follow(clip, poses(seen, *given))[0]
    before, after = place_error_m(unaided), place_error_m(person)
    assert after < 0.25, f"off by {after:.2f} m, by {before:.2f} m with neither"
    world = np.linalg.norm(person.joints_world_m[CALIBRATED:, 0] - person.truth.joints_world_m[CALIBRATED:, 0], axis=1)
    assert np.median(world) < 0.3, f"off by {np.median(world):.2f} m in the world"


def test_a_taller_person_is_farther_away(clip: ClipTruth, seen: tuple[list[Frame], Replay]) -> None:
    small, tall = (
        follow(clip, poses(seen, "--height", height, "--focal", str(clip.focal_px)))[0] for height in ("1.5", "1.8")
    )
    ratio = tall.joints_camera_m[:, 0, 2] / small.joints_camera_m[:, 0, 2]
    assert np.median(ratio) == pytest.approx(1.8 / 1.5, rel=0.02)
