"""W-HMR's losses against values of the released code, and what each of them teaches in which stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from engines.whmr import geometry, losses, parts, supervision
from engines.whmr.iuv import Iuv
from engines.whmr.supervision import TrainingOutputs
from tests.support.whmr import aux, ratio, shallow

LIMIT = 1e-5
PEOPLE = 1


def close(ours: Tensor, name: str, index: int = 0) -> bool:
    return ratio(ours, aux(f"loss/{name}")[index]) < LIMIT


def test_point_losses_are_the_released_ones():
    points, truth = aux("loss/pk2d"), aux("loss/gk2d")
    assert close(losses.points(points, truth), "keypoint_2d")
    frame_wh, box_wh = aux("loss/orig_shape").flip(-1), torch.stack([aux("loss/bw"), aux("loss/bh")], -1)
    assert close(losses.frame_points(points, truth, frame_wh, box_wh), "keypoint_2d_world")
    assert close(losses.joints(aux("loss/p3d"), aux("loss/g3d"), aux("loss/has3d")), "keypoint_3d")


def test_body_losses_are_the_released_ones():
    has = aux("loss/has_smpl")
    assert close(losses.vertices(aux("loss/pv"), aux("loss/gv"), has), "shape")
    truth = geometry.rotation_from_axis_angle(aux("loss/gp").reshape(-1, 24, 3))
    assert close(losses.pose(aux("loss/pr"), truth, has), "regr_pose_betas")
    assert close(losses.betas(aux("loss/pb"), aux("loss/gb"), has), "regr_pose_betas", 1)
    assert close(losses.camera(aux("loss/cam_s")), "cam")


def test_dense_losses_are_the_released_ones():
    truth = losses.iuv_truth(aux("loss/iuv_img"))
    assert torch.equal(truth.annotation, aux("loss/iuv_ann_argmax").long())
    assert torch.equal(truth.part, aux("loss/iuv_idx_argmax").long())
    maps = Iuv(*(aux(f"loss/{name}") for name in ("pu", "pvv", "pi", "pa")))
    terms = losses.iuv(maps, truth, aux("loss/has_smpl"))
    factor = losses.Weights().uv
    for i, (name, by) in enumerate({"u": factor, "v": factor, "part": 1.0, "annotation": 1.0}.items()):
        assert close(by * terms[name], "body_uv", i), name


def test_samples_without_labels_cost_nothing():
    ours, truth = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_().unbind()
    none, one = torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])
    assert float(losses.vertices(ours, truth, none).detach()) == 0
    torch.testing.assert_close(losses.vertices(ours, truth, one), (ours[1] - truth[1]).abs().mean())
    maps = Iuv(*(torch.randn(1, n, 4, 4) for n in (25, 25, 25, 15)))
    assert (
        sum(float(v) for v in losses.iuv(maps, losses.iuv_truth(torch.rand(1, 3, 4, 4)), torch.zeros(1)).values()) == 0
    )


def test_focal_lengths_may_be_drawn_to_the_diagonal():
    assert float(losses.focal(torch.tensor([500.0]), torch.tensor([[300.0, 400.0]]))) == 0


def test_whole_loss_of_a_round_and_its_factors():
    _, outputs = passes(2)
    r = outputs.rounds[-1]
    g = torch.Generator().manual_seed(1)
    y = losses.Labels(
        r.Rs.detach(), r.shape.detach(), r.vertices.detach() + 0.01, torch.ones(PEOPLE),
        torch.zeros(PEOPLE, 24, 4), torch.zeros(PEOPLE),
        torch.rand(PEOPLE, 49, 3, generator=g), torch.rand(PEOPLE, 49, 3, generator=g),
        parts.example("regress", PEOPLE)["boxes"], torch.full((PEOPLE, 2), 300.0),
    )  # fmt: skip
    terms = losses.round_terms(r, y, last=True)
    assert float(terms["pose"].detach()) == 0
    assert float(terms["betas"].detach()) == 0
    assert float(terms["vertices"].detach()) == pytest.approx(0.01, rel=1e-3)
    weights = losses.Weights(frame=300.0)
    expected = 15 * terms["vertices"] + 300 * terms["frame"] + terms["cam"]
    torch.testing.assert_close(losses.weighted(terms, weights), expected)
    assert "vertices" not in losses.round_terms(r, y, last=False)


@cache
def passes(stage: int) -> tuple[dict[str, list[Tensor]], TrainingOutputs]:
    """Parameters by what they belong to, and one forward pass of `stage`."""
    net = shallow().requires_grad_(True)
    regress = parts.example("regress", PEOPLE, 3)
    crops = parts.example("body", PEOPLE, 3)["crops"]
    outputs = supervision.forward(net, crops, regress["boxes"], regress["R_camera_level"], stage)
    last = net.regressor[2]
    groups = {
        "vit": net.feature_extractor, "dec": net.deconv_layers, "maf": net.maf_extractor[2], "fc1": last.fc1,
        "fc2": last.fc2, "decpose": last.decpose, "decshape": last.decshape, "deccam": last.deccam, "conv": net.conv,
        "block": net.transformer_decoder, "est_Tz": net.est_Tz, "dp_head": net.dp_head, "orient": net.global_orient,
        "camera": net.cam_model, "earlier": torch.nn.ModuleList([*net.maf_extractor[:2], *net.regressor[:2]]),
    }  # fmt: skip
    return {name: list(module.parameters()) for name, module in groups.items()}, outputs


SEEN, FC = {"vit", "dec"}, {"maf", "fc1", "fc2"}
TZ, BODY = {"conv", "block", "est_Tz"}, {"decpose", "decshape"}
TAUGHT: dict[str, tuple[Callable[[TrainingOutputs], Tensor], set[str], set[str]]] = {
    "crop points": (lambda o: o.rounds[2].crop_points, SEEN | FC | BODY | {"deccam"}, SEEN | FC | {"deccam"}),
    "frame points": (lambda o: o.rounds[2].frame_points, TZ, SEEN | TZ | FC | BODY),
    "pose": (lambda o: o.rounds[2].Rs, SEEN | FC | {"decpose"}, SEEN | FC | {"decpose"}),
    "betas": (lambda o: o.rounds[2].shape, SEEN | FC | {"decshape"}, SEEN | FC | {"decshape"}),
    "joints": (lambda o: o.rounds[2].joints, SEEN | FC | BODY, SEEN | FC | BODY),
    "vertices": (lambda o: o.rounds[2].coarse, SEEN | FC | BODY, SEEN | FC | BODY),
    "focal": (lambda o: o.rounds[2].focal, TZ, SEEN | TZ),
    "dense": (lambda o: torch.cat(o.iuv, 1), SEEN | {"dp_head"}, SEEN | {"dp_head"}),
    "upright": (lambda o: o.M_level_root, SEEN | FC | {"decpose", "orient"}, SEEN | FC | {"decpose", "orient"}),
}


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("loss", TAUGHT)
def test_what_a_loss_teaches(loss, stage):
    groups, outputs = passes(stage)
    value, *expected = TAUGHT[loss]
    x = value(outputs)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    flat = [(name, p) for name, parameters in groups.items() for p in parameters]
    grads = torch.autograd.grad((x * weight).sum(), [p for _, p in flat], retain_graph=True, allow_unused=True)
    reached = {name for (name, _), g in zip(flat, grads, strict=True) if g is not None and bool(g.abs().max() > 0)}
    assert reached == expected[stage - 1]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_a_stage_trains(stage):
    net = shallow()
    try:
        trained = {id(p) for p in supervision.prepare(net, stage)}
        orient = {id(p) for p in net.global_orient.parameters()}
        asleep = {id(p) for module in (net.cam_model, net.smpl) for p in module.parameters()}
        everything = {id(p) for p in net.parameters()}
        assert trained == (orient if stage == 3 else everything - asleep)
        assert net.global_orient.training
        assert not net.cam_model.training
        assert net.deconv_layers.training == net.vit.training == (stage < 3)
    finally:
        net.requires_grad_(True).eval()


def test_the_last_stage_teaches_the_upright_root_on_rotations():
    net = shallow()
    try:
        trained = supervision.prepare(net, 3)
        regress = parts.example("regress", 1, 3)
        given = parts.example("body", 1, 3)["crops"], regress["boxes"], regress["R_camera_level"]
        outputs = supervision.forward(net, *given, 3)
        root = outputs.rounds[2].Rs[:, 0]
        torch.testing.assert_close(root @ root.mT, torch.eye(3)[None], atol=1e-5, rtol=0)
        losses.pose(outputs.M_level_root, regress["R_camera_level"], torch.ones(1)).backward()
        assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in trained)
        assert all(p.grad is None for p in net.parameters() if not p.requires_grad)
    finally:
        net.requires_grad_(True).eval().zero_grad()


def test_another_stage_is_refused():
    for stage in (0, 4):
        with pytest.raises(ValueError, match="stage: expected 1, 2 or 3"):
            supervision.forward(shallow(), torch.zeros(1), torch.zeros(1), torch.zeros(1), stage)
