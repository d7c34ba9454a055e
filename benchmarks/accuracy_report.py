"""The rows of `benchmarks.accuracy` as the tables and the plot of docs/accuracy.md.

    python -m benchmarks.accuracy CLIP... --json | python -m benchmarks.accuracy_report --into docs/accuracy.md

Everything between `<!-- results -->` and `<!-- /results -->` of that file is written anew, and the plot beside it as a
.png of the same name (needs matplotlib). Without --into the Markdown goes to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

BEGIN, END = "<!-- results -->", "<!-- /results -->"
#: How many spreads the truth should lie within.
SPREADS = 2.0
#: Colours that the colour-blind can tell apart (Okabe and Ito, 2008), then line styles.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")

#: Key, title, digits, whether the analytic recovery and the baseline stand behind it.
COLUMNS = (
    ("focal_err_pct", "focal length, %", 0, True), ("focal_spread_pct", "± %", 0, False),
    ("gravity_err_deg", "gravity, °", 1, True), ("height_err_m", "height, m", 2, False),
    ("mpjpe_mm", "MPJPE, mm", 0, True), ("pa_mpjpe_mm", "PA-MPJPE, mm", 0, True),
    ("wmpjpe_mm", "W-MPJPE, mm", 0, True), ("root_err_pct", "root, % of path", 1, False),
    ("pitch_bias_deg", "lean, °", 1, True), ("local_jitter", "jitter", 0, True),
    ("lag_frames", "lag, frames", 1, False), ("foot_slide_mm", "foot slide, mm/frame", 1, False),
    ("found_pct", "found, %", 0, False), ("id_switches", "id switches", 0, False),
)  # fmt: skip


def read_rows(lines: Sequence[str]) -> list[Row]:
    """One JSON object a line. Raises ValueError, one sentence, for anything else, and when there is none."""
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"Line {number}: expected a row of `benchmarks.accuracy --json`, got {error}.") from error
        if not isinstance(row, dict) or "clip" not in row or "convergence" not in row:
            raise ValueError(
                f"Line {number}: expected a row of `benchmarks.accuracy --json` with a clip's convergence."
            )
        rows.append(row)
    if not rows:
        raise ValueError("Expected rows of `python -m benchmarks.accuracy CLIP... --json`, got none.")
    return rows


def numbers(rows: Sequence[Row], *keys: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(N, len(keys)) of the rows that have all of them."""
    known = [[row[key] for key in keys] for row in rows if all(row.get(key) is not None for key in keys)]
    return np.array(known, dtype=np.float64).reshape(-1, len(keys))


def _stated(name: str, values: np.ndarray[Any, Any], text: Callable[[], str]) -> str:
    return f"| {name} | {len(values)} | {text() if len(values) else '-'} |"


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """What the targets are stated in, over all clips that have the truth for it."""
    yield "| what | clips | default | analytic | baseline |"
    yield "|---|---|---|---|---|"
    yield _medians(rows, "focal_err_pct", "focal length, median error (baseline: the diagonal)", "{:.1f} %")
    spread = numbers(rows, "focal_err_pct", "focal_spread_pct")
    within = np.abs(np.log1p(spread[:, 0] / 100)) <= SPREADS * spread[:, 1] / 100
    share = f"{100 * within.mean():.0f} %" if len(within) else "-"
    yield f"| true focal length within {SPREADS:.0f} spreads | {len(within)} | {share} | | |"
    yield _medians(rows, "gravity_err_deg", "gravity, median error (baseline: a level camera)", "{:.1f}°")
    yield _medians(rows, "gravity_err_deg", "gravity, worst error", "{:.1f}°", np.max)
    for key, name in (
        ("mpjpe_mm", "MPJPE over that of raw landmarks"), ("pa_mpjpe_mm", "PA-MPJPE over that of raw landmarks"),
        ("wmpjpe_mm", "W-MPJPE over that of raw landmarks before a level camera"),
        ("local_jitter", "jitter about the hips over that of raw landmarks"),
    ):  # fmt: skip
        yield _ratios(rows, key, f"{name}, median (worst; lower on)")
    yield _ratios(
        rows, "wmpjpe_mm", "W-MPJPE over that of the analytic recovery, median (worst; lower on)", "analytic_"
    )
    for key, name, text in (
        ("lag_frames", "lag", "{:.1f} frames"), ("foot_slide_mm", "foot slide in contact", "{:.1f} mm/frame"),
        ("root_err_pct", "root trajectory", "{:.1f} % of the path"),
    ):  # fmt: skip
        yield _medians(rows, key, f"{name}, median", text)
        yield _medians(rows, key, f"{name}, worst", text, np.max)


def _medians(rows: Sequence[Row], key: str, name: str, text: str, of: Callable[..., Any] = np.median) -> str:
    """A line of one number each for the default, the analytic recovery and the baseline, where they have it."""
    cells, count = [], 0
    for prefix in ("", "analytic_", "raw_"):
        values = np.abs(numbers(rows, prefix + key))
        count = count or len(values)
        cells.append(text.format(float(of(values))) if len(values) else "-")
    return f"| {name} | {count} | {' | '.join(cells)} |"


