"""Residuals over time for the bank of `training.error_model`: as they were, or guessed where there was one picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.error_network import mirror_keys

STEP_S, LENGTH = 0.1, 8


@dataclass(frozen=True, eq=False)
class Bank:
    """Sequences of residuals (S, LENGTH, N_TARGETS), exchanged sides (S, LENGTH), keys (S, KEYS); real or guessed."""

    z: Tensor
    flips: Tensor
    keys: Tensor
    real: bool


def sequences(z: Tensor, keys: Tensor, flips: Tensor, found: Tensor, g: torch.Generator) -> Bank:
    """A bank of residuals (S, T, N_TARGETS) in any order, of those found in most of their pictures."""
    keep = (found.float().mean(1) > 0.5).nonzero()[:, 0]
    keep = keep[torch.randperm(len(keep), generator=g)]
    z, flips = filled(z[keep], flips[keep], found[keep])
    middle = keys[keep].mean(1)
    if z.shape[1] > 1:
        return Bank(z, flips, middle, True)
    return Bank(guessed_sequences(z[:, 0], middle, LENGTH, g), flips.expand(-1, LENGTH), middle, False)


def found_correlation(logit: Tensor, found: Tensor, g: torch.Generator) -> Tensor:
    """How much pictures (S, T) of a sequence share of whether somebody is found, 0..1: where it varies as it does."""
    S, T = found.shape
    if T == 1:
        return torch.tensor(0.8)
    true = float(found.float().mean(1).var())
    shared, own = torch.randn(S, 1, generator=g), torch.randn(S, T, generator=g)
    shares = torch.linspace(0.0, 1.0, 51)
    spread = [
        float((torch.special.ndtr(c.sqrt() * shared + (1 - c).sqrt() * own) < logit.sigmoid()).float().mean(1).var())
        for c in shares
    ]
    return shares[(torch.tensor(spread) - true).abs().argmin()]


def key_scale(keys: Tensor) -> Tensor:
    """(KEYS,) what counts as one step from view to view, over the views and their mirrors."""
    both = torch.cat([keys, mirror_keys(keys)])
    return both.std(0).clamp_min(0.02)


def filled(z: Tensor, flips: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences (S, T, ...) with pictures in which nobody was found as the nearest one in which somebody was."""
    T = found.shape[1]
    time = torch.arange(T)
    far = (time[None, :, None] - time[None, None]).abs() + 1000 * (~found)[:, None]
    at = far.argmin(-1)
    rows = torch.arange(len(z))[:, None]
    return z[rows, at], flips[rows, at]


def guessed_sequences(z: Tensor, keys: Tensor, length: int, g: torch.Generator) -> Tensor:
    """Sequences (N, length, D), 0.1 s a step, of residuals (N, D) without a time: each turns slowly towards another's.

    0.5 s of memory and a third of white error, as benchmarks.landmark_noise has them.
    """
    scaled = (keys - keys.mean(0)) / keys.std(0)
    near = torch.cdist(scaled, scaled).topk(13, largest=False).indices[:, 1:]
    other = z[near[torch.arange(len(z)), torch.randint(12, (len(z),), generator=g)]]
    walk = torch.randn(len(z), length, 1, generator=g).cumsum(1) * 0.35
    angle = walk - walk[:, length // 2 : length // 2 + 1]
    mixed = angle.cos() * z[:, None] + angle.sin() * other[:, None]
    white = 0.3 * torch.randn(len(z), length, z.shape[-1], generator=g)
    return mixed * (1 - 0.09) ** 0.5 + white
