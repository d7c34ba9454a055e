"""Ground truth of the demo clips, in the format of benchmarks/clips/README.md."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.demo_motion import Motion
from benchmarks.demo_person import Person
from benchmarks.render import View
from pipeline.body import PosedBody
from pipeline.frames import Array, log_so3, pitch_roll_rad
from pipeline.types import JOINT, JOINT_NAMES, LANDMARK

#: p_truth = R_TRUTH_WORLD @ p_world: the files' world has z up.
R_TRUTH_WORLD: Array = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def truth_arrays(person: Person, motion: Motion, posed: PosedBody) -> dict[str, Any]:
    """Ground truth of one person over (T) frames, in the files' z-up world."""
    J, L = posed.joints, posed.landmarks
    points = {"pelvis": 0.5 * (J[:, JOINT["left_hip"]] + J[:, JOINT["right_hip"]]), "neck": J[:, JOINT["neck"]]}
    points["head"] = 0.5 * (L[:, LANDMARK["left_ear"]] + L[:, LANDMARK["right_ear"]])
    points["nose"] = L[:, LANDMARK["nose"]]
    for side, s in (("right", "r"), ("left", "l")):
        for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"):
            points[f"{s}_{part}"] = J[:, JOINT[f"{side}_{part}"]]
        points[f"{s}_heel"] = L[:, LANDMARK[f"{side}_heel"]]
        foot = JOINT[f"{side}_foot"]
        for toe in ("bigtoe", "smalltoe"):
            offset = person.toes[f"{side}_{toe}"] - person.body.joints[foot]
            points[f"{s}_{toe}"] = J[:, foot] + posed.Rs_frame_joint[:, foot] @ offset
    legs = [f"{s}_{p}" for s in "rl" for p in ("hip", "knee", "ankle", "heel", "bigtoe", "smalltoe")]
    arms = [f"{s}_{p}" for s in "rl" for p in ("shoulder", "elbow", "wrist")]
    names = ["pelvis", *legs, "neck", "head", "nose", *arms]
    joints = np.stack([points[n] for n in names], 1) @ R_TRUTH_WORLD.T
    turns = np.concatenate([(R_TRUTH_WORLD @ motion.R_world_root)[:, None], motion.Rs_parent_joint], 1)
    return {
        "joints": joints.astype(np.float32),
        "conf": np.ones(joints.shape[:2], np.float32),
        "names": np.array(names),
        "smpl_joints": (J @ R_TRUTH_WORLD.T).astype(np.float32),
        "smpl_names": np.array(JOINT_NAMES),
        "smpl_rotvecs": log_so3(turns).astype(np.float32),
        "foot_contact": motion.foot_contact,
        "stature_m": np.float64(person.stature_m),
    }


def camera_record(view: View, fps: int, n_frames: int, statures_m: list[float], notes: str) -> dict[str, Any]:
    """The camera.json of a clip."""
    w, h = view.size_wh
    R = view.R_camera_world @ R_TRUTH_WORLD.T
    f = float(view.K[0, 0])
    pitch, roll = np.degrees(pitch_roll_rad(R[:, 2]))
    return {
        "image_size": [w, h],
        "fps": float(fps),
        "n_frames": n_frames,
        "K": view.K.tolist(),
        "dist": [0.0] * 5,
        "R_world_to_cam": R.tolist(),
        "t_world_to_cam_m": view.t_camera_world.tolist(),
        "static_camera": True,
        "people_with_gt": len(statures_m),
        "stature_m": [round(s, 4) for s in statures_m],
        "hfov_deg": float(np.degrees(2 * np.arctan(w / 2 / f))),
        "vfov_deg": float(np.degrees(2 * np.arctan(h / 2 / f))),
        "focal_over_diag": float(f / np.hypot(w, h)),
        "up_in_camera": R[:, 2].tolist(),
        "pitch_down_deg": round(float(pitch), 9),
        "roll_deg": round(float(roll), 9),
        "up_axis_world": [0, 0, 1],
        "camera_center_world_m": [0.0, 0.0, float(view.place[1])],
        "usable_for": ["focal", "gravity", "camera height", "MPJPE", "world root trajectory", "foot contact"],
        "notes": notes,
    }
