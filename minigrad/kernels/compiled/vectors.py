"""What the loops of the normalizations do with one stretch of neighbouring float32 numbers, compiled by numba.

Sums over a stretch are taken in float32, which lets them use vector registers; the stretches are added in float64. All
sums are of v − s, with s near the numbers: a set of equal values gives exactly that value, and a large mean takes no
digits away. Stretches whose squares, or products with gradients, overflow are summed again in float64.

numba lets additions be reordered in these loops (`reassoc`), which is what vector registers need, but neither assumes
that numbers are finite nor replaces a division.
"""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import njit_for, relu32, sigmoid32

FAST = {"reassoc", "contract", "nsz"}
f32, f64 = np.float32, np.float64
#: A sum beyond this may have overflowed float32 on the way.
HUGE = 1e37


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def sum_about(v, s):
    """Σ (v − s)."""
    total = f32(0)
    for i in range(v.shape[0]):
        total += v[i] - s
    return f64(total)


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def squares_about(v, s):
    """Σ (v − s)², and Σ (v − s)."""
    squares = f32(0)
    total = f32(0)
    for i in range(v.shape[0]):
        d = v[i] - s
        squares += d * d
        total += d
    return f64(squares), f64(total)


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def add(x, out):
    """out += x."""
    for i in range(x.shape[0]):
        out[i] += x[i]


#: Numbers of a row that are added in float32 before they are added in float64.
LONG = 4096


@numba.njit(error_model="numpy", cache=True, nogil=True)
def row_sum(v):
    """Σ v, of any length."""
    total = 0.0
    for low in range(0, v.shape[0], LONG):
        total += sum_about(v[low : min(low + LONG, v.shape[0])], f32(0))
    return total


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def wide_sum_about(v, s):
    """Σ (v − s) where float32 overflows."""
    total = 0.0
    for i in range(v.shape[0]):
        total += f64(v[i]) - f64(s)
    return total


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def wide_squares_about(v, s):
    """Σ (v − s)² where float32 overflows."""
    squares = 0.0
    for i in range(v.shape[0]):
        d = f64(v[i]) - f64(s)
        squares += d * d
    return squares


@numba.njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, inline="never")
def dots(v, g, near):
    """Σ g, and Σ g·(v − near)."""
    total = f32(0)
    product = f32(0)
    for i in range(v.shape[0]):
        total += g[i]
        product += g[i] * (v[i] - near)
    return f64(total), f64(product)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def row_product(v, g):
    """Σ g·v, of any length."""
    product = 0.0
    for low in range(0, v.shape[0], LONG):
        high = min(low + LONG, v.shape[0])
        product += dots(v[low:high], g[low:high], f32(0))[1]
    return product


@numba.njit(error_model="numpy", cache=True, nogil=True, inline="never")
def wide_dots(v, g, near):
    """Σ g·(v − near) over two axes, where float32 overflows."""
    product = 0.0
    for n in range(v.shape[0]):
        for i in range(v.shape[1]):
            product += f64(g[n, i]) * (f64(v[n, i]) - f64(near))
    return product


def combined(in_place):
    """The function out = (g·w + (v − near)·slope + b)·a; in place, g is what `out` holds.

    (r² would underflow at |v| of 1e20, so r is multiplied twice. Loops over two names of the same memory would not get
    vector instructions.)
    """

    @njit_for((in_place,), fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
    def run(v, g, w, near, slope, b, a, out):
        h = out if in_place else g
        for i in range(v.shape[0]):
            out[i] = (h[i] * w + (v[i] - near) * slope + b) * a

    return run


def _identity(x):
    return x


#: Activations by name, and the slope of each as a function of what it gave.
ACTIVATIONS = {
    "": numba.njit(inline="always")(_identity),
    "relu": relu32,
    "sigmoid": sigmoid32,
}


@numba.njit(inline="always", error_model="numpy")
def _relu_backward(g, y):
    return g if y > f32(0) else f32(0)


@numba.njit(inline="always", error_model="numpy")
def _sigmoid_backward(g, y):
    return g * (y * (f32(1) - y))


BACKWARDS = {"relu": _relu_backward, "sigmoid": _sigmoid_backward}


def scaled(activation):
    """The function out = activation((v − near)·a + b)."""
    act = ACTIVATIONS[activation]

    @njit_for((activation,), fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
    def run(v, near, a, b, out):
        for i in range(v.shape[0]):
            out[i] = act((v[i] - near) * a + b)

    return run


def through(activation):
    """The function out = g through the activation that gave y."""
    backward = BACKWARDS[activation]

    @njit_for((activation,), fastmath={"contract"}, error_model="numpy", cache=True, nogil=True, inline="never")
    def run(g, y, out):
        for i in range(g.shape[0]):
            out[i] = backward(g[i], y[i])

    return run
