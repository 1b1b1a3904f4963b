"""Line charts: what they hold. `minigrad.run.svg` draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from minigrad.run.text import format_number, format_percent


@dataclass(frozen=True, eq=False)
class Series:
    """One curve.

    Parameters
    ----------
    name : str
        What the curve is called in labels and tables.
    x : array-like, shape (n,), real
        Finite and never falling, for example optimizer steps.
    y : array-like, shape (n,), real
        The values; NaN and ±inf leave a gap.

    Raises
    ------
    ValueError
        x and y are not two rows of equal length, or x is not finite or falls somewhere.
    """

    name: str
    x: ArrayLike
    y: ArrayLike

    def __post_init__(self) -> None:
        x, y = self.points()
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(f"Series {self.name!r}: x has shape {x.shape}, y {y.shape}; wanted both (n,)")
        if not np.isfinite(x).all():
            raise ValueError(f"Series {self.name!r}: x[{int(np.argmin(np.isfinite(x)))}] is not finite")
        falls = np.flatnonzero(np.diff(x) < 0)
        if falls.size:
            at = int(falls[0])
            raise ValueError(
                f"Series {self.name!r}: x falls from {x[at]} to {x[at + 1]} at index {at + 1}; "
                "wanted values that never fall"
            )

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the curve as arrays.

        Returns
        -------
        x, y : ndarray, shape (n,), float64
            The points.
        """
        return np.asarray(self.x, dtype=np.float64), np.asarray(self.y, dtype=np.float64)

    def reaches(self, level: float) -> float | None:
        """Find where the curve first is at a level or above it.

        Parameters
        ----------
        level : float
            A value of y.

        Returns
        -------
        float or None
            The x of the first point with ``y >= level``; None where there is none. Nothing is interpolated.
        """
        x, y = self.points()
        hits = np.flatnonzero(y >= level)
        return float(x[hits[0]]) if hits.size else None


@dataclass(frozen=True)
class Reference:
    """A dashed line across the whole chart, with its label.

    Parameters
    ----------
    value : float
        Where it stands; finite.
    label : str
        What it means, for example ``"best of none: 81.2 %"``.
    axis : {"y", "x"}
        ``"y"``: a horizontal line at a value of y. ``"x"``: a vertical one at a value of x.
    """

    value: float
    label: str
    axis: Literal["x", "y"] = "y"


@dataclass(frozen=True)
class Marker:
    """A ring around one point, in the colour of a series, with a dotted line down to the x axis.

    Parameters
    ----------
    series : str
        The name of a series of the chart.
    x, y : float
        The point; finite.
    label : str
        What happens there, for example ``"step 2,814"``.
    """

    series: str
    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A line chart.

    Parameters
    ----------
    title : str
        What it shows, in a few words.
    x_label, y_label : str
        The axes, with units.
    series : sequence of Series
        The curves, with different names. Colours follow their order, so keep it the same through a report.
    references : sequence of Reference
        Lines to compare with.
    markers : sequence of Marker
        Points to point out.
    percent : bool
        Whether y is a fraction, to be written as a percentage.
    log_y : bool
        Whether the y axis is logarithmic. Values that are not positive then leave a gap.
    y_range : (float, float), optional
        The ends of the y axis; what lies outside is cut off. By default everything is shown.
    smooth : int
        Where above 1, the curve is the mean over this many neighbouring points, and the points themselves are
        drawn pale behind it.
    description : str
        A sentence below the title.

    Raises
    ------
    ValueError
        Two series share a name, a marker names no series, a reference or marker is not finite (or not
        positive on a logarithmic axis), or the range is not in order.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    references: Sequence[Reference] = ()
    markers: Sequence[Marker] = ()
    percent: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    smooth: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        where = f"Chart {self.title!r}"
        names = [series.name for series in self.series]
        if len(set(names)) != len(names):
            raise ValueError(f"{where}: series are named {names}; wanted different names")
        for marker in self.markers:
            if marker.series not in names:
                raise ValueError(f"{where}: marker {marker.label!r} names {marker.series!r}; there are {names}")
        heights = [each.y for each in self.markers] + [r.value for r in self.references if r.axis == "y"]
        places = [each.x for each in self.markers] + [r.value for r in self.references if r.axis == "x"]
        if not all(map(math.isfinite, heights + places)):
            raise ValueError(f"{where}: references and markers stand at {heights + places}; wanted finite values")
        heights += self.y_range or ()
        if self.log_y and min(heights, default=1.0) <= 0:
            raise ValueError(f"{where}: the y axis is logarithmic; wanted positive values, got {min(heights)}")
        if self.y_range is not None and not self.y_range[0] < self.y_range[1]:
            raise ValueError(f"{where}: y_range is {self.y_range}; wanted (low, high) with low < high")

    def curve(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the curve that is drawn for a series.

        Parameters
        ----------
        index : int
            Which series.

        Returns
        -------
        x, y : ndarray, shape (n,), float64
            The points, y smoothed where `smooth` asks for it.
        """
        x, y = self.series[index].points()
        return x, (moving_mean(y, self.smooth) if self.smooth > 1 else y)

    def write_y(self, value: float) -> str:
        """Write a value of the y axis.

        Parameters
        ----------
        value : float
            A value of y.

        Returns
        -------
        str
            For example ``"81.2 %"`` or ``"0.3121"``.
        """
        return format_percent(value) if self.percent else format_number(value)

    def summary(self) -> str:
        """Tell in words what the curves do, for readers who do not see them.

        Returns
        -------
        str
            One sentence for the chart and one for each series.
        """
        parts = [f"{self.y_label} against {self.x_label}, {len(self.series)} series."]
        for series in self.series:
            x, y = series.points()
            finite = np.flatnonzero(np.isfinite(y))
            if not finite.size:
                parts.append(f"{series.name}: no finite values.")
                continue
            ends = " to ".join(
                f"{self.write_y(y[at])} at {format_number(_whole(x[at]))}" for at in (finite[0], finite[-1])
            )
            parts.append(
                f"{series.name}: from {ends}; lowest {self.write_y(y[finite].min())}, "
                f"highest {self.write_y(y[finite].max())}."
            )
        parts += [f"Line at {each.axis} = {each.value:g}: {each.label}." for each in self.references]
        parts += [f"{each.series}: {each.label}." for each in self.markers]
        return " ".join(parts)


def moving_mean(y: np.ndarray, window: int) -> np.ndarray:
    """Smooth values by the mean over neighbours.

    Parameters
    ----------
    y : ndarray, shape (n,), float64
        Values; those that are not finite do not count.
    window : int
        How many neighbours, the value itself included; fewer at the ends.

    Returns
    -------
    ndarray, shape (n,), float64
        Means; NaN where y itself is not finite.
    """
    finite = np.isfinite(y)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, y, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(y))
    begin = np.maximum(0, index - (window - 1) // 2)
    end = np.minimum(len(y), index + window // 2 + 1)
    means = (sums[end] - sums[begin]) / np.maximum(1, counts[end] - counts[begin])
    return np.where(finite, means, np.nan)


def _whole(value: float) -> float:
    """Give an int where the value is one, so that steps are written without decimals."""
    return int(value) if float(value).is_integer() else float(value)
