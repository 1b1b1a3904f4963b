"""BatchNorm and LayerNorm with a mask on the CPU, float32: which loops take which calls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.kernels.compiled.normalization import FLOAT, parameter, reads
from minigrad.ops.normalization_texts import MaskedNorm


def _channels(op: Any, x: Any) -> bool:
    """Whether sets are channels, not rows."""
    return bool(x.ndim > 1 and op.axes == (0, *range(2, x.ndim)))


#: Columns that a thread takes at a time.
STRIP = 256


def _shape(op: Any, x: Any) -> tuple[int, ...]:
    """What the loops see of x: stretches, channels, places; for LayerNorm one stretch, and rows as channels.

    Without places it stays as it is.
    """
    if _channels(op, x):
        return x.shape if x.ndim == 2 else (*x.shape[:2], math.prod(x.shape[2:]))
    length = math.prod(op.param_shape)
    return 1, x.size // length, length


def _bytes(op: Any, x: Any, mask: Any) -> Any:
    """The mask in those axes, each as long as that of x or 1, without gaps; for (N, C), as long as those of x."""
    if _channels(op, x) and x.ndim == 2:
        return np.ascontiguousarray(np.broadcast_to(mask, x.shape)).view(np.uint8)
    lead = 2 if _channels(op, x) else x.ndim - len(op.axes)
    places = x.shape[lead:] if any(n != 1 for n in mask.shape[lead:]) else mask.shape[lead:]
    before = mask.shape[:2] if _channels(op, x) else x.shape[:lead]
    whole = np.ascontiguousarray(np.broadcast_to(mask, (*before, *places)))
    shape = before if _channels(op, x) else (1, math.prod(before))
    return whole.view(np.uint8).reshape(*shape, math.prod(places))


def _loops(op: Any, x: Any) -> Any:
    if not _channels(op, x):
        return loading.loops("masked_loops", "rows", x.size >= loading.PARALLEL_FROM)
    if x.ndim > 2:
        return loading.loops("masked_loops", "planes", x.size >= loading.PARALLEL_FROM)
    return loading.loops("masked_columns", "columns", x.size >= loading.PARALLEL_FROM and x.shape[1] >= 2 * STRIP)


@accelerates(MaskedNorm, "forward")
def forward(op: Any, x: Any, weight: Any, bias: Any, mask: Any) -> Any:
    """(y, mean, variance, rstd), as the text gives them."""
    length = math.prod(op.param_shape)
    w, b = parameter(weight, length, 1), parameter(bias, length, 0)
    if not reads(x) or not x.size or w is None or b is None:
        return NotImplemented
    op._remember(weight, bias)
    seen, y = _shape(op, x), np.empty(x.shape, FLOAT)
    statistics = np.empty((3, seen[1]), FLOAT)
    _loops(op, x)[0](x.reshape(seen), _bytes(op, x, mask), w, b, op.eps, y.reshape(seen), statistics)
    statistics = statistics.reshape(3, *(1 if a in op.axes else n for a, n in enumerate(x.shape)))
    return y, statistics[0], statistics[1], statistics[2]


@accelerates(MaskedNorm, "backward")
def backward(op: Any, saved: Any, needs: Any, gy: Any, gmean: Any, gvariance: Any, grstd: Any) -> Any:
    """(gx, gweight, gbias, None), as the text gives them where only y has a gradient."""
    x, weight, mean, rstd, mask = saved
    if (gy is None or gmean is not None or gvariance is not None or grstd is not None or not needs[0] or not reads(x)
            or not x.size or rstd.dtype != FLOAT or gy.dtype != FLOAT):
        return NotImplemented
    w = parameter(weight, math.prod(op.param_shape), 1)
    if w is None:
        return NotImplemented
    seen, gx = _shape(op, x), np.empty(x.shape, FLOAT)
    gweight, gbias = np.empty(w.shape, FLOAT), np.empty(w.shape, FLOAT)
    _loops(op, x)[1](x.reshape(seen), _bytes(op, x, mask), np.ascontiguousarray(gy).reshape(seen), w,
                     mean.reshape(-1), rstd.reshape(-1), gx.reshape(seen), gweight, gbias)
    return (gx, gweight.reshape(op._parameter) if needs[1] else None,
            gbias.reshape(op._parameter) if needs[2] else None, None)
