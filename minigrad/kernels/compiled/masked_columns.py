"""Loops of BatchNorm over features with a mask, float32, compiled by numba; imported when first used.

x and the mask (bytes) are (N, C). Columns are worked on side by side, in strips that threads share out; a number that
does not count is replaced before anything is added up: it may be NaN.
"""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.channels import STRETCH
from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.masked_loops import wide_set_sums
from minigrad.kernels.compiled.vectors import HUGE, f32, f64

ZERO = f32(0)


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def first_counted(x, mask, low, high, first, count):
    """The first number of each column that counts, 0 where there is none, and how many count."""
    first[:] = ZERO
    count[:] = 0
    for n in range(x.shape[0]):
        v, m = x[n, low:high], mask[n, low:high]
        for c in range(high - low):
            one = v[c]
            one = one if m[c] else ZERO
            first[c] = one if count[c] == 0 else first[c]
            count[c] += 1 if m[c] else 0


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def number_counted(mask, low, high, count):
    """How many numbers of each column count."""
    count[:] = 0
    for n in range(mask.shape[0]):
        m = mask[n, low:high]
        for c in range(high - low):
            count[c] += 1 if m[c] else 0


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def column_sums(x, mask, low, high, begin, end, s, squares, part):
    """squares = Σ (x − s)² and part = Σ (x − s) of what counts in rows from `begin` to `end`, per column."""
    squares[:] = ZERO
    part[:] = ZERO
    for n in range(begin, end):
        v, m = x[n, low:high], mask[n, low:high]
        for c in range(high - low):
            d = v[c] - s[c]
            d = d if m[c] else ZERO
            part[c] += d
            squares[c] += d * d


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def column_dots(x, g, mask, low, high, begin, end, s, product, part):
    """product = Σ g·(x − s) and part = Σ g of what counts in rows from `begin` to `end`, per column."""
    product[:] = ZERO
    part[:] = ZERO
    for n in range(begin, end):
        v, h, m = x[n, low:high], g[n, low:high], mask[n, low:high]
        for c in range(high - low):
            p = h[c] * (v[c] - s[c])
            q = h[c]
            product[c] += p if m[c] else ZERO
            part[c] += q if m[c] else ZERO


@numba.njit(inline="always", error_model="numpy")
def _stretches(a):
    """(N, C) as `minigrad.kernels.compiled.masked_loops` sees arrays: stretches of one number."""
    return a.reshape(a.shape[0], a.shape[1], 1)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def column_moments(x, mask, low, high, near, rest, variance):
    """near, rest and variance of the columns from `low` to `high`: the mean is near + rest, near in float32."""
    width = high - low
    first, count = np.empty(width, f32), np.empty(width, np.int32)
    part, squares = np.empty((2, width), f32), np.zeros(width)
    first_counted(x, mask, low, high, first, count)
    rest[:] = 0.0
    for n in range(0, x.shape[0], STRETCH):
        column_sums(x, mask, low, high, n, min(n + STRETCH, x.shape[0]), first, part[0], part[1])
        for c in range(width):
            rest[c] += part[1, c]
    for c in range(width):
        if not abs(rest[c]) < HUGE:
            rest[c] = wide_set_sums(_stretches(x), _stretches(x), _stretches(mask), low + c, first[c])[1]
        near[c] = f64(first[c]) + rest[c] / max(count[c], 1)
        rest[c] = 0.0
    for n in range(0, x.shape[0], STRETCH):
        column_sums(x, mask, low, high, n, min(n + STRETCH, x.shape[0]), near, part[0], part[1])
        for c in range(width):
            squares[c] += part[0, c]
            rest[c] += part[1, c]
    for c in range(width):
        if not squares[c] < HUGE:
            found = wide_set_sums(_stretches(x), _stretches(x), _stretches(mask), low + c, near[c])
            squares[c], rest[c] = found[0], found[1]
        m = max(count[c], 1)
        rest[c] /= m
        variance[c] = max(squares[c] / m - rest[c] * rest[c], 0.0)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def columns_scaled(x, mask, low, high, near, a, b, out):
    """out = (x − near)·a + b where it counts, else 0, per column."""
    for n in range(x.shape[0]):
        v, m, o = x[n, low:high], mask[n, low:high], out[n, low:high]
        for c in range(high - low):
            y = (v[c] - near[c]) * a[c] + b[c]
            o[c] = y if m[c] else ZERO


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def columns_combined(x, g, mask, low, high, near, slope, b, a, out):
    """out = (g + (x − near)·slope + b)·a where it counts, else 0, per column."""
    for n in range(x.shape[0]):
        v, h, m, o = x[n, low:high], g[n, low:high], mask[n, low:high], out[n, low:high]
        for c in range(high - low):
            y = (h[c] + (v[c] - near[c]) * slope[c] + b[c]) * a[c]
            o[c] = y if m[c] else ZERO


def columns(parallel):
    """The loops over strips of columns: parameters (C,); `statistics` (3, C) are mean, variance, rstd."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, mask, weight, bias, eps, y, statistics, strip):
        for i in span((x.shape[1] + strip - 1) // strip):
            low, high = i * strip, min(i * strip + strip, x.shape[1])
            width = high - low
            near, rest, variance = np.empty((3, width), f32), np.empty(width), np.empty(width)
            column_moments(x, mask, low, high, near[0], rest, variance)
            for c in range(width):
                r = 1.0 / np.sqrt(variance[c] + eps)
                statistics[0, low + c] = f64(near[0, c]) + rest[c]
                statistics[1, low + c] = variance[c]
                statistics[2, low + c] = r
                near[1, c] = r * weight[low + c]
                near[2, c] = f64(bias[low + c]) - rest[c] * r * weight[low + c]
            columns_scaled(x, mask, low, high, near[0], near[1], near[2], y)

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, mask, gy, weight, mean, rstd, gx, gweight, gbias, strip):
        for i in span((x.shape[1] + strip - 1) // strip):
            low, high = i * strip, min(i * strip + strip, x.shape[1])
            width = high - low
            sums, part, count = np.zeros((2, width)), np.empty((3, width), f32), np.empty(width, np.int32)
            near = mean[low:high]
            number_counted(mask, low, high, count)
            for n in range(0, x.shape[0], STRETCH):
                column_dots(x, gy, mask, low, high, n, min(n + STRETCH, x.shape[0]), near, part[0], part[1])
                for c in range(width):
                    sums[0, c] += part[0, c]
                    sums[1, c] += part[1, c]
            for c in range(width):
                if not abs(sums[0, c]) < HUGE:
                    sums[0, c] = wide_set_sums(_stretches(x), _stretches(gy), _stretches(mask), low + c, near[c])[2]
                r, m = f64(rstd[low + c]), max(count[c], 1)
                gbias[low + c] = sums[1, c]
                gweight[low + c] = sums[0, c] * r
                part[0, c] = -sums[0, c] * r / m * r
                part[1, c] = -sums[1, c] / m
                part[2, c] = r * weight[low + c]
            columns_combined(x, gy, mask, low, high, near, part[0], part[1], part[2], gx)

    return forward, backward
