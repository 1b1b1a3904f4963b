"""Kernels for NVIDIA GPUs: CUDA sources in .cu files, compiled when first used."""

from minigrad.kernels.cuda import convolution, elementwise, entropy, normalization, pooling, updates

__all__ = ["convolution", "elementwise", "entropy", "normalization", "pooling", "updates"]
