"""Running averages on the CPU, float32, moved in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.ops.averages import RunningAverages

FLOAT = np.dtype(np.float32)


@accelerates(RunningAverages, "forward")
def forward(op: Any, mean: Any, variance: Any, batch_mean: Any, batch_variance: Any) -> Any:
    """New averages, and whether they are finite, as the text gives them."""
    if op.bessel.__class__ is not float:
        return NotImplemented
    for a in (mean, variance, batch_mean, batch_variance):
        if a.dtype is not FLOAT or not a.flags.c_contiguous or a.ndim != 1:
            return NotImplemented
    moved, spread = np.empty(mean.shape, FLOAT), np.empty(mean.shape, FLOAT)
    run = loading.loops("averages_loops", "averaged", False)
    finite = run(mean, variance, batch_mean, batch_variance, op.momentum, op.momentum * op.bessel, moved, spread)
    return moved, spread, finite
