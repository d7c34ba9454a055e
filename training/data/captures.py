"""Readers of captured motions: CMU's .asf and .amc, CMU's as exponential maps, and DeepMimic's humanoid.

Each gives `training.data.motions.Motion`s retargeted as rotations. Nothing of these files is part of the project:

* CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu (NSF EIA-0196217): free to use.
* The same as used for motion prediction: text files of 117 numbers a frame, 120 a second, the place of the root and
  38 joints' exponential maps, in the frame of the parent and for row vectors; the first frame is the T-pose.
* DeepMimic (Peng et al. 2018, MIT): JSON, x forward, y up, z to the right; limbs hang at rest.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.frames import Array, exp_so3, from_quat_xyzw, log_so3, normalize, shortest_rotation
from pipeline.types import JOINT, JOINT_NAMES
from training.data.motions import Motion, grounded, placed, without_jumps
from training.random_poses import STRAIGHT_LEG, read_amc, read_asf, world_turns

#: Files kept aside for evaluation, by stem; every file below a folder `test` is, too.
HELD_OUT = ("02_05", "02_09", "03_04", "humanoid3d_cartwheel", "humanoid3d_dance_b", "humanoid3d_getup_faceup")
#: Left out: its root falls over wherever the heading passes 90 degrees.
BROKEN = ("directing_traffic_1",)
#: Metres of a unit of CMU's skeletons, whose lengths are inches times 0.45.
_CMU_M = 0.0254 / 0.45
_CMU_FPS, _EVERY = 120.0, 4
#: The floor of CMU's subjects 01 (a playground) and 03 (uneven terrain) is not flat.
_NOT_LEVEL = ("01", "03")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Path]:
    """A folder with everything in `folder`, its .tar.xz archives unpacked for as long as this is open."""
    archives = sorted(folder.glob("*.tar.*"))
    if not archives:
        yield folder
        return
    with tempfile.TemporaryDirectory() as at:
        for archive in archives:
            with tarfile.open(archive) as tar:
                tar.extractall(at, filter="data")
        yield Path(at)


def read_all(folder: Path) -> Iterator[Motion]:
    """Every motion below `folder`, or in the archives that lie in it. Raises OSError when there is none."""
    found = False
    with opened(folder) as at:
        for reader in (read_cmu, read_expmaps, read_deepmimic):
            for motion in reader(at):
                found = True
                yield from without_jumps(motion)
    if not found:
        raise OSError(
            f"{folder}: expected CMU's SUBJECT/*.amc, ACTIVITY/*.txt of exponential maps or humanoid3d_*.txt, "
            f"or archives of them (.tar.xz); found none."
        )


def read_cmu(folder: Path) -> Iterator[Motion]:
    """SUBJECT/*.amc with SUBJECT/SUBJECT.asf, 30 frames a second."""
    for asf in sorted(folder.rglob("*.asf")):
        bones, parents = read_asf(asf.read_text())
        to_hips = 0.5 * sum(bones[n].direction * bones[n].length for n in ("lhipjoint", "rhipjoint"))
        leg = _CMU_M * sum(bones[n].length for n in ("lfemur", "ltibia"))
        for amc in sorted(asf.parent.glob("*.amc")):
            frames = read_amc(amc.read_text(), _EVERY)
            Rs = world_turns(frames, bones, parents)
            hips = _CMU_M * (np.array([f["root"][:3] for f in frames]) + Rs[:, 0] @ to_hips)
            level = asf.stem not in _NOT_LEVEL
            yield _motion(f"cmu/{amc.stem}", f"cmu_{asf.stem}", Rs, hips, leg, amc, level=level)


#: Parents and offsets (CMU's units) of the 38 joints; LowerBack, Spine .. as in CMU's BVH files.
_JOINTS = str.split(
    "root lhip lfemur ltibia lfoot ltoes lend rhip rfemur rtibia rfoot rtoes rend lowerback upperback thorax lowerneck "
    "neck2 head headend lclavicle lhumerus lradius lhand lfingers lindex lindexend lthumb lthumbend rclavicle rhumerus "
    "rradius rhand rfingers rindex rindexend rthumb rthumbend"
)
_ABOVE = (-1, 0, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 11, 0, 13, 14, 15, 16, 17, 18, 15, 20, 21, 22, 23, 24, 25, 23, 27, 15,
          29, 30, 31, 32, 33, 34, 32, 36)  # fmt: skip
_THIGH, _SHIN = (
    {"l": (2.597, -7.136, 0.0), "r": (-2.595, -7.130, 0.0)},
    {"l": (2.492, -6.848, 0.0), "r": (-2.468, -6.780, 0.0)},
)
_HIPS = np.array([0.0230, -1.8028, 0.6248])
_LEG = _CMU_M * 14.88
#: The joint that turns each of SMPL's; "l" and "r" are put in front where SMPL says left and right.
_TURNS = {
    "pelvis": "root", "spine1": "lowerback", "spine2": "upperback", "spine3": "thorax", "neck": "lowerneck",
    "head": "head", "hip": "femur", "knee": "tibia", "ankle": "foot", "foot": "toes", "collar": "clavicle",
    "shoulder": "humerus", "elbow": "radius", "wrist": "hand", "hand": "fingers",
}  # fmt: skip


def read_expmaps(folder: Path) -> Iterator[Motion]:
    """train/ACTIVITY/*.txt and test/ACTIVITY/*.txt, 30 frames a second."""
    for file in sorted(folder.rglob("*/*.txt")):
        rows = None if file.stem in BROKEN else _numbers(file)
        if rows is None or rows.shape[1] != 117:
            continue
        rows = rows[1::_EVERY]
        # Rotations of row vectors are the transposed of those of columns
        local = exp_so3(-rows[:, 3:].reshape(-1, 38, 3))
        turns = [local[:, 0]]
        for joint in range(1, 38):
            turns.append(turns[_ABOVE[joint]] @ local[:, joint])
        Rs = np.stack([turns[_JOINTS.index(_turning(n))] @ _from_rest(n) for n in JOINT_NAMES], 1)
        hips = _CMU_M * (rows[:, :3] + turns[0] @ _HIPS)
        name = f"expmap/{file.parent.parent.name}/{file.stem}"
        yield _motion(name, file.parent.name, Rs, hips, _LEG, file)


