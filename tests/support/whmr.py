"""W-HMR's network with made-up weights, built once a session, and the reference numbers if they are here."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.whmr import checkpoint, prepare, store, synthetic
from engines.whmr.network import WHMR, Config

SHARED = Path(os.environ.get("WHMR_SHARED", Path(__file__).parents[3] / "shared")) / "whmr"


@cache
def network() -> WHMR:
    """The whole network, salt ''."""
    return synthetic.build().requires_grad_(True)


@cache
def shallow() -> WHMR:
    """The same tensors with one block of the encoder only; the others take seconds to draw."""
    config = Config(depth=1)
    if not network.cache_info().currsize:
        return synthetic.build(config=config)
    state, names = network().state_dict(), checkpoint.expected(config)
    return checkpoint.assemble({name: state[name] for name in names}, network().marker_ids, config)


@cache
def engines_store() -> Path:
    """A store that holds the engines of `shallow` under the name synthetic; gone when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="whmr-engines-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prepare.ensure(store.SYNTHETIC, folder=folder, network=lambda *_: shallow())
    return folder


@cache
def golden(name: str) -> dict[str, NDArray[np.generic]]:
    """The arrays of a file of reference numbers; skips the test where it is not."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"the reference numbers {name} are not here")
    with np.load(path, allow_pickle=False) as f:
        return {key: f[key] for key in f.files}


def aux(key: str) -> Tensor:
    """An array of golden_aux.npz as float32 (integers stay)."""
    value = torch.from_numpy(np.ascontiguousarray(golden("golden_aux.npz")[key]))
    return value.float() if value.is_floating_point() else value


def ratio(ours: Tensor, reference: Tensor) -> float:
    """Largest difference over the reference's largest value."""
    assert ours.shape == reference.shape
    return float((ours.detach() - reference).abs().max() / reference.abs().max().clamp_min(1e-12))
