"""Running averages of a normalization, moved by one batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import Array, astype, namespace
from minigrad.op import Op, holds

__all__ = ["RunningAverages", "all_finite_pair"]


class RunningAverages(Op):
    """m′ = (1 − a)·m + a·μ,  v′ = (1 − a)·v + a·b·σ²,  and whether all of both are finite

    momentum : a, the weight of the batch
    bessel : b, what makes its variance unbiased

    Arrays (C,) in, new arrays of the running ones' dtypes out. What does not fit them becomes infinite, without a
    warning.
    """

    __slots__ = ("momentum", "bessel")
    differentiable = False
    n_out = 3

    def __init__(self, momentum: float, bessel: Any) -> None:
        self.momentum, self.bessel = momentum, bessel

    def forward(self, mean: Array, variance: Array, batch_mean: Array, batch_variance: Array) -> tuple[Any, Any, bool]:
        kept = 1 - self.momentum
        with np.errstate(over="ignore", invalid="ignore"):
            moved = astype(mean * kept + batch_mean * self.momentum, mean.dtype)
            spread = astype(variance * kept + batch_variance * (self.momentum * self.bessel), variance.dtype)
            return moved, spread, _all_finite(moved, spread)


def all_finite_pair(mean: Array, variance: Array) -> bool:
    """Whether all elements of two (C,) arrays are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _all_finite(mean, variance)


def _all_finite(mean: Array, variance: Array) -> bool:
    # One product answers for almost every batch: it is finite only if all elements are (∞·0 is NaN). It may overflow
    # although they are, so what it doubts is looked at one by one.
    if mean.__class__ is np.ndarray and math.isfinite(mean.dot(variance)):
        return True
    isfinite = namespace(mean).isfinite
    return holds(isfinite(mean) & isfinite(variance))
