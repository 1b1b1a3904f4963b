"""Where a chart's labels go: estimates of text width, and the choice of the place that hides least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigrad.run.text import display_width


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; y grows downwards.

    Parameters
    ----------
    left, top, width, height : float
        Pixels.
    anchor : {"start", "middle", "end"}
        At which side of it a text stands whose width is only estimated.
    """

    left: float
    top: float
    width: float
    height: float
    anchor: str = "start"

    @property
    def right(self) -> float:
        """The right edge, in pixels."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The lower edge, in pixels."""
        return self.top + self.height

    def overlaps(self, other: Box) -> bool:
        """Whether two rectangles share some area.

        Parameters
        ----------
        other : Box
            Another rectangle.

        Returns
        -------
        bool
            False where they merely touch.
        """
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def outside(self, other: Box) -> float:
        """Give how far this rectangle sticks out of another, summed over the four sides.

        Parameters
        ----------
        other : Box
            Another rectangle.

        Returns
        -------
        float
            Pixels; 0 where this one lies within the other.
        """
        sides = (
            other.left - self.left,
            self.right - other.right,
            other.top - self.top,
            self.bottom - other.bottom,
        )
        return sum(max(0.0, side) for side in sides)

    def count(self, points: np.ndarray) -> int:
        """Count the points inside.

        Parameters
        ----------
        points : ndarray, shape (n, 2), float64
            Positions in pixels.

        Returns
        -------
        int
            How many lie inside.
        """
        x, y = points[:, 0], points[:, 1]
        return int(np.sum((x > self.left) & (x < self.right) & (y > self.top) & (y < self.bottom)))


def text_width(text: str, size: float) -> float:
    """Estimate the width of a text in the page's sans-serif type, rather too wide than too narrow.

    Parameters
    ----------
    text : str
        One line.
    size : float
        Font size in pixels.

    Returns
    -------
    float
        Pixels.
    """
    return 0.6 * size * display_width(text)


def along(x: np.ndarray, y: np.ndarray, spacing: float = 4.0) -> np.ndarray:
    """Give points along a line, close enough that no label slips through between them.

    Parameters
    ----------
    x, y : ndarray, shape (n,), float64
        The line's corners in pixels; NaN interrupts it.
    spacing : float
        Pixels between two points at most.

    Returns
    -------
    ndarray, shape (k, 2), float64
        Points on the line, all finite.
    """
    corners = np.stack([x, y], axis=1)
    keep = np.isfinite(corners).all(axis=1)
    joined = keep[1:] & keep[:-1]
    begin, end = corners[:-1][joined], corners[1:][joined]
    pieces = np.ceil(np.hypot(*(end - begin).T) / spacing).astype(np.int64) + 1
    owner = np.repeat(np.arange(len(begin)), pieces)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    part = (rank / pieces[owner])[:, None]
    points: np.ndarray = np.concatenate([begin[owner] + part * (end - begin)[owner], corners[keep]])
    return points


def place(candidates: Sequence[Box], points: np.ndarray, taken: Sequence[Box], area: Box) -> Box:
    """Choose the box that stays in the area, covers no label and as little of the curves as possible.

    Parameters
    ----------
    candidates : sequence of Box
        Possible places, the preferred first; not empty.
    points : ndarray, shape (n, 2), float64
        Points along everything drawn, in pixels.
    taken : sequence of Box
        Labels that have their place.
    area : Box
        Where labels may stand.

    Returns
    -------
    Box
        One of the candidates.
    """

    def cost(numbered: tuple[int, Box]) -> float:
        rank, box = numbered
        collisions = sum(box.overlaps(other) for other in taken)
        return 5000 * collisions + 200 * box.outside(area) + 10 * box.count(points) + rank

    return min(enumerate(candidates), key=cost)[1]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart until neighbours are `gap` apart, keeping their order.

    Parameters
    ----------
    wanted : sequence of float
        Where each would like to be, in pixels, in any order.
    gap : float
        Pixels between neighbours at least.
    low, high : float
        The ends of the room there is. Where it is too small, positions go beyond `low`.

    Returns
    -------
    list of float
        Positions in the order of `wanted`.
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed = list(wanted)
    floor = low
    for index in order:
        placed[index] = floor = max(placed[index], floor)
        floor += gap
    ceiling = high
    for index in reversed(order):
        placed[index] = ceiling = min(placed[index], ceiling)
        ceiling -= gap
    return placed
