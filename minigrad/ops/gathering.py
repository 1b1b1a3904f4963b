"""Elements picked along one axis by arrays of indices, and the adjoints, which add them back.

The adjoints add into flat memory: repeated indices meet there, sums of half types are taken in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import accumulation_dtype, is_array, namespace, to_numpy
from minigrad.errors import DtypeError, ShapeError
from minigrad.op import Op, Traced, apply, beside, holds, inputs, together, value
from minigrad.ops.elementwise import narrowed, widened
from minigrad.ops.indexing import index_add
from minigrad.ops.shape import broadcast_to, normalize_axes, reshape

__all__ = ["gather", "scatter_add", "take", "take_along_axis"]


def _added(out, g, places, shape):
    """`out`, flat zeros of a shape, with the elements of `g` added at flat places of it; in the shape and g's dtype."""
    xp = namespace(g)
    xp.add.at(out, xp.reshape(places, (-1,)), xp.reshape(widened(g), (-1,)))
    return narrowed(xp.reshape(out, shape), g.dtype)


class Take(Op):
    """y = the elements i of one axis of x, in the shape of i in its place;   gx = zeros with gy added at i"""

    __slots__ = ("axis", "_from")
    keeps = inputs(1)

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x, indices):
        self._from = x.shape
        xp = namespace(x)
        if indices.ndim == 1:
            return xp.take(x, indices, axis=self.axis)
        shape = (*x.shape[: self.axis], *indices.shape, *x.shape[self.axis + 1 :])
        return xp.reshape(xp.take(x, xp.reshape(indices, (-1,)), axis=self.axis), shape)

    def backward(self, saved, needs, gy):
        return apply(AddTaken(self.axis, self._from), gy, saved[0]), None


class AddTaken(Op):
    """y = zeros of a shape with g added at the elements i of one axis;   gg = the elements i of gy"""

    __slots__ = ("axis", "shape")
    keeps = inputs(1)

    def __init__(self, axis, shape):
        self.axis, self.shape = axis, shape

    def forward(self, g, indices):
        xp = namespace(g)
        out = xp.zeros(math.prod(self.shape), dtype=accumulation_dtype(g.dtype))
        n, behind = self.shape[self.axis], math.prod(self.shape[self.axis + 1 :])
        before = xp.reshape(xp.arange(math.prod(self.shape[: self.axis])), (-1, 1, 1))
        places = (before * n + xp.reshape(indices % n if n else indices, (1, -1, 1))) * behind + xp.arange(behind)
        return _added(out, g, places, self.shape)

    def backward(self, saved, needs, gy):
        return take(gy, saved[0], self.axis), None


class TakeAlongAxis(Op):
    """y[…, k, …] = x[…, i[…, k, …], …] along one axis;   gx = zeros with gy added there"""

    __slots__ = ("axis", "_from")
    keeps = inputs(1)

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x, indices):
        self._from = x.shape
        return namespace(x).take_along_axis(x, indices, axis=self.axis)

    def backward(self, saved, needs, gy):
        return apply(AddAlongAxis(self.axis, self._from), gy, saved[0]), None


class AddAlongAxis(Op):
    """y = zeros of a shape with y[…, i[…, k, …], …] += g[…, k, …] along one axis;   gg = what gy has there"""

    __slots__ = ("axis", "shape")
    keeps = inputs(1)

    def __init__(self, axis, shape):
        self.axis, self.shape = axis, shape

    def forward(self, g, indices):
        xp = namespace(g)
        out = xp.zeros(math.prod(self.shape), dtype=accumulation_dtype(g.dtype))
        places = 0
        for axis, n in enumerate(self.shape):
            along = tuple(-1 if a == axis else 1 for a in range(len(self.shape)))
            here = (indices % n if n else indices) if axis == self.axis else xp.reshape(xp.arange(n), along)
            places = places * n + here
        return _added(out, g, xp.broadcast_to(places, g.shape), self.shape)

    def backward(self, saved, needs, gy):
        return apply(TakeAlongAxis(self.axis), gy, saved[0]), None


