"""The whole network: crops, their boxes and the camera's rotation in, bodies out.

==================  ====================  ================================================================
crops               (B, 3, 256, 192)      normalised RGB, `preprocess.crops`
boxes               (B, 5)                cx, cy, side of the square box, W, H of the frame, pixels
R_camera_level      (B, 3, 3)             of `camera` or of a calibration
F1, F2, F3          (B, 256, ...)         `deconv`
Tz                  (B)                   metres, `tz`
round 0             63 grid points of F1
round 1             67 markers on F2, where round 0's body has them
round 2             67 markers on F3      gives the body
R_level_root        (B, 3, 3)             `orient`
==================  ====================  ================================================================

Only the markers are posed in rounds 0 and 1. Every round is taught by its own losses: what it takes over from the round
before is detached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from engines.whmr import geometry
from engines.whmr.camera_net import CameraAngles, CameraNet, angles
from engines.whmr.deconv import Features, deconv_layers, pyramid
from engines.whmr.graphormer import HybridConfig, HybridRound
from engines.whmr.iuv import IuvHead
from engines.whmr.maf import MafExtractor, grid_points
from engines.whmr.orient import OrientCorrect
from engines.whmr.regressor import POSE, Regressor, State
from engines.whmr.smpl import JOINTS, Rig, Smpl, posed
from engines.whmr.tz import depth_m, tz_block, tz_convolutions, tz_layers
from engines.whmr.vit import Vit

ROUNDS, MARKERS, GRID, POINT_CHANNELS = 3, 67, 63, 32


@dataclass(frozen=True)
class Config:
    """What may differ from the released network.

    depth   blocks of the encoder
    hybrid  the model-free round over 431 vertices, None for none; the released weights have none
    """

    depth: int = 12
    hybrid: HybridConfig | None = None


class Round(NamedTuple):
    """What one round saw and said.

    points (B, N, 2) where it looked, sampled (B, 256, N), feature (B, 32 N); state: its raw answer;
    Rs (B, 24, 3, 3) the raw matrices made rotations, or as they are while training.
    """

    points: Tensor
    sampled: Tensor
    feature: Tensor
    state: State
    Rs: Tensor

    def body_feature(self, boxes: Tensor) -> Tensor:
        """(B, 32 N + 5): what was seen and where the boxes (B, 5) lie in the frame, as OrientCorrect takes it."""
        return torch.cat([self.feature, geometry.box_info(boxes)], 1)


class Prediction(NamedTuple):
    """Bodies in the camera's frame and upright.

    rounds; Tz (B) m; body_feature (B, 2149); R_level_root (B, 3, 3); joints (B, 24, 3) and vertices (B, 6890, 3) in m,
    camera axes, to which t_camera (B, 3) m is still to be added; focal (B) px of each person; hybrid (B, 6890, 3)
    vertices of the model-free round, None without one.
    """

    rounds: tuple[Round, ...]
    Tz: Tensor
    body_feature: Tensor
    R_level_root: Tensor
    joints: Tensor
    vertices: Tensor
    t_camera: Tensor
    focal: Tensor
    hybrid: Tensor | None

    @property
    def Rs(self) -> Tensor:
        """(B, 24, 3, 3): R_camera_root, then parent-relative."""
        return self.rounds[-1].Rs

    @property
    def betas(self) -> Tensor:
        """(B, 10)."""
        return self.rounds[-1].state.shape

    @property
    def cam(self) -> Tensor:
        """(B, 3): s, tx, ty of the weak camera on the crop."""
        return self.rounds[-1].state.cam

    @property
    def level_vertices(self) -> Tensor:
        """(B, 6890, 3) in m: the mesh turned about its root joint into the `level` frame."""
        return turned(self.vertices, self.joints[:, :1], self.R_level_root, self.Rs[:, 0])


class WHMR(nn.Module):
    """The network under the 634 names of the released checkpoint.

    marker_ids (67,): vertices of the body model at which rounds 1 and 2 look; they are no part of the checkpoint.
    Raises ValueError for another number of them, or one outside 0..6889.
    """

    points_grid: Tensor
    marker_ids: Tensor

    def __init__(self, marker_ids: Tensor, config: Config | None = None) -> None:
        super().__init__()
        config = config or Config()
        if marker_ids.shape != (MARKERS,) or marker_ids.min() < 0 or marker_ids.max() >= 6890:
            raise ValueError(f"marker_ids: expected {MARKERS} numbers in 0..6889, got shape {tuple(marker_ids.shape)}.")
        smpl = Smpl()
        widths = [POINT_CHANNELS * n for n in (GRID, MARKERS, MARKERS)]
        self.register_buffer("points_grid", grid_points())
        self.register_buffer("marker_ids", marker_ids.to(torch.int64), persistent=False)
        self.feature_extractor = nn.ModuleDict({"backbone": Vit(config.depth)})
        self.deconv_layers = deconv_layers()
        self.maf_extractor = nn.ModuleList([MafExtractor() for _ in range(ROUNDS)])
        self.regressor = nn.ModuleList([Regressor(width, smpl) for width in widths])
        self.dp_head = IuvHead()
        self.conv, self.transformer_decoder, self.est_Tz = tz_convolutions(), tz_block(), tz_layers()
        self.cam_model = CameraNet()
        self.global_orient = OrientCorrect(widths[-1] + 5)
        self.hybrid = HybridRound(config.hybrid, widths[-1]) if config.hybrid is not None else None

    @property
    def vit(self) -> Vit:
        """The encoder."""
        return cast(Vit, self.feature_extractor["backbone"])

    @property
    def extractors(self) -> list[MafExtractor]:
        """The point network of each round."""
        return cast(list[MafExtractor], list(self.maf_extractor))

    @property
    def regressors(self) -> list[Regressor]:
        """The regressor of each round."""
        return cast(list[Regressor], list(self.regressor))

    @property
    def smpl(self) -> Smpl:
        """The body model; the rounds share one."""
        return self.regressors[0].smpl

    def camera(self, picture: Tensor) -> CameraAngles:
        """Angles (B) in radians of whole pictures (B, 3, H, W); `geometry.camera_rotation` makes R_camera_level."""
        return angles(self.cam_model(picture))

    def encode(self, crops: Tensor) -> Features:
        """The three maps of crops (B, 3, 256, 192)."""
        return pyramid(self.deconv_layers, self.vit(crops))

    def depth(self, f3: Tensor) -> Tensor:
        """Tz (B) in metres of F3."""
        return depth_m(self.conv, self.transformer_decoder, self.est_Tz, f3)

    def rounds(self, features: Features, boxes: Tensor, markers: Rig, raw: bool = False) -> tuple[Round, ...]:
        """The three rounds; raw: matrices stay as they are, as training has it."""
        return run_rounds(self.extractors, self.regressors, self.points_grid, features, boxes, markers, raw)

    def forward(self, crops: Tensor, boxes: Tensor, R_camera_level: Tensor) -> Prediction:
        """See the module's table; for inference, in eval mode. Training goes through `supervision.forward`."""
        features = self.encode(crops)
        Tz = self.depth(features.f3)
        rounds = self.rounds(features, boxes, self.smpl.rig(self.marker_ids))
        last = rounds[-1]
        seen = last.body_feature(boxes)
        root = geometry.orthonormal(self.global_orient(seen, R_camera_level, last.Rs[:, 0]))
        vertices, joints = posed(self.smpl.rig(), last.state.shape, last.Rs)
        t = geometry.camera_translation(last.state.cam, boxes, Tz)
        focal = geometry.focal_px(last.state.cam[:, 0], boxes[:, 2], Tz)
        hybrid = self.free_vertices(features, rounds)
        return Prediction(rounds, Tz, seen, root, joints, vertices, t, focal, hybrid)

    def free_vertices(self, features: Features, rounds: Sequence[Round]) -> Tensor | None:
        """Vertices (B, 6890, 3) of the model-free round, which starts from round 1; None without such a round."""
        if self.hybrid is None:
            return None
        before = rounds[-2]
        vertices, _ = posed(self.smpl.rig(), before.state.shape.detach(), before.Rs.detach())
        coarse = self.extractors[-1].Dmap @ vertices
        points = geometry.project_crop(coarse, before.state.cam.detach())
        return self.hybrid(coarse, geometry.sample(features.f3, points), rounds[-1].feature)


