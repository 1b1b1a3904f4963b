"""Pooling under torch's names, over one, two or three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.errors import ArgumentError, ShapeError
from minigrad.functional.arguments import batched, per_axis
from minigrad.op import Traced, value

__all__ = ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "avg_pool1d", "avg_pool2d",
           "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d"]

Size = int | Sequence[int]


def _max_pooled(axes: int, input: Any, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size,
                ceil_mode: bool, return_indices: bool) -> Any:
    where = f"max_pool{axes}d"
    x, added = batched(input, axes, where)
    kernel = per_axis(kernel_size, axes, where, "kernel_size")
    steps = kernel if stride is None else per_axis(stride, axes, where, "stride")
    pads = per_axis(padding, axes, where, "padding")
    spread = per_axis(dilation, axes, where, "dilation")
    y, which = ops.max_pool(x, kernel, steps, pads, spread, ceil_mode)
    y = ops.squeeze(y, 0) if added else y
    if not return_indices:
        return y
    found = ops.flat_indices(value(which), tuple(x.shape[2:]), kernel, steps, pads, spread)
    found = found[0] if added else found
    return y, (y.constant(found) if isinstance(y, Traced) else found)


def _averaged(axes: int, input: Any, kernel_size: Size, stride: Size | None, padding: Size, ceil_mode: bool,
              count_include_pad: bool, divisor_override: int | None) -> Any:
    where = f"avg_pool{axes}d"
    x, added = batched(input, axes, where)
    kernel = per_axis(kernel_size, axes, where, "kernel_size")
    steps = kernel if stride is None else per_axis(stride, axes, where, "stride")
    y = ops.avg_pool(x, kernel, steps, per_axis(padding, axes, where, "padding"), ceil_mode, count_include_pad,
                     divisor_override)
    return ops.squeeze(y, 0) if added else y


def _adapted(axes: int, input: Any, output_size: int | Sequence[int | None]) -> Any:
    where = f"adaptive_avg_pool{axes}d"
    x, added = batched(input, axes, where)
    given = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * axes
    sizes: tuple[Any, ...] = tuple(n if m is None else m for n, m in zip(x.shape[2:], given))
    whole = all(isinstance(m, (int, np.integer)) and m >= 0 for m in sizes)
    if output_size is None or len(given) != axes or not whole:
        raise ArgumentError(where, got=f"output_size={output_size!r}",
                            wanted=f"a whole number of 0 or more, or {axes} of them or None")
    if 0 in x.shape[2:]:
        raise ShapeError(where, got=f"input {tuple(input.shape)}", wanted="spatial axes of length 1 or more")
    if sizes == (1,) * axes:
        x, sizes = ops.mean(x, tuple(range(2, axes + 2)), keepdims=True), ()
    for axis, count in enumerate(sizes, start=2):
        n = x.shape[axis]
        if count == 0:
            x = _part(x, axis, 0, 0)
        elif count != n:
            x = ops.concat([ops.mean(_part(x, axis, i * n // count, -(-(i + 1) * n // count)), axis, keepdims=True)
                            for i in range(count)], axis)
    return ops.squeeze(x, 0) if added else x


def max_pool1d(input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest element under each window of (N, C, L) or (C, L): see `max_pool2d`."""
    return _max_pooled(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest element under each window.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding, dilation : int or (height, width)
        The stride is the kernel's size unless given. Padding counts as −∞ and is at most half the kernel.
    ceil_mode : bool
        Let the last window hang over the end.
    return_indices : bool
        Also return where each was found (int64, counted row by row in H × W).

    Raises
    ------
    ShapeError, ArgumentError
        Shapes or options do not fit.
    """
    return _max_pooled(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest element under each window of (N, C, D, H, W) or (C, D, H, W): see `max_pool2d`."""
    return _max_pooled(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Any:
    """The mean of the elements under each window of (N, C, L) or (C, L): see `avg_pool2d`."""
    return _averaged(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Any:
    """The mean of the elements under each window.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding : int or (height, width)
        The stride is the kernel's size unless given. Padding is at most half the kernel.
    ceil_mode : bool
        Let the last window hang over the end.
    count_include_pad : bool
        Count the zeros of the padding as elements.
    divisor_override : int, optional
        Divide every sum by this.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes or options do not fit.
    """
    return _averaged(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Any:
    """The mean of the elements under each window of (N, C, D, H, W) or (C, D, H, W): see `avg_pool2d`."""
    return _averaged(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool1d(input: Any, output_size: int | Sequence[int | None]) -> Any:
    """Means over windows that divide (N, C, L) or (C, L) evenly: see `adaptive_avg_pool2d`."""
    return _adapted(1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: int | Sequence[int | None]) -> Any:
    """Means over windows that divide the input as evenly as whole numbers allow; output size 1 is the global average.

    Window i of an axis covers ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉ of its n elements, as in torch. One axis is averaged after the
    other, window by window: a product with a constant matrix would be one step, but spread infinities and NaN.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    output_size : int or (height, width)
        None keeps the length of an axis.
    """
    return _adapted(2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: int | Sequence[int | None]) -> Any:
    """Means over windows that divide (N, C, D, H, W) or (C, D, H, W) evenly: see `adaptive_avg_pool2d`."""
    return _adapted(3, input, output_size)


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    return ops.getitem(x, (*(slice(None),) * axis, slice(start, stop)))
