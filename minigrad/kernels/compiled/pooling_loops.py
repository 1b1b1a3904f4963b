"""Loops of max pooling, compiled by numba; imported when first used."""

from __future__ import annotations

import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.lanes import largest_of_windows, spread_to_windows

#: Shares of the planes that are worked on apart when there are several threads.
PARTS = 8


def max_pool(parallel):
    """The largest element of each window of x (planes, H, W), and the place of the window that holds it."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(x, kernel, stride, before, dilation, y, which):
        for plane in span(x.shape[0]):
            for i in range(y.shape[1]):
                for j in range(y.shape[2]):
                    best = -np.inf
                    place = -1
                    for p in range(kernel[0]):
                        h = i * stride[0] + p * dilation[0] - before[0]
                        if h < 0 or h >= x.shape[1]:
                            continue
                        for q in range(kernel[1]):
                            w = j * stride[1] + q * dilation[1] - before[1]
                            if w < 0 or w >= x.shape[2]:
                                continue
                            v = x[plane, h, w]
                            # NaN is larger than everything; the first of equals stays.
                            if place < 0 or v > best or (v != v and best == best):
                                best = v
                                place = p * kernel[1] + q
                    y[plane, i, j] = best
                    which[plane, i, j] = place

    return run


def max_pool_inside(parallel, high, wide, down, right, lanes):
    """`max_pool` for windows of (high, wide) on x, `down` and `right` apart, without padding; `lanes` at a time."""
    span = RANGE[parallel]

    @njit_for((parallel, high, wide, down, right, lanes), parallel=parallel, error_model="numpy", cache=True,
              nogil=True)
    def run(x, y, which):
        row, rows, length = x.shape[2], y.shape[1], y.shape[2]
        flat, out, places = x.reshape(x.size), y.reshape(y.size), which.reshape(y.size)
        reach = (high - 1) * row + (lanes - 1) * right + wide
        parts = PARTS if parallel else 1
        for part in span(parts):
            begin, end = x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts
            limit = end * rows * length
            for n in range(begin * rows, end * rows):  # the rows of all planes
                start = n // rows * x.shape[1] * row + n % rows * down * row
                for j in range(0, length, lanes):
                    k, s = n * length + j, start + j * right
                    if k + lanes <= limit and s + reach <= x.size:
                        largest_of_windows(flat, s, row, out, places, k, high, wide, right, lanes)
                        continue
                    for i in range(min(lanes, length - j)):
                        best = flat[s + i * right]
                        place = np.int32(0)
                        for p in range(high):
                            for q in range(wide):
                                v = flat[s + p * row + i * right + q]
                                larger = (v > best) | ((v != v) & (best == best))
                                best = v if larger else best
                                place = np.int32(p * wide + q) if larger else place
                        out[k + i], places[k + i] = best, place

    return run


def scatter(parallel):
    """Each element of g (planes, OH, OW) added at the place of its window in out (planes, H, W), which holds zeros."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(g, which, kernel, stride, before, dilation, out):
        for plane in span(g.shape[0]):
            for i in range(g.shape[1]):
                for j in range(g.shape[2]):
                    place = which[plane, i, j]
                    h = i * stride[0] + place // kernel[1] * dilation[0] - before[0]
                    w = j * stride[1] + place % kernel[1] * dilation[1] - before[1]
                    out[plane, h, w] += g[plane, i, j]

    return run


def scatter_apart(parallel, high, wide, lanes):
    """`scatter` for windows of (high, wide) that touch and do not overlap; `out` need not hold anything yet."""
    span = RANGE[parallel]

    @njit_for((parallel, high, wide, lanes), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(g, which, out):
        row, rows, length = out.shape[2], g.shape[1], g.shape[2]
        given, places, flat = g.reshape(g.size), which.reshape(g.size), out.reshape(out.size)
        size = out.shape[1] * row
        parts = PARTS if parallel else 1
        for part in span(parts):
            begin, end = g.shape[0] * part // parts, g.shape[0] * (part + 1) // parts
            for plane in range(begin, end):
                for i in range(rows):
                    for p in range(high):
                        start = plane * size + (i * high + p) * row
                        for j in range(0, length, lanes):
                            k, s = (plane * rows + i) * length + j, start + j * wide
                            if s + lanes * wide <= end * size and k + lanes <= g.size:
                                spread_to_windows(given, places, k, p, flat, s, wide, lanes)
                                continue
                            for c in range(min(lanes, length - j)):
                                for q in range(wide):
                                    chosen = places[k + c] == p * wide + q
                                    flat[s + c * wide + q] = given[k + c] if chosen else 0
                        flat[start + length * wide : start + row] = 0
                flat[plane * size + rows * high * row : (plane + 1) * size] = 0

    return run
