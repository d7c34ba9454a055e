"""Every tensor of one forward pass under the name that the reference numbers use; for comparison only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from engines.whmr import geometry
from engines.whmr.camera_net import CameraLogits, angles
from engines.whmr.network import WHMR, Prediction
from engines.whmr.smpl import posed
from engines.whmr.supervision import describe


@torch.no_grad()
def released_tensors(net: WHMR, crops: Tensor, pictures: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """Name -> tensor for crops (B, 3, 256, 192), pictures (B, 3, H, W) and boxes (B, 5), each person's picture apart.

    The production forward pass is what runs; hooks read its inner tensors. Whole meshes of the first two rounds, the
    49 joints and the dense head are worked out beside it.
    """
    seen: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(_keep(seen, name)) for name, module in _hooked(net)]
    try:
        # one at a time: the pictures of a case may be large
        logits = CameraLogits(*(torch.cat(x) for x in zip(*(net.cam_model(p[None]) for p in pictures), strict=True)))
        camera = angles(logits)
        R_camera_level = geometry.camera_rotation(camera.pitch, camera.roll)
        prediction = net(crops, boxes, R_camera_level)
    finally:
        for hook in hooks:
            hook.remove()
    backbone = torch.cat([seen.pop(name) for name in list(seen) if name.startswith("cam_backbone")])
    seen |= {
        "cam_backbone": backbone,
        "cam_feat": backbone.mean((2, 3)),
        "tz_pool": seen["tz_block"].mean(1)[..., None],
    }
    for name, x, angle in zip(("vfov", "pitch", "roll"), logits, camera, strict=True):
        seen |= {f"cam_logits_{name}": x, f"cam_{name}": angle}
    for name, x in zip(("u", "v", "uv_index", "ann_index"), net.dp_head(seen["deconv2"]), strict=True):
        seen[f"dp_predict_{name}"] = x
    render = geometry.rendering_rotation(camera.pitch, camera.roll)
    seen |= _initial(net, len(boxes)) | _rounds(net, prediction, boxes) | {"out_render_rotmat": render}
    return seen | _outputs(prediction, R_camera_level)


def _hooked(net: WHMR) -> list[tuple[str, nn.Module]]:
    vit = net.vit
    modules = [("patch_conv", vit.patch_embed["proj"]), ("vit_feat", vit), ("cam_backbone", net.cam_model.backbone)]
    modules += [(f"vit_block{i}", block) for i, block in enumerate(vit.blocks)]
    modules += [(f"deconv{i}", net.deconv_layers[3 * i + 2]) for i in range(3)]
    return [*modules, ("tz_conv", net.conv), ("tz_block", net.transformer_decoder), *_tz_hooked(net)]


def _tz_hooked(net: WHMR) -> list[tuple[str, nn.Module]]:
    return [("tz_bn", net.est_Tz[2]), ("tz_sigmoid", net.est_Tz[3])]


def _keep(seen: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, given: Any, output: Tensor) -> None:
        seen[name if name not in seen else f"{name}.{len(seen)}"] = output

    return hook


def _initial(net: WHMR, batch: int) -> dict[str, Tensor]:
    state = net.regressors[0].initial(batch)
    Rs = state.pose.reshape(-1, 24, 3, 3)
    vertices, skeleton = posed(net.smpl.rig(), state.shape, Rs)
    joints = net.smpl.joints49(vertices, skeleton)
    return {
        "init_rotmat": Rs,
        "init_pred_shape": state.shape,
        "init_pred_cam": state.cam,
        "init_kp_2d": geometry.project_crop(joints, state.cam),
        "init_kp_3d": joints,
        "init_markers": vertices[:, net.marker_ids],
    }


def _rounds(net: WHMR, prediction: Prediction, boxes: Tensor) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for i, (regressor, r) in enumerate(zip(net.regressors, prediction.rounds, strict=True)):
        d = describe(regressor, r, prediction.Tz, boxes, 2)
        pose = geometry.axis_angle_from_rotation(r.Rs).flatten(1)
        named |= {f"maf{i}_points": r.points, f"maf{i}_raw": r.sampled, f"maf{i}_feat": r.feature}
        values = {
            "rotmat": r.Rs,
            "pred_shape": d.shape,
            "pred_cam": d.cam,
            "pred_cam_t": d.t_camera,
            "focal_length": d.focal,
            "pose": pose,
            "pred_pose": r.state.pose,
            "kp_2d": d.crop_points,
            "kp_2d_w": d.frame_points,
            "kp_3d": d.joints,
            "smpl_kp_3d": net.smpl.joints45(d.vertices),
            "markers": d.vertices[:, net.marker_ids],
            "verts": d.vertices,
            "sub_verts": d.middle,
            "temp_verts": d.coarse,
            "theta": torch.cat([d.cam, d.shape, pose], 1),
            "pelvis": net.smpl.joints45(d.vertices)[:, :1],
            "body_feat": r.body_feature(boxes),
        }
        named |= {f"reg{i}_{name}": value for name, value in values.items()}
    return named


def _outputs(p: Prediction, R_camera_level: Tensor) -> dict[str, Tensor]:
    Rs_level = torch.cat([p.R_level_root[:, None], p.Rs[:, 1:]], 1)
    return {
        "Tz": p.Tz,
        "go_cam_rotmat": R_camera_level,
        "go_local": p.Rs[:, 0],
        "global_root_rotmat": p.R_level_root[:, None],
        "out_local_smpl_vertices": p.vertices,
        "out_smpl_vertices": p.level_vertices,
        "out_pred_cam_t": p.t_camera,
        "out_focal_length": p.focal,
        "out_cam_rotmat": R_camera_level,
        "out_shape": p.betas,
        "out_global_pose": geometry.axis_angle_from_rotation(Rs_level).flatten(1),
        "out_local_pose": geometry.axis_angle_from_rotation(p.Rs).flatten(1),
    }
