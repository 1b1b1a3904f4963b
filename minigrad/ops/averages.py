"""Running averages of a normalization, moved by one batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.backend import Array, Device, astype, device_of, is_array, namespace, number
from minigrad.op import Op, holds

__all__ = ["RunningAverages", "all_finite_of", "all_finite_pair", "moved_on_device"]


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


def moved_on_device(mean: Array, variance: Array, batch_mean: Array, batch_variance: Array, momentum: Any,
                    bessel: Any) -> tuple[Array, Array, Array]:
    """As `RunningAverages`, with the decision too: the old averages again unless all of the new ones are finite.

    momentum and bessel are numbers or arrays without axes; the last result says, as an array, whether all are finite.
    """
    xp = namespace(mean)
    kept, new, spread = [astype(a, mean.dtype) if is_array(a) else a
                         for a in (1 - momentum, momentum, momentum * bessel)]
    moved = astype(mean * kept + batch_mean * new, mean.dtype)
    widened = astype(variance * kept + batch_variance * spread, variance.dtype)
    finite = xp.isfinite(moved).all() & xp.isfinite(widened).all()
    return xp.where(finite, moved, mean), xp.where(finite, widened, variance), finite


def all_finite_pair(mean: Array, variance: Array) -> bool:
    """Whether all elements of two (C,) arrays are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _all_finite(mean, variance)


def all_finite_of(arrays: Iterable[Array]) -> bool:
    """Whether all elements of all arrays are finite: one answer from each device, however many arrays there are."""
    found: dict[Device, Array] = {}
    for array in arrays:
        xp, device = namespace(array), device_of(array)
        good = xp.all(xp.isfinite(array))
        found[device] = found[device] & good if device in found else good
    return all(map(number, found.values()))


def _all_finite(mean: Array, variance: Array) -> bool:
    # One product answers for almost every batch: it is finite only if all elements are (∞·0 is NaN). It may overflow
    # although they are, so what it doubts is looked at one by one.
    if mean.__class__ is np.ndarray and math.isfinite(mean.dot(variance)):
        return True
    isfinite = namespace(mean).isfinite
    return holds(isfinite(mean) & isfinite(variance))
