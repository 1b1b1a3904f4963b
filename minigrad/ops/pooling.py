"""Pooling over any number of spatial axes: the largest or the mean element under a window."""

from __future__ import annotations

import math
from typing import Any

from minigrad.backend import is_floating, namespace
from minigrad.errors import ArgumentError, ShapeError
from minigrad.op import Op, apply, inputs, outputs, value
from minigrad.ops.convolution import windows
from minigrad.ops.elementwise import narrowed, widened

__all__ = ["avg_pool", "flat_indices", "max_pool"]


class _Windows(Op):
    """The geometry of pooling. `lengths` are those of the output; `padding` is (before, after) per axis, where *after*
    may exceed what was asked for, so that the last window of `ceil_mode` fits.
    """

    __slots__ = ("kernel", "stride", "padding", "dilation", "lengths")

    def __init__(self, kernel, stride, padding, dilation, lengths):
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.dilation, self.lengths = dilation, lengths

    def same(self, cls, *more):
        """An operation of another class with the same geometry."""
        return cls(self.kernel, self.stride, self.padding, self.dilation, self.lengths, *more)

    def places(self):
        """For each place in the window, the slices of the padded input that it meets."""
        every = (slice(None), slice(None))
        for _, slices in windows(self.kernel, self.stride, self.dilation, self.lengths):
            yield every + slices

    def padded(self, x, fill):
        """x with `fill` around it."""
        if not any(b or a for b, a in self.padding):
            return x
        shape = tuple(n + b + a for n, (b, a) in zip(x.shape[2:], self.padding))
        out = namespace(x).full((*x.shape[:2], *shape), fill, dtype=x.dtype)
        out[self.inner(x.shape[2:])] = x
        return out

    def inner(self, spatial):
        """The slices of a padded array that hold the input."""
        return (slice(None), slice(None), *(slice(b, b + n) for n, (b, _) in zip(spatial, self.padding)))

    def empty_padded(self, like, spatial):
        """Zeros of the padded shape."""
        shape = tuple(n + b + a for n, (b, a) in zip(spatial, self.padding))
        return namespace(like).zeros((*like.shape[:2], *shape), dtype=like.dtype)


class MaxPool(_Windows):
    """y = the largest element under each window, and which place of the window holds it (the first of equals);
    gx = gy at that place
    """

    __slots__ = ("_spatial",)
    n_aux = 1
    keeps = outputs(1)

    def forward(self, x):
        self._spatial = x.shape[2:]
        xp = namespace(x)
        fill = -math.inf if is_floating(x.dtype) else xp.iinfo(x.dtype).min
        padded = self.padded(x, fill)
        best = which = None
        for k, place in enumerate(self.places()):
            candidate = padded[place]
            if best is None:
                best, which = candidate, xp.zeros(candidate.shape, dtype=xp.int32)
                continue
            larger = (candidate > best) | ((candidate != candidate) & (best == best))
            best = xp.where(larger, candidate, best)
            which = xp.where(larger, k, which)
        if any(b or a for b, a in self.padding):  # elements as small as the padding lose to it: it came first
            which = xp.where(best == fill, self._first_inside(xp), which)
        return best, which

    def _first_inside(self, xp):
        """For each window the first place that lies on the input, counted row by row."""
        axes = len(self.kernel)
        first = 0
        for axis, (k, s, (b, _), d) in enumerate(zip(self.kernel, self.stride, self.padding, self.dilation)):
            starts = xp.arange(self.lengths[axis], dtype=xp.int32) * s - b
            place = xp.maximum(-(starts // d), 0)
            first = first * k + xp.reshape(place, tuple(-1 if i == axis else 1 for i in range(axes)))
        return first

    def backward(self, saved, needs, gy):
        return (apply(self.same(Scatter, self._spatial), gy, saved[0]),)


class Scatter(_Windows):
    """Each element goes to the place of its window that `which` names;   its adjoint picks it up from there"""

    __slots__ = ("spatial",)
    keeps = inputs(1)

    def __init__(self, kernel, stride, padding, dilation, lengths, spatial):
        super().__init__(kernel, stride, padding, dilation, lengths)
        self.spatial = spatial

    def forward(self, g, which):
        out = self.empty_padded(g, self.spatial)
        for k, place in enumerate(self.places()):
            out[place] += namespace(g).where(which == k, g, 0.0)
        return out[self.inner(self.spatial)]

    def backward(self, saved, needs, h):
        return apply(self.same(Pick), h, saved[0]), None


class Pick(_Windows):
    """The element at the place of each window that `which` names;   its adjoint scatters it back"""

    __slots__ = ("_spatial",)
    keeps = inputs(1)

    def forward(self, x, which):
        self._spatial = x.shape[2:]
        padded = self.padded(x, 0)
        y = None
        for k, place in enumerate(self.places()):
            part = namespace(x).where(which == k, padded[place], 0.0)
            y = part if y is None else y + part
        return y

    def backward(self, saved, needs, h):
        return apply(self.same(Scatter, self._spatial), h, saved[0]), None


class SumPool(_Windows):
    """y = Σ of the elements under each window;   gx = gy at each of them"""

    __slots__ = ("_spatial",)

    def forward(self, x):
        self._spatial = x.shape[2:]
        padded = self.padded(x, 0)
        y = None
        for place in self.places():
            y = padded[place] if y is None else y + padded[place]
        return y

    def backward(self, saved, needs, gy):
        return (apply(self.same(Spread, self._spatial), gy),)


class Spread(_Windows):
    """Each element goes to every place of its window;   its adjoint sums them"""

    __slots__ = ("spatial",)

    def __init__(self, kernel, stride, padding, dilation, lengths, spatial):
        super().__init__(kernel, stride, padding, dilation, lengths)
        self.spatial = spatial

    def forward(self, g):
        out = self.empty_padded(g, self.spatial)
        for place in self.places():
            out[place] += g
        return out[self.inner(self.spatial)]

    def backward(self, saved, needs, h):
        return (apply(self.same(SumPool), h),)


def _geometry(where: str, x: Any, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
              dilation: tuple[int, ...], ceil_mode: bool) -> tuple[Any, ...]:
    """Check, and give the arguments of `_Windows`.

    With `ceil_mode` the last window may start inside the input or its left padding and hang over the right end.
    """
    if x.ndim != len(kernel) + 2:
        raise ShapeError(where, got=f"input {tuple(x.shape)}", wanted=f"(N, C, …) with {len(kernel)} spatial axes")
    if 0 in x.shape[1:]:
        raise ShapeError(where, got=f"input {tuple(x.shape)}", wanted="at least one channel, row, column")
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    if min(*kernel, *stride, *dilation) < 1 or any(not 0 <= 2 * p <= span for p, span in zip(padding, spans)):
        raise ArgumentError(where, got=f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}",
                            wanted="kernel, stride and dilation ≥ 1, and padding from 0 to half the window")
    lengths, pads = [], []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation):
        room = n + 2 * p - d * (k - 1) - 1
        count = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1
        lengths.append(count)
        pads.append((p, max(p, (count - 1) * s + d * (k - 1) + 1 - n - p)))
    if min(lengths) < 1:
        raise ShapeError(where, got=f"input {tuple(x.shape)}, kernel {kernel}, padding {padding}, dilation {dilation}",
                         wanted="a padded input at least as long as the window")
    return kernel, stride, tuple(pads), dilation, tuple(lengths)


