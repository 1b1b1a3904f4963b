"""Loops of BatchNorm and LayerNorm with a mask, float32, compiled by numba; imported when first used.

Here x is (N, C, L): the sets that share statistics are the N stretches of a channel, and for LayerNorm, which has
N = 1, its C rows. The mask is of bytes, (N or 1, C or 1, L or 1); `counts`, of its shape without the last axis, says
how many numbers of a stretch count. Stretches that count throughout go through the loops without masks, so that a mask
of ones changes no bit of BatchNorm; those of which nothing counts are never read. Elsewhere a number that does not
count is replaced before anything is added up: it may be NaN.
"""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.channels import STRETCH, combined_apart, scaled_plain
from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.rows import PARTS, add_rows, row_combined, row_dots, row_written
from minigrad.kernels.compiled.vectors import FAST, HUGE, dots, f32, f64, squares_about, sum_about

ZERO = f32(0)


@numba.njit(inline="always", error_model="numpy")
def along(index, length):
    """Where an axis of `length`, which may be spread, has what belongs to an index."""
    return np.int64(index) if length > 1 else 0


@numba.njit(error_model="numpy", cache=True, nogil=True)
def counted(mask, length):
    """`counts` for stretches of `length`."""
    counts = np.empty(mask.shape[:2], np.int64)
    for n in range(mask.shape[0]):
        for c in range(mask.shape[1]):
            total = 0
            for i in range(mask.shape[2]):
                total += 1 if mask[n, c, i] else 0
            counts[n, c] = total * length if mask.shape[2] == 1 else total
    return counts


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def kept_sum_about(v, mask, s):
    """Σ (v − s) of what counts."""
    total = ZERO
    for i in range(v.shape[0]):
        d = v[i] - s
        total += d if mask[i] else ZERO
    return f64(total)


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def kept_squares_about(v, mask, s):
    """Σ (v − s)² and Σ (v − s) of what counts."""
    squares = ZERO
    total = ZERO
    for i in range(v.shape[0]):
        d = v[i] - s
        d = d if mask[i] else ZERO
        squares += d * d
        total += d
    return f64(squares), f64(total)


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def kept_dots(v, g, mask, near):
    """Σ g and Σ g·(v − near) of what counts."""
    total = ZERO
    product = ZERO
    for i in range(v.shape[0]):
        h = g[i]
        d = v[i] - near
        h = h if mask[i] else ZERO
        d = d if mask[i] else ZERO
        total += h
        product += h * d
    return f64(total), f64(product)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def kept_scaled(v, mask, near, a, b, out):
    """out = (v − near)·a + b where it counts, else 0."""
    for i in range(v.shape[0]):
        y = (v[i] - near) * a + b
        out[i] = y if mask[i] else ZERO


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def kept_combined(v, g, mask, near, slope, b, a, out):
    """out = (g + (v − near)·slope + b)·a where it counts, else 0."""
    for i in range(v.shape[0]):
        h = (g[i] + (v[i] - near) * slope + b) * a
        out[i] = h if mask[i] else ZERO


@numba.njit(error_model="numpy", cache=True, nogil=True)
def set_sum(x, mask, counts, c, s):
    """Σ (v − s) of what counts of set c."""
    total = 0.0
    for n in range(x.shape[0]):
        i, j = along(n, counts.shape[0]), along(c, counts.shape[1])
        if counts[i, j] == x.shape[2]:
            total += sum_about(x[n, c], s)
        elif counts[i, j] > 0:
            total += kept_sum_about(x[n, c], mask[i, j], s)
    return total


@numba.njit(error_model="numpy", cache=True, nogil=True)
def set_squares(x, mask, counts, c, s):
    """Σ (v − s)² and Σ (v − s) of what counts of set c."""
    squares = 0.0
    total = 0.0
    for n in range(x.shape[0]):
        i, j = along(n, counts.shape[0]), along(c, counts.shape[1])
        if counts[i, j] == x.shape[2]:
            q, d = squares_about(x[n, c], s)
        elif counts[i, j] > 0:
            q, d = kept_squares_about(x[n, c], mask[i, j], s)
        else:
            q, d = 0.0, 0.0
        squares += q
        total += d
    return squares, total


