"""The body model inside W-HMR's weights as a BodyModel, so that joints, betas and rotations are of one body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.body import BodyModel
from pipeline.smpl_body import scaled_landmarks


def body_of(smpl: Mapping[str, NDArray[Any]], name: str) -> BodyModel:
    """The BodyModel of SMPL's arrays by their names, from v_template and shapedirs (V, 3, 10) to faces_tensor.

    Its landmarks are the default body's, placed by its joints.
    """
    arrays = {key: np.asarray(value, dtype=np.float64) for key, value in smpl.items() if key != "faces_tensor"}
    vertices, dirs, regressor = arrays["v_template"], arrays["shapedirs"], arrays["J_regressor"]
    crown, sole = int(vertices[:, 1].argmax()), int(vertices[:, 1].argmin())
    model = BodyModel(
        name=name,
        faces=smpl["faces_tensor"].astype(np.int32),
        vertices=vertices,
        vertices_dirs=dirs,
        weights=arrays["lbs_weights"],
        joints=regressor @ vertices,
        joints_dirs=np.tensordot(regressor, dirs, 1),
        landmarks=np.zeros((33, 3)),
        landmarks_dirs=np.zeros((33, 3, dirs.shape[-1])),
        landmark_joint=np.zeros(33, dtype=np.int64),
        stature_m=float(vertices[crown, 1] - vertices[sole, 1]),
        stature_dirs=dirs[crown, 1] - dirs[sole, 1],
        pose_dirs=arrays["posedirs"],
        credit=f"the SMPL model inside {name}, under the licence of those weights",
    )
    return scaled_landmarks(model)
