"""Convolution over any number of spatial axes, as three bilinear operations that are each other's derivatives.

    y = x ⋆ w        gx = adjoint in x (y's gradient, w)        gw = adjoint in w (y's gradient, x)

Each of the three is linear in either argument, so the derivatives of every order are again among the three. All three
are one matrix product on *columns*: a column holds the inputs that one output place sees. Columns are made anew in
backward, not kept: they are as many times larger than the input as the kernel has places.
(Correlation, strictly: the kernel is not flipped, as in every deep-learning library.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ArgumentError, ShapeError
from minigrad.op import Op, apply, inputs, total
from minigrad.ops.rearrange import pad
from minigrad.ops.reduction import sum
from minigrad.ops.shape import reshape

__all__ = ["convolution", "convolution_transpose", "fold", "unfold"]


def output_length(length: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """How many places a kernel takes along one axis: ⌊(length + padding − dilation·(kernel − 1) − 1) / stride⌋ + 1."""
    return (length + before + after - dilation * (kernel - 1) - 1) // stride + 1


def windows(kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...],
            lengths: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """For each place in the kernel, the slices of a padded input that this place meets, `lengths` long."""
    for place in itertools.product(*(range(k) for k in kernel)):
        yield place, tuple(slice(p * d, p * d + s * (n - 1) + 1, s)
                           for p, s, d, n in zip(place, stride, dilation, lengths))


class _Geometry(Op):
    """Strides, paddings (before, after), dilations and groups; and the arithmetic of columns for them."""

    __slots__ = ("stride", "padding", "dilation", "groups")
    promotes = True

    def __init__(self, stride, padding, dilation, groups):
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def same(self, cls, *more):
        """An operation of another class with the same geometry."""
        return cls(self.stride, self.padding, self.dilation, self.groups, *more)

    def _grouped(self, w):
        """w (O, C/groups, …) as matrices (groups, O/groups, C/groups·places of the kernel)."""
        shape = (self.groups, w.shape[0] // self.groups, math.prod(w.shape[1:]))
        return namespace(w).reshape(w, shape)

    def lengths(self, spatial, kernel):
        return tuple(output_length(n, k, s, b, a, d)
                     for n, k, s, (b, a), d in zip(spatial, kernel, self.stride, self.padding, self.dilation))

    def columns(self, x, kernel):
        """x (N, C, …) as columns (N, groups, C/groups·places of the kernel, places of the output)."""
        xp = namespace(x)
        lengths = self.lengths(x.shape[2:], kernel)
        x = self._padded(x)
        out = xp.empty((*x.shape[:2], *kernel, *lengths), dtype=x.dtype)
        every = (slice(None), slice(None))
        for place, slices in windows(kernel, self.stride, self.dilation, lengths):
            out[every + place] = x[every + slices]
        rows = x.shape[1] // self.groups * math.prod(kernel)
        return xp.reshape(out, (x.shape[0], self.groups, rows, math.prod(lengths)))

    def _padded(self, x):
        if not any(b or a for b, a in self.padding):
            return x
        shape = tuple(n + b + a for n, (b, a) in zip(x.shape[2:], self.padding))
        out = namespace(x).zeros((*x.shape[:2], *shape), dtype=x.dtype)
        inner = (slice(None), slice(None), *self._inner(x.shape[2:]))
        out[inner] = x
        return out

    def _inner(self, spatial):
        return tuple(slice(b, b + n) for n, (b, _) in zip(spatial, self.padding))

    def image(self, columns, channels, spatial, kernel):
        """The adjoint of `columns`: every column added back to where it was read."""
        xp = namespace(columns)
        lengths = self.lengths(spatial, kernel)
        columns = xp.reshape(columns, (columns.shape[0], channels, *kernel, *lengths))
        padded = tuple(n + b + a for n, (b, a) in zip(spatial, self.padding))
        out = xp.zeros((columns.shape[0], channels, *padded), dtype=columns.dtype)
        every = (slice(None), slice(None))
        for place, slices in windows(kernel, self.stride, self.dilation, lengths):
            out[every + slices] += columns[every + place]
        return out[every + self._inner(spatial)]


class Convolution(_Geometry):
    """y[n,o,p] = Σ_{c,k} x[n,c,p·stride + k·dilation − padding]·w[o,c,k] + b[o];   gradients: the two below, gb = Σ gy

    x (N, C, …), w (O, C/groups, …), b (O,) or absent, y (N, O, …).
    """

    __slots__ = ("_spatial", "_kernel")
    keeps = inputs(0, when=1) + inputs(1, when=0)

    def forward(self, x, w, b):
        xp = namespace(x)
        self._spatial, self._kernel = x.shape[2:], w.shape[2:]
        lengths = self.lengths(self._spatial, self._kernel)
        y = xp.matmul(self._grouped(w), self.columns(x, self._kernel))
        y = xp.reshape(y, (x.shape[0], w.shape[0], *lengths))
        return y if b is None else y + xp.reshape(b, (-1,) + (1,) * len(lengths))

    def backward(self, saved, needs, gy):
        x, w = saved
        gx = apply(self.same(ConvolutionInput, self._spatial), gy, w) if needs[0] else None
        gw = apply(self.same(ConvolutionWeight, self._kernel), gy, x) if needs[1] else None
        gb = sum(gy, (0, *range(2, gy.ndim))) if needs[2] else None
        return gx, gw, gb


class ConvolutionInput(_Geometry):
    """gx: each element of gy spread over the inputs it came from, weighted by w;   bilinear in (gy, w)"""

    __slots__ = ("spatial", "_kernel")
    keeps = inputs(0, when=1) + inputs(1, when=0)

    def __init__(self, stride, padding, dilation, groups, spatial):
        super().__init__(stride, padding, dilation, groups)
        self.spatial = spatial

    def forward(self, gy, w):
        xp = namespace(gy)
        self._kernel = w.shape[2:]
        rows = xp.reshape(gy, (gy.shape[0], self.groups, w.shape[0] // self.groups, math.prod(gy.shape[2:])))
        columns = xp.matmul(xp.matrix_transpose(self._grouped(w)), rows)
        return self.image(columns, w.shape[1] * self.groups, self.spatial, self._kernel)

    def backward(self, saved, needs, h):
        gy, w = saved
        ggy = apply(self.same(Convolution), h, w, None) if needs[0] else None
        gw = apply(self.same(ConvolutionWeight, self._kernel), gy, h) if needs[1] else None
        return ggy, gw


class ConvolutionWeight(_Geometry):
    """gw[o,c,k] = Σ_{n,p} gy[n,o,p]·x[n,c,p·stride + k·dilation − padding];   bilinear in (gy, x)"""

    __slots__ = ("kernel", "_spatial")
    keeps = inputs(0, when=1) + inputs(1, when=0)

    def __init__(self, stride, padding, dilation, groups, kernel):
        super().__init__(stride, padding, dilation, groups)
        self.kernel = kernel

    def forward(self, gy, x):
        xp = namespace(gy)
        self._spatial = x.shape[2:]
        out = gy.shape[1] // self.groups
        rows = xp.reshape(gy, (gy.shape[0], self.groups, out, math.prod(gy.shape[2:])))
        products = xp.matmul(rows, xp.matrix_transpose(self.columns(x, self.kernel)))
        return xp.reshape(total(products, (0,), False), (gy.shape[1], x.shape[1] // self.groups, *self.kernel))

    def backward(self, saved, needs, h):
        gy, x = saved
        ggy = apply(self.same(Convolution), x, h, None) if needs[0] else None
        gx = apply(self.same(ConvolutionInput, self._spatial), gy, h) if needs[1] else None
        return ggy, gx


class Unfold(_Geometry):
    """y = the columns of x, what each place of the kernel sees (N, C·places of the kernel, places);   gx = gy folded"""

    __slots__ = ("kernel", "_spatial")

    def __init__(self, stride, padding, dilation, groups, kernel):
        super().__init__(stride, padding, dilation, groups)
        self.kernel = kernel

    def forward(self, x):
        self._spatial = x.shape[2:]
        return self.columns(x, self.kernel)[:, 0]

    def backward(self, saved, needs, gy):
        return (apply(self.same(Fold, self.kernel, self._spatial), gy),)


class Fold(Unfold):
    """y = every column added where `Unfold` read it from;   gx = gy unfolded"""

    __slots__ = ("spatial",)

    def __init__(self, stride, padding, dilation, groups, kernel, spatial):
        super().__init__(stride, padding, dilation, groups, kernel)
        self.spatial = spatial

    def forward(self, x):
        return self.image(x, x.shape[1] // math.prod(self.kernel), self.spatial, self.kernel)

    def backward(self, saved, needs, gy):
        return (apply(self.same(Unfold, self.kernel), gy),)


def convolution(x: Any, weight: Any, bias: Any, stride: tuple[int, ...], padding: tuple[tuple[int, int], ...],
                dilation: tuple[int, ...], groups: int) -> Any:
    """Convolution over the axes after the second; zero padding.

    Parameters
    ----------
    x : (N, C, …)
    weight : (O, C/groups, …), as many spatial axes as x
    bias : (O,) or None
    stride, dilation : per spatial axis, at least 1
    padding : per spatial axis (before, after), at least 0
    groups : int
        Divides C and O; group g of the outputs sees group g of the inputs alone.

    Returns
    -------
    y : (N, O, …), spatial lengths by `output_length`

    Raises
    ------
    ShapeError
        Ranks, channels or bias do not fit, or the kernel is larger than the padded input.
    ArgumentError
        A stride, dilation or number of groups below 1, or a padding below 0.
    """
    where = f"conv{weight.ndim - 2}d"
    got = f"input {tuple(x.shape)}, weight {tuple(weight.shape)}"
    _options(where, stride, padding, dilation, groups)
    if x.ndim != weight.ndim or x.ndim < 3:
        raise ShapeError(where, got=got, wanted="input (N, C, …) and weight (O, C/groups, …) of one rank")
    if 0 in x.shape[2:] or 0 in (weight.shape[0], *weight.shape[2:]):
        raise ShapeError(where, got=got, wanted="spatial axes, kernel and output channels of length 1 or more")
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise ShapeError(where, got=f"{got}, groups {groups}",
                         wanted=f"{weight.shape[1] * groups} input channels, groups that divide the outputs")
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ShapeError(where, got=f"bias {tuple(bias.shape)}", wanted=f"({weight.shape[0]},)")
    op = Convolution(stride, padding, dilation, groups)
    if min(op.lengths(x.shape[2:], weight.shape[2:])) < 1:
        raise ShapeError(where, got=f"{got}, padding {padding}, dilation {dilation}",
                         wanted="a padded input at least as long as the dilated kernel")
    return apply(op, x, weight, bias)


def _options(where: str, stride: tuple[int, ...], padding: tuple[tuple[int, int], ...], dilation: tuple[int, ...],
             groups: int) -> None:
    if min(*stride, *dilation, groups) < 1 or any(p < 0 for pair in padding for p in pair):
        raise ArgumentError(where, got=f"stride {stride}, padding {padding}, dilation {dilation}, groups {groups}",
                            wanted="stride, dilation and groups ≥ 1, padding ≥ 0")


def convolution_transpose(x: Any, weight: Any, bias: Any, stride: tuple[int, ...], padding: tuple[int, ...],
                          output_padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Any:
    """The adjoint of a convolution in its input: every element of `x` spread over a window, weighted by the kernel.

    Parameters
    ----------
    x : (N, C, …)
    weight : (C, O/groups, …), as many spatial axes as x
    bias : (O,) or None
    padding : per spatial axis, at least 0
        What is cut off at both ends.
    output_padding : per spatial axis, at least 0
        What the output is longer at its end: strided convolutions of several lengths give one length.

    Returns
    -------
    y : (N, O, …), spatial lengths (L − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1

    Raises
    ------
    ShapeError
        Ranks, channels or bias do not fit, or nothing of the output is left.
    ArgumentError
        An option is out of range; `output_padding` has to be below the stride or the dilation.
    """
    where = f"conv_transpose{weight.ndim - 2}d"
    got = f"input {tuple(x.shape)}, weight {tuple(weight.shape)}"
    _options(where, stride, tuple((p, p) for p in padding), dilation, groups)
    if any(not 0 <= o < max(s, d) for o, s, d in zip(output_padding, stride, dilation)):
        raise ArgumentError(where, got=f"output_padding {output_padding}, stride {stride}, dilation {dilation}",
                            wanted="output_padding ≥ 0 and below the stride or the dilation")
    if x.ndim != weight.ndim or x.ndim < 3 or x.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        raise ShapeError(where, got=f"{got}, groups {groups}",
                         wanted="input (N, C, …) and weight (C, O/groups, …) of one rank, groups that divide C")
    if bias is not None and tuple(bias.shape) != (weight.shape[1] * groups,):
        raise ShapeError(where, got=f"bias {tuple(bias.shape)}", wanted=f"({weight.shape[1] * groups},)")
    if 0 in weight.shape[1:]:
        raise ShapeError(where, got=got, wanted="kernel and output channels of length 1 or more")
    lengths = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, s, p, d, k, o in
               zip(x.shape[2:], stride, padding, dilation, weight.shape[2:], output_padding)]
    if min(lengths) < 1 or min(x.shape[2:]) < 1:
        raise ShapeError(where, got=f"{got}, padding {padding}", wanted="an output of at least one element")
    # Padding what is longer at the end less there gives it; beyond the padding, nothing was spread there: zeros.
    rim = [max(o - p, 0) for p, o in zip(padding, output_padding)]
    pads = tuple((p, max(p - o, 0)) for p, o in zip(padding, output_padding))
    spatial = tuple(n - r for n, r in zip(lengths, rim))
    y = apply(ConvolutionInput(stride, pads, dilation, groups, spatial), x, weight)
    if any(rim):
        y = pad(y, ((0, 0), (0, 0), *((0, r) for r in rim)))
    return y if bias is None else y + reshape(bias, (-1,) + (1,) * len(lengths))


def unfold(x: Any, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
           dilation: tuple[int, ...]) -> Any:
    """The windows of x (N, C, …) as columns (N, C·places of the kernel, places that the kernel takes)."""
    pads = _window_options("unfold", kernel, stride, padding, dilation)
    op = Unfold(stride, pads, dilation, 1, kernel)
    if x.ndim != len(kernel) + 2 or 0 in x.shape[1:] or min(op.lengths(x.shape[2:], kernel)) < 1:
        raise ShapeError("unfold",
                         got=f"input {tuple(x.shape)}, kernel {kernel}, padding {padding}, dilation {dilation}",
                         wanted="(N, C, …), not empty but for N, padded at least as long as the dilated kernel")
    return apply(op, x)


def fold(x: Any, spatial: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
         dilation: tuple[int, ...]) -> Any:
    """Columns (N, C·places of the kernel, places) added up to (N, C, *spatial): the adjoint of `unfold`."""
    pads = _window_options("fold", kernel, stride, padding, dilation)
    op = Fold(stride, pads, dilation, 1, kernel, spatial)
    places = op.lengths(spatial, kernel)
    if x.ndim != 3 or min(places) < 1 or x.shape[1] % math.prod(kernel) or x.shape[2] != math.prod(places):
        raise ShapeError("fold", got=f"input {tuple(x.shape)} for {spatial}, kernel {kernel}",
                         wanted=f"(N, a multiple of {math.prod(kernel)}, {math.prod(places)})")
    return apply(op, x)


def _window_options(where: str, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
                    dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The paddings at both ends, when all options are in range."""
    if min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        raise ArgumentError(where, got=f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}",
                            wanted="kernel, stride and dilation ≥ 1, padding ≥ 0")
    return tuple((p, p) for p in padding)
