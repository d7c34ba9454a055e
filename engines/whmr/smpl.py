"""SMPL in torch, from the tensors inside the checkpoint (Loper et al., 2015): full mesh, or some vertices only.

=============  ================  =============================================================
betas          (B, 10)
Rs             (B, 24, 3, 3)     root first, then parent-relative
vertices       (B, N, 3)         metres; the root turns about its own joint; no translation
joints         (B, 24, 3)        of the skeleton, same frame
=============  ================  =============================================================

In the camera's frame people have a root near Rx(180 deg), for there y is down.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

VERTICES, JOINTS = 6890, 24
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
#: The joints from one of these to the next are equally far down the tree and posed at once.
LEVELS = (1, 4, 7, 10, 15, 18, 20, 22, 24)
#: nose, eyes, ears, feet, fingers: the ids that the public smplx package names.
EXTRA_VERTICES = (
    *(332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787),
    *(2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133),
)
#: 25 OpenPose joints and 24 of the "J24" set, out of 24 skeleton joints, 21 vertices and 9 regressed ones.
JOINTS49 = (
    *(24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34),
    *(8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, 47, 48, 49, 50, 51, 52, 53, 24, 26, 25, 28, 27),
)
H36M_TO_J14 = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10)


class Rig(NamedTuple):
    """What posing N vertices takes, coordinates of a vertex beside each other.

    template (3 N) m, shapedirs (10, 3 N), posedirs (207, 3 N), weights (N, 24), joints (72) m of the template,
    joint_dirs (10, 72) of the betas.
    """

    template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    weights: Tensor
    joints: Tensor
    joint_dirs: Tensor


class VertexJoints(nn.Module):
    """The buffer of the 21 vertices that count as joints, where the checkpoint has it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("extra_joints_idxs", torch.tensor(EXTRA_VERTICES))


class Smpl(nn.Module):
    """The body model's tensors under the checkpoint's names. `betas`, `global_orient`, `body_pose` are unused."""

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    lbs_weights: Tensor
    J_regressor: Tensor
    J_regressor_extra: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, width in (("betas", 10), ("global_orient", 3), ("body_pose", 69)):
            self.register_parameter(name, nn.Parameter(torch.zeros(1, width)))
        self.register_buffer("shapedirs", torch.zeros(VERTICES, 3, 10))
        self.register_buffer("faces_tensor", torch.zeros(13776, 3, dtype=torch.int64))
        self.register_buffer("v_template", torch.zeros(VERTICES, 3))
        self.register_buffer("J_regressor", torch.zeros(JOINTS, VERTICES))
        self.register_buffer("posedirs", torch.zeros(207, 3 * VERTICES))
        self.register_buffer("parents", torch.tensor(PARENTS))
        self.register_buffer("lbs_weights", torch.zeros(VERTICES, JOINTS))
        self.register_buffer("J_regressor_extra", torch.zeros(9, VERTICES))
        self.vertex_joint_selector = VertexJoints()

    def rig(self, ids: Tensor | None = None) -> Rig:
        """What posing the vertices `ids` (N) takes; all 6890 without."""
        template, shapedirs, posedirs, weights = self.v_template, self.shapedirs, self.posedirs, self.lbs_weights
        joints = (self.J_regressor @ template).reshape(-1)
        joint_dirs = (self.J_regressor @ shapedirs.reshape(VERTICES, 30)).reshape(-1, 10).mT
        if ids is not None:
            posedirs = posedirs.reshape(-1, VERTICES, 3)[:, ids].reshape(207, -1)
            template, shapedirs, weights = template[ids], shapedirs[ids], weights[ids]
        return Rig(template.reshape(-1), shapedirs.reshape(-1, 10).mT, posedirs, weights, joints, joint_dirs)

    def joints49(self, vertices: Tensor, joints: Tensor) -> Tensor:
        """(B, 49, 3) of the full mesh (B, 6890, 3) and the skeleton's joints (B, 24, 3)."""
        picked = vertices[:, list(EXTRA_VERTICES)]
        return torch.cat([joints, picked, self.J_regressor_extra @ vertices], 1)[:, list(JOINTS49)]

    def joints45(self, vertices: Tensor) -> Tensor:
        """(B, 45, 3): 24 joints regressed from the posed mesh (B, 6890, 3), and 21 of its vertices."""
        return torch.cat([self.J_regressor @ vertices, vertices[:, list(EXTRA_VERTICES)]], 1)


def joints14(regressor: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Joints (B, 14, 3) and pelvis (B, 1, 3) by a Human3.6M regressor (17, 6890), of meshes (B, 6890, 3)."""
    joints = regressor @ vertices
    return joints[:, list(H36M_TO_J14)], joints[:, :1]


def posed(rig: Rig, betas: Tensor, Rs: Tensor) -> tuple[Tensor, Tensor]:
    """vertices (B, N, 3) and joints (B, 24, 3) of betas (B, 10) and Rs (B, 24, 3, 3); see the module's table.

    Rs are used as they come, orthonormal or not.
    """
    bent = (Rs[:, 1:] - torch.eye(3, dtype=Rs.dtype, device=Rs.device)).reshape(-1, 9 * (JOINTS - 1))
    shaped = rig.template + betas @ rig.shapedirs + bent @ rig.posedirs
    rest = (rig.joints + betas @ rig.joint_dirs).reshape(-1, JOINTS, 3)
    turns, joints = _chain(Rs, rest)
    shifts = joints - (turns @ rest.unsqueeze(-1)).squeeze(-1)
    # per vertex the three columns of its matrix and its shift, so that no small matrix products are left
    columns = rig.weights @ torch.cat([turns.transpose(2, 3).reshape(-1, JOINTS, 9), shifts], 2)
    x, y, z = shaped.reshape(-1, rig.weights.shape[0], 3).split(1, 2)
    vertices = columns[..., :3] * x + columns[..., 3:6] * y + columns[..., 6:9] * z + columns[..., 9:]
    return vertices, joints


def _chain(Rs: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (B, 24, 3, 3) and places (B, 24, 3) of all joints, level after level down the tree."""
    turns, places = [Rs[:, :1]], [rest[:, :1]]
    for start, (first, end) in zip((0, *LEVELS), pairwise(LEVELS), strict=False):
        parents = PARENTS[first:end]
        turn, place = (_rows(x[-1], [p - start for p in parents]) for x in (turns, places))
        bones = rest[:, first:end] - _rows(rest, parents)
        places.append((turn @ bones.unsqueeze(-1)).squeeze(-1) + place)
        turns.append(turn @ Rs[:, first:end])
    return torch.cat(turns, 1), torch.cat(places, 1)


def _rows(x: Tensor, rows: Sequence[int]) -> Tensor:
    """x[:, rows], by slices: a list of indices would be copied to the device in every call."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([row, row + 1])
    parts = [x[:, first:end] for first, end in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
