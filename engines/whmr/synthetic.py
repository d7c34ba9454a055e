"""The network with a made-up body and deterministic weights: for parity, and to try the plumbing without weights.

Poses mean nothing. Sizes, names and times are those of the released network.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.whmr import checkpoint, synthetic_body
from engines.whmr.geometry import rotation_from_6d
from engines.whmr.maf import grid_points
from engines.whmr.network import WHMR, Config
from engines.whmr.smpl import EXTRA_VERTICES, PARENTS

#: Threads that draw weights; NumPy lets go of the interpreter while it draws.
WORKERS = 2


@cache
def body() -> dict[str, Any]:
    """The arrays of `synthetic_body.make_body`, made once (0.6 s)."""
    return synthetic_body.make_body()


def build(salt: str = "", config: Config | None = None) -> WHMR:
    """The network on the CPU in eval mode: the synthetic body, every weight by `synthetic_body.fill_array`."""
    return checkpoint.assemble(state(salt, config), torch.from_numpy(body()["ssm"]), config)


def state(salt: str = "", config: Config | None = None) -> dict[str, Tensor]:
    """The tensors of such a network by name, as a checkpoint has them."""
    released = Config(depth=config.depth) if config else None
    known = body_tensors()
    wanted = checkpoint.expected(released)

    def tensor(name: str) -> Tensor:
        like = wanted[name]
        drawn = synthetic_body.fill_array(name, like.shape, like.is_floating_point(), salt)
        if drawn is not None:
            return torch.from_numpy(drawn)
        last = name.rsplit(".", 1)[-1]
        value = known[last] if last in known else torch.zeros(like.shape)
        if name == "global_orient.init_pose":
            value = value[:, :9]
        return value.to(like.dtype).contiguous()

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(wanted, pool.map(tensor, wanted), strict=True))


def body_tensors() -> dict[str, Tensor]:
    """Last part of a tensor's name -> its value, for all that the weight rule leaves alone and is not zero."""
    b = body()
    mean, (middle, coarse) = b["mean_params"], [d.tocsr() for d in b["D"]]
    pose = rotation_from_6d(torch.from_numpy(mean["pose"]).reshape(24, 6)).reshape(1, -1)
    arrays = {
        **{name: b[name] for name in ("v_template", "shapedirs", "J_regressor", "J_regressor_extra")},
        "lbs_weights": b["weights"],
        "posedirs": b["posedirs"].reshape(-1, b["posedirs"].shape[-1]).T,
        "faces_tensor": b["f"].astype(np.int64),
        "parents": np.array(PARENTS),
        "extra_joints_idxs": np.array(EXTRA_VERTICES),
        "init_shape": mean["shape"][None],
        "init_cam": mean["cam"][None],
        **{"Dmap0": middle.toarray(), "Dmap1": coarse.toarray(), "Dmap": (coarse @ middle).toarray()},
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    return tensors | {"init_pose": pose, "points_grid": grid_points()}
