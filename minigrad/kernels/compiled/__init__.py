"""Kernels compiled by numba (extra `fast`), for the CPU. numba is imported when the first of them runs, not before."""

from minigrad.kernels.compiled import (
    averages,
    convolution,
    elementwise,
    entropy,
    inference,
    loading,
    local_response,
    masked,
    normalization,
    pooling,
    reduction,
    softmax,
)

__all__ = ["averages", "convolution", "elementwise", "entropy", "inference", "loading", "local_response", "masked",
           "normalization", "pooling", "reduction", "softmax"]
