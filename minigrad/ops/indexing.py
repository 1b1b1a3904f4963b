"""Elements by position: ``x[key]`` with everything NumPy allows as a key, and its adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import copied, is_array, namespace
from minigrad.op import Op, Traced, apply, beside

__all__ = ["getitem", "index_add"]


class GetItem(Op):
    """y = x[key];   gx = zeros with gy added at key"""

    __slots__ = ("key", "_from")

    def __init__(self, key):
        self.key = key

    def forward(self, x):
        self._from = x.shape
        return x[self.key]

    def backward(self, saved, needs, gy):
        return (index_add(gy, self.key, self._from),)


class IndexAdd(Op):
    """y = zeros of a shape with x added at key, once per mention;   gx = gy[key]"""

    __slots__ = ("key", "shape")

    def __init__(self, key, shape):
        self.key, self.shape = key, shape

    def forward(self, x):
        xp = namespace(x)
        y = xp.zeros(self.shape, dtype=x.dtype)
        if _repeats(self.key):
            xp.add.at(y, self.key, x)
        else:
            y[self.key] = x
        return y

    def backward(self, saved, needs, gy):
        return (gy[self.key],)


def _repeats(key: Any) -> bool:
    """Whether a key may name one element twice: only arrays of integers can."""
    parts = key if isinstance(key, tuple) else (key,)
    return any(is_array(part) and part.dtype.kind != "b" for part in parts)


def _plain(part: Any, x: Any) -> Any:
    """One part of a key to `x`: Tensors and sequences as arrays, NumPy's arrays where `x` is, its integers as Python's.

    Tensors are copied: they may be written to later.
    """
    if part.__class__ is slice or part.__class__ is int:  # almost always
        return part
    if isinstance(part, Traced):
        return beside(copied(part.data), x)
    if isinstance(part, (list, tuple, range)):
        part = np.asarray(part, dtype=None if len(part) else np.int64)
    return int(part) if isinstance(part, np.integer) else beside(part, x)


def _key(key: Any, x: Any) -> Any:
    return tuple([_plain(part, x) for part in key]) if isinstance(key, tuple) else _plain(key, x)


def getitem(x: Any, key: Any) -> Any:
    """``x[key]``: integers, slices, None, Ellipsis, arrays, lists or Tensors of integers or bool, or a tuple of those.

    Raises
    ------
    ShapeError
        An index is out of range or the key has too many parts.
    """
    return apply(GetItem(_key(key, x)), x)


def index_add(x: Any, key: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of `shape` with `x` added at `key`; where the key names an element twice, both are added."""
    return apply(IndexAdd(_key(key, x), shape), x)
