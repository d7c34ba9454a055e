"""The tables and the plot of docs/accuracy.md come from rows and from nothing else."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import compare
from benchmarks.accuracy_report import BEGIN, COLUMNS, END, insert, main, markdown, over_time, read_rows, summary
from benchmarks.landmark_noise import LandmarkNoise
from benchmarks.sweep import Cell, film

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"


@pytest.fixture(scope="module")
def rows():
    out = []
    for focal, pitch in ((1.0, 0.0), (1.4, 20.0)):
        run, truth = film(Cell(focal, pitch, 4.0), seconds=2.0)
        other, _ = film(Cell(focal, pitch, 4.0), LandmarkNoise(), seconds=2.0)
        out.append(json.loads(json.dumps(compare(truth, run, other) | {"clip": f"pitch {pitch:.0f}"})))
    return out


def test_rows_hold_the_calibration_over_time(rows):
    for row in rows:
        times = [point["t_s"] for point in row["convergence"]]
        assert np.allclose(np.diff(times), times[1] - times[0])
        assert times[-1] > 1.5
        assert row["convergence"][0]["focal_err_pct"] is not None


def test_tables_say_what_the_rows_say(rows):
    lines = list(summary(rows))
    cells = next(line for line in lines if "focal length, median" in line).split(" | ")
    for cell, prefix in zip(cells[2:], ("", "analytic_", "raw_"), strict=True):
        focal = np.median([abs(r[f"{prefix}focal_err_pct"]) for r in rows])
        assert cell.startswith(f"{focal:.1f} %")
    ratio = [r["mpjpe_mm"] / r["raw_mpjpe_mm"] for r in rows]
    better = f"{np.median(ratio):.2f} ({max(ratio):.2f}; {np.mean(np.array(ratio) < 1):.0%})"
    assert better in next(line for line in lines if line.startswith("| MPJPE"))
    ours = [r["wmpjpe_mm"] / r["analytic_wmpjpe_mm"] for r in rows]
    against = next(line for line in lines if "that of the analytic" in line)
    assert f"| {np.median(ours):.2f} (" in against
    text = markdown(rows, "a.png")
    line = next(line for line in text.splitlines() if line.startswith("| pitch 20 |"))
    assert line.count("|") == len(COLUMNS) + 2
    worlds = [f"{rows[1][f'{prefix}wmpjpe_mm']:.0f}" for prefix in ("", "analytic_", "raw_")]
    assert f"{worlds[0]} ({worlds[1]}, {worlds[2]})" in line
    times = list(over_time(rows))
    assert times[2].startswith("| 1 s | 2 |")
    assert times[-1].startswith("| the whole clip | 2 |")
    assert "| 20 s | 0 | - (-) | - (-) |" in times


def test_clips_without_truth_are_dashes(rows):
    bare = {key: None for key in rows[0]} | {"clip": "bare", "convergence": [], "found_pct": 50.0}
    assert "| bare | - |" in markdown([bare], None)
    assert markdown([rows[0], bare], None).count("| 1 |") > 5


def test_the_page_is_written_with_its_plot(rows, tmp_path, monkeypatch):
    page = tmp_path / "accuracy.md"
    page.write_text(PAGE.read_text())
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(json.dumps(row) for row in rows)))
    assert main(["--into", str(page)]) == 0
    once = page.read_text()
    assert "| pitch 20 |" in once
    assert once.partition(BEGIN)[0] == PAGE.read_text().partition(BEGIN)[0]
    assert once.partition(END)[2] == PAGE.read_text().partition(END)[2]
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert insert(once, markdown(rows, "accuracy.png")) == once


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got none"),
        ("{", "Line 1: expected a row"),
        ('{"clip": "a"}', "with a clip's convergence"),
        ("3", "Line 1"),
    ],
)
def test_what_is_no_row_is_refused_with_a_sentence(text, said, tmp_path, capsys):
    file = tmp_path / "rows"
    file.write_text(text)
    assert main([str(file)]) == 2
    assert said in capsys.readouterr().err


def test_a_page_without_marks_is_refused(rows):
    assert len(read_rows([json.dumps(rows[0]), ""])) == 1
    with pytest.raises(ValueError, match="--into: expected a page with the lines"):
        insert("nothing", "text")
