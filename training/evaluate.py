"""How right the networks are on windows whose truth is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.calibration_unknown import FOCAL_PRIOR
from training.losses import Bodies, with_camera
from training.network import INPUTS, LandmarkNet

_LIMBS = torch.tensor([11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])


def aligned_mm(found: Tensor, true: Tensor) -> Tensor:
    """Mean distance (B,) of limb landmarks (B, 33, 3) after Procrustes with scale, mm."""
    P, Q = (v[:, _LIMBS] - v[:, _LIMBS].mean(1, keepdim=True) for v in (found.double(), true.double()))
    U, S, Vh = torch.linalg.svd(P.transpose(1, 2) @ Q)
    sign = torch.sign(torch.linalg.det(U @ Vh))
    S = torch.cat([S[:, :2], S[:, 2:] * sign[:, None]], 1)
    U = torch.cat([U[..., :2], U[..., 2:] * sign[:, None, None]], 2)
    scale = S.sum(1) / (P**2).sum((1, 2))
    return 1000 * (scale[:, None, None] * P @ (U @ Vh) - Q).norm(dim=-1).mean(1).float()


@torch.no_grad()
def errors_of(out: dict[str, Tensor], batch: dict[str, Tensor], bodies: Bodies) -> dict[str, Tensor]:
    """Of what a network says of windows, errors (B,): bodies in mm, gravity in degrees, focal lengths in log units.

    "weak" is the focal length that reprojection taught, "label" the one of labels, "prior" that of any unknown camera.
    """
    posed = bodies(out["Rs_6d"], out["betas"])
    true, log_f = batch["true_ray_m"], (batch["focal_px"] / batch["size_wh"].amax(1)).log()
    errors = {
        "up_deg": torch.rad2deg(torch.acos((out["up_ray"] * batch["up_ray"]).sum(-1).clamp(-1, 1))),
        "focal_weak": (out["log_focal"][:, 0] - log_f).abs(),
        "focal_label": (out["labelled_focal"][:, 0] - log_f).abs(),
        "focal_prior": (log_f - math.log(FOCAL_PRIOR)).abs(),
    }
    for name, found in (
        ("raw", batch["points_m"][:, 0]), ("free", out["landmarks_m"]), ("body", posed.landmarks)
    ):  # fmt: skip
        errors[f"{name}_pa_mm"] = aligned_mm(found, true)
        errors[f"{name}_mm"] = 1000 * (found - true)[:, _LIMBS].norm(dim=-1).mean(1)
    return errors


@torch.no_grad()
def evaluate(net: LandmarkNet, data: dict[str, Tensor], bodies: Bodies, batch: int = 4096) -> dict[str, float]:
    """Means of what is in mm and medians of the rest of `errors_of`, over all windows.

    The camera is believed to be what it is, more or less (`with_camera`); `alone_` is without any belief.
    """
    net.eval()
    g = torch.Generator().manual_seed(9)
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(data["ages_s"]), batch):
        b = {k: v[start : start + batch].float() for k, v in data.items()}
        for prefix, known in (("", 1.0), ("alone_", 0.0)):
            b = with_camera(b, g, known)
            out = net(*(b[name] for name in INPUTS))
            out["log_focal"] = net.reprojected_focal(out, b["points_px"][:, 0], b["size_wh"])[:, None]
            for name, v in errors_of(out, b, bodies).items():
                if not prefix or name in ("free_mm", "body_mm", "free_pa_mm", "body_pa_mm"):
                    parts.setdefault(prefix + name, []).append(v)
    net.train()
    joined = {name: torch.cat(v) for name, v in parts.items()}
    report = {name: float(v.mean()) if name.endswith("mm") else float(v.median()) for name, v in joined.items()}
    report["up_90_deg"] = float(joined["up_deg"].quantile(0.9))
    return report
