"""What a clip's accuracy looks like: errors of joints, the calibration as it converges, and the root from above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import metrics
from benchmarks.accuracy import Match, match
from benchmarks.truth import SCORED, ClipTruth
from pipeline.frames import Array
from pipeline.types import CalibrationStatus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.replay import Run

#: Colours that the colour-blind can tell apart (Okabe and Ito, 2008).
OURS, RAW, TRUTH = "#0072B2", "#B0B0B0", "#D55E00"
_PARTS = tuple(dict.fromkeys(name.split("_")[1] for name in SCORED))


def plot(folder: Path, clip: ClipTruth, run: Run) -> Path:
    """Writes `folder`/<clip>.png, makes the folder if need be, and returns the file. Raises OSError when it cannot.

    Panels without truth say so.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = clip.K is not None and clip.R_world_camera is not None
    matches = [match(run, clip, person) for person in clip.people] if known else []
    figure = Figure(figsize=(13.0, 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic(
        [["joints", "focal", "above"], ["joints", "gravity", "above"]], width_ratios=[1.0, 1.2, 1.0]
    )
    for ax in axes.values():
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.92", linewidth=0.8)
        ax.set_axisbelow(True)
    _joints(axes["joints"], matches)
    _focal(axes["focal"], clip, run)
    _gravity(axes["gravity"], clip, run)
    _above(axes["above"], matches)
    figure.suptitle(f"{clip.name}: {len(run.results) / run.fps:.1f} s, calibrated from scratch", fontweight="bold")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{clip.name}.png"
    figure.savefig(file, dpi=120)
    return file


def joint_errors_mm(matches: Sequence[Match], raw: bool = False) -> Array:
    """Mean root-relative error (12,) of each SCORED joint over all people in the camera frame; nan where unknown."""
    each = [
        np.linalg.norm(metrics.relative(m.raw if raw else m.camera) - metrics.relative(m.truth), axis=-1)
        for m in matches
    ]
    errors = np.concatenate(each)
    return np.array([metrics.mean(column) for column in errors.T]) * 1e3


def aligned_paths(m: Match) -> tuple[Array, Array]:
    """The root's path and the true one (N, 2), x and z about their middles, after the turn that lays ours on it."""
    ours, true = metrics.root(m.world), metrics.root(m.truth_world)
    known = np.isfinite(ours).all(-1) & np.isfinite(true).all(-1)
    return metrics.aligned(ours[known], true[known])[:, [0, 2]], (true[known] - true[known].mean(0))[:, [0, 2]]


def _joints(ax: Axes, matches: Sequence[Match]) -> None:
    ax.set_title("Joint errors, root-relative", loc="left")
    if not matches:
        return _nothing(ax)
    y = np.arange(len(SCORED)) + 0.35 * (np.arange(len(SCORED)) // 2)
    for errors, colour, shift, label in (
        (joint_errors_mm(matches), OURS, -0.19, "ours"),
        (joint_errors_mm(matches, raw=True), RAW, 0.19, "raw MediaPipe"),
    ):
        bars = ax.barh(y + shift, errors, 0.38, color=colour, label=f"{label}, mean {metrics.mean(errors):.0f} mm")
        ax.bar_label(bars, fmt="%.0f", padding=2, fontsize=7, color="0.35")
    ax.set_yticks(y, [name.replace("_", " ") for name in SCORED])
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("mm")
    ax.set_ylim(y[-1] + 0.6, -1.6)
    ax.legend(loc="upper left", frameon=False, ncols=2, fontsize=8, borderaxespad=0.0)
    return None


def _focal(ax: Axes, clip: ClipTruth, run: Run) -> None:
    ax.set_title("Focal length", loc="left")
    t = _times(run)
    focal = np.array([r.calibration.K[0, 0] for r in run.results])
    spread = np.array([r.calibration.focal_spread for r in run.results])
    low, high = focal * np.exp(-spread), focal * np.exp(spread)
    ax.fill_between(t, low, high, color=OURS, alpha=0.15, linewidth=0, label="± one spread")
    ax.plot(t, focal, color=OURS, linewidth=1.8, label="estimate")
    top = float(high.max())
    if clip.K is not None:
        true = float(clip.K[0, 0])
        ax.axhline(true, color=TRUTH, linestyle="--", label=f"truth, {true:.0f} px")
        ax.annotate(f"{100 * (focal[-1] / true - 1):+.1f} %", (t[-1], focal[-1]), (-4, 6), ha="right", fontsize=9,
                    textcoords="offset points", color=OURS)  # fmt: skip
        top = max(top, true)
    ax.set_ylim(0.8 * min(low.min(), *ax.get_ylim()), 1.08 * top)
    ax.set_ylabel("px")
    ax.tick_params(labelbottom=False)
    _calibrated(ax, run)
    ax.legend(loc="best", frameon=False, fontsize=8)


def _gravity(ax: Axes, clip: ClipTruth, run: Run) -> None:
    ax.set_title("Gravity", loc="left")
    t = _times(run)
    spread = np.degrees([r.calibration.gravity_spread_rad for r in run.results])
    ax.fill_between(t, 0.0, spread, color=OURS, alpha=0.15, linewidth=0, label="one spread")
    ax.set_ylabel("degrees")
    if clip.R_world_camera is None:
        ax.plot(t, spread, color=OURS, linewidth=1.0)
    else:
        cosines = [r.calibration.up_camera @ clip.R_world_camera[1] for r in run.results]
        error = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
        ax.plot(t, error, color=OURS, linewidth=1.8, label="error")
        ax.axhline(0.0, color=TRUTH, linestyle="--", label="truth")
        ax.annotate(f"{error[-1]:.1f}°", (t[-1], error[-1]), (-4, 6), ha="right", fontsize=9,
                    textcoords="offset points", color=OURS)  # fmt: skip
    ax.set_ylim(bottom=-0.5)
    ax.set_xlabel("seconds of video")
    _calibrated(ax, run)
    ax.legend(loc="upper right", frameon=False, fontsize=8)


def _calibrated(ax: Axes, run: Run) -> None:
    """Marks the time from which the calibration calls itself calibrated."""
    at = next((i for i, r in enumerate(run.results) if r.calibration.status is CalibrationStatus.CALIBRATED), None)
    if at is not None:
        ax.axvline(at / run.fps, color="0.6", linewidth=1.0, linestyle=":", label="calibrated")


def _above(ax: Axes, matches: Sequence[Match]) -> None:
    ax.set_title("Root from above", loc="left")
    paths = [(m, *aligned_paths(m)) for m in matches]
    paths = [p for p in paths if len(p[1]) > 1]
    if not paths:
        return _nothing(ax)
    for k, (m, ours, true) in enumerate(paths):
        error_mm, error_pct = metrics.root_error(m.world, m.truth_world)
        share = f" ({error_pct:.1f} % of the path)" if np.isfinite(error_pct) else ""
        ax.plot(*true.T, color=TRUTH, linestyle="--", linewidth=1.5, label="truth" if k == 0 else None)
        ax.plot(*ours.T, color=OURS, alpha=1.0 - 0.4 * k / len(paths), linewidth=1.8,
                label=f"ours, mean error {error_mm:.0f} mm{share}")  # fmt: skip
        ax.plot(*ours[0], "o", color=OURS)
        ax.plot(*true[0], "o", color=TRUTH)
    ax.set_aspect("equal", adjustable="datalim")
    ax.invert_yaxis()
    ax.set_xlabel("m to the right; yaw and origin aligned")
    ax.set_ylabel("m toward the camera, which is below")
    ax.margins(y=0.15)
    ax.legend(loc="upper left", frameon=False, fontsize=8)
    return None


def _times(run: Run) -> Array:
    return np.arange(len(run.results)) / run.fps


def _nothing(ax: Axes) -> None:
    ax.text(0.5, 0.5, "no truth", transform=ax.transAxes, ha="center", color="0.5")
    ax.set_xticks([])
    ax.set_yticks([])
