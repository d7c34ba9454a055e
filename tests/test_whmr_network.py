"""The whole network: equal to the released one's numbers, person by person and in any company; its files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.whmr import checkpoint, convert, geometry, parity, parts, preprocess, supervision, synthetic
from engines.whmr.checkpoint import CheckpointError
from engines.whmr.graphormer import HybridConfig, coarse_adjacency
from engines.whmr.network import WHMR, Config, Prediction
from tests.support.whmr import SHARED, aux, golden, network, ratio, shallow

#: Of the 634 lines "name shape type" of the released checkpoint.
LAYOUT_SHA256 = "296b66f29668add4f0d83a05550ca3dac378b6fbc13e89857ce6aa3c61142b7f"


def people(batch: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    regress = parts.example("regress", batch, seed)
    return parts.example("body", batch, seed)["crops"], regress["boxes"], regress["R_camera_level"]


def layout() -> str:
    lines = [f"{k} {list(v.shape)} {str(v.dtype).removeprefix('torch.')}" for k, v in checkpoint.expected().items()]
    return "\n".join(sorted(lines))


def test_names_shapes_and_types_are_those_of_the_released_checkpoint():
    assert hashlib.sha256(layout().encode()).hexdigest() == LAYOUT_SHA256
    assert len(checkpoint.expected()) == 634


def test_names_are_those_of_the_manifest():
    path = SHARED / "state_dict_manifest.json"
    if not path.is_file():
        pytest.skip("the manifest of the released checkpoint is not here")
    manifest = json.loads(path.read_text())
    assert "\n".join(sorted(f"{k} {v['shape']} {v['dtype']}" for k, v in manifest.items())) == layout()
    named = {k for k, _ in network().named_parameters(remove_duplicate=False)}
    assert named == {k for k, v in manifest.items() if v["kind"] == "parameter"}


@pytest.mark.parametrize("case", ["a0", "a1"])
def test_every_tensor_is_the_released_ones(case):
    reference = golden("golden_a.npz")
    given = parity.inputs(reference, case)
    ours = parity.released_tensors(network(), given["x"], given["full_x"], given["boxes"])
    differences, unknown = parity.compare(reference, case, ours)
    assert not unknown
    assert len(differences) > 100
    worst = max(differences, key=lambda d: d.ratio)
    assert worst.ratio < parity.LIMIT, worst


def test_norms_have_the_released_epsilon():
    net = network()
    vit = net.feature_extractor["backbone"]
    with torch.no_grad():
        assert ratio(net.transformer_decoder(aux("eps/tz_in")), aux("eps/tz_block_out")) < parity.LIMIT
        assert ratio(vit.blocks[0](aux("eps/vit_in")), aux("eps/vit_block0_out")) < parity.LIMIT
        assert ratio(vit.last_norm(aux("eps/vit_in")), aux("eps/vit_last_norm_out")) < parity.LIMIT


def test_three_people_get_their_own_orientation():
    given = [aux(f"bug/b3_{name}") for name in ("body_feat", "cam_rotmat", "local")]
    with torch.no_grad():
        ours = geometry.orthonormal(network().global_orient(*given))[:, None]
    assert ratio(ours, aux("bug/b3_one_by_one")) < parity.LIMIT
    assert ratio(ours, aux("bug/b3_official_batched")) > 0.1


@torch.no_grad()
def test_a_person_is_the_same_in_any_company():
    given = people(3)
    together = shallow()(*given)
    for i in range(3):
        alone = shallow()(*(x[i : i + 1] for x in given))
        for name in ("Rs", "betas", "cam", "R_level_root", "Tz", "focal", "t_camera", "vertices", "level_vertices"):
            assert ratio(getattr(alone, name), getattr(together, name)[i : i + 1]) < 2e-5, name


@torch.no_grad()
def test_bodies_are_consistent():
    crops, boxes, R = people(2, 1)
    p: Prediction = shallow()(crops, boxes, R)
    eye = torch.eye(3).expand(2, 25, 3, 3)
    Rs = torch.cat([p.Rs, p.R_level_root[:, None]], 1)
    torch.testing.assert_close(Rs @ Rs.mT, eye, atol=1e-5, rtol=0)
    upright = torch.cat([p.R_level_root[:, None], p.Rs[:, 1:]], 1)
    mesh, _ = parity_mesh(shallow(), p.betas, upright)
    torch.testing.assert_close(p.level_vertices, mesh, atol=1e-5, rtol=0)
    assert ((p.Tz > 0) & (p.Tz < 10)).all()
    torch.testing.assert_close(p.focal, p.cam[:, 0] * boxes[:, 2] * p.t_camera[:, 2] / 2)
    assert p.hybrid is None


def parity_mesh(net: WHMR, betas: Tensor, Rs: Tensor) -> tuple[Tensor, Tensor]:
    from engines.whmr.smpl import posed

    return posed(net.smpl.rig(), betas, Rs)


def test_nothing_is_tied_to_a_device():
    # on the meta device any tensor made elsewhere on the way raises
    with torch.device("meta"):
        net = WHMR(network().marker_ids, Config(depth=1, hybrid=HybridConfig())).to("meta")
    crops, boxes, R = (x.to("meta") for x in people(3))
    p = net.eval()(crops, boxes, R)
    assert {x.device.type for x in (p.vertices, p.level_vertices, p.R_level_root, p.focal, p.hybrid)} == {"meta"}
    assert net.camera(torch.zeros(1, 3, 64, 64, device="meta")).roll.device.type == "meta"
    trained = supervision.forward(net, crops, boxes, R, 2)
    assert trained.rounds[2].frame_points.device.type == "meta"
    frame = torch.zeros(48, 64, 3, dtype=torch.uint8, device="meta")
    assert preprocess.crops(frame, boxes).shape == (3, 3, 256, 192)
    assert geometry.axis_angle_from_rotation(p.Rs).device.type == "meta"


def test_the_camera_net_takes_any_picture():
    net = network()
    for h, w in ((64, 96), (97, 65)):
        with torch.no_grad():
            camera = net.camera(torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(h)))
        for angle, (low, high) in zip(camera, ((0.2617, 2.1), (-0.6, 0.6), (-0.6, 0.6)), strict=True):
            assert angle.shape == (2,)
            assert ((angle > low) & (angle < high)).all()


def test_model_free_round_is_optional_and_learns():
    config = Config(depth=1, hybrid=HybridConfig())
    state = {name: value for name, value in shallow().state_dict().items()}
    net = checkpoint.assemble(state, shallow().marker_ids, config)
    assert {k for k in net.state_dict() if k not in state} == {k for k in net.state_dict() if k.startswith("hybrid.")}
    net.hybrid.train()
    vertices = net(*people(2)).hybrid
    assert vertices.shape == (2, 6890, 3)
    vertices.square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in net.hybrid.parameters())
    assert all(p.grad is None for p in net.regressor[1].parameters())
    assert net.feature_extractor["backbone"].pos_embed.grad is not None
    for p in net.parameters():
        p.grad = None


def test_neighbours_of_the_coarse_mesh():
    body = synthetic.body()
    coarse = (body["D"][1].tocsr() @ body["D"][0].tocsr()).toarray()
    adjacency = coarse_adjacency(body["f"].astype(np.int64), coarse)
    linked = adjacency > 0
    assert adjacency.shape == (431, 431)
    assert (linked == linked.T).all()
    assert linked.diagonal().all()
    np.testing.assert_allclose(adjacency.sum(1), 1, rtol=1e-6)
    assert 3 < linked.sum(1).mean() < 12
    line = coarse_adjacency([[0, 1, 1], [1, 2, 2], [2, 3, 3], [3, 4, 4]], np.eye(5)[[0, 2, 4]])
    np.testing.assert_allclose(line > 0, [[True, True, False], [True, True, True], [False, True, True]])


def small_checkpoint(path: Path, **changes: object) -> Path:
    """A file of the right form, small because most of its tensors are one number seen many times."""
    state = {
        k: v if v.numel() < 5000 else torch.zeros((), dtype=v.dtype).expand(v.shape)
        for k, v in network().state_dict().items()
    }
    torch.save({"model": state | changes, "epoch": 3, "best": np.float64(0.5)}, path)
    return path


def markers(folder: Path) -> Path:
    np.save(folder / "ssm.npy", network().marker_ids.numpy())
    return folder / "ssm.npy"


def test_converting_keeps_every_tensor_and_notes_the_markers(tmp_path):
    source, out = small_checkpoint(tmp_path / "w.pt"), tmp_path / "w.safetensors"
    assert convert.main([str(source), str(out), "--markers", str(markers(tmp_path))]) == 0
    state, noted = checkpoint.read(out)
    original, none = checkpoint.read(source)
    assert none is None
    assert len(state) == 634
    assert state.keys() == original.keys()
    assert all(torch.equal(state[k], v) for k, v in original.items())
    net = checkpoint.load(out)
    assert torch.equal(net.marker_ids, network().marker_ids)
    assert noted is not None
    assert not net.training
    del net, state
    cut = tmp_path / "cut.safetensors"
    with out.open("rb") as f:
        cut.write_bytes(f.read(2_000_000))
    with pytest.raises(CheckpointError, match=r"expected whole weights, got a cut file .* Type: python -m engines"):
        checkpoint.read(cut)
    out.unlink()


def test_wrong_files_are_sentences(tmp_path, caplog):
    whole = small_checkpoint(tmp_path / "w.pt").read_bytes()
    texts = {"cut.pt": whole[: len(whole) // 2], "page.pt": b"<!DOCTYPE html><html>", "empty.pt": b""}
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="expected a PyTorch or safetensors file, got a cut or another file"):
            checkpoint.read(tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    torch.save({"model": {"w": torch.zeros(1)}, "x": Path}, tmp_path / "code.pt")
    for name, said in (
        ("absent.pt", "there is no such file; expected w-hmr-p-vitpose_checkpoint.pt"),
        ("other.pt", "expected the weights under the key model, got state_dict"),
        ("code.pt", "expected tensors only, got something that would run code"),
    ):
        with pytest.raises(CheckpointError, match=said):
            checkpoint.read(tmp_path / name)
    assert convert.main([str(tmp_path / "other.pt"), str(tmp_path / "out.safetensors")]) == 1
    assert "expected the weights under the key model" in caplog.text
    with pytest.raises(CheckpointError, match=r"expected a name that ends in \.safetensors"):
        convert.convert(tmp_path / "w.pt", tmp_path / "out.bin")


def test_other_tensors_are_sentences(tmp_path):
    key = "regressor.1.smpl.v_template"
    for changes, said in (
        ({"more": torch.zeros(1)}, "1 tensors are unknown, more first"),
        ({"conv.0.weight": torch.zeros(64, 256, 7, 1)}, r"conv.0.weight: expected float32 \(64, 256, 7, 7\), got"),
        ({"points_grid": torch.zeros(1, 2, 63).half()}, r"points_grid: expected float32 \(1, 2, 63\), got float16"),
        ({key: torch.ones(6890, 3)}, "rounds 0 and 1 have different body models"),
        ({"regressor.0.smpl.parents": torch.arange(24)}, "parents is not SMPL's tree"),
    ):
        with pytest.raises(CheckpointError, match=said):
            checkpoint.read(small_checkpoint(tmp_path / "w.pt", **changes))
    with pytest.raises(CheckpointError, match="633 tensors are missing"):
        checkpoint.check({"points_grid": torch.zeros(1, 2, 63)}, "w.pt")
    nan = small_checkpoint(tmp_path / "w.pt", **{"est_Tz.0.bias": torch.full((12,), torch.nan)})
    with pytest.raises(CheckpointError, match=re.escape("expected finite numbers, est_Tz.0.bias has others")):
        convert.convert(nan, tmp_path / "o.safetensors")


def test_marker_files_are_checked(tmp_path):
    path = tmp_path / "m.npy"
    assert torch.equal(checkpoint.read_markers(markers(tmp_path)), network().marker_ids)
    for value in (np.arange(66), np.arange(67.0), np.arange(67) - 1, np.arange(67) + 6850):
        np.save(path, value)
        with pytest.raises(CheckpointError, match=r"expected a \.npy file of 67 vertex numbers in 0\.\.6889"):
            checkpoint.read_markers(path)
    np.save(path, np.array([{}] * 67), allow_pickle=True)
    with pytest.raises(CheckpointError, match="that NumPy cannot read"):
        checkpoint.read_markers(path)
    with pytest.raises(CheckpointError, match="there is no such file"):
        checkpoint.read_markers(tmp_path / "absent.npy")
    with pytest.raises(ValueError, match="marker_ids: expected 67 numbers"):
        WHMR(torch.arange(3), Config(depth=0))
    with pytest.raises(CheckpointError, match="does not note the 67 marker vertices"):
        checkpoint.load(small_checkpoint(tmp_path / "w.pt"))


def test_parity_command_refuses_what_it_does_not_know(tmp_path, caplog):
    np.savez(tmp_path / "none.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("no numbers")
    for name, said in (
        ("none.npz", "expected a file with cases"),
        ("text.npz", "it cannot be read"),
        ("no.npz", "cannot be"),
    ):
        assert parity.main(["--golden", str(tmp_path / name)]) == 1
        assert said in caplog.text
    reference = dict(golden("golden_a.npz"))
    with pytest.raises(parity.GoldenError, match="Type: --seed N"):
        parity.inputs(reference, "a0", seed=5)
    given = parity.inputs(reference, "a0")
    again = parity.inputs(reference | {"a0/in_x": given["x"].numpy(), "a0/in_full_x": given["full_x"].numpy()}, "a0", 5)
    assert torch.equal(again["x"], given["x"])