@numba.njit(error_model="numpy", cache=True, nogil=True)
def wide_set_sums(x, g, mask, c, s):
    """Σ (v − s)², Σ (v − s) and Σ g·(v − s) of what counts of set c, where float32 overflows."""
    squares = 0.0
    total = 0.0
    product = 0.0
    for n in range(x.shape[0]):
        m = mask[along(n, mask.shape[0]), along(c, mask.shape[1])]
        for k in range(x.shape[2]):
            if m[along(k, m.shape[0])]:
                d = f64(x[n, c, k]) - f64(s)
                squares += d * d
                total += d
                product += d * f64(g[n, c, k])
    return squares, total, product


@numba.njit(error_model="numpy", cache=True, nogil=True)
def any_counted(x, mask, counts, c):
    """How many numbers of set c count, and one of them; 0 if there is none."""
    m = 0
    one = ZERO
    for n in range(x.shape[0]):
        i, j = along(n, counts.shape[0]), along(c, counts.shape[1])
        if m == 0 and counts[i, j] > 0:
            k = 0
            while mask[i, j, along(k, mask.shape[2])] == 0:
                k += 1
            one = x[n, c, k]
        m += counts[i, j]
    return m, one


@numba.njit(error_model="numpy", cache=True, nogil=True)
def kept_moments(x, mask, counts, c):
    """(near, rest, variance) of set c, as `channel_moments` gives them; all 0 where nothing counts."""
    m, s = any_counted(x, mask, counts, c)
    if m == 0:
        return ZERO, 0.0, 0.0
    total = set_sum(x, mask, counts, c, s)
    if not abs(total) < HUGE:
        total = wide_set_sums(x, x, mask, c, s)[1]
    near = f32(f64(s) + total / m)
    squares, rest = set_squares(x, mask, counts, c, near)
    if not squares < HUGE:
        squares, rest, _ = wide_set_sums(x, x, mask, c, near)
    rest /= m
    return near, rest, max(squares / m - rest * rest, 0.0)


def planes(parallel):
    """The loops of BatchNorm, forward and backward: parameters (C,); `statistics` (3, C) are mean, variance, rstd."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, mask, weight, bias, eps, y, statistics):
        length = x.shape[2]
        counts = counted(mask, length)
        for c in span(x.shape[1]):
            near, rest, v = kept_moments(x, mask, counts, c)
            r = 1.0 / np.sqrt(v + eps)
            a = r * weight[c]
            b = f64(bias[c]) - rest * a
            for n in range(x.shape[0]):
                i, j = along(n, counts.shape[0]), along(c, counts.shape[1])
                if counts[i, j] == length:
                    scaled_plain(x[n, c], near, f32(a), f32(b), y[n, c])
                elif counts[i, j] > 0:
                    kept_scaled(x[n, c], mask[i, j], near, f32(a), f32(b), y[n, c])
                else:
                    y[n, c] = ZERO
            statistics[0, c] = f64(near) + rest
            statistics[1, c] = v
            statistics[2, c] = r

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, mask, gy, weight, mean, rstd, gx, gweight, gbias):
        length = x.shape[2]
        counts = counted(mask, length)
        for c in span(x.shape[1]):
            total = 0.0
            product = 0.0
            m = 0
            for n in range(x.shape[0]):
                i, j = along(n, counts.shape[0]), along(c, counts.shape[1])
                if counts[i, j] == length:
                    s, p = dots(x[n, c], gy[n, c], mean[c])
                elif counts[i, j] > 0:
                    s, p = kept_dots(x[n, c], gy[n, c], mask[i, j], mean[c])
                else:
                    s, p = 0.0, 0.0
                m += counts[i, j]
                total += s
                product += p
            if not abs(product) < HUGE:
                product = wide_set_sums(x, gy, mask, c, mean[c])[2]
            r = f64(rstd[c])
            product *= r
            gbias[c] = total
            gweight[c] = product
            m = max(m, 1)
            slope, b, a = f32(-product / m * r), f32(-total / m), f32(r * weight[c])
            for n in range(x.shape[0]):
                i, j = along(n, counts.shape[0]), along(c, counts.shape[1])
                if counts[i, j] == length:
                    combined_apart(x[n, c], gy[n, c], f32(1), mean[c], slope, b, a, gx[n, c])
                elif counts[i, j] > 0:
                    kept_combined(x[n, c], gy[n, c], mask[i, j], mean[c], slope, b, a, gx[n, c])
                else:
                    gx[n, c] = ZERO

    return forward, backward


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def kept_row_written(v, mask, near, rest, r, weight, bias, out):
    """out = (v − near − rest)·r·γ + β where it counts, else 0."""
    for i in range(v.shape[0]):
        y = ((v[i] - near) - rest) * r * weight[i] + bias[i]
        out[i] = y if mask[i] else ZERO


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def kept_row_dots(v, g, mask, weight, near, r, gweight, gbias):
    """Σ ĝ and Σ ĝ·x̂ of what counts, with the row's share added to the gradients of γ and β."""
    total = ZERO
    product = ZERO
    for i in range(v.shape[0]):
        h = g[i]
        p = h * ((v[i] - near) * r)
        h = h if mask[i] else ZERO
        p = p if mask[i] else ZERO
        gweight[i] += p
        gbias[i] += h
        total += h * weight[i]
        product += p * weight[i]
    return f64(total), f64(product)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
