"""Plans: which key they lie under, and that what does not fit is refused with the reason."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from engines import plan_store, tensorrt_build
from engines.plan_store import PlanError, PlanKey
from engines.runtime import EngineError, open_engine

SHAPES = {"x": ((1, 3), (1, 3), (8, 3))}
KEY = PlanKey("ab" * 32, "tensorrt 10.16.0", "10.16.0", "NVIDIA A10 8.6", "fp16", SHAPES)
PLAN = bytes(range(256)) * 8


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_every_part_of_the_key_counts():
    others = {
        "model": "cd" * 32,
        "builder": "torch2trt 0.5.0 tensorrt 10.16.0",
        "runtime": "11.4.0",
        "gpu": "NVIDIA A10 8.7",
        "precision": "fp32",
        "profile": {"x": ((1, 3), (1, 3), (4, 3))},
    }
    assert set(others) == {f.name for f in fields(PlanKey)}
    digests = {replace(KEY, **{name: value}).digest() for name, value in others.items()} | {KEY.digest()}
    assert len(digests) == len(others) + 1
    assert replace(KEY).digest() == KEY.digest()


def test_what_is_saved_is_loaded_and_nothing_else(store):
    path = plan_store.save("body", KEY, PLAN, store)
    assert path == plan_store.plan_path("body", KEY, store)
    assert plan_store.load("body", KEY, store) == PLAN
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, f"{path.name}.json"])
    for other in (replace(KEY, gpu="NVIDIA H100 9.0"), replace(KEY, model="ef" * 32), replace(KEY, runtime="8.6.1")):
        with pytest.raises(PlanError, match=r"the 1 there are for other .*Type: python -m engines\.build"):
            plan_store.load("body", other, store)
    with pytest.raises(
        PlanError, match=r"no plan of regress in fp16 for NVIDIA A10 8\.6 and TensorRT 10\.16\.0\. Type"
    ):
        plan_store.load("regress", KEY, store)


def test_a_plan_of_another_key_under_this_name_is_refused(store):
    other = replace(KEY, gpu="NVIDIA H100 9.0")
    from_there = plan_store.save("body", other, PLAN, store)
    here = plan_store.plan_path("body", KEY, store)
    here.write_bytes(from_there.read_bytes())
    here.with_name(f"{here.name}.json").write_bytes(from_there.with_name(f"{from_there.name}.json").read_bytes())
    with pytest.raises(PlanError, match=r"made for another gpu: NVIDIA H100 9\.0, here is NVIDIA A10 8\.6\. Type"):
        plan_store.load("body", KEY, store)


def test_cut_and_changed_plans_are_refused(store):
    path = plan_store.save("body", KEY, PLAN, store)
    path.write_bytes(PLAN[:100])
    with pytest.raises(PlanError, match=r"the plan is cut: expected 2048 bytes, got 100\. Type"):
        plan_store.load("body", KEY, store)
    path.write_bytes(PLAN[::-1])
    with pytest.raises(PlanError, match="not what its manifest was written for"):
        plan_store.load("body", KEY, store)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"version": 1, "key": {}}', '{"version": 2, "key": {}, "plan": {}}']
)
def test_broken_manifests_are_refused(store, text):
    path = plan_store.save("body", KEY, PLAN, store)
    path.with_name(f"{path.name}.json").write_text(text)
    with pytest.raises(PlanError, match=r"expected the manifest of a plan of version 1, got another text\. Type"):
        plan_store.load("body", KEY, store)


def test_a_named_plan_must_fit_this_machine(store):
    path = plan_store.save("body", KEY, PLAN, store)
    assert plan_store.load_named(path, KEY.runtime, KEY.gpu, "fp16") == PLAN
    for runtime, gpu, precision, field in (
        ("11.4.0", KEY.gpu, "fp16", "runtime"),
        (KEY.runtime, "NVIDIA H100 9.0", "fp16", "gpu"),
        (KEY.runtime, KEY.gpu, "fp32", "precision"),
    ):
        with pytest.raises(PlanError, match=f"made for another {field}: .* --precision {precision}"):
            plan_store.load_named(path, runtime, gpu, precision)
    path.with_name(f"{path.name}.json").unlink()
    with pytest.raises(PlanError, match="a plan without its manifest"):
        plan_store.load_named(path, KEY.runtime, KEY.gpu, "fp16")


def test_notes_are_added_to_a_manifest(store):
    path = plan_store.save("body", KEY, PLAN, store)
    plan_store.annotate(path, {"vertices_mm": 0.5})
    assert json.loads(path.with_name(f"{path.name}.json").read_text())["notes"] == {"vertices_mm": 0.5}
    assert plan_store.load("body", KEY, store) == PLAN


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(PlanError, match=r"cannot be written .*WHMR_MODEL_DIR"):
        plan_store.save("body", KEY, PLAN, tmp_path / "store")


def test_measured_times_lie_apart_by_version_and_gpu(tmp_path):
    paths = [
        tensorrt_build.timings_path(version, gpu, tmp_path)
        for version in ("10.16.0", "11.4.0")
        for gpu in ("NVIDIA A10 8.6", "NVIDIA GeForce RTX 4090 8.9")
    ]
    assert len(set(paths)) == 4
    assert all(p.parent == plan_store.plan_path("x", KEY, tmp_path).parent for p in paths)
    assert paths[0].name == "tensorrt-10.16.0-NVIDIA-A10-8.6.timings"


def test_plans_are_for_gpus(tmp_path):
    (tmp_path / "x.plan").write_bytes(PLAN)
    with pytest.raises(ValueError, match=r"expected a file that ends in \.onnx or \.json for cpu"):
        open_engine(tmp_path / "x.plan")
    with pytest.raises(PlanError if tensorrt_here() else EngineError, match=r"manifest|not installed|needs an NVIDIA"):
        open_engine(tmp_path / "x.plan", "cuda", "tensorrt")


def tensorrt_here() -> bool:
    try:
        tensorrt_build.tensorrt()
    except EngineError:
        return False
    return True


def model(path: Path, *shape: str | int) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(shape))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    onnx.save(helper.make_model(graph), path)
    return path


def test_profiles_follow_what_a_model_leaves_open(tmp_path):
    path = tmp_path / "m.onnx"
    assert tensorrt_build.profile_of(model(path, "n", 4))["x"] == ((1, 4), (1, 4), (8, 4))
    assert tensorrt_build.profile_of(model(path, 2, 4))["x"] == ((2, 4),) * 3
    picture = tensorrt_build.profile_of(model(path, "n", 3, "h", "w"))["x"]
    assert picture == ((1, 3, 224, 224), (1, 3, 600, 1066), (1, 3, 1440, 2144))
    with pytest.raises(EngineError, match="got the shape"):
        tensorrt_build.profile_of(model(path, 2, "k"))
    path.write_bytes(b"no model")
    with pytest.raises(EngineError, match="expected an ONNX model"):
        tensorrt_build.profile_of(path)


@pytest.mark.parametrize(
    ("version", "flags", "expected"),
    [
        ("8.6.1", {"EXPLICIT_BATCH": 0}, 1),
        ("10.16.0", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, 2),
        ("11.4.0", {"STRONGLY_TYPED": 0}, 1),
        ("12.0.0", {}, 0),
    ],
)
def test_networks_are_typed_where_the_version_can(version, flags, expected):
    described = SimpleNamespace(__version__=version, NetworkDefinitionCreationFlag=SimpleNamespace(**flags))
    assert tensorrt_build._network_flags(described) == expected
