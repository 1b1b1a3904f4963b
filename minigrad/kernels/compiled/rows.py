"""Loops of LayerNorm, RMSNorm, GroupNorm and InstanceNorm, float32, compiled by numba; imported when first used.

A row is a set that shares statistics, and its numbers are neighbours: LayerNorm's have parameters of their own, those
of GroupNorm and InstanceNorm share them by channels of `length` places. Every thread sums its own share of the
gradients of γ and β.
"""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.channels import STRETCH
from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.vectors import (
    FAST,
    HUGE,
    combined,
    dots,
    f32,
    f64,
    scaled,
    squares_about,
    sum_about,
    wide_dots,
    wide_squares_about,
    wide_sum_about,
)

#: Shares of the rows whose sums for γ and β are taken apart when there are several threads.
PARTS = 8


@numba.njit(error_model="numpy", cache=True, nogil=True)
def row_moments(v, centred):
    """(near, rest, variance) as `channel_moments` gives them; not centred, (0, 0, ⟨v²⟩)."""
    m = f64(v.shape[0])
    if not centred:
        squares, _ = squares_about(v, f32(0))
        if not squares < HUGE:
            squares = wide_squares_about(v, f32(0))
        return f32(0), 0.0, squares / m
    s = v[0]
    total = sum_about(v, s)
    if not abs(total) < HUGE:
        total = wide_sum_about(v, s)
    near = f32(f64(s) + total / m)
    squares, rest = squares_about(v, near)
    if not squares < HUGE:
        squares, rest = wide_squares_about(v, near), wide_sum_about(v, near)
    rest /= m
    return near, rest, max(squares / m - rest * rest, 0.0)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def row_written(v, near, rest, r, weight, bias, out):
    """out = (v − near − rest)·r·γ + β."""
    for i in range(v.shape[0]):
        out[i] = ((v[i] - near) - rest) * r * weight[i] + bias[i]


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def row_dots(v, g, weight, near, r, gweight, gbias):
    """Σ ĝ and Σ ĝ·x̂, with the row's share added to the gradients of γ and β."""
    total = f32(0)
    product = f32(0)
    for i in range(v.shape[0]):
        xhat = (v[i] - near) * r
        h = g[i] * weight[i]
        gweight[i] += g[i] * xhat
        gbias[i] += g[i]
        total += h
        product += h * xhat
    return f64(total), f64(product)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def row_combined(v, g, weight, near, slope, b, r, out):
    """out = (g·γ + (v − near)·slope + b)·r."""
    for i in range(v.shape[0]):
        out[i] = (g[i] * weight[i] + (v[i] - near) * slope + b) * r


@numba.njit(error_model="numpy", cache=True, nogil=True)
def add_rows(parts, out):
    """out = Σ of the rows."""
    for j in range(out.shape[0]):
        total = 0.0
        for i in range(parts.shape[0]):
            total += parts[i, j]
        out[j] = total


def rows(parallel, centred=True):
    """The loops over rows of x (R, D), forward and backward; `statistics` (3, R) are mean, variance, rstd.

    Not centred (RMSNorm), the mean is 0 and the variance ⟨x²⟩.
    """
    span = RANGE[parallel]

    @njit_for((parallel, centred), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, weight, bias, eps, y, statistics):
        for i in span(x.shape[0]):
            near, rest, v = row_moments(x[i], centred)
            r = 1.0 / np.sqrt(v + eps)
            row_written(x[i], near, f32(rest), f32(r), weight, bias, y[i])
            statistics[0, i] = f64(near) + rest
            statistics[1, i] = v
            statistics[2, i] = r

    @njit_for((parallel, centred), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, gy, weight, mean, rstd, gx, gweight, gbias):
        m = f64(x.shape[1])
        parts = min(PARTS, x.shape[0]) if parallel else 1
        gweights, gbiases = np.zeros((parts, x.shape[1])), np.zeros((parts, x.shape[1]))
        for part in span(parts):
            sums = np.zeros((2, x.shape[1]), f32)
            begin, end = x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts
            for i in range(begin, end):
                r = rstd[i]
                total, product = row_dots(x[i], gy[i], weight, mean[i], r, sums[0], sums[1])
                b = f32(-total / m) if centred else f32(0)
                row_combined(x[i], gy[i], weight, mean[i], f32(-product / m * r), b, r, gx[i])
                if (i - begin) % STRETCH == STRETCH - 1 or i == end - 1:
                    for j in range(x.shape[1]):
                        gweights[part, j] += sums[0, j]
                        gbiases[part, j] += sums[1, j]
                        sums[0, j] = sums[1, j] = f32(0)
        add_rows(gweights, gweight)
        add_rows(gbiases, gbias)

    return forward, backward


# Bound here, not in `groups`: a function that holds another compiled one in a closure gets another key in numba's cache
# in every process, and is compiled again each time.
written, combine = scaled(""), combined(False)


def groups(parallel):
    """The loops over rows of x (R, K, L), each K channels of L places; row i has the channels from (i·K) % C on, with
    C the length of the parameters. `statistics` as in `rows`.
    """
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, weight, bias, eps, y, statistics):
        flat = x.reshape(x.shape[0], x.shape[1] * x.shape[2])
        for i in span(x.shape[0]):
            near, rest, v = row_moments(flat[i], True)
            r = 1.0 / np.sqrt(v + eps)
            first = i * x.shape[1] % weight.shape[0]
            for k in range(x.shape[1]):
                a = r * weight[first + k]
                written(x[i, k], near, f32(a), f32(f64(bias[first + k]) - rest * a), y[i, k])
            statistics[0, i] = f64(near) + rest
            statistics[1, i] = v
            statistics[2, i] = r

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, gy, weight, mean, rstd, gx, gweight, gbias):
        m = f64(x.shape[1]) * x.shape[2]
        parts = min(PARTS, x.shape[0]) if parallel else 1
        gweights, gbiases = np.zeros((parts, weight.shape[0])), np.zeros((parts, weight.shape[0]))
        for part in span(parts):
            for i in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
                r = f64(rstd[i])
                first = i * x.shape[1] % weight.shape[0]
                total = 0.0
                product = 0.0
                for k in range(x.shape[1]):
                    s, p = dots(x[i, k], gy[i, k], mean[i])
                    if not abs(p) < HUGE:
                        p = wide_dots(x[i, k : k + 1], gy[i, k : k + 1], mean[i])
                    w = f64(weight[first + k])
                    total += s * w
                    product += p * w
                    gweights[part, first + k] += p * r
                    gbiases[part, first + k] += s
                for k in range(x.shape[1]):
                    combine(x[i, k], gy[i, k], weight[first + k], mean[i], f32(-product * r / m * r), f32(-total / m),
                            f32(r), gx[i, k])
        add_rows(gweights, gweight)
        add_rows(gbiases, gbias)

    return forward, backward