def _numbers(file: Path) -> Array | None:
    try:
        return np.loadtxt(file, delimiter=",", ndmin=2)
    except ValueError:
        return None


def _turning(joint: str) -> str:
    side, _, part = joint.partition("_")
    return f"{side[0]}{_TURNS[part]}" if part else _TURNS[joint]


def _from_rest(joint: str) -> Array:
    """From SMPL's rest to CMU's, whose legs are spread."""
    side, _, part = joint.partition("_")
    sign = np.array([1.0 if side == "left" else -1.0, 1.0, 1.0])
    if part in ("hip", "knee"):
        bone = np.array((_THIGH if part == "hip" else _SHIN)[side[0]])
        return shortest_rotation(normalize(STRAIGHT_LEG * sign), normalize(bone))
    if part in ("ankle", "foot"):
        return shortest_rotation(np.array([0.0, -1.0, 0.0]), normalize(np.array(_SHIN[side[0]])))
    return np.eye(3)


#: p_root = _AXES @ p_deepmimic: its z, to the right, is our -x; its x, forward, our z.
_AXES = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
_HUMANOID_LEG_M = 0.421546 + 0.40987
_LOOPED_S = 5.0


def read_deepmimic(folder: Path) -> Iterator[Motion]:
    """humanoid3d_*.txt; short clips that wrap are repeated, each time from where the last ended."""
    for file in sorted(folder.rglob("humanoid3d_*.txt")):
        data = json.loads(file.read_text())
        frames = np.array(data["Frames"], dtype=float)
        Rs, hips = _humanoid(frames)
        fps = 1.0 / float(np.median(frames[:-1, 0]))
        if data.get("Loop") == "wrap":
            Rs, hips = _repeated(Rs, hips, max(1, round(_LOOPED_S * fps / len(frames))))
        name = file.stem.removeprefix("humanoid3d_")
        yield _motion(f"deepmimic/{name}", "deepmimic", Rs, hips, _HUMANOID_LEG_M, file, fps)


