"""The linear layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import functional as F
from minigrad.backend import Device, parameter_dtype
from minigrad.functional.arguments import whole_number
from minigrad.layers import init
from minigrad.layers.module import Module
from minigrad.ops.random import Generator
from minigrad.tensor import Parameter

__all__ = ["Linear"]


class Linear(Module):
    """y = x·Wᵀ + b; input (…, in_features), output (…, out_features).

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        Whether there is b. Before a BatchNorm it has no effect: the mean is subtracted again.
    device, dtype
        Where, and of which type, the parameters are.
    generator : Generator, optional
        Where initial values come from; the default generator unless given.

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features)
    bias : Parameter of shape (out_features,), or None
        Both are at first uniform in ±1/√in_features.

    Raises
    ------
    ShapeError
        When called: the last axis of the input is not `in_features`.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import Linear
    >>> Linear(3, 2)(minigrad.ones(5, 3)).shape
    (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: str | Device | None = None,
                 dtype: Any = np.float32, generator: Generator | None = None) -> None:
        super().__init__()
        self.in_features = in_features = whole_number(in_features, "Linear", "in_features", least=0)
        self.out_features = out_features = whole_number(out_features, "Linear", "out_features", least=0)
        # Column by column (Fortran order): the matrix products are x·Wᵀ forward and xᵀ·gy for the gradient, and both
        # are fastest, without a copy and with gradients in the parameter's own layout, where Wᵀ lies row by row.
        dtype = parameter_dtype(dtype)
        weight = np.asfortranarray(np.empty((out_features, in_features), dtype))
        self.weight = Parameter(weight, device=device)
        self.register_parameter("bias", Parameter(np.empty(out_features, dtype), device=device) if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)  # that is ±1/√in_features
        if self.bias is not None:
            bound = 1 / math.sqrt(max(self.in_features, 1))
            init.uniform_(self.bias, -bound, bound, generator)

    def forward(self, x: Any) -> Any:
        """x·Wᵀ + b."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
