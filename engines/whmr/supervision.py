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
is what makes both agree. Stage 3 teaches OrientCorrect alone, on the rotations that it will meet.

The released code has stages 1 and 2; what stage 3 is follows from the paper's three and from what is left to teach.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import Parameter

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


def prepare(net: WHMR, stage: int) -> list[Parameter]:
    """Puts what `stage` trains into training mode and the rest to sleep; returns the parameters to optimise.

    The camera network is never trained here, nor are its batch norms let drift. Raises ValueError as `forward` does.
    """
    _checked(stage)
    net.requires_grad_(False).eval()
    trained: list[nn.Module] = [net.global_orient]
    if stage < 3:
        trained = [child for child in net.children() if child is not net.cam_model]
    for module in trained:
        module.requires_grad_(True).train()
    net.smpl.requires_grad_(False)
    return [p for p in net.parameters() if p.requires_grad]


def _checked(stage: int) -> None:
    if stage not in (1, 2, 3):
        raise ValueError(f"stage: expected 1, 2 or 3, got {stage}.")


def forward(net: WHMR, crops: Tensor, boxes: Tensor, R_camera_level: Tensor, stage: int) -> TrainingOutputs:
    """The forward pass of training with the gradients of `stage`; matrices stay raw in stages 1 and 2.

    Raises ValueError for another stage than 1, 2 or 3.
    """
    _checked(stage)
    features = net.encode(crops)
    Tz = net.depth(features.f3.detach() if stage == 1 else features.f3)
    rounds = net.rounds(features, boxes, net.smpl.rig(net.marker_ids), raw=stage < 3)
    last = rounds[-1]
    seen = last.body_feature(boxes)
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
