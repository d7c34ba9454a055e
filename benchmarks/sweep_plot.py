"""The sweep as a picture: one heat map a quantity and distance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.sweep_report import TABLES, axes_of

if TYPE_CHECKING:
    from benchmarks.sweep import Outcome

#: The size at which a colour is full, exact and noisy.
_FULL = {
    "focal_err_pct": (5.0, 40.0), "gravity_err_deg": (6.0, 12.0), "height_err_m": (0.2, 0.6), "mpjpe_mm": (40.0, 150.0),
    "wmpjpe_mm": (40.0, 150.0), "root_err_mm": (40.0, 300.0), "seen_pct": (100.0, 100.0),
}  # fmt: skip


def plot(file: Path, outcomes: Sequence[Outcome], noisy: bool) -> Path:
    """Draws every table of the sweep into `file`; signed quantities in two colours, others from light to dark."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    focals, pitches, distances = axes_of(outcomes)
    figure = Figure(figsize=(3.1 * len(distances) + 1.2, 2.3 * len(TABLES)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(TABLES), len(distances), squeeze=False)
    for row, (attribute, title, form) in enumerate(TABLES):
        full = _FULL[attribute][noisy]
        signed = form.startswith("{:+")
        colours = "RdBu_r" if signed else ("YlGn" if attribute == "seen_pct" else "YlOrRd")
        for column, distance in enumerate(distances):
            values = np.full((len(focals), len(pitches)), np.nan)
            for o in outcomes:
                if o.distance_m == distance and (value := getattr(o, attribute)) is not None:
                    values[focals.index(o.focal), pitches.index(o.pitch_deg)] = value
            ax = axes[row, column]
            image = ax.imshow(values, cmap=colours, vmin=-full if signed else 0.0, vmax=full, aspect="auto")
            _numbers(ax, values, form, full)
            ax.set_xticks(range(len(pitches)), [f"{p:+.0f}°" for p in pitches], fontsize=7)
            ax.set_yticks(range(len(focals)), [f"{f:g}" for f in focals], fontsize=7)
            ax.set_facecolor("0.93")
            if row == 0:
                ax.set_title(f"{distance:g} m away", fontsize=10)
            if column == 0:
                ax.set_ylabel("focal / height", fontsize=8)
        figure.colorbar(image, ax=axes[row, :], shrink=0.95, pad=0.01).set_label(title, fontsize=8)
    figure.suptitle(f"Recovered from {'noisy' if noisy else 'exact'} landmarks, by focal length, pitch and distance")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    return file


def _numbers(ax: object, values: np.ndarray, form: str, full: float) -> None:
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.75 * full else "0.2"
            ax.text(j, i, form.format(value), ha="center", va="center", fontsize=6, color=colour)  # type: ignore[attr-defined]
