"""The body model inside W-HMR's weights as a BodyModel, so that joints, betas and rotations are of one body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.body import BodyModel
from pipeline.smpl_body import from_arrays


def body_of(smpl: Mapping[str, NDArray[Any]], name: str) -> BodyModel:
    """The BodyModel of SMPL's arrays by their names, from v_template and shapedirs (V, 3, 10) to faces_tensor.

    Its landmarks are the default body's, placed by its joints.
    """
    arrays = {key: np.asarray(value, dtype=np.float64) for key, value in smpl.items() if key != "faces_tensor"}
    credit = f"the SMPL model inside {name}, under the licence of those weights"
    return from_arrays(arrays, smpl["faces_tensor"], name, credit)
