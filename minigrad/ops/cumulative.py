"""Running sums and products, and the product of many elements.

A quotient by x would turn into 0/0 where x is 0, so the derivatives of products use multiplications and additions
alone: scans by doubling (Hillis & Steele, Commun. ACM 29, 1986), exact at zeros and at every order.
"""

from __future__ import annotations

import math
from typing import Any

from minigrad.backend import namespace
from minigrad.op import Op, apply, inputs
from minigrad.ops.elementwise import narrowed, widened
from minigrad.ops.reduction import Reduction
from minigrad.ops.shape import normalize_axes, reshape

__all__ = ["cumprod", "cumsum", "prod"]


def _shifted(x, axis, by, fill):
    """`x` moved by so many places along an axis, towards its start if negative; `fill` in the places left."""
    n = x.shape[axis]
    every, room = (slice(None),) * axis, min(abs(by), n)
    xp = namespace(x)
    first, kept, last = ((*every, part) for part in (slice(0, room), slice(0, n - room), slice(room, n)))
    filler = xp.full_like(x[first], fill)
    return xp.concat([filler, x[kept]] if by > 0 else [x[last], filler], axis=axis)


def _products_beside(x, axis, sign):
    """For each element the product of those before it (sign 1) or after it (sign −1) along an axis."""
    p, step = _shifted(x, axis, sign, 1.0), 1
    while step < x.shape[axis]:
        p = p * _shifted(p, axis, sign * step, 1.0)
        step *= 2
    return p


class CumSum(Op):
    """y_i = Σ_{j≤i} x_j along an axis;   gx_i = Σ_{k≥i} gy_k"""

    __slots__ = ("axis",)

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        return narrowed(namespace(x).cumsum(widened(x), axis=self.axis), x.dtype)

    def backward(self, saved, needs, gy):
        xp = namespace(gy)
        wide = xp.cumsum(xp.flip(widened(gy), axis=self.axis), axis=self.axis)
        return (narrowed(xp.flip(wide, axis=self.axis), gy.dtype),)


class CumProd(Op):
    """y_i = Π_{j≤i} x_j along an axis;   gx_i = Π_{j<i} x_j · S_i,  S_i = gy_i + x_{i+1}·S_{i+1}"""

    __slots__ = ("axis",)
    keeps = inputs(0)

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        return narrowed(namespace(x).cumprod(widened(x), axis=self.axis), x.dtype)

    def backward(self, saved, needs, gy):
        x, axis = widened(saved[0]), self.axis
        total, factor, step = widened(gy), _shifted(x, axis, -1, 0.0), 1
        while step < x.shape[axis]:
            total = total + factor * _shifted(total, axis, -step, 0.0)
            factor = factor * _shifted(factor, axis, -step, 0.0)
            step *= 2
        return (narrowed(_products_beside(x, axis, 1) * total, gy.dtype),)


class Prod(Reduction):
    """y = Π x;   gx_i = gy·Π_{j≠i} x_j"""

    __slots__ = ()
    keeps = inputs(0)

    def forward(self, x):
        self._from = x.shape
        return narrowed(namespace(x).prod(widened(x), axis=self.axis, keepdims=self.keepdims), x.dtype)

    def backward(self, saved, needs, gy):
        x = widened(saved[0])
        xp = namespace(gy)
        order = [a for a in range(x.ndim) if a not in self.axis] + list(self.axis)
        moved = xp.permute_dims(x, tuple(order))
        last = x.ndim - len(self.axis)
        row = xp.reshape(moved, (*moved.shape[:last], math.prod(moved.shape[last:])))
        others = _products_beside(row, last, 1) * _products_beside(row, last, -1)
        back = tuple(order.index(a) for a in range(x.ndim))
        return (self.kept(gy) * narrowed(xp.permute_dims(xp.reshape(others, moved.shape), back), gy.dtype),)


def cumsum(x: Any, axis: int | None = None) -> Any:
    """Running sums along an axis; None flattens first, as in NumPy. Half types are summed in float32."""
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    return apply(CumSum(normalize_axes((axis,), x.ndim, "cumsum")[0]), x)


def cumprod(x: Any, axis: int | None = None) -> Any:
    """Running products along an axis; None flattens first, as in NumPy. Derivatives are exact where elements are 0."""
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    return apply(CumProd(normalize_axes((axis,), x.ndim, "cumprod")[0]), x)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Product over axes (None: all); 1 of nothing. Derivatives are exact where elements are 0, at every order."""
    return apply(Prod(normalize_axes(axis, x.ndim, "prod"), keepdims), x)
