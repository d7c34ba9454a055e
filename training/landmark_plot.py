"""The plot of docs/landmarks.md."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.landmark_model import LandmarkModel
from training.landmark_fit import GROUPS, Looks, Scaled, centred
from training.landmark_focal import rigid_focal, windows


def plot(looks: Looks, held_out: Looks, model: LandmarkModel, file: Path) -> None:
    """Writes the picture: perspective found against true, focal against distance, depth found against true, noise."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(10, 7.5), constrained_layout=True)
    s, w = Scaled.of(looks), looks.weights[..., None]
    strength = centred(s.picture * s.found[..., 2:], w)
    excess = np.clip(s.found[..., :2] - s.picture, -0.1, 0.1)
    edges = np.quantile(s.nearness, np.linspace(0.0, 1.0, 11))
    bins = [(s.nearness >= low) & (s.nearness <= high) for low, high in pairwise(edges)]
    slope = [(w[m] * strength[m] * excess[m]).sum() / (w[m] * strength[m] ** 2).sum() for m in bins]
    at = [np.median(s.nearness[m]) for m in bins]
    a.plot(at, slope, "o-", label="in the metric landmarks")
    a.plot([0, max(at)], [0, max(at)], "k--", label="all of the true perspective")
    a.set(xlabel="true 1 / distance (1/m)", ylabel="perspective undone (1/m)", title="The network assumes one distance")
    a.legend()

    cameras = windows(held_out)
    distance = [np.linalg.norm(v.middle, axis=1).mean() for v in cameras]
    b.loglog(distance, [rigid_focal(v) / v["K"][0, 0, 0] for v in cameras], "o")
    b.axhline(1.0, color="k", ls="--")
    b.set(xlabel="mean distance of the people (m)", ylabel="focal length / true one",
          title="Focal length by rigid reprojection, 40 pictures each")  # fmt: skip
    b.set_xticks([2.5, 3, 4, 5, 6], ["2.5", "3", "4", "5", "6"], minor=False)
    b.set_yticks([0.75, 1, 1.5, 2, 3], ["0.75", "1", "1.5", "2", "3"], minor=False)
    b.minorticks_off()

    for name in ("shoulder", "knee", "wrist", "ankle"):
        ks = GROUPS[name]
        keep = looks.weights[:, ks] > 0
        true = (looks.true_ray[..., 2] * s.scale[:, None])[:, ks][keep]
        found = looks["points_m"][:, ks, 2][keep]
        order = np.array_split(np.argsort(true), 12)
        c.plot([np.median(true[i]) for i in order], [np.median(found[i]) for i in order], "o-", ms=3, label=name)
    c.plot([-0.5, 0.5], [-0.5, 0.5], "k--")
    c.set(xlabel="true depth from the hips (m)", ylabel="found, median (m)", title="Depth is compressed")
    c.legend()

    names = list(GROUPS)
    for column in range(model.n_bins):
        low, high = model.visibility_edges[column : column + 2]
        values = [100 * model.sigma_px_fraction[GROUPS[n], column].mean() for n in names]
        d.plot(names, values, "o-", label=f"visibility {low:g} to {high:g}")
    d.set(ylabel="image noise (% of the stature)", ylim=(0, 7), title="Noise by visibility")
    d.tick_params(axis="x", rotation=30)
    d.legend(ncols=2)
    figure.savefig(file, dpi=80)