def max_pool(x: Any, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
             dilation: tuple[int, ...], ceil_mode: bool = False) -> tuple[Any, Any]:
    """The largest element under each window, over the axes after the second.

    Padding counts as −∞. NaN is larger than everything. Of equal elements the first receives the gradient, as in torch.

    Returns
    -------
    y : (N, C, …)
    which : (N, C, …) int32
        The place of the window that holds it, counted row by row; `flat_indices` turns it into places of the input.
    """
    y, which = apply(MaxPool(*_geometry("max_pool", x, kernel, stride, padding, dilation, ceil_mode)), x)
    return y, which


def flat_indices(which: Any, spatial: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...],
                 padding: tuple[int, ...], dilation: tuple[int, ...]) -> Any:
    """Places of the input (int64, counted row by row over `spatial`) for the places of windows that `max_pool` gave."""
    xp = namespace(which)
    flat = xp.zeros(which.shape, dtype=xp.int64)
    rest = which
    for axis in reversed(range(len(kernel))):
        shape = tuple(-1 if i == axis else 1 for i in range(len(kernel)))
        start = xp.reshape(xp.arange(which.shape[2 + axis]) * stride[axis] - padding[axis], shape)
        flat = flat + (start + rest % kernel[axis] * dilation[axis]) * math.prod(spatial[axis + 1 :])
        rest = rest // kernel[axis]
    return flat


def avg_pool(x: Any, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
             ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Any:
    """The mean of the elements under each window, over the axes after the second.

    Parameters
    ----------
    count_include_pad : bool
        Whether zeros of the padding asked for are counted. What `ceil_mode` adds beyond it never is.
    divisor_override : int, optional
        Divide every sum by this instead.
    """
    ones = (1,) * len(kernel)
    geometry = _geometry("avg_pool", x, kernel, stride, padding, ones, ceil_mode)
    if divisor_override == 0:
        raise ArgumentError("avg_pool", got="divisor_override=0", wanted="another number")
    total = apply(SumPool(*geometry), widened(x))
    if divisor_override is not None:
        return narrowed(total * (1 / divisor_override), x.dtype)
    counts = _counts(x.shape[2:], kernel, stride, padding, geometry[4], count_include_pad)
    if min(min(c) for c in counts) == max(max(c) for c in counts) == kernel[0] and len(set(kernel)) == 1:
        return narrowed(total * (1 / math.prod(kernel)), x.dtype)
    xp = namespace(value(total))
    for axis, count in enumerate(counts):
        shape = tuple(len(count) if i == axis else 1 for i in range(len(counts)))
        total = total * xp.reshape(xp.asarray([1 / c for c in count], dtype=total.dtype), shape)
    return narrowed(total, x.dtype)


def _counts(spatial: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
            lengths: tuple[int, ...], with_padding: bool) -> list[list[int]]:
    """Per axis, how many elements each window counts; a window's count is the product over the axes."""
    counts = []
    for n, k, s, p, m in zip(spatial, kernel, stride, padding, lengths):
        low, high = (-p, n + p) if with_padding else (0, n)
        counts.append([max(1, min(i * s - p + k, high) - max(i * s - p, low)) for i in range(m)])
    return counts
