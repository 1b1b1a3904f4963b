"""The linear map: bias added in place, its gradient by the linear algebra. With BatchNorm, by the kernels of both."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from minigrad.kernels.registry import accelerates
from minigrad.ops.linear_batch_norm import LinearBatchNorm
from minigrad.ops.matmul import LINEAR, Linear

#: Rows that the linear algebra sums in the elements' own precision without losing digits to speak of.
ROWS = 4096


@functools.lru_cache(64)
def _ones(length: int, dtype: np.dtype[Any]) -> np.ndarray:
    array = np.ones(length, dtype)
    array.flags.writeable = False
    return array


def _plain(dtype: Any) -> bool:
    """Whether sums of products may be taken in a dtype itself."""
    return bool(dtype.kind == "f" and dtype.itemsize >= 4)


@accelerates(Linear, "forward", tier="numpy")
def forward(op: Any, x: Any, w: Any, b: Any) -> Any:
    """y, as the text gives it."""
    dtype = x.dtype
    if x.ndim < 2 or not _plain(dtype) or w.dtype != dtype or (b is not None and b.dtype != dtype):
        return NotImplemented
    y = x.dot(w.T) if x.ndim == 2 else np.matmul(x, w.T)  # for matrices the same product, a microsecond sooner
    return y if b is None else np.add(y, b, y)


@accelerates(Linear, "backward", tier="numpy")
def backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """(gx, gw, gb), as the text gives them."""
    x, w = saved
    dtype = gy.dtype
    if gy.ndim != 2 or gy.shape[0] > ROWS or not _plain(dtype) or (x is not None and x.dtype != dtype) or (
            w is not None and w.dtype != dtype):
        return NotImplemented
    gx = gy.dot(w) if needs[0] else None
    gw = x.T.dot(gy).T if needs[1] else None
    gb = _ones(gy.shape[0], dtype).dot(gy) if needs[2] else None
    return gx, gw, gb


@accelerates(LinearBatchNorm, "forward", tier="numpy")
def normalized_forward(op: Any, x: Any, w: Any, b: Any, weight: Any, bias: Any) -> Any:
    """(y, mean, variance, rstd, z, mean of z), as the text gives them, by the kernels of the parts."""
    if not _plain(x.dtype):
        return NotImplemented
    op.remember(b, weight, bias)
    z = LINEAR.run_forward(x, w, None)
    y, near, variance, rstd = op.norm.run_forward(z, weight, op.shift(b, bias))
    return y, near if b is None else near + b, variance, rstd, z, near


@accelerates(LinearBatchNorm, "backward", tier="numpy")
def normalized_backward(op: Any, saved: Any, needs: Any, gy: Any, gmean: Any, gvariance: Any, grstd: Any, gz: Any,
                        gnear: Any) -> Any:
    """(gx, gw, gb, gweight, gbias), as the text gives them where only y has a gradient, by the kernels of the parts."""
    x, w, weight, y, rstd, z, near = saved
    if gy is None or y is None or not (gmean is gvariance is grstd is gz is gnear is None):
        return NotImplemented
    through = needs[0] or needs[1]
    gz, gweight, gbias = op.norm.run_backward((z, weight, near, rstd, y), (through, needs[3], needs[4]), gy, None, None,
                                              None)
    gx, gw, _ = LINEAR.run_backward((x, w), (needs[0], needs[1], False), gz) if through else (None, None, None)
    return gx, gw, np.zeros(*op._like_bias) if needs[2] else None, gweight, gbias
