"""Local response normalization on the CPU, float32: which loops take which calls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.kernels.compiled.normalization import FLOAT, reads
from minigrad.ops.local_response import LocalResponseNorm

#: The powers that the loops know; NumPy has vector instructions for all others.
POWERS = (0.5, 0.75, 1.0)


def _loops(x: Any) -> tuple[Any, tuple[int, int, int]]:
    """The loops for an input, and the shape that they see."""
    return (loading.loops("local_response_loops", "channels", x.size >= loading.PARALLEL_FROM),
            (x.shape[0], x.shape[1], math.prod(x.shape[2:])))


def _settings(op: Any) -> tuple[Any, ...]:
    """Channels of a window before and behind, α, β and k."""
    return op.size // 2, (op.size - 1) // 2, *map(FLOAT.type, (op.alpha, op.beta, op.k))


@accelerates(LocalResponseNorm, "forward")
def forward(op: Any, x: Any) -> Any:
    """(y, ⟨x²⟩), as the text gives them, which sees to squares that overflow."""
    if op.beta not in POWERS or not reads(x) or not x.size:
        return NotImplemented
    loops, shape = _loops(x)
    y, square = np.empty(x.shape, FLOAT), np.empty(x.shape, FLOAT)
    finite = loops[0](x.reshape(shape), *_settings(op), y.reshape(shape), square.reshape(shape))
    return (y, square) if finite else NotImplemented


@accelerates(LocalResponseNorm, "backward")
def backward(op: Any, saved: Any, needs: Any, gy: Any, gsquare: Any) -> Any:
    """gx, as the text gives it where only y has a gradient."""
    x, square = saved
    if (gy is None or gsquare is not None or op.beta not in POWERS or gy.dtype != FLOAT or not gy.size or not reads(x)
            or not reads(square)):
        return NotImplemented
    loops, shape = _loops(x)
    gx = np.empty(x.shape, FLOAT)
    loops[1](x.reshape(shape), square.reshape(shape), np.ascontiguousarray(gy).reshape(shape), *_settings(op),
             gx.reshape(shape))
    return (gx,)
