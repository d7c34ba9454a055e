"""The engines as ONNX files: equal to torch for any number of people; folded, they are what they were."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from engines.onnx_engine import OnnxEngine
from engines.whmr import export, geometry, parts, store
from engines.whmr.folded import chained, folded, joined
from tests.support.whmr import engines_store, ratio, shallow

LIMIT = 1e-4
#: The camera net's picture here; the real one is larger, which its graph does not know.
SMALL_WH = (128, 96)


@pytest.fixture(scope="module")
def folder() -> Path:
    return engines_store() / store.SYNTHETIC


@pytest.mark.parametrize("name", parts.PARTS)
def test_onnx_runtime_gives_torchs_numbers_for_any_batch(folder, name):
    path, module = store.engine_file(folder, name), parts.part(shallow(), name)
    engine = OnnxEngine(path, threads=1)
    for batch in (1, 2, 3, 5):
        feed = parts.example(name, batch, batch, SMALL_WH)
        with torch.no_grad():
            ours = dict(zip(parts.PARTS[name].outputs, module(*feed.values()), strict=True))
        theirs = engine({key: value.numpy() for key, value in feed.items()})
        for key, value in ours.items():
            error = (torch.from_numpy(theirs[key]) - value).abs().max() / value.abs().max()
            assert theirs[key].shape == tuple(value.shape)
            assert float(error) < LIMIT, (key, batch)
    engine.close()


def test_files_say_their_shapes_and_take_no_new_operators(folder):
    for name, spec in parts.PARTS.items():
        model = onnx.load(store.engine_file(folder, name))
        assert [o.version for o in model.opset_import if o.domain == ""] == [export.OPSET]
        assert {n.domain for n in model.graph.node} <= {"", "ai.onnx"}
        assert not {n.op_type for n in model.graph.node} & {"If", "Loop", "Scan", "NonZero", "Einsum"}
        assert [i.name for i in model.graph.input] == list(spec.inputs)
        assert [o.name for o in model.graph.output] == list(spec.outputs)
        for tensor in (*model.graph.input, *model.graph.output):
            first, *rest = tensor.type.tensor_type.shape.dim
            assert first.dim_param == "batch"
            assert name == "camera" or all(d.dim_value > 0 for d in rest)


@torch.no_grad()
def test_the_engines_together_are_the_network():
    net = shallow()
    crops = parts.example("body", 2)["crops"]
    given = parts.example("regress", 2)
    boxes, R = given["boxes"], given["R_camera_level"]
    f1, f2, f3, Tz = parts.part(net, "body")(crops)
    Rs, betas, cam, R_level_root, joints, vertices = parts.part(net, "regress")(f1, f2, f3, boxes, R)
    whole = net(crops, boxes, R)
    for ours, theirs in (
        (Tz, whole.Tz),
        (Rs, whole.Rs),
        (betas, whole.betas),
        (cam, whole.cam),
        (R_level_root, whole.R_level_root),
        (joints, whole.joints),
        (vertices, whole.vertices),
        (geometry.focal_px(cam[:, 0], boxes[:, 2], Tz), whole.focal),
        (geometry.camera_translation(cam, boxes, Tz), whole.t_camera),
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    without = parts.part(net, "joints")(f1, f2, f3, boxes, R)
    for ours, theirs in zip(without, (Rs, betas, cam, R_level_root, joints), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", parts.PARTS)
def test_a_folded_engine_is_the_same_with_less_to_do(name):
    module = parts.part(shallow(), name)
    feed = parts.example(name, 2, 3, SMALL_WH)
    expected = module(*feed.values())
    for for_cpu in (False, True):
        less = folded(module, for_cpu)
        for ours, theirs in zip(less(*feed.values()), expected, strict=True):
            assert ratio(ours, theirs) < 1e-5
        assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in less.modules())
    assert all(torch.equal(a, b) for a, b in zip(module(*feed.values()), expected, strict=True))
    if name in ("regress", "joints"):
        weights = [sum(p.numel() for p in m.parameters()) for m in (less, module)]
        assert weights[0] < 0.1 * weights[1]


@torch.no_grad()
def test_layers_without_anything_between_are_one():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(7, 5), torch.nn.Linear(5, 6), torch.nn.Linear(6, 2)]
    x = torch.randn(4, 7)
    torch.testing.assert_close(chained(layers)(x), torch.nn.Sequential(*layers)(x))
    two = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5, 3, bias=False), torch.nn.Conv2d(4, 2, 3, 2, bias=False))
    # every size of picture, also those whose last rows neither sees
    for height in range(17, 24):
        picture = torch.randn(2, 3, height, 30)
        torch.testing.assert_close(joined(two)(picture), two(picture), atol=1e-5, rtol=1e-5)
    with pytest.raises(TypeError, match=r"expected an engine of engines\.whmr\.parts, got Linear"):
        folded(layers[0], True)


@torch.no_grad()
def test_the_camera_engine_is_the_camera_net():
    picture = parts.example("camera", 1, size_wh=SMALL_WH)["picture"]
    angles, logits = parts.part(shallow(), "camera")(picture)
    torch.testing.assert_close(angles[:, 0], shallow().camera(picture).vfov)
    torch.testing.assert_close(logits[:, 2], shallow().cam_model(picture).roll)


def test_unknown_engines_are_refused():
    with pytest.raises(ValueError, match="engine: expected camera, body, regress, joints, got face"):
        parts.part(shallow(), "face")


def test_command_says_what_is_missing(tmp_path, caplog):
    assert export.main([str(tmp_path), "--weights", str(tmp_path / "no.pt")]) == 1
    assert "there is no such file; expected w-hmr-p-vitpose_checkpoint.pt" in caplog.text
