"""Activations as layers. `inplace` is there for torch's signatures; it has no effect, as Tensors are values."""

from __future__ import annotations

from typing import Any

from minigrad import functional as F
from minigrad.errors import ArgumentError
from minigrad.layers.module import Module

__all__ = ["ELU", "GELU", "Hardtanh", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "ReLU", "ReLU6", "SiLU",
           "Sigmoid", "Softmax", "Softplus", "Tanh"]


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


class ELU(Module):
    """x where it is positive, else alpha·(eˣ − 1) (Clevert et al., arXiv:1511.07289).

    Parameters
    ----------
    alpha : float
    inplace : bool
        Without effect.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, x: Any) -> Any:
        """x or alpha·(eˣ − 1)."""
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class Hardtanh(Module):
    """x limited to [min_val, max_val], with derivative 0 at both ends.

    Parameters
    ----------
    min_val, max_val : float
        The lower has to be below the upper.
    inplace : bool
        Without effect.

    Raises
    ------
    ArgumentError
        The lower bound is not below the upper.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if not min_val < max_val:
            raise ArgumentError("Hardtanh", got=f"min_val={min_val}, max_val={max_val}", wanted="min_val < max_val")
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, x: Any) -> Any:
        """x within its bounds."""
        return F.hardtanh(x, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class ReLU6(Hardtanh):
    """x limited to [0, 6], with derivative 0 at both ends."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return "inplace=True" if self.inplace else ""


class Mish(SiLU):
    """x·tanh(ln(1 + eˣ)) (Misra, arXiv:1908.08681). `inplace` is without effect."""

    def forward(self, x: Any) -> Any:
        """x·tanh(ln(1 + eˣ))."""
        return F.mish(x)


class LogSigmoid(Module):
    """ln(1 / (1 + e^−x)), without overflow."""

    def forward(self, x: Any) -> Any:
        """ln(1 / (1 + e^−x))."""
        return F.logsigmoid(x)


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
