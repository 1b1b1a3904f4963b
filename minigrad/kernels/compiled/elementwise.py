"""Activations and dropout on the CPU, float32: one pass, where NumPy makes an array for every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.op import Op
from minigrad.ops.activation import (
    ELU,
    GELU,
    GELUTanh,
    HardTanh,
    LeakyReLU,
    LogSigmoid,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
)
from minigrad.ops.elementwise import Tanh
from minigrad.ops.random import Dropout

FLOAT = np.dtype(np.float32)


def _takes(*arrays: Any) -> bool:
    return all(a.dtype == FLOAT and a.ndim > 0 and a.flags.c_contiguous for a in arrays)


#: What an activation's loops are told beside arrays.
Settings = Callable[[Any], tuple[Any, Any]]


def _forward(name: str, settings: Settings) -> Callable[..., Any]:
    def run(op: Any, x: Any) -> Any:
        if not _takes(x):
            return NotImplemented
        y = np.empty(x.shape, FLOAT)
        loops = loading.loops("elementwise_loops", "forward", x.size >= loading.PARALLEL_FROM, name)
        loops(x.reshape(-1), y.reshape(-1), *settings(op))
        return y

    return run


def _backward(name: str, settings: Settings) -> Callable[..., Any]:
    def run(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
        (kept,) = saved
        if gy.dtype != FLOAT or not _takes(kept):
            return NotImplemented
        gy, gx = np.ascontiguousarray(gy), np.empty(gy.shape, FLOAT)
        loops = loading.loops("elementwise_loops", "backward", gy.size >= loading.PARALLEL_FROM, name)
        loops(kept.reshape(-1), gy.reshape(-1), gx.reshape(-1), *settings(op))
        return (gx,)

    return run


NONE = FLOAT.type(0), FLOAT.type(0)


def _none(op: Any) -> tuple[Any, Any]:
    return NONE


#: By name, the operations that have loops, and their settings.
ACTIVATIONS: dict[str, tuple[type[Op], Settings]] = {
    "relu": (ReLU, _none),
    "sigmoid": (Sigmoid, _none),
    "tanh": (Tanh, _none),
    "silu": (SiLU, _none),
    "gelu": (GELU, _none),
    "gelu_tanh": (GELUTanh, _none),
    "mish": (Mish, _none),
    "logsigmoid": (LogSigmoid, _none),
    "leaky_relu": (LeakyReLU, lambda op: (FLOAT.type(op.slope), NONE[1])),
    "elu": (ELU, lambda op: (FLOAT.type(op.alpha), NONE[1])),
    "hardtanh": (HardTanh, lambda op: (FLOAT.type(op.low), FLOAT.type(op.high))),
    "softplus": (Softplus, lambda op: (FLOAT.type(op.beta), FLOAT.type(op.threshold))),
}
#: Those whose forward NumPy has vector instructions for.
IN_NUMPY = {"relu", "tanh", "hardtanh"}
for _name, (_op, _settings) in ACTIVATIONS.items():
    accelerates(_op, "backward")(_backward(_name, _settings))
    if _name not in IN_NUMPY:
        accelerates(_op, "forward")(_forward(_name, _settings))


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
