"""AMASS-style npz (SMPL+H): one person a file, z up, metres, axis-angle in radians.

    poses (T, 156)   52 joints x 3: root, SMPL's joints 1..21, then 30 finger joints, which are zeros (flat hands)
    trans (T, 3)     betas (16,)   dmpls (T, 8)   gender "neutral"   mocap_framerate int

The world is turned by (x, y, z) -> (x, -z, y), so somebody who faces the camera looks along -y. SMPL puts the pelvis
at `trans + J0(betas)`, J0 being where the model has it at rest.

* With `--body smpl=FILE`, `betas` are that model's: those of the stream when it ran with the model, else those with the
  nearest bones. `trans` is exact.
* Without it `betas` are zeros, because the stream's shape components are another body's, and `trans` is the pelvis
  joint: in an SMPL viewer everything stands J0 (about 0.22 m along y) from where it was.

`joints_m` (T, 24, 3) are the joints in the same z-up world, `joint_offsets_m` (24, 3) the skeleton they belong to.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bridges.formats.skin import betas_on
from bridges.motion import Scene
from pipeline import frames
from pipeline.body import open_body
from pipeline.types import JOINT_NAMES

_JOINTS = 52
_BETAS = 16


def write(path: Path, scene: Scene) -> None:
    """Writes the scene's only take. Raises ValueError for a rate that is no whole number: the format has no other."""
    if scene.fps != round(scene.fps):
        raise ValueError(f"AMASS keeps a whole number of frames a second, got {scene.fps:g}: type --fps 30.")
    (take,) = scene.takes
    motion = take.z_up()
    turns = frames.log_so3(motion.Rs_parent_joint)
    poses = np.zeros((len(motion), _JOINTS, 3))
    poses[:, :22] = turns[:, :22]
    betas, trans = np.zeros(_BETAS), motion.t_world_root_m
    if scene.body != "default":
        model = open_body(scene.body)
        shape = betas_on(model, motion)
        betas[: len(shape)] = shape
        trans = trans - model.shaped(shape).joints_rest[0]
    with open(path, "wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            poses=poses.reshape(len(motion), -1),
            trans=trans,
            betas=betas,
            dmpls=np.zeros((len(motion), 8)),
            gender=np.array("neutral"),
            mocap_framerate=np.array(round(scene.fps)),
            joint_names=np.array(JOINT_NAMES),
            joints_m=motion.joints_world_m,
            joint_offsets_m=motion.offsets_m,
        )
