"""Softmax and its logarithm along the last axis on the CPU, float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.kernels.compiled.normalization import FLOAT, reads
from minigrad.op import Op
from minigrad.ops.activation import LogSoftmax, Softmax


def _forward(name: str) -> Callable[..., Any]:
    def run(op: Any, x: Any) -> Any:
        if not reads(x) or not x.size or op.axis != x.ndim - 1:
            return NotImplemented
        y, rows = np.empty(x.shape, FLOAT), (-1, x.shape[-1])
        loading.loops("softmax_loops", name, _parallel(x))[0](x.reshape(rows), y.reshape(rows))
        return y

    return run


def _backward(name: str) -> Callable[..., Any]:
    def run(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
        (y,) = saved
        if gy.dtype != FLOAT or not reads(y) or not y.size or op.axis != y.ndim - 1:
            return NotImplemented
        gx, rows = np.empty(y.shape, FLOAT), (-1, y.shape[-1])
        loops = loading.loops("softmax_loops", name, _parallel(y))
        loops[1](y.reshape(rows), np.ascontiguousarray(gy).reshape(rows), gx.reshape(rows))
        return (gx,)

    return run


def _parallel(x: Any) -> bool:
    """Whether there are rows enough for several threads."""
    return bool(x.size >= loading.PARALLEL_FROM and x.shape[-1] < x.size)


#: Operations by the names of their loops.
LOOPS: dict[str, type[Op]] = {"softmax": Softmax, "log_softmax": LogSoftmax}
for _name, _op in LOOPS.items():
    accelerates(_op, "forward")(_forward(_name))
    accelerates(_op, "backward")(_backward(_name))
