"""Loops of BatchNorm with given statistics, float32, compiled by numba; imported when first used."""

from __future__ import annotations

import numpy as np

from minigrad.kernels.compiled.channels import STRETCH, column_dots, columns_scaled, scaled_plain
from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.rows import PARTS
from minigrad.kernels.compiled.vectors import HUGE, dots, f32, f64, wide_dots

written = columns_scaled("")  # bound here, not in a closure: see `channels`


def planes(parallel):
    """The loops over channels of x (N, C, L): y = (x − μ)·r·γ + β forward.

    Backward takes gy to gx = gy·γ·r, and to ``sums`` (2, C): Σ gy, and r·Σ gy·(x − μ).
    """
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, mean, variance, weight, bias, eps, y):
        for c in span(x.shape[1]):
            a = weight[c] / np.sqrt(f64(variance[c]) + eps)
            for n in range(x.shape[0]):
                scaled_plain(x[n, c], mean[c], f32(a), bias[c], y[n, c])

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, gy, mean, variance, weight, eps, gx, sums):
        for c in span(x.shape[1]):
            r = 1.0 / np.sqrt(f64(variance[c]) + eps)
            total = 0.0
            product = 0.0
            for n in range(x.shape[0]):
                s, p = dots(x[n, c], gy[n, c], mean[c])
                total += s
                product += p
                scaled_plain(gy[n, c], f32(0), f32(r * weight[c]), f32(0), gx[n, c])
            if not abs(product) < HUGE:
                product = wide_dots(x[:, c], gy[:, c], mean[c])
            sums[0, c] = total
            sums[1, c] = product * r

    return forward, backward


def columns(parallel):
    """The loops over rows of x (N, C), as `planes`."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, mean, variance, weight, bias, eps, y):
        a = (weight / np.sqrt(variance.astype(np.float64) + eps)).astype(f32)
        parts = PARTS if parallel else 1
        for part in span(parts):
            begin, end = x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts
            written(x[begin:end], 0, x.shape[1], mean, a, bias, y[begin:end])

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, gy, mean, variance, weight, eps, gx, sums):
        width = x.shape[1]
        r = 1.0 / np.sqrt(variance.astype(np.float64) + eps)
        a, zero = (weight * r).astype(f32), np.zeros(width, f32)
        parts = PARTS if parallel else 1
        shares = np.zeros((parts, 2, width))
        for part in span(parts):
            room = np.empty((2, width), f32)
            begin, end = x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts
            for n in range(begin, end, STRETCH):
                column_dots(x, gy, 0, width, n, min(n + STRETCH, end), mean, room[0], room[1])
                for c in range(width):
                    shares[part, 0, c] += room[1, c]
                    shares[part, 1, c] += room[0, c]
            written(gy[begin:end], 0, width, zero, a, zero, gx[begin:end])
        for c in range(width):
            total = 0.0
            product = 0.0
            for part in range(parts):
                total += shares[part, 0, c]
                product += shares[part, 1, c]
            if not abs(product) < HUGE:
                product = wide_dots(x[:, c : c + 1], gy[:, c : c + 1], mean[c])
            sums[0, c] = total
            sums[1, c] = product * r[c]

    return forward, backward
