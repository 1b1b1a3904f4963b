"""Loops of sums over rows, float32, compiled by numba; imported when first used."""

from __future__ import annotations

import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.vectors import row_sum

#: Rows up to which each is cut in parts, for several threads.
FEW = 8


def row_sums(parallel):
    """out (R,) = share·Σ of each row of x (R, D)."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(x, share, out):
        count, width = x.shape
        parts = FEW if parallel and count <= FEW else 1
        sums = np.zeros((count, parts))
        for task in span(count * parts):
            i, part = task // parts, task % parts
            sums[i, part] = row_sum(x[i, width * part // parts : width * (part + 1) // parts])
        for i in range(count):
            total = 0.0
            for part in range(parts):  # in one order, whatever the threads
                total += sums[i, part]
            out[i] = total * share

    return run
