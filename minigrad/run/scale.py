"""Axes of a chart: where a value stands, which values get a tick, and how these are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from minigrad.run.text import format_number


@dataclass(frozen=True)
class Scale:
    """Map values to positions: ``start + (v − low) / (high − low) · (stop − start)``, of logarithms if `log`.

    Parameters
    ----------
    low, high : float
        The values at the two ends; ``low < high``, and ``low > 0`` where `log` is set.
    start, stop : float
        Their positions, in pixels; `stop` may be the smaller one.
    log : bool
        Whether the axis is logarithmic.

    Raises
    ------
    ValueError
        The ends are not finite, not in order, or not positive on a logarithmic axis.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"Scale: got the ends {self.low} and {self.high}; wanted finite ones, low < high")
        if self.log and self.low <= 0:
            raise ValueError(f"Scale: a logarithmic axis begins at {self.low}; wanted a positive value")

    def __call__(self, values: np.ndarray | float) -> np.ndarray:
        """Give positions.

        Parameters
        ----------
        values : ndarray or float
            Values, in any shape.

        Returns
        -------
        ndarray, float64
            Pixels, in the same shape; NaN where the value is not finite, or not positive on a logarithmic
            axis.
        """
        at = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.log:
                at = np.log10(np.where(at > 0, at, np.nan))
                low, high = math.log10(low), math.log10(high)
            position = self.start + (at - low) / (high - low) * (self.stop - self.start)
        return np.where(np.isfinite(position), position, np.nan)

    def ticks(self, target: int) -> list[float]:
        """Choose round values on the axis.

        Parameters
        ----------
        target : int
            About how many, at least 2.

        Returns
        -------
        list of float
            Rising values within ``[low, high]``.
        """
        return _log_ticks(self.low, self.high, target) if self.log else _linear_ticks(self.low, self.high, target)


def tick_labels(ticks: Sequence[float], percent: bool = False, log: bool = False) -> list[str]:
    """Write ticks with just the decimals that tell them apart.

    Parameters
    ----------
    ticks : sequence of float
        Rising values.
    percent : bool
        Whether they are fractions, to be written as percentages.
    log : bool
        Whether they stand on a logarithmic axis; over a power of ten, each then has its own decimals.

    Returns
    -------
    list of str
        One label per tick.
    """
    values = [100 * tick if percent else tick for tick in ticks]
    unit = " %" if percent else ""
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e7 or 0 < largest < 1e-4:
        return [format_number(value, 6) + unit for value in values]
    if log and largest >= 10 * values[0]:
        return [f"{value:,.9f}".rstrip("0").rstrip(".") + unit for value in values]
    gap = min((b - a for a, b in pairwise(values)), default=0.0)
    decimals = next((n for n in range(9) if abs(round(gap, n) - gap) <= 1e-6 * gap), 9)
    return [f"{value + 0.0:,.{decimals}f}{unit}" for value in values]


def data_range(values: np.ndarray, log: bool = False) -> tuple[float, float]:
    """Choose the ends of an axis for some values, with a margin of 4 % of their range on either side.

    Parameters
    ----------
    values : ndarray, float64
        Values; those that are not finite, or not positive where `log` is set, are passed over.
    log : bool
        Whether the axis is logarithmic.

    Returns
    -------
    low, high : float
        ``low < high``. Without a usable value, or for zeros alone, 0 and 1 (0.1 and 1 where
        `log` is set). A linear axis of values of one sign does not cross zero.
    """
    usable = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not usable.any():
        return (0.1 if log else 0.0), 1.0
    low, high = float(usable.min()), float(usable.max())
    if log:
        margin = max(0.04 * math.log10(high / low), 0.02)
        return low / 10**margin, high * 10**margin
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return (0.0 if low >= 0 > low - margin else low - margin), (0.0 if high <= 0 < high + margin else high + margin)


def _linear_ticks(low: float, high: float, target: int) -> list[float]:
    """Give multiples of 1, 2, 2.5 or 5 times a power of ten, as near to `target` of them as can be."""
    ideal = (high - low) / max(1, target - 1)
    power = 10.0 ** math.floor(math.log10(ideal))
    step = min((power * factor for factor in (1, 2, 2.5, 5, 10)), key=lambda each: abs(math.log(each / ideal)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _log_ticks(low: float, high: float, target: int) -> list[float]:
    """Give powers of ten; also 2 and 5 times these, or every multiple, where the axis spans few of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [
            float(f"{factor}e{power}")
            for power in range(first, last + 1)
            for factor in factors
            if low <= float(f"{factor}e{power}") <= high
        ]
        if len(ticks) >= max(2, target - 2):
            stride = -(-len(ticks) // (target + 2)) if factors == (1,) else 1
            return ticks[::stride]
    return ticks if len(ticks) >= 2 else _linear_ticks(low, high, target)
