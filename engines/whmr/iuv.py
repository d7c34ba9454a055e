"""The dense-correspondence head that only supervises training (Guler et al., DensePose, 2018).

============  =================  =============================
F3            (B, 256, 128, 96)
u, v          (B, 25, 128, 96)   surface coordinates per part
part          (B, 25, 128, 96)   logits, 0 is the background
annotation    (B, 15, 128, 96)   logits of the merged parts
============  =================  =============================
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Iuv(NamedTuple):
    """Maps of the head; the module's docstring is the table of shapes."""

    u: Tensor
    v: Tensor
    part: Tensor
    annotation: Tensor


class IuvHead(nn.Module):
    """Four independent 3x3 convolutions on F3."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.predict_u = nn.Conv2d(width, 25, 3, padding=1)
        self.predict_v = nn.Conv2d(width, 25, 3, padding=1)
        self.predict_ann_index = nn.Conv2d(width, 15, 3, padding=1)
        self.predict_uv_index = nn.Conv2d(width, 25, 3, padding=1)

    def forward(self, f3: Tensor) -> Iuv:
        """See the module's table."""
        return Iuv(self.predict_u(f3), self.predict_v(f3), self.predict_uv_index(f3), self.predict_ann_index(f3))
