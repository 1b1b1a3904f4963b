"""Sums and means over the last axes on the CPU, float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.kernels.compiled.normalization import FLOAT, reads
from minigrad.ops.reduction import Mean, Sum


def _summed(op: Any, x: Any, share: float) -> Any:
    """share·Σ of x; NotImplemented where the loop does not fit."""
    lead = x.ndim - len(op.axis)
    if not x.size or not op.axis or not reads(x) or tuple(sorted(op.axis)) != tuple(range(lead, x.ndim)):
        return NotImplemented
    rows = math.prod(x.shape[:lead])
    out = np.empty(rows, FLOAT)
    loading.loops("reduction_loops", "row_sums", x.size >= loading.PARALLEL_FROM)(x.reshape(rows, -1), share, out)
    return out.reshape((*x.shape[:lead], *(1,) * len(op.axis)) if op.keepdims else x.shape[:lead])


@accelerates(Sum, "forward")
def sum_forward(op: Any, x: Any) -> Any:
    """y, as the text gives it."""
    op._from = x.shape
    return _summed(op, x, 1.0)


@accelerates(Mean, "forward")
def mean_forward(op: Any, x: Any) -> Any:
    """y, as the text gives it."""
    op._from = x.shape
    return _summed(op, x, 1 / op.count()) if x.size else NotImplemented
