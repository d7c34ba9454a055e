"""How right the networks are on windows whose truth is known."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses import Bodies, full_picture
from training.network import LandmarkNet

_LIMBS = torch.tensor([11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
INPUTS = ("points_px", "visibility", "points_m", "ages_s", "size_wh")


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
def evaluate(net: LandmarkNet, data: dict[str, Tensor], bodies: Bodies, batch: int = 4096) -> dict[str, float]:
    """Medians and means over all windows: bodies in mm, gravity in degrees, focal lengths in log units."""
    net.eval()
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(data["ages_s"]), batch):
        b = {k: v[start : start + batch].float() for k, v in data.items()}
        out = net(*(b[name] for name in INPUTS))
        posed = bodies(out["Rs_6d"], out["betas"])
        _, focal = full_picture(posed.landmarks, out["weak_camera"], out["log_distance"], out["box"], b["size_wh"])
        true = b["true_ray_m"]
        angle = torch.rad2deg(torch.acos((out["up_ray"] * b["up_ray"]).sum(-1).clamp(-1, 1)))
        values = {
            "raw_pa_mm": aligned_mm(b["points_m"][:, 0], true),
            "free_pa_mm": aligned_mm(out["landmarks_m"], true),
            "body_pa_mm": aligned_mm(posed.landmarks, true),
            "raw_mm": 1000 * (b["points_m"][:, 0] - true)[:, _LIMBS].norm(dim=-1).mean(1),
            "free_mm": 1000 * (out["landmarks_m"] - true)[:, _LIMBS].norm(dim=-1).mean(1),
            "body_mm": 1000 * (posed.landmarks - true)[:, _LIMBS].norm(dim=-1).mean(1),
            "up_deg": angle,
            "focal_weak": (focal / b["focal_px"]).log().abs(),
            "focal_label": (out["log_focal"][:, 0] - (b["focal_px"] / b["size_wh"].amax(1)).log()).abs(),
            "focal_prior": (b["focal_px"] / b["size_wh"].amax(1) / 0.85).log().abs(),
        }
        for name, v in values.items():
            parts.setdefault(name, []).append(v)
    net.train()
    joined = {name: torch.cat(v) for name, v in parts.items()}
    report = {name: float(v.mean()) if name.endswith("mm") else float(v.median()) for name, v in joined.items()}
    report["up_90_deg"] = float(joined["up_deg"].quantile(0.9))
    return report
