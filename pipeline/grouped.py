"""One person's arrays and several people's: the smoothing of a frame is one computation for everybody."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pipeline.frames import Array


def stack(arrays: list[Array]) -> Array:
    """`np.stack`, which for one array takes longer than it should."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def joined(parts: list[Any]) -> Any:
    """Records of arrays (1, ...) as one of arrays (P, ...)."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    values = {f.name: getattr(first, f.name) for f in dataclasses.fields(first)}
    return type(first)(**{k: np.concatenate([getattr(p, k) for p in parts]) if isinstance(v, np.ndarray) else v
                          for k, v in values.items()})  # fmt: skip


def one_of(whole: Any, i: int, n: int) -> Any:
    """Person `i` of a record of arrays (n, ...), as arrays (1, ...)."""
    if n == 1:
        return whole
    values = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
    return type(whole)(**{k: v[i : i + 1] if isinstance(v, np.ndarray) else v for k, v in values.items()})
