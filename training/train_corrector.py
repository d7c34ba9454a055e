"""Stage 3: everything is frozen but the corrector, which learns to undo wrong camera angles and roots in the world.

The camera's angles are made wrong by as much as calibrations err, from next to nothing to a camera that nobody has
calibrated yet; what is asked for is the root in the gravity-aligned world with the camera's true heading.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.losses import with_camera
from training.network import INPUTS, LandmarkNet, OrientCorrect, exp_turn, ray_rotation, rotation_from_6d
from training.train import Plan, batches, load_windows, new_network, rate_at

log = logging.getLogger(__name__)

#: Camera angles that are off by so much are given to the corrector where it is measured.
OFF_DEG = (0.0, 3.0, 10.0)


def world_of(up_camera: Tensor) -> Tensor:
    """R_world_camera (B, 3, 3) whose y is `up_camera` (B, 3) and whose z points back toward the camera."""
    back = -up_camera.new_tensor([0.0, 0.0, 1.0]).expand_as(up_camera)
    z = torch.nn.functional.normalize(back - (back * up_camera).sum(-1, keepdim=True) * up_camera, dim=-1)
    x = torch.linalg.cross(up_camera, z)
    return torch.stack([x, up_camera, z], 1)


def perturbed(up_camera: Tensor, g: torch.Generator) -> Tensor:
    """Verticals (B, 3) that are off by a scale of their own each, log-uniform from 0.5 to 20 degrees."""
    n = len(up_camera)
    scale = torch.deg2rad(0.5 * 40.0 ** torch.rand(n, 1, generator=g))
    turn = torch.randn(n, 3, generator=g) * scale
    return (exp_turn(turn) @ up_camera[..., None])[..., 0]


def inputs_of(out: dict[str, Tensor], batch: dict[str, Tensor], up: Tensor) -> tuple[Tensor, ...]:
    """What the corrector reads, with the true ray to the hips; the root is the one that the network regressed."""
    R_camera_ray = ray_rotation(batch["place_m"])
    root = R_camera_ray @ rotation_from_6d(out["Rs_6d"][:, 0])
    seen = (R_camera_ray @ out["up_ray"][..., None])[..., 0]
    return out["feature"], world_of(up), root, seen, out["log_kappa"]


def true_root(batch: dict[str, Tensor]) -> Tensor:
    """R_world_root (B, 3, 3) in the world of `world_of`."""
    R_camera_root = ray_rotation(batch["place_m"]) @ rotation_from_6d(batch["Rs_6d"][:, 0])
    return world_of(batch["up_camera"]) @ R_camera_root


def off_by(up_camera: Tensor, degrees: float, g: torch.Generator) -> Tensor:
    """Verticals (B, 3) turned by `degrees` about axes of any direction."""
    axis = torch.nn.functional.normalize(torch.randn(len(up_camera), 3, generator=g), dim=-1)
    return (exp_turn(axis * math.radians(degrees)) @ up_camera[..., None])[..., 0]


def angle_of(A: Tensor, B: Tensor) -> Tensor:
    """Angle (B,) in radians between rotations, by the chord: no arc cosine's edges."""
    return 2.0 * torch.asin(((A - B).flatten(1).norm(dim=1) / 2.8284271).clamp(max=0.9999))


def train_corrector(data: Path, work: Path, config: dict[str, Any]) -> dict[str, float]:
    """Trains and keeps `stage3.pt`; returns the last evaluation."""
    from torch.utils.tensorboard import SummaryWriter

    plan = Plan(**config["stage3"])
    net = new_network(config)
    net.load_state_dict(torch.load(work / "stage2.pt", weights_only=True)["average"])
    net.eval().requires_grad_(False)
    corrector = OrientCorrect(config["sizes"]["width"])
    windows, held_out = load_windows(data / "train.pt"), load_windows(data / "held_out.pt")
    optimiser = torch.optim.AdamW(corrector.parameters(), plan.rate, weight_decay=plan.decay)
    steps = plan.epochs * (len(windows["ages_s"]) // plan.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: rate_at(i, steps))
    report: dict[str, float] = {}
    with SummaryWriter(str(work / "curves" / "stage3")) as curves:
        for epoch in range(plan.epochs):
            g = torch.Generator().manual_seed(1000 * config["seed"] + epoch)
            for batch in batches(windows, plan.batch, g):
                loss = loss_of(net, corrector, with_camera(batch, g), g)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(corrector.parameters(), 1.0)
                optimiser.step()
                schedule.step()
            report = evaluate_corrector(net, corrector, held_out)
            for name, value in report.items():
                curves.add_scalar(name, value, epoch)
            log.info("stage 3, epoch %d: %s", epoch + 1, json.dumps({k: round(v, 3) for k, v in report.items()}))
            torch.save({"corrector": corrector.state_dict()}, work / "stage3.pt")
    return report


def loss_of(net: LandmarkNet, corrector: OrientCorrect, batch: dict[str, Tensor], g: torch.Generator) -> Tensor:
    """How far the corrected root is from the true one, in units of what the corrector says it may be off."""
    with torch.no_grad():
        out = net(*(batch[name] for name in INPUTS))
        feature, R_world_camera, root, seen, kappa = inputs_of(out, batch, perturbed(batch["up_camera"], g))
        true = true_root(batch)
    turn, log_scale = corrector(feature, R_world_camera, root, seen, kappa)
    off = angle_of(exp_turn(turn) @ R_world_camera @ root, true)
    log_scale = log_scale.clamp(-4.0, 1.0)
    return (off * (-log_scale).exp() + log_scale).mean()


@torch.no_grad()
def evaluate_corrector(net: LandmarkNet, corrector: OrientCorrect, data: dict[str, Tensor]) -> dict[str, float]:
    """Median angle in degrees of the root in the world and of its up axis, before and after, by the camera's error."""
    g = torch.Generator().manual_seed(3)
    batch = with_camera({k: v.float() for k, v in data.items()}, g)
    out = net(*(batch[name] for name in INPUTS))
    true = true_root(batch)
    report = {}
    for degrees in OFF_DEG:
        feature, R, root, seen, kappa = inputs_of(out, batch, off_by(batch["up_camera"], degrees, g))
        fixed = exp_turn(corrector(feature, R, root, seen, kappa)[0]) @ R @ root
        for name, found in (("before", R @ root), ("after", fixed)):
            report[f"{name}_{degrees:g}_deg"] = float(torch.rad2deg(angle_of(found, true)).median())
            lean = torch.acos((found[:, :, 1] * true[:, :, 1]).sum(-1).clamp(-1, 1))
            report[f"lean_{name}_{degrees:g}_deg"] = float(torch.rad2deg(lean).median())
    return report
