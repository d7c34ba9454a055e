"""The losses of W-HMR's training, term by term; `supervision` says what each may teach.

Every term is a mean over the whole batch or over the samples that have the label, as stated; a batch without the label
costs nothing. Weights are in `Weights`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.whmr.iuv import Iuv
from engines.whmr.supervision import RoundOutputs

#: Joints of the 49 that are from OpenPose; the rest are the 24 that ground truth has.
OPENPOSE = 25
#: Of the 24: right and left hip, whose middle both sides are centred at.
HIPS = (2, 3)
#: DensePose's 24 parts (0 is the background) as merged for the second part map.
MERGED_PARTS = (
    *((0,), (1, 2), (3,), (4,), (5,), (6,), (7, 9), (8, 10), (11, 13), (12, 14), (15, 17), (16, 18)),
    *((19, 21), (20, 22), (23, 24)),
)


@dataclass(frozen=True)
class Weights:
    """Factors of the terms, as the released configuration has them; focal is off there.

    crop, frame: 0 there, 300 in the code's defaults. uv: of each of U and V.
    """

    pose: float = 60.0
    betas: float = 0.06
    crop: float = 0.0
    frame: float = 0.0
    joints: float = 300.0
    vertices: float = 15.0
    cam: float = 1.0
    focal: float = 0.0
    uv: float = 0.125
    part: float = 1.0


class Labels(NamedTuple):
    """Ground truth of a batch; confidences and flags are 0 where there is none.

    Rs (B, 24, 3, 3), betas (B, 10), vertices (B, 6890, 3) with has_body (B); joints (B, 24, 4) m and confidence with
    has_joints (B); crop_points (B, 49, 3) +-1 at the crop's edge and confidence, frame_points (B, 49, 3) the same at
    the frame's; boxes (B, 5) cx, cy, side, W, H px; box_wh (B, 2) px of the labelled box.
    """

    Rs: Tensor
    betas: Tensor
    vertices: Tensor
    has_body: Tensor
    joints: Tensor
    has_joints: Tensor
    crop_points: Tensor
    frame_points: Tensor
    boxes: Tensor
    box_wh: Tensor


def pose(Rs: Tensor, truth: Tensor, has: Tensor) -> Tensor:
    """MSE over all entries of raw matrices (B, ..., 3, 3), over the samples that have it; also for the upright root."""
    return _mean_over(has, (Rs - truth).square())


def betas(shape: Tensor, truth: Tensor, has: Tensor) -> Tensor:
    """MSE of betas (B, 10), over the samples that have them."""
    return _mean_over(has, (shape - truth).square())


def points(predicted: Tensor, truth: Tensor, openpose: float = 0.0, ours: float = 1.0) -> Tensor:
    """mean(confidence * squared difference) of (B, 49, 2) and (B, 49, 3), over all samples, joints and coordinates.

    openpose, ours: factors of the confidences of the first 25 joints and of the other 24.
    """
    return (_confidence(truth, openpose, ours) * (predicted - truth[..., :2]).square()).mean()


def frame_points(predicted: Tensor, truth: Tensor, frame_wh: Tensor, box_wh: Tensor) -> Tensor:
    """The same in the frame's units, each squared difference times frame over box (linear, not squared).

    frame_wh, box_wh (B, 2) px: of the frame, and of the labelled box.
    """
    scale = (frame_wh / box_wh)[:, None]
    return (_confidence(truth, 0.0, 1.0) * (predicted - truth[..., :2]).square() * scale).mean()


def joints(predicted: Tensor, truth: Tensor, has: Tensor) -> Tensor:
    """mean(confidence * squared difference) of the last 24 of (B, 49, 3) and (B, 24, 4), m, from the hips' middle."""
    ours, labelled = (_from_hips(x) for x in (predicted[:, OPENPOSE:], truth[..., :3]))
    return _mean_over(has, truth[..., 3:] * (ours - labelled).square())


def vertices(predicted: Tensor, truth: Tensor, has: Tensor) -> Tensor:
    """L1 of (B, N, 3), m, over the samples that have it."""
    return _mean_over(has, (predicted - truth).abs())


