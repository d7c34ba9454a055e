"""The pyramid of feature maps that the regressors look at.

======  ===================  ==========================================
input   (B, 768, 16, 12)     of the encoder
F1      (B, 256, 32, 24)     each stage: 4x4 transposed convolution of
F2      (B, 256, 64, 48)     stride 2 without bias, batch norm, ReLU
F3      (B, 256, 128, 96)
======  ===================  ==========================================
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

STAGE_LAYERS = 3


class Features(NamedTuple):
    """The three maps, coarse to fine: (B, 256, 32, 24), (B, 256, 64, 48), (B, 256, 128, 96)."""

    f1: Tensor
    f2: Tensor
    f3: Tensor


def deconv_layers(dim: int = 768, width: int = 256) -> nn.Sequential:
    """The nine layers, three a stage."""
    layers: list[nn.Module] = []
    for stage in range(3):
        layers.append(nn.ConvTranspose2d(width if stage else dim, width, 4, 2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def pyramid(layers: nn.Sequential, x: Tensor) -> Features:
    """The maps of `deconv_layers` for the encoder's (B, 768, 16, 12)."""
    f1 = layers[:STAGE_LAYERS](x)
    f2 = layers[STAGE_LAYERS : 2 * STAGE_LAYERS](f1)
    return Features(f1, f2, layers[2 * STAGE_LAYERS :](f2))
