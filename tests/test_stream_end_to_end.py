"""Both demo clips through the whole program and a real socket, against their ground truth.

The bounds leave room above what was measured; a message says what came.
"""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from pipeline.frames import Array, from_quat_xyzw
from pipeline.messages import PoseMessage
from pipeline.types import JOINT
from tests.support.program import DemoRun
from tests.support.truth import CLIPS, ClipTruth, Followed, follow, read_truth

FEET = [JOINT[f"{side}_{part}"] for side in ("left", "right") for part in ("ankle", "foot")]
BENDS = ("left_elbow", "right_elbow", "left_knee", "right_knee")
#: A bend of less than this is not told from the network's noise.
MOVES_RAD = np.radians(40.0)


@pytest.fixture(scope="module")
def one(demo_one: DemoRun) -> tuple[ClipTruth, Followed]:
    clip = read_truth(CLIPS / "demo_one")
    return clip, follow(clip, demo_one.poses)[0]


@pytest.fixture(scope="module")
def two(demo_two: DemoRun) -> tuple[ClipTruth, tuple[Followed, ...]]:
    clip = read_truth(CLIPS / "demo_two")
    return clip, follow(clip, demo_two.poses)


@pytest.fixture(scope="module")
def everybody(one: tuple[ClipTruth, Followed], two: tuple[ClipTruth, tuple[Followed, ...]]) -> list[Followed]:
    return [one[1], *two[1]]


def degrees(radians: Array) -> Array:
    return np.degrees(radians).round(1)


@pytest.mark.parametrize("name", ["demo_one", "demo_two"])
def test_every_frame_arrives_in_order(name: str, request: pytest.FixtureRequest) -> None:
    run: DemoRun = request.getfixturevalue(name)
    clip = read_truth(CLIPS / name)
    assert [pose.index for pose in run.poses] == list(range(clip.n_frames))
    times_s = np.array([pose.t_capture_ns for pose in run.poses]) / 1e9
    np.testing.assert_allclose(times_s, np.arange(clip.n_frames) / clip.fps, atol=1e-3)
    for pose in run.poses:
        assert (pose.v, pose.camera, pose.size_wh) == (1, name.replace("_", "-"), clip.size_wh)
        assert pose.dropped == 0
        assert pose.t_publish_ns > pose.t_grab_ns
        assert {"detect", "landmarks", "calibration", "recovery", "orientation", "smoothing"} <= set(pose.stages_ms)


@pytest.mark.parametrize("name", ["demo_one", "demo_two"])
def test_the_camera_is_calibrated(name: str, request: pytest.FixtureRequest) -> None:
    run: DemoRun = request.getfixturevalue(name)
    clip, final = read_truth(CLIPS / name), run.poses[-1].calibration
    assert final.status == "calibrated"
    off, spread = np.log(final.focal_px / clip.focal_px), final.focal_spread
    assert spread is not None
    assert abs(off) <= 2 * spread, f"focal {final.focal_px:.0f} px, true {clip.focal_px:.0f}, spread {spread:.2f}"
    tilt = clip.gravity_error_rad(from_quat_xyzw(final.quat_world_camera_xyzw))
    spread = final.gravity_spread_rad
    assert spread is not None
    assert tilt <= min(2 * spread, np.radians(8.0)), f"gravity is {degrees(tilt)} degrees off, spread {degrees(spread)}"
    height, spread = final.camera_height_m, final.height_spread_m
    assert height is not None
    assert spread is not None
    assert clip.camera_height_m is not None
    assert abs(height - clip.camera_height_m) <= min(2 * spread, 0.6), (
        f"height {height:.2f} m, true {clip.camera_height_m:.2f}, spread {spread:.2f}"
    )


@pytest.mark.parametrize("name", ["demo_one", "demo_two"])
def test_calibrations_and_states_are_published(name: str, request: pytest.FixtureRequest) -> None:
    run: DemoRun = request.getfixturevalue(name)
    ids = {pose.calibration.id for pose in run.poses}
    assert run.calibrations
    assert {message.calibration.id for message in run.calibrations} <= ids
    samples = [message.calibration.n_samples for message in run.calibrations]
    assert samples == sorted(samples)
    assert [state.state for state in run.states][-1] == "ended"
    assert "running" in {state.state for state in run.states}
    assert run.states[-1].frames == len(run.poses)


