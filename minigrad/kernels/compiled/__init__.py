"""Kernels compiled by numba (extra `fast`), for the CPU. numba is imported when the first of them runs, not before."""

from minigrad.kernels.compiled import activation, convolution, normalization, pooling

__all__ = ["activation", "convolution", "normalization", "pooling"]
