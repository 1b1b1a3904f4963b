"""The steps that the normalizations are made of: moments, mean square, inverse standard deviation, normalize, scale.

Each is a named step: a graph of a normalization that is opened up shows these first, and what they are made of second.

A mask says which elements count. With ⟨·⟩ the mean over those elements of a set that count, everything else stays as it
is without a mask.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import accumulation_dtype, namespace
from minigrad.op import holds, step, sum_to, value
from minigrad.ops.elementwise import cast, rsqrt, stop_gradient

__all__ = ["inverse_std", "mean_square", "moments", "normalize", "scale_shift"]

BLOCK = 4096  # rows that are added one after another


def kept_where(x: Any, mask: Any) -> Any:
    """`x` with 0 where the mask is False; `x` itself without a mask."""
    return x if mask is None else namespace(x).where(mask, x, 0.0)


def share(x: Any, axes: tuple[int, ...], mask: Any = None) -> Any:
    """1/m, the weight of one element in a mean over `axes`: a number, or with a mask an array (0 counts as 1)."""
    if mask is None:
        return 1 / max(1, math.prod(x.shape[a] for a in axes))
    # In float16 a count would be infinite from 65,520 on.
    counted = cast(namespace(mask).broadcast_to(mask, x.shape), accumulation_dtype(value(x).dtype))
    xp = namespace(counted)
    return 1 / xp.maximum(xp.sum(counted, axis=axes, keepdims=True), 1.0)


def _origin(x: Any, axes: tuple[int, ...], mask: Any) -> Any:
    """One value of each set, held constant: its first, or with a mask the largest that counts."""
    x = stop_gradient(x)
    if mask is None:
        return x[tuple(slice(0, 1) if a in axes else slice(None) for a in range(x.ndim))]
    xp = namespace(x)
    top = xp.max(xp.where(mask, x, -math.inf), axis=axes, keepdims=True)
    return xp.where(xp.isfinite(top), top, 0.0)


@step
def moments(x: Any, axes: tuple[int, ...], mask: Any = None) -> tuple[Any, Any]:
    """Mean and biased variance over `axes`, which stay with length 1; in float32 or wider.

    The statistics are taken of x − s, with s one value of each set, held constant: any s gives the same derivatives,
    and a set of equal values gives exactly that value and variance 0. The mean is then refined by the mean of what is
    left, which is rounding error (E[x²] − E[x]² would lose all digits at a mean of 10⁴). Where a square overflows,
    float64 is used: only then is the variance of finite values not finite.

    Parameters
    ----------
    x : floating point
    axes : tuple of int
    mask : bool, broadcasts to x, optional
        Which elements count. A set without any has mean and variance 0.
    """
    x = cast(x, accumulation_dtype(value(x).dtype))
    xp = namespace(x)
    if math.prod(x.shape[a] for a in axes) == 0:
        nothing = xp.sum(x, axis=axes, keepdims=True)
        return nothing, nothing
    k = share(x, axes, mask)
    origin = _origin(x, axes, mask)
    with np.errstate(over="ignore", invalid="ignore"):
        d = kept_where(x - origin, mask)
        offset = xp.sum(d, axis=axes, keepdims=True) * k
        d = kept_where(d - offset, mask)
        rest = xp.sum(d, axis=axes, keepdims=True) * k
        d = kept_where(d - rest, mask)
        variance = xp.sum(d * d, axis=axes, keepdims=True) * k
        mean = origin + (offset + rest)
    if x.dtype != np.float64 and not all_finite(variance) and all_finite(kept_where(value(x), value(mask))):
        return moments(cast(x, np.float64), axes, mask)
    return mean, variance


@step
def mean_square(x: Any, axes: tuple[int, ...]) -> Any:
    """⟨x²⟩ over `axes`, which stay with length 1; in float32 or wider, in float64 where a square overflows."""
    x = cast(x, accumulation_dtype(value(x).dtype))
    with np.errstate(over="ignore"):
        square = namespace(x).sum(x * x, axis=axes, keepdims=True) * share(x, axes)
    if x.dtype != np.float64 and not all_finite(square) and all_finite(x):
        return mean_square(cast(x, np.float64), axes)
    return square


def all_finite(x: Any) -> bool:
    """Whether every element is finite."""
    array = value(x)
    return holds(namespace(array).isfinite(array))


def sum_rows(x: Any, shape: tuple[int, ...]) -> Any:
    """`sum_to` a shape, block by block where many rows are added.

    Along a slow axis NumPy adds row to row: a million terms in float32 lose two digits more than sums of sums do, which
    take no longer.
    """
    lead = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    kept = shape[lead:]
    rows = x.shape[: x.ndim - len(kept)]
    if not kept or x.shape[len(rows) :] != kept or math.prod(rows) <= BLOCK:
        return sum_to(x, shape)
    xp = namespace(x)
    x = xp.reshape(x, (math.prod(rows), *kept))
    parts = [xp.sum(x[i : i + BLOCK], axis=0, keepdims=True) for i in range(0, x.shape[0], BLOCK)]
    return xp.reshape(xp.sum(xp.concat(parts, axis=0), axis=0, keepdims=True), shape)


@step
def inverse_std(variance: Any, eps: float) -> Any:
    """r = (σ² + ε)^−½."""
    return rsqrt(variance + eps)


@step
def normalize(x: Any, mean: Any, rstd: Any) -> Any:
    """x̂ = (x − μ)·r."""
    return (x - mean) * rstd


@step
def scale_shift(x: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    """γ·x̂ + β, with γ and β (either may be None) viewed in `shape`, which broadcasts against x̂."""
    if weight is not None:
        x = namespace(weight).reshape(weight, shape) * x
    return x if bias is None else x + namespace(bias).reshape(bias, shape)
