"""An array summed up: norm, mean, spread, extremes, zeros, and a small histogram. Computed where the array lives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import accumulation_dtype, astype, is_array, is_floating, namespace, to_numpy
from minigrad.backend import number as read
from minigrad.viz.rows import Statistics

__all__ = ["BINS", "inner", "number", "summarize"]

BINS = 24


def number(x: Any) -> float | None:
    """A finite float, or None: JSON has no other numbers."""
    value = float(x)
    return value if math.isfinite(value) else None


def summarize(array: Any, histogram: bool = True) -> Statistics | None:
    """Sum up one array of numbers; None for an empty one.

    Parameters
    ----------
    array : NumPy or CuPy array
    histogram : bool
        Whether to count elements in `BINS` equal parts between the least and the greatest.

    Returns
    -------
    Statistics or None
        Of the finite elements; `nonfinite` counts the others.
    """
    if not is_array(array) or array.size == 0:
        return None
    xp = namespace(array)
    if not is_floating(array.dtype):
        array = astype(array, np.float32)
    wide = astype(array, accumulation_dtype(array.dtype))
    size = int(array.size)
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = read(xp.min(wide)), read(xp.max(wide))
        if not math.isfinite(low) or not math.isfinite(high):
            finite = wide[xp.isfinite(wide)]
            found = summarize(finite, histogram)
            if found is None:
                return Statistics(None, None, None, None, None, 0.0, size)
            found.nonfinite = size - int(finite.size)
            return found
        mean, squares = read(xp.mean(wide)), inner(wide, wide)
        spread = read(xp.std(wide))
    counts = _histogram(xp, wide, low, high) if histogram else None
    zeros = 1 - read(xp.count_nonzero(wide)) / size
    return Statistics(number(math.sqrt(squares)) if squares >= 0 else None, number(mean), number(spread), low, high,
                      zeros, 0, counts)


def _histogram(xp: Any, array: Any, low: float, high: float) -> list[int] | None:
    if high - low == 0 or not math.isfinite(high - low):
        return None
    # By hand: some NumPy versions refuse ranges of a few units in the last place, and CuPy's wants bins on the device.
    places = xp.clip(astype((array - low) * (BINS / (high - low)), np.int64), 0, BINS - 1)
    return [int(n) for n in to_numpy(xp.bincount(xp.reshape(places, (-1,)), minlength=BINS))]


def inner(a: Any, b: Any) -> float:
    """The inner product of two arrays; small ones are added up in float64."""
    xp = namespace(a)
    a, b = (xp.reshape(x, (-1,)) for x in (a, b))
    if a.dtype != np.float64 and a.size <= 1 << 20:
        a, b = astype(a, np.float64), astype(b, np.float64)
    return float(read(xp.vdot(a, b)))
