"""BatchNorm and LayerNorm with a mask on the CPU, float32: which loops take which calls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading, normalization
from minigrad.kernels.compiled.loading import accelerates
from minigrad.kernels.compiled.normalization import FLOAT, parameter, reads
from minigrad.ops.normalization_texts import MaskedNorm


def _channels(op: Any, x: Any) -> bool:
    """Whether sets are channels, not rows."""
    return bool(x.ndim > 1 and op.axes == (0, *range(2, x.ndim)))


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
        shape = seen = x.shape
    else:
        lead = 2 if _channels(op, x) else x.ndim - len(op.axes)
        before = mask.shape[:2] if _channels(op, x) else x.shape[:lead]
        places = mask.shape[lead:] if all(n == 1 for n in mask.shape[lead:]) else x.shape[lead:]
        shape = *before, *places
        seen = *(before if _channels(op, x) else (1, math.prod(before))), math.prod(places)
    whole = mask if mask.shape == shape else np.broadcast_to(mask, shape)
    return np.ascontiguousarray(whole).view(np.uint8).reshape(seen)


def _loops(op: Any, x: Any) -> tuple[Any, tuple[int, ...]]:
    """The loops, forward and backward, and what they take beside arrays: columns of a strip, where there are strips."""
    parallel = x.size >= loading.PARALLEL_FROM
    if not _channels(op, x) or x.ndim > 2:
        return loading.loops("masked_loops", "planes" if _channels(op, x) else "rows", parallel), ()
    parallel = parallel and x.shape[1] >= 2 * normalization.STRIP
    return loading.loops("masked_columns", "columns", parallel), (normalization.STRIP if parallel else x.shape[1],)


@accelerates(MaskedNorm, "forward")
def forward(op: Any, x: Any, weight: Any, bias: Any, mask: Any) -> Any:
    """(y, mean, variance, rstd), as the text gives them, statistics in float32."""
    length = math.prod(op.param_shape)
    w, b = parameter(weight, length, 1), parameter(bias, length, 0)
    if not reads(x) or not x.size or w is None or b is None:
        return NotImplemented
    op._remember(weight, bias)
    seen, y = _shape(op, x), np.empty(x.shape, FLOAT)
    statistics = np.empty((3, seen[1]), FLOAT)
    loops, strip = _loops(op, x)
    loops[0](x.reshape(seen), _bytes(op, x, mask), w, b, op.eps, y.reshape(seen), statistics, *strip)
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
    loops, strip = _loops(op, x)
    loops[1](x.reshape(seen), _bytes(op, x, mask), np.ascontiguousarray(gy).reshape(seen), w, mean.reshape(-1),
             rstd.reshape(-1), gx.reshape(seen), gweight, gbias, *strip)
    return (gx, gweight.reshape(op._parameter) if needs[1] else None,
            gbias.reshape(op._parameter) if needs[2] else None, None)
