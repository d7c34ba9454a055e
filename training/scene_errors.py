"""How far modelled errors of landmarks are trusted: real pictures are not renders, and nobody knows by how much.

The landmark network errs less on most real pictures, which it was made for, and elsewhere. So each window of
`training.scenes` has its errors changed by shares of its own, and the networks see all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.network import HIPS, exp_turn, ray_rotation


def milder(px: Tensor, metres: Tensor, uv: Tensor, camera: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Landmarks (n, T, 33, ...) whose errors are smaller by a share of each window's own, in half of the windows.

    The landmark network errs less on most real pictures, which it was made for, than on renders (docs/error_model.md),
    by a share that nobody knows: so the networks see all of them, and find out from what agrees with what.
    """
    n = len(px)
    share = torch.where(torch.rand(n, generator=g) < 0.5, torch.rand(n, generator=g), torch.ones(n))
    share = share[:, None, None, None]
    true = _true_metres(metres, camera)
    known = torch.isfinite(uv).all(-1, keepdim=True)
    return torch.where(known, uv + share * (px - uv), px), true + share * (metres - true)


def limbs_apart(metres: Tensor, camera: Tensor, g: torch.Generator) -> Tensor:
    """Metric landmarks (n, T, 33, 3) whose arms', legs' and trunk's depths err by a share of their own, where they do.

    On renders the landmark network finds 0.6 of the depth of knees and ankles under a camera that looks down, on real
    pictures all of it and more, and of shoulders no more than on renders: which part errs how is another thing there.
    """
    true = _true_metres(metres, camera)
    out = metres.clone()
    for part in (range(13), range(13, 23), range(25, 33)):
        share = torch.empty(len(metres)).uniform_(-0.3, 1.0, generator=g)
        share = torch.where(torch.rand(len(metres), generator=g) < 0.6, share, 1.0)[:, None, None]
        at = list(part)
        out[:, :, at, 2] = true[:, :, at, 2] + share * (metres[:, :, at, 2] - true[:, :, at, 2])
    return out


def _true_metres(metres: Tensor, camera: Tensor) -> Tensor:
    """What `metres` (n, T, 33, 3) would be without errors; the size that the network gives to everybody stays its own.

    camera  (n, T, 33, 3) the true landmarks
    """
    hips = camera[:, :, list(HIPS)].mean(2)
    found, about = metres[:, 0].norm(dim=-1).sum(1), (camera[:, 0] - hips[:, :1]).norm(dim=-1).sum(1)
    size = (found / about).clamp(0.3, 3.0)[:, None, None, None]
    return size * ((camera - hips[:, :, None]) @ ray_rotation(hips))


def less_turned(metres: Tensor, camera: Tensor, g: torch.Generator) -> Tensor:
    """Metric landmarks (n, T, 33, 3) whose whole body is turned off the truth by less, in four of five windows.

    On well-lit renders the landmark network finds bodies that lean along the view at 0.6 of their lean, on the real
    clips at all of it (docs/error_model.md): whatever shows it how a body leans there, renders do not have it. How
    far a body is turned and how well its limbs are found is drawn apart, so that one does not tell the other.
    """
    n = len(metres)
    hips = camera[:, 0, list(HIPS)].mean(1)
    true = (camera[:, 0] - hips[:, None]) @ ray_rotation(hips)
    U, _, Vh = torch.linalg.svd(metres[:, 0].transpose(1, 2) @ true)
    sign = torch.linalg.det(U @ Vh).sign()
    U = torch.cat([U[..., :2], U[..., 2:] * sign[:, None, None]], 2)
    R = (U @ Vh).transpose(1, 2)  # true = R found
    cosine = (0.5 * (R.diagonal(dim1=1, dim2=2).sum(1) - 1.0)).clamp(-1.0, 1.0)
    angle = torch.acos(cosine)
    axis = torch.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], 1)
    share = torch.rand(n, generator=g) * (torch.rand(n, generator=g) < 0.8)
    # Who is seen from the wrong side stays so
    turn = torch.where(angle < 0.8, share * angle, 0.0)[:, None] * torch.nn.functional.normalize(axis, dim=1)
    return metres @ exp_turn(turn)[:, None].transpose(-1, -2)
