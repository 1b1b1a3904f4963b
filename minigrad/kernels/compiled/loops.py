"""Loops of pooling and of running averages, compiled by numba; imported when first used."""

from __future__ import annotations

import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for


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


def max_pool_inside(parallel, high, wide, down, right):
    """`max_pool` for windows of (high, wide) that lie side by side on x, `down` and `right` apart, without padding.

    With these numbers known to the compiler, neighbouring windows are compared in vector registers.
    """
    span = RANGE[parallel]

    @njit_for((parallel, high, wide, down, right), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(x, y, which):
        for plane in span(x.shape[0]):
            for i in range(y.shape[1]):
                out, places = y[plane, i], which[plane, i]
                for j in range(out.shape[0]):
                    best = x[plane, i * down, j * right]
                    place = np.int32(0)
                    for p in range(high):
                        for q in range(wide):
                            v = x[plane, i * down + p, j * right + q]
                            larger = (v > best) | ((v != v) & (best == best))
                            best = v if larger else best
                            place = np.int32(p * wide + q) if larger else place
                    out[j] = best
                    places[j] = place

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


def scatter_apart(parallel, high, wide):
    """`scatter` for windows of (high, wide) that touch and do not overlap; `out` need not hold anything yet."""
    span = RANGE[parallel]

    @njit_for((parallel, high, wide), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(g, which, out):
        rows, columns = g.shape[1] * high, g.shape[2] * wide
        for plane in span(g.shape[0]):
            for i in range(g.shape[1]):
                line, places = g[plane, i], which[plane, i]
                for p in range(high):
                    for j in range(line.shape[0]):
                        for q in range(wide):
                            chosen = places[j] == p * wide + q
                            out[plane, i * high + p, j * wide + q] = line[j] if chosen else 0
                    out[plane, i * high + p, columns:] = 0
            out[plane, rows:] = 0

    return run


def averaged(parallel):
    """moved = (1 − a)·m + a·μ, spread = (1 − a)·v + b·σ²; returns whether all of both are finite."""

    @njit_for((parallel,), error_model="numpy", cache=True, nogil=True)
    def run(mean, variance, batch_mean, batch_variance, a, b, moved, spread):
        kept, a, b = np.float32(1 - a), np.float32(a), np.float32(b)
        doubt = np.float32(0)
        for i in range(mean.shape[0]):
            m = mean[i] * kept + batch_mean[i] * a
            v = variance[i] * kept + batch_variance[i] * b
            moved[i], spread[i] = m, v
            doubt += (m - m) + (v - v)  # 0, or NaN once one is infinite or NaN
        return doubt == 0

    return run
