"""The network cut into the engines that are exported, each a module with arrays in and out.

=========  ==============================  ============================================================
engine     inputs                          outputs
=========  ==============================  ============================================================
camera     picture (B, 3, H, W)            angles (B, 3) vfov, pitch, roll; logits (B, 3, 256)
body       crops (B, 3, 256, 192)          f1 (B, 256, 32, 24), f2 (B, 256, 64, 48),
                                           f3 (B, 256, 128, 96), Tz (B)
regress    f1, f2, f3, boxes (B, 5),       Rs (B, 24, 3, 3), betas (B, 10), cam (B, 3),
           R_camera_level (B, 3, 3)        R_level_root (B, 3, 3), joints (B, 24, 3),
                                           vertices (B, 6890, 3)
joints     those of regress                those of regress, but vertices
=========  ==============================  ============================================================

Camera runs once a camera and then rarely, body and joints once a frame with all its people; regress is for who wants
the mesh too. Units and frames are those of `network.Prediction`; focal length and translation follow from cam, Tz and
the boxes by `geometry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.whmr import geometry
from engines.whmr.camera_net import angles
from engines.whmr.deconv import Features, pyramid
from engines.whmr.network import WHMR, run_rounds
from engines.whmr.smpl import Rig, posed
from engines.whmr.tz import depth_m


@dataclass(frozen=True)
class Part:
    """One engine's name and those of its inputs and outputs, in order."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


CAMERA = Part("camera", ("picture",), ("angles", "logits"))
BODY = Part("body", ("crops",), ("f1", "f2", "f3", "Tz"))
REGRESS = Part(
    "regress",
    ("f1", "f2", "f3", "boxes", "R_camera_level"),
    ("Rs", "betas", "cam", "R_level_root", "joints", "vertices"),
)
POSED = Part("joints", REGRESS.inputs, REGRESS.outputs[:-1])
PARTS = {part.name: part for part in (CAMERA, BODY, REGRESS, POSED)}
#: The engines of a stream, which wants no mesh.
STREAM = ("camera", "body", "joints")


class CameraPart(nn.Module):
    """Engine `camera`; see the module's table."""

    def __init__(self, net: WHMR) -> None:
        super().__init__()
        self.net = net.cam_model

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """picture (B, 3, H, W) -> angles (B, 3), logits (B, 3, 256)."""
        logits = self.net(picture)
        return torch.stack(angles(logits), -1), torch.stack(logits, 1)


class BodyPart(nn.Module):
    """Engine `body`; see the module's table."""

    def __init__(self, net: WHMR) -> None:
        super().__init__()
        self.encoder, self.deconv = net.vit, net.deconv_layers
        self.convolutions, self.block, self.layers = net.conv, net.transformer_decoder, net.est_Tz

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """crops (B, 3, 256, 192) -> f1, f2, f3, Tz."""
        features = pyramid(self.deconv, self.encoder(crops))
        return *features, depth_m(self.convolutions, self.block, self.layers, features.f3)


class RegressPart(nn.Module):
    """Engines `regress` and `joints`; see the module's table. What posing takes is worked out once, when it is made.

    mesh: whether `vertices` are wanted; without, only the joints are posed and the output is left out.
    """

    grid: Tensor

    def __init__(self, net: WHMR, mesh: bool = True) -> None:
        super().__init__()
        self.mesh = mesh
        self.extractors, self.regressors = net.extractors, net.regressors
        self.rounds, self.orient = nn.ModuleList([*self.extractors, *self.regressors]), net.global_orient
        self.register_buffer("grid", net.points_grid, persistent=False)
        with torch.no_grad():
            self._keep("marker", net.smpl.rig(net.marker_ids))
            self._keep("mesh", net.smpl.rig() if mesh else net.smpl.rig(net.marker_ids[:1]))

    def forward(self, f1: Tensor, f2: Tensor, f3: Tensor, boxes: Tensor, R_camera_level: Tensor) -> tuple[Tensor, ...]:
        """See the module's table."""
        rounds = run_rounds(
            self.extractors, self.regressors, self.grid, Features(f1, f2, f3), boxes, self._rig("marker")
        )
        last = rounds[-1]
        seen = last.body_feature(boxes)
        root = geometry.orthonormal(self.orient(seen, R_camera_level, last.Rs[:, 0]))
        vertices, joints = posed(self._rig("mesh"), last.state.shape, last.Rs)
        outputs = (last.Rs, last.state.shape, last.state.cam, root, joints)
        return (*outputs, vertices) if self.mesh else outputs

    def _keep(self, which: str, rig: Rig) -> None:
        for field, value in zip(Rig._fields, rig, strict=True):
            self.register_buffer(f"{which}_{field}", value, persistent=False)

    def _rig(self, which: str) -> Rig:
        return Rig(*(getattr(self, f"{which}_{field}") for field in Rig._fields))


def part(net: WHMR, name: str) -> nn.Module:
    """The engine `name` of a network, in eval mode, sharing its weights. Raises ValueError for an unknown name."""
    makers: dict[str, Callable[[WHMR], nn.Module]] = {
        "camera": CameraPart,
        "body": BodyPart,
        "regress": RegressPart,
        "joints": partial(RegressPart, mesh=False),
    }
    if name not in makers:
        raise ValueError(f"engine: expected {', '.join(makers)}, got {name}.")
    return makers[name](net).eval()


def example(name: str, batch: int, seed: int = 0, size_wh: tuple[int, int] = (800, 600)) -> dict[str, Tensor]:
    """Inputs of the engine `name` for `batch` people, drawn with `seed`; size_wh is the camera's picture."""
    g = torch.Generator().manual_seed(seed)
    if name == "camera":
        return {"picture": torch.randn(batch, 3, size_wh[1], size_wh[0], generator=g)}
    if name == "body":
        return {"crops": torch.randn(batch, 3, 256, 192, generator=g)}
    sizes = {"f1": (32, 24), "f2": (64, 48), "f3": (128, 96)}
    # smooth, as real maps are: on white noise a sampling place that is 1e-7 off already shows
    rough = {key: torch.randn(batch, 256, 8, 6, generator=g) for key in sizes}
    maps = {key: F.interpolate(rough[key], size, mode="bicubic").relu() for key, size in sizes.items()}
    turn = 0.3 * torch.randn(batch, 2, generator=g)
    centre = torch.rand(batch, 2, generator=g) * torch.tensor([1280.0, 720.0])
    side = 200 + 400 * torch.rand(batch, 1, generator=g)
    boxes = torch.cat([centre, side, torch.tensor([1280.0, 720.0]).expand(batch, 2)], 1)
    return maps | {"boxes": boxes, "R_camera_level": geometry.camera_rotation(turn[:, 0], turn[:, 1])}
