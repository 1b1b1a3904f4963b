"""The loop of running averages, compiled by numba; imported when first used."""

from __future__ import annotations

import numpy as np

from minigrad.kernels.compiled.elementary import njit_for


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
