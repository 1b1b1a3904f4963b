"""Order: the places of extremes, sorting, the largest few; and whether any or all elements hold."""

from __future__ import annotations

from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ArgumentError, ShapeError
from minigrad.op import Op, Traced, apply
from minigrad.ops.gathering import TakeAlongAxis
from minigrad.ops.reduction import Reduction
from minigrad.ops.shape import normalize_axes, whole_number

__all__ = ["all", "any", "argmax", "argmin", "argsort", "sort", "topk"]


class ArgMax(Op):
    """The place of the largest element along an axis, the first of equals; NaN is larger than everything."""

    __slots__ = ("axis", "keepdims")
    differentiable = False

    def __init__(self, axis, keepdims):
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x):
        return namespace(x).argmax(x, axis=self.axis, keepdims=self.keepdims)


class ArgMin(ArgMax):
    """The place of the smallest element along an axis, the first of equals; NaN is smaller than everything."""

    __slots__ = ()

    def forward(self, x):
        return namespace(x).argmin(x, axis=self.axis, keepdims=self.keepdims)


class ArgSort(Op):
    """The places of the elements along an axis in rising or falling order, equal ones in their own; NaN is largest."""

    __slots__ = ("axis", "descending")
    differentiable = False

    def __init__(self, axis, descending):
        self.axis, self.descending = axis, descending

    def forward(self, x):
        if isinstance(x, Traced):  # opened: places are no function to take apart
            return x.constant(self.forward(x.data))
        xp = namespace(x)
        if not self.descending:
            return xp.argsort(x, axis=self.axis, stable=True)
        rising = xp.argsort(xp.flip(x, axis=self.axis), axis=self.axis, stable=True)
        return x.shape[self.axis] - 1 - xp.flip(rising, axis=self.axis)


class AnyOf(Reduction):
    """Whether any element is true, that is, not 0 (bool)"""

    __slots__ = ()
    differentiable = False

    def forward(self, x):
        return namespace(x).any(x, axis=self.axis, keepdims=self.keepdims)


class AllOf(Reduction):
    """Whether all elements are true, that is, not 0 (bool)"""

    __slots__ = ()
    differentiable = False

    def forward(self, x):
        return namespace(x).all(x, axis=self.axis, keepdims=self.keepdims)


def _one_axis(where: str, x: Any, axis: int | None) -> int | None:
    """The axis counted from the front, refused if there is no element to find."""
    chosen = None if axis is None else normalize_axes((axis,), x.ndim, where)[0]
    if 0 in (x.shape if chosen is None else (x.shape[chosen],)):
        raise ShapeError(where, got=f"shape {tuple(x.shape)}, axis {axis}", wanted="at least one element")
    return chosen


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index (int64) of the largest element along an axis, or in the flattened `x`; the first of equals."""
    return apply(ArgMax(_one_axis("argmax", x, axis), keepdims), x)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index (int64) of the smallest element along an axis, or in the flattened `x`; the first of equals."""
    return apply(ArgMin(_one_axis("argmin", x, axis), keepdims), x)


def argsort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """The indices (int64) that sort an axis; equal elements keep their order."""
    return apply(ArgSort(normalize_axes((axis,), x.ndim, "argsort")[0], descending), x)


def sort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """An axis in rising or falling order. Gradients go to the places that elements came from."""
    (axis,) = normalize_axes((axis,), x.ndim, "sort")
    return apply(TakeAlongAxis(axis), x, argsort(x, axis, descending))


def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """The `k` largest (or smallest) elements along an axis, in falling (rising) order.

    Returns
    -------
    values, indices : the axis has length k; of equal elements the first comes first

    Raises
    ------
    ArgumentError
        `k` is negative or larger than the axis.
    """
    (axis,) = normalize_axes((axis,), x.ndim, "topk")
    k = whole_number(k, "topk", "k", least=0)
    if k > x.shape[axis]:
        raise ArgumentError("topk", got=f"k={k} for an axis of length {x.shape[axis]}", wanted="0 to its length")
    first = (slice(None),) * axis + (slice(0, k),)
    indices = argsort(x, axis, descending=largest)[first]
    return apply(TakeAlongAxis(axis), x, indices), indices


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether any element over axes (None: all) is true, that is, not 0 (bool)."""
    return apply(AnyOf(normalize_axes(axis, x.ndim, "any"), keepdims), x)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all elements over axes (None: all) are true, that is, not 0 (bool)."""
    return apply(AllOf(normalize_axes(axis, x.ndim, "all"), keepdims), x)
