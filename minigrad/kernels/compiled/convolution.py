"""Convolution over two axes on the CPU, float32: which loops take which calls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import Array
from minigrad.kernels.compiled import blas, loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.ops.convolution import Convolution, ConvolutionInput, ConvolutionWeight
from minigrad.threads import get_num_threads

FLOAT = np.dtype(np.float32)
#: Elements of the largest array from which several threads share the images.
PARALLEL_FROM = 60_000


def _plain(*arrays: Array) -> bool:
    return all(a.ndim == 4 and a.dtype == FLOAT and a.flags.c_contiguous and a.size > 0 for a in arrays)


class _Sizes:
    """What the loops have to know of a call: kernel, stride, padding before, dilation, padded lengths and row length,
    and how many parts the images are shared out in.
    """

    __slots__ = ("arguments", "parts", "parallel")

    def __init__(self, op: Any, spatial: tuple[int, ...], kernel: tuple[int, ...], wide_out: int, images: int,
                 size: int) -> None:
        high, wide = (n + before + after for n, (before, after) in zip(spatial, op.padding))
        row = wide if op.stride == (1, 1) else wide_out
        pads = tuple(before for before, _ in op.padding)
        self.arguments = tuple(kernel), op.stride, pads, op.dilation, high, wide, row
        self.parallel = size >= PARALLEL_FROM and images > 1
        self.parts = min(images, get_num_threads()) if self.parallel else 1


def _loops(op: Any, w_shape: tuple[int, ...], parallel: bool) -> Any:
    """The loops forward, to the input and to the weight: others where each group has one channel, at stride 1."""
    if w_shape[1] > 1 or op.stride != (1, 1):
        return loading.loops("windows", "products", parallel)
    if w_shape[2:] == (3, 3) and op.dilation == (1, 1) and max(max(pads) for pads in op.padding) <= 2:
        return loading.loops("shifted_loops", "nine", parallel)
    return loading.loops("windows", "single", parallel)


@accelerates(Convolution, "forward")
def forward(op: Any, x: Any, w: Any, b: Any) -> Any:
    """y, as the text gives it."""
    if not _plain(x, w) or (b is not None and b.dtype != FLOAT) or not blas.available():
        return NotImplemented
    op._spatial, op._kernel = x.shape[2:], w.shape[2:]
    y = np.empty((x.shape[0], w.shape[0], *op.lengths(op._spatial, op._kernel)), FLOAT)
    sizes = _Sizes(op, x.shape[2:], w.shape[2:], y.shape[3], x.shape[0], max(x.size, y.size))
    bias = np.zeros(w.shape[0], FLOAT) if b is None else np.ascontiguousarray(b)
    run = _loops(op, w.shape, sizes.parallel)[0]
    run(x, op._grouped(w), bias, *sizes.arguments, y, sizes.parts)
    return y


@accelerates(Convolution, "backward")
def backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """(gx, gw, gb), as the text gives them: the two operations below, and a sum over places that lie together."""
    if not needs[2] or not _plain(gy):
        return NotImplemented
    gx, gw, _ = op.backward(saved, (needs[0], needs[1], False), gy)
    gb = np.empty(gy.shape[1], FLOAT)
    run = loading.loops("windows", "channel_sums", gy.size >= loading.PARALLEL_FROM)
    run(gy.reshape(gy.shape[0], gy.shape[1], -1), gb)
    return gx, gw, gb


@accelerates(ConvolutionInput, "forward")
def to_input(op: Any, gy: Any, w: Any) -> Any:
    """gx, as the text gives it."""
    if not _plain(gy, w) or not blas.available():
        return NotImplemented
    op._kernel = w.shape[2:]
    gx = np.empty((gy.shape[0], w.shape[1] * op.groups, *op.spatial), FLOAT)
    sizes = _Sizes(op, op.spatial, w.shape[2:], gy.shape[3], gy.shape[0], max(gx.size, gy.size))
    run = _loops(op, w.shape, sizes.parallel)[1]
    run(gy, op._grouped(w), *sizes.arguments, gx, sizes.parts)
    return gx


@accelerates(ConvolutionWeight, "forward")
def to_weight(op: Any, gy: Any, x: Any) -> Any:
    """gw, as the text gives it."""
    if not _plain(gy, x) or not blas.available():
        return NotImplemented
    op._spatial = x.shape[2:]
    shape = (gy.shape[1], x.shape[1] // op.groups, *op.kernel)
    sizes = _Sizes(op, x.shape[2:], op.kernel, gy.shape[3], gy.shape[0], max(x.size, gy.size))
    gw = np.empty((sizes.parts, op.groups, shape[0] // op.groups, math.prod(shape[1:])), FLOAT)
    run = _loops(op, shape, sizes.parallel)[2]
    run(gy, x, *sizes.arguments, gw, sizes.parts)
    return (gw[0] if sizes.parts == 1 else gw.sum(axis=0)).reshape(shape)
