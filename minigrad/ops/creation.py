"""Constants in the shape of something else."""

from __future__ import annotations

from typing import Any

from minigrad.backend import as_device, namespace, transfer
from minigrad.op import Traced, value

__all__ = ["full_like", "ones_like", "zeros_like"]


def full_like(x: Any, fill: float, dtype: Any = None, device: Any = None) -> Any:
    """A constant of the shape and, unless given, dtype and device of `x`: a Tensor for a Tensor, else an array."""
    array = value(x)
    made = namespace(array).full_like(array, fill, dtype=dtype)
    if device is not None:
        made = transfer(made, as_device(device))
    return x.constant(made) if isinstance(x, Traced) else made


def zeros_like(x: Any, dtype: Any = None, device: Any = None) -> Any:
    """Zeros in the shape of `x`."""
    return full_like(x, 0, dtype, device)


def ones_like(x: Any, dtype: Any = None, device: Any = None) -> Any:
    """Ones in the shape of `x`."""
    return full_like(x, 1, dtype, device)
