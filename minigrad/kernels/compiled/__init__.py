"""Kernels compiled by numba (extra `fast`), for the CPU. numba is imported when the first of them runs, not before."""

from minigrad.kernels.compiled import loading

if loading.INSTALLED:
    from minigrad.kernels.compiled import activation, averages, convolution, entropy, normalization, pooling

    __all__ = ["activation", "averages", "convolution", "entropy", "loading", "normalization", "pooling"]
