"""The engines in half precision: matrix products and convolutions in fp16, everything that needs range in fp32.

========  =====================================  ==========================================================
engine    fp16                                   fp32
========  =====================================  ==========================================================
camera    the trunk                              the mean over the picture, logits, angles
body      encoder, deconvolutions, Tz's 7x7      Tz's tokens and layers
regress   point networks                         sampling places, regressors, orient, the body model
joints    as regress                             as regress
========  =====================================  ==========================================================

Inputs and outputs stay fp32. The types are in the module itself, so torch, the exported file and a plan of a builder
that takes every type from the network compute alike.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from engines.whmr.camera_net import CameraLogits, angles
from engines.whmr.deconv import pyramid
from engines.whmr.folded import FoldedHeads, folded
from engines.whmr.network import WHMR
from engines.whmr.parts import BodyPart, CameraPart, RegressPart, part
from engines.whmr.tz import depth_m


class _Half(nn.Module):
    """A module of arrays in, array out, whose weights and work are fp16 between fp32 on both sides."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(inner).half()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        y: Tensor = self.inner(x.half())
        return y.float()


class HalfCamera(nn.Module):
    """Engine `camera`."""

    def __init__(self, of: CameraPart) -> None:
        super().__init__()
        net = cast(FoldedHeads, of.net)
        self.backbone, self.heads = _Half(net.backbone), net.heads

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """picture (B, 3, H, W) -> angles (B, 3), logits (B, 3, 256)."""
        pooled = self.backbone(picture).mean((2, 3))
        logits = CameraLogits(*self.heads(pooled).chunk(3, 1))
        return torch.stack(angles(logits), -1), torch.stack(logits, 1)


class HalfBody(nn.Module):
    """Engine `body`."""

    def __init__(self, of: BodyPart) -> None:
        super().__init__()
        self.encoder, self.deconv = copy.deepcopy(of.encoder).half(), copy.deepcopy(of.deconv).half()
        self.convolutions, self.block, self.layers = _Half(of.convolutions), of.block, of.layers

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """crops (B, 3, 256, 192) -> f1, f2, f3, Tz."""
        f1, f2, f3 = pyramid(self.deconv, self.encoder(crops.half()))
        return f1.float(), f2.float(), f3.float(), depth_m(self.convolutions, self.block, self.layers, f3)


def halved(net: WHMR, name: str) -> nn.Module:
    """The engine `name` of a network in half precision, in eval mode, with fp16 copies of its weights.

    Raises ValueError for an unknown name.
    """
    whole = folded(part(net, name), for_cpu=False)
    if isinstance(whole, CameraPart):
        return HalfCamera(whole).eval()
    if isinstance(whole, BodyPart):
        return HalfBody(whole).eval()
    assert isinstance(whole, RegressPart)
    whole.extractors = [_Half(x) for x in whole.extractors]  # type: ignore[misc]
    whole.rounds = nn.ModuleList([*whole.extractors, *whole.regressors])
    return whole.eval()


def in_precision(net: WHMR, name: str, precision: str, for_cpu: bool = True) -> nn.Module:
    """The engine `name`, folded, in "fp32" or "fp16"; `for_cpu` as in `folded`, for fp32 only.

    Raises ValueError for another precision or name.
    """
    if precision not in ("fp32", "fp16"):
        raise ValueError(f"precision: expected fp32 or fp16, got {precision}.")
    return halved(net, name) if precision == "fp16" else folded(part(net, name), for_cpu)
