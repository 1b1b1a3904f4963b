"""Lengths of vectors."""

from __future__ import annotations

import math
from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ArgumentError
from minigrad.op import apply, inputs, outputs
from minigrad.ops.elementwise import abs, cast, narrowed, sign, widened
from minigrad.ops.reduction import Reduction, max, min, sum
from minigrad.ops.shape import normalize_axes

__all__ = ["norm"]


class Norm(Reduction):
    """y = (Σ |x|^p)^(1/p);   gx = gy·sign x·(|x|/y)^(p−1), and 0 where y = 0"""

    __slots__ = ("p",)
    keeps = inputs(0) + outputs(0)

    def __init__(self, p, axis, keepdims):
        super().__init__(axis, keepdims)
        self.p = p

    def forward(self, x):
        self._from = x.shape
        xp = namespace(x)
        wide = widened(x)
        if self.p == 2:
            return narrowed(xp.sqrt(xp.sum(wide * wide, axis=self.axis, keepdims=self.keepdims)), x.dtype)
        powers = xp.sum(xp.abs(wide) ** self.p, axis=self.axis, keepdims=self.keepdims)
        return narrowed(powers ** (1 / self.p), x.dtype)

    def backward(self, saved, needs, gy):
        x, y = saved
        xp = namespace(gy)
        y = self.kept(y)
        ratio = x / xp.where(y == 0, 1.0, y)
        if self.p == 2:
            return (self.kept(gy) * ratio,)
        return (self.kept(gy) * (sign(x) * abs(ratio) ** (self.p - 1)),)


def norm(x: Any, ord: float = 2, axis: Any = None, keepdims: bool = False) -> Any:
    """The p-norm of the elements over axes (None: all, whatever the shape), as the array API's ``vector_norm``.

    Parameters
    ----------
    ord : float
        p. 1 is the sum of the magnitudes, inf and −inf the largest and the smallest of them, 0 counts what is not 0.

    Raises
    ------
    ArgumentError
        `ord` is no number: norms of matrices are not here.

    Notes
    -----
    The derivative where the norm is 0 is 0. Equal magnitudes share the gradient of ±inf evenly.
    """
    if isinstance(ord, (str, bool)) or ord is None:
        raise ArgumentError("norm", got=f"ord={ord!r}", wanted="a number")
    axes = normalize_axes(axis, x.ndim, "norm")
    if ord == 0:
        return sum(cast(x != 0, x.dtype), axes, keepdims)
    if ord == 1:
        return sum(abs(x), axes, keepdims)
    if math.isinf(ord):
        return (max if ord > 0 else min)(abs(x), axes, keepdims)
    return apply(Norm(float(ord), axes, keepdims), x)
