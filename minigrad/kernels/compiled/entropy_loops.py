"""Loops of cross-entropy over rows of scores, float32, compiled by numba; imported when first used."""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, exp32, njit_for
from minigrad.kernels.compiled.vectors import FAST, f32, f64, row_sum


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def largest_of(row):
    """The largest element, NaN left out."""
    top = row[0]
    for i in range(row.shape[0]):
        top = row[i] if row[i] > top else top
    return top


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def exponentials(row, top, out):
    """out = e^(row − top)."""
    for i in range(row.shape[0]):
        out[i] = exp32(row[i] - top)


def cross_entropy(parallel):
    """(forward, backward) for scores x and coefficients q (N, C); each row's loss in float64, and their sum."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, q, out):
        for n in span(x.shape[0]):
            e = np.empty(x.shape[1], f32)
            top = largest_of(x[n])
            exponentials(x[n], top, e)
            total = row_sum(e)
            least = np.log(total)
            loss = 0.0
            for c in range(x.shape[1]):
                if q[n, c] != 0:  # 0·ln 0 is 0: a class that is ruled out
                    loss -= q[n, c] * (f64(x[n, c]) - top - least)
            out[n] = loss if total == total else np.nan
        whole = 0.0
        for n in range(out.shape[0]):  # in one order, whatever the threads
            whole += out[n]
        return whole

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, q, gy, gx):
        for n in span(x.shape[0]):
            exponentials(x[n], largest_of(x[n]), gx[n])
            scale = f32(row_sum(q[n]) / row_sum(gx[n]))
            g = gy[n] if gy.shape[0] > 1 else gy[0]
            for c in range(x.shape[1]):
                gx[n, c] = g * (gx[n, c] * scale - q[n, c])

    return forward, backward


def coefficients(parallel):
    """q = share at the class of each row, else 0; returns whether all targets are classes."""

    @njit_for((parallel,), error_model="numpy", cache=True, nogil=True)
    def run(target, share, q):
        for n in range(q.shape[0]):
            for c in range(q.shape[1]):
                q[n, c] = f32(0)
        for n in range(q.shape[0]):
            c = target[n]
            if c < 0 or c >= q.shape[1]:
                return False
            q[n, c] = share
        return True

    return run
