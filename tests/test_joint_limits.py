"""Knees and elbows do not bend the wrong way, and what they can do is left alone."""

import numpy as np
import pytest

from pipeline.body import BodyModel
from pipeline.frames import angle_between, exp_so3
from pipeline.joint_limits import within_limits
from pipeline.types import JOINT

BODY = BodyModel.load().shaped(np.zeros(10))


def frames_of(**turns_deg) -> np.ndarray:
    """Rotations (1, 24, 3, 3) of a body in the T-pose but for the joints named."""
    Rs = np.tile(np.eye(3), (23, 1, 1))
    for name, turn in turns_deg.items():
        Rs[JOINT[name] - 1] = exp_so3(np.radians(turn))
    return BODY.posed(exp_so3([0.3, -1.0, 0.2]), np.zeros(3), Rs).Rs_frame_joint[None]


def bend_deg(Rs: np.ndarray, joint: str, parent: str) -> float:
    return float(np.degrees(angle_between(Rs[0, JOINT[parent]], Rs[0, JOINT[joint]])))


@pytest.mark.parametrize(
    "pose",
    [
        {},
        {"left_knee": (120.0, 5.0, 3.0), "right_knee": (2.0, 0.0, 0.0)},
        {"left_elbow": (40.0, -130.0, 20.0), "right_elbow": (-60.0, 90.0, 30.0)},
    ],
)
def test_what_joints_can_do_is_left_alone(pose):
    Rs = frames_of(**pose)
    assert within_limits(Rs) is Rs


@pytest.mark.parametrize(
    ("joint", "parent", "turn"),
    [
        ("left_knee", "left_hip", (-60.0, 0.0, 0.0)),
        ("right_knee", "right_hip", (-90.0, 0.0, 0.0)),
        ("left_elbow", "left_shoulder", (0.0, 70.0, 0.0)),
        ("right_elbow", "right_shoulder", (0.0, -70.0, 0.0)),
    ],
)
def test_what_bends_the_wrong_way_is_straightened(joint, parent, turn):
    Rs = frames_of(**{joint: turn})
    limited = within_limits(Rs)
    assert bend_deg(limited, joint, parent) < 10.0
    others = [j for j in range(24) if j != JOINT[joint]]
    assert np.allclose(limited[:, others], Rs[:, others])
    assert np.allclose(limited @ np.swapaxes(limited, -1, -2), np.eye(3))


def test_a_knee_does_not_bend_sideways():
    assert bend_deg(within_limits(frames_of(left_knee=(0.0, 0.0, 60.0))), "left_knee", "left_hip") == pytest.approx(
        25.0
    )
