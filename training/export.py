"""The trained networks as files that ship: `python -m training.export --work DIR`.

Writes pipeline/data/landmark_net.onnx and orient_correct.onnx, which the stream opens, and weights.safetensors, from
which training can go on. The weights lie in the latter only, in half precision: the ONNX files say where in it, as
external data, and compute in fp32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.body import BodyModel
from pipeline.types import JOINT_PARENTS
from training.network import CORRECTOR_INPUTS, HIPS, INPUTS, STATURE_M, LandmarkNet, OrientCorrect, rotation_from_6d
from training.train import CONFIG, new_network

WEIGHTS_FILE = "weights.safetensors"
DATA = Path(__file__).parents[1] / "pipeline" / "data"
OUTPUTS = ("Rs_6d", "betas", "weak_camera", "landmarks_m", "log_sigma_m", "up_ray", "log_kappa", "log_distance",
           "log_focal", "labelled_focal", "feature", "box")  # fmt: skip
_POINTS, _SIZE = (list(INPUTS).index(name) for name in ("points_px", "size_wh"))


class RestBody(nn.Module):
    """Landmarks of the project's body at STATURE_M, as `training.losses.Bodies`, for any batch of an exported graph."""

    joints: Tensor
    joints_dirs: Tensor
    landmarks: Tensor
    landmarks_dirs: Tensor
    stature_dirs: Tensor

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        for name in ("joints", "joints_dirs", "landmarks", "landmarks_dirs", "stature_dirs"):
            self.register_buffer(name, torch.tensor(getattr(body, name), dtype=torch.float32), persistent=False)
        self.at = [int(i) for i in body.landmark_joint]
        self.parents = [max(parent, 0) for parent in JOINT_PARENTS]
        self.levels = [[0]]
        while above := [joint for joint in range(1, 24) if JOINT_PARENTS[joint] in self.levels[-1]]:
            self.levels.append(above)
        order = [joint for level in self.levels for joint in level]
        self.found_at = [order.index(joint) for joint in self.at]
        self.stature_m = body.stature_m

    def forward(self, Rs_6d: Tensor, betas: Tensor) -> Tensor:
        """(B, 33, 3) about the hips' middle, of rotations (B, 24, 6), root first, and shapes (B, 10)."""
        Rs = rotation_from_6d(Rs_6d)
        first = (STATURE_M - self.stature_m - betas[:, 1:] @ self.stature_dirs[1:]) / self.stature_dirs[0]
        b = torch.cat([first[:, None], betas[:, 1:]], 1)
        joints = self.joints + (b @ self.joints_dirs.flatten(0, 1).T).unflatten(1, (24, 3))
        marks = self.landmarks + (b @ self.landmarks_dirs.flatten(0, 1).T).unflatten(1, (33, 3))
        bones = (joints - joints[:, self.parents])[..., None]
        turned, places = [Rs[:, :1]], [0.0 * joints[:, :1]]
        # All joints equally far from the root at once: few large steps cost less than many small ones
        for level, above in pairwise(self.levels):
            at = [level.index(JOINT_PARENTS[joint]) for joint in above]
            places.append(places[-1][:, at] + (turned[-1][:, at] @ bones[:, above])[..., 0])
            turned.append(turned[-1][:, at] @ Rs[:, above])
        R, place = torch.cat(turned, 1)[:, self.found_at], torch.cat(places, 1)[:, self.found_at]
        posed = place + (R @ (marks - joints[:, self.at])[..., None])[..., 0]
        return posed - 0.5 * (posed[:, HIPS[0]] + posed[:, HIPS[1]])[:, None]


class Exported(nn.Module):
    """The network with its outputs in the order of OUTPUTS.

    Landmarks are the mean of both branches, the hybrid; the focal length is the one that reprojection taught (the
    paper's weak supervision), with the spread of the head of labels.
    """

    def __init__(self, net: LandmarkNet) -> None:
        super().__init__()
        self.net = net
        self.body = RestBody(BodyModel.load())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `LandmarkNet`."""
        out = self.net(*inputs)
        out["landmarks_m"] = 0.5 * (out["landmarks_m"] + self.body(out["Rs_6d"], out["betas"]))
        taught = self.net.reprojected_focal(out, inputs[_POINTS][:, 0], inputs[_SIZE])
        out["log_focal"] = torch.stack([taught, out["labelled_focal"][:, 1]], 1)
        return tuple(out[name] for name in OUTPUTS)


def export(work: Path, config: dict[str, Any], out: Path) -> list[Path]:
    """Writes the files; returns their paths. Raises OSError where a stage's checkpoint is missing."""
    net = new_network(config)
    stage = "stage2" if (work / "stage2.pt").exists() else "stage1"
    net.load_state_dict(torch.load(work / f"{stage}.pt", weights_only=True)["average"])
    corrector = OrientCorrect(config["sizes"]["width"])
    if (work / "stage3.pt").exists():
        corrector.load_state_dict(torch.load(work / "stage3.pt", weights_only=True)["corrector"])
    net.eval()
    corrector.eval()
    n = config["sizes"]["width"]
    tensors = {f"net.{k}": v.half() for k, v in net.state_dict().items()}
    tensors |= {f"corrector.{k}": v.half() for k, v in corrector.state_dict().items()}
    files = [out / "landmark_net.onnx", out / "orient_correct.onnx", out / WEIGHTS_FILE]
    save_file(tensors, files[2])
    # As they will be read
    net.load_state_dict({k: v.float() for k, v in _part(tensors, "net.").items()})
    corrector.load_state_dict({k: v.float() for k, v in _part(tensors, "corrector.").items()})
    example = tuple(torch.rand(2, *shape) + 0.5 for shape in INPUTS.values())
    _write(Exported(net), example, list(INPUTS), list(OUTPUTS), files[0], "")
    eyes = torch.eye(3).repeat(2, 1, 1)
    example = (torch.rand(2, n), eyes, eyes, torch.rand(2, 3), torch.rand(2))
    _write(corrector, example, list(CORRECTOR_INPUTS), ["turn", "log_scale"], files[1], "corrector.")
    return files


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _write(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], file: Path, prefix: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, str(file), input_names=inputs, output_names=outputs, dynamo=False, opset_version=17,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
        )  # fmt: skip
    model = onnx.load(str(file))
    _point_to_weights(model, file.with_name(WEIGHTS_FILE), prefix)
    onnx.save(model, file)


def _point_to_weights(model: onnx.ModelProto, weights: Path, prefix: str) -> None:
    """Takes the weights out of a model: they are read from the .safetensors beside it, and widened to fp32."""
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    places = json.loads(data[8 : 8 + length])
    casts = []
    for tensor in model.graph.initializer:
        place = places.get(prefix + tensor.name)
        if place is None or place["shape"] != list(tensor.dims):
            continue
        start, end = place["data_offsets"]
        half = f"{tensor.name}.half"
        casts.append(onnx.helper.make_node("Cast", [half], [tensor.name], to=onnx.TensorProto.FLOAT))
        tensor.name, tensor.data_type = half, onnx.TensorProto.FLOAT16
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", 8 + length + start), ("length", end - start)):
            tensor.external_data.add(key=key, value=str(value))
    for node in reversed(casts):
        model.graph.node.insert(0, node)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of training.train's checkpoints")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    for file in export(options.work, tomllib.loads(options.config.read_text()), options.out):
        sys.stdout.write(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
