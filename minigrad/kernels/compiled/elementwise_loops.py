"""Loops of activations and dropout over vectors, float32, compiled by numba; imported when first used."""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for, sigmoid32
from minigrad.kernels.compiled.vectors import BACKWARDS

f32 = np.float32


@numba.njit(inline="always", error_model="numpy")
def _silu(x):
    return x * sigmoid32(x)


@numba.njit(inline="always", error_model="numpy")
def _silu_backward(g, x):
    s = sigmoid32(x)
    return g * (s * (f32(1) + x * (f32(1) - s)))


@numba.njit(inline="always", error_model="numpy")
def _tanh_backward(g, y):
    return g * (f32(1) - y * y)


# Which function a loop calls is decided by names, not by a closure: see `channels`.
relu_backward, sigmoid_backward = BACKWARDS["relu"], BACKWARDS["sigmoid"]


def forward(parallel, name):
    """y = sigmoid or SiLU of x."""
    span = RANGE[parallel]

    @njit_for((parallel, name), parallel=parallel, fastmath={"contract"}, error_model="numpy", cache=True, nogil=True)
    def run(x, y):
        if name == "sigmoid":
            for i in span(x.shape[0]):
                y[i] = sigmoid32(x[i])
        else:
            for i in span(x.shape[0]):
                y[i] = _silu(x[i])

    return run


def backward(parallel, name):
    """gx = the gradient through the activation that kept `kept`: its output, but for SiLU the input."""
    span = RANGE[parallel]

    @njit_for((parallel, name), parallel=parallel, fastmath={"contract"}, error_model="numpy", cache=True, nogil=True)
    def run(kept, g, gx):
        if name == "relu":
            for i in span(g.shape[0]):
                gx[i] = relu_backward(g[i], kept[i])
        elif name == "sigmoid":
            for i in span(g.shape[0]):
                gx[i] = sigmoid_backward(g[i], kept[i])
        elif name == "tanh":
            for i in span(g.shape[0]):
                gx[i] = _tanh_backward(g[i], kept[i])
        else:
            for i in span(g.shape[0]):
                gx[i] = _silu_backward(g[i], kept[i])

    return run


def dropped(parallel):
    """y = x·scale where kept, else 0."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(x, kept, scale, y):
        for i in span(x.shape[0]):
            y[i] = x[i] * scale if kept[i] else f32(0)

    return run
