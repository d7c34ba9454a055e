"""`python -m engines.whmr.parity --golden FILE.npz`: our network against numbers that the released one gave.

Builds the synthetic body, fills the weights by the documented rule, runs every case of the file and prints for each
tensor the largest difference over the reference's largest value. Exit status 1 above 1e-4.

A file holds `CASE/NAME` (a tensor) or `CASE/NAME__s` (every n-th of its numbers, with `NAME__shape`). The inputs of a
case are `CASE/in_x`, `CASE/in_full_x` if they are there in full, else drawn as `synthetic_body.make_inputs` does: with
the seed of the known case, of `CASE/in_seed`, or of --seed, and checked against the file's samples of them.
"""

from __future__ import annotations

import argparse
import logging
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.whmr import synthetic, synthetic_body
from engines.whmr.network import WHMR
from engines.whmr.released import released_tensors

log = logging.getLogger(__name__)

Golden = Mapping[str, NDArray[Any]]
LIMIT = 1e-4
_KNOWN: dict[str, dict[str, Any]] = synthetic_body.CASES
SAMPLE = "__s"
#: Not tensors of the network: inputs, shapes and statistics.
_NOT_COMPARED = ("in_",)
_SUFFIXES = ("__shape", "__stat")


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference of one tensor, and that over the largest absolute value of the reference."""

    name: str
    absolute: float
    ratio: float


class GoldenError(OSError):
    """The file of reference numbers is missing, cut, or of another form."""


def open_golden(path: str | Path) -> Golden:
    """The arrays of the file; raises GoldenError."""
    try:
        with np.load(path, allow_pickle=False) as f:
            return {name: f[name] for name in f.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as e:
        raise GoldenError(f"{path}: expected an .npz file of reference numbers, it cannot be read ({e}).") from e


def cases(golden: Golden) -> list[str]:
    """The cases of a file: those with the inputs of a network."""
    return sorted({name.split("/")[0] for name in golden if name.partition("/")[2] == "in_bbox_height"})


def inputs(golden: Golden, case: str, seed: int | None = None) -> dict[str, Tensor]:
    """x (B, 3, 256, 192), full_x (B, 3, H, W), boxes (B, 5) of a case; raises GoldenError where they are not known."""
    side, centre, frame = (golden[f"{case}/in_{n}"] for n in ("bbox_height", "center", "orig_shape"))
    boxes = np.concatenate([centre, side[:, None], frame[:, ::-1]], 1).astype(np.float32)
    pictures = {name: golden.get(f"{case}/in_{name}") for name in ("x", "full_x")}
    if any(p is None for p in pictures.values()):
        pictures = _drawn(golden, case, boxes, seed)
    return {name: torch.from_numpy(p.astype(np.float32)) for name, p in pictures.items() if p is not None} | {
        "boxes": torch.from_numpy(boxes)
    }


def _drawn(golden: Golden, case: str, boxes: NDArray[np.float32], seed: int | None) -> dict[str, Any]:
    """x and full_x as `synthetic_body.make_inputs` draws them, if they are those of the file."""
    noted = golden.get(f"{case}/in_seed")
    own = _KNOWN.get(case, {}).get("seed")
    seeds = [int(s) for s in (seed, noted, own) if s is not None][:1] or [c["seed"] for c in _KNOWN.values()]
    height, width = (int(n) for n in golden[f"{case}/in_full_x__shape"][2:])
    for s in seeds:
        rng = np.random.RandomState(s)
        x = synthetic_body._img(rng, len(boxes), 256, 192, 16)
        full = synthetic_body._img(rng, len(boxes), height, width, 40)
        drawn = {"x": x, "full_x": full}
        if all(_same_sample(golden[f"{case}/in_{n}{SAMPLE}"], p) for n, p in drawn.items()):
            return drawn
    raise GoldenError(
        f"{case}: the inputs drawn with seed {', '.join(map(str, seeds))} are not those of the file. Type: --seed N"
    )


def _same_sample(sample: NDArray[Any], full: NDArray[Any]) -> bool:
    ours = synthetic_body.strided_sample(full, 2048)
    return ours.shape == sample.shape and bool(np.allclose(ours, sample, atol=1e-5))


def salt_of(golden: Golden, case: str) -> str:
    """The salt of the case's weights, as the file has it, else the known case's."""
    noted = golden.get(f"{case}/in_salt")
    return str(noted) if noted is not None else str(_KNOWN.get(case, {}).get("salt", ""))


def compare(golden: Golden, case: str, ours: Mapping[str, Tensor]) -> tuple[list[Difference], list[str]]:
    """Differences of the case's tensors in the file's order, and the names that our network does not have."""
    differences, unknown = [], []
    for key, reference in golden.items():
        owner, _, name = key.partition("/")
        if owner != case or name.startswith(_NOT_COMPARED) or name.endswith(_SUFFIXES):
            continue
        plain = name.removesuffix(SAMPLE)
        if plain not in ours:
            unknown.append(name)
            continue
        value = ours[plain].detach().double().numpy()
        if plain != name:
            shape = tuple(golden[f"{case}/{plain}__shape"])
            value = synthetic_body.strided_sample(value, 4096) if value.shape == shape else value
        differences.append(_difference(name, value, reference))
    return differences, unknown


def _difference(name: str, value: NDArray[np.float64], reference: NDArray[Any]) -> Difference:
    if value.shape != reference.shape or not np.isfinite(value).all():
        return Difference(name, float("inf"), float("inf"))
    absolute = float(np.abs(value - reference).max())
    return Difference(name, absolute, absolute / max(float(np.abs(reference).max()), 1e-12))


def run(golden: Golden, salt: str | None, seed: int | None, say: Callable[[str], None]) -> float:
    """Runs every case, tells `say` a line a tensor, and returns the largest ratio.

    Raises GoldenError for a file without cases or with unknown inputs.
    """
    if not (names := cases(golden)):
        raise GoldenError(
            "expected a file with cases of the network (CASE/in_bbox_height), got none. Try golden_a.npz."
        )
    worst, net, built = 0.0, None, None
    for case in names:
        given = inputs(golden, case, seed)
        wanted = salt if salt is not None else salt_of(golden, case)
        if net is None or built != wanted:
            net, built = synthetic.build(wanted), wanted
        worst = max(worst, _report(golden, case, net, given, wanted, say))
    return worst


def _report(
    golden: Golden, case: str, net: WHMR, given: dict[str, Tensor], salt: str, say: Callable[[str], None]
) -> float:
    differences, unknown = compare(golden, case, released_tensors(net, given["x"], given["full_x"], given["boxes"]))
    people, (height, width) = len(given["boxes"]), given["full_x"].shape[2:]
    say(f"{case}: {people} people, frame {width} x {height}, salt {salt!r}")
    for d in differences:
        say(f"  {d.name:32s} {d.absolute:10.3g} {d.ratio:10.3g}{'   ABOVE' if d.ratio > LIMIT else ''}")
    for name in unknown:
        say(f"  {name:32s} not compared: our network has no such tensor")
    worst = max((d.ratio for d in differences), default=float("inf"))
    say(f"{case}: largest ratio {worst:.3g} over {len(differences)} tensors, limit {LIMIT:g}")
    return worst if not unknown else float("inf")


def main(arguments: Iterable[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m engines.whmr.parity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--golden", required=True, metavar="FILE", help="reference numbers, .npz")
    parser.add_argument("--salt", help="salt of the weights (default: what the file says)")
    parser.add_argument("--seed", type=int, help="seed of the inputs (default: the known case's)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    options = parser.parse_args(None if arguments is None else list(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        worst = run(open_golden(options.golden), options.salt, options.seed, log.info)
    except GoldenError as e:
        log.error("%s", e)
        return 1
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
