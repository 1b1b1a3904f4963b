"""Loops of softmax and its logarithm over rows, float32, compiled by numba; imported when first used."""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, exp32, njit_for
from minigrad.kernels.compiled.entropy_loops import exponentials, largest_of
from minigrad.kernels.compiled.vectors import f32, row_product, row_sum


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def scale_in_place(y, a):
    """y *= a."""
    for i in range(y.shape[0]):
        y[i] *= a


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def product_less(y, g, total, out):
    """out = y·(g − total)."""
    for i in range(y.shape[0]):
        out[i] = y[i] * (g[i] - total)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def less(x, top, rest, out):
    """out = x − top − rest."""
    for i in range(x.shape[0]):
        out[i] = (x[i] - top) - rest


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def less_exponential(y, g, total, out):
    """out = g − e^y·total."""
    for i in range(y.shape[0]):
        out[i] = g[i] - exp32(y[i]) * total


def softmax(parallel):
    """(forward, backward) for rows of x (R, D)."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, y):
        for n in span(x.shape[0]):
            exponentials(x[n], largest_of(x[n]), y[n])
            scale_in_place(y[n], f32(1 / row_sum(y[n])))

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(y, gy, gx):
        for n in span(y.shape[0]):
            product_less(y[n], gy[n], f32(row_product(y[n], gy[n])), gx[n])

    return forward, backward


def log_softmax(parallel):
    """(forward, backward) for rows of x (R, D)."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, y):
        for n in span(x.shape[0]):
            top = largest_of(x[n])
            exponentials(x[n], top, y[n])
            less(x[n], top, f32(np.log(row_sum(y[n]))), y[n])

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(y, gy, gx):
        for n in span(y.shape[0]):
            less_exponential(y[n], gy[n], f32(row_sum(gy[n])), gx[n])

    return forward, backward
