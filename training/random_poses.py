"""Random human poses for renders: procedural ones around what people do, and frames of CMU's motion capture.

The motions of the CMU Graphics Lab (mocap.cs.cmu.edu, free to use; NSF EIA-0196217) are not part of the project:
`CmuPoses.read` takes a folder of .asf and .amc files when there is one, otherwise everything is procedural.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.frames import Array, exp_so3, log_so3, normalize, shortest_rotation
from pipeline.types import JOINT, JOINT_NAMES, JOINT_PARENTS

_SIDES = (("left", 1.0), ("right", -1.0))


@dataclass(frozen=True, eq=False)
class Pose:
    """kind names what it is; R_world_root (3, 3) with the heading still free; Rs_parent_joint (23, 3, 3)."""

    kind: str
    R_world_root: Array
    Rs_parent_joint: Array


KINDS = ("stand", "walk", "reach", "sit", "bend", "squat", "step", "free")


def procedural(rng: np.random.Generator, kind: str | None = None) -> Pose:
    """A pose of `kind` (see KINDS; None draws one). Joint angles stay within what people can do."""
    kind = str(rng.choice(KINDS)) if kind is None else kind
    Rs = np.tile(np.eye(3), (24, 1, 1))
    lean = np.radians(rng.normal(3, 5))
    flex, knees = {
        "walk": _stride,
        "sit": lambda r: (np.radians(r.uniform(65, 105) + r.normal(0, 8, 2)), np.radians(r.uniform(50, 110, 2))),
        "squat": lambda r: (np.radians(r.uniform(30, 110) + r.normal(0, 5, 2)), np.radians(r.uniform(50, 125, 2))),
        "bend": lambda r: (np.radians(r.uniform(10, 60) + r.normal(0, 4, 2)), np.radians(r.uniform(0, 35, 2))),
        "step": lambda r: (np.radians(r.uniform(-20, 95, 2)), np.radians(r.uniform(0, 100, 2))),
        "free": lambda r: (np.radians(r.uniform(-15, 80, 2)), np.radians(r.uniform(0, 100, 2))),
    }.get(kind, lambda r: (np.radians(r.normal(0, 5, 2)), np.radians(np.abs(r.normal(0, 7, 2)))))(rng)
    if kind in ("bend", "squat"):
        lean += flex.mean() * (0.8 if kind == "bend" else 0.35)
    _spine(rng, Rs, 1.0 if kind in ("bend", "free", "reach") else 0.5)
    for k, (side, sign) in enumerate(_SIDES):
        spread = np.radians(rng.normal(20, 15) if kind in ("sit", "squat") else rng.normal(5, 6))
        # The thigh's flexion counts from the vertical, so a leaning trunk adds to it
        bend = knees[k]
        thigh = exp_so3([0.0, 0.0, sign * spread]) @ exp_so3([-(flex[k] + 0.0), 0.0, 0.0])
        Rs[JOINT[f"{side}_hip"]] = thigh @ exp_so3([0.0, sign * np.radians(rng.normal(8, 10)), 0.0])
        Rs[JOINT[f"{side}_knee"]] = exp_so3([bend, 0.0, 0.0])
        Rs[JOINT[f"{side}_ankle"]] = exp_so3(np.radians(rng.normal(0, [10, 5, 6])))
        Rs[JOINT[f"{side}_foot"]] = exp_so3(np.radians([-abs(rng.normal(0, 8)), 0, 0]))
        _arm(rng, Rs, side, sign, kind)
    root = exp_so3([lean, 0.0, 0.0]) @ exp_so3([0.0, 0.0, np.radians(rng.normal(0, 4))])
    return Pose(kind, root, Rs[1:])


def _stride(rng: np.random.Generator) -> tuple[Array, Array]:
    phase, size = rng.uniform(0, 2 * np.pi) + np.array([0.0, np.pi]), rng.uniform(0.2, 0.6)
    return size * np.sin(phase) + 0.1, 0.12 + size * (1.0 + np.cos(phase - 0.4)) * rng.uniform(0.4, 1.0)


def _spine(rng: np.random.Generator, Rs: Array, much: float) -> None:
    forward, side, twist = np.radians(rng.normal([4, 0, 0], [10, 6, 12])) * much
    for name in ("spine1", "spine2", "spine3"):
        Rs[JOINT[name]] = exp_so3([forward / 2, twist / 3, side / 3])
    nod, turn, tilt = np.radians(rng.normal([6, 0, 0], [12, 22, 7]))
    for name in ("neck", "head"):
        Rs[JOINT[name]] = exp_so3([nod / 2, np.clip(turn, -1.1, 1.1) / 2, tilt / 2])


def _arm(rng: np.random.Generator, Rs: Array, side: str, sign: float, kind: str) -> None:
    hanging = kind in ("stand", "walk") or (kind == "sit" and rng.random() < 0.5)
    if hanging and rng.random() < 0.75:
        along = np.array([0.22, -1.0, rng.normal(0.05, 0.3)]) + rng.normal(0, 0.12, 3)
        bend = abs(rng.normal(20, 25))
    else:
        along = rng.normal([0.5, -0.25, 0.35], [0.6, 0.8, 0.7])
        along[0] = max(along[0], -0.25)
        along[2] = max(along[2], -0.45)
        bend = rng.uniform(0, 140) * rng.random() ** 0.5
    along = normalize(along) * [sign, 1.0, 1.0]
    out = np.array([sign, 0.0, 0.0])
    swing = log_so3(shortest_rotation(out, along))
    # The shoulder girdle follows an arm that is lifted, by about a third
    share = 0.3 if along[1] > 0.0 else 0.08
    collar = exp_so3(share * swing)
    twist = exp_so3(out * np.radians(np.clip(rng.normal(0, 35), -80, 80)))
    Rs[JOINT[f"{side}_collar"]] = collar
    Rs[JOINT[f"{side}_shoulder"]] = collar.T @ exp_so3(swing) @ twist
    pronation = exp_so3(out * np.radians(np.clip(rng.normal(0, 40), -80, 80)))
    Rs[JOINT[f"{side}_elbow"]] = exp_so3([0.0, -sign * np.radians(bend), 0.0]) @ pronation
    Rs[JOINT[f"{side}_wrist"]] = exp_so3(np.radians(rng.normal(0, [8, 12, 20])))
    Rs[JOINT[f"{side}_hand"]] = exp_so3([0.0, 0.0, -sign * np.radians(abs(rng.normal(0, 15)))])


#: CMU's bone that turns each SMPL joint; "l" and "r" are put in front where SMPL says left and right.
_CMU_BONE = {
    "pelvis": "root", "spine1": "lowerback", "spine2": "upperback", "spine3": "thorax", "neck": "lowerneck",
    "head": "head", "hip": "femur", "knee": "tibia", "ankle": "foot", "foot": "toes", "collar": "clavicle",
    "shoulder": "humerus", "elbow": "radius", "wrist": "wrist", "hand": "hand",
}  # fmt: skip
STRAIGHT_LEG = np.array([0.03, -1.0, 0.0])


def _cmu_name(joint: str) -> str:
    side, _, part = joint.partition("_")
    return f"{side[0]}{_CMU_BONE[part]}" if part else _CMU_BONE[joint]


@dataclass(frozen=True, eq=False)
class CmuPoses:
    """Frames of CMU's motion capture as rotations of SMPL's joints, Rs_world_joint (N, 24, 3, 3), and their files."""

    Rs_world_joint: Array
    names: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, every: int = 30, skip: tuple[str, ...] = ()) -> CmuPoses:
        """Every `every`-th frame of SUBJECT/*.amc with SUBJECT/SUBJECT.asf; files whose stem is in `skip` are left out.

        Raises OSError when the folder holds no .amc file.
        """
        stacks, names = [], []
        for asf in sorted(folder.glob("*/*.asf")):
            bones, parents = read_asf(asf.read_text())
            for amc in sorted(asf.parent.glob("*.amc")):
                if amc.stem not in skip:
                    turns = world_turns(read_amc(amc.read_text(), every), bones, parents)
                    stacks.append(turns)
                    names += [amc.stem] * len(turns)
        if not stacks:
            raise OSError(f"{folder}: expected CMU motions as SUBJECT/SUBJECT.asf and SUBJECT/*.amc, found none.")
        return cls(np.concatenate(stacks), tuple(names))

    def draw(self, rng: np.random.Generator) -> Pose:
        """One of the frames, mirrored half of the time."""
        k = int(rng.integers(len(self.names)))
        G = self.Rs_world_joint[k]
        Rs = np.stack([G[p].T @ G[j] for j, p in enumerate(JOINT_PARENTS) if p >= 0])
        root = G[0]
        if rng.random() < 0.5:
            root, Rs = mirrored(root, Rs)
        return Pose("cmu", root, Rs)


