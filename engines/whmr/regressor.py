"""One round of the body regressor: what was seen and the previous answer in, a better answer out.

=========  ==================  =================================================================
feature    (B, 2016 or 2144)   of `maf`: round 0, or rounds 1 and 2
box_info   (B, 5)              where the box lies in the frame, `geometry.box_info`
pose       (B, 216)            24 row-major matrices
shape      (B, 10)             betas
cam        (B, 3)              s, tx, ty of the weak camera on the 256 crop
output     the last three      with what the round adds
=========  ==================  =================================================================

Two linear layers without any activation between them: that is how the released network is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engines.whmr.smpl import Smpl, VertexJoints

POSE, SHAPE, CAM, BOX = 216, 10, 3, 5


class State(NamedTuple):
    """An answer: pose (B, 216) row-major matrices, shape (B, 10) betas, cam (B, 3) s, tx, ty."""

    pose: Tensor
    shape: Tensor
    cam: Tensor

    def detached(self) -> State:
        """The same numbers, out of reach of the gradient."""
        return State(*(t.detach() for t in self))


class Regressor(nn.Module):
    """The round's layers. Its first answer (`init_*`) and `Dmap0`, `Dmap1` are buffers of the checkpoint.

    Dmap0 (1723, 6890) and Dmap1 (431, 1723) reduce the mesh; only training reads them.
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor
    Dmap0: Tensor
    Dmap1: Tensor

    def __init__(self, feature: int, smpl: Smpl) -> None:
        super().__init__()
        self.fc1 = nn.Linear(feature + BOX + POSE + SHAPE + CAM, 1024)
        self.fc2 = nn.Linear(1024, 1024)
        self.drop = nn.Dropout(0.5)
        self.decpose = nn.Linear(1024, POSE)
        self.decshape = nn.Linear(1024, SHAPE)
        self.deccam = nn.Linear(1024, CAM)
        for layer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
        self.register_buffer("init_pose", torch.eye(3).reshape(1, 9).repeat(1, 24))
        self.register_buffer("init_shape", torch.zeros(1, SHAPE))
        self.register_buffer("init_cam", torch.tensor([[0.9, 0.0, 0.0]]))
        self.register_buffer("Dmap0", torch.zeros(1723, 6890))
        self.register_buffer("Dmap1", torch.zeros(431, 1723))
        self.smpl = smpl
        self.vertex_joint_selector = VertexJoints()

    def initial(self, batch: int) -> State:
        """The mean answer, for `batch` people."""
        sizes = (POSE, SHAPE, CAM)
        means = (self.init_pose, self.init_shape, self.init_cam)
        return State(*(t.expand(batch, size) for t, size in zip(means, sizes, strict=True)))

    def forward(self, feature: Tensor, box_info: Tensor, state: State) -> State:
        """See the module's table."""
        h = self.drop(self.fc1(torch.cat([feature, box_info, *state], 1)))
        h = self.drop(self.fc2(h))
        return State(state.pose + self.decpose(h), state.shape + self.decshape(h), state.cam + self.deccam(h))
