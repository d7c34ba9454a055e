"""How far predictions are from the truth, by the protocol of HMR and SPIN; metres in, metres out."""

from __future__ import annotations

import torch
from torch import Tensor


def mpjpe(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance (B) of points (B, N, 3) as they are; subtract a root before, where the protocol has one."""
    return (points - truth).norm(dim=-1).mean(-1)


def similarity_aligned(points: Tensor, truth: Tensor) -> Tensor:
    """Points (B, N, 3) moved, turned, scaled onto truth (B, N, 3) with the least squared distance (Umeyama, 1991)."""
    middle, target = points.mean(1, keepdim=True), truth.mean(1, keepdim=True)
    a, b = points - middle, truth - target
    U, S, Vh = torch.linalg.svd(a.mT @ b)
    sign = torch.ones_like(S)
    sign[:, -1] = torch.linalg.det(U @ Vh).sign()
    scale = (S * sign).sum(-1) / a.square().sum((1, 2))
    return scale[:, None, None] * (a @ ((U * sign[:, None]) @ Vh)) + target


def pa_mpjpe(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance (B) after `similarity_aligned`."""
    return mpjpe(similarity_aligned(points, truth), truth)
