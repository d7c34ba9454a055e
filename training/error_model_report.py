"""How well `training.error_model` matches renders it was not fitted on, and real clips, as tables of Markdown.

python -m training.error_model --report --work renders --model error_model.safetensors
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from training.error_model import LandmarkErrors
from training.error_model_clips import clips
from training.error_renders import Renders, held_out, kinds
from training.error_tables import (
    MM,
    PARTS,
    STEP_S,
    Pairs,
    Rows,
    by_view,
    depths,
    image_errors,
    joint_errors,
    metric_errors,
    over_time,
    table,
    tilt,
    two_sample,
    whole_body,
)

#: The line of docs/error_model.md below which everything is written by the report.
TABLES = "<!-- Written by `python -m training.error_model --report --into`. -->\n"
LAGS = (1, 2, 4, 7)
DRAWS = 24
CLIP_LAGS_S = (1 / 30, 0.1, 0.2, 0.7)


def sections(p: Pairs) -> Iterator[str]:
    """The tables for one set of pictures."""
    yield table("Image errors, mm of somebody of 1.7 m", "part | visibility | share %, real | model | median, real | "
                "model | 90 %, real | model", image_errors(p))  # fmt: skip
    yield table("Metric landmarks against the truth, mm",
                "view | pictures | MPJPE real | model | PA-MPJPE real | model", metric_errors(p))  # fmt: skip
    yield table("Depth: found = share x true + noise", "part | share real | model | noise, mm, real | model | "
                "correlation real | model", depths(p))  # fmt: skip
    yield table("The whole body", "what | real | model", whole_body(p))
    if p.both.shape[1] > 1:
        names = " | ".join(f"{STEP_S * k:.2g} s, real | model" for k in LAGS)
        yield table("Correlation of errors over time", f"error | part | {names}", over_time(p, LAGS))
    yield table("Told apart by a classifier: area under the curve", "shown | given the truth | alone", two_sample(p))


def report(work: list[Path], model: LandmarkErrors, folders: list[Path]) -> str:
    """All tables: renders kept aside of every folder, and real clips when there are any."""
    parts = [f"One thread makes {speed(model):.0f} bodies a second on the machine of this report.\n"]
    for folder in work:
        for renders in kinds([f for f in sorted(folder.glob("*.npz")) if held_out(f)]):
            S, T = renders.found.shape
            p = Pairs.of(renders, model, STEP_S, 7)
            what = f"sequences of {T} pictures, {STEP_S:g} s apart" if T > 1 else "single pictures"
            parts.append(f"## {S} {what}\n")
            parts.append(table("Somebody is found", "view | real, % | model, %", found_rates(p, renders, model)))
            parts += sections(p)
    if folders:
        parts.append("## Real clips\n")
        parts += clip_tables(model, folders)
    return "\n".join(parts)


def speed(model: LandmarkErrors, people: int = 2000) -> float:
    """Bodies a second of processor time, people standing in five pictures each."""
    g = torch.Generator().manual_seed(0)
    marks = 0.3 * torch.randn(people, 5, 33, 3, generator=g) + torch.tensor([0.0, 0.0, 4.0])
    K = torch.tensor([[900.0, 0.0, 640.0], [0.0, 900.0, 360.0], [0.0, 0.0, 1.0]]).expand(people, 3, 3)
    args = (
        marks,
        K,
        torch.tensor([[1280.0, 720.0]]).expand(people, 2),
        torch.full((people,), 1.7),
        0.1 * torch.arange(5),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model.sample(*args, g)
    start = time.process_time()
    model.sample(*args, g)
    taken = time.process_time() - start
    torch.set_num_threads(threads)
    return 5 * people / taken


def put_into(file: Path, tables: str) -> None:
    """Replaces what is below TABLES in a Markdown file. Raises ValueError when it has no such line."""
    above, line, _ = file.read_text(encoding="utf-8").partition(TABLES)
    if not line:
        raise ValueError(f"{file}: expected the line {TABLES.strip()}, below which the tables go; add it.")
    file.write_text(above + line + "\n" + tables, encoding="utf-8")


def clip_tables(model: LandmarkErrors, folders: list[Path]) -> Iterator[str]:
    """Real clips beside DRAWS draws of the model on their truth."""
    errors: Rows = []
    joints: Rows = []
    times: Rows = []
    leans: Rows = []
    for name, renders, step_s in clips(folders):
        many = renders.where(torch.zeros(DRAWS, dtype=torch.long))
        p = Pairs.of(many, model, step_s, 7, measured=False)
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
            e = [MM * s.error[p.seen][:, PARTS[part]].norm(dim=-1).flatten() for s in (p.real, p.model)]
            v = [float(s.visibility[p.seen][:, PARTS[part]].median()) for s in (p.real, p.model)]
            quantiles = [f"{float(side.quantile(q)):.0f}" for q in (0.5, 0.9) for side in e]
            errors.append([name, part, *quantiles, *(f"{value:.2f}" for value in v)])
        true = p.views.points * p.views.stature_m[:, None, None]
        real, made = (
            [float(e.mean()) for e in joint_errors(s.metres[p.seen], true[p.seen])] for s in (p.real, p.model)
        )
        flips = [f"{100 * float((s.flips[p.seen] > 0).float().mean()):.0f}" for s in (p.real, p.model)]
        joints.append([name, *(f"{a:.0f}" for pair in zip(real, made, strict=True) for a in pair), *flips])
        along = [tilt(points[p.seen]) for points in (true, p.real.metres, p.model.metres)]
        leans.append([name, *(f"{float(a.mean()):.0f} | {float(a.std()):.0f}" for a in along)])
        steps = tuple(round(lag / step_s) for lag in CLIP_LAGS_S)
        shown = [row for row in over_time(p, steps, own_middle=True) if row[1] in ("shoulder", "wrist", "ankle")]
        times += [[name, *row] for row in shown]
    yield table("Image errors, mm of somebody of 1.7 m", "clip | part | median, real | model | 90 %, real | model | "
                "visibility real | model", errors)  # fmt: skip
    yield table("Metric landmarks against the truth, mm; sides exchanged",
                "clip | MPJPE real | model | PA-MPJPE real | model | exchanged, %, real | model", joints)  # fmt: skip
    yield table("Lean along the view, ankles to shoulders, degrees; negative: toward the camera",
                "clip | true, mean | deviation | found, mean | deviation | model, mean | deviation", leans)  # fmt: skip
    lags = " | ".join(f"{lag:.2g} s, real | model" for lag in CLIP_LAGS_S)
    yield table("Correlation of what errors move about their mean", f"clip | error | part | {lags}", times)


def found_rates(p: Pairs, renders: Renders, model: LandmarkErrors) -> Rows:
    """How often somebody is found, by view, really and by the model."""
    g = torch.Generator().manual_seed(8)
    T = renders.found.shape[1]
    args = (renders.landmarks, renders.K, renders.size_wh, renders.stature_m)
    made = model.sample(*args, STEP_S * torch.arange(T), g, None).found.flatten()
    everybody = Pairs(p.views, p.features, p.real, p.model, torch.ones_like(p.both))
    return [
        [name, f"{100 * float(p.seen[m].float().mean()):.1f}", f"{100 * float(made[m].float().mean()):.1f}"]
        for name, m in by_view(everybody)
        if int(m.sum()) >= 40
    ]
