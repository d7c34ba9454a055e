"""W-HMR's rotations, projections, body model, evaluation and preprocessing against numbers of the released code."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from engines.whmr import checkpoint, geometry, metrics, preprocess, smpl, synthetic, synthetic_body
from engines.whmr.camera_net import PITCH_RANGE, ROLL_RANGE, VFOV_RANGE
from tests.support.whmr import aux, golden, ratio

LIMIT = 1e-5


def turns(n: int, seed: int = 0) -> Tensor:
    return geometry.rotation_from_axis_angle(torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)))


def body_model() -> smpl.Smpl:
    model, tensors = smpl.Smpl(), synthetic.body_tensors()
    model.load_state_dict({k: v for k, v in tensors.items() if k in model.state_dict()}, strict=False)
    return model


@pytest.mark.parametrize(
    ("name", "given", "function"),
    [
        ("rot6d_to_rotmat", "rot6d_in", geometry.rotation_from_6d),
        ("rotmat_to_rot6d", "rot6d_to_rotmat", geometry.rotation_to_6d),
        ("ugs", "ugs_in", geometry.orthonormal),
        ("batch_rodrigues", "aa", geometry.rotation_from_axis_angle),
        ("rotmat_to_aa", "batch_rodrigues", geometry.axis_angle_from_rotation),
        ("batch_euler2matrix", "euler", geometry.rotation_from_euler),
    ],
)
def test_rotations_are_the_released_ones(name, given, function):
    assert ratio(function(aux(f"geo/{given}")), aux(f"geo/{name}")) < LIMIT


def test_projections_are_the_released_ones():
    points, cam = aux("geo/proj_pts"), aux("geo/proj_cam")
    assert ratio(geometry.project_crop(points, cam), aux("geo/projection")) < LIMIT
    t, f, c = (aux(f"geo/pp_{k}") for k in "tfc")
    assert ratio(geometry.project(points, t, f, c), aux("geo/persp")) < LIMIT
    side, centre, W, H, Tz = (aux(f"geo/full_{k}") for k in ("bh", "bc", "W", "H", "Tz"))
    boxes = torch.stack([*centre.unbind(-1), side, W, H], -1)
    assert ratio(geometry.camera_translation(cam, boxes, Tz), aux("geo/full_cam_t")) < LIMIT
    joints, keypoints = aux("geo/et_S")[:, 25:], aux("geo/et_k2")[:, 25:]
    t = geometry.translation_from_keypoints(joints, keypoints, 1000.0, (128.0, 128.0))
    assert ratio(t, aux("geo/estimate_translation")) < LIMIT


def test_soft_argmax_is_the_released_one():
    ranges = (VFOV_RANGE, PITCH_RANGE, ROLL_RANGE)
    ours = [geometry.expected_angle(x, *r) for x, r in zip(aux("geo/cam_logits"), ranges, strict=True)]
    assert ratio(torch.stack(ours), aux("geo/cam_angles")) < LIMIT


def test_raw_matrices_become_rotations_and_rotations_stay():
    R = turns(50)
    rough = geometry.orthonormal(R + 0.2 * turns(50, 1))
    eye = torch.eye(3).expand(50, 3, 3)
    torch.testing.assert_close(rough @ rough.mT, eye, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rough), torch.ones(50), atol=1e-5, rtol=0)
    torch.testing.assert_close(geometry.orthonormal(R), R, atol=1e-5, rtol=0)


def test_cross_product_of_three_people_is_theirs():
    a, b = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(geometry.cross(a, b), torch.linalg.cross(a, b, dim=-1))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1.0, 3.0, np.pi - 1e-4])
def test_axis_angle_there_and_back(angle):
    axis = geometry.unit(torch.randn(40, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    back = geometry.axis_angle_from_rotation(geometry.rotation_from_axis_angle(angle * axis))
    torch.testing.assert_close(back, angle * axis, atol=1e-7, rtol=0)


def test_a_camera_that_looks_down_sees_gravity_forward():
    pitch, roll = torch.tensor([0.3]), torch.tensor([0.0])
    down = geometry.camera_rotation(pitch, roll)[0] @ torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(down, torch.tensor([0.0, np.cos(0.3), np.sin(0.3)], dtype=torch.float32))


def test_focal_length_and_translation_put_people_where_the_crop_has_them():
    cam, Tz = torch.tensor([[0.8, 0.1, -0.2]]), torch.tensor([4.0])
    boxes = torch.tensor([[900.0, 300.0, 400.0, 1280.0, 720.0]])
    f = geometry.focal_px(cam[:, 0], boxes[:, 2], Tz)
    t = geometry.camera_translation(cam, boxes, Tz)
    origin = geometry.project(torch.zeros(1, 1, 3), t, f, boxes[:, 3:] / 2)[0, 0]
    in_crop = geometry.project_crop(torch.zeros(1, 1, 3), cam)[0, 0]
    torch.testing.assert_close(origin, boxes[0, :2] + in_crop * boxes[0, 2] / 2, atol=1e-2, rtol=0)


def test_body_is_the_released_one():
    model, vertices, joints = body_model(), None, None
    Rs = geometry.rotation_from_axis_angle(aux("smpl/pose").reshape(-1, 24, 3))
    with torch.no_grad():
        vertices, joints = smpl.posed(model.rig(), aux("smpl/betas"), Rs)
        assert ratio(model.joints49(vertices, joints), aux("smpl/joints49")) < LIMIT
    sample = torch.from_numpy(synthetic_body.strided_sample(vertices, 4096))
    assert ratio(sample, aux("smpl/verts_s")) < LIMIT
    extra = vertices[:, list(smpl.EXTRA_VERTICES)]
    assert ratio(torch.cat([joints, extra], 1), aux("smpl/joints45")) < LIMIT
    regressor = torch.from_numpy(synthetic.body()["J_regressor_h36m"]).float()
    assert ratio(smpl.joints14(regressor, vertices)[0], aux("smpl/h36m_j14")) < LIMIT


def test_body_turns_about_its_root_and_some_vertices_are_those_of_all():
    model, g = body_model(), torch.Generator().manual_seed(4)
    betas, ids = torch.randn(5, 10, generator=g), torch.tensor([5, 6889, 77])
    Rs = turns(5 * 24, 5).reshape(5, 24, 3, 3)
    vertices, joints = smpl.posed(model.rig(), betas, Rs)
    torch.testing.assert_close(smpl.posed(model.rig(ids), betas, Rs)[0], vertices[:, ids], atol=1e-6, rtol=0)
    for name, tree in (("left hand", (22, 20, 18, 16, 13, 9)), ("right foot", (11, 8, 5, 2, 0))):
        lengths = (joints[:, list(tree[:-1])] - joints[:, list(tree[1:])]).norm(dim=-1)
        still = smpl.posed(model.rig(ids), betas, torch.eye(3).expand(5, 24, 3, 3))[1]
        rest = (still[:, list(tree[:-1])] - still[:, list(tree[1:])]).norm(dim=-1)
        torch.testing.assert_close(lengths, rest, atol=1e-5, rtol=0, msg=name)
    other = torch.cat([turns(5, 6)[:, None], Rs[:, 1:]], 1)
    rigid = (vertices - joints[:, :1]) @ Rs[:, 0] @ other[:, 0].mT + joints[:, :1]
    torch.testing.assert_close(smpl.posed(model.rig(), betas, other)[0], rigid, atol=1e-5, rtol=0)


def test_synthetic_body_is_the_documented_one():
    for key, value in synthetic_body.body_checksums(synthetic.body()).items():
        np.testing.assert_allclose(value, golden("golden_a.npz")[f"body/{key}"], rtol=1e-6, atol=1e-6)


def test_synthetic_weights_are_the_documented_ones():
    for key, sample in golden("golden_a.npz").items():
        owner, _, name = key.partition("/")
        if owner == "weights_main":
            shape = checkpoint.expected()[name].shape
            drawn = synthetic_body.fill_array(name, shape)
            np.testing.assert_array_equal(synthetic_body.strided_sample(drawn, 16), sample)


def test_evaluation_is_the_released_one():
    S1, S2 = aux("metric/S1").double(), aux("metric/S2").double()
    aligned = metrics.similarity_aligned(S1, S2)
    assert ratio(aligned.float(), aux("metric/S1_hat")) < LIMIT
    pa, plain = metrics.pa_mpjpe(S1, S2).float(), metrics.mpjpe(S1, S2).float()
    assert ratio(pa, aux("metric/pa")) < LIMIT
    assert ratio(plain, aux("metric/mpjpe")) < LIMIT
    assert (pa < plain).all()


def grey(x: Tensor) -> np.ndarray:
    mean, std = (np.array(v)[:, None, None] for v in (preprocess.MEAN, preprocess.STD))
    return (x.numpy() * std + mean) * 255


def test_crops_are_the_released_ones_within_one_grey_level():
    boxes = preprocess.square_boxes(synthetic_body.DEMO_BOXES, (640, 480))
    np.testing.assert_allclose(boxes[:, :3], golden("golden_aux.npz")["pre/boxes_cxcywh"][:, :3])
    info = geometry.box_info(torch.from_numpy(boxes))
    torch.testing.assert_close(info, aux("pre/bbox_info"), atol=1e-7, rtol=0)
    image = synthetic_body.demo_image()
    exact = golden("golden_aux.npz")["pre_cv500/raw_patches"].transpose(0, 3, 1, 2)[..., 16:112]
    in_torch = preprocess.crops(torch.from_numpy(image), torch.from_numpy(boxes))
    for x in (in_torch, torch.from_numpy(preprocess.crops_on_host(image, boxes))):
        assert np.abs(grey(x)[..., ::2, ::2] - exact).max() < 1
        # the release itself ran on an OpenCV whose interpolation is coarse: 7 grey levels on this picture
        sample = synthetic_body.strided_sample(x.numpy(), 8192)
        assert np.abs(sample - aux("pre/x_s").numpy()).mean() * 255 * 0.225 < 1


@pytest.mark.parametrize(
    ("name", "size"), [("full", (480, 640)), ("full_portrait", (640, 360)), ("full_big", (1080, 1920))]
)
def test_pictures_are_the_released_ones_within_one_grey_level(name, size):
    x = preprocess.picture(torch.from_numpy(synthetic_body.demo_image(*size)))
    assert tuple(x.shape[2:]) == tuple(golden("golden_aux.npz")[f"pre/{name}_hw"])
    levels = synthetic_body.strided_sample(grey(x).transpose(0, 2, 3, 1), 4096)
    # PIL rounds once in each direction
    assert np.abs(levels - golden("golden_aux.npz")[f"pre/{name}_raw_s"]).max() < 1.01


def test_crop_is_opencvs_warp():
    image = np.random.default_rng(7).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    boxes = preprocess.square_boxes([[100.0, -10.0, 150.0, 90.0]], (160, 120), enlarge=1.2)
    cx, cy, side = boxes[0, :3]
    assert (cx, cy, side) == (125, 40, 120)
    k = 256 / side
    warped = cv2.warpAffine(image, np.array([[k, 0, 128 - cx * k], [0, k, 128 - cy * k]]), (256, 256))[:, 32:-32]
    in_torch = preprocess.crops(torch.from_numpy(image), torch.from_numpy(boxes))
    assert np.abs(grey(in_torch)[0].transpose(1, 2, 0) - warped).max() < 1.5
    on_host = torch.from_numpy(preprocess.crops_on_host(image, boxes))
    np.testing.assert_allclose(grey(on_host)[0].transpose(1, 2, 0), warped, atol=1.01)
    assert np.abs(grey(on_host) - grey(in_torch)).max() < 1


@pytest.mark.parametrize("boxes", [[[0, 0, 0, 5]], [[0, 0, 5]], [[0, 0, np.nan, 5]]])
def test_boxes_without_area_are_refused(boxes):
    with pytest.raises(ValueError, match="boxes_xyxy: expected"):
        preprocess.square_boxes(boxes, (640, 480))
