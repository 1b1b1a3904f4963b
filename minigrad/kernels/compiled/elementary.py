"""Elementary functions that the loops use, in a form that compilers turn into vector instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["RANGE", "exp32", "expm1_32", "log1p_32", "njit_for", "normal32", "relu32", "sigmoid32"]

f32, i32 = np.float32, np.int32


def njit_for(case: tuple[Any, ...], **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` for a function that another makes for several cases, under a name that tells them apart.

    numba's symbols and the files of its cache are called after the function and a number that starts again in every
    process. Of two cases with one name, compiled in different processes, one would be taken for the other.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        mark = "".join(f"_{part}" if part != "" else "_plain" for part in case)
        function.__name__ += mark
        function.__qualname__ += mark
        return numba.njit(**options)(function)

    return compiled


#: What a loop that may run in several threads runs over. It has to be bound outside the loop's function.
RANGE = {False: range, True: numba.prange}

LOG2_E, LN2_HIGH, LN2_LOW = f32(1.44269504088896341), f32(0.693359375), f32(-2.12194440e-4)
SHIFT = f32(1.5 * 2**23)
LOWEST, HIGHEST = f32(-87.3), f32(88.7)
#: e^r = 1 + r + r²·P(r) for |r| ≤ ½·ln 2, P by falling powers: from S. Moshier's Cephes library (expf).
EXP = tuple(map(f32, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
                      5.0000001201e-1)))


@numba.njit(inline="always", error_model="numpy")
def _parted(x):
    """(2ⁿ, e^r − 1 − r, r) with x = n·ln 2 + r and |r| ≤ ½·ln 2, for x from `LOWEST` to `HIGHEST`.

    Not for functions compiled with `reassoc`: n is rounded by adding a large number and taking it away again.
    """
    shifted = x * LOG2_E + SHIFT  # the last bits of the sum are n, rounded
    n = shifted - SHIFT
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = EXP[0] * r + EXP[1]
    p = p * r + EXP[2]
    p = p * r + EXP[3]
    p = p * r + EXP[4]
    p = p * r + EXP[5]
    return i32((f32(shifted).view(i32) + i32(127)) << i32(23)).view(f32), p * (r * r), r


@numba.njit(inline="always", error_model="numpy")
def exp32(x):
    """eˣ in float32, within 2 units of the last place from −87.3 to 88.3; 0 below, ∞ above 88.4. NaN stays.

    Where eˣ would be denormal it is 0, as denormal numbers slow down whatever is computed with them. Not for functions
    compiled with `reassoc`.
    """
    gone = x < LOWEST
    x = HIGHEST if x > HIGHEST else x
    x = LOWEST if gone else x
    power, p, r = _parted(x)
    p = (p + r + f32(1)) * power
    return f32(0) if gone else p


@numba.njit(inline="always", error_model="numpy")
def expm1_32(x):
    """eˣ − 1 in float32 for x ≤ 0, near 0 too; −1 below −87.3. Not for functions compiled with `reassoc`."""
    x = LOWEST if x < LOWEST else x
    power, p, r = _parted(x)
    return (p + r) * power + (power - f32(1))


@numba.njit(inline="always", error_model="numpy")
def log1p_32(x):
    """ln(1 + x) in float32 for x from 0 to 1: 2·artanh(s), s = x / (2 + x) ≤ ⅓, by its power series."""
    s = x / (f32(2) + x)
    t = s * s
    p = f32(1 / 15) * t + f32(1 / 13)
    p = p * t + f32(1 / 11)
    p = p * t + f32(1 / 9)
    p = p * t + f32(1 / 7)
    p = p * t + f32(1 / 5)
    p = p * t + f32(1 / 3)
    return f32(2) * (s + s * (t * p))


@numba.njit(inline="always", error_model="numpy")
def normal32(x):
    """(Φ(x), √(2π)·φ(x)), the normal distribution and its density, in float32.

    Φ(−|x|) is ½·erfc(z) with z = |x|/√2, and erfc(z) = e^(−z²)·t·P(t) with t = 1 / (1 + 0.4·z). P was fitted to
    e^(z²)·erfc(z) / t in float64, for the smallest largest relative error, which is 1.7e-8. Nothing cancels: far out in
    the lower tail Φ has all digits but those that the rounding of x² takes. Not for functions compiled with `reassoc`.
    """
    density = exp32(f32(-0.5) * (x * x))
    t = f32(1) / (f32(1) + f32(0.28284271247461903) * (x if x > f32(0) else -x))
    p = f32(-2.3778107979e-2) * t + f32(1.6695013280e-1)
    p = p * t + f32(-4.2714426509e-1)
    p = p * t + f32(4.5391326749e-1)
    p = p * t + f32(-2.0848847107e-1)
    p = p * t + f32(2.3247554728e-1)
    p = p * t + f32(1.4293032306e-1)
    p = p * t + f32(2.1218221494e-1)
    p = p * t + f32(2.2526798070e-1)
    p = p * t + f32(2.2569139472e-1)
    tail = f32(0.5) * density * (t * p)
    return f32(1) - tail if x > f32(0) else tail, density


@numba.njit(inline="always", error_model="numpy")
def sigmoid32(x):
    """1 / (1 + e^(−x))."""
    return f32(1) / (f32(1) + exp32(-x))


@numba.njit(inline="always", error_model="numpy")
def relu32(x):
    """max(x, 0); NaN stays."""
    return f32(0) if x < f32(0) else x
