"""Many elements to one: sum, mean, variance, extremes, log-sum-exp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import namespace
from minigrad.errors import DtypeError, ShapeError
from minigrad.op import Op, apply, inputs, outputs, total
from minigrad.ops.elementwise import cast, narrowed, sqrt, square, stop_gradient, widened
from minigrad.ops.shape import normalize_axes

__all__ = ["logsumexp", "max", "mean", "min", "std", "sum", "var"]


class Reduction(Op):
    """What all reductions share: the axes reduced, whether they stay with length 1, and the shape before."""

    __slots__ = ("axis", "keepdims", "_from")
    _from: tuple[int, ...]

    def __init__(self, axis, keepdims):
        self.axis, self.keepdims = axis, keepdims

    def kept(self, y):
        """`y` with the reduced axes back at length 1, so that it broadcasts against the input."""
        if self.keepdims:
            return y
        return namespace(y).reshape(y, tuple(1 if i in self.axis else n for i, n in enumerate(self._from)))

    def count(self):
        """How many elements become one."""
        return math.prod(self._from[a] for a in self.axis)


class Sum(Reduction):
    """y = Σ x;   gx = gy at every element"""

    __slots__ = ()

    def forward(self, x):
        self._from = x.shape
        return total(x, self.axis, self.keepdims)

    def backward(self, saved, needs, gy):
        return (namespace(gy).broadcast_to(self.kept(gy), self._from),)


class Mean(Reduction):
    """y = Σ x / n;   gx = gy / n at every element"""

    __slots__ = ()

    def forward(self, x):
        self._from = x.shape
        wide = widened(x)  # a sum may exceed the range of a half type, its mean cannot
        return narrowed(namespace(x).sum(wide, axis=self.axis, keepdims=self.keepdims) / self.count(), x.dtype)

    def backward(self, saved, needs, gy):
        return (namespace(gy).broadcast_to(self.kept(gy) / self.count(), self._from),)


class _Extreme(Reduction):
    __slots__ = ()
    keeps = inputs(0) + outputs(0)

    def backward(self, saved, needs, gy):
        x, y = saved
        share = cast(x == self.kept(y), gy.dtype)
        return (self.kept(gy) * (share / total(share, self.axis, True)),)


class Max(_Extreme):
    """y = max x;   gx = gy at the largest element; equal ones share it evenly"""

    __slots__ = ()

    def forward(self, x):
        self._from = x.shape
        return namespace(x).max(x, axis=self.axis, keepdims=self.keepdims)


class Min(_Extreme):
    """y = min x;   gx = gy at the smallest element; equal ones share it evenly"""

    __slots__ = ()

    def forward(self, x):
        self._from = x.shape
        return namespace(x).min(x, axis=self.axis, keepdims=self.keepdims)


class LogSumExp(Reduction):
    """y = ln Σ eˣ, with the largest x taken out first;   gx = gy·e^(x−y)"""

    __slots__ = ()
    keeps = inputs(0) + outputs(0)

    def forward(self, x):
        self._from = x.shape
        xp = namespace(x)
        wide = widened(x)
        top = finite(xp.max(stop_gradient(wide), axis=self.axis, keepdims=True))
        with np.errstate(divide="ignore"):  # ln 0 = −∞ is right where every element is −∞
            y = narrowed(xp.log(xp.sum(xp.exp(wide - top), axis=self.axis, keepdims=True)) + top, x.dtype)
        return y if self.keepdims else xp.reshape(y, self._reduced())

    def _reduced(self):
        return tuple(n for i, n in enumerate(self._from) if i not in self.axis)

    def backward(self, saved, needs, gy):
        x, y = saved
        return (self.kept(gy) * namespace(x).exp(x - self.kept(finite(y))),)


def finite(x: Any) -> Any:
    """`x` with 0 in place of infinities and NaN, so that a difference of two of them is not NaN."""
    xp = namespace(x)
    return xp.where(xp.isfinite(x), x, 0.0)


def _axes(x: Any, axis: Any, where: str) -> tuple[int, ...]:
    return normalize_axes(axis, x.ndim, where)


def _nonempty(x: Any, axes: tuple[int, ...], where: str) -> tuple[int, ...]:
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(where, got=f"shape {tuple(x.shape)}, axes {axes}", wanted="at least one element")
    return axes


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over axes (None: all). Half types are summed in float32."""
    return apply(Sum(_axes(x, axis, "sum"), keepdims), x)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Arithmetic mean over axes (None: all). Half types are summed in float32.

    Raises
    ------
    ShapeError
        There is nothing to take the mean of.
    """
    return apply(Mean(_nonempty(x, _axes(x, axis, "mean"), "mean"), keepdims), x)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element over axes (None: all); equal ones share the gradient evenly."""
    return apply(Max(_nonempty(x, _axes(x, axis, "max"), "max"), keepdims), x)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element over axes (None: all); equal ones share the gradient evenly."""
    return apply(Min(_nonempty(x, _axes(x, axis, "min"), "min"), keepdims), x)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """ln Σ eˣ over axes (None: all), without overflow."""
    return apply(LogSumExp(_nonempty(x, _axes(x, axis, "logsumexp"), "logsumexp"), keepdims), x)


def var(x: Any, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Any:
    """Variance over axes (None: all): Σ (x − mean)² / (n − correction), in two passes.

    Parameters
    ----------
    correction : float
        0 for the biased variance, as in NumPy and the array API; 1 for the unbiased one, torch's default.
    """
    axes = _nonempty(x, _axes(x, axis, "var"), "var")
    n = math.prod(x.shape[a] for a in axes)
    if not isinstance(correction, (int, float, np.number)):
        raise DtypeError("var", got=f"correction={correction!r}", wanted="a number")
    if n <= correction:
        raise ShapeError("var", got=f"{n} elements, correction {correction}", wanted="more elements than that")
    wide = widened(x)
    deviation = wide - mean(wide, axes, keepdims=True)
    return narrowed(sum(square(deviation), axes, keepdims) * (1 / (n - correction)), x.dtype)


def std(x: Any, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Any:
    """Standard deviation: the square root of `var`. Its derivative is infinite where the variance is 0."""
    return narrowed(sqrt(var(widened(x), axis, correction, keepdims)), x.dtype)
