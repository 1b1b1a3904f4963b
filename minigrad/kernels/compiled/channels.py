"""Loops of BatchNorm, float32, compiled by numba; imported when first used.

A channel, or a strip of columns, stays in the cache of one core while it is read for the mean, for the variance, and to
be written. The variance is refined: squares about the mean rounded to float32, and a correction for what the rounding
left. In backward, the gradient is taken through a fused activation first, into the room for the input's gradient, so
that nothing else has to be kept in the cache.

Sums over columns need no reordering to be fast, and have none: a process that has just compiled a loop may have laid it
out otherwise than one that reads it from the cache, and both shall give the same bits.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.vectors import (
    ACTIVATIONS,
    BACKWARDS,
    HUGE,
    combined,
    dots,
    f32,
    f64,
    scaled,
    squares_about,
    sum_about,
    through,
    wide_dots,
    wide_squares_about,
    wide_sum_about,
)

#: Rows of a matrix that are summed in float32 before they are added in float64.
STRETCH = 64


@numba.njit(error_model="numpy", cache=True, nogil=True)
def channel_moments(x, c):
    """(near, rest, variance) of channel c of x (N, C, L): the mean is near + rest, near in float32."""
    count, _, length = x.shape
    m = f64(count) * length
    s = x[0, c, 0]
    total = 0.0
    for n in range(count):
        total += sum_about(x[n, c], s)
    if not abs(total) < HUGE:
        total = 0.0
        for n in range(count):
            total += wide_sum_about(x[n, c], s)
    near = f32(f64(s) + total / m)
    squares = 0.0
    rest = 0.0
    for n in range(count):
        q, d = squares_about(x[n, c], near)
        squares += q
        rest += d
    if not squares < HUGE:
        squares = 0.0
        rest = 0.0
        for n in range(count):
            squares += wide_squares_about(x[n, c], near)
            rest += wide_sum_about(x[n, c], near)
    rest /= m
    return near, rest, max(squares / m - rest * rest, 0.0)


# What the loops call is bound here, not in a closure: a function that holds another compiled one in a closure gets
# another key in numba's cache in every process, and is compiled again each time.
scaled_plain, scaled_relu, scaled_sigmoid = scaled(""), scaled("relu"), scaled("sigmoid")
through_relu, through_sigmoid = through("relu"), through("sigmoid")
combined_apart, combined_in_place = combined(False), combined(True)


def planes(parallel, activation=""):
    """The loops over channels of x (N, C, L), forward and backward; `statistics` (3, C) are mean, variance, rstd."""
    span = RANGE[parallel]

    @njit_for((parallel, activation), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, weight, bias, eps, y, statistics):
        for c in span(x.shape[1]):
            near, rest, v = channel_moments(x, c)
            r = 1.0 / np.sqrt(v + eps)
            a = r * weight[c]
            b = f64(bias[c]) - rest * a
            for n in range(x.shape[0]):
                if activation == "relu":
                    scaled_relu(x[n, c], near, f32(a), f32(b), y[n, c])
                elif activation == "sigmoid":
                    scaled_sigmoid(x[n, c], near, f32(a), f32(b), y[n, c])
                else:
                    scaled_plain(x[n, c], near, f32(a), f32(b), y[n, c])
            statistics[0, c] = f64(near) + rest
            statistics[1, c] = v
            statistics[2, c] = r

    @njit_for((parallel, activation), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, y, gy, weight, mean, rstd, gx, gweight, gbias):
        count, channels, length = x.shape
        m = f64(count) * length
        for c in span(channels):
            total = 0.0
            product = 0.0
            for n in range(count):
                if activation != "":
                    if activation == "relu":
                        through_relu(gy[n, c], y[n, c], gx[n, c])
                    else:
                        through_sigmoid(gy[n, c], y[n, c], gx[n, c])
                    s, p = dots(x[n, c], gx[n, c], mean[c])
                else:
                    s, p = dots(x[n, c], gy[n, c], mean[c])
                total += s
                product += p
            if not abs(product) < HUGE:
                product = wide_dots(x[:, c], gx[:, c] if activation != "" else gy[:, c], mean[c])
            r = f64(rstd[c])
            product *= r
            gbias[c] = total
            gweight[c] = product
            slope, b, a = f32(-product / m * r), f32(-total / m), f32(r * weight[c])
            for n in range(count):
                if activation != "":
                    combined_in_place(x[n, c], gy[n, c], f32(1), mean[c], slope, b, a, gx[n, c])
                else:
                    combined_apart(x[n, c], gy[n, c], f32(1), mean[c], slope, b, a, gx[n, c])

    return forward, backward


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def column_sums(x, low, high, begin, end, s, part):
    """part = Σ (x − s) over rows from `begin` to `end`, per column; four rows at a time."""
    width = high - low
    for c in range(width):
        part[c] = f32(0)
    n = begin
    while n + 4 <= end:
        v0, v1, v2, v3 = x[n, low:high], x[n + 1, low:high], x[n + 2, low:high], x[n + 3, low:high]
        for c in range(width):
            t = s[c]
            part[c] += ((v0[c] - t) + (v1[c] - t)) + ((v2[c] - t) + (v3[c] - t))
        n += 4
    while n < end:
        v = x[n, low:high]
        for c in range(width):
            part[c] += v[c] - s[c]
        n += 1


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def column_squares(x, low, high, begin, end, s, squares, part):
    """squares = Σ (x − s)², part = Σ (x − s) over rows from `begin` to `end`, per column; four rows at a time."""
    width = high - low
    for c in range(width):
        squares[c] = part[c] = f32(0)
    n = begin
    while n + 4 <= end:
        v0, v1, v2, v3 = x[n, low:high], x[n + 1, low:high], x[n + 2, low:high], x[n + 3, low:high]
        for c in range(width):
            t = s[c]
            d0, d1, d2, d3 = v0[c] - t, v1[c] - t, v2[c] - t, v3[c] - t
            part[c] += (d0 + d1) + (d2 + d3)
            squares[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
        n += 4
    while n < end:
        v = x[n, low:high]
        for c in range(width):
            d = v[c] - s[c]
            part[c] += d
            squares[c] += d * d
        n += 1


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def column_dots(x, g, low, high, begin, end, s, product, total):
    """product = Σ g·(x − s), total = Σ g over rows from `begin` to `end`, per column; two rows at a time."""
    width = high - low
    for c in range(width):
        product[c] = total[c] = f32(0)
    n = begin
    while n + 2 <= end:
        v0, v1, g0, g1 = x[n, low:high], x[n + 1, low:high], g[n, low:high], g[n + 1, low:high]
        for c in range(width):
            t = s[c]
            product[c] += g0[c] * (v0[c] - t) + g1[c] * (v1[c] - t)
            total[c] += g0[c] + g1[c]
        n += 2
    while n < end:
        v, h = x[n, low:high], g[n, low:high]
        for c in range(width):
            product[c] += h[c] * (v[c] - s[c])
            total[c] += h[c]
        n += 1


def columns_combined(in_place):
    """The function out = (g + (x − near)·slope + b)·a, per column; in place, g is what `out` holds.

    Loops over two names of the same memory would not get vector instructions.
    """

    @njit_for((in_place,), fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
    def run(x, g, low, high, near, slope, b, a, out):
        for n in range(x.shape[0]):
            v, o = x[n, low:high], out[n, low:high]
            h = o if in_place else g[n, low:high]
            for c in range(high - low):
                o[c] = (h[c] + (v[c] - near[c]) * slope[c] + b[c]) * a[c]

    return run


def columns_scaled(activation):
    """The function out = activation((x − near)·a + b), per column."""
    act = ACTIVATIONS[activation]

    @njit_for((activation,), fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
    def run(x, low, high, near, a, b, out):
        for n in range(x.shape[0]):
            v, o = x[n, low:high], out[n, low:high]
            for c in range(high - low):
                o[c] = act((v[c] - near[c]) * a[c] + b[c])

    return run


def columns_through(activation):
    """The function out = g through the activation that gave y, per column."""
    pull = BACKWARDS[activation]

    @njit_for((activation,), fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
    def run(g, y, low, high, out):
        for n in range(g.shape[0]):
            h, u, o = g[n, low:high], y[n, low:high], out[n, low:high]
            for c in range(high - low):
                o[c] = pull(h[c], u[c])

    return run


@numba.njit(error_model="numpy", cache=True, nogil=True)
def column_moments(x, low, high, near, rest, variance):
    """near, rest and variance of the columns from `low` to `high` of x (N, C), as `channel_moments` gives them."""
    count, width = x.shape[0], high - low
    part = np.empty((2, width), f32)
    squares = np.zeros(width)
    rest[:] = 0.0
    first = x[0, low:high]
    for n in range(0, count, STRETCH):
        column_sums(x, low, high, n, min(n + STRETCH, count), first, part[0])
        for c in range(width):
            rest[c] += part[0, c]
    k = 1.0 / count
    for c in range(width):
        if not abs(rest[c]) < HUGE:
            rest[c] = wide_sum_about(x[:, low + c], first[c])
        near[c] = f64(first[c]) + rest[c] * k
        rest[c] = 0.0
    for n in range(0, count, STRETCH):
        column_squares(x, low, high, n, min(n + STRETCH, count), near, part[0], part[1])
        for c in range(width):
            squares[c] += part[0, c]
            rest[c] += part[1, c]
    for c in range(width):
        if not squares[c] < HUGE:
            squares[c] = wide_squares_about(x[:, low + c], near[c])
            rest[c] = wide_sum_about(x[:, low + c], near[c])
        rest[c] *= k
        variance[c] = max(squares[c] * k - rest[c] * rest[c], 0.0)


def strips(activation):
    """The loops over one strip of columns, forward and backward."""
    written, combine = columns_scaled(activation), columns_combined(activation != "")
    pulled: Any = columns_through(activation) if activation else None

    @njit_for((activation,), error_model="numpy", cache=True, nogil=True)
    def forward_strip(x, weight, bias, eps, y, statistics, low, high):
        width = high - low
        near, rest, variance = np.empty((3, width), f32), np.empty(width), np.empty(width)
        column_moments(x, low, high, near[0], rest, variance)
        for c in range(width):
            r = 1.0 / np.sqrt(variance[c] + eps)
            statistics[0, low + c] = f64(near[0, c]) + rest[c]
            statistics[1, low + c] = variance[c]
            statistics[2, low + c] = r
            a = r * weight[low + c]
            near[1, c] = a
            near[2, c] = f64(bias[low + c]) - rest[c] * a
        written(x, low, high, near[0], near[1], near[2], y)

    @njit_for((activation,), error_model="numpy", cache=True, nogil=True)
    def backward_strip(x, y, gy, weight, mean, rstd, gx, gweight, gbias, low, high):
        count, width = x.shape[0], high - low
        sums, part = np.zeros((2, width)), np.empty((3, width), f32)
        near = mean[low:high]
        g = gy
        if activation != "":
            pulled(gy, y, low, high, gx)
            g = gx
        for n in range(0, count, STRETCH):
            column_dots(x, g, low, high, n, min(n + STRETCH, count), near, part[0], part[1])
            for c in range(width):
                sums[0, c] += part[0, c]
                sums[1, c] += part[1, c]
        k = 1.0 / count
        for c in range(width):
            if not abs(sums[0, c]) < HUGE:
                i = low + c
                sums[0, c] = wide_dots(x[:, i : i + 1], g[:, i : i + 1], near[c])
            r = f64(rstd[low + c])
            gbias[low + c] = sums[1, c]
            gweight[low + c] = sums[0, c] * r
            part[0, c] = -sums[0, c] * r * k * r
            part[1, c] = -sums[1, c] * k
            part[2, c] = r * weight[low + c]
        combine(x, g, low, high, near, part[0], part[1], part[2], gx)

    return forward_strip, backward_strip


forward_plain, backward_plain = strips("")
forward_relu, backward_relu = strips("relu")
forward_sigmoid, backward_sigmoid = strips("sigmoid")


def columns(parallel, activation=""):
    """The loops over strips of `strip` columns of x (N, C), forward and backward; `statistics` as in `planes`."""
    span = RANGE[parallel]

    @njit_for((parallel, activation), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, weight, bias, eps, y, statistics, strip):
        for i in span((x.shape[1] + strip - 1) // strip):
            low, high = i * strip, min(i * strip + strip, x.shape[1])
            if activation == "relu":
                forward_relu(x, weight, bias, eps, y, statistics, low, high)
            elif activation == "sigmoid":
                forward_sigmoid(x, weight, bias, eps, y, statistics, low, high)
            else:
                forward_plain(x, weight, bias, eps, y, statistics, low, high)

    @njit_for((parallel, activation), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, y, gy, weight, mean, rstd, gx, gweight, gbias, strip):
        for i in span((x.shape[1] + strip - 1) // strip):
            low, high = i * strip, min(i * strip + strip, x.shape[1])
            if activation == "relu":
                backward_relu(x, y, gy, weight, mean, rstd, gx, gweight, gbias, low, high)
            elif activation == "sigmoid":
                backward_sigmoid(x, y, gy, weight, mean, rstd, gx, gweight, gbias, low, high)
            else:
                backward_plain(x, y, gy, weight, mean, rstd, gx, gweight, gbias, low, high)

    return forward, backward
