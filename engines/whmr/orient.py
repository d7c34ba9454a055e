"""OrientCorrect: the root rotation upright in the `level` frame, from what was seen and the camera's rotation.

=================  ==============  ====================================================
body_feature       (B, 2149)       the last round's 2144 features and the box's 5
R_camera_level     (B, 3, 3)       enters as 6D
R_camera_root      (B, 3, 3)       the last round's root, row-major
output             (B, 3, 3)       a raw matrix; `geometry.orthonormal` makes R_level_root
=================  ==============  ====================================================

The released code repeats this three times on the same input; once is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engines.whmr.geometry import rotation_to_6d


class OrientCorrect(nn.Module):
    """Three linear layers without activation; `init_pose` (1, 9) is carried for the checkpoint's sake."""

    def __init__(self, body_feature: int = 2149) -> None:
        super().__init__()
        self.fc1 = nn.Linear(body_feature + 6 + 9, 2048)
        self.fc2 = nn.Linear(2048, 2048)
        self.drop = nn.Dropout(0.5)
        self.decrot = nn.Linear(2048, 9)
        nn.init.xavier_uniform_(self.decrot.weight, gain=0.01)
        self.register_buffer("init_pose", torch.eye(3).reshape(1, 9))

    def forward(self, body_feature: Tensor, R_camera_level: Tensor, R_camera_root: Tensor) -> Tensor:
        """See the module's table."""
        root = R_camera_root.reshape(-1, 9)
        h = self.drop(self.fc1(torch.cat([body_feature, rotation_to_6d(R_camera_level), root], 1)))
        return (root + self.decrot(self.drop(self.fc2(h)))).reshape(-1, 3, 3)
