"""Pooling under torch's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError
from minigrad.functional.arguments import batched, per_axis
from minigrad.op import Traced, value

__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "max_pool2d"]

Size = int | Sequence[int]


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
    x, added = batched(input, 2, "max_pool2d")
    kernel = per_axis(kernel_size, 2, "max_pool2d", "kernel_size")
    steps = kernel if stride is None else per_axis(stride, 2, "max_pool2d", "stride")
    pads = per_axis(padding, 2, "max_pool2d", "padding")
    spread = per_axis(dilation, 2, "max_pool2d", "dilation")
    y, which = ops.max_pool(x, kernel, steps, pads, spread, ceil_mode)
    y = ops.squeeze(y, 0) if added else y
    if not return_indices:
        return y
    found = ops.flat_indices(value(which), tuple(x.shape[2:]), kernel, steps, pads, spread)
    found = found[0] if added else found
    return y, (y.constant(found) if isinstance(y, Traced) else found)


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
    x, added = batched(input, 2, "avg_pool2d")
    kernel = per_axis(kernel_size, 2, "avg_pool2d", "kernel_size")
    steps = kernel if stride is None else per_axis(stride, 2, "avg_pool2d", "stride")
    pads = per_axis(padding, 2, "avg_pool2d", "padding")
    y = ops.avg_pool(x, kernel, steps, pads, ceil_mode, count_include_pad, divisor_override)
    return ops.squeeze(y, 0) if added else y


def adaptive_avg_pool2d(input: Any, output_size: int | Sequence[int | None] | None) -> Any:
    """Means over windows that divide the input as evenly as whole numbers allow; output size 1 is the global average.

    Window i of an axis covers ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉ of its n elements, as in torch. One axis is averaged after the
    other, window by window: a product with a constant matrix would be one step, but spread infinities and NaN.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    output_size : int or (height, width)
        None keeps the length of an axis.
    """
    x, added = batched(input, 2, "adaptive_avg_pool2d")
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    sizes = tuple(n if m is None else m for n, m in zip(x.shape[2:], given))
    if len(given) != 2 or not all(isinstance(m, int) and m > 0 for m in sizes):
        raise ArgumentError("adaptive_avg_pool2d", got=f"output_size={output_size!r}", wanted="whole numbers above 0")
    for axis, count in ((3, sizes[1]), (2, sizes[0])):
        n = x.shape[axis]
        if count != n:
            x = ops.concat([ops.mean(_part(x, axis, i * n // count, -(-(i + 1) * n // count)), axis, keepdims=True)
                            for i in range(count)], axis)
    return ops.squeeze(x, 0) if added else x


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    return ops.getitem(x, (*(slice(None),) * axis, slice(start, stop)))
