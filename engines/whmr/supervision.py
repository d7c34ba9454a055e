"""What the losses compare: meshes, joints and projections of every round, each with the gradient it may carry.

=================  ================  ===================================================================
vertices           (B, 6890, 3)      m, camera axes, without translation; of the round's matrices as they are
middle, coarse     (B, 1723 | 431, 3)
joints             (B, 49, 3)
crop_points        (B, 49, 2)        of the joints, +-1 at the 256 crop's edge (weak camera)
frame_points       (B, 49, 2)        of the joints, +-1 at the frame's edge (focal length and translation)
focal, t_camera    (B), (B, 3)       px, m
=================  ================  ===================================================================

Stage 1 keeps the body and the depth apart: the crop teaches all of a round, the frame the Tz head alone. Later the crop
teaches the weak camera (not the joints), the frame the joints and the Tz head (never the weak camera): the focal length
is what makes both agree.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from engines.whmr import geometry
from engines.whmr.iuv import Iuv
from engines.whmr.network import WHMR, Round
from engines.whmr.regressor import Regressor
from engines.whmr.smpl import posed


class RoundOutputs(NamedTuple):
    """One round's quantities: Rs (B, 24, 3, 3), shape (B, 10), cam (B, 3), and those of the module's table."""

    Rs: Tensor
    shape: Tensor
    cam: Tensor
    vertices: Tensor
    middle: Tensor
    coarse: Tensor
    joints: Tensor
    crop_points: Tensor
    frame_points: Tensor
    focal: Tensor
    t_camera: Tensor


class TrainingOutputs(NamedTuple):
    """All that losses may look at: rounds, Tz (B), iuv maps, M_level_root (B, 3, 3) raw, hybrid vertices or None."""

    rounds: tuple[RoundOutputs, ...]
    Tz: Tensor
    iuv: Iuv
    M_level_root: Tensor
    hybrid: Tensor | None


def forward(net: WHMR, crops: Tensor, boxes: Tensor, R_camera_level: Tensor, stage: int) -> TrainingOutputs:
    """The forward pass of training: raw matrices, and the gradients of `stage` 1 or 2 (later stages are as 2).

    Raises ValueError for a stage below 1.
    """
    if stage < 1:
        raise ValueError(f"stage: expected 1, 2 or 3, got {stage}.")
    features = net.encode(crops)
    Tz = net.depth(features.f3.detach() if stage == 1 else features.f3)
    rounds = net.rounds(features, boxes, net.smpl.rig(net.marker_ids), raw=True)
    last = rounds[-1]
    seen = torch.cat([last.feature, geometry.box_info(boxes)], 1)
    root = net.global_orient(seen, R_camera_level, last.Rs[:, 0])
    described = tuple(
        describe(regressor, r, Tz, boxes, stage) for regressor, r in zip(net.regressors, rounds, strict=True)
    )
    return TrainingOutputs(described, Tz, net.dp_head(features.f3), root, net.free_vertices(features, rounds))


def describe(regressor: Regressor, r: Round, Tz: Tensor, boxes: Tensor, stage: int) -> RoundOutputs:
    """The quantities of round `r`, for depths Tz (B) m and boxes (B, 5) px; see the module's table."""
    smpl, cam = regressor.smpl, r.state.cam
    vertices, skeleton = posed(smpl.rig(), r.state.shape, r.Rs)
    middle = regressor.Dmap0 @ vertices
    joints = smpl.joints49(vertices, skeleton)
    weak = cam.detach()
    focal = geometry.focal_px(weak[:, 0], boxes[:, 2], Tz)
    t = geometry.camera_translation(weak, boxes, Tz)
    crop_points = geometry.project_crop(joints if stage == 1 else joints.detach(), cam)
    half = boxes[:, 3:] / 2
    pixels = geometry.project(joints.detach() if stage == 1 else joints, t, focal, half)
    frame_points = pixels / half[:, None] - 1
    coarse = regressor.Dmap1 @ middle
    return RoundOutputs(r.Rs, r.state.shape, cam, vertices, middle, coarse, joints, crop_points, frame_points, focal, t)
