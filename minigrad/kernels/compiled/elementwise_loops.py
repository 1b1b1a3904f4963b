"""Loops of activations and dropout over vectors, float32, compiled by numba; imported when first used."""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, sigmoid32
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


FORWARDS = {"sigmoid": sigmoid32, "silu": _silu}
#: Of the gradient and what backward keeps: the output, but for SiLU the input.
PULLS = {**BACKWARDS, "silu": _silu_backward, "tanh": _tanh_backward}


def forward(parallel, name):
    """y = a(x)."""
    span, act = RANGE[parallel], FORWARDS[name]

    @numba.njit(parallel=parallel, fastmath={"contract"}, error_model="numpy", cache=True, nogil=True)
    def run(x, y):
        for i in span(x.shape[0]):
            y[i] = act(x[i])

    return run


def backward(parallel, name):
    """gx = the gradient through the activation that kept `kept`."""
    span, pull = RANGE[parallel], PULLS[name]

    @numba.njit(parallel=parallel, fastmath={"contract"}, error_model="numpy", cache=True, nogil=True)
    def run(kept, g, gx):
        for i in span(g.shape[0]):
            gx[i] = pull(g[i], kept[i])

    return run


def dropped(parallel):
    """y = x·scale where kept, else 0."""
    span = RANGE[parallel]

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(x, kept, scale, y):
        for i in span(x.shape[0]):
            y[i] = x[i] * scale if kept[i] else f32(0)

    return run
