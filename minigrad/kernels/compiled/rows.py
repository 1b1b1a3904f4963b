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
from minigrad.kernels.compiled.simd import LANES, fma, load, splat, store, total
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


@numba.njit(inline="always", error_model="numpy")
def _dots(x, g, i, count, near, r, w, gweight, gbias, total, product):
    """What `row_dots` does, with up to 16 numbers of one row, from i on."""
    h = load(g, i, count)
    xhat = (load(x, i, count) - near) * r
    share = h * w
    return fma(h, xhat, gweight), gbias + h, total + share, fma(share, xhat, product)


@numba.njit(inline="always", error_model="numpy")
def _four_dots(x, g, start, width, j, count, near, r, weight, gweight, gbias, t, p):
    """What `row_dots` does, with up to 16 columns of four rows from j on; their sums in t and p."""
    i, w, a, b = start + j, load(weight, j, count), load(gweight, j, count), load(gbias, j, count)
    a, b, t0, p0 = _dots(x, g, i, count, near[0], r[0], w, a, b, t[0], p[0])
    a, b, t1, p1 = _dots(x, g, i + width, count, near[1], r[1], w, a, b, t[1], p[1])
    a, b, t2, p2 = _dots(x, g, i + 2 * width, count, near[2], r[2], w, a, b, t[2], p[2])
    a, b, t3, p3 = _dots(x, g, i + 3 * width, count, near[3], r[3], w, a, b, t[3], p[3])
    store(gweight, j, a, count)
    store(gbias, j, b, count)
    return (t0, t1, t2, t3), (p0, p1, p2, p3)


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def four_rows_dots(x, g, row, width, weight, mean, rstd, gweight, gbias):
    """What `row_dots` does, for four rows of x and g (vectors) from `row` on, which share γ and its gradient."""
    near = splat(mean[row]), splat(mean[row + 1]), splat(mean[row + 2]), splat(mean[row + 3])
    r = splat(rstd[row]), splat(rstd[row + 1]), splat(rstd[row + 2]), splat(rstd[row + 3])
    none = splat(f32(0))
    t, p = (none, none, none, none), (none, none, none, none)
    whole = width - width % LANES
    for j in range(0, whole, LANES):
        t, p = _four_dots(x, g, row * width, width, j, LANES, near, r, weight, gweight, gbias, t, p)
    if whole < width:
        t, p = _four_dots(x, g, row * width, width, whole, width - whole, near, r, weight, gweight,
                          gbias, t, p)
    return (total(t[0]), total(t[1]), total(t[2]), total(t[3])), (total(p[0]), total(p[1]), total(p[2]), total(p[3]))


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def row_combined(v, g, weight, near, slope, b, r, out):
    """out = (g·γ + (v − near)·slope + b)·r."""
    for i in range(v.shape[0]):
        out[i] = (g[i] * weight[i] + (v[i] - near) * slope + b) * r


@numba.njit(error_model="numpy", cache=True, nogil=True)
def rows_backward(x, gy, weight, mean, rstd, begin, end, centred, by_four, gx, gweight, gbias):
    """gx of the rows from `begin` to `end`, with their share added to the gradients of γ and β.

    Four rows at a time are faster while they come from the cache; from memory they are too many streams.
    """
    m = f64(x.shape[1])
    given, pulled = x.reshape(x.size), gy.reshape(gy.size)
    i = begin
    while i < end:
        if by_four and i + 4 <= end:
            t, p = four_rows_dots(given, pulled, i, x.shape[1], weight, mean, rstd, gweight, gbias)
            for k in range(4):
                r = rstd[i + k]
                b = f32(-f64(t[k]) / m) if centred else f32(0)
                row_combined(x[i + k], gy[i + k], weight, mean[i + k], f32(-f64(p[k]) / m * r), b, r, gx[i + k])
            i += 4
        else:
            r = rstd[i]
            s, q = row_dots(x[i], gy[i], weight, mean[i], r, gweight, gbias)
            row_combined(x[i], gy[i], weight, mean[i], f32(-q / m * r), f32(-s / m) if centred else f32(0), r, gx[i])
            i += 1


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
        count, width = x.shape
        if not parallel and count <= STRETCH:
            gweight[:] = gbias[:] = f32(0)
            rows_backward(x, gy, weight, mean, rstd, 0, count, centred, True, gx, gweight, gbias)
            return
        parts = min(PARTS, count) if parallel else 1
        gweights, gbiases = np.zeros((parts, width)), np.zeros((parts, width))
        for part in span(parts):
            sums = np.empty((2, width), f32)
            begin, end = count * part // parts, count * (part + 1) // parts
            for low in range(begin, end, STRETCH):
                sums[:] = f32(0)
                high = min(low + STRETCH, end)
                rows_backward(x, gy, weight, mean, rstd, low, high, centred, not parallel, gx, sums[0], sums[1])
                for j in range(width):
                    gweights[part, j] += sums[0, j]
                    gbiases[part, j] += sums[1, j]
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
