"""Convolution on a GPU over one to three axes, as products of matrices by cuBLAS.

The columns of several images stand side by side, (groups, C/groups·places of the kernel, images·places of the output),
so that each of the three operations is one product per group. As many images are taken at a time as keep the columns
below `COLUMNS` bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.kernels.cuda.launch import MOST, here, pointer, takes
from minigrad.kernels.cuda.products import product
from minigrad.kernels.cuda.windows import described, run
from minigrad.kernels.registry import accelerates
from minigrad.ops.convolution import Convolution, ConvolutionInput, ConvolutionWeight

#: Bytes that the columns of one product may have; one image's are made whatever their size.
COLUMNS = 1 << 28


class _Sizes:
    """A call's sizes: images, channels, places of the kernel and of the output, and the geometry for the source."""

    def __init__(self, op: Any, count: int, channels: int, spatial: Any, kernel: Any, out: int) -> None:
        lengths = op.lengths(spatial, kernel)
        self.count, self.channels, self.groups, self.out = count, channels, op.groups, out
        self.places, self.length = math.prod(kernel), math.prod(lengths)
        self.image_size = channels * math.prod(spatial)
        self.rows = channels // op.groups * self.places
        self.windows = described(spatial, lengths, kernel, op)

    def fits(self) -> bool:
        """Whether the source has loops for so many axes, and 32 bits count the elements and the columns of an image."""
        return self.windows is not None and max(self._elements(), self.image_size) <= MOST

    def _elements(self) -> int:
        """Of the largest array that one image takes."""
        return int(max(self.channels * self.places, self.out) * self.length)

    def slabs(self, like: Any) -> Iterator[slice]:
        """Which images go together."""
        step = max(1, COLUMNS // (self._elements() * like.itemsize))
        return (slice(start, min(start + step, self.count)) for start in range(0, self.count, step))

    def columns(self, x: Any) -> Any:
        """x (n, C, …) as columns (groups, C/groups·places, n·places of the output)."""
        import cupy

        n = x.shape[0]
        made = cupy.empty((self.groups, self.rows, n * self.length), x.dtype)
        run("im2col", x, self.channels * n * self.length, (x, made, np.int32(n), np.int32(self.channels)),
            self.windows)
        return made

    def image(self, columns: Any, x: Any) -> None:
        """The adjoint of `columns`, into x (n, C, …)."""
        run("col2im", x, x.size, (columns, x, np.int32(x.shape[0]), np.int32(self.channels)), self.windows)

    def grouped(self, gy: Any) -> Any:
        """gy (n, O, …) as (groups, O/groups, n·places)."""
        import cupy

        n = gy.shape[0]
        made = cupy.empty((self.groups, self.out // self.groups, n * self.length), gy.dtype)
        _exchange(gy, None, made, self.out, n, self.length)
        return made


def _exchange(x: Any, bias: Any, y: Any, first: int, second: int, length: int) -> None:
    """x (second, first, length) as y (first, second, length), plus a number for each of `second`."""
    run("exchange", x, y.size, (x, pointer(bias), y, np.int32(first), np.int32(second), np.int32(length)))


def _product(a: Any, b: Any) -> Any:
    """Products of matrices (groups, ·, ·), by what can be recorded while a step is. One needs no copy of a transposed
    factor.
    """
    import cupy

    if a.shape[0] == 1:
        return product(a[0], b[0])[None]
    return product(cupy.ascontiguousarray(a), cupy.ascontiguousarray(b))


def _takes(op: Any, a: Any, b: Any, bias: Any = None) -> bool:
    return takes(a, b) and a.ndim <= 5 and (
        bias is None or (here(bias) and bias.dtype == a.dtype and bias.flags.c_contiguous))


@accelerates(Convolution, "forward", device="cuda", when=_takes)
def forward(op: Any, x: Any, w: Any, b: Any) -> Any:
    """y, as the text gives it."""
    import cupy

    sizes = _Sizes(op, x.shape[0], x.shape[1], x.shape[2:], w.shape[2:], w.shape[0])
    if not sizes.fits():
        return NotImplemented
    op._spatial, op._kernel = x.shape[2:], w.shape[2:]
    y = cupy.empty((x.shape[0], w.shape[0], *op.lengths(x.shape[2:], w.shape[2:])), x.dtype)
    weight = op._grouped(w)
    for part in sizes.slabs(x):
        products = _product(weight, sizes.columns(x[part]))
        _exchange(products, b, y[part], part.stop - part.start, sizes.out, sizes.length)
    return y


@accelerates(ConvolutionInput, "forward", device="cuda", when=_takes)
def to_input(op: Any, gy: Any, w: Any) -> Any:
    """gx, as the text gives it."""
    import cupy

    channels = w.shape[1] * op.groups
    sizes = _Sizes(op, gy.shape[0], channels, op.spatial, w.shape[2:], w.shape[0])
    if not sizes.fits():
        return NotImplemented
    op._kernel = w.shape[2:]
    gx = cupy.empty((gy.shape[0], channels, *op.spatial), gy.dtype)
    weight = op._grouped(w).swapaxes(1, 2)
    for part in sizes.slabs(gy):
        sizes.image(_product(weight, sizes.grouped(gy[part])), gx[part])
    return gx


@accelerates(ConvolutionWeight, "forward", device="cuda", when=_takes)
def to_weight(op: Any, gy: Any, x: Any) -> Any:
    """gw, as the text gives it. Parts of a batch are added in float32."""
    sizes = _Sizes(op, x.shape[0], x.shape[1], x.shape[2:], op.kernel, gy.shape[1])
    if not sizes.fits():
        return NotImplemented
    op._spatial = x.shape[2:]
    total: Any = None
    for part in sizes.slabs(x):
        rows, columns = sizes.grouped(gy[part]), sizes.columns(x[part])
        if op.groups == 1:
            products = _product(rows, columns.swapaxes(1, 2))
        else:  # the gradient is copied where it has to be transposed, not the columns
            products = _product(columns, rows.swapaxes(1, 2)).swapaxes(1, 2)
        wide = products.astype(np.float32) if part.stop < x.shape[0] and total is None else products
        total = wide if total is None else total + wide
    shape = (gy.shape[1], x.shape[1] // op.groups, *op.kernel)
    return total.reshape(shape).astype(x.dtype, copy=False)
