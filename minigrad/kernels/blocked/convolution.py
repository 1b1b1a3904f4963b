"""Convolution a few images at a time: their columns stay in the cache until they have been multiplied.

The columns of a whole batch are as many times larger than it as the kernel has places; written to memory and read
again, they take longer than the products.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.registry import accelerates
from minigrad.ops.convolution import Convolution, ConvolutionInput, ConvolutionWeight

#: Bytes of columns at a time: half of a second cache of 2 MiB.
COLUMNS = 1 << 20


def _images(op: Any, channels: int, kernel: tuple[int, ...], lengths: tuple[int, ...], x: Any) -> int:
    """How many images have columns that fit the cache; 0 if all of them do, or for dtypes of other rules."""
    each = channels * math.prod(kernel) * math.prod(lengths) * x.itemsize
    if each * x.shape[0] <= 2 * COLUMNS or x.dtype.kind != "f" or x.itemsize < 4:
        return 0
    return int(max(1, COLUMNS // each))


@accelerates(Convolution, "forward", tier="numpy")
def forward(op: Any, x: Any, w: Any, b: Any) -> Any:
    """y, as the text gives it."""
    lengths = op.lengths(x.shape[2:], w.shape[2:])
    step = _images(op, x.shape[1], w.shape[2:], lengths, x)
    if not step or w.dtype != x.dtype or (b is not None and b.dtype != x.dtype):
        return NotImplemented
    y = np.empty((x.shape[0], w.shape[0], *lengths), x.dtype)
    for i in range(0, x.shape[0], step):
        y[i : i + step] = op.forward(x[i : i + step], w, None)
    if b is not None:
        y += b.reshape((-1,) + (1,) * len(lengths))
    return y


@accelerates(ConvolutionInput, "forward", tier="numpy")
def to_input(op: Any, gy: Any, w: Any) -> Any:
    """gx, as the text gives it."""
    channels = w.shape[1] * op.groups
    step = _images(op, channels, w.shape[2:], gy.shape[2:], gy)
    if not step or w.dtype != gy.dtype:
        return NotImplemented
    gx = np.empty((gy.shape[0], channels, *op.spatial), gy.dtype)
    for i in range(0, gy.shape[0], step):
        gx[i : i + step] = op.forward(gy[i : i + step], w)
    return gx


@accelerates(ConvolutionWeight, "forward", tier="numpy")
def to_weight(op: Any, gy: Any, x: Any) -> Any:
    """gw, as the text gives it."""
    step = _images(op, x.shape[1], op.kernel, gy.shape[2:], x)
    if not step or gy.dtype != x.dtype:
        return NotImplemented
    gw = op.forward(gy[:step], x[:step])
    for i in range(step, x.shape[0], step):
        gw += op.forward(gy[i : i + step], x[i : i + step])
    return gw
