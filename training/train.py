"""Trains the networks, stage by stage: `python -m training.train --stage 1 --data DIR --work DIR`.

Stage 1: the body, gravity, and the distance on features that it does not change. Stage 2: all together, the body under
full perspective too. Stage 3: all is frozen but the corrector of the orientation. DIR holds train.pt and held_out.pt
of `training.scenes`; the work folder gets checkpoints that a later call goes on from, and TensorBoard's curves.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from training.evaluate import evaluate
from training.losses import Bodies, Weights, terms, with_camera, with_up_in_ray
from training.network import INPUTS, LandmarkNet, Sizes

log = logging.getLogger(__name__)
CONFIG = Path(__file__).parent / "config.toml"


@dataclasses.dataclass(frozen=True)
class Plan:
    """One stage: epochs, windows a step, the highest learning rate, what is averaged over the last steps."""

    epochs: int
    batch: int = 1024
    rate: float = 1e-3
    decay: float = 0.01
    keep: float = 0.995


def load_windows(path: Path) -> dict[str, Tensor]:
    """A file of `training.scenes`. Raises OSError when there is none."""
    data: dict[str, Tensor] = torch.load(path, weights_only=True, mmap=True)
    return with_up_in_ray({**data})


def batches(data: dict[str, Tensor], size: int, g: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """All windows once, in a new order."""
    n = len(data["ages_s"])
    order = torch.randperm(n, generator=g)
    for start in range(0, n - size + 1, size):
        at = order[start : start + size]
        yield {name: values[at].float() for name, values in data.items()}


def new_network(config: dict[str, Any]) -> LandmarkNet:
    """The network of the configuration, with its first weights."""
    torch.manual_seed(config["seed"])
    return LandmarkNet(Sizes(**config["sizes"]))


def train(
    stage: int, data: Path, work: Path, config: dict[str, Any], start: Path | None = None, only: str | None = None
) -> dict[str, float]:
    """Stages 1 and 2; returns the last evaluation. Goes on where an earlier call was stopped.

    `start` is a checkpoint whose weights come first, in place of random ones or of those of stage 1. With `only` the
    part of the network of that name learns and all else is frozen. Raises UnknownPart when there is no such part.
    """
    from torch.utils.tensorboard import SummaryWriter

    plan, weights = Plan(**config[f"stage{stage}"]), Weights(**config["weights"])
    net = new_network(config)
    if only is not None:
        net.requires_grad_(False).get_submodule(_part(net, only)).requires_grad_(True)
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True)["average"])
    elif stage == 2:
        net.load_state_dict(torch.load(work / "stage1.pt", weights_only=True)["average"])
    windows, held_out = load_windows(data / "train.pt"), load_windows(data / "held_out.pt")
    steps = plan.epochs * (len(windows["ages_s"]) // plan.batch)
    learning = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: rate_at(i, steps))
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(plan.keep)
    )
    file, first = work / f"stage{stage}.pt", 0
    if file.exists():
        state = torch.load(file, weights_only=True)
        first = state["epoch"]
        net.load_state_dict(state["net"])
        average.module.load_state_dict(state["average"])
        average.n_averaged.fill_(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
    bodies, report = Bodies(), {}
    with SummaryWriter(str(work / "curves" / f"stage{stage}")) as curves:
        for epoch in range(first, min(plan.epochs, config.get("stop_after", plan.epochs))):
            means = one_epoch(net, average, windows, bodies, stage, plan, weights, optimiser, schedule, config, epoch)
            report = evaluate(cast(LandmarkNet, average.module), held_out, bodies)
            for name, value in (means | report).items():
                curves.add_scalar(name, value, epoch)
            log.info(
                "stage %d, epoch %d: %s", stage, epoch + 1, json.dumps({k: round(v, 4) for k, v in report.items()})
            )
            log.info("   losses %s", json.dumps({k: round(v, 4) for k, v in means.items()}))
            state = {"epoch": epoch + 1, "net": net.state_dict(), "average": average.module.state_dict(),
                     "averaged": int(average.n_averaged),
                     "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}  # fmt: skip
            torch.save(state, file.with_suffix(".writing"))
            file.with_suffix(".writing").replace(file)
    return report


class UnknownPart(ValueError):
    """A network has no part of that name."""


def _part(net: LandmarkNet, name: str) -> str:
    parts = [part for part, _ in net.named_children()]
    if name not in parts:
        raise UnknownPart(f"Expected a part of the network, one of {', '.join(parts)}, got {name!r}.")
    return name


def one_epoch(
    net: LandmarkNet, average: torch.optim.swa_utils.AveragedModel, windows: dict[str, Tensor], bodies: Bodies,
    stage: int, plan: Plan, weights: Weights, optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler, config: dict[str, Any], epoch: int,
) -> dict[str, float]:  # fmt: skip
    """Every window once; the mean of each loss."""
    g = torch.Generator().manual_seed(1000 * config["seed"] + 10 * epoch + stage)
    sums: dict[str, float] = {}
    count = 0
    for batch in batches(windows, plan.batch, g):
        batch = with_camera(batch, g)
        out = net(*(batch[name] for name in INPUTS), detach_distance=stage == 1)
        parts = terms(out, batch, bodies, stage, config.get("weak_perspective", False),
                      config.get("regressed", False))  # fmt: skip
        loss = sum((getattr(weights, name) * value for name, value in parts.items()), torch.zeros(()))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(net)
        count += 1
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    return {f"loss/{name}": total / max(count, 1) for name, total in sums.items()}


def rate_at(step: int, steps: int) -> float:
    """Share of the highest learning rate: up over the first hundred steps, then down by a cosine."""
    return min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * min(step / max(steps, 1), 1.0))) + 1e-3


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.pt and held_out.pt")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and curves")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--start", type=Path, help="checkpoint whose weights to begin with")
    parser.add_argument("--only", help="the part of the network that learns, e.g. distance; all else is frozen")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    config = tomllib.loads(options.config.read_text())
    if options.stage == 3:
        from training.train_corrector import train_corrector

        train_corrector(options.data, options.work, config)
    else:
        try:
            train(options.stage, options.data, options.work, config, options.start, options.only)
        except UnknownPart as e:
            parser.error(f"--only: {e}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