def checked_indices(where: str, x: Any, indices: Any, n: int, low: int) -> Any:
    """Indices as a Tensor, or an array where `x` is, of integers, each from `low` to n − 1.

    NumPy checks ranges itself when it picks; CuPy wraps around silently, and adjoints count modulo n.
    """
    if not isinstance(indices, Traced) and not is_array(indices):
        indices = np.asarray(indices, dtype=np.int64 if np.size(indices) == 0 else None)
    array = value(indices)
    if array.dtype.kind not in "iu":
        raise DtypeError(where, got=f"indices of dtype {array.dtype}", wanted="integers")
    if array.size and not holds((array >= low) & (array < n)):
        known = to_numpy(array)
        bad = known[(known < low) | (known >= n)]
        raise ShapeError(where, got=f"index {bad.reshape(-1)[0]}", wanted=f"indices from {low} to {n - 1}")
    indices = beside(indices, x)
    together(where, x, indices)
    return indices


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Elements of one axis by their indices; without an axis, of the flattened `x`.

    Parameters
    ----------
    indices : integers of any shape
        Negative ones count from the end.

    Returns
    -------
    The axis is replaced by the axes of `indices`.

    Raises
    ------
    ShapeError
        An index is out of range.
    DtypeError
        Indices are not integers.
    """
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    (axis,) = normalize_axes((axis,), x.ndim, "take")
    n = x.shape[axis]
    return apply(Take(axis), x, checked_indices("take", x, indices, n, -n))


def take_along_axis(x: Any, indices: Any, axis: int) -> Any:
    """For each row along an axis its own elements, by their indices: what `argsort` and `argmax` give can be used here.

    Parameters
    ----------
    indices : integers, of as many axes as `x`
        The other axes broadcast against those of `x`.

    Raises
    ------
    ShapeError
        An index is out of range, or the shapes do not fit.
    DtypeError
        Indices are not integers.
    """
    (axis,) = normalize_axes((axis,), x.ndim, "take_along_axis")
    n = x.shape[axis]
    indices = checked_indices("take_along_axis", x, indices, n, -n)
    got = f"input {tuple(x.shape)}, indices {tuple(indices.shape)}, axis {axis}"
    if indices.ndim != x.ndim:
        raise ShapeError("take_along_axis", got=got, wanted="as many axes in both")
    try:
        common = np.broadcast_shapes(*((*s[:axis], *s[axis + 1 :]) for s in (x.shape, indices.shape)))
    except ValueError:
        raise ShapeError("take_along_axis", got=got, wanted="other axes that broadcast") from None
    x = _broadcast(x, (*common[:axis], n, *common[axis:]))
    return apply(TakeAlongAxis(axis), x, _broadcast(indices, (*common[:axis], indices.shape[axis], *common[axis:])))


def _broadcast(x: Any, shape: tuple[int, ...]) -> Any:
    return x if tuple(x.shape) == shape else broadcast_to(x, shape)


def _checked(where: str, x: Any, axis: int, indices: Any) -> tuple[int, Any]:
    """What torch asks of the indices of gather and scatter: not negative, and nowhere longer than x but on the axis."""
    (axis,) = normalize_axes((axis,), x.ndim, where)
    indices = checked_indices(where, x, indices, x.shape[axis], 0)
    if indices.ndim != x.ndim or any(m > n for a, (m, n) in enumerate(zip(indices.shape, x.shape)) if a != axis):
        raise ShapeError(where, got=f"input {tuple(x.shape)}, indices {tuple(indices.shape)}, axis {axis}",
                         wanted="as many axes, and indices no longer than the input but along the axis")
    return axis, indices


def _cut(x: Any, shape: tuple[int, ...]) -> Any:
    """The corner of x of a shape."""
    return x if tuple(x.shape) == tuple(shape) else x[tuple(slice(0, n) for n in shape)]


def gather(x: Any, axis: int, indices: Any) -> Any:
    """``y[i, j, …] = x[indices[i, j, …], j, …]`` for axis 0, and so on, as `torch.gather`.

    Unlike in `take_along_axis`, indices are not negative, and other axes may be shorter than those of `x`.

    Raises
    ------
    ShapeError, DtypeError
        Indices are out of range or no integers, or shapes do not fit.
    """
    axis, indices = _checked("gather", x, axis, indices)
    shape = tuple(n if a == axis else m for a, (m, n) in enumerate(zip(indices.shape, x.shape)))
    return apply(TakeAlongAxis(axis), _cut(x, shape), indices)


def scatter_add(x: Any, axis: int, indices: Any, source: Any) -> Any:
    """`x` with ``y[indices[i, j, …], j, …] += source[i, j, …]`` for axis 0, and so on, as `torch.scatter_add`.

    Parameters
    ----------
    indices : integers
        Not negative; nowhere longer than `source`, nor than `x` but along the axis. Equal ones add up.

    Raises
    ------
    ShapeError, DtypeError
        Indices are out of range or no integers, or shapes do not fit.
    """
    axis, indices = _checked("scatter_add", x, axis, indices)
    if source.ndim != x.ndim or any(m > n for m, n in zip(indices.shape, source.shape)):
        raise ShapeError("scatter_add", got=f"indices {tuple(indices.shape)}, source {tuple(source.shape)}",
                         wanted="a source of as many axes, nowhere shorter than the indices")
    shape = tuple(n if a == axis else m for a, (m, n) in enumerate(zip(indices.shape, x.shape)))
    added = apply(AddAlongAxis(axis, shape), _cut(source, indices.shape), indices)
    if shape != tuple(x.shape):
        added = index_add(added, tuple(slice(0, n) for n in shape), tuple(x.shape))
    return x + added
