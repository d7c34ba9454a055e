"""What each part of the training is worth: `python -m training.ablations --data DIR --work DIR`.

The stages of `training.train` in a short form, each time with one thing changed, measured on held-out windows; as a
table of Markdown. Resumes like training does: what is finished in WORK is not made again.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import tomllib
from pathlib import Path
from typing import Any

import torch

from training.train import CONFIG, new_network, train

#: Name of a run, what is changed in the configuration, and whether stage 1 comes first.
RUNS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("as it ships", {}, True),
    ("stages not apart: all losses reach all from the start", {}, False),
    ("weak perspective only: no reprojection into the whole picture", {"weak_perspective": True}, True),
    ("Tz by the regressed body, as in the paper", {"regressed": True}, True),
    ("no labels of focal lengths", {"weights": {"focal": 0.0}}, True),
)
COLUMNS = {"body_mm": "body, MPJPE mm", "body_pa_mm": "PA-MPJPE mm", "free_mm": "landmarks, MPJPE mm",
           "up_deg": "gravity, median deg", "focal_weak": "focal by reprojection, median of abs log",
           "focal_label": "by labels"}  # fmt: skip


def ablation(
    data: Path, work: Path, config: dict[str, Any], changed: dict[str, Any], staged: bool, epochs: tuple[int, int]
) -> dict[str, float]:
    """Trains one run in `work`; returns the evaluation at its end, kept in report.pt there."""
    report_file = work / "report.pt"
    if report_file.exists():
        report: dict[str, float] = torch.load(report_file, weights_only=True)
        return report
    work.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config)
    for name, value in changed.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    if staged:
        config["stage1"]["epochs"], config["stage2"]["epochs"] = epochs
        train(1, data, work, config)
        report = train(2, data, work, config)
    else:
        config["stage2"] = config["stage1"] | {"epochs": sum(epochs)}
        first = work / "first.pt"
        torch.save({"average": new_network(config).state_dict()}, first)
        report = train(2, data, work, config, first)
    torch.save(report, report_file)
    return report


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.ablations", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.pt and held_out.pt")
    parser.add_argument("--work", type=Path, required=True, help="a folder for each run is made in it")
    parser.add_argument("--epochs", type=int, nargs=2, default=(2, 2), help="of stages 1 and 2 (%(default)s)")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    config = tomllib.loads(options.config.read_text())
    sys.stdout.write(f"| training | {' | '.join(COLUMNS.values())} |\n|{'---|' * (len(COLUMNS) + 1)}\n")
    for number, (name, changed, staged) in enumerate(RUNS):
        folder = options.work / f"run_{number}"
        report = ablation(options.data, folder, config, changed, staged, tuple(options.epochs))
        cells = (f"{report[key]:.0f}" if key.endswith("_mm") else f"{report[key]:.2f}" for key in COLUMNS)
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
