"""Kernels for NVIDIA GPUs: CUDA sources in .cu files, compiled when first used."""

from minigrad.kernels.cuda import normalization

__all__ = ["normalization"]
