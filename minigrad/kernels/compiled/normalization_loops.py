"""Loops of the normalizations, float32, compiled by numba; imported when first used.

A channel (or a strip of columns, or a row) stays in the cache of one core while it is read for the mean, for the
variance, and to be written. Sums over a short stretch are taken in float32, which lets them use vector registers; the
stretches are added in float64. All sums are of x − s, s the first value of the set: a set of equal values gives
exactly that value, and a large mean takes no digits away. The variance is refined: squares about the mean rounded to
float32, and a correction for what the rounding left. Sets whose squares, or products with gradients, overflow are done
again in float64.

numba lets additions be reordered in the loops (`reassoc`), which is what vector registers need, but neither assumes
that numbers are finite nor replaces a division.
"""

from __future__ import annotations

import numba
import numpy as np

FAST = {"reassoc", "contract", "nsz"}
f32, f64 = np.float32, np.float64
RANGE = {False: range, True: numba.prange}
#: A sum beyond this may have overflowed float32 on the way.
HUGE = 1e37
#: Rows of a matrix that are summed in float32 before they are added in float64.
STRETCH = 64
@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def sum_about(v, s):
    """Σ (v − s)."""
    total = f32(0)
    for i in range(v.shape[0]):
        total += v[i] - s
    return f64(total)


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def squares_about(v, s):
    """Σ (v − s)², and Σ (v − s)."""
    squares = f32(0)
    total = f32(0)
    for i in range(v.shape[0]):
        d = v[i] - s
        squares += d * d
        total += d
    return f64(squares), f64(total)


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def wide_sum_about(v, s):
    """Σ (v − s) where float32 overflows."""
    total = 0.0
    for i in range(v.shape[0]):
        total += f64(v[i]) - f64(s)
    return total


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def wide_squares_about(v, s):
    """Σ (v − s)² where float32 overflows."""
    squares = 0.0
    for i in range(v.shape[0]):
        d = f64(v[i]) - f64(s)
        squares += d * d
    return squares


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def scaled(v, near, a, b, out):
    """out = (v − near)·a + b."""
    for i in range(v.shape[0]):
        out[i] = (v[i] - near) * a + b


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def dots(v, g, near):
    """Σ g, and Σ g·(v − near)."""
    total = f32(0)
    product = f32(0)
    for i in range(v.shape[0]):
        total += g[i]
        product += g[i] * (v[i] - near)
    return f64(total), f64(product)


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def wide_dots(v, g, near):
    """Σ g·(v − near) over two axes, where float32 overflows."""
    product = 0.0
    for n in range(v.shape[0]):
        for i in range(v.shape[1]):
            product += f64(g[n, i]) * (f64(v[n, i]) - f64(near))
    return product


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def combined(v, g, near, slope, b, a, out):
    """out = (g + (v − near)·slope + b)·a: r² would underflow at |x| of 1e20, so r is multiplied twice."""
    for i in range(v.shape[0]):
        out[i] = (g[i] + (v[i] - near) * slope + b) * a


def planes(parallel):
    """The loops over channels of x (N, C, L)."""
    span = RANGE[parallel]

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, weight, bias, eps, y, mean, variance, rstd):
        count, channels, length = x.shape
        m = f64(count) * length
        for c in span(channels):
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
            v = max(squares / m - rest * rest, 0.0)
            r = 1.0 / np.sqrt(v + eps)
            a = r * weight[c]
            b = f64(bias[c]) - rest * a
            for n in range(count):
                scaled(x[n, c], near, f32(a), f32(b), y[n, c])
            mean[c] = f64(near) + rest
            variance[c] = v
            rstd[c] = r

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, gy, weight, mean, rstd, gx, gweight, gbias):
        count, channels, length = x.shape
        m = f64(count) * length
        for c in span(channels):
            total = 0.0
            product = 0.0
            for n in range(count):
                s, p = dots(x[n, c], gy[n, c], mean[c])
                total += s
                product += p
            if not abs(product) < HUGE:
                product = wide_dots(x[:, c], gy[:, c], mean[c])
            r = f64(rstd[c])
            product *= r
            gbias[c], gweight[c] = total, product
            slope, b, a = f32(-product / m * r), f32(-total / m), f32(r * weight[c])
            for n in range(count):
                combined(x[n, c], gy[n, c], mean[c], slope, b, a, gx[n, c])

    return forward, backward


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def column_sums(x, s, total):
    """total += Σ (x − s) over a stretch of rows, per column."""
    part = np.zeros(x.shape[1], f32)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            part[c] += x[n, c] - s[c]
    for c in range(x.shape[1]):
        total[c] += part[c]


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def column_squares(x, s, squares, total):
    """squares += Σ (x − s)², total += Σ (x − s) over a stretch of rows, per column."""
    part = np.zeros((2, x.shape[1]), f32)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            d = x[n, c] - s[c]
            part[0, c] += d * d
            part[1, c] += d
    for c in range(x.shape[1]):
        squares[c] += part[0, c]
        total[c] += part[1, c]


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def column_dots(x, g, s, product, total):
    """product += Σ g·(x − s), total += Σ g over a stretch of rows, per column."""
    part = np.zeros((2, x.shape[1]), f32)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            part[0, c] += g[n, c] * (x[n, c] - s[c])
            part[1, c] += g[n, c]
    for c in range(x.shape[1]):
        product[c] += part[0, c]
        total[c] += part[1, c]


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def columns_scaled(x, near, a, b, out):
    """out = (x − near)·a + b, per column."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[n, c] = (x[n, c] - near[c]) * a[c] + b[c]


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def columns_combined(x, g, near, slope, b, a, out):
    """out = (g + (x − near)·slope + b)·a, per column."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[n, c] = (g[n, c] + (x[n, c] - near[c]) * slope[c] + b[c]) * a[c]