MIRROR = np.array([
    JOINT[n.replace("left", "?").replace("right", "left").replace("?", "right")] for n in JOINT_NAMES
])  # fmt: skip


def mirrored(R_world_root: Array, Rs_parent_joint: Array) -> tuple[Array, Array]:
    """The pose in a mirror: left and right change places, rotations are reflected in the plane x = 0."""
    M = np.diag([-1.0, 1.0, 1.0])
    return M @ R_world_root @ M, (M @ Rs_parent_joint @ M)[MIRROR[1:] - 1]


@dataclass(frozen=True, eq=False)
class Bone:
    """One of an .asf file: unit direction (3,), length in its units, R_axis (3, 3), and the axes it turns about."""

    direction: Array
    length: float
    R_axis: Array
    dof: tuple[int, ...]


def _euler(degrees: Array) -> Array:
    """CMU's order: first about x, then y, then z, all fixed; (..., 3) degrees."""
    a = np.radians(np.asarray(degrees, dtype=float))
    unit = np.eye(3)
    x, y, z = (exp_so3(a[..., i : i + 1] * unit[i]) for i in range(3))
    return z @ y @ x


def read_asf(text: str) -> tuple[dict[str, Bone], dict[str, str]]:
    """Bones and their parents by name."""
    bones: dict[str, Bone] = {}
    head, _, tail = text.partition(":hierarchy")
    for block in head.partition(":bonedata")[2].split("begin")[1:]:
        words = {line.split()[0]: line.split()[1:] for line in block.splitlines() if line.split()}
        direction = np.array([float(v) for v in words["direction"][:3]])
        axis = np.array([float(v) for v in words["axis"][:3]])
        bones[words["name"][0]] = Bone(
            direction, float(words["length"][0]), _euler(axis), tuple("xyz".index(d[1]) for d in words.get("dof", []))
        )
    parents = {c: u[0] for u in (line.split() for line in tail.splitlines()) if len(u) > 1 for c in u[1:]}
    return bones, parents


