"""Loops of average pooling, compiled by numba; imported when first used.

Sums under windows are taken down the columns first, whose numbers are neighbours in rows, then along one row.
"""

from __future__ import annotations

import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.pooling_loops import PARTS
from minigrad.kernels.compiled.vectors import add


def sum_pool(parallel, right):
    """y (planes, OH, OW) = sums under windows of x (planes, H, W); `right` is the stride along a row, or 0 for any."""
    span = RANGE[parallel]

    @njit_for((parallel, right), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(x, kernel, stride, before, y):
        high, wide = kernel
        step = right if right > 0 else stride[1]
        length, first = y.shape[2], before[1]
        reach = max(first + x.shape[2], (length - 1) * step + wide)
        parts = PARTS if parallel else 1
        for part in span(parts):
            line = np.zeros(reach, x.dtype)
            inner = line[first : first + x.shape[2]]
            for plane in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
                for i in range(y.shape[1]):
                    top = i * stride[0] - before[0]
                    inner[:] = 0
                    for h in range(max(top, 0), min(top + high, x.shape[1])):
                        add(x[plane, h], inner)
                    out = y[plane, i]
                    for j in range(length):
                        out[j] = line[j * step]
                    for q in range(1, wide):
                        for j in range(length):
                            out[j] += line[j * step + q]

    return run


def spread(parallel, right, apart):
    """out (planes, H, W) = each element of g (planes, OH, OW) at all places of its window, added up.

    `right` as in `sum_pool`; `apart`, windows touch and do not overlap, and lie on the input.
    """
    span = RANGE[parallel]

    @njit_for((parallel, right, apart), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(g, kernel, stride, before, out):
        high, wide = kernel
        step = right if right > 0 else stride[1]
        length, first = g.shape[2], before[1]
        reach = max(first + out.shape[2], (length - 1) * step + wide)
        parts = PARTS if parallel else 1
        for part in span(parts):
            total, line = np.empty(length, g.dtype), np.zeros(reach, g.dtype)
            inner = line[first : first + out.shape[2]]
            for plane in range(g.shape[0] * part // parts, g.shape[0] * (part + 1) // parts):
                for h in range(out.shape[1]):
                    place = h + before[0]  # counted from where the first window begins
                    begin = (place - high) // stride[0] + 1 if place >= high else 0
                    total[:] = 0
                    for i in range(begin, min(place // stride[0], g.shape[1] - 1) + 1):
                        add(g[plane, i], total)
                    if apart:
                        for j in range(length):
                            for q in range(step):
                                line[j * step + q] = total[j]
                    else:
                        line[:] = 0
                        for q in range(wide):
                            for j in range(length):
                                line[j * step + q] += total[j]
                    out[plane, h] = inner

    return run