def run_rounds(
    extractors: Sequence[MafExtractor],
    regressors: Sequence[Regressor],
    grid: Tensor,
    features: Features,
    boxes: Tensor,
    markers: Rig,
    raw: bool = False,
) -> tuple[Round, ...]:
    """The rounds over F1, F2, F3, starting at the grid (1, 2, 63) and the mean body."""
    info = geometry.box_info(boxes)
    state = regressors[0].initial(boxes.shape[0])
    points = grid.mT.expand(boxes.shape[0], -1, -1)
    rounds: list[Round] = []
    for extractor, regressor, feature_map in zip(extractors, regressors, features, strict=True):
        if rounds:
            before = rounds[-1]
            placed, _ = posed(markers, before.state.shape.detach(), before.Rs.detach())
            points = geometry.project_crop(placed, before.state.cam.detach())
            state = State(before.Rs.reshape(-1, POSE), before.state.shape, before.state.cam).detached()
        sampled = geometry.sample(feature_map, points)
        feature = extractor(sampled)
        answer = regressor(feature, info, state)
        matrices = answer.pose.reshape(-1, JOINTS, 3, 3)
        rounds.append(Round(points, sampled, feature, answer, matrices if raw else geometry.orthonormal(matrices)))
    return tuple(rounds)


def turned(points: Tensor, pivot: Tensor, R_a_root: Tensor, R_b_root: Tensor) -> Tensor:
    """Points (B, N, 3) of a body with root R_b_root (B, 3, 3) as they are with root R_a_root, about pivot (B, 1, 3)."""
    return (points - pivot) @ (R_b_root @ R_a_root.mT) + pivot
