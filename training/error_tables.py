"""How well `training.error_model` matches renders it was not fitted on, and real clips, as tables of Markdown.

python -m training.error_model --report --work renders --model error_model.safetensors
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from training.error_geometry import N_MARKS, Views
from training.error_model import LandmarkErrors
from training.error_renders import Renders, flips_of
from training.error_two_sample import told_apart
from training.landmark_fit import GROUPS, VISIBILITY_EDGES, regression

LIMBS = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
STEP_S = 0.1
LAGS = (1, 2, 4, 7)
DRAWS = 24
CLIP_LAGS_S = (1 / 30, 0.1, 0.2, 0.7)
MM = 1000.0 * 1.7  # of somebody of 1.7 m
PARTS = {k: v.tolist() for k, v in GROUPS.items()} | {"hand": list(range(17, 23))}
CHANNELS = {"image": (0, 1), "depth": (2,), "metric x, y beside the image": (3, 4), "visibility": (5,)}


@dataclass(frozen=True, eq=False)
class Side:
    """What was found, really or by the model, of N pictures: image errors (N, 33, 2) and metric landmarks (N, 33, 3)
    in view axes, statures and the network's metres; visibility (N, 33), targets (N, N_TARGETS), flips (N,)."""

    error: Tensor
    metres: Tensor
    visibility: Tensor
    targets: Tensor
    flips: Tensor

    @classmethod
    def of(cls, views: Views, points_px: Tensor, visibility: Tensor, points_m: Tensor) -> Side:
        """From what was found of the views."""
        targets = views.encode(points_px, visibility, points_m)
        return cls(
            views.plane_of(points_px) - views.plane,
            views.in_axes(points_m),
            visibility,
            targets,
            flips_of(views, points_px),
        )


@dataclass(frozen=True, eq=False)
class Pairs:
    """Real and modelled of the same N = S * T pictures; `both` (S, T): somebody was really found."""

    views: Views
    features: Tensor
    real: Side
    model: Side
    both: Tensor

    @classmethod
    def of(cls, renders: Renders, model: LandmarkErrors, step_s: float, seed: int, measured: bool = False) -> Pairs:
        """Lets the model look at the renders' truth; at what is hidden only where `measured`."""
        T = renders.found.shape[1]
        g = torch.Generator().manual_seed(seed)
        hidden = renders.hidden_by_m if measured else None
        times = step_s * torch.arange(T)
        args = (renders.landmarks, renders.K, renders.size_wh, renders.stature_m)
        made = model.sample(*args, times, g, hidden)
        views = renders.views(measured)
        flat = [v.flatten(0, 1) for v in (renders.points_px, renders.visibility, renders.points_m)]
        flat = [v.nan_to_num() for v in flat]
        modelled = [v.flatten(0, 1) for v in (made.points_px, made.visibility, made.points_m)]
        return cls(views, views.features(), Side.of(views, *flat), Side.of(views, *modelled), renders.found)

    @property
    def seen(self) -> Tensor:
        """(N,) pictures in which somebody was really found."""
        return self.both.flatten()

    @property
    def toward(self) -> Tensor:
        """(N,) -1..1 how far the chest faces the camera: left shoulder and hip to the right of the picture."""
        p = self.views.points
        across = p[:, 11] - p[:, 12] + p[:, 23] - p[:, 24]
        return across[:, 0] / across.norm(dim=-1).clamp_min(1e-6)


Rows = list[list[str]]


def table(title: str, header: str, rows: Rows) -> str:
    """Markdown, title and all; header with | between its cells."""
    names = [h.strip() for h in header.split("|")]
    lines = [names, ["---"] * len(names), *rows]
    return f"### {title}\n\n" + "\n".join("| " + " | ".join(r) + " |" for r in lines) + "\n"


def image_errors(p: Pairs) -> Rows:
    """Share of landmarks, median and 90th percentile of the image error, by part and visibility."""
    rows: Rows = []
    for part, marks in PARTS.items():
        for low, high in pairwise(VISIBILITY_EDGES):
            cells = [part, f"{low:g}..{high:g}"]
            columns = []
            for side in (p.real, p.model):
                v = side.visibility[p.seen][:, marks]
                m = (v >= low) & (v < high + 1e-6 * (high == 1.0))
                e = MM * side.error[p.seen][:, marks].norm(dim=-1)[m]
                columns.append((float(m.float().mean()), e))
            if min(len(e) for _, e in columns) >= 30:
                cells += [f"{100 * share:.1f}" for share, _ in columns]
                cells += [f"{float(e.quantile(q)):.0f}" for q in (0.5, 0.9) for _, e in columns]
                rows.append(cells)
    return rows


