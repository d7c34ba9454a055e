"""The committed demo clips: video and ground truth agree with each other and with the frames page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.frames import Array, exp_so3, pitch_roll_rad, project
from pipeline.types import JOINT, JOINT_NAMES, JOINT_PARENTS

CLIPS = Path(__file__).parents[1] / "benchmarks" / "clips"
PEOPLE = [("demo_one", "joints.npz"), ("demo_two", "joints_0.npz"), ("demo_two", "joints_1.npz")]
#: p_world = R_WORLD_TRUTH @ p_truth: y up from z up.
R_WORLD_TRUTH: Array = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def camera(clip: str) -> dict[str, Any]:
    return json.loads((CLIPS / clip / "camera.json").read_text())


def truth(clip: str, file: str) -> dict[str, np.ndarray]:
    with np.load(CLIPS / clip / file) as z:
        return {k: z[k] for k in z.files}


def frames(clip: str, every: int) -> list[tuple[int, np.ndarray]]:
    capture = cv2.VideoCapture(str(CLIPS / clip / "video.mp4"))
    out: list[tuple[int, np.ndarray]] = []
    k = 0
    while capture.grab():
        if k % every == 0:
            out.append((k, capture.retrieve()[1]))
        k += 1
    capture.release()
    return out


@pytest.mark.parametrize("clip", ["demo_one", "demo_two"])
def test_video_is_what_camera_json_says(clip: str) -> None:
    record = camera(clip)
    capture = cv2.VideoCapture(str(CLIPS / clip / "video.mp4"))
    size = [int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
    assert size == record["image_size"]
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(record["fps"])
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
    assert code in (b"h264", b"avc1")
    count = 0
    while capture.grab():
        count += 1
    assert count == record["n_frames"]
    assert (CLIPS / clip / "video.mp4").stat().st_size <= 1_500_000


def test_all_clips_stay_small() -> None:
    assert sum(f.stat().st_size for f in CLIPS.rglob("*") if f.is_file()) <= 3_500_000


@pytest.mark.parametrize("clip", ["demo_one", "demo_two"])
def test_camera_is_upright_and_at_its_height(clip: str) -> None:
    record = camera(clip)
    R, t = np.array(record["R_world_to_cam"]), np.array(record["t_world_to_cam_m"])
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1.0)
    np.testing.assert_allclose(R[:, 2], record["up_in_camera"], atol=1e-12)
    pitch, roll = np.degrees(pitch_roll_rad(record["up_in_camera"]))
    assert (pitch, roll) == pytest.approx((record["pitch_down_deg"], record["roll_deg"]), abs=1e-9)
    np.testing.assert_allclose(-R.T @ t, record["camera_center_world_m"], atol=1e-12)
    # the heading is the camera's own: it looks along +y
    assert R[2, 0] == pytest.approx(0.0, abs=1e-12)
    assert R[2, 1] > 0


@pytest.mark.parametrize(("clip", "file"), PEOPLE)
def test_bones_keep_their_lengths_and_follow_the_rotations(clip: str, file: str) -> None:
    z = truth(clip, file)
    J = z["smpl_joints"].astype(float)
    assert tuple(z["smpl_names"]) == JOINT_NAMES
    turns = exp_so3(z["smpl_rotvecs"])
    world = [turns[:, 0]]
    for j in range(1, 24):
        p = JOINT_PARENTS[j]
        bone = np.einsum("tba,tb->ta", world[p], J[:, j] - J[:, p])
        assert np.abs(bone - bone.mean(0)).max() < 1e-4, JOINT_NAMES[j]
        world.append(world[p] @ turns[:, j])
    # the mean bone of the left arm points to +x in the T-pose
    p, j = JOINT["left_elbow"], JOINT["left_wrist"]
    bone = np.einsum("tba,tb->ta", world[p], J[:, j] - J[:, p]).mean(0)
    np.testing.assert_allclose(bone / np.linalg.norm(bone), [1, 0, 0], atol=1e-3)


@pytest.mark.parametrize(("clip", "file"), PEOPLE)
def test_planted_feet_do_not_move_and_nothing_is_below_the_floor(clip: str, file: str) -> None:
    z = truth(clip, file)
    J, contact = z["smpl_joints"].astype(float), z["foot_contact"]
    assert contact.shape == (len(J), 2)
    assert 0.3 < contact.mean() < 0.97
    for f, side in enumerate(("left", "right")):
        both = contact[1:, f] & contact[:-1, f]
        for name in ("ankle", "foot"):
            p = J[:, JOINT[f"{side}_{name}"]]
            assert np.linalg.norm(np.diff(p, axis=0), axis=1)[both].max() < 1e-4
            assert np.ptp(p[contact[:, f], 2]) < 1e-4
    assert z["joints"][..., 2].min() > 0.0
    assert not contact.all(axis=1).all()


@pytest.mark.parametrize(("clip", "file"), PEOPLE)
def test_people_move_like_people(clip: str, file: str) -> None:
    z, fps = truth(clip, file), camera(clip)["fps"]
    J = z["smpl_joints"].astype(float)
    speed = np.linalg.norm(np.diff(J, axis=0), axis=-1) * fps
    assert speed[:, 0].max() < 2.2
    assert speed.max() < 12.0
    assert np.linalg.norm(np.diff(J[:, 0], 2, axis=0), axis=-1).max() * fps**2 < 15.0
    assert 1.4 < float(z["stature_m"]) < 2.0
    head = J[:, JOINT["head"], 2]
    assert head.max() < float(z["stature_m"]) + 0.03


@pytest.mark.parametrize(("clip", "file"), PEOPLE)
def test_truth_lies_where_the_video_shows_the_person(clip: str, file: str) -> None:
    """A person differs from the empty room, which is the median of all frames, near its projected joints."""
    record, z = camera(clip), truth(clip, file)
    K, R, t = (np.array(record[k]) for k in ("K", "R_world_to_cam", "t_world_to_cam_m"))
    some = frames(clip, 20)
    room = np.median([f for _, f in some], axis=0)
    names = [JOINT[n] for n in ("pelvis", "spine2", "left_knee", "right_knee", "left_elbow", "right_elbow", "head")]
    hit, miss, wide = 0, 0, record["image_size"][0]
    for k, image in some:
        changed = cv2.blur(np.abs(image.astype(float) - room).max(-1), (7, 7)) > 14
        uv = project(z["smpl_joints"][k, names] @ R.T + t, K).round().astype(int)
        inside = ((uv >= 0) & (uv < record["image_size"])).all(1)
        assert inside.all()
        hit += int(changed[uv[:, 1], uv[:, 0]].sum())
        miss += int(changed[uv[:, 1], (uv[:, 0] + wide // 3) % wide].sum())
    total = len(some) * len(names)
    assert hit > 0.85 * total
    assert miss < 0.45 * total


def test_two_people_cross_twice_and_one_sits_down() -> None:
    record = camera("demo_two")
    R, t = np.array(record["R_world_to_cam"]), np.array(record["t_world_to_cam_m"])
    a, b = (truth("demo_two", f"joints_{i}.npz")["smpl_joints"][:, 0] @ R.T + t for i in (0, 1))
    order = np.sign(a[:, 0] / a[:, 2] - b[:, 0] / b[:, 2])
    assert np.count_nonzero(np.diff(order[order != 0])) == 2
    one = truth("demo_one", "joints.npz")
    pelvis, stature = one["smpl_joints"][:, 0, 2], float(one["stature_m"])
    assert pelvis.max() > 0.50 * stature
    seated = pelvis < 0.34 * stature
    assert seated.sum() > camera("demo_one")["fps"]
    front = (R_WORLD_TRUTH @ exp_so3(one["smpl_rotvecs"][:, 0]))[:, :, 2]
    assert front[0, 2] > 0.9, "begins facing the camera"
    assert front[:, 2].min() < -0.5, "turns its back to the camera"
