"""Elementary functions that the loops use, in a form that compilers turn into vector instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["RANGE", "exp32", "njit_for", "relu32", "sigmoid32"]

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


@numba.njit(inline="always", error_model="numpy")
def exp32(x):
    """eˣ in float32, within 2 units of the last place from −87.3 to 88.3; 0 below, ∞ above 88.4. NaN stays.

    Where eˣ would be denormal it is 0, as denormal numbers slow down whatever is computed with them.

    x = n·ln 2 + r with |r| ≤ ½·ln 2; the polynomial for eʳ is that of S. Moshier's Cephes library (expf). Not for
    functions compiled with `reassoc`: n is rounded by adding a large number and taking it away again.
    """
    gone = x < LOWEST
    x = HIGHEST if x > HIGHEST else x
    x = LOWEST if gone else x
    shifted = x * LOG2_E + SHIFT  # the last bits of the sum are n, rounded
    n = shifted - SHIFT
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = f32(1.9875691500e-4) * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * (r * r) + r + f32(1)
    p = p * i32((f32(shifted).view(i32) + i32(127)) << i32(23)).view(f32)
    return f32(0) if gone else p


@numba.njit(inline="always", error_model="numpy")
def sigmoid32(x):
    """1 / (1 + e^(−x))."""
    return f32(1) / (f32(1) + exp32(-x))


@numba.njit(inline="always", error_model="numpy")
def relu32(x):
    """max(x, 0); NaN stays."""
    return f32(0) if x < f32(0) else x
