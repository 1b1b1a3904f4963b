"""Loops of activations and dropout over vectors, float32, compiled by numba; imported when first used.

Every activation is a function of one number and of two settings, which most have no use for; its backward, of the
gradient, of the number that was kept, and of the same settings. Formulas are those of the operations' texts unless it
says otherwise.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import (
    RANGE,
    exp32,
    expm1_32,
    log1p_32,
    njit_for,
    normal32,
    sigmoid32,
)
from minigrad.kernels.compiled.vectors import BACKWARDS

f32 = np.float32
#: tanh(ln(1 + eˣ)) is 1 in float32 from here on.
MISH_IS_X = f32(15)
#: GELU's tanh is ±1 in float32 from here on, and u² does not overflow.
GELU_IS_X = f32(10)
#: An exponential that stands for infinity: 1 + e is e.
FAR = f32(1e30)
ROOT = f32(math.sqrt(2 / math.pi))
DENSITY = f32(1 / math.sqrt(2 * math.pi))


@numba.njit(inline="always", error_model="numpy")
def _sigmoid(x, a, b):
    return sigmoid32(x)


@numba.njit(inline="always", error_model="numpy")
def _silu(x, a, b):
    return x * sigmoid32(x)


@numba.njit(inline="always", error_model="numpy")
def _both_sigmoids(x):
    """σ(x) and σ(−x), each with all its digits, where 1 − σ(x) has lost them."""
    e = exp32(-x)
    s = f32(1) / (f32(1) + e)
    return s, (e * s if e < FAR else f32(1))


@numba.njit(inline="always", error_model="numpy")
def _silu_backward(g, x, a, b):
    s, rest = _both_sigmoids(x)
    return g * (s * (f32(1) + x * rest))


@numba.njit(inline="always", error_model="numpy")
def _tanh_backward(g, y, a, b):
    return g * (f32(1) - y * y)


@numba.njit(inline="always", error_model="numpy")
def _gelu(x, a, b):
    return x * normal32(x)[0]


@numba.njit(inline="always", error_model="numpy")
def _gelu_backward(g, x, a, b):
    distribution, density = normal32(x)
    return g * (distribution + x * (density * DENSITY))


@numba.njit(inline="always", error_model="numpy")
def _gelu_tanh(x, a, b):
    """½·(1 + tanh u) = σ(2u)."""
    return x * sigmoid32(f32(2) * ROOT * (x + x * x * x * f32(0.044715)))


@numba.njit(inline="always", error_model="numpy")
def _gelu_tanh_backward(g, x, a, b):
    """½·(1 − tanh² u) = 2·σ(2u)·(1 − σ(2u))."""
    h = GELU_IS_X if x > GELU_IS_X else x
    h = -GELU_IS_X if h < -GELU_IS_X else h
    s, rest = _both_sigmoids(f32(2) * ROOT * (h + h * h * h * f32(0.044715)))
    slope = ROOT * (f32(1) + f32(3 * 0.044715) * h * h)
    return g * (s + h * (f32(2) * s * rest) * slope)


@numba.njit(inline="always", error_model="numpy")
def _leaky_relu(x, slope, b):
    y = x * slope
    return x if x > f32(0) else y


@numba.njit(inline="always", error_model="numpy")
def _leaky_relu_backward(g, x, slope, b):
    h = g * slope
    return g if x > f32(0) else h


@numba.njit(inline="always", error_model="numpy")
def _elu(x, alpha, b):
    y = expm1_32(f32(0) if x > f32(0) else x) * alpha
    return x if x > f32(0) else y


@numba.njit(inline="always", error_model="numpy")
def _elu_backward(g, x, alpha, b):
    h = g * (exp32(f32(0) if x > f32(0) else x) * alpha)
    return g if x > f32(0) else h


@numba.njit(inline="always", error_model="numpy")
def _hardtanh_backward(g, x, low, high):
    h = g if x > low else f32(0)
    return h if x < high else f32(0)


@numba.njit(inline="always", error_model="numpy")
def _mish(x, a, b):
    """tanh(ln(1 + eˣ)) = w / (w + 2) with w = eˣ·(eˣ + 2)."""
    e = exp32(MISH_IS_X if x > MISH_IS_X else x)
    w = e * (e + f32(2))
    y = x * (w / (w + f32(2)))
    return x if x > MISH_IS_X else y


@numba.njit(inline="always", error_model="numpy")
def _mish_backward(g, x, a, b):
    """x·σ(x)·(1 − t²) = x·eˣ·4·(eˣ + 1) / (w + 2)², by (w + 1) = (eˣ + 1)²."""
    e = exp32(MISH_IS_X if x > MISH_IS_X else x)
    w = e * (e + f32(2))
    k = f32(1) / (w + f32(2))
    h = g * (w * k + x * e * (f32(4) * (e + f32(1)) * k * k))
    return g if x > MISH_IS_X else h


@numba.njit(inline="always", error_model="numpy")
def _logsigmoid(x, a, b):
    return (f32(0) if x > f32(0) else x) - log1p_32(exp32(-x if x > f32(0) else x))


@numba.njit(inline="always", error_model="numpy")
def _logsigmoid_backward(g, x, a, b):
    return g * sigmoid32(-x)


@numba.njit(inline="always", error_model="numpy")
def _softplus(x, beta, threshold):
    """ln(1 + eᵗ) = max(t, 0) + ln(1 + e^(−|t|))."""
    t = x * beta
    y = ((t if t > f32(0) else f32(0)) + log1p_32(exp32(-t if t > f32(0) else t))) / beta
    return x if t > threshold else y


@numba.njit(inline="always", error_model="numpy")
def _softplus_backward(g, x, beta, threshold):
    t = x * beta
    h = g * sigmoid32(t)
    return g if t > threshold else h


# Which function a loop calls is decided by names, not by a closure: see `channels`.
relu_backward, sigmoid_backward = BACKWARDS["relu"], BACKWARDS["sigmoid"]


def forward(parallel, name):
    """y = an activation of x, with its settings a and b."""
    span = RANGE[parallel]

    @njit_for((parallel, name), parallel=parallel, fastmath={"contract"}, error_model="numpy", cache=True, nogil=True)
    def run(x, y, a, b):
        for i in span(x.shape[0]):
            if name == "sigmoid":
                y[i] = _sigmoid(x[i], a, b)
            elif name == "silu":
                y[i] = _silu(x[i], a, b)
            elif name == "gelu":
                y[i] = _gelu(x[i], a, b)
            elif name == "gelu_tanh":
                y[i] = _gelu_tanh(x[i], a, b)
            elif name == "leaky_relu":
                y[i] = _leaky_relu(x[i], a, b)
            elif name == "elu":
                y[i] = _elu(x[i], a, b)
            elif name == "mish":
                y[i] = _mish(x[i], a, b)
            elif name == "logsigmoid":
                y[i] = _logsigmoid(x[i], a, b)
            else:
                y[i] = _softplus(x[i], a, b)

    return run


def backward(parallel, name):
    """gx = the gradient through the activation that kept `kept`, its input or its output, with its settings a and b."""
    span = RANGE[parallel]

    @njit_for((parallel, name), parallel=parallel, fastmath={"contract"}, error_model="numpy", cache=True, nogil=True)
    def run(kept, g, gx, a, b):
        for i in span(g.shape[0]):
            if name == "relu":
                gx[i] = relu_backward(g[i], kept[i])
            elif name == "sigmoid":
                gx[i] = sigmoid_backward(g[i], kept[i])
            elif name == "tanh":
                gx[i] = _tanh_backward(g[i], kept[i], a, b)
            elif name == "silu":
                gx[i] = _silu_backward(g[i], kept[i], a, b)
            elif name == "gelu":
                gx[i] = _gelu_backward(g[i], kept[i], a, b)
            elif name == "gelu_tanh":
                gx[i] = _gelu_tanh_backward(g[i], kept[i], a, b)
            elif name == "leaky_relu":
                gx[i] = _leaky_relu_backward(g[i], kept[i], a, b)
            elif name == "elu":
                gx[i] = _elu_backward(g[i], kept[i], a, b)
            elif name == "hardtanh":
                gx[i] = _hardtanh_backward(g[i], kept[i], a, b)
            elif name == "mish":
                gx[i] = _mish_backward(g[i], kept[i], a, b)
            elif name == "logsigmoid":
                gx[i] = _logsigmoid_backward(g[i], kept[i], a, b)
            else:
                gx[i] = _softplus_backward(g[i], kept[i], a, b)

    return run


def dropped(parallel):
    """y = x·scale where kept, else 0."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def run(x, kept, scale, y):
        for i in span(x.shape[0]):
            y[i] = x[i] * scale if kept[i] else f32(0)

    return run
