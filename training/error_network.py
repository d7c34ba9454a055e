"""The network of `training.error_model`: what will be found on average, how surely, and which views are alike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.error_geometry import N_MARKS, N_TARGETS, mirror_targets

LOG_SIGMA = (-6.0, 2.0)
#: Where among the components visibility stands, and what is placed given it.
SEEN = slice(5 * N_MARKS, 6 * N_MARKS)
PLACED = [*range(5 * N_MARKS), *range(6 * N_MARKS, N_TARGETS)]


def trunk(features: Tensor, w: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Features (N, N_FEATURES) at one scale, and the first layer's output (N, H)."""
    x = (features - w["feature_mean"]) / w["feature_scale"]
    return x, F.silu(F.linear(x, w["w0"], w["b0"]))


def seen_of(x: Tensor, h: Tensor, w: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of the trunk: mean and log sigma (N, 33) of the components of visibility, and the logit (N,) of being found."""
    out = F.linear(h, w["w_seen"], w["b_seen"])
    mean = out[:, :N_MARKS] + F.linear(x, w["skip_seen"])
    return mean, out[:, N_MARKS:-1].clamp(*LOG_SIGMA) + w["log_scale"][SEEN], out[:, -1]


def placed_of(x: Tensor, h: Tensor, seen: Tensor, w: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and log sigma (N, len(PLACED)) of the other components, given those of visibility (N, 33)."""
    u = seen.clamp(-5.0, 5.0)
    h = h + F.silu(F.linear(h, w["w1"], w["b1"]) + F.linear(u, w["w1_seen"]))
    out = F.linear(h, w["w2"], w["b2"])
    n = len(PLACED)
    mean = out[:, :n] + F.linear(x, w["skip"]) + F.linear(u, w["skip_given"])
    return mean, out[:, n:].clamp(*LOG_SIGMA) + w["log_scale"][PLACED]


def network(features: Tensor, seen: Tensor, w: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and log sigma (N, N_TARGETS) of the components and the logit (N,) of being found, of (N, N_FEATURES).

    Components are `basis` times the targets, less target_mean and in units of target_scale: what errs together is one.
    Those of visibility come first, from the features; the others given what they are, `seen` (N, 33).
    """
    x, h = trunk(features, w)
    mean_seen, sigma_seen, logit = seen_of(x, h, w)
    placed = placed_of(x, h, seen, w)
    return together(placed[0], mean_seen), together(placed[1], sigma_seen), logit


def together(placed: Tensor, seen: Tensor) -> Tensor:
    """All components (N, N_TARGETS) in their order."""
    return torch.cat([placed[:, : SEEN.start], seen, placed[:, SEEN.start :]], -1)


def targets_of(components: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Targets (N, N_TARGETS) of components."""
    return components @ weights["basis"] * weights["target_scale"] + weights["target_mean"]


def components_of(targets: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """The inverse of `targets_of`."""
    return ((targets - weights["target_mean"]) / weights["target_scale"]) @ weights["basis"].T


def view_keys(features: Tensor, mean: Tensor, log_sigma: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """(N, KEYS) which views are alike, and what is said of them (`seen_of`): how well, how surely each limb is seen.

    First what a mirror changes the sign of, then what it leaves, then left limbs and right limbs; see `mirror_keys`.
    """
    marks = features[:, : N_MARKS * 8].unflatten(-1, (8, N_MARKS))
    p, inside, hidden = marks[:, :3], marks[:, 6], marks[:, 7]
    across = 2.0 * (p[:, :, 11] - p[:, :, 12] + p[:, :, 23] - p[:, :, 24])
    trunk = p[:, :, 11] + p[:, :, 12]
    thighs = 0.7 * (p[:, :, 25] + p[:, :, 26])
    signed = torch.stack([across[:, 1], across[:, 2], trunk[:, 0], thighs[:, 0], features[:, -4], features[:, -5]], -1)
    same = torch.stack([across[:, 0], trunk[:, 1], trunk[:, 2], thighs[:, 1], thighs[:, 2], features[:, -9],
                        features[:, -8], features[:, -6], features[:, -3], inside[:, :11].mean(-1)], -1)  # fmt: skip
    looks = weights["target_mean"][SEEN] + weights["target_scale"][SEEN] * (mean @ weights["basis"][SEEN, SEEN])
    pairs = []
    for side in (0, 1):
        arm, leg = [13 + side, 15 + side, 19 + side], [25 + side, 27 + side, 31 + side]
        pairs += [channel[:, k].mean(-1) for channel in (inside, hidden) for k in (arm, leg)]
        pairs += [looks[:, k] for k in (arm[0], arm[1], leg[0], leg[1])]
        pairs += [log_sigma[:, k].mean(-1) for k in ([arm[0]], [arm[1], arm[2]], [leg[0]], [leg[1], leg[2]])]
    return torch.cat([signed, same, torch.stack(pairs, -1)], -1)


N_SIGNED, N_PAIRS = 6, 12


def mirror_keys(keys: Tensor) -> Tensor:
    """Keys (N, KEYS) of the same views in a mirror."""
    signed, same = keys[:, :N_SIGNED], keys[:, N_SIGNED : -2 * N_PAIRS]
    return torch.cat([-signed, same, keys[:, -N_PAIRS:], keys[:, -2 * N_PAIRS : -N_PAIRS]], -1)


def mirror_components(weights: dict[str, Tensor]) -> Tensor:
    """(N_TARGETS, N_TARGETS) what a mirror does to residuals of the components: it exchanges them, or changes signs."""
    scale, basis = weights["target_scale"], weights["basis"]
    seen = mirror_targets(basis * scale) / scale
    return (seen @ basis.T).T.round()