def test_people_are_found_and_keep_their_ids(everybody: list[Followed], demo_one: DemoRun, demo_two: DemoRun) -> None:
    names = []
    for person, run in zip(everybody, (demo_one, demo_two, demo_two), strict=True):
        share = len(person.frames) / len(run.poses)
        assert share >= 0.95, f"found in {share:.3f} of the frames"
        (name, times), *others = Counter(person.ids.tolist()).most_common()
        names.append(name)
        assert times >= 0.95 * len(person.frames), f"ids {name}: {times}, {others}"
    assert names[1] != names[2]
    for run, count in ((demo_one, 1), (demo_two, 2)):
        ids = Counter(person.id for pose in run.poses for person in pose.people)
        assert len(ids) == count, f"ids and how often: {ids}"


def test_joints(everybody: list[Followed]) -> None:
    for person in everybody:
        mean_mm = 1e3 * person.joint_errors_m().mean()
        assert mean_mm <= 110.0, f"mean error of the scored joints {mean_mm:.0f} mm"


def test_facing(everybody: list[Followed]) -> None:
    for person in everybody:
        errors = np.abs(person.yaw_errors_rad())
        share = np.mean(errors < np.radians(30.0))
        assert share >= 0.85, f"heading within 30 degrees in {share:.2f} of the frames"
        assert np.median(errors) < np.radians(12.0), f"median {degrees(np.median(errors))} degrees"


def test_left_is_left(everybody: list[Followed]) -> None:
    for person in everybody:
        for part in ("shoulder", "hip", "ankle"):
            share = person.sides_agree(part).mean()
            assert share >= 0.9, f"{part}: {share:.2f}"


def test_elbows_and_knees_bend(everybody: list[Followed]) -> None:
    together = []
    for person in everybody:
        for part in BENDS:
            mine, true = person.bends_rad(part)
            off = np.abs(mine - true).mean()
            assert off < np.radians(20.0), f"{part} is {degrees(off)} degrees off in the mean"
            if np.ptp(true) > MOVES_RAD:
                together.append(np.corrcoef(mine, true)[0, 1])
                assert together[-1] > 0.25, f"{part}: correlation {together[-1]:.2f} of {degrees(np.ptp(true))} degrees"
    assert len(together) >= 6
    assert np.mean(together) > 0.55, f"correlations {np.round(together, 2)}"


def test_the_way_through_the_world(everybody: list[Followed]) -> None:
    """The focal length is a guess, so distances come out too long or too short by its spread, directions do not."""
    for person in everybody:
        mine, true = (p.joints_world_m[person.calibrated, 0] for p in (person, person.truth))
        off = np.linalg.norm(mine - true, axis=1)
        far = np.abs(true[:, 2])
        assert np.median(off / far) < 0.5, f"off by {np.median(off / far):.2f} of the distance"
        sideways = np.abs(mine[:, 0] / mine[:, 2] - true[:, 0] / true[:, 2])
        assert np.median(sideways) < 0.12, f"sideways {np.median(sideways):.3f} rad"
        for axis, least in ((0, 0.9), (2, 0.7)):
            if np.ptp(true[:, axis]) > 1.0:
                together = np.corrcoef(mine[:, axis], true[:, axis])[0, 1]
                assert together > least, f"axis {'xyz'[axis]}: correlation {together:.2f}"


def test_nobody_is_thrown_through_the_world(everybody: list[Followed]) -> None:
    for person in everybody:
        fastest = person.speed_m_s.max()
        assert fastest < 5.0, f"{fastest:.1f} m/s in frame {person.frames[person.speed_m_s.argmax()]}"


