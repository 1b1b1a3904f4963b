"""Optimizers' updates of one parameter in one pass, compiled by numba; imported when first used.

The same operations in the same order as the optimizers' texts, each rounded to float32 (numba joins no products and
sums here): parameters come out bit for bit as the texts leave them. The numbers come as a vector.
"""

from __future__ import annotations

import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for


def sgd(parallel, decayed, moving, damped, nesterov, maximize):
    """SGD: see `minigrad.optim.SGD`. `b` is read where something is `moving` alone."""
    span = RANGE[parallel]

    @njit_for((parallel, decayed, moving, damped, nesterov, maximize), parallel=parallel,
              error_model="numpy", cache=True, nogil=True)
    def run(p, b, g, numbers):
        lr, momentum, decay, kept = numbers[0], numbers[1], numbers[2], numbers[3]
        for i in span(p.shape[0]):
            d = -g[i] if maximize else g[i]
            if decayed:
                d = d + p[i] * decay
            if moving:
                t = b[i] * momentum + (d * kept if damped else d)
                b[i] = t
                d = d + t * momentum if nesterov else t
            p[i] = p[i] - d * lr

    return run


def adam(parallel, decayed, decoupled, amsgrad, maximize):
    """Adam and AdamW: see `minigrad.optim.Adam`. `top` is read with `amsgrad` alone."""
    span = RANGE[parallel]

    @njit_for((parallel, decayed, decoupled, amsgrad, maximize), parallel=parallel,
              error_model="numpy", cache=True, nogil=True)
    def run(p, m, v, top, g, numbers):
        new1, beta2, new2, decay = numbers[0], numbers[1], numbers[2], numbers[3]
        size, small, shrink = numbers[4], numbers[5], numbers[6]
        for i in span(p.shape[0]):
            d = -g[i] if maximize else g[i]
            if decayed and not decoupled:
                d = d + p[i] * decay
            m[i] = m[i] + (d - m[i]) * new1
            w = v[i] * beta2 + d * d * new2
            v[i] = w
            if amsgrad:
                largest = top[i]
                w = w if w > largest or w != w else largest  # NaN stays
                top[i] = w
            t = m[i] / (np.sqrt(w) + small) * size
            q = p[i]
            if decayed and decoupled:
                q = q * shrink
            p[i] = q - t

    return run
