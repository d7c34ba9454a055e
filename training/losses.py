"""W-HMR's losses on landmarks: which term there is, and which part of the network each reaches in each stage.

As in the paper, the focal length has no label: it follows from the distance Tz, and Tz is taught only by where a body
lands in the whole picture under full perspective. The paper reprojects the regressed body; its depth errs by more than
perspective shows, so no perspective fits it best and Tz grows. Here Tz learns from the window's true body (the paper's
3D labels) and only from its distortion: what a shift and a scale in the picture explain says nothing of distance. The
regressed body is reprojected too, in stage 2, and learns from it; Tz does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.body import BodyModel
from training.network import HIPS, STATURE_M, UNKNOWN_CAMERA, exp_turn, ray_rotation, rotation_from_6d

#: Landmarks that move with the limbs; the face and the fingers are seen less surely and say less.
_LIMBS = torch.tensor([11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32])
NEAREST_M = 0.2


@dataclass(frozen=True)
class Weights:
    """Factors of the terms; `full` is the full-picture 2D term of the body, `distance` that of Tz, `focal` the labels
    of a head of their own."""

    pose: float = 4.0
    betas: float = 0.01
    body: float = 8.0
    free: float = 1.0
    crop: float = 2.0
    full: float = 4.0
    distance: float = 10.0
    up: float = 1.0
    focal: float = 0.3


@dataclass(frozen=True, eq=False)
class Posed:
    """The regressed body in ray axes about the hips, metres: landmarks (B, 33, 3) and rotations (B, 24, 3, 3)."""

    landmarks: Tensor
    Rs: Tensor


class Bodies:
    """Turns what the network says into landmarks, by the project's body at STATURE_M."""

    def __init__(self, body: BodyModel | None = None) -> None:
        self.body = BodyModel.load() if body is None else body

    def __call__(self, Rs_6d: Tensor, betas: Tensor) -> Posed:
        """Of rotations (B, 24, 6), root first, and shapes (B, 10) whose first value is replaced."""
        Rs = rotation_from_6d(Rs_6d)
        dirs = betas.new_tensor(self.body.stature_dirs)
        first = (STATURE_M - self.body.stature_m - betas[:, 1:] @ dirs[1:]) / dirs[0]
        shaped = self.body.shaped(torch.cat([first[:, None], betas[:, 1:]], 1))
        marks = shaped.posed(Rs[:, 0], torch.zeros_like(betas[:, :3]), Rs[:, 1:]).landmarks
        return Posed(marks - 0.5 * (marks[:, HIPS[0]] + marks[:, HIPS[1]])[:, None], Rs)


def full_picture(
    landmarks: Tensor, weak: Tensor, log_distance: Tensor, box: Tensor, size_wh: Tensor
) -> tuple[Tensor, Tensor]:
    """Image landmarks (B, 33, 2) under full perspective, pixels, and the focal length (B,) that follows from Tz.

    landmarks (B, 33, 3) in ray axes about the hips, metres; weak (B, 3) s, tx, ty of the box; log_distance (B,) log Tz;
    box (B, 3) centre and side. f = s b Tz / 2 (SPEC of the released network, section 5).
    """
    distance = log_distance.exp()
    focal = 0.5 * weak[:, 0] * box[:, 2] * distance
    middle = (size_wh - 1.0) / 2
    hips_px = box[:, :2] + 0.5 * box[:, 2:] * weak[:, :1] * weak[:, 1:]
    place = torch.cat([(hips_px - middle) * (distance / focal)[:, None], distance[:, None]], 1)
    points = landmarks @ ray_rotation(place).transpose(1, 2) + place[:, None]
    uv = points[..., :2] / points[..., 2:].clamp_min(NEAREST_M) * focal[:, None, None] + middle[:, None]
    return uv, focal


def distortion(found_px: Tensor, true_px: Tensor) -> Tensor:
    """What no shift and no scale in the picture takes from `found_px` to `true_px`, both (B, N, 2), same units."""
    found = found_px - found_px.mean(1, keepdim=True)
    true = true_px - true_px.mean(1, keepdim=True)
    scale = (found * true).sum((1, 2)) / (found * found).sum((1, 2)).clamp_min(1e-6)
    return scale[:, None, None] * found - true


