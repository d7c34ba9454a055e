"""The numbers of docs/model_card.md: `python -m training.card --data DIR --into docs/model_card.md`.

DIR holds held_out.pt of `training.scenes`: motions, bodies and cameras that no network was trained on. What is written
stands between the page's marks; the networks are those that ship.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.accuracy_report import insert
from engines.landmark_networks import open_networks
from pipeline.frames import Array
from pipeline.landmark_net import CORRECTOR_FILE, NETWORK_FILE, Runs
from training.evaluate import errors_of
from training.losses import Bodies, with_camera
from training.network import CORRECTOR_INPUTS, INPUTS, STATURE_M, exp_turn
from training.train import load_windows
from training.train_corrector import OFF_DEG, angle_of, inputs_of, off_by, true_root

BATCH = 500


def read_all(data: dict[str, Tensor]) -> dict[str, Array]:
    """What the networks say of every window, as the numbers of the tables, (N,) each."""
    parts: dict[str, list[Tensor]] = {}
    bodies = Bodies()
    g = torch.Generator().manual_seed(5)
    with ExitStack() as stack:
        reads, corrects = open_networks((NETWORK_FILE, CORRECTOR_FILE), stack, "onnx", max_batch=1)
        for start in range(0, len(data["ages_s"]), BATCH):
            b = {k: v[start : start + BATCH].float() for k, v in data.items()}
            values: dict[str, Tensor] = {}
            for prefix, known in (("alone_", 0.0), ("", 1.0)):
                b = with_camera(b, g, known)
                out = {k: torch.tensor(v) for k, v in reads({k: b[k].numpy() for k in INPUTS}).items()}
                values |= {prefix + name: v for name, v in errors_of(out, b, bodies).items()}
            values |= _corrected(b, out, corrects, g)
            for name, v in values.items():
                parts.setdefault(name, []).append(v)
    return {name: torch.cat(v).double().numpy() for name, v in parts.items()}


def _corrected(b: dict[str, Tensor], out: dict[str, Tensor], corrects: Runs, g: torch.Generator) -> dict[str, Tensor]:
    """Angles in degrees of the root in the world, before and after, with camera angles off by OFF_DEG."""
    true, values = true_root(b), {}
    for degrees in OFF_DEG:
        given = inputs_of(out, b, off_by(b["up_camera"], degrees, g))
        feed = {name: value.float().numpy() for name, value in zip(CORRECTOR_INPUTS, given, strict=True)}
        turned = torch.tensor(corrects(feed)["turn"])
        composed = given[1] @ given[2]
        values[f"before_{degrees:g}"] = torch.rad2deg(angle_of(composed, true))
        values[f"after_{degrees:g}"] = torch.rad2deg(angle_of(exp_turn(turned) @ composed, true))
    return values


def slices(data: dict[str, Tensor]) -> dict[str, NDArray[np.bool_]]:
    """Which windows are of which kind (N,)."""
    stature, away = (
        data["stature_m"].numpy(),
        data["place_m"].norm(dim=1).numpy() * data["stature_m"].numpy() / STATURE_M,
    )
    inside = ((data["true_px"] >= 0) & (data["true_px"] < data["size_wh"][:, None])).all(-1).float().mean(1).numpy()
    pitch = np.degrees(np.arcsin(np.clip(-data["up_camera"][:, 2].numpy(), -1, 1)))
    toward = data["Rs_6d"][:, 0].float()
    facing = -torch.linalg.cross(toward[:, :3], toward[:, 3:])[:, 2].numpy()
    focal = (data["focal_px"] / data["size_wh"].amax(1)).numpy()
    return {
        "all": np.ones(len(stature), dtype=bool),
        "stature under 1.25 m": stature < 1.25, "1.25 to 1.55 m": (stature >= 1.25) & (stature < 1.55),
        "1.55 to 1.85 m": (stature >= 1.55) & (stature < 1.85), "over 1.85 m": stature >= 1.85,
        "all in the picture": inside > 0.99, "partly": (inside > 0.7) & (inside <= 0.99), "half or less": inside <= 0.7,
        "nearer than 1.5 m": away < 1.5, "1.5 to 4 m": (away >= 1.5) & (away < 4), "farther than 4 m": away >= 4,
        "facing the camera": facing > 0.5, "from the side": np.abs(facing) <= 0.5, "from behind": facing < -0.5,
        "camera looks up": pitch < -5, "level": np.abs(pitch) <= 5, "down, 5 to 30°": (pitch > 5) & (pitch <= 30),
        "steeper": pitch > 30, "focal length under 0.6": focal < 0.6, "0.6 to 1.2": (focal >= 0.6) & (focal < 1.2),
        "over 1.2": focal >= 1.2,
    }  # fmt: skip


def percent(log_errors: Array) -> float:
    """The median of errors of a logarithm."""
    return 100.0 * float(np.expm1(np.median(log_errors)))


def tables(data: dict[str, Tensor]) -> Iterator[str]:
    """The page's lines."""
    values = read_all(data)
    titles = ("held-out windows", "share", "MPJPE, mm: MediaPipe", "landmarks", "PA-MPJPE, mm: MediaPipe", "landmarks",
              "body", "gravity, median and 90 %", "focal length, median")  # fmt: skip
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for name, rows in slices(data).items():
        if rows.sum() < 20:
            continue
        v = {k: x[rows] for k, x in values.items()}
        yield (
            f"| {name} | {rows.mean():.0%} | {v['raw_mm'].mean():.0f} | {v['free_mm'].mean():.0f} | "
            f"{v['raw_pa_mm'].mean():.0f} | {v['free_pa_mm'].mean():.0f} | "
            f"{v['body_pa_mm'].mean():.0f} | {np.median(v['up_deg']):.1f}°, {np.quantile(v['up_deg'], 0.9):.0f}° | "
            f"{percent(v['focal_weak']):.0f} % |"
        )
    yield ""
    yield "| the camera is | MPJPE of landmarks, mm | of the body, mm |"
    yield "|---|---|---|"
    for name, prefix in (("believed to be about what it is", ""), ("not known", "alone_")):
        means = (f"{values[f'{prefix}{part}_mm'].mean():.0f}" for part in ("free", "body"))
        yield f"| {name} | {' | '.join(means)} |"
    yield ""
    yield "| focal length of one look, median error | % |"
    yield "|---|---|"
    for name, key in (("always 0.85 of the long side", "focal_prior"), ("taught by labels", "focal_label"),
                      ("taught by full-perspective reprojection (ships)", "focal_weak")):  # fmt: skip
        yield f"| {name} | {percent(values[key]):.0f} |"
    yield ""
    yield "| root in the world, median error | before the corrector | after |"
    yield "|---|---|---|"
    for degrees in OFF_DEG:
        before, after = (np.median(values[f"{name}_{degrees:g}"]) for name in ("before", "after"))
        yield f"| camera angles off by {degrees:g}° | {before:.1f}° | {after:.1f}° |"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.card", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with held_out.pt of training.scenes")
    parser.add_argument("--into", type=Path, help="rewrite the results of this page")
    options = parser.parse_args(arguments)
    text = "\n".join(tables(load_windows(options.data / "held_out.pt")))
    if options.into is None:
        sys.stdout.write(text + "\n")
    else:
        options.into.write_text(insert(options.into.read_text(), text))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
