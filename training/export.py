"""The trained networks as files that ship: `python -m training.export --work DIR`.

Writes pipeline/data/landmark_net.onnx and orient_correct.onnx, which the stream opens, and landmark_net.safetensors
(half precision), from which training can go on.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.network import N_TAPS, LandmarkNet, OrientCorrect
from training.train import CONFIG, new_network

DATA = Path(__file__).parents[1] / "pipeline" / "data"
INPUTS = {"points_px": (N_TAPS, 33, 2), "visibility": (N_TAPS, 33), "points_m": (N_TAPS, 33, 3), "ages_s": (N_TAPS,),
          "size_wh": (2,)}  # fmt: skip
OUTPUTS = ("Rs_6d", "betas", "weak_camera", "points_m", "log_sigma_m", "up_ray", "log_kappa", "log_distance", "log_focal",
           "feature", "box")  # fmt: skip


class Exported(nn.Module):
    """The network with its outputs in the order of OUTPUTS."""

    def __init__(self, net: LandmarkNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `LandmarkNet`."""
        out = self.net(*inputs)
        return tuple(out[name] for name in OUTPUTS)


def export(work: Path, config: dict, out: Path) -> list[Path]:  # type: ignore[type-arg]
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
    files = [out / "landmark_net.onnx", out / "orient_correct.onnx", out / "landmark_net.safetensors"]
    example = tuple(torch.rand(2, *shape) + 0.5 for shape in INPUTS.values())
    _write(Exported(net), example, list(INPUTS), list(OUTPUTS), files[0])
    inputs = ["feature", "R_world_camera", "R_camera_root", "up_camera", "log_kappa"]
    example = (
        torch.rand(2, n),
        torch.eye(3).repeat(2, 1, 1),
        torch.eye(3).repeat(2, 1, 1),
        torch.rand(2, 3),
        torch.rand(2),
    )
    _write(corrector, example, inputs, ["turn", "log_scale"], files[1])
    tensors = {f"net.{k}": v.half() for k, v in net.state_dict().items()}
    tensors |= {f"corrector.{k}": v.half() for k, v in corrector.state_dict().items()}
    save_file(tensors, files[2])
    return files


def _write(module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, str(file), input_names=inputs, output_names=outputs, dynamo=False, opset_version=17,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
        )  # fmt: skip


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
