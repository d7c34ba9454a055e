"""W-HMR's engines on every back end that runs here, in both precisions, and the command that builds them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import released_cost, roofline
from benchmarks.engine_timing import parity
from benchmarks.engines_whole import difference
from engines import agreement, build, tensorrt_build, torch2trt_build
from engines.runtime import EngineError, open_engine
from engines.torch_engine import TorchEngine, whmr_engine, write_note
from engines.whmr import export, geometry, parts, store
from tests.support.whmr import engines_store, shallow

SMALL_WH = (128, 96)
LIMIT = 1e-4


@pytest.fixture(scope="module")
def folder() -> Path:
    made = engines_store() / store.SYNTHETIC
    # convolutions in fp16 take a CPU minutes
    export.export(shallow(), made, ["regress"], "fp16")
    return made


@pytest.mark.parametrize("name", parts.PARTS)
def test_back_ends_agree(folder, name):
    engines = [open_engine(folder / export.file_name(name), backend=b, threads=1) for b in ("onnx", "openvino")]
    eager = whmr_engine(shallow(), name)
    assert [s.name for s in eager.outputs] == [s.name for s in engines[0].outputs]
    assert eager.inputs == engines[0].inputs
    for batch in (1, 3):
        feed = agreement.arrays(name, batch, batch, SMALL_WH)
        expected = {k: v.copy() for k, v in eager(feed).items()}
        for engine in engines:
            assert parity(engine(feed), expected) < LIMIT
    for engine in (eager, *engines):
        engine.close()
        with pytest.raises(ValueError, match="closed"):
            engine(feed)


def test_inputs_are_read_where_they_are_and_left_as_they_are(folder):
    openvino, onnx = (
        open_engine(folder / export.file_name("joints"), backend=b, threads=1) for b in ("openvino", "onnx")
    )
    first, second = (agreement.arrays("joints", 2, seed) for seed in (1, 2))
    frozen = {k: v.copy() for k, v in first.items()}
    for value in frozen.values():
        value.flags.writeable = False
    strided = {k: np.repeat(v, 2, -1)[..., ::2] for k, v in second.items()}
    kept = {k: v.copy() for k, v in first.items()}
    for feed in (first, second, frozen, strided, first):
        expected = onnx({k: np.ascontiguousarray(v) for k, v in feed.items()})
        assert parity(openvino(feed), expected) < LIMIT
    assert all(np.array_equal(first[k], v) for k, v in kept.items())


def test_engines_chain_without_leaving_torch():
    body, regress = (whmr_engine(shallow(), name) for name in ("body", "regress"))
    given = parts.example("regress", 2)
    crops = parts.example("body", 2)["crops"]
    maps = body.on_device({"crops": crops})
    out = regress.on_device(given | {k: maps[k] for k in ("f1", "f2", "f3")})
    whole = shallow()(crops, given["boxes"], given["R_camera_level"])
    torch.testing.assert_close(out["vertices"], whole.vertices, atol=1e-5, rtol=1e-5)
    for wrong in ({}, {"crops": crops.double()}, {"crops": crops[..., 1:]}):
        with pytest.raises(ValueError, match="crops: expected a float32 tensor of shape"):
            body.on_device(wrong)


def test_a_compiled_module_gives_what_it_gives_eager():
    module = nn.Linear(4, 2)
    feed = {"x": np.arange(12, dtype=np.float32).reshape(3, 4)}
    small = {"x": torch.zeros(1, 4)}

    class Pair(nn.Module):
        def forward(self, x):
            return (module(x),)

    eager = TorchEngine("pair", Pair(), small, ["y"])
    compiled = TorchEngine("pair", Pair(), small, ["y"], compiled=True)
    np.testing.assert_allclose(compiled(feed)["y"], eager(feed)["y"], atol=1e-6)


def test_half_precision_is_near_and_says_so(folder):
    name = "regress"
    path = folder / export.file_name(name)
    half = open_engine(path, backend="onnx", precision="fp16", threads=1)
    assert half.precision == "fp16"
    assert {s.dtype for s in (*half.inputs, *half.outputs)} == {np.dtype(np.float32)}
    feed = agreement.arrays(name, 2, 1, SMALL_WH)
    expected = whmr_engine(shallow(), name)(feed)
    assert 0 < parity(half(feed), expected) < 5e-3
    with pytest.raises(EngineError, match="in fp16; fp32 was asked for"):
        open_engine(folder / export.file_name(name, "fp16"), backend="onnx")


def test_differences_are_those_of_a_known_change(folder):
    engines = {n: open_engine(folder / export.file_name(n), backend="onnx", threads=1) for n in ("body", "regress")}
    same = agreement.differences(engines, engines, 2)
    assert same == {"vertices_mm": 0.0, "joints_mm": 0.0, "rotation_deg": 0.0, "focal_pct": 0.0}
    assert agreement.beyond(same) == []

    joints = {"joints": open_engine(folder / export.file_name("joints"), backend="onnx", threads=1)}
    assert agreement.differences(engines | joints, joints, 2).keys() == {"joints_mm", "rotation_deg", "focal_pct"}

    class Moved:
        def __call__(self, feed):
            out = {k: v.copy() for k, v in engines["regress"](feed).items()}
            out["vertices"][..., 0] += 0.003
            out["cam"][:, 0] *= 1.02
            turn = geometry.rotation_from_axis_angle(torch.tensor([0.0, np.radians(0.5), 0.0])).numpy()
            out["Rs"] = out["Rs"] @ turn
            return out

    found = agreement.differences(engines, {"regress": Moved()}, 2)
    assert found["joints_mm"] == 0
    assert found["vertices_mm"] == pytest.approx(3, rel=1e-3)
    assert found["focal_pct"] == pytest.approx(2, rel=1e-3)
    assert found["rotation_deg"] == pytest.approx(0.5, rel=1e-2)
    assert len(agreement.beyond(found)) == 3
    assert agreement.beyond({"focal_pct": float("nan")})


def test_half_precision_stays_within_what_it_may_cost(folder):
    reference = {n: open_engine(folder / export.file_name(n), backend="onnx", threads=1) for n in parts.PARTS}
    half = {n: open_engine(folder / export.file_name(n), backend="onnx", precision="fp16") for n in ("regress",)}
    found = agreement.differences(reference, half, 3)
    assert found["vertices_mm"] > 0
    assert agreement.beyond(found) == []


def test_torch_opens_a_note_of_weights(folder, tmp_path, monkeypatch):
    path = tmp_path / "whmr_regress.onnx"
    path.write_bytes((folder / path.name).read_bytes())
    with pytest.raises(EngineError, match=r"regress\.torch\.json: torch opens a note .* --backend torch"):
        open_engine(path, backend="torch")
    note = write_note(tmp_path / "whmr_regress.torch.json", "regress", str(tmp_path / "gone.pt"))
    with pytest.raises(EngineError, match=r"there is no such file; expected w-hmr-p-vitpose_checkpoint\.pt"):
        open_engine(path, backend="torch")
    note.write_text(json.dumps({"version": 0}))
    with pytest.raises(EngineError, match=r"expected a note .* python -m engines\.build"):
        open_engine(note)
    write_note(note, "regress", "synthetic")
    # the whole encoder takes seconds to draw, and regress has none of it
    monkeypatch.setattr(export, "weights", lambda where, markers: {"synthetic": shallow()}[where])
    feed = agreement.arrays("regress", 2)
    ours, theirs = (open_engine(path, backend=b)(feed) for b in ("torch", "onnx"))
    assert parity(ours, theirs) < LIMIT


def test_endings_say_what_a_file_is(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a file that ends in \.onnx or \.json for cpu"):
        open_engine(tmp_path / "model.bin")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("backend", ["tensorrt", "torch2trt"])
def test_building_without_a_gpu_gives_one_sentence(backend, caplog):
    assert build.main(["--weights", "synthetic", "--backend", backend]) == 1
    assert len(caplog.messages) == 1
    assert "ype: pip install" in caplog.text or "sees none" in caplog.text
    assert "\n" not in caplog.messages[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_gives_one_sentence(folder):
    with pytest.raises(EngineError, match="TensorRT needs an NVIDIA GPU and a torch that sees it"):
        tensorrt_build.gpu_name("cuda")
    with pytest.raises(EngineError, match="sees no CUDA device"):
        whmr_engine(shallow(), "regress", "cuda")
    with pytest.raises(EngineError, match=r"TensorRT is not installed|needs an NVIDIA GPU"):
        open_engine(folder / "whmr_regress.onnx", "cuda", "tensorrt")


def test_exported_engines_are_checked_for(folder, tmp_path, caplog):
    assert build.main(["--onnx-dir", str(tmp_path), "--backend", "onnx"]) == 1
    assert "whmr_camera.onnx: there is no such file. Type: python -m engines.whmr.export" in caplog.text
    for arguments in ([], ["--onnx-dir", str(folder), "--weights", "synthetic"]):
        with pytest.raises(SystemExit):
            build.main(arguments)


def test_building_for_onnx_runtime_compares_with_fp32(folder, caplog):
    caplog.set_level("INFO")
    arguments = ["--onnx-dir", str(folder), "--backend", "onnx", "--engine", "regress", "--precision", "fp16"]
    assert build.main(arguments) == 0
    assert "Largest differences to fp32" in caplog.text
    assert "vertices_mm" in caplog.text


def test_what_is_exported_already_is_not_exported_again(folder, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    here = tmp_path / store.SYNTHETIC
    here.mkdir()
    for path in folder.iterdir():
        if path.name == store.MANIFEST:
            (here / path.name).write_bytes(path.read_bytes())
        elif ".fp16." not in path.name:
            (here / path.name).symlink_to(path)
    monkeypatch.setattr(build, "_network", lambda weights, markers: shallow())
    arguments = ["--weights", "synthetic", "--store", str(tmp_path), "--backend", "onnx", "--engine", "joints"]
    half = here / export.file_name("joints", "fp16")
    for exported in (True, False, True):
        caplog.clear()
        assert build.main([*arguments, "--no-check"]) == 0
        assert ("exporting joints in fp16" in caplog.text) is exported
        assert store.lacking(here, ["joints", "regress"], "fp16") == ["regress"]
        assert store.find("synthetic", store=tmp_path) == here
        if not exported:
            half.write_bytes(half.read_bytes()[:1000])
            assert store.lacking(here, ["joints"], "fp16") == ["joints"]


def test_torch2trt_names_what_it_converts():
    with pytest.raises(ValueError, match=r"expected camera or body, got regress\. Use --backend tensorrt"):
        torch2trt_build.build(shallow(), "regress", "cuda", "fp16", {})


@torch.inference_mode()
def test_the_released_structure_gives_what_ours_gives():
    net = shallow()
    crops, boxes = parts.example("body", 2)["crops"], parts.example("regress", 2)["boxes"]
    picture = parts.example("camera", 1, size_wh=SMALL_WH)["picture"]
    angles = net.camera(picture)
    level = geometry.camera_rotation(angles.pitch, angles.roll).expand(2, 3, 3)
    expected = released_cost.forward(net, crops, picture.expand(2, -1, -1, -1), boxes)
    maps = dict(zip(parts.BODY.outputs, parts.part(net, "body")(crops), strict=True))
    values = parts.part(net, "regress")(maps["f1"], maps["f2"], maps["f3"], boxes, level)
    ours = dict(zip(parts.REGRESS.outputs, values, strict=True)) | {"Tz": maps["Tz"]}
    assert difference({k: v.numpy() for k, v in ours.items()}, expected, {"boxes": boxes.numpy()}) < LIMIT


def test_the_roofline_counts_work_and_weights():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 5, bias=False)

        def forward(self, x):
            return (self.layer(x),)

    work = roofline.cost(Pair(), {"x": torch.zeros(3, 8)})
    assert work.flops == 2 * 3 * 8 * 5
    assert work.bytes["fp32"] == 4 * (3 * 8 + 8 * 5 + 3 * 5)
    assert work.bytes["fp16"] == 4 * (3 * 8 + 3 * 5) + 2 * 8 * 5
    peak = roofline.Peak({"fp32": 1e3, "fp16": 1e9}, 1e3)
    assert work.bound_s(peak, "fp32") == pytest.approx(max(0.24, 0.316))
    assert work.bound_s(peak, "fp16") == pytest.approx(0.236)
