"""Faster versions of operations' texts: a registry, and overlays for each kind of device."""

from minigrad.kernels import blocked, compiled, cuda, onednn
from minigrad.kernels.registry import accelerates, disabled, kernels_of, served, tier

__all__ = ["accelerates", "blocked", "compiled", "cuda", "disabled", "kernels_of", "onednn", "served", "tier"]
