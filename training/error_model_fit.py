"""Fits the landmark network's errors on renders: `python -m training.error_model_fit --work DIR --out FILE`.

DIR holds shards of training.landmark_renders (single pictures) or of `training.make_data` (short sequences). The mean
and the sigma of what is found are a small network's, by the likelihood of Student's t; residuals for the bank come from
networks that did not see the picture (cross-fitting by shard).
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from training.error_bank import STEP_S, found_correlation, key_scale, sequences
from training.error_calibration import Calibration, student
from training.error_geometry import (
    N_FEATURES,
    N_MARKS,
    N_TARGETS,
    N_WHOLE,
    OTHER,
    exchanged,
    mirror_features,
    mirror_targets,
)
from training.error_model import FORMAT, STEPS, LandmarkErrors
from training.error_network import PLACED, SEEN, components_of, network, seen_of, trunk, view_keys
from training.error_renders import Renders, flips_of, held_out, kinds
from training.error_tables import joint_errors

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

    @classmethod
    def joined(cls, parts: list[Examples]) -> Examples:
        """All of them."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))


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
    basis[-N_WHOLE:, -N_WHOLE:] = torch.eye(N_WHOLE)
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
    n, m = len(PLACED), N_MARKS
    new: dict[str, Tensor] = {
        "w0": torch.randn(HIDDEN, N_FEATURES) / N_FEATURES**0.5, "b0": torch.zeros(HIDDEN),
        "w_seen": torch.randn(2 * m + 1, HIDDEN) * 0.01, "b_seen": torch.zeros(2 * m + 1),
        "skip_seen": torch.zeros(m, N_FEATURES),
        "w1": torch.randn(HIDDEN, HIDDEN) / HIDDEN**0.5, "b1": torch.zeros(HIDDEN),
        "w1_seen": torch.randn(HIDDEN, m) / HIDDEN**0.5,
        "w2": torch.randn(2 * n, HIDDEN) * 0.01, "b2": torch.zeros(2 * n),
        "skip": torch.zeros(n, N_FEATURES), "skip_given": torch.zeros(n, m),
    }  # fmt: skip
    learned = [value.requires_grad_() for value in new.values()]
    w = base | new
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
        given = goal[:, SEEN].nan_to_num() + 0.1 * torch.randn(len(pick), N_MARKS)
        mean, log_sigma, logit = network(features, given, w)
        seen = x.found[pick]
        loss = student(goal[seen], mean[seen], log_sigma[seen]).mean()
        loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(logit, seen.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {k: v.detach() for k, v in w.items()}


def residuals(x: Examples, base: dict[str, Tensor], epochs: int) -> tuple[Tensor, Tensor, Calibration]:
    """Whitened residuals (N, N_TARGETS) by networks that did not see the picture's shard, and what to make of them.

    Between them the least and largest residuals (2, N_TARGETS), but for one in 500.
    """
    mean, log_sigma, logit = torch.empty_like(x.targets), torch.empty_like(x.targets), torch.empty(len(x.found))
    goal = components_of(x.targets, base)
    for fold in range(FOLDS):
        out = x.group % FOLDS == fold
        weights = fit_network(x, base, (~out).nonzero()[:, 0], epochs, fold)
        mean[out], log_sigma[out], logit[out] = network(x.told[out], goal[out][:, SEEN].nan_to_num(), weights)
    calibration = Calibration.of(goal, mean, log_sigma, base["log_scale"], x.found, logit)
    before = student(goal, mean, log_sigma)[x.found].mean()
    mean, log_sigma = calibration(mean, log_sigma, base["log_scale"])
    after = student(goal, mean, log_sigma)[x.found].mean()
    log.info("likelihood of pictures not seen %.4f, calibrated %.4f; slopes %.2f, %.2f", before, after,
             calibration.slope.mean(), calibration.sigma_slope.mean())  # fmt: skip
    off = goal - mean
    limits = torch.quantile(off[x.found], torch.tensor([0.002, 0.998]), dim=0)
    return off * (-log_sigma).exp(), limits, calibration


def fit(sets: list[Renders], rows: int, epochs: int, seed: int) -> dict[str, Tensor]:
    """The tensors of the model's file, fitted on renders of one kind each (see `error_renders.kinds`).

    At most `rows` sequences go into the bank: of the longest kind, and where those are too few, guessed ones.
    """
    parts = [Examples.of(renders) for renders in sets]
    x = Examples.joined(parts)
    base = ground(x)
    z, limits, calibration = residuals(x, base, epochs)
    weights = calibration.into(fit_network(x, base, torch.arange(len(x.found)), epochs, seed))
    mean, log_sigma, logit = seen_of(*trunk(x.told, weights), weights)
    keys = view_keys(x.told, mean, log_sigma, weights)
    g = torch.Generator().manual_seed(seed)
    banks, shared, start = [], torch.tensor(0.8), 0
    for part, renders in zip(parts, sets, strict=True):
        own = slice(start, start + len(part.found))
        start = own.stop
        S, T = renders.found.shape
        if T > 1:
            shared = found_correlation(logit[own].view(S, T), renders.found, g)
        z_own, keys_own = (v[own].view(S, T, -1) for v in (z, keys))
        banks.append(sequences(z_own, keys_own, part.flips.view(S, T), renders.found, g))
    banks.sort(key=lambda bank: not bank.real)
    bank_z, flips, bank_keys = (torch.cat([getattr(b, k) for b in banks])[:rows] for k in ("z", "flips", "keys"))
    a, b = (v.flatten(0, 1).clamp(-8, 8) for v in (bank_z[:, 1:], bank_z[:, :-1]))
    correlation = (a * b).mean(0) / (a.square().mean(0) * b.square().mean(0)).sqrt()
    half = {k: v.half() if v.ndim == 2 and k != "basis" else v for k, v in weights.items()}
    real = sum(len(b.z) for b in banks if b.real)
    log.info("%d sequences in the bank, %d of them real", len(bank_z), min(rows, real))
    tensors = half | {
        "limits": limits, "bank_z": bank_z, "bank_flips": flips.to(torch.int8), "bank_keys": bank_keys.half(),
        "step_s": torch.tensor(STEP_S), "key_scale": key_scale(keys), "step_correlation": correlation.clamp(0, 1),
        "found_correlation": shared,
    }  # fmt: skip
    return tempered(tensors, sets[-1], seed)


def stored(z: Tensor, share: float) -> Tensor:
    """Residuals (S, T, N_TARGETS) as they stand in the file, all but those of visibility made smaller."""
    factor = torch.full((N_TARGETS,), share)
    factor[SEEN] = 1.0
    return ((z * factor).asinh() * STEPS).round().clamp(-127, 127).to(torch.int8)


def tempered(tensors: dict[str, Tensor], renders: Renders, seed: int) -> dict[str, Tensor]:
    """Residuals made smaller until modelled metric landmarks are as far from the truth, after Procrustes, as found.

    Sigmas err; in a residual that is laid on another view they err twice.
    """
    seen = renders.found.flatten()
    views = renders.views(measured=False)
    true = (views.points * views.stature_m[:, None, None])[seen]
    real = joint_errors(views.in_axes(renders.points_m.flatten(0, 1))[seen], true)[1].mean()
    times = STEP_S * torch.arange(renders.found.shape[1])
    low, high = 0.6, 1.1
    for _ in range(6):
        share = 0.5 * (low + high)
        model = LandmarkErrors(tensors | {"bank_z": stored(tensors["bank_z"], share)})
        args = (renders.landmarks, renders.K, renders.size_wh, renders.stature_m, times)
        made = model.sample(*args, torch.Generator().manual_seed(seed)).points_m.flatten(0, 1)
        larger = joint_errors(views.in_axes(made)[seen], true)[1].mean() > real
        low, high = (low, share) if larger else (share, high)
    log.info("residuals at %.2f of their size", 0.5 * (low + high))
    return tensors | {"bank_z": stored(tensors["bank_z"], 0.5 * (low + high))}


def main(arguments: list[str] | None = None) -> int:
    """Fits and writes the model's file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.error_model_fit", description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m training.error_model_fit --work renders --out error_model.safetensors",
    )  # fmt: skip
    parser.add_argument("--work", type=Path, required=True, nargs="+", help="folders of shards *.npz")
    parser.add_argument("--shards", default="*", help="which of them: a pattern of names, e.g. singles_*")
    parser.add_argument("--out", type=Path, required=True, help="the model's file, replaced at once when done")
    parser.add_argument("--rows", type=int, default=1250, help="sequences in the bank at most")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = [f for folder in options.work for f in sorted(folder.glob(f"{options.shards}.npz"))]
    tensors = fit(list(kinds([f for f in files if not held_out(f)])), options.rows, options.epochs, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    part = options.out.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in tensors.items()}, part, {"format": f"landmark-errors {FORMAT}"})
    part.chmod(0o644)
    part.replace(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
