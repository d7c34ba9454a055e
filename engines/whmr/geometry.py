"""Rotations and projections of the network, in torch: any leading shape, any device, exportable to ONNX.

Matrices act on columns. Nothing here decides by the data in Python, so one trace serves every batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: The weak-perspective camera is emulated at this focal length (px) on a crop of this side (px).
CROP_FOCAL_PX, CROP_SIDE_PX = 1000.0, 256.0


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product over the last axis: (..., 3) x (..., 3) -> (..., 3), whatever the batch."""
    aa, bb = torch.cat([a, a], -1), torch.cat([b, b], -1)
    return aa[..., 1:4] * bb[..., 2:5] - aa[..., 2:5] * bb[..., 1:4]


def unit(v: Tensor) -> Tensor:
    """v / |v| over the last axis; a vector shorter than 1e-12 is divided by 1e-12."""
    return v / v.square().sum(-1, keepdim=True).clamp_min(1e-24).sqrt()


def rotation_from_6d(x: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of 6D vectors (..., 6): row-major 3x2, Gram-Schmidt on its columns (Zhou et al., 2019)."""
    a, b = x.unflatten(-1, (3, 2)).unbind(-1)
    r1 = unit(a)
    r2 = unit(b - (r1 * b).sum(-1, keepdim=True) * r1)
    return torch.stack([r1, r2, cross(r1, r2)], -1)


def rotation_to_6d(R: Tensor) -> Tensor:
    """The first two columns of (..., 3, 3), flattened row-major: (..., 6)."""
    return R[..., :2].flatten(-2)


def orthonormal(M: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of raw matrices (..., 3, 3) by a Gram-Schmidt that favours no column as much.

    With columns t1, t2, t3: r1 ~ (t2 x t3 + t1) / 2, r2 ~ (t3 x r1 + t2) / 2 made orthogonal to r1, r3 = r1 x r2.
    """
    t1, t2, t3 = M.unbind(-1)
    r1 = unit((cross(t2, t3) + t1) / 2)
    m = (cross(t3, r1) + t2) / 2
    r2 = unit(m - (m * r1).sum(-1, keepdim=True) * r1)
    return torch.stack([r1, r2, cross(r1, r2)], -1)


def rotation_from_axis_angle(v: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of rotation vectors (..., 3) in radians, through the unit quaternion."""
    angle = v.square().sum(-1, keepdim=True).clamp_min(1e-24).sqrt()
    w, xyz = torch.cos(angle / 2), torch.sin(angle / 2) / angle * v
    return _rotation_from_quaternion(w.squeeze(-1), *xyz.unbind(-1))


def _rotation_from_quaternion(w: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    rows = [
        *(w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def axis_angle_from_rotation(R: Tensor) -> Tensor:
    """Rotation vectors (..., 3) in radians, norm <= pi, of rotations (..., 3, 3); zero where R is not finite.

    Through the quaternion whose largest part is divided by (Shepperd, 1978), so half turns are exact.
    """
    m00, m11, m22 = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    x, y, z = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    xy, xz, yz = R[..., 0, 1] + R[..., 1, 0], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 2] + R[..., 2, 1]
    by_x = torch.stack([x, 1 + m00 - m11 - m22, xy, xz], -1)
    by_y = torch.stack([y, xy, 1 - m00 + m11 - m22, yz], -1)
    by_z = torch.stack([z, xz, yz, 1 - m00 - m11 + m22], -1)
    by_w = torch.stack([1 + m00 + m11 + m22, x, y, z], -1)
    low, left, right = (c.unsqueeze(-1) for c in (m22 < 1e-6, m00 > m11, m00 < -m11))
    q = unit(torch.where(low, torch.where(left, by_x, by_y), torch.where(right, by_z, by_w)))
    w, xyz = q[..., :1], q[..., 1:]
    sine = xyz.square().sum(-1, keepdim=True).sqrt()
    sign = torch.where(w < 0, -1.0, 1.0)
    k = torch.where(sine > 0, 2 * torch.atan2(sign * sine, sign * w) / sine.clamp_min(1e-30), 2.0)
    return torch.nan_to_num(xyz * k)


def rotation_from_euler(angles: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of angles (..., 3) in radians: Rx(a) Ry(b) Rz(c), through quaternions."""
    (cx, cy, cz), (sx, sy, sz) = torch.cos(angles / 2).unbind(-1), torch.sin(angles / 2).unbind(-1)
    return _rotation_from_quaternion(
        cx * cy * cz - sx * sy * sz,
        sx * cy * cz + cx * sy * sz,
        cx * sy * cz - sx * cy * sz,
        cx * cy * sz + sx * sy * cz,
    )


def camera_rotation(pitch: Tensor, roll: Tensor) -> Tensor:
    """R_camera_level (..., 3, 3) = Rx(pitch) Rz(roll), radians: pitch > 0 looks down, roll > 0 lowers the right end."""
    return rotation_from_euler(torch.stack([pitch, torch.zeros_like(pitch), roll], -1))


def rendering_rotation(pitch: Tensor, roll: Tensor) -> Tensor:
    """Rx(-pitch) Rz(roll): the same camera for an OpenGL renderer (y up, looking along -z)."""
    return camera_rotation(-pitch, roll)


def expected_angle(logits: Tensor, low: float, high: float) -> Tensor:
    """Soft-argmax: the mean bin of softmax(logits (..., N)), N bins from `low` to `high` inclusive, radians: (...)."""
    bins = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return low + (high - low) * (logits.softmax(-1) * bins).sum(-1) / (logits.shape[-1] - 1)


def project_crop(points: Tensor, cam: Tensor) -> Tensor:
    """Camera-frame points (B, N, 3) under weak cameras cam (B, 3) = s, tx, ty -> (B, N, 2), +-1 at the 256 crop's edge.

    A perspective camera stands in for the weak one: focal length 1000 px at depth 2 * 1000 / (256 s).
    """
    depth = 2 * CROP_FOCAL_PX / (CROP_SIDE_PX * cam[:, :1] + 1e-9)
    xy = (points[..., :2] + cam[:, None, 1:]) / (points[..., 2:] + depth[:, None])
    return xy * (2 * CROP_FOCAL_PX / CROP_SIDE_PX)


def project(points: Tensor, t: Tensor, focal: Tensor, centre: Tensor) -> Tensor:
    """Pixels (B, N, 2) of points (B, N, 3) moved by t (B, 3), focal (B) px, principal point centre (B, 2) px."""
    moved = points + t[:, None]
    return focal[:, None, None] * moved[..., :2] / moved[..., 2:] + centre[:, None]


def box_info(boxes: Tensor) -> Tensor:
    """(B, 5) = dx, dy, side, W, H over the frame's diagonal, of boxes (B, 5) = cx, cy, side, W, H in pixels.

    dx, dy: from the frame's centre. The diagonal stands for a focal length (Li et al., CLIFF, 2022).
    """
    cx, cy, side, W, H = boxes.unbind(-1)
    return torch.stack([cx - W / 2, cy - H / 2, side, W, H], -1) / (W * W + H * H).sqrt()[:, None]


def focal_px(s: Tensor, side: Tensor, Tz: Tensor) -> Tensor:
    """Focal length (B) in pixels that puts a person of weak scale s in a box of `side` px at depth Tz m."""
    return s * side * Tz / 2


def camera_translation(cam: Tensor, boxes: Tensor, Tz: Tensor) -> Tensor:
    """t_camera (B, 3) in metres to add to a mesh: cam (B, 3) = s, tx, ty, boxes (B, 5) px, depth Tz (B) m."""
    s, tx, ty = cam.unbind(-1)
    cx, cy, side, W, H = boxes.unbind(-1)
    scale = 2 / (s * side)
    return torch.stack([tx + scale * (cx - W / 2), ty + scale * (cy - H / 2), Tz], -1)


def translation_from_keypoints(points: Tensor, keypoints: Tensor, focal: float, centre: tuple[float, float]) -> Tensor:
    """t (B, 3) that brings points (B, N, 3) to keypoints (B, N, 3) = u, v px and confidence: weighted least squares.

    Two equations a point, f (x + tx) = (u - cx) (z + tz) and the same for y, each times the root of its confidence.
    """
    uv = keypoints[..., :2] - keypoints.new_tensor(centre)
    f = torch.full_like(uv[..., 0], focal)
    zero = torch.zeros_like(f)
    A = torch.cat([torch.stack([f, zero, -uv[..., 0]], -1), torch.stack([zero, f, -uv[..., 1]], -1)], 1)
    b = uv * points[..., 2:] - focal * points[..., :2]
    weight = keypoints[..., 2:].clamp_min(0).sqrt().repeat(1, 2, 1)
    A, b = weight * A, weight * b.mT.flatten(1).unsqueeze(-1)
    return torch.linalg.solve(A.mT @ A, A.mT @ b).squeeze(-1)


def sample(features: Tensor, points: Tensor) -> Tensor:
    """Bilinear values (B, C, N) of features (B, C, h, w) at points (B, N, 2), +-1 at the centres of the outer pixels.

    Zero beyond the map.
    """
    return F.grid_sample(features, points.unsqueeze(2), padding_mode="zeros", align_corners=True).squeeze(3)
