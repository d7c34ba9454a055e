"""W-HMR's three modules on MediaPipe's landmarks: calibration, local body recovery, orientation correction.

The picture was already read by a landmark network that learned from real pictures; here its landmarks over a second,
and the person's place in the whole picture, take the part of W-HMR's crop features and bbox_info. Every module has the
paper's form: a body with a weak camera (section 3.3), a head that reads the distance Tz and with it the focal length
f = s b Tz / 2 (section 3.2), and a corrector of the root in the world (section 3.4). Beside the body's rotations, a
model-free branch gives the landmarks themselves, as the paper's hybrid does, here with how sure it is of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import landmark_net

#: Seconds before now at which the network looks, newest first.
TAPS_S = tuple(landmark_net.TAPS_S.tolist())
N_TAPS = len(TAPS_S)
#: Everybody is of this stature to the network: size cannot be seen, so it is put in from outside.
STATURE_M = landmark_net.STATURE_M
HIPS = (23, 24)
#: What the network takes, in this order, and the shape of each for one window.
INPUTS = {"points_px": (N_TAPS, 33, 2), "visibility": (N_TAPS, 33), "points_m": (N_TAPS, 33, 3), "ages_s": (N_TAPS,),
          "size_wh": (2,), "camera": (6,)}  # fmt: skip
#: The input `camera` where nothing is known of it.
UNKNOWN_CAMERA = landmark_net.UNKNOWN_CAMERA
CORRECTOR_INPUTS = ("feature", "R_world_camera", "R_camera_root", "up_camera", "log_kappa")
_PER_TAP = 33 * (2 + 2 + 1 + 1 + 3) + 1
_PLACE, _CAMERA = 7, 6
#: Errors of a vertical, radians, and of a focal length's logarithm at which what is said of the camera counts half.
_HALF_UP, _HALF_FOCAL = 0.15, 0.25
#: What a head's output is multiplied by, so that its first layer's values stay near one.
_LOG_DISTANCE = 1.2


@dataclass(frozen=True)
class Sizes:
    """Widths of the trunk, of what is kept of an older picture and of the heads; the number of residual blocks."""

    width: int = 384
    older: int = 96
    blocks: int = 4
    head: int = 256


class Block(nn.Module):
    """A pre-normalised residual block of two layers, (B, W) -> (B, W)."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W)."""
        return x + self.down(self.drop(F.gelu(self.up(self.norm(x)))))


class Head(nn.Module):
    """Two layers, (B, W) -> (B, out), that begin near zero."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(width, hidden), nn.Linear(hidden, out)
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, out)."""
        return self.out(F.gelu(self.first(x)))


class Features(nn.Module):
    """Landmarks of one person over N_TAPS pictures as numbers near one.

    =============  ==================  =====================================================================
    points_px      (B, N_TAPS, 33, 2)  image landmarks, newest first
    visibility     (B, N_TAPS, 33)     0..1
    points_m       (B, N_TAPS, 33, 3)  metric landmarks about the hips, axes of the ray through them
    ages_s         (B, N_TAPS)         seconds before the newest
    size_wh        (B, 2)              of the picture
    -> taps        (B, N_TAPS, _PER_TAP)
    -> place       (B, _PLACE)         bbox_info: where the box is in the picture, its size, the picture's sides
    -> box         (B, 3)              centre and side, pixels
    =============  ==================  =====================================================================
    """

    def forward(
        self, points_px: Tensor, visibility: Tensor, points_m: Tensor, ages_s: Tensor, size_wh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the table."""
        limit = (size_wh - 1.0)[:, None, None]
        inside = ((points_px >= 0) & (points_px <= limit)).all(-1).to(points_px.dtype)
        box = box_of(points_px[:, 0], visibility[:, 0] * inside[:, 0])
        long_side = size_wh.amax(1, keepdim=True)
        near = ((points_px - box[:, None, None, :2]) / box[:, None, None, 2:]).clamp(-4.0, 4.0)
        whole = ((points_px - 0.5 * limit) * (2.0 / long_side[:, None, None])).clamp(-4.0, 4.0)
        taps = torch.cat(
            [
                near.flatten(2),
                whole.flatten(2),
                visibility,
                inside,
                points_m.flatten(2).clamp(-3.0, 3.0),
                ages_s[..., None],
            ],
            dim=-1,
        )
        share = box[:, 2:] / long_side
        middle = (box[:, :2] - 0.5 * limit[:, 0, 0]) * (2.0 / long_side)
        place = torch.cat(
            [middle, 2.0 * share, share.log(), size_wh / long_side, (ages_s > 0).sum(1, keepdim=True) / 4.0], 1
        )
        return taps, place, box


def camera_features(camera: Tensor, points_px: Tensor, size_wh: Tensor) -> Tensor:
    """What is believed of the camera (B, _CAMERA), seen from the ray through the hips and faded by how unsure it is.

    camera (B, 6): up in the camera, scale of its error in radians, log(f / long side), scale of its error; scales of
    1000 where nothing is known. points_px (B, 33, 2), size_wh (B, 2).
    """
    up, up_sigma, log_focal, focal_sigma = camera.split((3, 1, 1, 1), 1)
    hips = 0.5 * (points_px[:, HIPS[0]] + points_px[:, HIPS[1]])
    off = (hips - 0.5 * (size_wh - 1.0)) / (log_focal.exp() * size_wh.amax(1, keepdim=True))
    to_ray = ray_rotation(torch.cat([off, torch.ones_like(log_focal)], 1)).transpose(1, 2)
    up_worth = 1.0 / (1.0 + (up_sigma / _HALF_UP) ** 2)
    focal_worth = 1.0 / (1.0 + (focal_sigma / _HALF_FOCAL) ** 2)
    up_ray = (to_ray @ up[..., None])[..., 0]
    return torch.cat([up_worth * up_ray, up_worth, focal_worth * 2.0 * (log_focal - UNKNOWN_CAMERA[2]), focal_worth], 1)


def box_of(points_px: Tensor, weights: Tensor) -> Tensor:
    """Centre and side (B, 3) of a square box about image landmarks (B, 33, 2), weights (B, 33), in pixels."""
    w = (weights + 0.02) / (weights + 0.02).sum(1, keepdim=True)
    centre = (w[..., None] * points_px).sum(1)
    spread = (w[..., None] * (points_px - centre[:, None]) ** 2).sum((1, 2))
    return torch.cat([centre, 3.0 * (spread + 1.0).sqrt()[:, None]], 1)


def rotation_from_6d(six: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of (..., 6), Gram-Schmidt on the first two columns (Zhou et al., CVPR 2019)."""
    a, b = six[..., :3], six[..., 3:]
    x = F.normalize(a, dim=-1, eps=1e-6)
    y = F.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1, eps=1e-6)
    z = torch.stack(
        [
            x[..., 1] * y[..., 2] - x[..., 2] * y[..., 1],
            x[..., 2] * y[..., 0] - x[..., 0] * y[..., 2],
            x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0],
        ],
        -1,
    )
    return torch.stack([x, y, z], -1)


