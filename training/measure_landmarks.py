"""Measures where MediaPipe's landmarks lie and how they err: `python -m training.measure_landmarks --work DIR`.

DIR holds the shards of training.landmark_renders. Writes `training/landmark_points.json` (read by
training.bake_body), `pipeline/data/landmark_model.json` (read by pipeline.landmark_model) and docs/landmarks.png, and
prints the tables of docs/landmarks.md.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.frames import Array
from pipeline.landmark_model import DEFAULT_FILE, FORMAT, LandmarkModel, depth_as_found, unbiased_points
from pipeline.types import LANDMARK_NAMES
from training.bake_body import POINTS_FILE
from training.landmark_depth import features, fit_depth_map
from training.landmark_fit import (
    GROUPS,
    OTHER,
    VISIBILITY_EDGES,
    Looks,
    Scaled,
    depth_law,
    fit_points,
    leak_of,
    perspective_law,
    regression,
    robust_sigma,
)
from training.landmark_focal import law_focal, rigid_focal, windows

log = logging.getLogger(__name__)
_BINS = tuple(pairwise(VISIBILITY_EDGES))
_SCORED = np.array([11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])


def _rounded(value: Any, digits: int = 4) -> Any:
    return np.round(np.asarray(value, dtype=float), digits).tolist()


def measure_points(looks: Looks) -> tuple[Array, dict[str, Any]]:
    """Offsets (33, 3) of the landmarks and what goes into landmark_points.json."""
    offsets, table = fit_points(looks)
    for k, name in enumerate(LANDMARK_NAMES):
        if OTHER[k] >= k:
            log.info("%-16s %5d views, median %4.1f -> %4.1f mm, moved (mm of 1.7 m) %s", name, table[k, 0],
                     *(1000 * table[k, 1:]), np.round(1700 * offsets[k]))  # fmt: skip
    about = "Measured offset of each landmark from its anatomical guess: fractions of the stature, its joint's axes."
    return offsets, {"about": about, "offsets": dict(zip(LANDMARK_NAMES, _rounded(offsets, 5), strict=True))}


def _depth_of(looks: Looks, k: int) -> tuple[Array, Array, Array]:
    """Landmark k and its other side: found depth (n,), true depth, weights."""
    parts = []
    size = Scaled.of(looks).scale
    for j in (k, int(OTHER[k])):
        seen = (looks["visibility"][:, j] > 0.5) & looks.inside[:, j]
        off = np.linalg.norm(looks.error_m[:, j], axis=-1)
        parts.append((looks["points_m"][:, j, 2], looks.true_ray[:, j, 2] * size, seen * (off < 0.15)))
    found, true, w = (np.concatenate(p) for p in zip(*parts, strict=True))
    return found, true, w


def measure_errors(looks: Looks) -> dict[str, Any]:
    """What goes into landmark_model.json, landmark by landmark."""
    rows: dict[str, dict[str, Any]] = {}
    scaled = Scaled.of(looks)
    stature_px = looks["stature_m"] * looks["K"][:, 0, 0] / looks.middle[:, 2]
    group_of = {int(k): name for name, ks in GROUPS.items() for k in ks}
    laws = {name: perspective_law(looks, which)[0] for name, which in GROUPS.items()}
    depth_map = fit_depth_map(looks)
    guess = features(looks["points_m"]) @ depth_map.T
    across = (looks["points_m"] - looks.true_ray * scaled.scale[:, None, None])[..., :2]
    for k, name in enumerate(LANDMARK_NAMES):
        found, true, w = _depth_of(looks, k)
        (share,), _ = regression([true], found, w, 0.15)
        law = laws[group_of.get(k, "head" if k < 11 else "wrist")]
        own, mirrored = _binned(looks, stature_px, guess, k)
        both = [np.concatenate([a, b]) for a, b in zip(own, mirrored, strict=True)]
        pair = [k, int(OTHER[k])]
        seen = (looks["visibility"][:, pair] > 0.5) & looks.inside[:, pair]
        rows[name] = {
            "depth_share": _rounded(share),
            "assumed_nearness": _rounded(law[0]), "nearness_share": _rounded(law[1]),
            "sigma_across_m": _rounded(robust_sigma(across[:, pair][seen])),
            "sigma_along_m": _rounded(_filled([robust_sigma(b[:, 0]) for b in both])),
            "sigma_px_fraction": _rounded(_filled([robust_sigma(b[:, 1:]) for b in both])),
        }  # fmt: skip
    return {
        "format": FORMAT, "about": "How MediaPipe's landmarks err, from renders with known truth; docs/landmarks.md.",
        "pictures": len(looks), "visibility_edges": list(VISIBILITY_EDGES), "landmarks": rows,
        "depth_map": _rounded(depth_map),
    }  # fmt: skip


def _filled(values: list[float]) -> list[float]:
    """Bins that hold too little take the value of the next surer one."""
    out = list(values)
    for i in range(len(out) - 2, -1, -1):
        out[i] = out[i + 1] if np.isnan(out[i]) else out[i]
    for i in range(1, len(out)):
        out[i] = out[i - 1] if np.isnan(out[i]) else out[i]
    return out


def _binned(looks: Looks, stature_px: Array, guess: Array, k: int) -> tuple[list[Array], list[Array]]:
    """Residuals (n, 3) of depth (m) and both pixel coordinates (fractions) in each visibility bin, for both sides."""
    out: list[list[Array]] = []
    size = Scaled.of(looks).scale
    for j in (k, int(OTHER[k])):
        residual = np.column_stack(
            [guess[:, j] - looks.true_ray[:, j, 2] * size, looks.error_px[:, j] / stature_px[:, None]]
        )
        v = looks["visibility"][:, j]
        truly_inside = np.isfinite(looks["hidden_by_m"][:, j])
        parts = [residual[truly_inside & (v >= low) & (v < high + 1e-9 * (high == 1.0))] for low, high in _BINS]
        out.append([p if len(p) >= 15 else np.full((0, 3), np.nan) for p in parts])
    return out[0], out[1]


def print_laws(looks: Looks) -> None:
    """Perspective and depth by group, view, elevation and distance."""
    everything = np.concatenate(list(GROUPS.values()))
    distance = np.linalg.norm(looks.middle, axis=1)
    up = np.einsum("nji,nj->ni", looks.Rs_camera_ray, looks["up_camera"])
    down = np.degrees(np.arctan2(-up[:, 2], -up[:, 1]))
    slices: list[tuple[str, Any, Any]] = [(name, ks, None) for name, ks in GROUPS.items()]
    slices += [(f"chest {n}", everything, (looks.toward > a) & (looks.toward <= b))
               for n, a, b in (("front", 0.6, 1.01), ("side", -0.6, 0.6), ("back", -1.01, -0.6))]  # fmt: skip
    slices += [(f"seen from {a}..{b} deg above", everything, (down >= a) & (down < b))
               for a, b in ((-60, -10), (-10, 10), (10, 30), (30, 75))]  # fmt: skip
    slices += [(f"{a}..{b} m away", everything, (distance >= a) & (distance < b))
               for a, b in ((1, 2.5), (2.5, 3.5), (3.5, 5), (5, 9))]  # fmt: skip
    for name, which, rows in [("all", everything, None), *slices]:
        (assumed, share), _ = perspective_law(looks, which, rows)
        depth = depth_law(looks, which, rows)
        leak = leak_of(looks, which, rows)
        log.info("%-28s assumed nearness %.3f/m, share of the true one %.2f; leak (xy) %.2f; depth share %.2f (%.0f mm)"
                 ", gain %.2f (%.0f mm)", name, assumed, share, leak, depth[0], 1000 * depth[1], depth[2],
                 1000 * depth[3])  # fmt: skip


def print_size(looks: Looks) -> None:
    """What size the network gives to people of any stature."""
    size = Scaled.of(looks).scale * looks["stature_m"]
    slope = np.polyfit(np.log(looks["stature_m"]), np.log(size), 1)[0]
    low, middle, high = np.percentile(size, [10, 50, 90])
    log.info("stature found: median %.2f m, 80 %% within %.2f..%.2f; statures %.2f..%.2f; found ~ true ^ %.2f", middle,
             low, high, looks["stature_m"].min(), looks["stature_m"].max(), slope)  # fmt: skip


def print_tilts(looks: Looks) -> None:
    """How far bodies that stand lean along the viewing ray, found against true."""

    def tilt(points: Array) -> Array:
        hips = points[:, 23:25].mean(1)
        axis = points[:, 11:13].mean(1) - hips + 2 * (hips - points[:, 27:29].mean(1))
        return np.degrees(np.arctan2(axis[:, 2], -axis[:, 1]))

    up = np.einsum("nji,nj->ni", looks.Rs_camera_ray, looks["up_camera"])
    true, found = tilt(looks.true_ray), tilt(looks["points_m"])
    standing = (np.abs(true - np.degrees(np.arctan2(up[:, 2], -up[:, 1]))) < 20) & np.isin(
        looks["kind"], ["stand", "walk", "reach", "cmu"]
    )
    standing &= looks.weights[:, _SCORED].all(1)
    for name, low, high in (("all", -1.1, 1.1), ("front", 0.6, 1.1), ("side", -0.6, 0.6), ("back", -1.1, -0.6)):
        m = standing & (looks.toward > low) & (looks.toward <= high)
        a, b = np.polyfit(true[m], found[m], 1), np.polyfit(found[m], true[m], 1)
        log.info("tilt, %-5s %4d bodies: found = %.2f true %+.1f deg; true = %.2f found %+.1f; correlation %.2f", name,
                 m.sum(), *a, *b, np.corrcoef(true[m], found[m])[0, 1])  # fmt: skip


def print_flips(found: Looks) -> dict[str, Any]:
    """Exchanged sides in the image and wrong depth order of left and right; returns the table."""
    out: dict[str, Any] = {}
    parts = {"whole body": np.arange(11, 33), "arms": np.arange(13, 17), "legs": np.arange(25, 29)}
    views = (("front", 0.6, 1.1), ("side", -0.6, 0.6), ("back", -1.1, -0.6))
    for part, which in parts.items():
        own, other = found.swapped_error(which)
        flipped = (other < 0.6 * own) & (own > 0.06)
        for view, low, high in views:
            m = (found.toward > low) & (found.toward <= high)
            seen = [float(np.median(found["visibility"][m & f][:, which])) for f in (flipped, ~flipped)]
            out[f"{part}, {view}"] = {"share": _rounded(flipped[m].mean()), "visibility": _rounded(seen, 2)}
            log.info("flips, %-18s %4.1f %% of %d; median visibility %.2f when flipped, %.2f otherwise",
                     f"{part}, {view}", 100 * flipped[m].mean(), m.sum(), *seen)  # fmt: skip
    for part in ("shoulder", "elbow", "wrist", "knee", "ankle"):
        left, right = GROUPS[part]
        true = found.true_ray[:, left, 2] - found.true_ray[:, right, 2]
        guess = found["points_m"][:, left, 2] - found["points_m"][:, right, 2]
        for low, high in ((0.1, 0.2), (0.2, 2.0)):
            m = (np.abs(true) > low) & (np.abs(true) <= high)
            wrong = (true * guess)[m] < 0
            log.info("which %s is nearer, %.1f..%.1f m apart in depth: wrong in %.1f %% of %d", part, low, high,
                     100 * wrong.mean(), m.sum())  # fmt: skip
    return out


def joint_errors(looks: Looks, points: Array, truth: Array) -> tuple[float, float]:
    """Mean distance of limb joints in mm: about the hips at the best scale, and after Procrustes (PA)."""
    w = looks.weights[:, _SCORED]
    keep = w.sum(1) >= 10
    P, T, w = points[keep][:, _SCORED], truth[keep][:, _SCORED], w[keep][..., None]
    P, T = (v - v[:, 6:8].mean(1, keepdims=True) for v in (P, T))
    s = (w * P * T).sum((1, 2)) / (w * P * P).sum((1, 2))
    plain = (w[..., 0] * np.linalg.norm(s[:, None, None] * P - T, axis=-1)).sum() / w.sum()
    P, T = (v - (w * v).sum(1, keepdims=True) / w.sum(1, keepdims=True) for v in (P, T))
    U, S, Vt = np.linalg.svd(np.swapaxes(w * P, 1, 2) @ T)
    sign = np.sign(np.linalg.det(U @ Vt))
    U[:, :, 2] *= sign[:, None]
    S[:, 2] *= sign
    s = S.sum(1) / (w * P * P).sum((1, 2))
    aligned = (w[..., 0] * np.linalg.norm(s[:, None, None] * P @ (U @ Vt) - T, axis=-1)).sum() / w.sum()
    return 1000 * float(plain), 1000 * float(aligned)


def print_held_out(looks: Looks, model: LandmarkModel) -> None:
    """Joint errors on the windows' people with the camera known: raw landmarks, and put on their rays."""
    truth = looks.truth - looks.middle[:, None]
    K = looks["K"][:, None]
    rays = (looks["points_px"] - K[..., :2, 2]) / K[..., 0, 0, None]
    plain = replace(model, depth_map=depth_as_found())
    turned = looks["points_m"] @ np.swapaxes(looks.Rs_camera_ray, 1, 2)
    rows = {
        "metric landmarks in the camera's axes": looks["points_m"],
        "metric landmarks in the ray's axes": turned,
        "on their rays, depth as found": unbiased_points(rays, looks["points_m"], looks.weights, plain),
        "on their rays, depth by the model": unbiased_points(rays, looks["points_m"], looks.weights, model),
    }
    for name, points in rows.items():
        log.info("%-40s MPJPE %.1f mm (best scale), PA-MPJPE %.1f mm", name, *joint_errors(looks, points, truth))


