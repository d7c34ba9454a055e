"""What the body needs to treat numpy arrays and torch tensors alike. Torch is imported only once a tensor came in."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

#: A numpy array or a torch tensor.
Numbers: TypeAlias = Any


def is_tensor(value: Numbers) -> bool:
    """Whether `value` is a torch tensor; torch is not imported to find out."""
    return type(value).__module__.partition(".")[0] == "torch"


def like(constant: Numbers, sample: Numbers) -> Numbers:
    """`constant` as a tensor of `sample`'s type and device, or itself where `sample` is numpy."""
    return sample.new_tensor(constant) if is_tensor(sample) else constant


def concatenate(parts: list[Numbers], axis: int) -> Numbers:
    """Joins arrays, or tensors, along `axis`."""
    if is_tensor(parts[0]):
        import torch

        return torch.cat(parts, dim=axis)
    return np.concatenate(parts, axis=axis)


def stretched(value: Numbers, batch: tuple[int, ...], own: int) -> Numbers:
    """`value`, whose last `own` dimensions are its own, broadcast to the leading dimensions `batch`."""
    shape = (*batch, *value.shape[len(value.shape) - own :])
    if tuple(value.shape) == shape:
        return value
    return value.expand(shape) if is_tensor(value) else np.broadcast_to(value, shape)


def expect(name: str, value: Numbers, own: tuple[int, ...]) -> Numbers:
    """`value` as float64 array, or the tensor it is, whose last dimensions are `own`. Raises ValueError for others."""
    v = value if is_tensor(value) else np.asarray(value, dtype=np.float64)
    if tuple(v.shape[max(0, len(v.shape) - len(own)) :]) != own:
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, own))}), got {tuple(v.shape)}.")
    return v