def _ratios(rows: Sequence[Row], key: str, name: str, over: str = "raw_") -> str:
    """A line of ratios to the baseline, or to the analytic recovery."""
    cells, count = [], 0
    for prefix in ("", "analytic_"):
        both = numbers(rows, prefix + key, over + key)
        count = count or len(both)
        ratio = both[:, 0] / both[:, 1]
        known = len(ratio) and prefix != over
        cells.append(f"{np.median(ratio):.2f} ({ratio.max():.2f}; {np.mean(ratio < 1):.0%})" if known else "-")
    return f"| {name} | {count} | {' | '.join(cells)} | 1 |"


def clips(rows: Sequence[Row]) -> Iterator[str]:
    """A line a clip; the analytic recovery and the baseline in brackets."""
    yield "| clip | " + " | ".join(title for _, title, _, _ in COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for row in rows:
        yield f"| {row['clip']} | " + " | ".join(_cell(row, *column) for column in COLUMNS) + " |"


def _cell(row: Row, key: str, title: str, digits: int, compared: bool) -> str:
    value = row.get(key)
    if value is None:
        return "-"
    others = [row.get(prefix + key) for prefix in ("analytic_", "raw_")] if compared else []
    beside = ", ".join(f"{other:.{digits}f}" for other in others if other is not None)
    return f"{value:.{digits}f}" + (f" ({beside})" if beside else "")


def over_time(rows: Sequence[Row]) -> Iterator[str]:
    """Median errors after so many seconds, over the clips that are so long, and at the end of all."""
    yield "| after | clips | focal length, median (analytic) | gravity, median and worst (analytic) |"
    yield "|---|---|---|---|"
    moments = {f"{k.removeprefix('after_').removesuffix('s')} s": k for k in rows[0] if k.startswith("after_")}
    for name, key in {**moments, "the whole clip": None}.items():
        known = [row if key is None else row[key] for row in rows if key is None or row.get(key) is not None]
        other = "analytic_" if key is None else ""
        beside = known if key is None else [a for row in rows if (a := row.get(f"analytic_{key}")) is not None]
        focal, gravity = (
            f"{_over(known, k, unit)} ({_over(beside, other + k, unit)})"
            for k, unit in (("focal_err_pct", " %"), ("gravity_err_deg", "°"))
        )
        yield f"| {name} | {len(known)} | {focal} | {gravity} |"


def _over(rows: Sequence[Row], key: str, unit: str) -> str:
    values = np.abs(numbers(rows, key))
    if not len(values):
        return "-"
    worst = f", {values.max():.1f}{unit}" if "gravity" in key else ""
    return f"{np.median(values):.1f}{unit}{worst}"


def markdown(rows: Sequence[Row], picture: str | None) -> str:
    """All that stands between the marks."""
    parts = [summary(rows), over_time(rows), clips(rows)]
    text = "\n\n".join("\n".join(part) for part in parts)
    return text if picture is None else f"{text}\n\n![Errors of focal length and gravity over time]({picture})"


def insert(page: str, text: str) -> str:
    """`page` with `text` between its marks. Raises ValueError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"--into: expected a page with the lines {BEGIN} and {END}, got one without.")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def plot(file: Path, rows: Sequence[Row]) -> None:
    """Writes a .png of both errors over time, a line a clip. Raises OSError when it cannot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True)
    titles = ("focal_err_pct", "Focal length, % too long"), ("gravity_err_deg", "Gravity, degrees off")
    for ax, (key, title) in zip(axes, titles, strict=True):
        ax.set_title(title, loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.92", linewidth=0.8)
        ax.axhline(0.0, color="0.5", linewidth=1.0)
        for k, row in enumerate(rows):
            points = numbers(row["convergence"], "t_s", key)
            if len(points):
                ax.plot(*points.T, color=COLOURS[k % len(COLOURS)], linestyle=STYLES[k // len(COLOURS) % len(STYLES)],
                        linewidth=1.5, label=row["clip"])  # fmt: skip
    axes[1].set_xlabel("seconds of video, calibrated from scratch")
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(file, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """Reads rows from standard input or a file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy_report", description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="?", type=Path, metavar="ROWS", help="a file of rows (default: standard input)")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="rewrite the results of this page, and its plot")
    options = parser.parse_args(arguments)
    try:
        rows = read_rows((options.rows.read_text() if options.rows else sys.stdin.read()).splitlines())
        if options.into is None:
            sys.stdout.write(markdown(rows, None) + "\n")
            return 0
        picture = options.into.with_suffix(".png")
        page = insert(options.into.read_text(), markdown(rows, picture.name))
        plot(picture, rows)
        options.into.write_text(page)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"benchmarks.accuracy_report: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