def print_focals(looks: Looks, model: LandmarkModel) -> None:
    """Focal lengths of the windows' cameras from the metric landmarks' perspective, over the true ones."""
    cameras = windows(looks)
    distance = np.log([np.linalg.norm(c.middle, axis=1).mean() for c in cameras])
    for name, focals in (
        ("rigid reprojection", [rigid_focal(c) for c in cameras]),
        ("perspective law inverted", [law_focal(c, model) for c in cameras]),
        ("everybody 4.4 m away", [c["K"][0, 0, 0] * 4.4 / np.linalg.norm(c.middle, axis=1).mean() for c in cameras]),
    ):
        ratio = np.log(np.array(focals) / [c["K"][0, 0, 0] for c in cameras])
        log.info("focal, %-26s %d cameras: log(f / true) median %+.2f, spread %.2f; with log distance %+.2f",
                 name, len(cameras), np.median(ratio), ratio.std(), np.corrcoef(ratio, distance)[0, 1])  # fmt: skip


def main() -> None:
    """Measures everything, writes the files, prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder with the shards of training.landmark_renders")
    parser.add_argument("--points", type=Path, default=POINTS_FILE)
    parser.add_argument("--model", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--plot", type=Path, help="docs/landmarks.png; needs matplotlib")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    everybody = Looks.load(args.work, "singles")
    looks = everybody.usable()
    log.info("%d pictures, %.1f %% found, %d usable", len(everybody), 100 * everybody["found"].mean(), len(looks))
    offsets, points = measure_points(looks)
    args.points.write_text(json.dumps(points, indent=1) + "\n")
    looks = replace(looks, points=offsets)
    print_laws(looks)
    print_size(looks)
    print_tilts(looks)
    model = measure_errors(looks)
    model["flips"] = print_flips(
        replace(everybody.where(everybody["found"] & (everybody["score"] > 0.5)), points=offsets)
    )
    args.model.write_text(json.dumps(model, indent=1) + "\n")
    held_out = replace(Looks.load(args.work, "windows").usable(), points=offsets)
    print_held_out(held_out, LandmarkModel.load(args.model))
    print_focals(held_out, LandmarkModel.load(args.model))
    if args.plot:
        from training.landmark_plot import plot

        plot(looks, held_out, LandmarkModel.load(args.model), args.plot)


if __name__ == "__main__":
    main()