def by_view(p: Pairs) -> Iterator[tuple[str, Tensor]]:
    """Names and masks (N,) of all, the views, and what is cut off."""
    inside = p.features[:, N_MARKS * 6 : N_MARKS * 7][:, LIMBS].mean(-1)
    toward = p.toward
    yield "all", p.seen
    for name, low, high in (("front", 0.6, 1.1), ("side", -0.6, 0.6), ("back", -1.1, -0.6)):
        yield name, p.seen & (toward > low) & (toward <= high)
    yield "whole", p.seen & (inside > 0.99)
    yield "cut off", p.seen & (inside < 0.85)
    distance = p.views.distance_m
    yield "nearer than 2.5 m", p.seen & (distance < 2.5)
    yield "farther than 5 m", p.seen & (distance > 5.0)


def joint_errors(found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance (N,) of the limbs' joints in mm: about the hips at the best scale, and after Procrustes (PA)."""
    P, T = found[:, LIMBS], true[:, LIMBS]
    P, T = (v - v[:, 6:8].mean(1, keepdim=True) for v in (P, T))
    s = (P * T).sum((1, 2)) / (P * P).sum((1, 2))
    plain = (s[:, None, None] * P - T).norm(dim=-1).mean(1)
    P, T = (v - v.mean(1, keepdim=True) for v in (P, T))
    U, S, Vt = torch.linalg.svd(P.mT @ T)
    sign = torch.det(U @ Vt).sign()
    U, S = torch.cat([U[..., :2], U[..., 2:] * sign[:, None, None]], -1), S * torch.stack([sign**2, sign**2, sign], -1)
    s = S.sum(1) / (P * P).sum((1, 2))
    return 1000 * plain, 1000 * (s[:, None, None] * P @ (U @ Vt) - T).norm(dim=-1).mean(1)


def metric_errors(p: Pairs) -> Rows:
    """MPJPE and PA-MPJPE of the metric landmarks with the standard error by sequences, really and modelled."""
    rows: Rows = []
    true = p.views.points * p.views.stature_m[:, None, None]
    S, T = p.both.shape
    sequence = torch.arange(S).repeat_interleave(T)
    errors = [joint_errors(side.metres, true) for side in (p.real, p.model)]
    for name, m in by_view(p):
        if int(m.sum()) >= 40:
            cells = []
            for kind in (0, 1):
                for side in (0, 1):
                    e, at = errors[side][kind][m], sequence[m]
                    own = (torch.zeros(S).index_add(0, at, e - e.mean())).square().sum().sqrt() / len(e)
                    cells.append(f"{float(e.mean()):.0f} ± {float(own):.0f}")
            rows.append([name, str(int(m.sum())), *cells])
    return rows


def _fit_line(x: Tensor, y: Tensor, scale: float) -> tuple[float, float, float]:
    ones = torch.ones_like(x)
    (slope, _), sigma = regression([x.numpy(), ones.numpy()], y.numpy(), ones.numpy(), scale)
    return float(slope), sigma, float(torch.corrcoef(torch.stack([x, y]))[0, 1])


def tilt(points: Tensor) -> Tensor:
    """How far bodies (N, 33, 3) lean along the view, ankles to shoulders, degrees; negative: toward the camera."""
    axis = points[:, [11, 12]].mean(1) - points[:, [27, 28]].mean(1)
    return torch.rad2deg(torch.atan2(axis[:, 2], -axis[:, 1]))


def depths(p: Pairs) -> Rows:
    """What is left of true depth by part, and of the whole body's lean."""
    rows: Rows = []
    for part, marks in PARTS.items():
        cells = []
        for side in (p.real, p.model):
            m = (side.visibility[p.seen][:, marks] > 0.5).flatten()
            size = side.targets[p.seen, -1:].exp()
            found = (side.metres[p.seen][:, marks, 2] / size).flatten()[m]
            slope, sigma, r = _fit_line(p.views.points[p.seen][:, marks, 2].flatten()[m], found, 0.08)
            cells.append([f"{slope:.2f}", f"{MM * sigma:.0f}", f"{r:.2f}"])
        rows.append([part, *(v for pair in zip(*cells, strict=True) for v in pair)])
    true = tilt(p.views.points)
    upright = p.seen & (true.abs() < 40) & (p.views.points[:, [27, 28], 1].amin(-1) > 0.25)
    lean = [_fit_line(true[upright], tilt(s.metres)[upright], 10.0) for s in (p.real, p.model)]
    pairs = zip(*([f"{a:.2f}", f"{b:.1f}°", f"{c:.2f}"] for a, b, c in lean), strict=True)
    rows.append(["lean of upright bodies", *(v for pair in pairs for v in pair)])
    return rows


def whole_body(p: Pairs) -> Rows:
    """Size, exchanged sides, and which side is nearer."""
    rows: Rows = []
    for name, f in (("median", 0.5), ("10 %", 0.1), ("90 %", 0.9)):
        got = [float((s.targets[p.seen, -1].exp()).quantile(f)) for s in (p.real, p.model)]
        rows.append([f"size given to the body, {name}, m", *(f"{v:.2f}" for v in got)])
    for k, part in enumerate(("whole body", "arms", "legs"), start=1):
        for view, m in list(by_view(p))[:4]:
            got = [100 * float((s.flips[m] == k).float().mean()) for s in (p.real, p.model)]
            rows.append([f"sides exchanged, {part}, {view}, %", *(f"{v:.1f}" for v in got)])
    for part in ("shoulder", "wrist", "knee", "ankle"):
        left, right = GROUPS[part]
        true = p.views.points[:, left, 2] - p.views.points[:, right, 2]
        m = p.seen & (true.abs() > 0.1)
        got = [
            100 * float(((s.metres[m, left, 2] - s.metres[m, right, 2]) * true[m] < 0).float().mean())
            for s in (p.real, p.model)
        ]
        rows.append([f"which {part} is nearer, over 0.1 statures apart: wrong, %", *(f"{v:.1f}" for v in got)])
    return rows


def over_time(p: Pairs, lags: tuple[int, ...], own_middle: bool = False) -> Rows:
    """Correlation of errors over `lags` steps, about the median of all or of each sequence."""
    S, T = p.both.shape
    rows: Rows = []
    what: dict[str, Callable[[Side], Tensor]] = {
        "image": lambda s: s.error.flatten(1),
        "depth": lambda s: s.metres[..., 2] / s.targets[:, -1:].exp() - p.views.points[..., 2],
        "visibility (logit)": lambda s: torch.logit(s.visibility.clamp(1e-4, 1 - 1e-4)),
    }
    for name, of in what.items():
        per = 2 if name == "image" else 1
        for part, marks in PARTS.items():
            columns = torch.tensor([per * k + c for k in marks for c in range(per)])
            cells = []
            for side in (p.real, p.model):
                e = of(side)[:, columns].view(S, T, -1)
                e = torch.where(p.both[..., None], e, torch.nan)
                e = e - (e.nanmedian(1, keepdim=True) if own_middle else e.flatten(0, 1).nanmedian(0)).values
                limit = 4 * 1.4826 * e.abs().nanmedian() if name != "image" else torch.tensor(0.15)
                e = e.clamp(-limit, limit)
                cells.append([_correlation(e, p.both, k) for k in lags])
            flat = [f"{v:.2f}" for pair in zip(*cells, strict=True) for v in pair]
            rows.append([name, part, *flat])
    return rows


def _correlation(e: Tensor, found: Tensor, lag: int) -> float:
    m = found[:, lag:] & found[:, : found.shape[1] - lag]
    a, b = e[:, lag:][m], e[:, : e.shape[1] - lag][m]
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt().clamp_min(1e-9))


