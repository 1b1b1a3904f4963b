"""Local response normalization: every element is divided by the energy of its neighbours in other channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import accumulation_dtype, is_floating, namespace
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.op import Op, apply, inputs, outputs, step, value
from minigrad.ops.arithmetic import power
from minigrad.ops.creation import zeros_like
from minigrad.ops.elementwise import cast
from minigrad.ops.statistics import all_finite

__all__ = ["local_response_norm"]


@step
def window_mean(x: Any, before: int, after: int) -> Any:
    """At every channel (axis 1) the mean from `before` channels before it to `after` behind it.

    Channels that do not exist count as 0.
    """
    xp = namespace(x)
    channels = x.shape[1]
    edge = zeros_like(x[:, :1])
    padded = xp.concat([edge] * before + [x] + [edge] * after, axis=1)
    total = padded[:, :channels]
    for shift in range(1, before + after + 1):
        total = total + padded[:, shift : shift + channels]
    return total * (1 / (before + after + 1))


class LocalResponseNorm(Op):
    """y = x·d^−β with d = k + α·s, and s = W·x² the mean over a window of channels   (Krizhevsky et al., 2012)

    gx = gy·d^−β + 2x·Wᵀ(gs − αβ·gy·x·d^−(β+1))    with the second output's gradient gs
    """

    __slots__ = ("size", "alpha", "beta", "k")
    n_out = 2
    keeps = inputs(0) + outputs(1)
    broadcasts = True  # the second output is in the accumulation dtype

    def __init__(self, size, alpha, beta, k):
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x):
        wide = cast(x, accumulation_dtype(value(x).dtype))
        with np.errstate(over="ignore"):
            square = window_mean(wide * wide, self.size // 2, (self.size - 1) // 2)
        if wide.dtype != np.float64 and not all_finite(square) and all_finite(wide):
            wide = cast(wide, np.float64)
            square = window_mean(wide * wide, self.size // 2, (self.size - 1) // 2)
        return cast(wide * power(self._energy(square), -self.beta), x.dtype), square

    def backward(self, saved, needs, gy, gsquare):
        given, square = saved
        x = cast(given, square.dtype)
        into = gsquare
        if gy is not None:
            gy = cast(gy, square.dtype)
            d = self._energy(square)
            scale = power(d, -self.beta)
            into = gy * x * (scale / d) * (-self.alpha * self.beta)
            into = into if gsquare is None else into + gsquare
        # The adjoint of the window looks the other way.
        gx = 2 * x * window_mean(into, (self.size - 1) // 2, self.size // 2)
        return (cast(gx if gy is None else gy * scale + gx, value(given).dtype),)

    def _energy(self, square):
        return square * self.alpha + self.k


def local_response_norm(x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """x / (k + α·⟨x²⟩)^β, with the mean over `size` neighbouring channels (axis 1), missing ones counting as 0.

    Parameters
    ----------
    x : (N, C) or (N, C, …), floating point
    size : int
        The number of channels in a window: size // 2 before the channel itself, (size − 1) // 2 behind it.
    alpha, beta, k : float

    Returns
    -------
    y : shape and dtype of x

    Raises
    ------
    ArgumentError
        `size` is below 1.
    ShapeError, DtypeError
        There is no axis of channels, or the input is not floating point.
    """
    if x.ndim < 2:
        raise ShapeError("local_response_norm", got=f"input of shape {tuple(x.shape)}", wanted="(N, C) or (N, C, …)")
    if size < 1:
        raise ArgumentError("local_response_norm", got=f"size={size}", wanted="at least 1")
    if not is_floating(value(x).dtype):
        raise DtypeError("local_response_norm", got=f"input of dtype {x.dtype}", wanted="floating point")
    return apply(LocalResponseNorm(size, alpha, beta, k), x)[0]
