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

#: Key, title, digits, whether the baseline stands behind it.
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
    yield "| what | clips | result |"
    yield "|---|---|---|"
    focal = np.abs(numbers(rows, "focal_err_pct", "raw_focal_err_pct"))
    yield _stated("focal length, median error (baseline: the diagonal)", focal,
                  lambda: "{:.1f} % ({:.0f} %)".format(*np.median(focal, axis=0)))  # fmt: skip
    spread = numbers(rows, "focal_err_pct", "focal_spread_pct")
    within = np.abs(np.log1p(spread[:, 0] / 100)) <= SPREADS * spread[:, 1] / 100
    yield _stated(f"true focal length within {SPREADS:.0f} spreads", within, lambda: f"{100 * within.mean():.0f} %")
    gravity = numbers(rows, "gravity_err_deg", "raw_gravity_err_deg")
    yield _stated("gravity, median and worst error (baseline: a level camera)", gravity,
                  lambda: "{:.1f}°, {:.1f}° ({:.0f}°, {:.0f}°)".format(
                      *np.stack([np.median(gravity, axis=0), gravity.max(0)], axis=1).ravel()))  # fmt: skip
    for key, name in (("mpjpe_mm", "MPJPE"), ("pa_mpjpe_mm", "PA-MPJPE")):
        yield _compared(rows, key, f"{name} against raw landmarks: lower on, median ratio, worst")
    yield _compared(rows, "wmpjpe_mm", "W-MPJPE against raw landmarks before a level camera")
    yield _compared(rows, "local_jitter", "jitter about the hips against raw landmarks")
    for key, name, unit in (
        ("lag_frames", "lag", "frames"), ("foot_slide_mm", "foot slide in contact", "mm/frame"),
        ("root_err_pct", "root trajectory", "% of the path"),
    ):  # fmt: skip
        values = numbers(rows, key)[:, 0]
        worst = f"{np.median(values):.1f}, {values.max():.1f} {unit}" if len(values) else "-"
        yield f"| {name}, median and worst | {len(values)} | {worst} |"


def _compared(rows: Sequence[Row], key: str, name: str) -> str:
    both = numbers(rows, key, f"raw_{key}")
    ratio = both[:, 0] / both[:, 1]
    return _stated(
        name, ratio, lambda: f"{100 * np.mean(ratio < 1):.0f} % of clips, {np.median(ratio):.2f}, {ratio.max():.2f}"
    )


def clips(rows: Sequence[Row]) -> Iterator[str]:
    """A line a clip; the baseline in brackets."""
    yield "| clip | " + " | ".join(title for _, title, _, _ in COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for row in rows:
        yield f"| {row['clip']} | " + " | ".join(_cell(row, *column) for column in COLUMNS) + " |"


def _cell(row: Row, key: str, title: str, digits: int, compared: bool) -> str:
    value, raw = row.get(key), row.get(f"raw_{key}") if compared else None
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if raw is None else f" ({raw:.{digits}f})")


def over_time(rows: Sequence[Row]) -> Iterator[str]:
    """Median errors after so many seconds, over the clips that are so long, and at the end of all."""
    yield "| after | clips | focal length, median | gravity, median and worst |"
    yield "|---|---|---|---|"
    moments = {f"{k.removeprefix('after_').removesuffix('s')} s": k for k in rows[0] if k.startswith("after_")}
    for name, key in {**moments, "the whole clip": None}.items():
        known = [row if key is None else row[key] for row in rows if key is None or row.get(key) is not None]
        focal, gravity = np.abs(numbers(known, "focal_err_pct")), numbers(known, "gravity_err_deg")
        cells = (f"{np.median(focal):.1f} %" if len(focal) else "-",
                 f"{np.median(gravity):.1f}°, {gravity.max():.1f}°" if len(gravity) else "-")  # fmt: skip
        yield f"| {name} | {len(known)} | {cells[0]} | {cells[1]} |"


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
