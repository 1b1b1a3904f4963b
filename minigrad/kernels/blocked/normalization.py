"""BatchNorm in training, float32: columns by the linear algebra, channels in pieces that fit the second cache.

The same numbers as the text takes: differences from one value of each set, a mean that is refined, squares about it.
Where a square overflows, the text has to see to it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from minigrad.kernels.blocked.slabs import shared
from minigrad.kernels.registry import accelerates
from minigrad.ops.normalization_texts import BatchNorm

FLOAT = np.dtype(np.float32)
#: Rows that the linear algebra sums in float32 without losing digits to speak of.
ROWS = 4096
#: Elements of a piece: with the room for its differences it fits a second cache of 2 MiB.
PIECE = 1 << 17


def _plain(*arrays: Any) -> bool:
    return all(a is None or (a.dtype == FLOAT and a.flags.c_contiguous) for a in arrays)


def _as_columns(x: Any) -> bool:
    return bool(x.ndim == 2 and 0 < x.shape[0] <= ROWS and x.shape[1] > 0)


@functools.lru_cache(64)
def _mean_of(rows: int) -> np.ndarray:
    """The vector whose product with a matrix of so many rows is the mean of its rows."""
    weights = np.full(rows, 1 / rows, FLOAT)
    weights.flags.writeable = False
    return weights


@accelerates(BatchNorm, "forward", tier="numpy")
def forward(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    """(y, mean, variance, rstd), as the text gives them."""
    if not _plain(x, weight, bias) or x.size == 0:
        return NotImplemented
    with np.errstate(over="ignore", invalid="ignore"):
        if _as_columns(x):
            y, statistics = _columns_forward(x, weight, bias, op.eps)
        else:
            y, statistics = _planes_forward(x, weight, bias, op.eps)
    if not np.isfinite(statistics[1]).all():
        return NotImplemented
    op._remember(weight, bias)
    statistics = statistics.reshape((3, *op.param_shape))
    return y, statistics[0], statistics[1], statistics[2]  # unpacking an array takes three times as long


def _columns_forward(x: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any]:
    k = _mean_of(x.shape[0])
    d = x - x[0]
    offset = k.dot(d)  # half the time of matmul, where it is a microsecond
    d -= offset
    rest = k.dot(d)  # what the rounding of the offset has left
    statistics = np.empty((3, x.shape[1]), FLOAT)
    mean, variance, rstd = statistics
    np.add(x[0], offset + rest, mean)
    k.dot(d * d, variance)
    variance -= rest * rest
    np.maximum(variance, 0, out=variance)
    np.add(variance, FLOAT.type(eps), rstd)
    np.sqrt(rstd, rstd)
    np.reciprocal(rstd, rstd)
    a = rstd if weight is None else weight * rstd
    d *= a
    d += -rest * a if bias is None else bias - rest * a
    return d, statistics


def _planes_forward(x: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any]:
    count, channels, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    y, statistics = np.empty(x.shape, FLOAT), np.empty((3, channels), FLOAT)
    seen, out = x.reshape(count, channels, length), y.reshape(count, channels, length)
    step, m = max(1, PIECE // (count * length)), count * length

    @np.errstate(over="ignore", invalid="ignore")  # each thread has its own
    def work(begin: int, end: int) -> None:
        room = np.empty((count, step, length), FLOAT)
        for low in range(begin, end, step):
            high = min(low + step, end)
            d = np.subtract(seen[:, low:high], seen[:1, low:high, :1], room[:, : high - low])
            offset = _sums(d) / m
            d -= offset.astype(FLOAT)[:, None]
            rest = _sums(d) / m
            variance = np.maximum(np.einsum("ncl,ncl->nc", d, d).sum(0, np.float64) / m - rest * rest, 0)
            near = offset.astype(FLOAT).astype(np.float64)
            r = 1 / np.sqrt(variance + eps)
            statistics[:, low:high] = seen[0, low:high, 0] + (near + rest), variance, r
            a = r if weight is None else weight[low:high] * r
            b = -rest * a if bias is None else bias[low:high] - rest * a
            d *= a.astype(FLOAT)[:, None]
            np.add(d, b.astype(FLOAT)[:, None], out[:, low:high])

    shared(work, channels, x.size)
    return y, statistics


def _sums(d: Any) -> Any:
    """Σ over images and places of d (N, C, L), in float64."""
    return np.add.reduce(np.add.reduce(d, 2), 0, np.float64)


@accelerates(BatchNorm, "backward", tier="numpy")
def backward(op: Any, saved: Any, needs: Any, gy: Any, gmean: Any, gvariance: Any, grstd: Any) -> Any:
    """(gx, gweight, gbias), as the text gives them where only y has a gradient."""
    x, weight, mean, rstd = saved
    alone = gy is not None and gmean is None and gvariance is None and grstd is None and needs[0]
    if not alone or not _plain(x, gy, weight, mean, rstd) or x.size == 0:
        return NotImplemented
    run = _columns_backward if _as_columns(x) else _planes_backward
    gx, gweight, gbias = run(x, gy, weight, mean.reshape(-1), rstd.reshape(-1))
    if not np.isfinite(gweight).all():  # a product of gradients and differences may have overflowed on the way
        return NotImplemented
    return gx, gweight if needs[1] else None, gbias if needs[2] else None


def _columns_backward(x: Any, gy: Any, weight: Any, mean: Any, rstd: Any) -> tuple[Any, Any, Any]:
    count = FLOAT.type(x.shape[0])
    k = _mean_of(x.shape[0])
    h = x - mean
    h *= rstd
    gbias = k.dot(gy)
    gweight = k.dot(gy * h)
    h *= gweight
    h += gbias
    np.subtract(gy, h, h)
    h *= rstd if weight is None else weight * rstd
    gweight *= count
    gbias *= count
    return h, gweight, gbias


def _planes_backward(x: Any, gy: Any, weight: Any, mean: Any, rstd: Any) -> tuple[Any, Any, Any]:
    count, channels, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    gx, gweight, gbias = np.empty(x.shape, FLOAT), np.empty(channels, FLOAT), np.empty(channels, FLOAT)
    shape = count, channels, length
    seen, upstream, out = x.reshape(shape), gy.reshape(shape), gx.reshape(shape)
    step, m = max(1, PIECE // (2 * count * length)), count * length

    @np.errstate(over="ignore", invalid="ignore")  # each thread has its own
    def work(begin: int, end: int) -> None:
        room = np.empty((count, step, length), FLOAT)
        for low in range(begin, end, step):
            high = min(low + step, end)
            g, r = upstream[:, low:high], rstd[low:high].astype(np.float64)
            d = np.subtract(seen[:, low:high], mean[low:high, None], room[:, : high - low])
            total = _sums(g)
            product = np.einsum("ncl,ncl->nc", g, d).sum(0, np.float64) * r
            gbias[low:high], gweight[low:high] = total, product
            d *= (-product / m * r).astype(FLOAT)[:, None]
            d += g
            d -= (total / m).astype(FLOAT)[:, None]
            a = r if weight is None else weight[low:high] * r
            np.multiply(d, a.astype(FLOAT)[:, None], out[:, low:high])

    shared(work, channels, x.size)
    return gx, gweight, gbias
