"""Random people for renders: shapes, clothes and light."""

from __future__ import annotations

import numpy as np

from benchmarks.demo_person import Look
from benchmarks.render import Light
from pipeline.frames import normalize
from training.bake_body import ADULT_AGE


def random_phenotype(rng: np.random.Generator) -> dict[str, float]:
    """Anny's values: seven adults to one child."""
    child = rng.random() < 0.125
    age = rng.uniform(0.25, ADULT_AGE) if child else rng.uniform(ADULT_AGE, 0.92)
    return {
        "gender": float(rng.random()), "age": float(age), "muscle": float(rng.beta(1.2, 1.6)),
        "weight": float(rng.beta(1.6, 1.4)), "height": float(np.clip(rng.normal(0.38, 0.1), 0.08, 0.75)),
        "proportions": float(rng.random()),
    }  # fmt: skip


def random_look(rng: np.random.Generator) -> Look:
    """Clothes, hair and skin of any colour that people wear."""

    def cloth() -> tuple[float, float, float]:
        r, g, b = np.clip(rng.uniform(0.05, 0.9) + rng.normal(0, 0.18, 3), 0.03, 0.97)
        return float(r), float(g), float(b)

    tone = rng.uniform(0.2, 1.0)
    hair = rng.choice([0.08, 0.2, 0.45])
    return Look(
        cloth(), cloth(), cloth(), (float(hair * 1.2), float(hair * 0.85), float(hair * 0.6)),
        skin=(0.25 + 0.62 * tone, 0.15 + 0.50 * tone, 0.10 + 0.42 * tone), sleeve=float(rng.uniform(0.2, 0.97)),
        stripes_m=float(rng.uniform(0.03, 0.1)) if rng.random() < 0.25 else 0.0, stripe=cloth(),
        long_hair=bool(rng.random() < 0.4),
    )  # fmt: skip


def random_light(rng: np.random.Generator) -> Light:
    """A key light from anywhere above, between hard sun and an overcast day."""
    toward = normalize(np.array([rng.normal(), rng.uniform(0.4, 1.6), rng.normal(0.3, 1.0)]))
    key, warm = rng.uniform(0.25, 0.8), rng.normal(0, 0.04)
    sky = rng.uniform(0.35, 0.65)
    return Light(
        toward, key * np.array([1 + warm, 1.0, 1 - warm]), sky * np.array([1 - warm, 1.0, 1 + warm]),
        rng.uniform(0.15, 0.35) * np.ones(3),
    )  # fmt: skip
