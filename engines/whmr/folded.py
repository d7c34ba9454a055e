"""The engines with less arithmetic and the same answers: layers between which nothing bends become one.

=========  ================================================  =======================================
engine     as trained                                        folded
=========  ================================================  =======================================
all        convolution, batch norm                           convolution
camera     three heads                                       one of 768 outputs
body *     Tz: 7x7 of stride 3, 7x7 of stride 2 (1.0 GMAC)   25x25 of stride 6 (0.17 GMAC)
body *     the encoder's MLPs over 192 tokens                1x1 convolutions over 16x12 pixels
body       Tz: 216 -> 12 -> 1, batch norm                    216 -> 1
regress    a round: 2378 -> 1024 -> 1024 -> 229              2378 -> 229
regress    OrientCorrect: 2164 -> 2048 -> 2048 -> 9          2164 -> 9
=========  ================================================  =======================================

The products are worked out in double precision, once. * is for CPUs: the wide convolution has five outputs that are
sums of 160,000 numbers each, which no GPU shares out well; and OpenVINO convolves faster than it multiplies matrices.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engines.whmr.camera_net import Bottleneck, CameraLogits, CameraNet, ResNet50
from engines.whmr.deconv import STAGE_LAYERS
from engines.whmr.geometry import rotation_to_6d
from engines.whmr.orient import OrientCorrect
from engines.whmr.parts import BodyPart, CameraPart, RegressPart
from engines.whmr.regressor import CAM, POSE, SHAPE, Regressor, State
from engines.whmr.vit import Block, Mlp, Vit

#: Rows and columns of the encoder's tokens.
PATCHES = (16, 12)


class FoldedHeads(nn.Module):
    """`CameraNet` with its three heads in one layer."""

    def __init__(self, of: CameraNet) -> None:
        super().__init__()
        self.backbone = _folded_resnet(of.backbone)
        self.heads = stacked([of.fc_vfov, of.fc_pitch, of.fc_roll])

    def forward(self, picture: Tensor) -> CameraLogits:
        """(B, 3, H, W) -> three (B, 256)."""
        return CameraLogits(*self.heads(self.backbone(picture).mean((2, 3))).chunk(3, 1))


class FoldedRegressor(nn.Module):
    """`Regressor` as the one linear layer that it is while nothing is dropped."""

    def __init__(self, of: Regressor) -> None:
        super().__init__()
        self.layer = chained([of.fc1, of.fc2, stacked([of.decpose, of.decshape, of.deccam])])
        for name in ("init_pose", "init_shape", "init_cam"):
            self.register_buffer(name, getattr(of, name))

    initial = Regressor.initial

    def forward(self, feature: Tensor, box_info: Tensor, state: State) -> State:
        """See `Regressor`."""
        added = self.layer(torch.cat([feature, box_info, *state], 1)).split([POSE, SHAPE, CAM], 1)
        return State(*(old + new for old, new in zip(state, added, strict=True)))


class FoldedOrient(nn.Module):
    """`OrientCorrect` as the one linear layer that it is while nothing is dropped."""

    def __init__(self, of: OrientCorrect) -> None:
        super().__init__()
        self.layer = chained([of.fc1, of.fc2, of.decrot])

    def forward(self, body_feature: Tensor, R_camera_level: Tensor, R_camera_root: Tensor) -> Tensor:
        """See `OrientCorrect`."""
        root = R_camera_root.reshape(-1, 9)
        added = self.layer(torch.cat([body_feature, rotation_to_6d(R_camera_level), root], 1))
        return (root + added).reshape(-1, 3, 3)


class PixelMlp(nn.Module):
    """`Mlp` of the encoder as two 1x1 convolutions: (B, 192, C) -> (B, 192, C)."""

    def __init__(self, of: Mlp) -> None:
        super().__init__()
        self.fc1, self.fc2 = _pointwise(of.fc1), _pointwise(of.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """See `Mlp`."""
        pixels = x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *PATCHES)
        return self.fc2(F.gelu(self.fc1(pixels))).flatten(2).transpose(1, 2)


def folded(part: nn.Module, for_cpu: bool) -> nn.Module:
    """An engine of `engines.whmr.parts` in eval mode with folded copies of its layers; `part` keeps its own.

    for_cpu: also what is marked in the module's table. Raises TypeError for another module.
    """
    whole = copy.copy(part)
    whole._modules = dict(part._modules)
    if isinstance(whole, CameraPart):
        whole.net = FoldedHeads(whole.net)  # type: ignore[assignment]
    elif isinstance(whole, BodyPart):
        whole.deconv = _folded_deconv(whole.deconv)
        if for_cpu:
            whole.convolutions = joined(whole.convolutions)  # type: ignore[assignment]
            whole.encoder = _with_pixels(whole.encoder)
        whole.layers = _folded_tz(whole.layers)
    elif isinstance(whole, RegressPart):
        whole.regressors = [FoldedRegressor(r) for r in whole.regressors]  # type: ignore[misc]
        whole.rounds = nn.ModuleList([*whole.extractors, *whole.regressors])
        whole.orient = FoldedOrient(whole.orient)  # type: ignore[assignment]
    else:
        raise TypeError(f"expected an engine of engines.whmr.parts, got {type(part).__name__}.")
    return whole.eval()


def stacked(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer whose outputs are those of `layers`, one after another."""
    return _linear(torch.cat([x.weight for x in layers]), torch.cat([x.bias for x in layers]))


