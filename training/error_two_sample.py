"""Can a small network tell real from modelled? A classifier two-sample test."""

from __future__ import annotations

import torch
from torch import Tensor


def told_apart(real: Tensor, model: Tensor, given: Tensor, folds: Tensor) -> float:
    """Area under the curve of a small network that tells real (N, D) from modelled, given (N, F); 0.5: it cannot.

    Trained on folds (N,) True and judged on False, and the other way round.
    """
    areas = []
    for fold in (folds, ~folds):
        X = torch.cat([torch.cat([given, real], 1), torch.cat([given, model], 1)])
        y = torch.cat([torch.ones(len(real)), torch.zeros(len(model))])
        own = torch.cat([fold, fold])
        middle = X[own].median(0).values
        X = ((X - middle) / X[own].std(0).clamp_min(1e-4)).clamp(-6, 6)
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Linear(X.shape[1], 64), torch.nn.ReLU(), torch.nn.Dropout(0.3),
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.1)
        at = own.nonzero()[:, 0]
        for _ in range(max(20, 16000 // len(at))):
            for pick in at[torch.randperm(len(at))].split(64):
                loss = torch.nn.functional.binary_cross_entropy_with_logits(net(X[pick])[:, 0], y[pick])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            net.eval()
            rank = net(X[~own])[:, 0].argsort().argsort().float() + 1
        n1 = y[~own].sum()
        areas.append(float((rank[y[~own] == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * (len(rank) - n1))))
    return sum(areas) / 2