def camera(s: Tensor) -> Tensor:
    """mean(exp(-10 s)^2) over scales (B): keeps them above 0."""
    return torch.exp(-10 * s).square().mean()


def focal(predicted: Tensor, frame_wh: Tensor) -> Tensor:
    """MSE of focal lengths (B) px from the diagonal of the frame (B, 2) px."""
    return (predicted - frame_wh.norm(dim=-1)).square().mean()


class IuvTruth(NamedTuple):
    """Of a picture (B, 3, h, w): part (B, h, w) 0..24, annotation (B, h, w) 0..14, u and v (B, h, w) in 0..1."""

    part: Tensor
    annotation: Tensor
    u: Tensor
    v: Tensor


def iuv_truth(picture: Tensor) -> IuvTruth:
    """The maps of a rendered picture (B, 3, h, w): part / 24, u, v."""
    part = (picture[:, 0] * 24).round().long()
    merged = torch.empty(25, dtype=torch.int64, device=picture.device)
    for i, parts in enumerate(MERGED_PARTS):
        merged[list(parts)] = i
    return IuvTruth(part, merged[part], picture[:, 1], picture[:, 2])


def iuv(maps: Iuv, truth: IuvTruth, has: Tensor) -> dict[str, Tensor]:
    """Unweighted terms u, v (smooth L1 summed over the pixels, per sample of the whole batch), part, annotation (CE).

    Only samples with `has` (B) are summed. At a pixel the map of its own part is compared, the background's with 0.
    """
    chosen = has.bool()
    if not chosen.any():
        return {name: maps.u.sum() * 0 for name in ("u", "v", "part", "annotation")}
    part, annotation, u, v = (t[chosen] for t in truth)
    terms = {}
    for name, predicted, true in (("u", maps.u, u), ("v", maps.v, v)):
        own = predicted[chosen].gather(1, part[:, None]).squeeze(1)
        terms[name] = F.smooth_l1_loss(own, true * (part > 0), reduction="sum") / len(has)
    terms["part"] = F.cross_entropy(maps.part[chosen], part)
    terms["annotation"] = F.cross_entropy(maps.annotation[chosen], annotation)
    return terms


def round_terms(r: RoundOutputs, y: Labels, last: bool) -> dict[str, Tensor]:
    """Unweighted terms of one round, by the names in `Weights`; meshes count in the last round only."""
    frame_wh = y.boxes[:, 3:]
    terms = {
        "pose": pose(r.Rs, y.Rs, y.has_body),
        "betas": betas(r.shape, y.betas, y.has_body),
        "crop": points(r.crop_points, y.crop_points),
        "frame": frame_points(r.frame_points, y.frame_points, frame_wh, y.box_wh),
        "joints": joints(r.joints, y.joints, y.has_joints),
        "cam": camera(r.cam[:, 0]),
        "focal": focal(r.focal, frame_wh),
    }
    return terms | ({"vertices": vertices(r.vertices, y.vertices, y.has_body)} if last else {})


def weighted(terms: Mapping[str, Tensor], weights: Weights) -> Tensor:
    """Sum of the terms times their factors; u and v count by `uv`, annotation by `part`."""
    aliases = {"u": "uv", "v": "uv", "annotation": "part"}
    return torch.stack([getattr(weights, aliases.get(name, name)) * term for name, term in terms.items()]).sum()


def _confidence(truth: Tensor, openpose: float, ours: float) -> Tensor:
    return torch.cat([openpose * truth[:, :OPENPOSE, 2:], ours * truth[:, OPENPOSE:, 2:]], 1)


def _from_hips(x: Tensor) -> Tensor:
    return x - x[:, list(HIPS)].mean(1, keepdim=True)


def _mean_over(has: Tensor, values: Tensor) -> Tensor:
    """Mean of values (B, ...) over the samples with `has` (B); 0 where there are none."""
    chosen = has.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return (chosen * values).sum() / (chosen.sum() * values[0].numel()).clamp_min(1)
