"""Activations as layers. `inplace` is there for torch's signatures; it has no effect, as Tensors are values."""

from __future__ import annotations

from typing import Any

from minigrad import functional as F
from minigrad.errors import ArgumentError
from minigrad.layers.module import Module

__all__ = ["GELU", "LeakyReLU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]


class ReLU(Module):
    """max(x, 0), with derivative 0 at 0."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Any) -> Any:
        """max(x, 0)."""
        return F.relu(x)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """x where it is positive, else negative_slope·x.

    Parameters
    ----------
    negative_slope : float
    inplace : bool
        Without effect.
    """

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, x: Any) -> Any:
        """x or negative_slope·x."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """x·Φ(x), with Φ the distribution function of the normal distribution (Hendrycks & Gimpel, arXiv:1606.08415).

    Parameters
    ----------
    approximate : "none" or "tanh"
        Exactly, or by ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).

    Raises
    ------
    ArgumentError
        Another approximation.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ArgumentError("GELU", got=f"approximate={approximate!r}", wanted="'none' or 'tanh'")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """x·Φ(x)."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x·sigmoid(x), also called swish."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Any) -> Any:
        """x·sigmoid(x)."""
        return F.silu(x)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """1 / (1 + e^−x)."""

    def forward(self, x: Any) -> Any:
        """1 / (1 + e^−x)."""
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        """tanh x."""
        return F.tanh(x)


class Softplus(Module):
    """ln(1 + e^(beta·x)) / beta: a smooth max(x, 0).

    Parameters
    ----------
    beta : float
        How sharp the bend at 0 is.
    threshold : float
        Where beta·x is above it, the result is x.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Any) -> Any:
        """ln(1 + e^(beta·x)) / beta."""
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    """e^x / Σ e^x along an axis: positive numbers with sum 1.

    Parameters
    ----------
    dim : int
        The axis. It must be given: torch's guess of it is deprecated there.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """e^x / Σ e^x."""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """ln of `Softmax`, x − ln Σ e^x, without overflow or loss of digits; `dim` as there."""

    def forward(self, x: Any) -> Any:
        """x − ln Σ e^x."""
        return F.log_softmax(x, self.dim)