def ray_rotation(place: Tensor) -> Tensor:
    """R_camera_ray (..., 3, 3): the shortest turn of the optical axis to the direction of `place` (..., 3)."""
    d = F.normalize(place, dim=-1)
    x, y, z = d.unbind(-1)
    k = 1.0 / (1.0 + z).clamp_min(1e-3)
    rows = [1 - k * x * x, -k * x * y, x, -k * x * y, 1 - k * y * y, y, -x, -y, z]
    return torch.stack(rows, -1).reshape(*z.shape, 3, 3)


class LandmarkNet(nn.Module):
    """Trunk, body, model-free landmarks, gravity, and the distance that gives the focal length.

    Only the body and its landmarks know what is believed of the camera (`camera_features`): gravity and focal length
    are read without it, so that no calibration ever hears its own echo.

    Outputs of `forward`, all of the newest picture; "ray" is the camera turned to the ray through the hips:

    ===============  ==============  ==================================================================
    Rs_6d            (B, 24, 6)      R_ray_root, then Rs_parent_joint 1..23
    betas            (B, 10)         of the project's body; the first one is of no use (STATURE_M)
    weak_camera      (B, 3)          s, tx, ty: box units are s (X + tx), metres
    landmarks_m      (B, 33, 3)      landmarks about the hips in ray axes, people of STATURE_M
    log_sigma_m      (B, 33, 2)      of each, across and along the ray
    up_ray           (B, 3)          where up is, unit
    log_kappa        (B,)            how sure of it: -log of the angle's scale in radians
    log_distance     (B,)            log Tz, metres, taught by reprojection only
    labelled_focal   (B, 2)          log(f / long side) and log of its scale, taught by labels (the ablation)
    feature          (B, W)          the trunk's output, for the corrector
    box              (B, 3)
    ===============  ==============  ==================================================================
    """

    mean_6d: Tensor

    def __init__(self, sizes: Sizes = Sizes(), dropout: float = 0.0) -> None:
        super().__init__()
        w = sizes.width
        self.features = Features()
        self.newest = nn.Linear(_PER_TAP + _PLACE, w)
        self.older = nn.Linear(_PER_TAP + _PLACE, sizes.older)
        self.join = nn.Linear(w + (N_TAPS - 1) * sizes.older, w)
        self.trunk = nn.Sequential(*(Block(w, dropout) for _ in range(sizes.blocks)))
        self.norm = nn.LayerNorm(w)
        self.camera, self.mix = nn.Linear(w + _CAMERA, w), nn.Linear(w, w)
        self.placed, self.placed_norm = Block(w, dropout), nn.LayerNorm(w)
        self.body, self.free, self.up, self.distance, self.focal = (
            Head(w, sizes.head, out) for out in (24 * 6 + 10 + 3, 33 * 5, 4, 1, 2)
        )
        self.register_buffer("mean_6d", torch.eye(3)[:, :2].T.reshape(6).repeat(24, 1))
        with torch.no_grad():
            self.mean_6d[0] = torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0, 0.0])  # upright before the camera, y down there

    def encode(
        self, points_px: Tensor, visibility: Tensor, points_m: Tensor, ages_s: Tensor, size_wh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The trunk's output (B, W), the box (B, 3) and the newest metric landmarks as they were found (B, 33, 3)."""
        taps, place, box = self.features(points_px, visibility, points_m, ages_s, size_wh)
        around = place[:, None].expand(-1, N_TAPS, -1)
        taps = torch.cat([taps, around], -1)
        old = F.gelu(self.older(taps[:, 1:].flatten(0, 1))).unflatten(0, (-1, N_TAPS - 1)).flatten(1)
        x = self.join(torch.cat([F.gelu(self.newest(taps[:, 0])), old], -1))
        return self.norm(self.trunk(x)), box, points_m[:, 0]

    def forward(
        self, points_px: Tensor, visibility: Tensor, points_m: Tensor, ages_s: Tensor, size_wh: Tensor, camera: Tensor,
        detach_distance: bool = False,
    ) -> dict[str, Tensor]:  # fmt: skip
        """See the tables of the class and of `Features`; `detach_distance` keeps Tz's losses out of the trunk."""
        h, box, found = self.encode(points_px, visibility, points_m, ages_s, size_wh)
        placed = self.believing(h, camera, points_px[:, 0], size_wh)
        body = self.body(placed)
        free = self.free(placed).unflatten(1, (33, 5))
        points = found + free[..., :3]
        points = points - 0.5 * (points[:, HIPS[0]] + points[:, HIPS[1]])[:, None]
        up = self.up(h)
        aside = h.detach() if detach_distance else h
        weak = body[:, -3:]
        return {
            "Rs_6d": self.mean_6d + body[:, :144].unflatten(1, (24, 6)),
            "betas": body[:, 144:154],
            "weak_camera": torch.cat([_scale(weak[:, :1]), weak[:, 1:]], 1),
            "landmarks_m": points,
            "log_sigma_m": free[..., 3:] - 3.0,
            "up_ray": F.normalize(up[:, :3] + up.new_tensor([0.0, -1.0, 0.0]), dim=-1),
            "log_kappa": up[:, 3] + 2.0,
            "log_distance": _LOG_DISTANCE + self.distance(aside)[:, 0],
            "labelled_focal": self.focal(aside) + h.new_tensor([-0.15, -1.0]),
            "feature": h,
            "box": box,
        }

    def believing(self, h: Tensor, camera: Tensor, points_px: Tensor, size_wh: Tensor) -> Tensor:
        """What the body is read from (B, W): the trunk's output h (B, W) and `camera_features`."""
        seen_by = torch.cat([h, camera_features(camera, points_px, size_wh)], 1)
        return cast(Tensor, self.placed_norm(self.placed(h + self.mix(F.gelu(self.camera(seen_by))))))

    def reprojected_focal(self, out: dict[str, Tensor], points_px: Tensor, size_wh: Tensor) -> Tensor:
        """Log (B,) of f = s b Tz / 2 over the long side, of what `forward` says of points (B, 33, 2), sizes (B, 2).

        s is that of a camera of which nothing is believed: a calibration must not hear its own echo.
        """
        # A product, since an exported graph would keep the number of people of its example
        nothing = 0.0 * size_wh[:, :1] + size_wh.new_tensor(UNKNOWN_CAMERA)
        s = _scale(self.body(self.believing(out["feature"], nothing, points_px, size_wh))[:, -3])
        return (0.5 * s * out["box"][:, 2] / size_wh.amax(1)).log() + out["log_distance"]


def _scale(raw: Tensor) -> Tensor:
    return (0.75 + raw).clamp_min(0.05)


class OrientCorrect(nn.Module):
    """The root in the world from the body's feature, the camera's angles as they are believed, and the local root.

    A small turn, in the world, of the composed root: R_world_root = turn R_world_camera R_camera_root (section 3.4).
    """

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, 128)
        self.first = nn.Linear(128 + 3 + 6 + 4, 256)
        self.block = Block(256)
        self.norm, self.out = nn.LayerNorm(256), nn.Linear(256, 4)
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, feature: Tensor, R_world_camera: Tensor, R_camera_root: Tensor, up_camera: Tensor, log_kappa: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Turns as rotation vectors (B, 3), radians, in the world, and the log (B,) of how far off they may be.

        feature (B, W), R_world_camera and R_camera_root (B, 3, 3), up_camera (B, 3) as the body says, log_kappa (B,).
        """
        composed = R_world_camera @ R_camera_root
        seen = (R_world_camera @ up_camera[..., None])[..., 0]
        x = torch.cat(
            [
                F.gelu(self.reduce(feature)),
                R_world_camera[:, 1],
                composed[..., :2].flatten(1),
                seen,
                log_kappa[:, None],
            ],
            -1,
        )
        out = self.out(self.norm(self.block(F.gelu(self.first(x)))))
        return out[:, :3], out[:, 3] - 2.0


def exp_turn(v: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of rotation vectors (B, 3) (Rodrigues)."""
    angle = (v * v).sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
    x, y, z = (v / angle).unbind(-1)
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    a = angle[..., None]
    return torch.eye(3, dtype=v.dtype, device=v.device) + a.sin() * K + (1 - a.cos()) * (K @ K)
