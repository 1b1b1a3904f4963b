"""Loops of local response normalization, float32, compiled by numba; imported when first used.

x is (N, C, L). A strip of places is worked on for all channels, so that their windows stay in the cache. Sums over a
window are taken anew for each channel: a sum that slides along would keep the rounding of what has left it.
"""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.vectors import add, f32

#: Places of a strip.
STRIP = 512


@numba.njit(inline="always", error_model="numpy")
def inverse_power(d, beta):
    """d^−β for β = ¾, ½ or 1, by roots, which vector registers have instructions for."""
    if beta == f32(0.75):
        root = np.sqrt(d)
        return f32(1) / (root * np.sqrt(root))
    if beta == f32(0.5):
        return f32(1) / np.sqrt(d)
    return f32(1) / d


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def divided(x, square, alpha, beta, k, y):
    """y = x·d^−β with d = k + α·square."""
    for i in range(x.shape[0]):
        y[i] = x[i] * inverse_power(square[i] * alpha + k, beta)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def pulled(x, square, gy, alpha, beta, k, gx, into):
    """gx = gy·d^−β, and into = −αβ·gy·x·d^−(β+1), which the window's adjoint goes on with."""
    for i in range(x.shape[0]):
        d = square[i] * alpha + k
        scale = inverse_power(d, beta)
        gx[i] = gy[i] * scale
        into[i] = gy[i] * x[i] * (scale / d) * (-alpha * beta)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def add_squares(x, out):
    """out += x²."""
    for i in range(x.shape[0]):
        out[i] += x[i] * x[i]


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def scale_and_check(out, a):
    """out *= a; returns 0, or NaN if one is not finite."""
    doubt = f32(0)
    for i in range(out.shape[0]):
        out[i] *= a
        doubt += out[i] - out[i]
    return doubt


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def add_product(a, x, h, out):
    """out += a·x·h."""
    for i in range(x.shape[0]):
        out[i] += a * x[i] * h[i]


def channels(parallel):
    """The loops, forward and backward, with windows from `before` channels before to `after` behind each.

    Forward gives y and ⟨x²⟩, and returns whether all of ⟨x²⟩ is finite.
    """
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, before, after, alpha, beta, k, y, square):
        count, size, length = x.shape
        strips = (length + STRIP - 1) // STRIP
        share = f32(1 / (before + after + 1))
        doubts = np.zeros(count * strips, f32)
        for part in span(count * strips):
            n, low = part // strips, part % strips * STRIP
            high = min(low + STRIP, length)
            for c in range(size):
                out = square[n, c, low:high]
                out[:] = 0
                for j in range(max(c - before, 0), min(c + after + 1, size)):
                    add_squares(x[n, j, low:high], out)
                doubts[part] += scale_and_check(out, share)
                divided(x[n, c, low:high], out, alpha, beta, k, y[n, c, low:high])
        return doubts.sum() == 0

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, square, gy, before, after, alpha, beta, k, gx):
        count, size, length = x.shape
        strips = (length + STRIP - 1) // STRIP
        share = f32(2 / (before + after + 1))
        for part in span(count * strips):
            n, low = part // strips, part % strips * STRIP
            high = min(low + STRIP, length)
            into, total = np.empty((size, high - low), f32), np.empty(high - low, f32)
            for c in range(size):
                pulled(x[n, c, low:high], square[n, c, low:high], gy[n, c, low:high], alpha, beta, k,
                       gx[n, c, low:high], into[c])
            for c in range(size):
                total[:] = 0
                for j in range(max(c - after, 0), min(c + before + 1, size)):  # the adjoint looks the other way
                    add(into[j], total)
                add_product(share, x[n, c, low:high], total, gx[n, c, low:high])

    return forward, backward
