"""Activations and dropout on the CPU, float32: one pass, where NumPy makes an array for every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.op import Op
from minigrad.ops.activation import ReLU, Sigmoid, SiLU
from minigrad.ops.elementwise import Tanh
from minigrad.ops.random import Dropout

FLOAT = np.dtype(np.float32)


def _takes(*arrays: Any) -> bool:
    return all(a.dtype == FLOAT and a.ndim > 0 and a.flags.c_contiguous for a in arrays)


def _forward(name: str) -> Callable[..., Any]:
    def run(op: Any, x: Any) -> Any:
        if not _takes(x):
            return NotImplemented
        y = np.empty(x.shape, FLOAT)
        loading.loops("elementwise_loops", "forward", x.size >= loading.PARALLEL_FROM, name)(x.reshape(-1),
                                                                                             y.reshape(-1))
        return y

    return run


def _backward(name: str) -> Callable[..., Any]:
    def run(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
        (kept,) = saved
        if gy.dtype != FLOAT or not _takes(kept):
            return NotImplemented
        gy, gx = np.ascontiguousarray(gy), np.empty(gy.shape, FLOAT)
        loops = loading.loops("elementwise_loops", "backward", gy.size >= loading.PARALLEL_FROM, name)
        loops(kept.reshape(-1), gy.reshape(-1), gx.reshape(-1))
        return (gx,)

    return run


#: By operation, the names of its loops. NumPy has vector instructions of its own for the other forward passes.
FORWARD: dict[type[Op], str] = {Sigmoid: "sigmoid", SiLU: "silu"}
BACKWARD: dict[type[Op], str] = {ReLU: "relu", Sigmoid: "sigmoid", Tanh: "tanh", SiLU: "silu"}
for _op, _name in FORWARD.items():
    accelerates(_op, "forward")(_forward(_name))
for _op, _name in BACKWARD.items():
    accelerates(_op, "backward")(_backward(_name))


def _dropped(op: Any, x: Any, kept: Any) -> Any:
    """x·scale where kept, else 0; NotImplemented where the loop does not fit."""
    if x.dtype != FLOAT or kept.dtype != bool or kept.shape != x.shape or not kept.flags.c_contiguous:
        return NotImplemented
    x, y = np.ascontiguousarray(x), np.empty(x.shape, FLOAT)
    run = loading.loops("elementwise_loops", "dropped", x.size >= loading.PARALLEL_FROM)
    run(x.reshape(-1), kept.reshape(-1), FLOAT.type(op._scale()), y.reshape(-1))
    return y


@accelerates(Dropout, "forward")
def dropout(op: Any, x: Any, kept: Any) -> Any:
    """y, as the text gives it."""
    return _dropped(op, x, kept)


@accelerates(Dropout, "backward")
def dropout_backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """gx, as the text gives it."""
    gx = _dropped(op, gy, saved[0])
    return gx if gx is NotImplemented else (gx, None)
