"""Fits the landmark network's errors on renders: `python -m training.error_model_fit --work DIR --out FILE`.

DIR holds shards of training.landmark_renders (single pictures) or of `training.make_data` (short sequences). The mean
and the sigma of what is found are a small network's, by the likelihood of Student's t; residuals for the bank come from
networks that did not see the picture (cross-fitting by shard).
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from training.error_calibration import Calibration, student
from training.error_geometry import (
    N_FEATURES,
    N_TARGETS,
    OTHER,
    exchanged,
    mirror_features,
    mirror_targets,
)
from training.error_model import FORMAT, STEPS, components_of, key_weights, mirror_keys, network, view_keys
from training.error_renders import Renders, flips_of, held_out

log = logging.getLogger(__name__)

HIDDEN, DROPOUT, DECAY = 224, 0.15, 0.05
FOLDS = 5
#: What errs together: the face, the shoulders, elbow, hand, hips, knee and foot; left ones stand for both sides.
BLOCKS = (tuple(range(11)), (11,), (13,), (15, 17, 19, 21), (23, 24), (25,), (27, 29, 31))
CHANNELS = ((0, 1), (2,), (3, 4), (5,))


@dataclass(frozen=True, eq=False)
class Examples:
    """N pictures: features with measured and with told hidden landmarks, targets, exchanged sides, found, shard."""

    measured: Tensor
    told: Tensor
    targets: Tensor
    flips: Tensor
    found: Tensor
    group: Tensor

    @classmethod
    def of(cls, renders: Renders) -> Examples:
        """All pictures of the renders; targets are nan where nobody was found."""
        views = renders.views()
        found = renders.found.flatten()
        px, vis, metres = (getattr(renders, n).flatten(0, 1) for n in ("points_px", "visibility", "points_m"))
        flips = flips_of(views, px)
        flips[~found] = 0
        back = (exchanged(v, flips) for v in (px, vis, metres))
        targets = views.encode(*back)
        targets[~found] = torch.nan
        T = renders.landmarks.shape[1]
        told = renders.views(measured=False).features()
        return cls(views.features(), told, targets, flips, found, renders.group.repeat_interleave(T))


def local_basis(x: Examples, rows: Tensor, scale: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal components (N_TARGETS, N_TARGETS) of what a linear model leaves over, and their log sigmas.

    Each mixes only landmarks of one part of the body (BLOCKS); those of the right are those of the left in a mirror.
    """
    features = torch.cat([x.told[rows], mirror_features(x.told[rows])])
    goal = (torch.cat([x.targets[rows], mirror_targets(x.targets[rows])]) - middle) / scale
    goal = goal.clamp(-8, 8)
    A = torch.cat([(features - features.mean(0)) / features.std(0).clamp_min(0.05), torch.ones(len(features), 1)], 1)
    rest = goal - A @ torch.linalg.solve(A.T @ A + 20.0 * torch.eye(A.shape[1]), A.T @ goal)
    rest = rest.clamp(-5, 5)
    M = mirror_targets(torch.eye(N_TARGETS) * scale) / scale  # row k: the mirror of target k
    basis = torch.zeros(N_TARGETS, N_TARGETS)
    basis[-1, -1] = 1.0
    for marks in BLOCKS:
        for channels in CHANNELS:
            at = torch.tensor([33 * c + k for c in channels for k in marks])
            own = M[at][:, at]
            C = rest[:, at].T @ rest[:, at] / len(rest)
            if own.abs().sum() > 0.5 * len(at):
                # A part that is its own mirror: even and odd components apart
                sign, vectors = torch.linalg.eigh(0.5 * (own + own.T))
                blocks = [vectors[:, sign > 0], vectors[:, sign < 0]]
            else:
                blocks = [torch.eye(len(at))]
            row = 0
            for E in blocks:
                if E.shape[1]:
                    basis[at[row : row + E.shape[1]][:, None], at] = (E @ torch.linalg.eigh(E.T @ C @ E)[1]).T
                    row += E.shape[1]
            if own.abs().sum() <= 0.5 * len(at):
                other = basis[at] @ M
                basis[torch.tensor([33 * c + int(OTHER[k]) for c in channels for k in marks])] = other
    sigma = 1.4826 * (rest @ basis.T).abs().median(0).values
    return basis, sigma.clamp_min(1e-3).log()


