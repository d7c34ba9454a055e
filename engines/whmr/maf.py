"""Mesh-aligned features: a map is sampled where the body is thought to be (Zhang et al., PyMAF, 2021).

==========  ==============  ==============================================================
features    (B, 256, h, w)  F1, F2 or F3
points      (B, N, 2)       x, y, +-1 at the map's edge: the grid (63) or the markers (67)
sampled     (B, 256, N)     bilinear, zero outside
output      (B, 32 N)       three 1x1 layers, channel by channel
==========  ==============  ==============================================================

Markers are projected into the 256x256 square but sampled on a map of its middle 192 columns: x is squeezed by 0.75.
The released weights were trained that way.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GRID_WH = (7, 9)


def grid_points() -> Tensor:
    """(1, 2, 63) x, y of a 7x9 grid over the crop: index 9 i + j has x_i, y_j."""
    w, h = GRID_WH
    x, y = torch.meshgrid(torch.linspace(-1, 1, w), torch.linspace(-1, 1, h), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()])[None]


class MafExtractor(nn.Module):
    """The point network (B, 256, N) -> (B, 32 N); before each later layer the sampled values are put behind again.

    Dmap (431, 6890) is carried for the checkpoint's sake and read by training only.
    """

    Dmap: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv1d(256, 128, 1)
        self.conv1 = nn.Conv1d(128 + 256, 64, 1)
        self.conv2 = nn.Conv1d(64 + 256, 32, 1)
        self.register_buffer("Dmap", torch.zeros(431, 6890))

    def forward(self, sampled: Tensor) -> Tensor:
        """(B, 256, N) -> (B, 32 N)."""
        y = F.leaky_relu(self.conv0(sampled))
        y = F.leaky_relu(self.conv1(torch.cat([y, sampled], 1)))
        return F.relu(self.conv2(torch.cat([y, sampled], 1))).flatten(1)
