"""The camera network of SPEC (Kocabas et al., 2021): field of view, pitch and roll from one whole picture.

=========  =======================  ==========================================================
picture    (B, 3, H, W)             normalised RGB, short side 600, any long side
trunk      (B, 2048, H/32, W/32)    ResNet-50 v1.5
pooled     (B, 2048)                mean over the picture
logits     three (B, 256)           bins of each angle, evenly spread over its range
angles     three (B)                radians, soft-argmax
=========  =======================  ==========================================================
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.whmr.geometry import expected_angle

VFOV_RANGE, PITCH_RANGE, ROLL_RANGE = (0.2617, 2.1), (-0.6, 0.6), (-0.6, 0.6)
BINS = 256


class CameraLogits(NamedTuple):
    """Logits (B, 256) of each angle."""

    vfov: Tensor
    pitch: Tensor
    roll: Tensor


class CameraAngles(NamedTuple):
    """vfov, pitch, roll (B) in radians; pitch > 0 looks down, roll > 0 lowers the horizon's right end."""

    vfov: Tensor
    pitch: Tensor
    roll: Tensor


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride), 1x1 with a shortcut: (B, C, h, w) -> (B, 4 width, h/s, w/s)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != 4 * width:
            shortcut = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 4 width, h/s, w/s)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """The trunk (B, 3, H, W) -> (B, 2048, H/32, W/32) (He et al., 2016; stride in the 3x3 as torchvision has it)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64)
        self.layer1 = self._stage(64, 64, 3, 1)
        self.layer2 = self._stage(256, 128, 4, 2)
        self.layer3 = self._stage(512, 256, 6, 2)
        self.layer4 = self._stage(1024, 512, 3, 2)

    @staticmethod
    def _stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
        return nn.Sequential(Bottleneck(channels, width, stride), *rest)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 2048, H/32, W/32)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(picture))), 3, 2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class CameraNet(nn.Module):
    """Picture (B, 3, H, W) -> `CameraLogits`; `angles` makes radians of them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet50()
        self.fc_vfov = nn.Linear(2048, BINS)
        self.fc_pitch = nn.Linear(2048, BINS)
        self.fc_roll = nn.Linear(2048, BINS)

    def forward(self, picture: Tensor) -> CameraLogits:
        """(B, 3, H, W) -> three (B, 256)."""
        pooled = self.backbone(picture).mean((2, 3))
        return CameraLogits(self.fc_vfov(pooled), self.fc_pitch(pooled), self.fc_roll(pooled))


@torch.no_grad()
def angles(logits: CameraLogits) -> CameraAngles:
    """Radians (B) of the logits; no gradient passes, as in the released training."""
    ranges = (VFOV_RANGE, PITCH_RANGE, ROLL_RANGE)
    return CameraAngles(*(expected_angle(x, *low_high) for x, low_high in zip(logits, ranges, strict=True)))
