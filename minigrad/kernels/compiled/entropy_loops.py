"""Loops of cross-entropy over rows of scores, float32, compiled by numba; imported when first used."""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, exp32
from minigrad.kernels.compiled.vectors import FAST, f32, f64


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def exponentials(row):
    """The largest score, and Σ e^(score − largest)."""
    top = row[0]
    for i in range(row.shape[0]):
        top = row[i] if row[i] > top else top
    total = f32(0)
    for i in range(row.shape[0]):
        total += exp32(row[i] - top)
    return top, total


def cross_entropy(parallel):
    """(forward, backward) for scores x and coefficients q (N, C); each row's loss in float64."""
    span = RANGE[parallel]

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, q, out):
        for n in span(x.shape[0]):
            top, total = exponentials(x[n])
            least = np.log(f64(total))
            loss = 0.0
            for c in range(x.shape[1]):
                if q[n, c] != 0:  # 0·ln 0 is 0: a class that is ruled out
                    loss -= q[n, c] * (f64(x[n, c]) - top - least)
            out[n] = loss if total == total else np.nan

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, q, gy, gx):
        for n in span(x.shape[0]):
            top, total = exponentials(x[n])
            weight = f32(0)
            for c in range(x.shape[1]):
                weight += q[n, c]
            g = gy[n if gy.shape[0] > 1 else 0]
            scale = weight / total
            for c in range(x.shape[1]):
                gx[n, c] = g * (exp32(x[n, c] - top) * scale - q[n, c])

    return forward, backward
