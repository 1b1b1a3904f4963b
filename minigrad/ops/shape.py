"""The same elements in another shape or order: reshape, permute, broadcast, join. Nothing here does arithmetic."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.op import Op, apply, sum_to

__all__ = ["broadcast_to", "concat", "expand_dims", "flatten", "matrix_transpose", "moveaxis", "permute_dims",
           "reshape", "squeeze", "stack", "swapaxes"]


def normalize_axes(axis: int | Sequence[int] | None, ndim: int, where: str) -> tuple[int, ...]:
    """Axes as a tuple of distinct numbers in [0, ndim), in the order given; None means all of them.

    Raises
    ------
    ShapeError
        An axis is out of range or named twice.
    DtypeError
        Not a whole number.
    """
    if axis is None:
        return tuple(range(ndim))
    given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = []
    for a in given:
        try:
            a = operator.index(a)
        except TypeError:
            raise DtypeError(where, got=f"axis {axis!r}", wanted="a whole number, or several") from None
        if not -ndim <= a < ndim:
            raise ShapeError(where, got=f"axis {a}", wanted=f"an axis of an array of {ndim} dimensions")
        axes.append(a % ndim)
    if len(set(axes)) != len(axes):
        raise ShapeError(where, got=f"axes {given}", wanted="each axis once")
    return tuple(axes)


def whole_number(value: Any, where: str, name: str, least: int | None = 1) -> int:
    """`value` as a Python int; NumPy's integers are whole numbers too.

    Raises
    ------
    DtypeError
        Not a whole number.
    ArgumentError
        Below `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise DtypeError(where, got=f"{name}={value!r}", wanted="a whole number") from None
    if least is not None and number < least:
        raise ArgumentError(where, got=f"{name}={number}", wanted=f"at least {least}")
    return number


def broadcasts_to(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of `shape` can be broadcast to exactly the shape `to`."""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(to)))


class Reshape(Op):
    """y = x in another shape, rows first;   gx = gy in the shape of x"""

    __slots__ = ("shape", "_from")

    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self._from = x.shape
        return namespace(x).reshape(x, self.shape)

    def backward(self, saved, needs, gy):
        return (namespace(gy).reshape(gy, self._from),)


class PermuteDims(Op):
    """y = x with its axes in another order;   gx = gy with the order undone"""

    __slots__ = ("axes",)

    def __init__(self, axes):
        self.axes = axes

    def forward(self, x):
        return namespace(x).permute_dims(x, self.axes)

    def backward(self, saved, needs, gy):
        inverse = tuple(sorted(range(len(self.axes)), key=self.axes.__getitem__))
        return (namespace(gy).permute_dims(gy, inverse),)


class BroadcastTo(Op):
    """y = x repeated along axes of length 1 and new leading axes;   gx = gy summed over them"""

    __slots__ = ("shape", "_from")

    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self._from = x.shape
        return namespace(x).broadcast_to(x, self.shape)

    def backward(self, saved, needs, gy):
        return (sum_to(gy, self._from),)


class Concat(Op):
    """y = the inputs one after another along an axis;   each receives its slice of gy"""

    __slots__ = ("axis", "_sizes")
    broadcasts = True

    def __init__(self, axis):
        self.axis = axis

    def forward(self, *xs):
        self._sizes = [x.shape[self.axis] for x in xs]
        return namespace(xs[0]).concat(xs, axis=self.axis)

    def backward(self, saved, needs, gy):
        grads, start = [], 0
        for size, need in zip(self._sizes, needs):
            part = (slice(None),) * self.axis + (slice(start, start + size),)
            grads.append(gy[part] if need else None)
            start += size
        return tuple(grads)


def reshape(x: Any, shape: int | Sequence[int]) -> Any:
    """The same elements, rows first, in another shape; one length may be −1."""
    return apply(Reshape(tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)), x)


def permute_dims(x: Any, axes: Sequence[int]) -> Any:
    """Axes in another order: axis i of the result is axis ``axes[i]`` of `x`."""
    axes = normalize_axes(axes, x.ndim, "permute_dims")
    if len(axes) != x.ndim:
        raise ShapeError("permute_dims", got=f"axes {axes} for shape {x.shape}", wanted="every axis once")
    return apply(PermuteDims(axes), x)


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Two axes exchanged."""
    first, second = normalize_axes((axis1,), x.ndim, "swapaxes") + normalize_axes((axis2,), x.ndim, "swapaxes")
    axes = list(range(x.ndim))
    axes[first], axes[second] = axes[second], axes[first]
    return apply(PermuteDims(tuple(axes)), x)


def moveaxis(x: Any, source: int, destination: int) -> Any:
    """One axis moved to another place, the others in their order."""
    (start,) = normalize_axes((source,), x.ndim, "moveaxis")
    (end,) = normalize_axes((destination,), x.ndim, "moveaxis")
    axes = [a for a in range(x.ndim) if a != start]
    axes.insert(end, start)
    return apply(PermuteDims(tuple(axes)), x)


def matrix_transpose(x: Any) -> Any:
    """The last two axes exchanged."""
    if x.ndim < 2:
        raise ShapeError("matrix_transpose", got=f"shape {x.shape}", wanted="at least two axes")
    return swapaxes(x, -1, -2)


def broadcast_to(x: Any, shape: int | Sequence[int]) -> Any:
    """`x` repeated to `shape` by NumPy's rules."""
    given = shape if isinstance(shape, (tuple, list)) else (shape,)
    return apply(BroadcastTo(tuple(given)), x)


def expand_dims(x: Any, axis: int | Sequence[int] = 0) -> Any:
    """New axes of length 1, at these places of the result."""
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = normalize_axes(axis, x.ndim + count, "expand_dims")
    lengths = iter(x.shape)
    return reshape(x, tuple(1 if i in axes else next(lengths) for i in range(x.ndim + count)))


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Any:
    """Axes of length 1 removed: all of them, or those named.

    Raises
    ------
    ShapeError
        A named axis is longer than 1.
    """
    if axis is None:
        return reshape(x, tuple(n for n in x.shape if n != 1))
    axes = normalize_axes(axis, x.ndim, "squeeze")
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError("squeeze", got=f"axis {axis} of shape {x.shape}", wanted="axes of length 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """The axes from `start_dim` to `end_dim`, both included, as one."""
    rank = max(x.ndim, 1)  # a number is flattened as the one element it is
    start, end = normalize_axes((start_dim,), rank, "flatten") + normalize_axes((end_dim,), rank, "flatten")
    if start > end:
        raise ShapeError("flatten", got=f"start_dim {start_dim}, end_dim {end_dim}", wanted="start before end")
    middle = math.prod(x.shape[start : end + 1])
    return reshape(x, (*x.shape[:start], middle, *x.shape[end + 1 :]))


def concat(xs: Sequence[Any], axis: int | None = 0) -> Any:
    """Arrays or Tensors one after another along an existing axis; None flattens them first."""
    if len(xs) == 0:
        raise ShapeError("concat", got="no arrays", wanted="at least one")
    if axis is None:
        xs, axis = [reshape(x, (-1,)) for x in xs], 0
    return apply(Concat(normalize_axes((axis,), xs[0].ndim, "concat")[0]), *xs)


def stack(xs: Sequence[Any], axis: int = 0) -> Any:
    """Arrays or Tensors of one shape along a new axis."""
    if len({tuple(x.shape) for x in xs}) != 1:
        raise ShapeError("stack", got=f"shapes {[tuple(x.shape) for x in xs]}", wanted="one or more of one shape")
    return concat([expand_dims(x, axis) for x in xs], axis)
