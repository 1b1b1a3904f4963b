"""Max pooling over two axes on the CPU: one pass over the windows, not one over the image for each place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.ops.pooling import MaxPool, Scatter


def _takes(op: Any, x: Any, *others: Any) -> bool:
    return (x.ndim == 4 and x.size > 0 and x.dtype.kind == "f" and x.itemsize >= 4
            and x.flags.c_contiguous and all(a.flags.c_contiguous for a in others))


def _geometry(op: Any) -> tuple[Any, ...]:
    return op.kernel, op.stride, tuple(before for before, _ in op.padding), op.dilation


def _inside(op: Any) -> bool:
    """Whether all windows lie on the input, and are so small that loops for just this size are worth compiling."""
    return (max(*op.kernel, *op.stride) <= 3 and op.dilation == (1, 1)
            and not any(before or after for before, after in op.padding))


def _lanes(op: Any) -> int:
    """How many windows of a row are worked on together: 4, 8 or 16, the first that holds a row, else 16."""
    return 4 if op.lengths[1] <= 4 else 8 if op.lengths[1] <= 8 else 16


@accelerates(MaxPool, "forward", when=_takes)
def forward(op: Any, x: Any) -> tuple[Any, Any]:
    """(y, which), as the text gives them."""
    op._spatial = x.shape[2:]
    shape = (*x.shape[:2], *op.lengths)
    y, which = np.empty(shape, x.dtype), np.empty(shape, np.int32)
    planes = shape[0] * shape[1]
    parallel = x.size >= loading.PARALLEL_FROM
    if _inside(op):
        run = loading.loops("pooling_loops", "max_pool_inside", parallel, *op.kernel, *op.stride, _lanes(op))
        run(x.reshape(planes, *x.shape[2:]), y.reshape(planes, *op.lengths), which.reshape(planes, *op.lengths))
        return y, which
    run = loading.loops("pooling_loops", "max_pool", parallel)
    run(x.reshape(planes, *x.shape[2:]), *_geometry(op), y.reshape(planes, *op.lengths),
        which.reshape(planes, *op.lengths))
    return y, which


@accelerates(Scatter, "forward", when=_takes)
def scatter(op: Any, g: Any, which: Any) -> Any:
    """Each gradient at the place that its window chose."""
    planes = g.shape[0] * g.shape[1]
    parallel = planes * math.prod(op.spatial) >= loading.PARALLEL_FROM
    if _inside(op) and op.stride == op.kernel:
        out = np.empty((*g.shape[:2], *op.spatial), g.dtype)
        run = loading.loops("pooling_loops", "scatter_apart", parallel, *op.kernel, _lanes(op))
        run(g.reshape(planes, *op.lengths), which.reshape(planes, *op.lengths), out.reshape(planes, *op.spatial))
        return out
    out = np.zeros((*g.shape[:2], *op.spatial), g.dtype)
    run = loading.loops("pooling_loops", "scatter", parallel)
    run(g.reshape(planes, *op.lengths), which.reshape(planes, *op.lengths), *_geometry(op),
        out.reshape(planes, *op.spatial))
    return out
