"""What a network of `training.error_model` is worth on pictures that it has not seen, and how to make it say so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.error_network import PLACED, SEEN

DEGREES = 4.0


def student(targets: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Negative log likelihood, without its constant, of Student's t with DEGREES degrees of freedom."""
    z = (targets - mean) * (-log_sigma).exp()
    return log_sigma + 0.5 * (DEGREES + 1) * torch.log1p(z * z / DEGREES)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a network's mean and log sigma (N_TARGETS,) are worth on pictures that it has not seen.

    A mean that errs counts twice, in itself and in the residuals; with the slope of found on said, residuals do not
    depend on it and the spread of what is found comes out right. The same for log sigma, by log absolute residuals.
    """

    slope: Tensor
    offset: Tensor
    sigma_slope: Tensor
    sigma_offset: Tensor
    found_slope: Tensor
    found_offset: Tensor

    @classmethod
    def of(
        cls, goal: Tensor, mean: Tensor, log_sigma: Tensor, log_scale: Tensor, found: Tensor, logit: Tensor
    ) -> Calibration:
        """From components (N, N_TARGETS), what was said of them, whether somebody was found (N,) and its logit."""
        said_found = _logistic(logit, found.float())
        goal, mean, log_sigma = goal[found], mean[found], log_sigma[found]
        weight = 1.0 / (1.0 + ((goal - mean) * (-log_sigma).exp()).square() / DEGREES)
        slope, offset = _lines(mean, goal, weight)
        slope = slope.clamp(0.0, 1.05)
        rest = (goal - slope * mean - offset).abs().clamp_min(1e-9).log()
        said = log_sigma - log_scale
        sigma_slope, _ = _lines(said, rest.clamp_min(-12.0), torch.ones_like(rest))
        sigma_slope = sigma_slope.clamp(0.0, 1.1)
        sigma_offset = (rest - sigma_slope * said).median(0).values - log_scale + 0.3
        return cls(slope, offset, sigma_slope, sigma_offset, *said_found)

    def __call__(self, mean: Tensor, log_sigma: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Calibrated mean and log sigma."""
        said = log_sigma - log_scale
        return self.slope * mean + self.offset, self.sigma_slope * said + self.sigma_offset + log_scale

    def into(self, w: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a network that says it calibrated."""
        a, b = self.slope, self.sigma_slope
        placed, more = torch.cat([a[PLACED], b[PLACED]]), torch.cat([self.offset[PLACED], self.sigma_offset[PLACED]])
        seen = torch.cat([a[SEEN], b[SEEN], self.found_slope])
        more_seen = torch.cat([self.offset[SEEN], self.sigma_offset[SEEN], self.found_offset])
        return w | {
            "w2": placed[:, None] * w["w2"], "b2": placed * w["b2"] + more,
            "skip": a[PLACED, None] * w["skip"], "skip_given": a[PLACED, None] * w["skip_given"],
            "w_seen": seen[:, None] * w["w_seen"], "b_seen": seen * w["b_seen"] + more_seen,
            "skip_seen": a[SEEN, None] * w["skip_seen"],
        }  # fmt: skip


def _logistic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope (1,) and offset (1,) of the logistic regression of y (N,) in 0..1 on x (N,); Newton's method."""
    A = torch.stack([x, torch.ones_like(x)], 1).double()
    b: Tensor = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(20):
        q = (A @ b).sigmoid()
        H = A.T @ (A * (q * (1 - q))[:, None]) + 1e-3 * torch.eye(2, dtype=torch.float64)
        b = b + torch.linalg.solve(H, A.T @ (y.double() - q)).clamp(-1.0, 1.0)
    return b[:1].float(), b[1:].float()


def _lines(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes and offsets (D,) of weighted regressions of y on x (N, D), column by column."""
    total = weight.sum(0)
    mx, my = (weight * x).sum(0) / total, (weight * y).sum(0) / total
    slope = (weight * (x - mx) * (y - my)).sum(0) / (weight * (x - mx) ** 2).sum(0).clamp_min(1e-9)
    return slope, my - slope * mx