def two_sample(p: Pairs) -> Rows:
    """Areas under the curve by what the classifier is shown."""
    S, T = p.both.shape
    g = torch.Generator().manual_seed(5)
    fold = (torch.rand(S, generator=g) < 0.5)[:, None].expand(S, T).flatten()
    m = p.seen
    marks = {name: [33 * c + k for c in which for k in range(N_MARKS)] for name, which in CHANNELS.items()}
    marks |= {"everything": list(range(len(p.real.targets[0])))}
    body = [0, 7, 8, *LIMBS]
    marks |= {"everything, nose, ears and limbs only": [33 * c + k for c in range(6) for k in body]}
    given = p.features[m]
    rows: Rows = []
    for name, at in marks.items():
        real, model = p.real.targets[m][:, at], p.model.targets[m][:, at]
        alone = told_apart(real, model, given[:, :1], fold[m])
        rows.append([name, f"{told_apart(real, model, given, fold[m]):.2f}", f"{alone:.2f}"])
    if T > 1:
        pair = (p.both[:, 1:] & p.both[:, :-1]).flatten()
        real, model = (
            torch.cat([y[:, 1:], y[:, 1:] - y[:, :-1]], -1).flatten(0, 1)[pair]
            for y in (s.targets.view(S, T, -1) for s in (p.real, p.model))
        )
        later = p.features.view(S, T, -1)[:, 1:].flatten(0, 1)[pair]
        halves = fold.view(S, T)[:, 1:].flatten()[pair]
        alone = told_apart(real, model, later[:, :1], halves)
        rows.append([f"everything and its change in {STEP_S:g} s", f"{told_apart(real, model, later, halves):.2f}",
                     f"{alone:.2f}"])  # fmt: skip
    return rows
