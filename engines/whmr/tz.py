"""How far a person is: from the finest map to metres, and with it the focal length.

==============  ==================  ==================================================================
F3              (B, 256, 128, 96)
two 7x7         (B, 5, 18, 12)      strides 3 and 2, no padding, no bias, no activation
tokens          (B, 5, 216)
block           (B, 5, 216)         transformer block, 2 heads of 108, queries without bias
mean            (B, 216)
linear layers   (B, 1)              216 -> 12 -> 1, batch norm
Tz              (B)                 10 times the sigmoid: 0..10 m
==============  ==================  ==================================================================
"""

from __future__ import annotations

from torch import Tensor, nn

from engines.whmr.vit import Block

MAX_DEPTH_M = 10.0
TOKEN = 216


def tz_convolutions(width: int = 256) -> nn.Sequential:
    """F3 -> (B, 5, 18, 12)."""
    return nn.Sequential(nn.Conv2d(width, 64, 7, 3, bias=False), nn.Conv2d(64, 5, 7, 2, bias=False))


def tz_block() -> Block:
    """The block over the five tokens."""
    return Block(TOKEN, 2, 1e-5, qkv_bias=False)


def tz_layers() -> nn.Sequential:
    """(B, 216) -> (B, 1) in 0..1."""
    return nn.Sequential(nn.Linear(TOKEN, 12), nn.Linear(12, 1), nn.BatchNorm1d(1), nn.Sigmoid())


def depth_m(convolutions: nn.Module, block: nn.Module, layers: nn.Module, f3: Tensor) -> Tensor:
    """Tz (B) in metres of F3 (B, 256, 128, 96)."""
    tokens = block(convolutions(f3).flatten(2))
    return MAX_DEPTH_M * layers(tokens.mean(1)).squeeze(-1)
