"""Kernels for NVIDIA GPUs: CUDA sources in .cu files, compiled when first used."""

from __future__ import annotations

from typing import Any

from minigrad.kernels.cuda import (
    convolution,
    elementwise,
    entropy,
    normalization,
    normalization_plans,
    pooling,
    products,
    updates,
    windows,
)

__all__ = ["combinations", "convolution", "elementwise", "entropy", "normalization", "normalization_plans", "pooling",
           "products", "updates", "windows"]


def combinations(every: bool) -> list[tuple[str, dict[str, Any]]]:
    """The (source, macros) that the kernels may ask to be compiled, each once.

    Parameters
    ----------
    every : bool
        All of them; else, of the normalizations' very many, some among which every pair of macros is.
    """
    found = [*elementwise.combinations(), *entropy.combinations(), *updates.combinations(), *windows.combinations()]
    return [*found, *(normalization_plans.every_combination() if every else normalization_plans.combinations())]
