"""Cameras that stand where cameras stand and look where somebody wants to film, by the thousand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.network import STATURE_M, exp_turn

LONG_SIDE = 1280.0
#: Width over height of pictures: webcams and phones both ways, older cameras, square ones.
ASPECTS, ASPECT_SHARES = (16 / 9, 9 / 16, 4 / 3, 3 / 4, 1.0), (0.5, 0.12, 0.22, 0.06, 0.10)
#: Share of cameras on a desk or a screen, before somebody who is seen from the waist up.
DESKS = 0.22


@dataclass(frozen=True, eq=False)
class Cameras:
    """K (n, 3, 3), size_wh (n, 2), R_world_camera (n, 3, 3) with free heading, t_world_camera (n, 3)."""

    K: Tensor
    size_wh: Tensor
    R_world_camera: Tensor
    t_world_camera: Tensor

    @property
    def up_camera(self) -> Tensor:
        """(n, 3)."""
        return self.R_world_camera[:, 1]


def random_cameras(target: Tensor, g: torch.Generator) -> Cameras:
    """Cameras that somebody aimed, not too well, at people who are at `target` (n, 3) metres, y up.

    Focal length over the long side: two in three about 0.85 (webcams, phones), the others anywhere from 0.4 to 2.5;
    0.5 to 1.3 on desks.
    """
    n = len(target)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n).uniform_(low, high, generator=g)

    usual = torch.rand(n, generator=g) < 0.65
    focal = torch.where(
        usual, 0.85 * (0.32 * torch.randn(n, generator=g)).exp(), (uniform(np.log(0.4), np.log(2.5))).exp()
    ).clamp(0.35, 3.0)
    aspect = torch.tensor(ASPECTS)[torch.multinomial(torch.tensor(ASPECT_SHARES), n, replacement=True, generator=g)]
    w = torch.where(aspect >= 1, torch.full((n,), LONG_SIDE), LONG_SIDE * aspect).round()
    h = torch.where(aspect >= 1, LONG_SIDE / aspect, torch.full((n,), LONG_SIDE)).round()
    f = focal * LONG_SIDE
    # How large the person is in the picture is chosen by whoever films; how far that is follows from the lens
    share = (uniform(np.log(0.22), np.log(1.9))).exp()
    away = (f * STATURE_M / (share * torch.minimum(h, 1.2 * w))).clamp(0.7, 14.0)
    desk = torch.rand(n, generator=g) < DESKS
    away = torch.where(desk, uniform(0.45, 1.4), away)
    focal = torch.where(desk, focal.clamp(0.5, 1.3), focal)
    f = focal * LONG_SIDE
    target = target + torch.where(desk, 0.38, 0.0)[:, None] * torch.tensor([0.0, 1.0, 0.0])
    height = (1.45 * (0.45 * torch.randn(n, generator=g)).exp()).clamp(0.25, 4.0)
    ceiling = torch.rand(n, generator=g) < 0.12
    height = torch.where(ceiling, uniform(2.0, 4.0), height)
    height = torch.where(desk, target[:, 1] + 0.18 * torch.randn(n, generator=g), height)
    # Nobody films people from right above: the line to them falls by 55 degrees at most, and rises by 25
    drop = torch.minimum(torch.maximum(height - target[:, 1], -0.42 * away), 0.82 * away)
    height = target[:, 1] + drop
    flat = (away**2 - drop**2).sqrt()
    heading = uniform(0.0, 2 * np.pi)
    place = torch.stack([target[:, 0] + flat * heading.sin(), height, target[:, 2] + flat * heading.cos()], -1)
    look = target - place
    yaw = torch.atan2(-look[:, 0], -look[:, 2])
    # Aimed so that the target falls somewhere into the inner picture
    off_x = torch.atan(uniform(-0.75, 0.75) * 0.5 * w / f)
    off_y = torch.atan((0.30 * torch.randn(n, generator=g)).clamp(-0.85, 0.85) * 0.5 * h / f)
    pitch = torch.atan2(-look[:, 1], look[:, [0, 2]].norm(dim=-1)) + off_y
    held = torch.rand(n, generator=g) < 0.78
    roll = torch.randn(n, generator=g) * torch.where(held, torch.tensor(0.045), torch.tensor(0.28))
    zero = torch.zeros(n)
    level = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    R_world = exp_turn(torch.stack([zero, yaw + off_x, zero], -1)) @ level
    R_world = R_world @ exp_turn(torch.stack([-pitch, zero, zero], -1)) @ exp_turn(torch.stack([zero, zero, roll], -1))
    K = torch.zeros(n, 3, 3)
    K[:, 0, 0] = K[:, 1, 1] = f
    K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = (w - 1) / 2, (h - 1) / 2, 1.0
    return Cameras(K, torch.stack([w, h], -1), R_world, place)
