"""Max pooling over two axes on the CPU: one pass over the windows, not one over the image for each place."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.registry import accelerates
from minigrad.ops.pooling import MaxPool, Scatter


def _takes(op: Any, x: Any, *others: Any) -> bool:
    return (loading.INSTALLED and x.ndim == 4 and x.size > 0 and x.dtype.kind == "f" and x.itemsize >= 4
            and x.flags.c_contiguous and all(a.flags.c_contiguous for a in others))


def _geometry(op: Any) -> tuple[Any, ...]:
    return op.kernel, op.stride, tuple(before for before, _ in op.padding), op.dilation


@accelerates(MaxPool, "forward", when=_takes)
def forward(op: Any, x: Any) -> tuple[Any, Any]:
    """(y, which), as the text gives them."""
    op._spatial = x.shape[2:]
    shape = (*x.shape[:2], *op.lengths)
    y, which = np.empty(shape, x.dtype), np.empty(shape, np.int32)
    planes = shape[0] * shape[1]
    run = loading.loops("loops", "max_pool", x.size >= loading.PARALLEL_FROM)
    run(x.reshape(planes, *x.shape[2:]), *_geometry(op), y.reshape(planes, *op.lengths),
        which.reshape(planes, *op.lengths))
    return y, which


@accelerates(Scatter, "forward", when=_takes)
def scatter(op: Any, g: Any, which: Any) -> Any:
    """Each gradient at the place that its window chose."""
    out = np.zeros((*g.shape[:2], *op.spatial), g.dtype)
    planes = g.shape[0] * g.shape[1]
    run = loading.loops("loops", "scatter", out.size >= loading.PARALLEL_FROM)
    run(g.reshape(planes, *op.lengths), which.reshape(planes, *op.lengths), *_geometry(op),
        out.reshape(planes, *op.spatial))
    return out
