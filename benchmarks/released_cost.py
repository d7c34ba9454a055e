"""W-HMR as its released forward spends its time, built of our own modules, for comparison at equal outputs.

What it does and ours does not: the camera net for every person of every frame, the dense-correspondence head, whole
meshes with joints, projections and dense reductions for the mean body and after every round, OrientCorrect three times,
and the final mesh posed twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engines.whmr import geometry
from engines.whmr.network import WHMR
from engines.whmr.regressor import POSE
from engines.whmr.smpl import posed
from engines.whmr.supervision import describe

ORIENT_REPEATS = 3


@torch.inference_mode()
def forward(net: WHMR, crops: Tensor, pictures: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """Bodies of crops (B, 3, 256, 192), each with its whole picture (B, 3, H, W) and box (B, 5).

    Gives what is compared: vertices (B, 6890, 3), level_vertices (B, 6890, 3), focal (B), t_camera (B, 3).
    """
    camera = net.camera(pictures)
    R_camera_level = geometry.camera_rotation(camera.pitch, camera.roll)
    features = net.encode(crops)
    net.dp_head(features.f3)
    Tz = net.depth(features.f3)
    first = net.regressors[0].initial(len(boxes))
    mean, skeleton = posed(net.smpl.rig(), first.shape, first.pose.reshape(-1, POSE // 9, 3, 3))
    net.smpl.joints49(mean, skeleton)
    rounds = net.rounds(features, boxes, net.smpl.rig(net.marker_ids))
    for regressor, r in zip(net.regressors, rounds, strict=True):
        described = describe(regressor, r, Tz, boxes, 2)
        geometry.axis_angle_from_rotation(r.Rs)
        net.smpl.joints45(described.vertices)
    last = rounds[-1]
    seen = last.body_feature(boxes)
    for _ in range(ORIENT_REPEATS):
        root = geometry.orthonormal(net.global_orient(seen, R_camera_level, last.Rs[:, 0]))
    upright = torch.cat([root[:, None], last.Rs[:, 1:]], 1)
    level_vertices, _ = posed(net.smpl.rig(), last.state.shape, upright)
    geometry.axis_angle_from_rotation(upright)
    return {
        "vertices": described.vertices,
        "level_vertices": level_vertices,
        "focal": described.focal,
        "t_camera": described.t_camera,
    }