def _humanoid(frames: Array) -> tuple[Array, Array]:
    """Rs_world_joint (T, 24, 3, 3) and the hips' middle (T, 3) of DeepMimic's frames (T, 44)."""

    def turn(at: int) -> Array:
        return _AXES @ from_quat_xyzw(frames[:, [at + 1, at + 2, at + 3, at]]) @ _AXES.T

    def hinge(at: int) -> Array:
        return _AXES @ exp_so3(frames[:, at : at + 1] * np.array([0.0, 0.0, 1.0])) @ _AXES.T

    root = turn(4)
    chest = root @ turn(8)
    neck = chest @ turn(12)
    Rs = np.empty((len(frames), 24, 3, 3))
    half = root @ exp_so3(0.5 * log_so3(np.swapaxes(root, 1, 2) @ chest))
    for name, R in (
        ("pelvis", root),
        ("spine1", half),
        ("spine2", chest),
        ("spine3", chest),
        ("neck", neck),
        ("head", neck),
    ):
        Rs[:, JOINT[name]] = R
    for side, sign, leg, arm in (("right", -1.0, 16, 25), ("left", 1.0, 30, 39)):
        hip = root @ turn(leg)
        knee = hip @ hinge(leg + 4)
        ankle = knee @ turn(leg + 5)
        shoulder = chest @ turn(arm)
        elbow = shoulder @ hinge(arm + 4)
        hang = exp_so3([0.0, 0.0, -sign * np.pi / 2])
        for part, R in (("hip", hip), ("knee", knee), ("ankle", ankle), ("foot", ankle), ("collar", chest),
                        ("shoulder", shoulder @ hang), ("elbow", elbow @ hang), ("wrist", elbow @ hang),
                        ("hand", elbow @ hang)):  # fmt: skip
            Rs[:, JOINT[f"{side}_{part}"]] = R
    return Rs, frames[:, 1:4] @ _AXES.T


def _heading(R: Array) -> Array:
    return exp_so3([0.0, float(np.arctan2(R[0, 2], R[2, 2])), 0.0])


def _repeated(Rs: Array, hips: Array, times: int) -> tuple[Array, Array]:
    """A clip whose last frame is the first of its next round, `times` times."""
    all_Rs, all_hips = [Rs[:-1]], [hips[:-1]]
    turn, shift = np.eye(3), np.zeros(3)
    step = _heading(Rs[-1, 0]) @ _heading(Rs[0, 0]).T
    for _ in range(times - 1):
        shift = shift + turn @ ((hips[-1] - step @ hips[0]) * [1.0, 0.0, 1.0])
        turn = turn @ step
        all_Rs.append(turn @ Rs[:-1])
        all_hips.append(hips[:-1] @ turn.T + shift)
    return np.concatenate(all_Rs), np.concatenate(all_hips)


def _motion(
    name: str, kind: str, Rs: Array, hips: Array, leg: float, file: Path, fps: float = _CMU_FPS / _EVERY,
    level: bool = True,
) -> Motion:  # fmt: skip
    t = grounded(Rs, placed(Rs, hips, leg), fps, level)
    held_out = file.stem in HELD_OUT or "test" in file.parts[-3:]
    return Motion(name, fps, Rs.astype(np.float32), t.astype(np.float32), name.partition("/")[0], kind, held_out)
