"""Kernels compiled by numba (extra `fast`), for the CPU. numba is imported when the first of them runs, not before."""

from minigrad.kernels.compiled import averages, convolution, elementwise, entropy, loading, normalization, pooling

__all__ = ["averages", "convolution", "elementwise", "entropy", "loading", "normalization", "pooling"]