def read_amc(text: str, every: int) -> list[dict[str, list[float]]]:
    """Every `every`-th frame: the numbers of each bone by name, of the root its place and its turn."""
    frames: list[dict[str, list[float]]] = []
    keep = False
    for line in text.splitlines():
        u = line.split()
        if len(u) == 1 and u[0].isdigit():
            keep = (int(u[0]) - 1) % every == 0
            if keep:
                frames.append({})
        elif keep and len(u) > 1 and u[0][0] not in "#:":
            frames[-1][u[0]] = [float(v) for v in u[1:]]
    return frames


def world_turns(frames: list[dict[str, list[float]]], bones: dict[str, Bone], parents: dict[str, str]) -> Array:
    """Rs_world_joint (N, 24, 3, 3) of SMPL's joints: each bone's turn, after the turn from SMPL's rest to CMU's."""
    root = np.array([f["root"][3:6] for f in frames])
    turns = {"root": _euler(root)}

    def turn(name: str) -> Array:
        if name not in turns:
            bone = bones[name]
            angles = np.zeros((len(frames), 3))
            for column, axis in enumerate(bone.dof):
                angles[:, axis] = [f[name][column] if name in f else 0.0 for f in frames]
            turns[name] = turn(parents[name]) @ bone.R_axis @ _euler(angles) @ bone.R_axis.T
        return turns[name]

    out = np.empty((len(frames), 24, 3, 3))
    for j, joint in enumerate(JOINT_NAMES):
        name = _cmu_name(joint)
        rest = np.eye(3)
        if joint.endswith(("hip", "knee")):
            straight = normalize(STRAIGHT_LEG * [1.0 if joint.startswith("left") else -1.0, 1.0, 1.0])
            rest = shortest_rotation(straight, normalize(bones[name].direction))
        elif joint.endswith(("ankle", "foot")):
            tibia = bones[f"{joint[0]}tibia"].direction
            rest = shortest_rotation(np.array([0.0, -1.0, 0.0]), normalize(tibia))
        out[:, j] = turn(name) @ rest
    return out
