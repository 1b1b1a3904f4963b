"""Cross-entropy of rows of scores on the CPU, float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.ops.loss import ClassCoefficients, CrossEntropy

FLOAT = np.dtype(np.float32)


def _takes(*arrays: Any) -> bool:
    return all(a.ndim == 2 and a.dtype == FLOAT and a.flags.c_contiguous and a.size > 0 for a in arrays)


@accelerates(CrossEntropy, "forward")
def forward(op: Any, x: Any, q: Any) -> Any:
    """The losses, or their sum, as the text gives them."""
    if not _takes(x, q) or x.shape != q.shape:
        return NotImplemented
    losses = np.empty(x.shape[0])
    total = loading.loops("entropy_loops", "cross_entropy", x.size >= loading.PARALLEL_FROM)[0](x, q, losses)
    return np.array(total, FLOAT) if op.reduce else losses.astype(FLOAT)


@accelerates(CrossEntropy, "backward")
def backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """gx, as the text gives it where the target needs no gradient."""
    x, q = saved
    if needs[1] or not _takes(x, q) or gy.dtype != FLOAT or not gy.flags.c_contiguous or x.shape != q.shape:
        return NotImplemented
    gx = np.empty(x.shape, FLOAT)
    run = loading.loops("entropy_loops", "cross_entropy", x.size >= loading.PARALLEL_FROM)[1]
    run(x, q, gy.reshape(-1), gx)
    return gx, None


@accelerates(ClassCoefficients, "forward")
def coefficients(op: Any, target: Any) -> Any:
    """q, and whether all targets are classes, as the text gives them."""
    if op.dtype != FLOAT or not target.flags.c_contiguous or not target.dtype.isnative:
        return NotImplemented
    q = np.empty((target.shape[0], op.classes), FLOAT)
    return q, loading.loops("entropy_loops", "coefficients", False)(target, op.share, q)
