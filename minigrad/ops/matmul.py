"""Products of matrices: matmul with NumPy's batching, and the linear map of a layer."""

from __future__ import annotations

import math
from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ShapeError
from minigrad.modes import current
from minigrad.op import Op, Traced, apply, apply2, inputs, operand, total
from minigrad.ops.shape import expand_dims, squeeze

__all__ = ["linear", "matmul"]


class MatMul(Op):
    """z = x·y over the last two axes, leading axes broadcast;   gx = gz·yᵀ,  gy = xᵀ·gz"""

    keeps = inputs(0, when=1) + inputs(1, when=0)
    broadcasts = True

    def forward(self, x, y):
        return namespace(x).matmul(x, y)

    def backward(self, saved, needs, gz):
        x, y = saved
        xp = namespace(gz)
        gx = xp.matmul(gz, xp.matrix_transpose(y)) if needs[0] else None
        gy = xp.matmul(xp.matrix_transpose(x), gz) if needs[1] else None
        return gx, gy


class Linear(Op):
    """y = x·wᵀ + b;   gx = gy·w,  gw = gyᵀ·x,  gb = Σ gy

    x (…, in), w (out, in), b (out,) or absent, y (…, out).
    """

    keeps = inputs(0, when=1) + inputs(1, when=0)
    promotes = True

    def forward(self, x, w, b):
        xp = namespace(x)
        y = xp.matmul(x, xp.matrix_transpose(w))
        return y if b is None else y + b

    def backward(self, saved, needs, gy):
        x, w = saved
        xp = namespace(gy)
        gx = xp.matmul(gy, w) if needs[0] else None
        gw = gb = None
        count = math.prod(gy.shape[:-1])
        rows = xp.reshape(gy, (count, gy.shape[-1]))
        if needs[1]:
            columns = xp.matrix_transpose(xp.reshape(x, (count, x.shape[-1])))
            gw = xp.matrix_transpose(xp.matmul(columns, rows))  # laid out like a weight that Linear made
        if needs[2]:
            gb = total(rows, (0,), False)
        return gx, gw, gb


_MATMUL, LINEAR = MatMul(), Linear()


def matmul(x: Any, y: Any) -> Any:
    """Matrix product with NumPy's rules: leading axes broadcast, one-dimensional arguments are vectors.

    Raises
    ------
    ShapeError
        An argument is 0-dimensional, or the inner lengths differ.
    """
    x, y = [a if isinstance(a, Traced) else operand(_MATMUL, a) for a in (x, y)]
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError("matmul", got=f"shapes {tuple(x.shape)} and {tuple(y.shape)}", wanted="at least one axis each")
    casts = current().autocast
    if casts is not None:
        x, y = casts.inputs(_MATMUL, (x, y))
    if x.ndim > 1 and y.ndim > 1:
        return apply2(_MATMUL, x, y)
    left = expand_dims(x, 0) if x.ndim == 1 else x
    right = expand_dims(y, 1) if y.ndim == 1 else y
    z = apply2(_MATMUL, left, right)
    return squeeze(z, tuple(axis for axis, v in ((-2, x), (-1, y)) if v.ndim == 1))


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """y = x·weightᵀ + bias.

    Parameters
    ----------
    x : (…, in)
    weight : (out, in), or (in,) for one output without an axis of its own
    bias : (out,), or () for one output, or None

    Raises
    ------
    ShapeError
        A shape does not fit the others.
    """
    if weight.ndim == 1 and (bias is None or bias.ndim == 0):
        y = matmul(x, weight)
        return y if bias is None else y + bias
    fits = weight.ndim == 2 and x.ndim >= 1 and x.shape[-1] == weight.shape[1]
    if not fits or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = f"input {tuple(x.shape)}, weight {tuple(weight.shape)}"
        shapes += "" if bias is None else f", bias {tuple(bias.shape)}"
        raise ShapeError("linear", got=shapes, wanted="input (…, in), weight (out, in), bias (out,)")
    return apply(LINEAR, x, weight, bias)