def kept_row_combined(v, g, mask, weight, near, slope, b, r, out):
    """out = (g·γ + (v − near)·slope + b)·r where it counts, else 0."""
    for i in range(v.shape[0]):
        h = (g[i] * weight[i] + (v[i] - near) * slope + b) * r
        out[i] = h if mask[i] else ZERO


def rows(parallel):
    """The loops of LayerNorm, forward and backward: parameters (L,); `statistics` (3, C) are mean, variance, rstd."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, mask, weight, bias, eps, y, statistics):
        counts = counted(mask, x.shape[2])
        for c in span(x.shape[1]):
            near, rest, v = kept_moments(x, mask, counts, c)
            r = 1.0 / np.sqrt(v + eps)
            j = along(c, counts.shape[1])
            if counts[0, j] == x.shape[2]:
                row_written(x[0, c], near, f32(rest), f32(r), weight, bias, y[0, c])
            elif counts[0, j] > 0:
                kept_row_written(x[0, c], mask[0, j], near, f32(rest), f32(r), weight, bias, y[0, c])
            else:
                y[0, c] = ZERO
            statistics[0, c] = f64(near) + rest
            statistics[1, c] = v
            statistics[2, c] = r

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, mask, gy, weight, mean, rstd, gx, gweight, gbias):
        count, length = x.shape[1], x.shape[2]
        counts = counted(mask, length)
        parts = min(PARTS, count) if parallel else 1
        gweights, gbiases = np.zeros((parts, length)), np.zeros((parts, length))
        for part in span(parts):
            sums = np.zeros((2, length), f32)
            begin, end = count * part // parts, count * (part + 1) // parts
            for c in range(begin, end):
                j = along(c, counts.shape[1])
                m, r = counts[0, j], rstd[c]
                if m == length:
                    total, product = row_dots(x[0, c], gy[0, c], weight, mean[c], r, sums[0], sums[1])
                    row_combined(x[0, c], gy[0, c], weight, mean[c], f32(-product / m * r), f32(-total / m), r,
                                 gx[0, c])
                elif m > 0:
                    total, product = kept_row_dots(x[0, c], gy[0, c], mask[0, j], weight, mean[c], r, sums[0], sums[1])
                    kept_row_combined(x[0, c], gy[0, c], mask[0, j], weight, mean[c], f32(-product / m * r),
                                      f32(-total / m), r, gx[0, c])
                else:
                    gx[0, c] = ZERO
                if (c - begin) % STRETCH == STRETCH - 1 or c == end - 1:
                    for k in range(length):
                        gweights[part, k] += sums[0, k]
                        gbiases[part, k] += sums[1, k]
                        sums[0, k] = sums[1, k] = ZERO
        add_rows(gweights, gweight)
        add_rows(gbiases, gbias)

    return forward, backward