def terms(
    out: dict[str, Tensor], truth: dict[str, Tensor], bodies: Bodies, stage: int, weak_perspective: bool = False,
    regressed: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """Every term of stages 1 and 2, means over the batch, not yet weighted.

    Two ablations: `weak_perspective` leaves out what is reprojected into the full picture, so nothing teaches Tz;
    `regressed` teaches Tz by the regressed body, as the paper does.
    """
    posed = bodies(out["Rs_6d"], out["betas"])
    true_Rs = rotation_from_6d(truth["Rs_6d"])
    box = out["box"]
    side = box[:, None, 2:]
    weak = out["weak_camera"]
    crop = weak[:, None, :1] * (posed.landmarks[..., :2] + weak[:, None, 1:])
    true_crop = (truth["true_px"] - box[:, None, :2]) * (2.0 / side)
    off = out["landmarks_m"] - truth["true_ray_m"]
    across, along = out["log_sigma_m"].unbind(-1)
    free = (
        off[..., :2].abs().sum(-1) * (-across).exp() + 2 * across + off[..., 2].abs() * (-along).exp() + along
    ).mean()
    up_true = truth["up_ray"]
    # Angle between unit vectors without a square root's or an arc cosine's edges
    angle = 2.0 * torch.asin((0.5 * (out["up_ray"] - up_true).norm(dim=-1)).clamp(max=0.999))
    kappa = out["log_kappa"].clamp(-1.0, 5.0)
    log_f, log_scale = out["labelled_focal"].unbind(-1)
    log_f_true = (truth["focal_px"] / truth["size_wh"].amax(1)).log()
    result = {
        "pose": ((posed.Rs - true_Rs) ** 2).mean((0, 2, 3)).mean() + ((posed.Rs[:, 0] - true_Rs[:, 0]) ** 2).mean(),
        "betas": ((out["betas"][:, 1:] - truth["betas"][:, 1:]) ** 2).mean(),
        "body": (posed.landmarks - truth["true_ray_m"]).abs().mean(),
        "free": free,
        "crop": F.smooth_l1_loss(crop, true_crop.clamp(-6, 6), beta=0.05),
        "up": (angle * kappa.exp() - 2.0 * kappa).mean(),
        "focal": ((log_f - log_f_true).abs() * (-log_scale).exp() + log_scale).mean(),
    }
    if weak_perspective:
        return result
    weak, size_wh, log_distance = weak.detach(), truth["size_wh"], out["log_distance"]
    if regressed:
        marks = posed.landmarks.detach() if stage == 1 else posed.landmarks
        return result | {"full": _reprojection(marks, weak, log_distance, box, truth)}
    if stage > 1:
        result["full"] = _reprojection(posed.landmarks, weak, log_distance.detach(), box, truth)
    uv, _ = full_picture(truth["true_ray_m"], weak, log_distance, box, size_wh)
    left = distortion(*(((px[:, _LIMBS] - box[:, None, :2]) / side).clamp(-3, 3) for px in (uv, truth["true_px"])))
    result["distance"] = F.smooth_l1_loss(left, torch.zeros_like(left), beta=0.002)
    return result


def _reprojection(
    landmarks: Tensor, weak: Tensor, log_distance: Tensor, box: Tensor, truth: dict[str, Tensor]
) -> Tensor:
    uv, _ = full_picture(landmarks, weak, log_distance, box, truth["size_wh"])
    error = ((uv - truth["true_px"]) / box[:, None, 2:])[:, _LIMBS]
    return F.smooth_l1_loss(error.clamp(-2, 2), torch.zeros_like(error), beta=0.02)


def with_camera(batch: dict[str, Tensor], g: torch.Generator, known: float = 0.85) -> dict[str, Tensor]:
    """The batch with `camera` (B, 6), what is believed of it in a share `known` of the windows, nothing in the rest.

    Beliefs err as they say, or half or twice as much: verticals by 0.4 to 20 degrees, focal lengths by 2 to 35 %.
    """
    n = len(batch["up_camera"])

    def log_uniform(low: float, high: float) -> Tensor:
        return low * (high / low) ** torch.rand(n, generator=g)

    up_sigma, focal_sigma = torch.deg2rad(log_uniform(0.4, 20.0)), log_uniform(0.02, 0.35)
    turn = torch.randn(n, 3, generator=g) * (up_sigma * log_uniform(0.5, 1.8))[:, None]
    up = (exp_turn(turn) @ batch["up_camera"][..., None])[..., 0]
    log_focal = (batch["focal_px"] / batch["size_wh"].amax(1)).log()
    log_focal = log_focal + torch.randn(n, generator=g) * focal_sigma * log_uniform(0.5, 1.8)
    believed = torch.cat([up, up_sigma[:, None], log_focal[:, None], focal_sigma[:, None]], 1)
    nothing = torch.tensor(UNKNOWN_CAMERA)
    return batch | {"camera": torch.where(torch.rand(n, 1, generator=g) < known, believed, nothing)}


def with_up_in_ray(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with `up_ray` (B, 3): up seen from the ray through the hips."""
    up = (ray_rotation(batch["place_m"]).transpose(1, 2) @ batch["up_camera"][..., None])[..., 0]
    return batch | {"up_ray": up}
