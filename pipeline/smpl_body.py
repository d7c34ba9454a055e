"""A user's own SMPL file as a BodyModel, read through the package `smplx`.

`smplx` and SMPL's files carry licences for non-commercial use; nothing here is imported unless the user names one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.body import BodyModel
from pipeline.frames import Array
from pipeline.types import JOINT_PARENTS

_FIELDS = ("v_template", "f", "weights", "posedirs", "shapedirs", "J_regressor", "kintree_table")
_N_BETAS = 10


def load_smpl(file: Path) -> BodyModel:
    """The SMPL model in `file` (.pkl or .npz) with its first ten betas and its pose-dependent surface.

    A .pkl file is a pickle, which can run code: name only files you trust. The landmarks are the default body's,
    placed by SMPL's joints. Raises ValueError when the file is not an SMPL model, OSError when it cannot be read,
    ImportError when `smplx` is not installed.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected an SMPL model file (.pkl or .npz), found none; --body smpl=FILE.")
    smplx = _import_smplx()
    data = _read(file)
    struct = smplx.utils.Struct(**data)
    with contextlib.redirect_stdout(io.StringIO()):
        layer = smplx.SMPL(str(file), data_struct=struct, num_betas=_N_BETAS)
    arrays = {
        name: getattr(layer, name).numpy().astype(np.float64)
        for name in ("v_template", "shapedirs", "J_regressor", "lbs_weights", "posedirs")
    }
    if tuple(int(p) for p in layer.parents) != JOINT_PARENTS:
        raise ValueError(f"{file}: expected SMPL's 24 joints, got another skeleton (SMPL-H and SMPL-X are not read).")
    return from_arrays(
        arrays, np.asarray(layer.faces), file.name, f"SMPL model file {file.name}, under its own licence"
    )


def from_arrays(arrays: Mapping[str, Array], faces: NDArray[Any], name: str, credit: str) -> BodyModel:
    """The BodyModel of SMPL's arrays: v_template, shapedirs (V, 3, B), J_regressor, lbs_weights and posedirs.

    Its landmarks are the default body's, placed by its joints.
    """
    vertices, dirs, regressor = arrays["v_template"], arrays["shapedirs"], arrays["J_regressor"]
    crown, sole = int(vertices[:, 1].argmax()), int(vertices[:, 1].argmin())
    model = BodyModel(
        name=name,
        faces=faces.astype(np.int32),
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
        credit=credit,
    )
    return scaled_landmarks(model)


def _import_smplx() -> Any:
    try:
        import smplx
        import smplx.utils
    except ImportError as e:
        raise ImportError(
            "Reading an SMPL file needs the package smplx (its licence allows non-commercial use only): "
            "pip install smplx, or leave out --body to use the project's own body."
        ) from e
    return smplx


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as handle:
            if file.suffix == ".npz":
                with np.load(handle, allow_pickle=True) as z:
                    data = {k: z[k] if z[k].dtype != object else z[k].item() for k in z.files}
            else:
                data = pickle.load(handle, encoding="latin1")
    except ModuleNotFoundError as e:
        raise ValueError(
            f"{file}: this SMPL file is in an old form that needs the package {e.name} to be read; "
            "install it once or convert the file to .npz."
        ) from e
    except (ValueError, pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError) as e:
        raise ValueError(f"{file}: expected an SMPL model (.pkl or .npz), got a file that cannot be read: {e}.") from e
    missing = [k for k in _FIELDS if not (isinstance(data, dict) and k in data)]
    if missing:
        raise ValueError(f"{file}: expected an SMPL model with {', '.join(_FIELDS)}; {', '.join(missing)} missing.")
    joints = np.asarray(data["kintree_table"]).shape[-1]
    if joints != len(JOINT_PARENTS):
        raise ValueError(f"{file}: expected SMPL's 24 joints, got {joints} (SMPL-H and SMPL-X are not read).")
    return data


def scaled_landmarks(model: BodyModel) -> BodyModel:
    """`model` with the default body's landmarks, placed by its own joints and its own stature.

    For bodies that bring a skeleton but no landmarks: each landmark keeps the default body's offset from its joint,
    scaled by the ratio of the statures.
    """
    default = BodyModel.load()
    at = default.landmark_joint
    offsets = (default.landmarks - default.joints[at]) * (model.stature_m / default.stature_m)
    return dataclasses.replace(
        model,
        landmarks=model.joints[at] + offsets,
        landmarks_dirs=model.joints_dirs[at] + offsets[..., None] * (model.stature_dirs / model.stature_m),
        landmark_joint=at,
    )
