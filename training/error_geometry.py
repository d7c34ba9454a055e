"""What `training.error_model` sees of true landmarks, and how it writes down what the landmark network makes of them.

Everything is in view axes: origin between the true hips, z along the ray through them, turned about it until the trunk
points up the picture (-y), lengths in statures. In them a body errs alike wherever it stands and however it is turned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.types import LANDMARK, LANDMARK_NAMES

N_MARKS = 33
OTHER = torch.tensor([
    LANDMARK[n.replace("left", "?").replace("right", "left").replace("?", "right")] for n in LANDMARK_NAMES
])  # fmt: skip
#: Which landmarks change places when the network exchanges sides: everything, the arms, the legs.
FLIP_PARTS = (tuple(range(33)), tuple(range(13, 23)), tuple(range(25, 33)))
#: Depths nearer than this share of the distance to the hips count as this share, so that no projection runs away.
NEAREST = 0.35
#: found_xy = picture (1 + (assumed + share / distance) found_z), 1/m and 1; docs/landmarks.md.
ASSUMED_NEARNESS, NEARNESS_SHARE = 0.23, 0.11
LOGIT_LIMIT = 9.0
N_WHOLE = 3
N_TARGETS = N_MARKS * 6 + N_WHOLE
#: What is left of true depth; and how much less than that a body's lean is thought to be off, statures squared.
_DEPTH_SHARE, _TILT_RIDGE = 0.6, 0.3
N_SCALARS = 10
N_FEATURES = N_MARKS * 8 + N_SCALARS

_LIMBS = (
    (11, 13, 0.026), (13, 15, 0.022), (12, 14, 0.026), (14, 16, 0.022), (15, 19, 0.02), (16, 20, 0.02),
    (23, 25, 0.042), (25, 27, 0.03), (24, 26, 0.042), (26, 28, 0.03), (29, 31, 0.02), (30, 32, 0.02),
)  # fmt: skip
_TRUNK = tuple((along, across, 0.062) for along in (0.08, 0.36, 0.64, 0.9) for across in (0.28, 0.72))


def _balls() -> tuple[Tensor, Tensor]:
    """A body of balls: centres as weights (balls, 33) of the landmarks, and radii in statures (balls,)."""
    rows, radii = [], []
    for a, b, radius in _LIMBS:
        for share in (0.15, 0.5, 0.85):
            row = torch.zeros(N_MARKS)
            row[a], row[b] = 1 - share, share
            rows.append(row)
            radii.append(radius)
    for along, across, radius in _TRUNK:
        row = torch.zeros(N_MARKS)
        row[[23, 24, 11, 12]] = torch.tensor(
            [(1 - along) * (1 - across), (1 - along) * across, along * (1 - across), along * across]
        )
        rows.append(row)
        radii.append(radius)
    head = torch.zeros(N_MARKS)
    head[[7, 8]] = 0.5
    return torch.stack([*rows, head]), torch.tensor([*radii, 0.05])


_BALLS, _RADII = _balls()
#: Landmarks whose hiding is told, and which of them each of the 33 goes by.
_OWN = [0, 7, 8, *range(11, N_MARKS)]
_AS = [_OWN.index(k) if k in _OWN else 0 for k in range(N_MARKS)]

#: Landmarks that err with another one: their targets are what they differ by.
_WITH = {
    **dict.fromkeys((2, 5, 7, 8, 9, 10), 0), 1: 2, 3: 2, 4: 5, 6: 5,
    **{k: k - 2 for k in (17, 18)}, **{k: 15 + (k + 1) % 2 for k in (19, 20, 21, 22)},
    **{k: k - 2 for k in (29, 30, 31, 32)},
}  # fmt: skip


def _differences() -> Tensor:
    D = torch.eye(N_MARKS)
    for k, parent in _WITH.items():
        D[k, parent] = -1.0
    # The hips' middle is the origin of what is found: difference and sum
    D[23, 24], D[24, 23] = -1.0, 1.0
    return D


_APART = _differences()
_TOGETHER = torch.linalg.inv(_APART)


@dataclass(frozen=True, eq=False)
class Views:
    """N true bodies before their cameras, in view axes and statures.

    R_view_camera  (N, 3, 3)
    roll           (N, 2) cosine and sine of the turn from ray axes to view axes
    points         (N, 33, 3) true landmarks
    plane          (N, 33, 2) where they are seen, on the plane through the hips that the ray is perpendicular to
    edge           (N, 33) how far inside the picture's border that is, negative outside
    hidden         (N, 33) how far behind the surface that is seen there
    scalars        (N, 10) 1, or -1 in a mirror (the network errs to one side); distance, size, roll, place, and whether
                   `hidden` was measured
    stature_m, distance_m  (N,)
    K              (N, 3, 3) pixels
    """

    R_view_camera: Tensor
    roll: Tensor
    points: Tensor
    plane: Tensor
    edge: Tensor
    hidden: Tensor
    scalars: Tensor
    stature_m: Tensor
    distance_m: Tensor
    K: Tensor

    @classmethod
    def of(cls, landmarks: Tensor, K: Tensor, size_wh: Tensor, stature_m: Tensor, hidden_by_m: Tensor | None) -> Views:
        """Windows (B, T, 33, 3) in camera metres; K (B, 3, 3), size_wh (B, 2), stature_m (B,), flattened to B * T.

        hidden_by_m (B, T, 33): how far behind the seen surface each landmark lies; nan, or None, where not known.
        """
        B, T = landmarks.shape[:2]
        P = landmarks.flatten(0, 1)
        K, size_wh, h = (v.repeat_interleave(T, 0) for v in (K, size_wh, stature_m))
        middle = 0.5 * (P[:, 23] + P[:, 24])
        distance = middle.norm(dim=-1).clamp_min(0.2)
        R = turn_to_z(middle / distance[:, None])
        p = (P - middle[:, None]) @ R.mT / h[:, None, None]
        d = distance / h
        z = (p[..., 2] + d[:, None]).clamp_min(NEAREST * d[:, None])
        plane = p[..., :2] * (d[:, None] / z)[..., None]
        axis = (0.25 * (plane[:, 11] + plane[:, 12]) + 0.5 * plane[:, 0]).view(B, T, 2)
        # A trunk that points at the camera has no direction: that of the window then
        axis = (axis + 0.3 * axis.mean(1, keepdim=True)).flatten(0, 1)
        axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        cos, sin = -axis[:, 1], -axis[:, 0]
        roll = torch.stack([cos, sin], -1)
        about_z = torch.zeros_like(R)
        about_z[:, 0, 0] = about_z[:, 1, 1] = cos
        about_z[:, 0, 1], about_z[:, 1, 0], about_z[:, 2, 2] = -sin, sin, 1.0
        R = about_z @ R
        p, plane = p @ about_z.mT, plane @ about_z[:, :2, :2].mT
        views = cls(R, roll, p, plane, p[..., 0], p[..., 0], p[:, 0], h, distance, K)
        uv = views.pixels(plane)
        per_px = d * h / K[:, 0, 0] / h
        edge = torch.minimum(uv, (size_wh - 1.0)[:, None] - uv).amin(-1) * per_px[:, None]
        hidden = behind_balls(p, plane)
        known = torch.zeros(len(P))
        if hidden_by_m is not None:
            given = hidden_by_m.flatten(0, 1)
            ok = torch.isfinite(given)
            known = ok.any(-1).to(p.dtype)
            hidden = torch.where(ok, given.nan_to_num() / h[:, None], hidden)
        ray = middle / middle[:, 2:].clamp_min(0.05)
        off = ray[:, :2]
        columns = [
            torch.ones_like(d), 1.0 / d, -(per_px * size_wh.amax(-1)).log(), (1.0 / per_px / 256.0).clamp(0.05, 1.5),
            cos, sin, off[:, 0] * cos - off[:, 1] * sin, off[:, 0] * sin + off[:, 1] * cos,
            (edge > 0).to(p.dtype).mean(-1), known,
        ]  # fmt: skip
        scalars = torch.stack(columns, -1)
        return replace(views, edge=edge, hidden=hidden, scalars=scalars)

    def pixels(self, plane: Tensor) -> Tensor:
        """Pixels (N, 33, 2) of points (N, 33, 2) of the plane through the hips."""
        d = (self.distance_m / self.stature_m)[:, None, None].expand(*plane.shape[:2], 1)
        line = torch.cat([plane, d], -1) @ self.R_view_camera
        line = line[..., :2] / line[..., 2:].clamp_min(0.05)
        return line * self.K[:, None, [0, 1], [0, 1]] + self.K[:, None, :2, 2]

    def plane_of(self, pixels: Tensor) -> Tensor:
        """The inverse of `pixels`."""
        lines = (pixels - self.K[:, None, :2, 2]) / self.K[:, None, [0, 1], [0, 1]]
        lines = torch.cat([lines, torch.ones_like(lines[..., :1])], -1) @ self.R_view_camera.mT
        return lines[..., :2] / lines[..., 2:].clamp_min(0.1) * (self.distance_m / self.stature_m)[:, None, None]

    def features(self) -> Tensor:
        """(N, N_FEATURES), each landmark's channels apart: x, y, z, plane x, y, edge, inside, hidden; then scalars."""
        edge = self.edge.clamp(-0.4, 0.4)
        hidden = self.hidden.clamp(-0.1, 0.6)
        marks = [
            *self.points.clamp(-1.5, 1.5).unbind(-1), *self.plane.clamp(-2.0, 2.0).unbind(-1),
            edge, (edge * 60.0).sigmoid(), hidden / (hidden.abs() + 0.08),
        ]  # fmt: skip
        return torch.cat([*marks, self.scalars], -1)

    def _perspective(self, z_m: Tensor) -> Tensor:
        return 1.0 + (ASSUMED_NEARNESS + NEARNESS_SHARE / self.distance_m[:, None]) * z_m

    def encode(self, points_px: Tensor, visibility: Tensor, points_m: Tensor) -> Tensor:
        """Found landmarks (N, 33, ...), metric ones in ray axes, as targets (N, N_TARGETS).

        Channels of each landmark: image error x, y; found depth; what the metric landmarks are beside the image ones
        x, y; logit of the visibility; fingers, feet and faces relative to the landmark that they go with. Last: how
        far the whole body is tilted, depth by x and y, of which found depth is free then, and the log of its size.
        """
        found = self.plane_of(points_px)
        error = found - self.plane
        seen = found - 0.5 * (found[:, 23:24] + found[:, 24:25])
        xy = self.in_view(points_m[..., :2])
        ideal = seen * self._perspective(points_m[..., 2])[..., None]
        size = ((ideal * xy).sum((1, 2)) / (ideal * ideal).sum((1, 2)).clamp_min(1e-6)).clamp(0.4, 4.0)
        excess = (xy - size[:, None, None] * ideal) / size[:, None, None]
        depth = points_m[..., 2] / size[:, None]
        tilt = self._tilt(depth - _DEPTH_SHARE * self.points[..., 2])
        depth = depth - (self._lever() @ tilt[..., None])[..., 0]
        logit = torch.logit(visibility.clamp(1e-6, 1 - 1e-6)).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        marks = torch.stack([*error.unbind(-1), depth, *excess.unbind(-1), logit], 1) @ _APART.T
        return torch.cat([marks.flatten(1), tilt, size.log()[:, None]], -1)

    def decode(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The inverse of `encode`: points_px (N, 33, 2), visibility (N, 33), points_m (N, 33, 3) in ray axes."""
        marks = targets[:, :-N_WHOLE].unflatten(-1, (6, N_MARKS)) @ _TOGETHER.T
        ex, ey, depth, mx, my, logit = marks.unbind(1)
        size = targets[:, -1:].clamp(-1.0, 1.4).exp()
        found = self.plane + torch.stack([ex, ey], -1)
        seen = found - 0.5 * (found[:, 23:24] + found[:, 24:25])
        z = (depth + (self._lever() @ targets[:, -N_WHOLE:-1, None])[..., 0]) * size
        xy = size[..., None] * (seen * self._perspective(z)[..., None] + torch.stack([mx, my], -1))
        x, y = xy.unbind(-1)
        cos, sin = self.roll[:, :1], self.roll[:, 1:]
        metres = torch.stack([cos * x + sin * y, cos * y - sin * x, z], -1)
        return self.pixels(found), logit.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).sigmoid(), metres

    def _lever(self) -> Tensor:
        return self.points[..., :2].clamp(-1.0, 1.0)

    def _tilt(self, depth: Tensor) -> Tensor:
        """(N, 2) the tilt about the hips, as slopes along x and y, that is nearest to depths (N, 33)."""
        A = self._lever()[:, 11:]
        H = A.mT @ A + _TILT_RIDGE * torch.eye(2)
        inverse = torch.stack([H[:, 1, 1], -H[:, 0, 1], -H[:, 1, 0], H[:, 0, 0]], -1).unflatten(-1, (2, 2))
        inverse = inverse / (H[:, 0, 0] * H[:, 1, 1] - H[:, 0, 1] * H[:, 1, 0])[:, None, None]
        return (inverse @ (A.mT @ depth[:, 11:, None]))[..., 0]

    def in_axes(self, points_m: Tensor) -> Tensor:
        """(N, 33, 3) metric landmarks in view axes, of those in ray axes."""
        return torch.cat([self.in_view(points_m[..., :2]), points_m[..., 2:]], -1)

    def in_view(self, xy: Tensor) -> Tensor:
        """(N, 33, 2) across the ray in view axes, of x and y (N, 33, 2) in ray axes."""
        cos, sin = self.roll[:, None, 0], self.roll[:, None, 1]
        return torch.stack([cos * xy[..., 0] - sin * xy[..., 1], sin * xy[..., 0] + cos * xy[..., 1]], -1)


def turn_to_z(unit: Tensor) -> Tensor:
    """(N, 3, 3) the smallest turn that takes unit vectors (N, 3), not opposite to z, to the z axis."""
    x, y, z = unit.unbind(-1)
    k = 1.0 / (1.0 + z).clamp_min(1e-4)
    rows = [1 - k * x * x, -k * x * y, -x, -k * x * y, 1 - k * y * y, -y, x, y, z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def behind_balls(points: Tensor, plane: Tensor) -> Tensor:
    """How far (N, 33) landmarks lie behind the nearest ball of the body that covers them, statures; -0.1 where none.

    Eyes and mouth are as the nose is.
    """
    centre, spot = _BALLS @ points, _BALLS @ plane
    plane = plane[:, _OWN]
    apart = (plane * plane).sum(-1)[:, :, None] + (spot * spot).sum(-1)[:, None] - 2.0 * plane @ spot.mT
    bulge = _RADII**2 - apart
    front = torch.where(bulge > 0, bulge.clamp_min(0).sqrt() - centre[:, None, :, 2], -9.0).amax(-1)
    return (front + points[:, _OWN, 2]).clamp_min(-0.1)[:, _AS]


def mirror_features(features: Tensor) -> Tensor:
    """Features of the same views in a mirror."""
    marks = features[..., : N_MARKS * 8].unflatten(-1, (8, N_MARKS))[..., OTHER]
    sign = torch.tensor([-1.0, 1, 1, -1, 1, 1, 1, 1])[:, None]
    scalar_sign = torch.tensor([-1.0, 1, 1, 1, 1, -1, -1, 1, 1, 1])
    return torch.cat([(marks * sign).flatten(-2), features[..., N_MARKS * 8 :] * scalar_sign], -1)


def mirror_targets(targets: Tensor) -> Tensor:
    """Targets (..., N_TARGETS) of the same views in a mirror."""
    marks = (targets[..., :-N_WHOLE].unflatten(-1, (6, N_MARKS)) @ _TOGETHER.T)[..., OTHER]
    sign = torch.tensor([-1.0, 1, 1, -1, 1, 1])[:, None]
    whole = targets[..., -N_WHOLE:] * torch.tensor([-1.0, 1.0, 1.0])
    return torch.cat([((marks * sign) @ _APART.T).flatten(-2), whole], -1)


def exchanged(values: Tensor, flips: Tensor) -> Tensor:
    """Landmarks (N, 33, ...) with sides exchanged where flips (N,) says: 0 no, 1 whole body, 2 arms, 3 legs."""
    out = values
    for state, part in enumerate(FLIP_PARTS, start=1):
        rows = (flips == state).nonzero()[:, 0]
        if len(rows):
            marks = torch.tensor(part)
            out = out.clone() if out is values else out
            out[rows[:, None], marks] = values[rows[:, None], OTHER[marks]]
    return out