@torch.no_grad()
def chained(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer that does what `layers` do one after another."""
    # from the end, where there are few outputs
    weight, bias = layers[-1].weight.double(), layers[-1].bias.double()
    for x in reversed(layers[:-1]):
        weight, bias = weight @ x.weight.double(), weight @ x.bias.double() + bias
    return _linear(weight, bias)


@torch.no_grad()
def joined(convolutions: nn.Module) -> nn.Conv2d:
    """One convolution that does what two without padding and bias do, one after the other, in square kernels.

    An output of the second sees k2 x k2 of the first's, `stride` apart: kernels add up, strides multiply.
    """
    first, second = cast(Sequence[nn.Conv2d], convolutions)
    inner, outer, step = first.weight.double(), second.weight.double(), first.stride[0]
    small, times = inner.shape[-1], outer.shape[-1]
    side = small + step * (times - 1)
    weight = inner.new_zeros(outer.shape[0], inner.shape[1], side, side)
    for i in range(times):
        for j in range(times):
            y, x = step * i, step * j
            weight[..., y : y + small, x : x + small] += torch.einsum("om,mikl->oikl", outer[..., i, j], inner)
    one = nn.Conv2d(inner.shape[1], outer.shape[0], side, step * second.stride[0], bias=False, device="meta")
    one.weight = nn.Parameter(weight.float())
    return one


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = (nn.Parameter(x.detach().float()) for x in (weight, bias))
    return layer


def _pointwise(layer: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(layer.in_features, layer.out_features, 1, device="meta")
    conv.weight, conv.bias = nn.Parameter(layer.weight.detach()[..., None, None]), layer.bias
    return conv


def _with_pixels(of: Vit) -> Vit:
    memo: dict[int, object] = {id(p): p for p in of.parameters()}
    encoder: Vit = copy.deepcopy(of, memo)
    for block in cast(Sequence[Block], encoder.blocks):
        block.mlp = PixelMlp(block.mlp)  # type: ignore[assignment]
    return encoder


def _folded_resnet(of: ResNet50) -> ResNet50:
    net = copy.deepcopy(of)
    for module in (net, *(m for m in net.modules() if isinstance(m, Bottleneck))):
        for i in (1, 2, 3):
            if not isinstance(norm := getattr(module, f"bn{i}", None), nn.BatchNorm2d):
                continue
            setattr(module, f"conv{i}", fuse_conv_bn_eval(getattr(module, f"conv{i}"), norm))
            setattr(module, f"bn{i}", nn.Identity())
        if isinstance(module, Bottleneck) and isinstance(module.downsample, nn.Sequential):
            conv, norm = module.downsample
            module.downsample = fuse_conv_bn_eval(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm))
    return net


def _folded_deconv(layers: nn.Sequential) -> nn.Sequential:
    """As many layers as before, with nothing in the norms' places, because `pyramid` counts them."""
    out: list[nn.Module] = []
    for i in range(0, len(layers), STAGE_LAYERS):
        conv, norm = cast(nn.ConvTranspose2d, layers[i]), cast(nn.BatchNorm2d, layers[i + 1])
        out += [fuse_conv_bn_eval(conv, norm, transpose=True), nn.Identity(), layers[i + 2]]
    return nn.Sequential(*out)


@torch.no_grad()
def _folded_tz(layers: nn.Module) -> nn.Sequential:
    first, second, norm, bend = cast(tuple[nn.Linear, nn.Linear, nn.BatchNorm1d, nn.Module], tuple(layers.children()))
    mean, var = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    scale = norm.weight.double() / (var + norm.eps).sqrt()
    normed = _linear(scale[:, None], norm.bias.double() - mean * scale)
    return nn.Sequential(chained([first, second, normed]), bend)
