"""Activations, each one node with its own derivative; and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import namespace
from minigrad.errors import ArgumentError
from minigrad.op import Op, apply, inputs, outputs, total
from minigrad.ops.elementwise import erf, narrowed, stop_gradient, widened
from minigrad.ops.shape import normalize_axes

__all__ = ["elu", "gelu", "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "mish", "relu", "sigmoid", "silu",
           "softmax", "softplus"]


class ReLU(Op):
    """y = max(x, 0);   gx = gy where y > 0"""

    keeps = outputs(0)

    def forward(self, x):
        return namespace(x).maximum(x, 0)  # not 0.0: integers stay integers

    def backward(self, saved, needs, gy):
        return (namespace(gy).where(saved[0] > 0, gy, 0.0),)


class LeakyReLU(Op):
    """y = x where x > 0, else slope·x;   gx = gy or slope·gy"""

    __slots__ = ("slope",)
    keeps = inputs(0)

    def __init__(self, slope):
        self.slope = slope

    def forward(self, x):
        return namespace(x).where(x > 0, x, x * self.slope)

    def backward(self, saved, needs, gy):
        return (namespace(gy).where(saved[0] > 0, gy, gy * self.slope),)


class ELU(Op):
    """y = x where x > 0, else α·(eˣ − 1);   gx = gy or gy·α·eˣ     (Clevert et al., arXiv:1511.07289)"""

    __slots__ = ("alpha",)
    keeps = inputs(0)

    def __init__(self, alpha):
        self.alpha = alpha

    def forward(self, x):
        xp = namespace(x)
        below = xp.where(x > 0, 0.0, x)  # where e^x could overflow, it is not asked for
        return xp.where(x > 0, x, xp.expm1(below) * self.alpha)

    def backward(self, saved, needs, gy):
        x = saved[0]
        xp = namespace(gy)
        return (xp.where(x > 0, gy, gy * (xp.exp(xp.where(x > 0, 0.0, x)) * self.alpha)),)


class HardTanh(Op):
    """y = x limited to [low, high];   gx = gy where low < x < high"""

    __slots__ = ("low", "high")
    keeps = inputs(0)

    def __init__(self, low, high):
        self.low, self.high = low, high

    def forward(self, x):
        return namespace(x).clip(x, self.low, self.high)

    def backward(self, saved, needs, gy):
        x = saved[0]
        return (namespace(gy).where((x > self.low) & (x < self.high), gy, 0.0),)


class Mish(Op):
    """y = x·tanh(ln(1 + eˣ));   gx = gy·(t + x·σ(x)·(1 − t²)), t the tanh     (Misra, arXiv:1908.08681)"""

    keeps = inputs(0)

    def forward(self, x):
        return x * namespace(x).tanh(softplus(x))

    def backward(self, saved, needs, gy):
        x = saved[0]
        t = namespace(gy).tanh(softplus(x))
        return (gy * (t + x * sigmoid(x) * (1 - t * t)),)


class LogSigmoid(Op):
    """y = ln σ(x) = min(x, 0) − ln(1 + e^(−|x|));   gx = gy·σ(−x)"""

    keeps = inputs(0)

    def forward(self, x):
        xp = namespace(x)
        return xp.minimum(x, 0.0) - xp.log1p(xp.exp(xp.abs(x) * -1.0))

    def backward(self, saved, needs, gy):
        return (gy * sigmoid(-saved[0]),)


class Sigmoid(Op):
    """y = 1 / (1 + e^(−x));   gx = gy·y·(1 − y)

    e^(−x) may overflow to infinity, for which y = 0 is right: only the warning is silenced.
    """

    keeps = outputs(0)

    def forward(self, x):
        with np.errstate(over="ignore"):
            return 1 / (1 + namespace(x).exp(x * -1.0))  # -x would wrap around in unsigned integers

    def backward(self, saved, needs, gy):
        y = saved[0]
        return (gy * (y * (1 - y)),)


class GELU(Op):
    """y = x·Φ(x), Φ the normal distribution;   gx = gy·(Φ(x) + x·φ(x))     (Hendrycks & Gimpel, arXiv:1606.08415)"""

    keeps = inputs(0)

    def forward(self, x):
        wide = widened(x)
        return narrowed(wide * ((erf(wide * math.sqrt(0.5)) + 1) * 0.5), x.dtype)

    def backward(self, saved, needs, gy):
        x = widened(saved[0])
        density = namespace(x).exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return (gy * narrowed((erf(x * math.sqrt(0.5)) + 1) * 0.5 + x * density, gy.dtype),)


class GELUTanh(Op):
    """y = ½x·(1 + tanh u), u = √(2/π)·(x + 0.044715x³);   gx = gy·(½(1 + t) + ½x·(1 − t²)·u′)"""

    keeps = inputs(0)

    def forward(self, x):
        wide = widened(x)
        return narrowed(wide * ((self._tanh(wide) + 1) * 0.5), x.dtype)

    def _tanh(self, x):
        return namespace(x).tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi))

    def backward(self, saved, needs, gy):
        x = widened(saved[0])
        t = self._tanh(x)
        slope = (x * x * (3 * 0.044715) + 1) * math.sqrt(2 / math.pi)
        return (gy * narrowed((t + 1) * 0.5 + x * (1 - t * t) * slope * 0.5, gy.dtype),)


class SiLU(Op):
    """y = x·σ(x);   gx = gy·σ·(1 + x·(1 − σ))"""

    keeps = inputs(0)

    def forward(self, x):
        return x * sigmoid(x)

    def backward(self, saved, needs, gy):
        x = saved[0]
        s = sigmoid(x)
        return (gy * (s * (1 + x * (1 - s))),)


class Softplus(Op):
    """y = ln(1 + e^(βx)) / β, and x itself where βx > threshold;   gx = gy·σ(βx), or gy there"""

    __slots__ = ("beta", "threshold")
    keeps = inputs(0)

    def __init__(self, beta, threshold):
        self.beta, self.threshold = beta, threshold

    def forward(self, x):
        xp = namespace(x)
        t = widened(x) * self.beta
        curved = xp.log1p(xp.exp(xp.minimum(t, float(self.threshold)))) * (1 / self.beta)
        return narrowed(xp.where(t > self.threshold, x, curved), x.dtype)

    def backward(self, saved, needs, gy):
        t = saved[0] * self.beta
        return (namespace(gy).where(t > self.threshold, gy, gy * sigmoid(t)),)


class Softmax(Op):
    """y = e^x / Σ e^x along an axis, with the largest x taken out first;   gx = y·(gy − Σ gy·y)"""

    __slots__ = ("axis",)
    keeps = outputs(0)

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        xp = namespace(x)
        wide = widened(x)
        e = xp.exp(wide - xp.max(stop_gradient(wide), axis=self.axis, keepdims=True))
        return narrowed(e / xp.sum(e, axis=self.axis, keepdims=True), x.dtype)

    def backward(self, saved, needs, gy):
        y = saved[0]
        return (y * (gy - total(gy * y, (self.axis,), True)),)


class LogSoftmax(Op):
    """y = x − ln Σ e^x along an axis;   gx = gy − e^y·Σ gy"""

    __slots__ = ("axis",)
    keeps = outputs(0)

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        xp = namespace(x)
        wide = widened(x)
        d = wide - xp.max(stop_gradient(wide), axis=self.axis, keepdims=True)
        return narrowed(d - xp.log(xp.sum(xp.exp(d), axis=self.axis, keepdims=True)), x.dtype)

    def backward(self, saved, needs, gy):
        return (gy - namespace(gy).exp(saved[0]) * total(gy, (self.axis,), True),)


_RELU, _SIGMOID, _GELU, _GELU_TANH, _SILU = ReLU(), Sigmoid(), GELU(), GELUTanh(), SiLU()
_MISH, _LOGSIGMOID = Mish(), LogSigmoid()


def relu(x: Any) -> Any:
    """max(x, 0); the derivative at 0 is 0."""
    return apply(_RELU, x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where positive, else `negative_slope` · x."""
    return apply(LeakyReLU(float(negative_slope)), x)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, else alpha·(eˣ − 1)."""
    return apply(ELU(float(alpha)), x)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x limited to [min_val, max_val]; the derivative is 0 at the bounds themselves, as in torch (`clip` has 1).

    Raises
    ------
    ArgumentError
        The lower bound is above the upper.
    """
    if min_val > max_val:
        raise ArgumentError("hardtanh", got=f"min_val={min_val}, max_val={max_val}", wanted="min_val ≤ max_val")
    return apply(HardTanh(float(min_val), float(max_val)), x)


