"""Elements left out, doubled or moved: split, flip, roll, repeat, tile, triangles, padding."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.backend import is_array, namespace, to_numpy
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.op import Op, apply, value
from minigrad.ops.gathering import take
from minigrad.ops.indexing import getitem
from minigrad.ops.shape import broadcast_to, expand_dims, normalize_axes, reshape, squeeze, whole_number

__all__ = ["flip", "pad", "repeat", "roll", "split", "tile", "tril", "triu", "unstack"]


class Split(Op):
    """Parts of x along an axis, one output each;   gx = their gradients one after the other, 0 for those without"""

    __slots__ = ("axis", "cuts", "_lengths")

    def __init__(self, cuts, axis):
        self.cuts, self.axis = cuts, axis

    def forward(self, x):
        parts = tuple([x[key] for key in _keys(self.cuts, self.axis, x.shape[self.axis])])
        self._lengths = [part.shape[self.axis] for part in parts]
        return parts

    def backward(self, saved, needs, *gs):
        like = next(g for g in gs if g is not None)
        before, behind = like.shape[: self.axis], like.shape[self.axis + 1 :]
        zeros = namespace(value(like)).zeros
        return (namespace(like).concat([zeros((*before, n, *behind), dtype=like.dtype) if g is None else g
                                        for g, n in zip(gs, self._lengths)], axis=self.axis),)


def _keys(cuts, axis, n):
    """Where the parts of an axis of length n lie. As NumPy's slices have it, what is beyond the end is the end, and
    what is below 0 counts from there.
    """
    bounds = [slice(a, b).indices(n) for a, b in zip((0, *cuts), (*cuts, None))]
    return [(*(slice(None),) * axis, slice(start, max(start, stop))) for start, stop, _ in bounds]


@functools.cache
def _split_into(count: int) -> type[Split]:
    """`Split` with so many outputs: how many an operation has is a fact of its class."""
    return type("Split", (Split,), {"__slots__": (), "__doc__": Split.__doc__, "n_out": count})


class Flip(Op):
    """y = x with the order along some axes reversed;   gx = gy reversed likewise"""

    __slots__ = ("axes",)

    def __init__(self, axes):
        self.axes = axes

    def forward(self, x):
        return namespace(x).flip(x, axis=self.axes)

    def backward(self, saved, needs, gy):
        return (namespace(gy).flip(gy, axis=self.axes),)


class Roll(Op):
    """y = x moved along axes, what leaves at one end coming in at the other;   gx = gy moved back"""

    __slots__ = ("shifts", "axes")

    def __init__(self, shifts, axes):
        self.shifts, self.axes = shifts, axes

    def forward(self, x):
        return namespace(x).roll(x, self.shifts, axis=self.axes)

    def backward(self, saved, needs, gy):
        return (namespace(gy).roll(gy, tuple(-s for s in self.shifts), axis=self.axes),)


class Tril(Op):
    """y = x on and below the k-th diagonal of the last two axes, else 0;   gx = gy there"""

    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k

    def forward(self, x):
        return namespace(x).tril(x, k=self.k)

    def backward(self, saved, needs, gy):
        return (namespace(gy).tril(gy, k=self.k),)


class Triu(Tril):
    """y = x on and above the k-th diagonal of the last two axes, else 0;   gx = gy there"""

    __slots__ = ()

    def forward(self, x):
        return namespace(x).triu(x, k=self.k)

    def backward(self, saved, needs, gy):
        return (namespace(gy).triu(gy, k=self.k),)


class Pad(Op):
    """y = x with a constant around it;   gx = gy without its rim"""

    __slots__ = ("widths", "fill", "_from")

    def __init__(self, widths, fill):
        self.widths, self.fill = widths, fill

    def forward(self, x):
        self._from = x.shape
        padded = namespace(x).full(self._padded(), self.fill, dtype=x.dtype)
        padded[self._inner()] = x
        return padded

    def backward(self, saved, needs, gy):
        return (gy[self._inner()],)

    def _padded(self):
        return tuple([before + n + after for n, (before, after) in zip(self._from, self.widths)])

    def _inner(self):
        """Where x stands in what is padded."""
        return tuple([slice(before, before + n) for n, (before, _) in zip(self._from, self.widths)])


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """`x` cut along an axis: into so many equal parts, or before each of these indices, as `numpy.split`.

    Raises
    ------
    ShapeError
        The axis does not divide into so many equal parts.
    """
    (axis,) = normalize_axes((axis,), x.ndim, "split")
    n, sections = x.shape[axis], indices_or_sections
    if isinstance(sections, (int, np.integer)):
        if sections < 1 or n % sections:
            raise ShapeError("split", got=f"{sections} parts of axis {axis} of shape {tuple(x.shape)}",
                             wanted="a number that divides its length")
        cuts = tuple(range(n // sections, n, n // sections))[: sections - 1] if n else (0,) * (int(sections) - 1)
    else:
        given = sections if hasattr(sections, "__iter__") else (sections,)
        cuts = tuple(whole_number(i, "split", "indices_or_sections", least=None) for i in given)
        keys = _keys(cuts, axis, n)
        if any(one[axis].stop != next[axis].start for one, next in itertools.pairwise(keys)):
            return [getitem(x, key) for key in keys]  # cuts out of order: parts overlap, or leave something out
    return list(apply(_split_into(len(cuts) + 1)(cuts, axis), x)) if cuts else [x]


def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """The parts along an axis, which they no longer have: one node for all, so that backward adds up nothing."""
    (axis,) = normalize_axes((axis,), x.ndim, "unstack")
    return tuple(squeeze(part, axis) for part in split(x, x.shape[axis], axis)) if x.shape[axis] else ()


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Any:
    """The order along axes (None: all) reversed."""
    return apply(Flip(normalize_axes(axis, x.ndim, "flip")), x)


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Any:
    """`x` moved by `shift` places along axes, what leaves at one end coming in at the other; None rolls it flattened.

    Raises
    ------
    ShapeError
        Not as many shifts as axes.
    """
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), tuple(x.shape))
    given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(normalize_axes((a,), x.ndim, "roll")[0] for a in given)
    shifts = tuple(shift) if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ShapeError("roll", got=f"shift {shift}, axis {axis}", wanted="as many shifts as axes")
    return apply(Roll(shifts, axes), x)


def repeat(x: Any, repeats: int | Any, axis: int | None = None) -> Any:
    """Each element of an axis several times in a row, as `numpy.repeat`; None flattens first.

    Parameters
    ----------
    repeats : int, or integers of shape (n,)
        How often each; of one number, all as often.

    Raises
    ------
    ArgumentError, ShapeError
        A negative number; not as many numbers as elements.
    """
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    (axis,) = normalize_axes((axis,), x.ndim, "repeat")
    n = x.shape[axis]
    counts = value(repeats)
    if not is_array(counts) and not isinstance(counts, int):
        counts = np.asarray(counts) if np.size(counts) else np.zeros(np.shape(counts), np.int64)
    if is_array(counts) and counts.dtype.kind not in "iu":
        raise DtypeError("repeat", got=f"repeats={repeats}", wanted="whole numbers")
    counts = counts if isinstance(counts, int) else to_numpy(counts)  # the result's shape depends on them
    if (counts < 0) if isinstance(counts, int) else bool((counts < 0).any()):
        raise ArgumentError("repeat", got=f"repeats={repeats}", wanted="0 or more")
    if isinstance(counts, int):
        shape = (*x.shape[: axis + 1], counts, *x.shape[axis + 1 :])
        spread = broadcast_to(expand_dims(x, axis + 1), shape)
        return reshape(spread, (*x.shape[:axis], n * counts, *x.shape[axis + 1 :]))
    if counts.shape not in ((n,), (1,), ()):
        raise ShapeError("repeat", got=f"repeats of shape {tuple(counts.shape)}", wanted=f"({n},) or one number")
    return take(x, np.repeat(np.arange(n), np.broadcast_to(counts, (n,))), axis)


def tile(x: Any, reps: int | Sequence[int]) -> Any:
    """`x` side by side so many times along each axis, counted from the last, as `numpy.tile`."""
    given = reps if isinstance(reps, (tuple, list)) else (reps,)
    counts = tuple(whole_number(r, "tile", "reps", least=0) for r in given)
    ndim = max(len(counts), x.ndim)
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    spread = broadcast_to(reshape(x, tuple(m for n in shape for m in (1, n))),
                          tuple(m for pair in zip(counts, shape) for m in pair))
    return reshape(spread, tuple(r * n for r, n in zip(counts, shape)))


def _two_axes(where: str, x: Any) -> None:
    if x.ndim < 2:
        raise ShapeError(where, got=f"shape {tuple(x.shape)}", wanted="at least two axes")


def tril(x: Any, k: int = 0) -> Any:
    """The last two axes on and below the diagonal `k` places above the main one, else 0."""
    _two_axes("tril", x)
    return apply(Tril(k), x)


def triu(x: Any, k: int = 0) -> Any:
    """The last two axes on and above the diagonal `k` places above the main one, else 0."""
    _two_axes("triu", x)
    return apply(Triu(k), x)


PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Any:
    """More elements around `x`, as `numpy.pad`; `minigrad.functional.pad` takes torch's arguments.

    Parameters
    ----------
    pad_width : int, (before, after), or one such pair per axis
    mode : "constant", "edge", "reflect", "symmetric" or "wrap"
        What the new elements are: a constant, the next element of x, or x mirrored without or with its last element,
        or x begun anew.
    constant_values : float

    Raises
    ------
    ArgumentError
        An unknown mode, or a negative width.
    ShapeError
        Widths do not fit the axes.
    """
    if mode not in PAD_MODES:
        raise ArgumentError("pad", got=f"mode={mode!r}", wanted=f"one of {', '.join(map(repr, PAD_MODES))}")
    if np.asarray(pad_width).dtype.kind not in "iu":
        raise DtypeError("pad", got=f"pad_width={pad_width}", wanted="whole numbers")
    try:
        widths = tuple(map(tuple, np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()))
    except ValueError:
        raise ShapeError("pad", got=f"pad_width={pad_width}, input {tuple(x.shape)}",
                         wanted="a number, a pair, or a pair per axis") from None
    if any(w < 0 for pair in widths for w in pair):
        raise ArgumentError("pad", got=f"pad_width={pad_width}", wanted="0 or more")
    if mode == "constant":
        return apply(Pad(widths, constant_values), x)
    for axis, pair in enumerate(widths):
        if any(pair):
            if x.shape[axis] == 0:
                raise ShapeError("pad", got=f"mode={mode!r}, shape {tuple(x.shape)}", wanted="elements to repeat")
            places = np.pad(np.arange(x.shape[axis]), pair, mode=mode)  # type: ignore[call-overload]
            x = take(x, places, axis)
    return x