@numba.njit(error_model="numpy", cache=True, nogil=True)
def forward_strip(x, weight, bias, eps, y, mean, variance, rstd):
    """A strip of columns: mean, variance, and y."""
    count, width = x.shape
    total, squares, rest = np.zeros(width), np.zeros(width), np.zeros(width)
    near, a, b = np.empty(width, f32), np.empty(width, f32), np.empty(width, f32)
    for n in range(0, count, STRETCH):
        column_sums(x[n : n + STRETCH], x[0], total)
    for c in range(width):
        if not abs(total[c]) < HUGE:
            total[c] = wide_sum_about(x[:, c], x[0, c])
        near[c] = f64(x[0, c]) + total[c] / count
    for n in range(0, count, STRETCH):
        column_squares(x[n : n + STRETCH], near, squares, rest)
    for c in range(width):
        if not squares[c] < HUGE:
            squares[c] = wide_squares_about(x[:, c], near[c])
            rest[c] = wide_sum_about(x[:, c], near[c])
        left = rest[c] / count
        v = max(squares[c] / count - left * left, 0.0)
        r = 1.0 / np.sqrt(v + eps)
        mean[c] = f64(near[c]) + left
        variance[c] = v
        rstd[c] = r
        a[c] = r * weight[c]
        b[c] = f64(bias[c]) - left * r * weight[c]
    columns_scaled(x, near, a, b, y)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def backward_strip(x, gy, weight, mean, rstd, gx, gweight, gbias):
    """A strip of columns: the gradients."""
    count, width = x.shape
    total, product = np.zeros(width), np.zeros(width)
    slope, a, b = np.empty(width, f32), np.empty(width, f32), np.empty(width, f32)
    for n in range(0, count, STRETCH):
        column_dots(x[n : n + STRETCH], gy[n : n + STRETCH], mean, product, total)
    for c in range(width):
        if not abs(product[c]) < HUGE:
            product[c] = wide_dots(x[:, c : c + 1], gy[:, c : c + 1], mean[c])
        r = f64(rstd[c])
        gbias[c] = total[c]
        gweight[c] = product[c] * r
        slope[c] = -product[c] * r / count * r
        b[c] = -total[c] / count
        a[c] = r * weight[c]
    columns_combined(x, gy, mean, slope, b, a, gx)


def columns(parallel):
    """The loops over strips of columns of x (N, C), each as wide as its sums fit in the first cache."""
    span = RANGE[parallel]

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, weight, bias, eps, y, mean, variance, rstd, width):
        for strip in span((x.shape[1] + width - 1) // width):
            i, j = strip * width, min(strip * width + width, x.shape[1])
            forward_strip(x[:, i:j], weight[i:j], bias[i:j], eps, y[:, i:j], mean[i:j], variance[i:j], rstd[i:j])

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, gy, weight, mean, rstd, gx, gweight, gbias, width):
        for strip in span((x.shape[1] + width - 1) // width):
            i, j = strip * width, min(strip * width + width, x.shape[1])
            backward_strip(x[:, i:j], gy[:, i:j], weight[i:j], mean[i:j], rstd[i:j], gx[:, i:j], gweight[i:j],
                           gbias[i:j])

    return forward, backward


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
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


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def row_combined(v, g, weight, near, slope, b, r, out):
    """out = (g·γ + (v − near)·slope + b)·r."""
    for i in range(v.shape[0]):
        out[i] = (g[i] * weight[i] + (v[i] - near) * slope + b) * r


def rows(parallel):
    """The loops over rows of x (R, D)."""
    span = RANGE[parallel]

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, weight, bias, eps, y, mean, variance, rstd):
        m = f64(x.shape[1])
        for i in span(x.shape[0]):
            s = x[i, 0]
            total = sum_about(x[i], s)
            if not abs(total) < HUGE:
                total = wide_sum_about(x[i], s)
            near = f32(f64(s) + total / m)
            squares, rest = squares_about(x[i], near)
            if not squares < HUGE:
                squares, rest = wide_squares_about(x[i], near), wide_sum_about(x[i], near)
            rest /= m
            v = max(squares / m - rest * rest, 0.0)
            r = 1.0 / np.sqrt(v + eps)
            row_written(x[i], near, f32(rest), f32(r), weight, bias, y[i])
            mean[i] = f64(near) + rest
            variance[i] = v
            rstd[i] = r

    @numba.njit(parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def backward(x, gy, weight, mean, rstd, gx, gweights, gbiases):
        """`gweights` and `gbiases` are (parts, D), float64 zeros: every part of the rows sums its own."""
        m = f64(x.shape[1])
        parts = gweights.shape[0]
        for part in span(parts):
            sums = np.zeros((2, x.shape[1]), f32)
            begin, end = x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts
            for i in range(begin, end):
                r = rstd[i]
                total, product = row_dots(x[i], gy[i], weight, mean[i], r, sums[0], sums[1])
                row_combined(x[i], gy[i], weight, mean[i], f32(-product / m * r), f32(-total / m), r, gx[i])
                if (i - begin) % STRETCH == STRETCH - 1 or i == end - 1:
                    for j in range(x.shape[1]):
                        gweights[part, j] += sums[0, j]
                        gbiases[part, j] += sums[1, j]
                    sums[:] = 0

    return forward, backward
