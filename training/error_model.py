"""How MediaPipe's landmarks err, learned from renders: true landmarks in, found ones out, without a picture.

A small network says of a true body before its camera what the landmark network will make of it on average and how
surely (`training.error_model_fit`). What it leaves over is taken from a bank of real residuals over time, of bodies
seen alike: so errors keep their correlations among landmarks, over time, and between image, depth and visibility.

    python -m training.error_model --report --work renders --model error_model.safetensors
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from training.error_geometry import N_MARKS, Views, exchanged
from training.error_network import (
    PLACED,
    SEEN,
    mirror_components,
    mirror_keys,
    placed_of,
    seen_of,
    targets_of,
    together,
    trunk,
    view_keys,
)

FORMAT = 4
#: Residuals of the bank are asinh(z) in steps of 1 / STEPS.
STEPS = 31.0
NEAREST_ROWS = 12
AT_ONCE = 960  # pictures


@dataclass(frozen=True, eq=False)
class Found:
    """What the landmark network found in B windows of T pictures.

    points_px   (B, T, 33, 2) pixels
    visibility  (B, T, 33) 0..1
    points_m    (B, T, 33, 3) metres of the network's own size, about the hips, axes of the ray through them
    found       (B, T) bool; where it is False the rest is what would have been said
    """

    points_px: Tensor
    visibility: Tensor
    points_m: Tensor
    found: Tensor


class LandmarkErrors:
    """The learned model; `load` it, then `sample` from it."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        """From the tensors of a file of `training.error_model_fit`."""
        whole = {k: v for k, v in tensors.items() if not k.startswith("bank_")}
        self.weights = {k: v.float() for k, v in whole.items()}
        z = tensors["bank_z"].float() / STEPS
        self._bank = torch.cat([z, z @ mirror_components(self.weights).T]).sinh()
        self._flips = tensors["bank_flips"].repeat(2, 1).long()
        keys = tensors["bank_keys"].float()
        self._bank_keys = torch.cat([keys, mirror_keys(keys)]) / self.weights["key_scale"]
        self._bank_norm = self._bank_keys.square().sum(-1)

    @classmethod
    def load(cls, path: str | Path) -> LandmarkErrors:
        """From a .safetensors file of `python -m training.error_model_fit`.

        Raises OSError when there is none, ValueError when it is another file or of another format.
        """
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: expected an error model; make it by `python -m training.error_model_fit`."
            )
        try:
            with safe_open(file, "pt") as opened:
                made = (opened.metadata() or {}).get("format")
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except Exception as e:
            raise ValueError(f"{file}: expected a file of `training.error_model_fit`, got {e}.") from e
        if made != f"landmark-errors {FORMAT}":
            wanted = f"landmark-errors {FORMAT}"
            raise ValueError(f"{file}: expected format {wanted}, got {made}; run `python -m training.error_model_fit`.")
        return cls(tensors)

    @torch.no_grad()
    def sample(
        self, landmarks_camera: Tensor, K: Tensor, size_wh: Tensor, stature_m: Tensor, t_s: Tensor,
        generator: torch.Generator, hidden_by_m: Tensor | None = None,
    ) -> Found:  # fmt: skip
        """What the landmark network might find of B people in T pictures each, taken at t_s (T,) or (B, T) seconds.

        landmarks_camera  (B, T, 33, 3) true landmarks, camera metres, before the camera
        K                 (B, 3, 3), pixels; size_wh (B, 2) pixels
        stature_m         (B,)
        hidden_by_m       (B, T, 33) how far each lies behind the surface that the camera sees there, nan where not
                          known; None: told from the body alone

        Same generator, same result. Raises ValueError when shapes do not fit.
        """
        B, T = _checked(landmarks_camera, K, size_wh, stature_m, t_s, hidden_by_m)
        times = t_s.expand(B, T).float()
        # As much at once as a processor's cache holds
        rows = max(1, AT_ONCE // max(T, 1))
        parts = []
        for k in range(0, max(B, 1), rows):
            a = slice(k, k + rows)
            hidden = None if hidden_by_m is None else hidden_by_m[a].float()
            views = Views.of(
                landmarks_camera[a].float(), K[a].float(), size_wh[a].float(), stature_m[a].float(), hidden
            )
            parts.append(self._sample(views, times[a], generator))
        return Found(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _sample(self, views: Views, t_s: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        B, T = t_s.shape
        w, features = self.weights, views.features()
        x, h = trunk(features, w)
        mean, log_sigma, logit = seen_of(x, h, w)
        keys = view_keys(features, mean, log_sigma, w)
        z, flips = self._residuals(keys.view(B, T, keys.shape[-1]).mean(1), t_s, g)
        z = z.flatten(0, 1)
        # No error is larger than any was
        low, high = w["limits"]
        seen = mean + (log_sigma.exp() * z[:, SEEN]).clamp(low[SEEN], high[SEEN])
        mean, log_sigma = placed_of(x, h, seen, w)
        placed = mean + (log_sigma.exp() * z[:, PLACED]).clamp(low[PLACED], high[PLACED])
        targets = targets_of(together(placed, seen), w)
        px, visibility, metres = (exchanged(v, flips.flatten()).unflatten(0, (B, T)) for v in views.decode(targets))
        return px, visibility, metres, self._found(logit.view(B, T), g)

    def _found(self, logit: Tensor, g: torch.Generator) -> Tensor:
        """(B, T) bool; pictures of one window are found or missed together more often than by chance."""
        B, T = logit.shape
        keep = self.weights["found_correlation"].clamp(0.0, 1.0)
        noise = keep.sqrt() * torch.randn(B, 1, generator=g) + (1 - keep).sqrt() * torch.randn(B, T, generator=g)
        return torch.special.ndtr(noise) < logit.sigmoid()

    def _steps(self, t_s: Tensor, g: torch.Generator) -> Tensor:
        """Where in the bank's sequences (B, T) times lie: begun anywhere they fit, half of them backwards."""
        B = len(t_s)
        last = self._bank.shape[1] - 1
        at = (t_s - t_s.amin(1, keepdim=True)) / float(self.weights["step_s"])
        room = (last - at.amax(1) + 1e-3).clamp_min(0.0).floor()
        at = at + (torch.rand(B, generator=g) * (room + 1)).floor().minimum(room)[:, None]
        # Beyond its end a sequence is played backwards
        at = last - (at % max(2 * last, 1) - last).abs()
        backwards = torch.rand(B, 1, generator=g) < 0.5
        return torch.where(backwards, last - at, at).clamp(0, last)

    def _residuals(self, keys: Tensor, t_s: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Whitened residuals (B, T, N_TARGETS) of views alike, and exchanged sides (B, T)."""
        B = len(t_s)
        scaled = keys / self.weights["key_scale"]
        far = self._bank_norm - 2.0 * scaled @ self._bank_keys.T
        near = far.topk(min(NEAREST_ROWS, len(self._bank)), dim=1, largest=False, sorted=False).indices

        def pick(columns: int) -> Tensor:
            at = torch.randint(near.shape[1], (B, columns), generator=g)
            return near[torch.arange(B)[:, None], at]

        at = self._steps(t_s, g)
        last = self._bank.shape[1] - 1
        row = pick(1)
        low = (at + 1e-4).floor().clamp_max(max(last - 1, 0))
        w = (at - low).clamp(0, 1)[..., None]
        i = low.long()
        flips = self._flips[row, at.round().long()]
        if not bool((w > 1e-3).any()):
            return self._bank[row, i], flips
        z = torch.lerp(self._bank[row, i], self._bank[row, (i + 1).clamp_max(last)], w)
        # The mean of two pictures trembles less than either: the rest is that of others
        kept = w * w + (1 - w) ** 2 + 2 * w * (1 - w) * self.weights["step_correlation"]
        others = self._bank[pick(t_s.shape[1]), torch.randint(last + 1, t_s.shape, generator=g)]
        return z + (1.0 - kept).clamp_min(0.0).sqrt() * others, flips


def _checked(
    landmarks: Tensor, K: Tensor, size_wh: Tensor, stature_m: Tensor, t_s: Tensor, hidden_by_m: Tensor | None
) -> tuple[int, int]:
    if landmarks.ndim != 4 or landmarks.shape[2:] != (N_MARKS, 3):
        raise ValueError(f"landmarks_camera: expected (B, T, 33, 3), got {tuple(landmarks.shape)}.")
    B, T = int(landmarks.shape[0]), int(landmarks.shape[1])
    wanted: dict[str, tuple[Tensor, list[tuple[int, ...]]]] = {
        "K": (K, [(B, 3, 3)]),
        "size_wh": (size_wh, [(B, 2)]),
        "stature_m": (stature_m, [(B,)]),
        "t_s": (t_s, [(T,), (B, T)]),
    }
    if hidden_by_m is not None:
        wanted["hidden_by_m"] = (hidden_by_m, [(B, T, N_MARKS)])
    for name, (value, shapes) in wanted.items():
        if tuple(value.shape) not in shapes:
            raise ValueError(f"{name}: expected {' or '.join(map(str, shapes))}, got {tuple(value.shape)}.")
    return B, T


def main(arguments: list[str] | None = None) -> int:
    """Prints how well the model matches renders that it was not fitted on; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.error_model", description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m training.error_model --report --work renders --model error_model.safetensors",
    )  # fmt: skip
    parser.add_argument("--report", action="store_true", required=True, help="compare model and renders, print tables")
    parser.add_argument("--work", type=Path, required=True, nargs="+", help="folders of renders")
    parser.add_argument("--model", type=Path, required=True, help="file of `python -m training.error_model_fit`")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="real clips with joint truth")
    parser.add_argument("--into", type=Path, help="also put the tables into this file, below the line that says so")
    options = parser.parse_args(arguments)
    from training.error_model_report import put_into, report

    tables = report(options.work, LandmarkErrors.load(options.model), options.clips)
    sys.stdout.write(tables)
    if options.into is not None:
        put_into(options.into, tables)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
