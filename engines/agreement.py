"""How far W-HMR's engines are from others of the same weights, in what a user sees: mm, degrees, focal length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engines.runtime import Engine
from engines.whmr import geometry
from engines.whmr.parts import example

#: What half precision may cost: vertices and joints, rotations of joints and camera, focal length.
LIMITS = {"vertices_mm": 2.0, "joints_mm": 2.0, "rotation_deg": 0.3, "camera_deg": 0.3, "focal_pct": 1.0}
Arrays = Mapping[str, NDArray[Any]]


def arrays(name: str, batch: int, seed: int = 0, size_wh: tuple[int, int] = (800, 600)) -> dict[str, NDArray[Any]]:
    """The example inputs of the engine `name`, `engines.whmr.parts.example`, as arrays."""
    return {key: value.numpy() for key, value in example(name, batch, seed, size_wh).items()}


def differences(
    reference: Mapping[str, Engine], other: Mapping[str, Engine], batch: int, seed: int = 0
) -> dict[str, float]:
    """The largest differences by the names of `LIMITS`, over `batch` people; an engine `other` lacks is not compared.

    What `body` gives is passed on to `regress` or `joints`, as in use; one of them it needs for all but camera_deg.
    """
    found: dict[str, float] = {}
    if "camera" in other:
        feed = arrays("camera", 1, seed)
        a, b = (np.array(e["camera"](feed)["angles"]) for e in (reference, other))
        found["camera_deg"] = float(np.degrees(np.abs(a - b).max()))
    asked = [name for name in ("regress", "joints") if name in other]
    for last in asked or (["regress"] if "body" in other else []):
        ours, theirs = (_bodies(e, reference, last, batch, seed) for e in (reference, other))
        for name in ours.keys() & {"vertices", "joints"}:
            distance = np.linalg.norm(ours[name] - theirs[name], axis=-1).max()
            _raise_to(found, f"{name}_mm", 1e3 * float(distance))
        _raise_to(found, "rotation_deg", max(_angle_deg(ours[k], theirs[k]) for k in ("Rs", "R_level_root")))
        _raise_to(found, "focal_pct", 100 * float(np.abs(theirs["focal"] / ours["focal"] - 1).max()))
    return found


def _raise_to(found: dict[str, float], name: str, value: float) -> None:
    known = found.get(name, 0.0)
    # what is no number stays
    found[name] = value if not value <= known else known


def beyond(found: Mapping[str, float]) -> list[str]:
    """What exceeds `LIMITS`, or is no number, in words."""
    return [
        f"{name} {value:.3g} (limit {LIMITS[name]:g})" for name, value in found.items() if not value <= LIMITS[name]
    ]


def _bodies(engines: Mapping[str, Engine], fallback: Mapping[str, Engine], last: str, batch: int, seed: int) -> Arrays:
    body, regress = (engines[name] if name in engines else fallback[name] for name in ("body", last))
    feed = arrays(last, batch, seed)
    maps = {key: value.copy() for key, value in body(arrays("body", batch, seed)).items()}
    out = {k: v.copy() for k, v in regress(feed | {k: maps[k] for k in ("f1", "f2", "f3")}).items()}
    cam, boxes, Tz = (torch.from_numpy(x) for x in (out["cam"], feed["boxes"], maps["Tz"]))
    return out | {"focal": geometry.focal_px(cam[:, 0], boxes[:, 2], Tz).numpy()}


def _angle_deg(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest angle between rotations (..., 3, 3); by the chord, which is exact for small ones."""
    chord = np.linalg.norm(a.astype(np.float64) - b.astype(np.float64), axis=(-2, -1)) / np.sqrt(8)
    return float(np.degrees(2 * np.arcsin(np.clip(chord, 0, 1))).max())