def mish(x: Any) -> Any:
    """x·tanh(ln(1 + eˣ))."""
    return apply(_MISH, x)


def logsigmoid(x: Any) -> Any:
    """ln(1 / (1 + e^(−x))), without overflow."""
    return apply(_LOGSIGMOID, x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^(−x))."""
    return apply(_SIGMOID, x)


def gelu(x: Any, tanh: bool = False) -> Any:
    """x·Φ(x), exactly by the error function, or by its tanh approximation."""
    return apply(_GELU_TANH if tanh else _GELU, x)


def silu(x: Any) -> Any:
    """x·σ(x), also called swish."""
    return apply(_SILU, x)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """ln(1 + e^(βx)) / β, replaced by x where βx > threshold, as in torch."""
    if beta == 0:
        raise ArgumentError("softplus", got=f"beta={beta}", wanted="another number, which divides the logarithm")
    return apply(Softplus(float(beta), float(threshold)), x)


def softmax(x: Any, axis: int = -1) -> Any:
    """e^x / Σ e^x along `axis`."""
    (axis,) = normalize_axes((axis,), x.ndim, "softmax")
    return apply(Softmax(axis), x) if x.shape[axis] else x * 1.0


def log_softmax(x: Any, axis: int = -1) -> Any:
    """ln softmax along `axis`, without forming the softmax."""
    (axis,) = normalize_axes((axis,), x.ndim, "log_softmax")
    return apply(LogSoftmax(axis), x) if x.shape[axis] else x * 1.0
