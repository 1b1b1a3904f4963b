"""Constants in the shape of something else."""

from __future__ import annotations

from typing import Any

from minigrad.backend import namespace
from minigrad.op import Traced, value

__all__ = ["full_like", "ones_like", "zeros_like"]


def full_like(x: Any, fill: float, dtype: Any = None) -> Any:
    """A constant of the shape, device and, unless given, dtype of `x`: a Tensor for a Tensor, else an array."""
    array = value(x)
    made = namespace(array).full_like(array, fill, dtype=dtype)
    return x.constant(made) if isinstance(x, Traced) else made


def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros in the shape of `x`."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones in the shape of `x`."""
    return full_like(x, 1, dtype)
