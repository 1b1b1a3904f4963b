"""Normalization in training on the CPU, float32: which loops take which calls."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.registry import accelerates
from minigrad.ops.normalization import BatchNorm, LayerNorm

#: Columns whose sums, with a few rows of the matrix, fit in the first cache.
STRIP = 256


@functools.cache
def _constant(length: int, number: float) -> np.ndarray:
    """What an absent γ or β stands for."""
    array = np.full(length, number, np.float32)
    array.flags.writeable = False
    return array


def _plain(*arrays: Any) -> bool:
    return all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


def _takes_forward(op: Any, x: Any, weight: Any, bias: Any) -> bool:
    return loading.INSTALLED and x.size > 0 and _plain(x, *(a for a in (weight, bias) if a is not None))


def _takes_backward(op: Any, saved: Any, needs: Any, gy: Any, *others: Any) -> bool:
    if not loading.INSTALLED or gy is None or not needs[0] or any(g is not None for g in others):
        return False
    x, weight, mean, _ = saved
    return x.size > 0 and _plain(x, gy, mean) and (weight is None or _plain(weight))


def _kind(op: Any, x: Any) -> tuple[str, tuple[int, ...]]:
    """Which loops, and the shape in which they see x."""
    if isinstance(op, LayerNorm):
        length = math.prod(x.shape[a] for a in op.axes)
        return "rows", (x.size // length, length)
    places = math.prod(x.shape[2:])
    return ("columns", x.shape[:2]) if places == 1 else ("planes", (*x.shape[:2], places))


def _parallel(kind: str, shape: tuple[int, ...]) -> bool:
    sets = shape[0] if kind == "rows" else shape[1]
    return math.prod(shape) >= loading.PARALLEL_FROM and sets >= (2 * STRIP if kind == "columns" else 2)


@accelerates(BatchNorm, "forward", when=_takes_forward)
@accelerates(LayerNorm, "forward", when=_takes_forward)
def forward(op: Any, x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any, Any]:
    """(y, mean, variance, rstd), as the text gives them."""
    op._remember(weight, bias)
    kind, shape = _kind(op, x)
    size = shape[1]
    y = np.empty_like(x)
    statistics = np.empty((3, *(1 if a in op.axes else n for a, n in enumerate(x.shape))), np.float32)
    mean, variance, rstd = statistics
    w = _constant(size, 1) if weight is None else weight.reshape(-1)
    b = _constant(size, 0) if bias is None else bias.reshape(-1)
    run = loading.loops("normalization_loops", kind, _parallel(kind, shape))[0]
    arguments = (x.reshape(shape), w, b, op.eps, y.reshape(shape), *(a.reshape(-1) for a in statistics))
    run(*arguments, STRIP) if kind == "columns" else run(*arguments)
    return y, mean, variance, rstd


@accelerates(BatchNorm, "backward", when=_takes_backward)
@accelerates(LayerNorm, "backward", when=_takes_backward)
def backward(op: Any, saved: Any, needs: Any, gy: Any, *others: Any) -> tuple[Any, Any, Any]:
    """(gx, gweight, gbias), as the text gives them where only y has a gradient."""
    x, weight, mean, rstd = saved
    kind, shape = _kind(op, x)
    size = shape[1]
    gx = np.empty_like(x)
    parallel = _parallel(kind, shape)
    w = _constant(size, 1) if weight is None else weight.reshape(-1)
    run = loading.loops("normalization_loops", kind, parallel)[1]
    arguments = (x.reshape(shape), gy.reshape(shape), w, mean.reshape(-1), rstd.reshape(-1), gx.reshape(shape))
    if kind == "rows":
        parts = np.zeros((2, 8 if parallel else 1, size))
        run(*arguments, parts[0], parts[1])
        gweight, gbias = parts.sum(axis=1).astype(np.float32)
    else:
        gweight, gbias = np.empty((2, size), np.float32)
        run(*arguments, gweight, gbias, STRIP) if kind == "columns" else run(*arguments, gweight, gbias)
    return gx, *(g.reshape(op._parameter) if need else None for g, need in zip((gweight, gbias), needs[1:]))
