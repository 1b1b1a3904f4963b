"""Loops of BatchNorm over the features of a small batch, float32, compiled by numba; imported when first used.

x is (N, C), so small that it stays in the first cache while 16 columns at a time are read for the mean, for the
variance, and to be written, and of so few rows that float32 sums them without losing digits. Sums stay in registers.
For larger matrices, whose columns lie too far apart, there are the strips of `minigrad.kernels.compiled.channels`.
"""

from __future__ import annotations

import numba

from minigrad.kernels.compiled.channels import (
    backward_plain,
    backward_relu,
    backward_sigmoid,
    forward_plain,
    forward_relu,
    forward_sigmoid,
)
from minigrad.kernels.compiled.elementary import njit_for
from minigrad.kernels.compiled.simd import (
    LANES,
    fma,
    load,
    relu,
    rsqrt,
    sigmoid,
    splat,
    store,
    total,
    where_positive,
)
from minigrad.kernels.compiled.vectors import f32

#: Activations as numbers, which the compiler knows when it meets a choice.
KINDS = {"": 0, "relu": 1, "sigmoid": 2}


@numba.njit(inline="always", error_model="numpy")
def _pulled(g, y, i, count, kind):
    """g through the activation that gave y."""
    h = load(g, i, count)
    if kind == 1:
        return where_positive(load(y, i, count), h)
    if kind == 2:
        v = load(y, i, count)
        return h * (v * (splat(f32(1)) - v))
    return h


@numba.njit(inline="always", error_model="numpy")
def _sums(x, c, rows, width, count, s):
    """Σ (x − s) and Σ (x − s)² of 16 columns from c on, of which `count` exist."""
    a0 = a1 = a2 = a3 = q0 = q1 = q2 = q3 = splat(f32(0))
    n = 0
    while n + 4 <= rows:
        i = c + n * width
        d0, d1 = load(x, i, count) - s, load(x, i + width, count) - s
        d2, d3 = load(x, i + 2 * width, count) - s, load(x, i + 3 * width, count) - s
        a0, a1, a2, a3 = a0 + d0, a1 + d1, a2 + d2, a3 + d3
        q0, q1, q2, q3 = fma(d0, d0, q0), fma(d1, d1, q1), fma(d2, d2, q2), fma(d3, d3, q3)
        n += 4
    while n < rows:
        d0 = load(x, c + n * width, count) - s
        a0, q0 = a0 + d0, fma(d0, d0, q0)
        n += 1
    return (a0 + a1) + (a2 + a3), (q0 + q1) + (q2 + q3)


@numba.njit(inline="always", error_model="numpy")
def _dots(x, y, g, c, rows, width, count, s, kind):
    """Σ g and Σ g·(x − s) of 16 columns from c on, of which `count` exist."""
    a0 = a1 = p0 = p1 = splat(f32(0))
    n = 0
    while n + 2 <= rows:
        i = c + n * width
        j = i + width
        h0, h1 = _pulled(g, y, i, count, kind), _pulled(g, y, j, count, kind)
        a0, a1 = a0 + h0, a1 + h1
        p0, p1 = fma(h0, load(x, i, count) - s, p0), fma(h1, load(x, j, count) - s, p1)
        n += 2
    if n < rows:
        i = c + n * width
        h0 = _pulled(g, y, i, count, kind)
        a0, p0 = a0 + h0, fma(h0, load(x, i, count) - s, p0)
    return a0 + a1, p0 + p1


@numba.njit(inline="always", error_model="numpy")
def _write(x, c, rows, width, count, near, a, b, kind, out):
    """out = activation((x − near)·a + b) in 16 columns from c on, of which `count` exist."""
    for n in range(rows):
        i = c + n * width
        v = fma(load(x, i, count) - near, a, b)
        if kind == 1:
            v = relu(v)
        elif kind == 2:
            v = sigmoid(v)
        store(out, i, v, count)


@numba.njit(inline="always", error_model="numpy")
def _finite(a, b):
    """Whether all numbers of both are: what overflows stays infinite, or becomes NaN."""
    return total((a + b) * splat(f32(0))) == 0


def columns(parallel, activation=""):
    """The loops over x (N, C), forward and backward, on one thread; `statistics` (3, C) are mean, variance, rstd.

    Columns whose sums are not finite are left to the strips, which take them in float64 where that helps.
    """
    kind = KINDS[activation]

    @njit_for((activation,), error_model="numpy", cache=True, nogil=True)
    def forward(x, weight, bias, eps, y, statistics):
        rows, width = x.shape
        flat, out, found = x.reshape(x.size), y.reshape(y.size), statistics.reshape(statistics.size)
        k, small = splat(f32(1.0 / rows)), splat(f32(eps))
        for c in range(0, width, LANES):
            count = min(LANES, width - c)
            first = load(flat, c, count)
            near = fma(_sums(flat, c, rows, width, count, first)[0], k, first)
            rest, squares = _sums(flat, c, rows, width, count, near)
            if not _finite(rest, squares):
                if kind == 1:
                    forward_relu(x, weight, bias, eps, y, statistics, c, c + count)
                elif kind == 2:
                    forward_sigmoid(x, weight, bias, eps, y, statistics, c, c + count)
                else:
                    forward_plain(x, weight, bias, eps, y, statistics, c, c + count)
                continue
            rest = rest * k
            variance = relu(squares * k - rest * rest)
            r = rsqrt(variance + small)
            store(found, c, near + rest, count)
            store(found, width + c, variance, count)
            store(found, 2 * width + c, r, count)
            a = r * load(weight, c, count)
            b = load(bias, c, count) - rest * a
            _write(flat, c, rows, width, count, near, a, b, kind, out)

    @njit_for((activation,), error_model="numpy", cache=True, nogil=True)
    def backward(x, y, gy, weight, mean, rstd, gx, gweight, gbias):
        rows, width = x.shape
        flat, given, upstream, out = x.reshape(x.size), y.reshape(y.size), gy.reshape(gy.size), gx.reshape(gx.size)
        k = splat(f32(-1.0 / rows))
        for c in range(0, width, LANES):
            count = min(LANES, width - c)
            near, r = load(mean, c, count), load(rstd, c, count)
            summed, product = _dots(flat, given, upstream, c, rows, width, count, near, kind)
            if not _finite(summed, product):
                if kind == 1:
                    backward_relu(x, y, gy, weight, mean, rstd, gx, gweight, gbias, c, c + count)
                elif kind == 2:
                    backward_sigmoid(x, y, gy, weight, mean, rstd, gx, gweight, gbias, c, c + count)
                else:
                    backward_plain(x, y, gy, weight, mean, rstd, gx, gweight, gbias, c, c + count)
                continue
            product = product * r
            store(gbias, c, summed, count)
            store(gweight, c, product, count)
            slope, b, a = product * k * r, summed * k, r * load(weight, c, count)
            for n in range(rows):
                i = c + n * width
                h = _pulled(upstream, given, i, count, kind)
                store(out, i, (fma(load(flat, i, count) - near, slope, h) + b) * a, count)

    return forward, backward
