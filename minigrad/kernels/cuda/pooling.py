"""Pooling on a GPU over one to three axes: one pass, and adjoints that gather."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.cuda.launch import MOST, here, takes
from minigrad.kernels.cuda.windows import described, run
from minigrad.kernels.registry import accelerates
from minigrad.ops.pooling import MaxPool, Pick, Scatter, Spread, SumPool


def _takes(op: Any, x: Any, which: Any = None) -> bool:
    if not takes(x) or not here(which) or len(op.kernel) > 3:
        return False
    return which is None or bool(which.dtype == np.int32 and which.flags.c_contiguous)


def _from_input(op: Any, x: Any) -> tuple[Any, Any]:
    """An empty output, and the geometry; the spatial lengths are noted for backward as the texts note them."""
    import cupy

    op._spatial = x.shape[2:]
    y = cupy.empty((*x.shape[:2], *op.lengths), x.dtype)
    return y, described(x.shape[2:], op.lengths, op.kernel, op)


def _to_input(op: Any, g: Any) -> tuple[Any, Any]:
    """An empty array in the shape of the input, and the geometry."""
    import cupy

    out = cupy.empty((*g.shape[:2], *op.spatial), g.dtype)
    return out, described(op.spatial, op.lengths, op.kernel, op)


def _fits(op: Any, x: Any, spatial: Any) -> bool:
    """Whether 32 bits count the elements of the result too."""
    return bool(math.prod(x.shape[:2]) * math.prod(spatial) <= MOST)


@accelerates(MaxPool, "forward", device="cuda", when=_takes)
def max_pool(op: Any, x: Any) -> Any:
    """(y, which), as the text gives them."""
    import cupy

    if not _fits(op, x, op.lengths):
        return NotImplemented
    y, windows = _from_input(op, x)
    which = cupy.empty(y.shape, np.int32)
    run("max_pool", x, y.size, (x, y, which), windows)
    return y, which


@accelerates(Scatter, "forward", device="cuda", when=_takes)
def scatter(op: Any, g: Any, which: Any) -> Any:
    """Each gradient at the place that its window chose."""
    if not _fits(op, g, op.spatial):
        return NotImplemented
    out, windows = _to_input(op, g)
    run("scatter", g, out.size, (g, which, out), windows)
    return out


@accelerates(Pick, "forward", device="cuda", when=_takes)
def pick(op: Any, x: Any, which: Any) -> Any:
    """What lies at the place that each window chose."""
    y, windows = _from_input(op, x)
    run("pick", x, y.size, (x, which, y), windows)
    return y


@accelerates(SumPool, "forward", device="cuda", when=_takes)
def sum_pool(op: Any, x: Any) -> Any:
    """The sum under each window."""
    if not _fits(op, x, op.lengths):
        return NotImplemented
    y, windows = _from_input(op, x)
    run("sum_pool", x, y.size, (x, y), windows)
    return y


@accelerates(Spread, "forward", device="cuda", when=_takes)
def spread(op: Any, g: Any) -> Any:
    """Each element at every place of its window, added up."""
    if not _fits(op, g, op.spatial):
        return NotImplemented
    out, windows = _to_input(op, g)
    run("spread", g, out.size, (g, out), windows)
    return out
