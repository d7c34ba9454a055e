"""What only a GPU can show: CUDA graphs, chained engines, half precision, and TensorRT where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.engine_timing import parity
from engines import agreement, plan_store, tensorrt_build
from engines.plan_store import PlanError
from engines.runtime import open_engine
from engines.torch_engine import whmr_engine
from engines.whmr import export, parts
from tests.support.whmr import shallow

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU here"),
]
tensorrt_only = pytest.mark.skipif(importlib.util.find_spec("tensorrt") is None, reason="TensorRT is not installed")
SMALL_WH = (256, 224)


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("name", parts.PARTS)
def test_graphs_give_what_the_cpu_gives(name):
    graphs, cpu = whmr_engine(shallow(), name, "cuda"), whmr_engine(shallow(), name)
    anew = whmr_engine(shallow(), name, "cuda", graphs=False)
    for batch in (1, 3, 1):
        feed = agreement.arrays(name, batch, batch, SMALL_WH)
        expected = cpu(feed)
        assert parity(graphs(feed), expected) < 1e-3
        assert parity(anew(feed), expected) < 1e-3
    graphs.close()


def test_engines_chain_on_the_gpu():
    body, regress = (whmr_engine(shallow(), name, "cuda") for name in ("body", "regress"))
    given = {k: v.cuda() for k, v in parts.example("regress", 2).items()}
    crops = parts.example("body", 2)["crops"]
    maps = body.on_device({"crops": crops.cuda()})
    out = regress.on_device(given | {k: maps[k] for k in ("f1", "f2", "f3")})
    host = regress({k: v.cpu().numpy() for k, v in (given | {k: maps[k] for k in ("f1", "f2", "f3")}).items()})
    np.testing.assert_allclose(out["vertices"].cpu().numpy(), host["vertices"], atol=1e-5)


def test_half_precision_stays_within_what_it_may_cost():
    whole = {name: whmr_engine(shallow(), name, "cuda") for name in parts.PARTS}
    half = {name: whmr_engine(shallow(), name, "cuda", "fp16") for name in parts.PARTS}
    assert agreement.beyond(agreement.differences(whole, half, 3)) == []


@tensorrt_only
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plan_gives_what_the_export_gives(tmp_path: Path, monkeypatch, precision):
    monkeypatch.setenv("WHMR_MODEL_DIR", str(tmp_path))
    export.export(shallow(), tmp_path, ["regress"])
    path = export.export(shallow(), tmp_path, ["regress"], precision)[0]
    with pytest.raises(PlanError, match="no plan of"):
        open_engine(path, "cuda", "tensorrt", precision)
    key = tensorrt_build.key_of(path, "cuda", precision)
    plan = plan_store.save(path.stem, key, tensorrt_build.build(path, "cuda", precision))
    engine = open_engine(path, "cuda", "tensorrt", precision)
    reference = open_engine(tmp_path / "whmr_regress.onnx", "cpu", "onnx")
    for batch in (1, 3, 8):
        feed = agreement.arrays("regress", batch, batch)
        assert parity(engine(feed), reference(feed)) < (1e-3 if precision == "fp32" else 1e-2)
    with pytest.raises(ValueError, match="the plan takes"):
        engine(agreement.arrays("regress", 9))
    assert parity(open_engine(plan, "cuda", precision=precision)(feed), reference(feed)) < 1e-2
    garbage = plan_store.save("garbage", key, b"no plan at all" * 100)
    with pytest.raises(PlanError, match="does not take the plan"):
        open_engine(garbage, "cuda", "tensorrt", precision)
