"""Which elements share a statistic: figure 2 of the GroupNorm paper (arXiv:1803.08494), for any layer and shape.

The input is shown as a block: examples (axis 0) in depth, channels (axis 1) across, all other axes, in one, downwards.
Long axes are shown by some of their places, which the labels name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, ShapeError
from minigrad.layers.instance_norm import InstanceNorm
from minigrad.layers.normalization import LayerNorm, LocalResponseNorm, Normalization, RMSNorm

__all__ = ["draw_sharing", "sharing_mask"]

SHOWN = 8  # places of an axis at most
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _coordinates(index: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Flat places of elements, given by one array of indices per axis."""
    return np.ravel_multi_index(index, shape)


def _labels(layer: Normalization, shape: tuple[int, ...], index: tuple[np.ndarray, ...]) -> np.ndarray:
    """The number of the set that each of some elements belongs to; numbers of one shape are those of one layer only."""
    view, axes = layer.sharing(shape)
    places = np.unravel_index(_coordinates(index, shape), view)
    kept = [i for i in range(len(view)) if i not in axes]
    if not kept:
        return np.zeros(np.shape(places[0]), np.int64)
    return _coordinates(tuple(places[i] for i in kept), tuple(view[i] for i in kept))


def _window(layer: LocalResponseNorm, index: tuple[np.ndarray, ...], of: tuple[int, ...]) -> np.ndarray:
    """Which elements are in the window of one."""
    same = np.ones(np.broadcast(*index).shape, bool)
    for axis, (i, place) in enumerate(zip(index, of)):
        low, high = (layer.size // 2, (layer.size - 1) // 2) if axis == 1 else (0, 0)
        same = same & (i >= place - low) & (i <= place + high)
    return same


def _shared(layer: Any, shape: tuple[int, ...], index: tuple[np.ndarray, ...], of: tuple[int, ...]) -> np.ndarray:
    if isinstance(layer, LocalResponseNorm):
        return _window(layer, index, of)
    mine = _labels(layer, shape, tuple(np.asarray(i) for i in of))
    return np.asarray(_labels(layer, shape, index) == mine)


def _alone(layer: Any, axes: int) -> bool:
    """Whether an input of so many axes is a single example, without an axis for examples."""
    if isinstance(layer, InstanceNorm):
        return isinstance(layer.ranks, tuple) and axes == layer.ranks[0] - 1
    return isinstance(layer, (LayerNorm, RMSNorm)) and axes == 1


def _checked(layer: Any, shape: Sequence[int], of: Sequence[int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not isinstance(layer, (Normalization, LocalResponseNorm)):
        raise ArgumentError("sharing", got=f"a {type(layer).__name__}", wanted="a normalization layer")
    lengths = tuple(int(n) for n in shape)
    if not lengths or min(lengths) < 1:
        raise ShapeError("sharing", got=f"shape {lengths}", wanted="one axis or more, of at least one place each")
    given = len(lengths)
    if _alone(layer, given):
        lengths, of = (1, *lengths), None if of is None else (0, *of)
    if len(lengths) < 2:
        raise ShapeError("sharing", got=f"shape {lengths}", wanted=f"an input of {type(layer).__name__}")
    if isinstance(layer, Normalization):
        layer.sharing(lengths)  # refuses a shape that does not fit
    channel = lengths[1] // 2 if isinstance(layer, LocalResponseNorm) else lengths[1] - 1
    place = (0, channel, *(0 for _ in lengths[2:])) if of is None else tuple(int(i) for i in of)
    if len(place) != len(lengths) or any(not 0 <= i < n for i, n in zip(place, lengths)):
        skipped = len(lengths) - given
        raise ShapeError("sharing", got=f"of={place[skipped:]} for shape {lengths[skipped:]}",
                         wanted="a place in that shape")
    return lengths, place


def sharing_mask(layer: Any, shape: Sequence[int], of: Sequence[int] | None = None) -> np.ndarray:
    """Which elements of an input share the statistic of one.

    Parameters
    ----------
    layer : a normalization layer
        For `LocalResponseNorm`, the elements in the window of that one.
    shape : sequence of int
        Of an input.
    of : sequence of int, optional
        The place of the element; by default the first place of the last channel (of the middle one for
        `LocalResponseNorm`) in the first example.

    Returns
    -------
    array of bool, of that shape

    Examples
    --------
    >>> from minigrad.layers import GroupNorm
    >>> sharing_mask(GroupNorm(2, 4), (1, 4)).astype(int).tolist()
    [[0, 0, 1, 1]]
    """
    lengths, place = _checked(layer, shape, of)
    return _shared(layer, lengths, tuple(np.indices(lengths, sparse=True)), place).reshape(tuple(shape))


def draw_sharing(layer: Any, shape: Sequence[int], of: Sequence[int] | None = None, format: str = "text") -> str:
    """Draw which elements of an input share a statistic.

    Parameters
    ----------
    layer : a normalization layer
    shape : sequence of int
        Of an input. One example without an axis of its own, where the layer takes that, is drawn as a batch of one.
    of : sequence of int, optional
        The place of the element whose set is marked; the default is that of `sharing_mask`.
    format : "text" or "svg"
        As text: a table per example, with channels across and places downwards; equal letters share a statistic, and
        brackets mark the set of the element `of`. For `LocalResponseNorm`, whose windows overlap, only those.

    Returns
    -------
    str

    Examples
    --------
    >>> from minigrad.layers import BatchNorm1d, LayerNorm
    >>> print(draw_sharing(BatchNorm1d(3), (2, 3)))
    BatchNorm1d on (2, 3): 2 elements share a statistic, 3 statistics
    example 0   A  B [C]
    example 1   A  B [C]
    >>> print(draw_sharing(LayerNorm(3), (2, 3)))
    LayerNorm on (2, 3): 3 elements share a statistic, 2 statistics
    example 0  [A][A][A]
    example 1   B  B  B
    """
    lengths, place = _checked(layer, shape, of)
    if format not in ("text", "svg"):
        raise ArgumentError("draw_sharing", got=f"format={format!r}", wanted="'text' or 'svg'")
    picture = _Picture(layer, lengths, place)
    return picture.text() if format == "text" else picture.svg()


def _some(length: int, place: int, contiguous: bool) -> np.ndarray:
    """Up to SHOWN places of an axis, both ends and `place` among them; or neighbours of `place`."""
    if length <= SHOWN:
        return np.arange(length)
    if contiguous:
        start = min(max(0, place - SHOWN // 2), length - SHOWN)
        return np.arange(start, start + SHOWN)
    chosen = np.linspace(0, length - 1, SHOWN).round().astype(int)
    if place not in chosen:
        chosen[np.abs(chosen - place)[1:-1].argmin() + 1] = place
    return np.unique(chosen)


class _Picture:
    """The elements that are shown, and for each whether it is in the marked set and which set it is in."""

    def __init__(self, layer: Any, shape: tuple[int, ...], of: tuple[int, ...]) -> None:
        self.layer, self.shape = layer, shape
        places = math.prod(shape[2:])
        local = isinstance(layer, LocalResponseNorm)
        flat = int(np.ravel_multi_index(of[2:], shape[2:])) if shape[2:] else 0
        self.examples = _some(shape[0], of[0], False)
        self.channels = _some(shape[1], of[1], local)
        self.places = _some(places, flat, False)
        n, c, p = np.ix_(self.examples, self.channels, self.places)
        rest = tuple(np.unravel_index(p, shape[2:])) if shape[2:] else ()
        index = tuple(np.broadcast_arrays(n, c, *rest, p)[: len(shape)])
        self.marked = _shared(layer, shape, index, of)
        self.labels = None if local else _labels(layer, shape, index)
        self.whole = self.marked.size == math.prod(shape)
        sequence = isinstance(layer, (LayerNorm, RMSNorm)) and len(shape) == 3  # (examples, steps, features)
        self.names = ("example", "step", "feature") if sequence else ("example", "channel", "place")

    def title(self) -> str:
        """What is drawn, and how many elements share."""
        kind = type(self.layer).__name__
        if self.labels is None:
            return f"{kind} on {self.shape}: an element and its neighbours, {self.layer.size} channels"
        view, axes = self.layer.sharing(self.shape)
        m = math.prod(view[a] for a in axes)
        sets = math.prod(self.shape) // max(m, 1)
        return (f"{kind} on {self.shape}: {m} element{'s share' if m != 1 else ' has'} a statistic, "
                f"{sets} statistic{'s' if sets != 1 else ''}")

    def text(self) -> str:
        """Letters in tables."""
        lines = [self.title()]
        wide, wider = (len(str(shown[-1])) for shown in (self.examples, self.places))
        for i, n in enumerate(self.examples):
            for k, p in enumerate(self.places):
                first = f"{self.names[0]} {n:<{wide}}"
                head = first if k == 0 else " " * len(first)
                if len(self.places) > 1:
                    head += f"  {self.names[2]} {p:<{wider}}"
                cells = []
                for j in range(len(self.channels)):
                    letter = "x" if self.labels is None else LETTERS[self._letter(i, j, k)]
                    if self.marked[i, j, k]:
                        cells.append(f"[{letter}]")
                    else:
                        cells.append(f" {'·' if self.labels is None else letter} ")
                lines.append(f"{head}  {''.join(cells)}".rstrip())
        if not self.whole:
            lines.append(f"({self.names[1]} {', '.join(map(str, self.channels))} across; long axes are shown in part)")
        return "\n".join(lines)

    def _letter(self, i: int, j: int, k: int) -> int:
        """Sets in the order in which they are met."""
        assert self.labels is not None
        met = list(dict.fromkeys(self.labels.reshape(-1).tolist()))
        return met.index(int(self.labels[i, j, k])) % len(LETTERS)

    # ---------------------------------------------------------------- SVG

    def svg(self) -> str:
        """A block in parallel projection, with its front, top and right-hand sides."""
        n, c, p = self.marked.shape
        cell = max(14.0, min(30.0, 230 / max(c, p)))
        dx, dy = cell * 0.55, cell * 0.42
        left, top = 34 + 7.2 * len(self._axis(2)), 58.0 + n * dy
        width, height = max(left + c * cell + n * dx + 110, 420), top + p * cell + 66

        def at(i: float, j: float, k: float) -> str:
            return f"{left + j * cell + i * dx:.1f},{top + k * cell - i * dy:.1f}"

        def face(corners: Sequence[tuple[float, float, float]], side: str, marked: Any) -> str:
            points = " ".join(at(*corner) for corner in corners)
            return f'<polygon class="{side}{" in" if marked else ""}" points="{points}"/>'

        parts = []
        for i in range(n - 1, -1, -1):
            for j in range(c):
                parts.append(face([(i, j, 0), (i, j + 1, 0), (i + 1, j + 1, 0), (i + 1, j, 0)], "top",
                                  self.marked[i, j, 0]))
            for k in range(p):
                parts.append(face([(i, c, k), (i + 1, c, k), (i + 1, c, k + 1), (i, c, k + 1)], "side",
                                  self.marked[i, c - 1, k]))
        for j in range(c):
            for k in range(p):
                parts.append(face([(0, j, k), (0, j + 1, k), (0, j + 1, k + 1), (0, j, k + 1)], "front",
                                  self.marked[0, j, k]))
        return _SVG.format(width=f"{width:.0f}", height=f"{height:.0f}", title=escape(self.title()),
                           style=_STYLE, block="".join(parts), labels=self._axis_labels(left, top, cell, dx, dy))

    def _axis(self, i: int) -> str:
        """What an axis of the block is, and its length; the third stands for all from the third on."""
        length = ("×".join(map(str, self.shape[2:])) or "1") if i == 2 else str(self.shape[i])
        return f"{self.names[i]}s, {length}"

    def _axis_labels(self, left: float, top: float, cell: float, dx: float, dy: float) -> str:
        n, c, p = self.marked.shape
        kind, _, numbers = self.title().partition(": ")
        below, beyond = top + p * cell, left + c * cell
        texts = [
            (16, 24, "start", kind, "kind"),
            (16, 42, "start", numbers, "note"),
            (left + c * cell / 2, below + 20, "middle", self._axis(1), ""),
            (left - 10, top + p * cell / 2 + 4, "end", self._axis(2), ""),
            (beyond + n * dx / 2 + 14, below - n * dy / 2 + 10, "start", self._axis(0), ""),
        ]
        if not self.whole:
            texts.append((16, below + 48, "start", "long axes are shown in part", "note"))
        return "".join(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
                       for x, y, anchor, text, kind in texts)


_STYLE = """
text{font:13px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#24292f}
.kind{font-weight:600;font-size:15px}.note{fill:#57606a}
polygon{stroke:#8b949e;stroke-width:.8;stroke-linejoin:round}
.front{fill:#fff}.top{fill:#f3f5f7}.side{fill:#e6e9ed}
.front.in{fill:#4c8dd6}.top.in{fill:#77abe4}.side.in{fill:#2f6db3}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9da7b1}polygon{stroke:#6e7681}
.front{fill:#161b22}.top{fill:#21262d}.side{fill:#0d1117}}
""".replace("\n", "")
_SVG = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img"><title>{title}</title><style>{style}</style>{block}{labels}</svg>\n')
