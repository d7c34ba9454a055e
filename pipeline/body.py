"""The parametric body in SMPL's layout: model -> shaped -> posed -> mesh, for numpy arrays and torch tensors alike.

    model = open_body("default")                       # or "smpl=FILE", a SMPL model file of your own
    shaped = model.shaped(betas)                       # keep it: one a person
    posed = shaped.posed(R_frame_root, t_frame_root, Rs_parent_joint)
    posed.joints, posed.landmarks, posed.mesh()        # in the frame that the root was given in

Rest is the T-pose of `pipeline.frames`: y up, facing +z, left at +x. `t_frame_root` is the place of the **pelvis
joint**, not SMPL's `transl` (transl = t_frame_root - shaped.joints_rest[0]); the default body's pelvis joint rests at
the origin, an SMPL file's where that file has it. Functions return what they are given: numpy for numpy, tensors
with gradients for tensors (torch is imported by whoever passes them). Leading batch dimensions broadcast.
Skinning: Loper et al., SMPL: A Skinned Multi-Person Linear Model (2015), equations 2 to 4.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Numbers, concatenate, expect, is_tensor, like, stretched
from pipeline.frames import Array
from pipeline.types import JOINT_NAMES, JOINT_PARENTS

FORMAT = 1
DEFAULT_FILE = Path(__file__).parent / "data" / "body.npz"
HEIGHT_RANGE_M = (0.5, 2.5)


def _tree_levels(parents: tuple[int, ...]) -> list[tuple[int, int, list[int]]]:
    """Joints of equal depth as (first, last + 1, parents counted from the level above's first joint)."""
    levels, first = [], 1
    above = (0, 1)
    while first < len(parents):
        last = first
        while last < len(parents) and above[0] <= parents[last] < above[1]:
            last += 1
        levels.append((first, last, [p - above[0] for p in parents[first:last]]))
        above, first = (first, last), last
    return levels


_LEVELS = _tree_levels(JOINT_PARENTS)
_PARENTS = np.array(JOINT_PARENTS[1:])
#: _CHAIN[j, i - 1] is 1 where joint i lies on the way from the root to joint j.
_CHAIN = np.zeros((24, 23))
for _j in range(1, 24):
    _CHAIN[_j] = _CHAIN[JOINT_PARENTS[_j]]
    _CHAIN[_j, _j - 1] = 1.0


@dataclass(frozen=True, eq=False)
class BodyModel:
    """A linear shape space with a skeleton and skin. Every array belongs to the T-pose, metres.

    name            "default", or the file's name
    parents         (24,) parent of each joint, -1 for the root
    faces           (F, 3) vertex indices, counter-clockwise from outside
    vertices        (V, 3); vertices_dirs (V, 3, B) change for each beta
    weights         (V, 24) skin weights, rows sum to one
    joints          (24, 3); joints_dirs (24, 3, B)
    landmarks       (33, 3) MediaPipe's landmarks; landmarks_dirs (33, 3, B)
    landmark_joint  (33,) the joint each landmark is rigidly attached to
    stature_m       crown to sole of the mean body; stature_dirs (B,)
    pose_dirs       (207, 3 V) pose-dependent surface of an SMPL file, or None
    credit          where the data comes from
    """

    name: str
    faces: np.ndarray
    vertices: Array
    vertices_dirs: Array
    weights: Array
    joints: Array
    joints_dirs: Array
    landmarks: Array
    landmarks_dirs: Array
    landmark_joint: np.ndarray
    stature_m: float
    stature_dirs: Array
    pose_dirs: Array | None = None
    credit: str = ""
    parents: tuple[int, ...] = JOINT_PARENTS
    _tensors: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def n_betas(self) -> int:
        """Number of shape components."""
        return self.joints_dirs.shape[-1]

    @classmethod
    def load(cls, path: str | Path | None = None) -> BodyModel:
        """The body in an .npz file made by `python -m training.bake_body`; without a path the project's own.

        Raises ValueError when the file is not one or has another format, OSError when it cannot be read.
        """
        file = DEFAULT_FILE if path is None else Path(path)
        try:
            with np.load(file) as z:
                data = {k: z[k] for k in z.files}
        except (ValueError, zipfile.BadZipFile, EOFError) as e:
            raise ValueError(f"{file}: expected a body file made by `python -m training.bake_body`, got {e}.") from e
        if int(data.get("format", -1)) != FORMAT or tuple(data["joint_names"]) != JOINT_NAMES:
            got = data.get("format", "none")
            raise ValueError(f"{file}: expected body format {FORMAT} with SMPL's joints, got format {got}.")
        return _from_baked("default" if path is None else file.name, data)

    def constant(self, name: str, sample: Numbers) -> Numbers:
        """Attribute `name` as the kind of `sample`: itself, or a tensor of the sample's type and device (kept)."""
        if not is_tensor(sample):
            return getattr(self, name)
        key = (name, sample.dtype, sample.device)
        if key not in self._tensors:
            self._tensors[key] = sample.new_tensor(getattr(self, name))
        return self._tensors[key]

    def shaped(self, betas: Numbers) -> ShapedBody:
        """The body of shape `betas` (..., n_betas). Raises ValueError for another length."""
        b = expect("betas", betas, (self.n_betas,))
        joints = self.constant("joints", b) + (self.constant("joints_dirs", b) @ b[..., None, :, None])[..., 0]
        marks = self.constant("landmarks", b) + (self.constant("landmarks_dirs", b) @ b[..., None, :, None])[..., 0]
        return ShapedBody(self, b, joints, marks)

    def betas_for_height(self, height_m: float, betas: Numbers | None = None) -> Numbers:
        """`betas` (..., n_betas; zeros if None) with component 0 set so that crown to sole is `height_m`.

        Raises ValueError outside 0.5 to 2.5 metres.
        """
        low, high = HEIGHT_RANGE_M
        if not low <= float(height_m) <= high:
            raise ValueError(f"height: expected {low} to {high} metres, got {float(height_m):g}.")
        b = np.zeros(self.n_betas) if betas is None else expect("betas", betas, (self.n_betas,))
        rest = self.stature_m + b[..., 1:] @ like(self.stature_dirs[1:], b)
        first = (height_m - rest) / float(self.stature_dirs[0])
        return concatenate([first[..., None], b[..., 1:]], axis=-1)


@dataclass(frozen=True, eq=False)
class ShapedBody:
    """A BodyModel with a shape.

    betas           (..., B)
    joints_rest     (..., 24, 3) in the T-pose, metres
    landmarks_rest  (..., 33, 3)
    """

    model: BodyModel
    betas: Numbers
    joints_rest: Numbers
    landmarks_rest: Numbers

    @cached_property
    def offsets(self) -> Numbers:
        """(..., 23, 3) from each joint's parent to joints 1..23."""
        return self.joints_rest[..., 1:, :] - self.joints_rest[..., _PARENTS, :]

    @cached_property
    def bone_lengths(self) -> Numbers:
        """(..., 23) metres, the lengths of `offsets`."""
        return (self.offsets**2).sum(-1) ** 0.5

    @cached_property
    def height_m(self) -> Numbers:
        """(...) stature, crown to sole, metres."""
        return self.model.stature_m + self.betas @ self.model.constant("stature_dirs", self.betas)

    @cached_property
    def vertices_rest(self) -> Numbers:
        """(..., V, 3) in the T-pose."""
        dirs = self.model.constant("vertices_dirs", self.betas)
        return self.model.constant("vertices", self.betas) + (dirs @ self.betas[..., None, :, None])[..., 0]

    @cached_property
    def landmark_offsets(self) -> Numbers:
        """(..., 33, 3) from the joint a landmark is attached to, in that joint's axes."""
        return self.landmarks_rest - self.joints_rest[..., self.model.landmark_joint, :]

    def posed(self, R_frame_root: Numbers, t_frame_root: Numbers, Rs_parent_joint: Numbers) -> PosedBody:
        """The body with its pelvis joint at `t_frame_root` (..., 3), turned by `R_frame_root` (..., 3, 3).

        Rs_parent_joint (..., 23, 3, 3) are the local rotations of joints 1..23. All of one kind with the betas:
        numpy or torch. Raises ValueError for other shapes or mixed kinds.
        """
        kinds = {is_tensor(v) for v in (self.betas, R_frame_root, t_frame_root, Rs_parent_joint)}
        if len(kinds) > 1:
            raise ValueError("posed: expected betas, root and joints all numpy or all torch, got a mixture.")
        R = expect("R_frame_root", R_frame_root, (3, 3))
        t = expect("t_frame_root", t_frame_root, (3,))
        Rs = expect("Rs_parent_joint", Rs_parent_joint, (23, 3, 3))
        batch = np.broadcast_shapes(R.shape[:-2], t.shape[:-1], Rs.shape[:-3], self.joints_rest.shape[:-2])
        R, Rs = stretched(R, batch, 2), stretched(Rs, batch, 3)
        level = R[..., None, :, :]
        levels = [level]
        for first, last, above in _LEVELS:
            level = level[..., above, :, :] @ Rs[..., first - 1 : last - 1, :, :]
            levels.append(level)
        Rs_frame = concatenate(levels, axis=-3)
        return PosedBody(self, t[..., None, :] + self.joints_from_root(Rs_frame), Rs_frame, Rs)

    def joints_from_root(self, Rs_frame_joint: Numbers) -> Numbers:
        """Joints (..., 24, 3) from the pelvis, of joints turned by `Rs_frame_joint` (..., 24, 3, 3)."""
        bones = (Rs_frame_joint[..., _PARENTS, :, :] @ self.offsets[..., None])[..., 0]
        return like(_CHAIN, bones) @ bones


@dataclass(frozen=True, eq=False)
class PosedBody:
    """A ShapedBody in a pose, in the frame its root was given in.

    joints           (..., 24, 3) metres
    Rs_frame_joint   (..., 24, 3, 3)
    Rs_parent_joint  (..., 23, 3, 3) as given
    """

    shaped: ShapedBody
    joints: Numbers
    Rs_frame_joint: Numbers
    Rs_parent_joint: Numbers

    @cached_property
    def landmarks(self) -> Numbers:
        """(..., 33, 3) MediaPipe's landmarks, metres."""
        at = self.shaped.model.landmark_joint
        turned = self.Rs_frame_joint[..., at, :, :] @ self.shaped.landmark_offsets[..., None]
        return self.joints[..., at, :] + turned[..., 0]

    def mesh(self) -> Numbers:
        """The surface (..., V, 3) by linear blend skinning, metres."""
        model, R = self.shaped.model, self.Rs_frame_joint
        rest = self.shaped.vertices_rest
        if model.pose_dirs is not None:
            Rs = self.Rs_parent_joint
            feature = (Rs - like(np.eye(3), Rs)).reshape(*Rs.shape[:-3], 207)
            rest = rest + (feature @ model.constant("pose_dirs", R)).reshape(*Rs.shape[:-3], -1, 3)
        shift = self.joints - (R @ self.shaped.joints_rest[..., None])[..., 0]
        moves = concatenate([R.reshape(*R.shape[:-2], 9), shift], axis=-1)
        blend = model.constant("weights", R) @ moves
        turn = blend[..., :9].reshape(*blend.shape[:-1], 3, 3)
        return (turn * rest[..., None, :]).sum(-1) + blend[..., 9:]


def _from_baked(name: str, data: dict[str, np.ndarray]) -> BodyModel:
    vertices = data["vertices"] * np.float64(data["vertices_scale"])
    dirs = data["vertices_dirs"] * np.float64(data["vertices_dirs_scale"])
    weights = np.zeros((len(vertices), 24))
    np.put_along_axis(weights, data["weight_joints"].astype(np.int64), data["weights"] / 255.0, axis=1)
    crown, soles = int(data["crown"]), data["soles"].astype(np.int64)
    return BodyModel(
        name=name,
        faces=data["faces"].astype(np.int32),
        vertices=vertices,
        vertices_dirs=dirs,
        weights=weights,
        joints=data["joints"].astype(np.float64),
        joints_dirs=data["joints_dirs"].astype(np.float64),
        landmarks=data["landmarks"].astype(np.float64),
        landmarks_dirs=data["landmarks_dirs"].astype(np.float64),
        landmark_joint=data["landmark_joint"].astype(np.int64),
        stature_m=float(vertices[crown, 1] - vertices[soles, 1].mean()),
        stature_dirs=dirs[crown, 1] - dirs[soles, 1].mean(0),
        credit=str(data["credit"]),
    )


def open_body(spec: str = "default") -> BodyModel:
    """The body that `spec` names: "default", or "smpl=FILE", a SMPL model file (.pkl or .npz) of your own.

    An SMPL file is read through the package `smplx`. Raises ValueError for another spec or a file that is no SMPL
    model, OSError when the file cannot be read, ImportError when `smplx` is not installed.
    """
    if spec == "default":
        return BodyModel.load()
    kind, _, file = spec.partition("=")
    if kind != "smpl" or not file:
        raise ValueError(f'body: expected "default" or "smpl=FILE", got "{spec}".')
    from pipeline.smpl_body import load_smpl

    return load_smpl(Path(file))