def ground(x: Examples) -> dict[str, Tensor]:
    """The weights that are not learned by descent: means, scales and components, of pictures and their mirrors."""
    both = torch.cat([x.told[x.found], mirror_features(x.told[x.found])])
    goal = torch.cat([x.targets[x.found], mirror_targets(x.targets[x.found])])
    middle = goal.median(0).values
    middle = 0.5 * (middle + mirror_targets(middle))
    scale = (1.4826 * (goal - middle).abs().median(0).values).clamp_min(1e-4)
    scale = 0.5 * (scale + mirror_targets(scale.diag()).abs().sum(0))
    basis, log_scale = local_basis(x, x.found.nonzero()[:, 0], scale, middle)
    return {
        "feature_mean": both.mean(0), "feature_scale": both.std(0).clamp_min(0.05),
        "target_mean": middle, "target_scale": scale, "basis": basis, "log_scale": log_scale,
    }  # fmt: skip


def fit_network(x: Examples, base: dict[str, Tensor], rows: Tensor, epochs: int, seed: int) -> dict[str, Tensor]:
    """Weights for `error_model.network`, those of `ground` among them, fitted on pictures `rows` (an index)."""
    torch.manual_seed(seed)
    w: dict[str, Tensor] = base | {
        "w0": torch.randn(HIDDEN, N_FEATURES) / N_FEATURES**0.5, "b0": torch.zeros(HIDDEN),
        "w1": torch.randn(HIDDEN, HIDDEN) / HIDDEN**0.5, "b1": torch.zeros(HIDDEN),
        "w2": torch.randn(2 * N_TARGETS + 1, HIDDEN) * 0.01, "b2": torch.zeros(2 * N_TARGETS + 1),
        "skip": torch.zeros(N_TARGETS, N_FEATURES),
    }  # fmt: skip
    learned = [w[k].requires_grad_() for k in ("w0", "b0", "w1", "b1", "w2", "b2", "skip")]
    steps = epochs * (len(rows) // 128 + 1)
    optimizer = torch.optim.AdamW(learned, lr=2e-3, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    plain, turned = components_of(x.targets, w), components_of(mirror_targets(x.targets), w)
    for _ in range(steps):
        pick = rows[torch.randint(len(rows), (128,))]
        use = torch.rand(len(pick), 1) < 0.5
        features = torch.where(use, x.measured[pick], x.told[pick])
        mirrored = bool(torch.rand(()) < 0.5)
        features = mirror_features(features) if mirrored else features
        goal = (turned if mirrored else plain)[pick]
        features = features + 0.02 * w["feature_scale"] * torch.randn_like(features)
        features = torch.where(torch.rand_like(features) < DROPOUT * 0.3, w["feature_mean"], features)
        mean, log_sigma, logit = network(features, w)
        seen = x.found[pick]
        loss = student(goal[seen], mean[seen], log_sigma[seen]).mean()
        loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(logit, seen.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {k: v.detach() for k, v in w.items()}


def residuals(x: Examples, base: dict[str, Tensor], epochs: int) -> tuple[Tensor, Calibration]:
    """Whitened residuals (N, N_TARGETS) by networks that did not see the picture's shard, and what to make of them."""
    mean, log_sigma, logit = torch.empty_like(x.targets), torch.empty_like(x.targets), torch.empty(len(x.found))
    for fold in range(FOLDS):
        out = x.group % FOLDS == fold
        weights = fit_network(x, base, (~out).nonzero()[:, 0], epochs, fold)
        mean[out], log_sigma[out], logit[out] = network(x.measured[out], weights)
    goal = components_of(x.targets, base)
    calibration = Calibration.of(goal, mean, log_sigma, base["log_scale"], x.found, logit)
    before = student(goal, mean, log_sigma)[x.found].mean()
    mean, log_sigma = calibration(mean, log_sigma, base["log_scale"])
    after = student(goal, mean, log_sigma)[x.found].mean()
    log.info("likelihood of pictures not seen %.4f, calibrated %.4f; slopes %.2f, %.2f", before, after,
             calibration.slope.mean(), calibration.sigma_slope.mean())  # fmt: skip
    return (goal - mean) * (-log_sigma).exp(), calibration


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


def fit(renders: Renders, rows: int, epochs: int, seed: int) -> dict[str, Tensor]:
    """The tensors of the model's file; `rows` sequences at most go into the bank."""
    x = Examples.of(renders)
    base = ground(x)
    z, calibration = residuals(x, base, epochs)
    weights = calibration.into(fit_network(x, base, torch.arange(len(x.found)), epochs, seed))
    S, T = renders.found.shape
    g = torch.Generator().manual_seed(seed)
    z, flips, found = z.view(S, T, -1), x.flips.view(S, T), renders.found
    keep = (found.float().mean(1) > 0.5).nonzero()[:, 0]
    keep = keep[torch.randperm(len(keep), generator=g)][:rows]
    mean, log_sigma, logit = network(x.measured, weights)
    keys = view_keys(x.measured, mean, log_sigma, weights).view(S, T, -1).mean(1)
    z, flips = filled(z[keep], flips[keep], found[keep])
    if T == 1:
        z = guessed_sequences(z[:, 0], keys[keep], 8, g)
        flips = flips.expand(-1, 8)
    a, b = (v.flatten(0, 1) for v in (z[:, 1:].clamp(-8, 8), z[:, :-1].clamp(-8, 8)))
    correlation = (a * b).mean(0) / (a.square().mean(0) * b.square().mean(0)).sqrt()
    half = {k: v.half() if v.ndim == 2 else v for k, v in weights.items()}
    return {
        **half,
        "bank_z": (z.asinh() * STEPS).round().clamp(-127, 127).to(torch.int8), "bank_flips": flips.to(torch.int8),
        "bank_keys": keys[keep].half(), "step_s": torch.tensor(0.1), "key_scale": key_scale(keys),
        "step_correlation": correlation.clamp(0, 1), "found_correlation": found_correlation(logit.view(S, T), found, g),
    }  # fmt: skip


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
    return both.std(0).clamp_min(0.02) / key_weights()


def filled(z: Tensor, flips: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences (S, T, ...) with pictures in which nobody was found as the nearest one in which somebody was."""
    T = found.shape[1]
    time = torch.arange(T)
    far = (time[None, :, None] - time[None, None]).abs() + 1000 * (~found)[:, None]
    at = far.argmin(-1)
    rows = torch.arange(len(z))[:, None]
    return z[rows, at], flips[rows, at]


def main(arguments: list[str] | None = None) -> int:
    """Fits and writes the model's file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.error_model_fit", description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m training.error_model_fit --work renders --out error_model.safetensors",
    )  # fmt: skip
    parser.add_argument("--work", type=Path, required=True, help="folder of shards *.npz")
    parser.add_argument("--shards", default="*", help="which of them: a pattern of names, e.g. singles_*")
    parser.add_argument("--out", type=Path, required=True, help="the model's file, replaced at once when done")
    parser.add_argument("--rows", type=int, default=1250, help="sequences in the bank at most")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = sorted(options.work.glob(f"{options.shards}.npz"))
    renders = Renders.load([f for f in files if not held_out(f)])
    tensors = fit(renders, options.rows, options.epochs, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    part = options.out.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in tensors.items()}, part, {"format": f"landmark-errors {FORMAT}"})
    part.replace(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