def test_feet_are_on_the_floor(everybody: list[Followed]) -> None:
    for person in everybody:
        stands = person.calibrated & person.truth.foot_contact.any(axis=1)
        lowest = person.joints_world_m[stands][:, FEET, 1].min(axis=1)
        true = person.truth.joints_world_m[stands][:, FEET, 1].min(axis=1)
        off = np.median(lowest - true)
        assert abs(off) < 0.10, f"feet {off:+.2f} m off the floor"
        assert np.percentile(np.abs(lowest - true), 90) < 0.25


def test_sitting_down(one: tuple[ClipTruth, Followed]) -> None:
    _, person = one
    true, mine = person.truth.joints_world_m[:, 0, 1], person.joints_world_m[:, 0, 1]
    seated = true < 0.36 * person.truth.stature_m
    upright = person.calibrated & (true > 0.5 * person.truth.stature_m)
    assert seated.sum() > 20
    down, true_down = (np.median(y[upright]) - np.median(y[seated]) for y in (mine, true))
    assert 0.7 * true_down < down < 1.5 * true_down, f"went down {down:.2f} m, truly {true_down:.2f}"
    knee, _ = person.bends_rad("left_knee")
    assert np.median(knee[seated]) < np.median(knee[upright]) - np.radians(40.0)


def test_both_frames_of_a_message_are_one_body(demo_one: DemoRun, demo_two: DemoRun) -> None:
    """p_world = R_world_camera p_camera + t_world_camera, but for what the orientation correction turns and lifts."""
    for pose in demo_one.poses[::25] + demo_two.poses[::25]:
        R = from_quat_xyzw(pose.calibration.quat_world_camera_xyzw)
        for person in pose.people:
            moved = person.joints_camera_m @ R.T + pose.calibration.t_world_camera_m - person.joints_world_m
            assert np.linalg.norm(moved - moved.mean(axis=0), axis=1).max() < 0.25
            assert np.linalg.norm(moved[0]) < 0.6


def test_the_overlay_shows_every_frame(demo_one: DemoRun) -> None:
    clip = read_truth(CLIPS / "demo_one")
    capture = cv2.VideoCapture(str(demo_one.folder / "overlay.mp4"))
    plain = cv2.VideoCapture(str(clip.video))
    count, changed = 0, 0
    while capture.grab() and plain.grab():
        if count % 50 == 0:
            drawn, picture = capture.retrieve()[1], plain.retrieve()[1]
            changed += int(np.mean(np.abs(drawn.astype(int) - picture).max(axis=-1) > 60) > 0.002)
        count += 1
    assert count == clip.n_frames
    assert changed == count // 50


def test_what_was_printed(demo_one: DemoRun) -> None:
    lines = demo_one.finished.output.splitlines()
    seconds = read_truth(CLIPS / "demo_one").n_frames / read_truth(CLIPS / "demo_one").fps
    assert len(lines) == pytest.approx(2 * seconds, abs=3)
    for line in lines:
        assert line.startswith("pose/demo-one ")
        assert "id 1" in line
    assert "1280x720, poses on tcp://127.0.0.1:" in demo_one.finished.errors
    assert "ended after 500 frames" in demo_one.finished.errors
    assert "Recorded 500 frames" in demo_one.finished.errors
    assert "WARNING" not in demo_one.finished.errors


def recorded(run: DemoRun, pose: PoseMessage) -> dict[str, np.ndarray]:
    rows = run.recording["person_frame"] == pose.index
    return {name: run.recording[name][rows] for name in ("person_id", "joints_world_m", "quats_parent_joint_xyzw")}


def test_the_recording_is_what_was_published(demo_one: DemoRun, demo_two: DemoRun) -> None:
    for run in (demo_one, demo_two):
        assert run.recording["index"].tolist() == [pose.index for pose in run.poses]
        status = run.recording["calibration_status"][run.recording["calibration_row"]]
        assert status.tolist() == [pose.calibration.status for pose in run.poses]
        for pose in run.poses:
            rows = recorded(run, pose)
            assert rows["person_id"].tolist() == [person.id for person in pose.people]
            for row, person in enumerate(pose.people):
                for name in ("joints_world_m", "quats_parent_joint_xyzw"):
                    np.testing.assert_array_equal(rows[name][row], getattr(person, name))
