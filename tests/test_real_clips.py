"""A few real clips through the stages, against the true camera; they are not part of this project."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import run_stream
from pipeline.body import open_body
from pipeline.options import parser
from pipeline.source import open_source
from pipeline.types import FrameResult
from tests.support.truth import ClipTruth, read_truth

CLIPS = Path(os.environ.get("WHMR_CLIPS") or Path(__file__).parents[2] / "shared" / "clips") / "clips_gt"
#: Clip, and how much of it, seconds; the second is no longer.
PLAYED = {"zju_feng_cam1": 10.0, "p2s_beam_cam4": 1.6}
#: Long enough to see somebody from several sides.
SETTLED_S = 5.0

pytestmark = pytest.mark.skipif(
    not all((CLIPS / name / "video.mp4").is_file() for name in PLAYED),
    reason="the real clips are not here; WHMR_CLIPS names their folder",
)


@pytest.fixture(scope="module", params=PLAYED)
def played(request: pytest.FixtureRequest) -> tuple[ClipTruth, list[FrameResult]]:
    clip = read_truth(CLIPS / request.param)
    options = parser().parse_args(["--source", str(clip.video)])
    results = []
    with ExitStack() as stack:
        detector = run_stream.open_detector(options, stack)
        source = stack.enter_context(open_source(options.source))
        trained = run_stream.open_trained(options, stack)
        stream = run_stream.open_stream(options, source, detector, open_body(options.body), None, trained)
        for frame in source.frames():
            results.append(stream.process(frame))
            if frame.t_capture_ns > PLAYED[request.param] * 1e9:
                break
    assert stream.bad_frames == 0
    return clip, results


def test_the_person_is_found(played: tuple[ClipTruth, list[FrameResult]]) -> None:
    _, results = played
    share = np.mean([any(not person.predicted for person in result.people) for result in results])
    assert share >= 0.95, f"found in {share:.3f} of the frames"


def test_the_camera_is_calibrated(played: tuple[ClipTruth, list[FrameResult]]) -> None:
    clip, results = played
    final = results[-1].calibration
    short = results[-1].t_capture_ns <= SETTLED_S * 1e9
    assert final.status == "calibrated" or (short and final.status == "calibrating")
    off = np.log(final.K[0, 0] / clip.focal_px)
    assert abs(off) <= 2 * final.focal_spread, f"focal {final.K[0, 0]:.0f} px, true {clip.focal_px:.0f}"
    tilt = np.degrees(clip.gravity_error_rad(final.R_world_camera))
    assert tilt <= 10.0, f"gravity is {tilt:.1f} degrees off"


def test_the_person_stands_on_the_floor(played: tuple[ClipTruth, list[FrameResult]]) -> None:
    """Real people stand here: the head is a body's length above the floor, the lowest joint near it."""
    _, results = played
    people = [result.people[0] for result in results if result.people and result.calibration.camera_height_m]
    assert people
    heights = np.stack([person.world.joints_world_m[:, 1] for person in people])
    assert abs(np.median(heights.min(axis=1))) < 0.15
    assert 1.2 < np.median(heights.max(axis=1)) < 2.0
