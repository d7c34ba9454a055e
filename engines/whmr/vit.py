"""The person encoder: a plain ViT-B over the 256x192 crop, as ViTPose-B has it (Xu et al., 2022).

=============  ==================  =======================================================
crop           (B, 3, 256, 192)    normalised RGB
patches        (B, 768, 16, 12)    16x16 convolution, stride 16, **padding 2**
tokens         (B, 192, 768)       rows first; no class token, yet its position is added
blocks         (B, 192, 768)       pre-norm, 12 heads of 64, MLP 3072, exact GELU
output         (B, 768, 16, 12)    after the last norm
=============  ==================  =======================================================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention (B, N, C) -> (B, N, C); queries, keys, values stacked in this order in `qkv`."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.proj.in_features // self.heads).unbind(2)
        seen = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(seen.transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between: (..., C) -> (..., C)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """One pre-norm transformer block (B, N, C) -> (B, N, C).

    drop_path: share of samples whose residual is left out while training (Huang et al., Stochastic Depth, 2016).
    """

    def __init__(self, dim: int, heads: int, eps: float, qkv_bias: bool = True, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps)
        self.attn = Attention(dim, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        x = x + self._dropped(self.attn(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return x
        kept = torch.rand(x.shape[0], 1, 1, dtype=x.dtype, device=x.device) >= self.drop_path
        return x * kept / (1 - self.drop_path)


class Vit(nn.Module):
    """The encoder (B, 3, 256, 192) -> (B, 768, 16, 12); the module's docstring is the table of shapes."""

    def __init__(self, depth: int = 12, dim: int = 768, heads: int = 12, drop_path: float = 0.3) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, 16, 16, padding=2)})
        self.pos_embed = nn.Parameter(torch.zeros(1, 193, dim))
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList([Block(dim, heads, 1e-6, drop_path=rate) for rate in rates])
        self.last_norm = nn.LayerNorm(dim, 1e-6)

    def forward(self, crops: Tensor) -> Tensor:
        """(B, 3, 256, 192) -> (B, 768, 16, 12)."""
        patches = self.patch_embed["proj"](crops)
        x = patches.flatten(2).transpose(1, 2) + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x).transpose(1, 2).reshape(patches.shape)
