"""Activations under torch's names."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError

__all__ = ["elu", "gelu", "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "mish", "relu", "relu6", "sigmoid",
           "silu", "softmax", "softplus", "tanh"]

relu = ops.relu
sigmoid = ops.sigmoid
tanh = ops.tanh
silu = ops.silu
leaky_relu = ops.leaky_relu
softplus = ops.softplus
elu = ops.elu
mish = ops.mish
logsigmoid = ops.logsigmoid
hardtanh = ops.hardtanh


def relu6(input: Any) -> Any:
    """x limited to [0, 6], with derivative 0 at both ends."""
    return ops.hardtanh(input, 0.0, 6.0)


def gelu(input: Any, approximate: str = "none") -> Any:
    """x·Φ(x), exactly ("none") or by its approximation with tanh ("tanh")."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError("gelu", got=f"approximate={approximate!r}", wanted="'none' or 'tanh'")
    return ops.gelu(input, approximate == "tanh")


def softmax(input: Any, dim: int) -> Any:
    """e^x / Σ e^x along `dim`, which must be given: torch's guess of it is deprecated there."""
    return ops.softmax(input, dim)


def log_softmax(input: Any, dim: int) -> Any:
    """ln softmax along `dim`."""
    return ops.log_softmax(input, dim)
