"""W-HMR from crops to bodies: our engines against the released forward's cost structure, at equal outputs."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import released_cost
from benchmarks.engine_timing import Arrays, Row, Variant, opened, parity, summary, timed
from engines.runtime import DeviceEngine, EngineError
from engines.whmr import geometry
from engines.whmr.network import WHMR, turned
from engines.whmr.parts import example

RELEASED, CAMERA = "released structure", "camera net, one picture"
MAPS = ("f1", "f2", "f3")
log = logging.getLogger(__name__)


def measure_whole(net: WHMR, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """The whole network: the released cost structure, our modules, and our engines, at equal outputs.

    On a GPU times include the crops' way to it and the bodies' way back.
    """
    device = torch.device(options.device)
    chains: dict[Variant, Chain] = {}
    for variant in options.variants:
        try:
            chains[variant] = Chain(net, folder, variant, options)
        except EngineError as e:
            log.warning("whole on %s in %s is left out: %s", *variant, e)
    # after the engines were made, which are made of a network on the CPU
    net.to(device)
    with torch.inference_mode():
        for batch in options.batches:
            picture = example("camera", 1)["picture"].to(device)
            crops, boxes = example("body", batch)["crops"], example("regress", batch)["boxes"]
            angles = net.camera(picture)
            level = geometry.camera_rotation(angles.pitch, angles.roll).expand(batch, 3, 3).contiguous()
            given = (crops.to(device), picture.expand(batch, -1, -1, -1).contiguous(), boxes.to(device))
            feed = {"crops": crops.numpy(), "boxes": boxes.numpy(), "R_camera_level": level.cpu().numpy()}
            calls: dict[str, Callable[[], Any]] = {
                RELEASED: lambda g=given: _waited(released_cost.forward(net, *g)),  # type: ignore[misc]
                CAMERA: lambda p=picture: _waited({"": net.camera(p).pitch}),  # type: ignore[misc]
            }
            calls |= {_title(v): lambda c=c, f=feed: c(f) for v, c in chains.items()}  # type: ignore[misc]
            expected = _waited(released_cost.forward(net, *given))
            errors = {_title(v): difference(c(feed), expected, feed) for v, c in chains.items()}
            yield from _rows(timed(calls, options), errors, batch, options.camera_every)
    for chain in chains.values():
        chain.close()


def _title(variant: Variant) -> str:
    return f"ours {variant[0]} {variant[1]}"


def _waited(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On the host, which waits for the device."""
    return {key: value.cpu() for key, value in values.items()}


def _rows(
    times: Mapping[str, NDArray[np.float64]], errors: Mapping[str, float], batch: int, camera_every: int
) -> Iterator[Row]:
    released, camera = times[RELEASED], times[CAMERA]
    for name, t in times.items():
        spent = t + (np.median(camera) / camera_every if name.startswith("ours") else 0.0)
        row = {"engine": "whole", "backend": name, "batch": batch, **summary(spent, released)}
        yield row | {"per_second": round(batch / float(np.median(spent)), 2), "parity": errors.get(name)}


class Chain:
    """`body` and then `regress` in one variant."""

    def __init__(self, net: WHMR, folder: Path, variant: Variant, options: argparse.Namespace) -> None:
        self._device = torch.device(options.device)
        self.body, self.regress = (opened(net, folder, name, variant, options) for name in ("body", "regress"))

    def __call__(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        """crops, boxes and R_camera_level -> what both give."""
        if self._device.type == "cuda" and all(hasattr(e, "on_device") for e in (self.body, self.regress)):
            return self._on_device(feed)
        maps = self.body({"crops": feed["crops"]})
        given = {k: maps[k] for k in MAPS} | {k: feed[k] for k in ("boxes", "R_camera_level")}
        return self.regress(given) | {"Tz": maps["Tz"]}

    def _on_device(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        tensors = {k: torch.from_numpy(v).to(self._device, non_blocking=True) for k, v in feed.items()}
        body, regress = cast(DeviceEngine, self.body), cast(DeviceEngine, self.regress)
        maps = body.on_device({"crops": tensors.pop("crops")})
        out = regress.on_device({k: maps[k] for k in MAPS} | tensors) | {"Tz": maps["Tz"]}
        return {k: v.cpu().numpy() for k, v in out.items()}

    def close(self) -> None:
        """Closes both."""
        self.body.close()
        self.regress.close()


def difference(ours: Arrays, released: Mapping[str, torch.Tensor], feed: Arrays) -> float:
    """`parity` of what the released forward gives: meshes in both frames, focal length, translation."""
    got = {k: torch.from_numpy(v) for k, v in ours.items()}
    boxes = torch.from_numpy(feed["boxes"])
    found = {
        "vertices": got["vertices"],
        "level_vertices": turned(got["vertices"], got["joints"][:, :1], got["R_level_root"], got["Rs"][:, 0]),
        "focal": geometry.focal_px(got["cam"][:, 0], boxes[:, 2], got["Tz"]),
        "t_camera": geometry.camera_translation(got["cam"], boxes, got["Tz"]),
    }
    return parity({k: v.numpy() for k, v in found.items()}, {k: v.numpy() for k, v in released.items()})
