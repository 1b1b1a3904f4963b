"""Charts drawn as SVG: axes, grid, curves, and labels placed where they hide nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from minigrad.run.chart import Chart, Marker, Reference
from minigrad.run.placing import Box, along, place, spread, text_width
from minigrad.run.scale import Scale, data_range, tick_labels
from minigrad.run.style import COLOURS, STANDALONE_STYLE
from minigrad.run.text import escape, printable, shorten

_FONT = 13.0
_LINE = 18.0  # pixels from one line of text to the next
_NARROW = 560  # below this width a legend above the plot takes the place of labels beside it
_LABEL_COLUMNS = 26


@dataclass
class Drawing:
    """A chart laid out for one size. Positions are pixels of the SVG's view box.

    Parameters
    ----------
    chart : Chart
        What is drawn.
    width, height : float
        Of the whole picture.
    area : Box
        The plot itself, within the axes.
    x, y : Scale
        From values to positions.
    narrow : bool
        Whether names stand in a legend above the plot.
    lines : list of (ndarray, ndarray)
        The curve of each series, as positions, after smoothing and thinning; NaN interrupts it.
    taken : list of Box
        Where labels stand already.
    """

    chart: Chart
    width: float
    height: float
    area: Box
    x: Scale
    y: Scale
    narrow: bool
    lines: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    taken: list[Box] = field(default_factory=list)

    def label(self, text: str, candidates: Sequence[Box], kind: str) -> str:
        """Put a text into the best of several boxes, and remember that it is taken."""
        points = [along(*line) for line in self.lines]
        for marker in self.chart.markers:
            drop = (
                np.array([float(self.x(marker.x))] * 2),
                np.array([float(self.y(marker.y)), self.area.bottom]),
            )
            points.append(along(*drop))
        points += [along(*_reference_line(self, reference)) for reference in self.chart.references]
        box = place(candidates, np.concatenate([np.zeros((0, 2)), *points]), self.taken, self.area)
        self.taken.append(box)
        x = {"start": box.left, "middle": box.left + box.width / 2, "end": box.right}[box.anchor]
        return _text(text, x, box.bottom - 0.3 * _LINE, f"halo {kind} {box.anchor}")


def chart_svg(
    chart: Chart, *, width: int = 920, height: int = 400, key: str = "chart", standalone: bool = False
) -> str:
    """Draw a chart.

    Parameters
    ----------
    chart : Chart
        What to draw.
    width, height : int
        Size of the view box in pixels; at least 240 × 160. A picture narrower than 560 has a legend above the
        plot in place of labels at the ends of the lines.
    key : str
        Letters, digits and ``-``: makes ids differ between the charts of one page.
    standalone : bool
        Whether the picture is to be a file of its own: it then carries the name space and the style sheet,
        with colours for light and for dark. Otherwise the page has to bring them.

    Returns
    -------
    str
        One ``<svg>`` element, well-formed XML, all text escaped. Each curve is a ``<path class="line">`` with
        the points ``start + (v − low) / (high − low) · (stop − start)`` on both axes (`Scale`); curves with
        more points than the plot has pixels keep the first, last, lowest and highest of each column of
        pixels.

    Raises
    ------
    ValueError
        The size is too small.
    """
    if width < 240 or height < 160:
        raise ValueError(f"chart_svg: got the size {width} × {height}; wanted at least 240 × 160")
    drawing = _lay_out(chart, float(width), float(height))
    outer = f' xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"' if standalone else ""
    style = f"<style>{STANDALONE_STYLE}</style>" if standalone else ""
    area = drawing.area
    visible = Box(area.left, area.top - 3, area.width + 3, area.height + 6)
    body = "\n".join(
        [
            *_legend(drawing),
            *_axes(drawing),
            *_curves(drawing, f"{key}-clip"),
            *_references(drawing),
            *_markers(drawing),
            *_end_labels(drawing),
        ]
    )
    return (
        f'<svg{outer} class="chart" viewBox="0 0 {width} {height}" role="img" tabindex="0" '
        f'aria-labelledby="{key}-title {key}-desc" data-scale="{_ends(drawing)}">'
        f'<title id="{key}-title">{escape(chart.title)}</title>'
        f'<desc id="{key}-desc">{escape(chart.summary())}</desc>{style}\n'
        f'<clipPath id="{key}-clip">{_rectangle(visible)}</clipPath>\n{body}\n<g class="hover"></g></svg>'
    )


def _ends(drawing: Drawing) -> str:
    """Give the ends of both axes, in pixels and in values, for a script that reads values off the picture."""
    area, x, y = drawing.area, drawing.x, drawing.y
    ends = (area.left, area.right, area.top, area.bottom, x.low, x.high, y.low, y.high)
    return json.dumps([*(float(f"{end:.12g}") for end in ends), int(y.log)])


def _lay_out(chart: Chart, width: float, height: float) -> Drawing:
    """Choose margins and scales, and bring the curves to positions."""
    narrow = width < _NARROW
    every = [series.points() for series in chart.series]
    levels = [r.value for r in chart.references if r.axis == "y"] + [each.y for each in chart.markers]
    places = [r.value for r in chart.references if r.axis == "x"] + [each.x for each in chart.markers]
    y_values = np.concatenate([np.asarray(levels, dtype=np.float64), *(y for _, y in every)])
    y_low, y_high = chart.y_range or data_range(y_values, chart.log_y)
    x_low, x_high = _x_ends(np.concatenate([np.asarray(places, dtype=np.float64), *(x for x, _ in every)]))

    labels = tick_labels(Scale(y_low, y_high, 0, 1, chart.log_y).ticks(6), chart.percent, chart.log_y)
    left = max((text_width(label, _FONT) for label in labels), default=0.0) + 10
    names = max((text_width(_end_text(chart, index), _FONT) for index in range(len(every))), default=0.0)
    right = 10.0 if narrow else names + 22
    top = 30 + (_LINE * len(_legend_rows(chart, width)) + 6 if narrow else 0)
    area = Box(left, top, max(60.0, width - left - right), max(60.0, height - top - 46))
    drawing = Drawing(
        chart,
        width,
        height,
        area,
        Scale(x_low, x_high, area.left, area.right),
        Scale(y_low, y_high, area.bottom, area.top, chart.log_y),
        narrow,
    )
    for x, y in map(chart.curve, range(len(every))):
        drawing.lines.append(_thinned(drawing.x(x), drawing.y(y)))
    for marker in chart.markers:
        left, top = float(drawing.x(marker.x)), float(drawing.y(marker.y))
        drawing.taken.append(Box(left - 7, top - 7, 14, 14))
    return drawing


def _x_ends(x: np.ndarray) -> tuple[float, float]:
    """Choose the ends of the x axis: those of the data, from zero where these begin near it."""
    if not x.size:
        return 0.0, 1.0
    low, high = float(x.min()), float(x.max())
    if 0 < low <= 0.2 * high:
        low = 0.0
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep at most four points per column of pixels: the first, lowest, highest and last."""
    if len(x) <= 1000:
        return x, y
    column = np.floor(x).astype(np.int64)
    bounds = np.flatnonzero(np.diff(column, prepend=column[0] - 1, append=column[-1] + 1))
    keep: set[int] = set()
    for begin, end in pairwise(bounds.tolist()):
        part = y[begin:end]
        keep.update((begin, end - 1))
        if np.isfinite(part).all():
            keep.update((int(begin + part.argmin()), int(begin + part.argmax())))
        else:  # a gap is kept, since it tells that a value was not finite
            keep.update(int(begin + index) for index in np.flatnonzero(~np.isfinite(part))[:1])
    kept = np.array(sorted(keep))
    return x[kept], y[kept]


def _axes(drawing: Drawing) -> list[str]:
    """Draw grid, ticks and titles of the axes; that of y stands level, where it reads easily."""
    chart, area = drawing.chart, drawing.area
    y_ticks = drawing.y.ticks(6)
    parts = ['<g class="axes">']
    for tick, label in zip(y_ticks, tick_labels(y_ticks, chart.percent, chart.log_y)):
        at = float(drawing.y(tick))
        parts.append(f'<path class="grid" d="M{area.left:.2f},{at:.2f}H{area.right:.2f}"/>')
        parts.append(_text(label, area.left - 8, at + 4.5, "tick y end"))
    for tick, label in _x_ticks(drawing):
        at = float(drawing.x(tick))
        parts.append(f'<path class="axis" d="M{at:.2f},{area.bottom:.2f}v5"/>')
        half = text_width(label, _FONT) / 2
        # A label at the very edge is moved in rather than cut off.
        parts.append(_text(label, min(max(at, half), drawing.width - half), area.bottom + 20, "tick x middle"))
    parts.append(f'<path class="axis" d="M{area.left:.2f},{area.bottom:.2f}H{area.right:.2f}"/>')
    parts.append(_text(chart.y_label, 0, 14, "title"))
    parts.append(_text(chart.x_label, area.right, area.bottom + 40, "title end"))
    if not any(np.isfinite(y).any() for _, y in drawing.lines):
        parts.append(_text("no finite values", area.left + area.width / 2, area.top + area.height / 2, "middle"))
    return [*parts, "</g>"]


def _x_ticks(drawing: Drawing) -> list[tuple[float, str]]:
    """Choose as many ticks below the plot as have room for their labels."""
    for target in range(8, 1, -1):
        ticks = drawing.x.ticks(target)
        labels = tick_labels(ticks)
        if sum(text_width(label, _FONT) + 16 for label in labels) <= drawing.area.width:
            break
    return list(zip(ticks, labels))


def _curves(drawing: Drawing, clip: str) -> list[str]:
    """Draw each curve; behind it, pale, the points it smooths; on it the points, where they are few."""
    chart = drawing.chart
    parts = [f'<g class="curves" clip-path="url(#{clip})">']
    if chart.smooth > 1:
        for index, series in enumerate(chart.series):
            x, y = series.points()
            path = _path(*_thinned(drawing.x(x), drawing.y(y)))
            parts.append(f'<path class="raw {_colour(index)}" d="{path}"/>')
    for index, (x, y) in enumerate(drawing.lines):
        parts.append(f'<path class="line {_colour(index)}" d="{_path(x, y)}"/>')
    parts.append("</g>")
    for index, (x, y) in enumerate(drawing.lines):
        finite = np.flatnonzero(np.isfinite(y))
        few = len(finite) <= drawing.area.width / 20
        shown = finite if few else finite[-1:]
        inside = [at for at in shown if drawing.area.top - 3 <= y[at] <= drawing.area.bottom + 3]
        parts += [f'<path class="point {_colour(index)}" d="{_shape(index, x[at], y[at])}"/>' for at in inside]
    return parts


def _references(drawing: Drawing) -> list[str]:
    """Draw the lines to compare with; in a wide picture each with its label, where the curves leave room."""
    parts = []
    area = drawing.area
    for reference in drawing.chart.references:
        (x0, x1), (y0, y1) = _reference_line(drawing, reference)
        parts.append(f'<path class="reference" d="M{x0:.2f},{y0:.2f}L{x1:.2f},{y1:.2f}"/>')
        if drawing.narrow:
            continue
        text = _fitted(reference.label, area.width)
        size = text_width(text, _FONT)
        if reference.axis == "y":
            lefts = [area.left + 6 + part / 8 * (area.width - size - 10) for part in range(9)]
            tops = (y0 - _LINE - 3, y0 + 3)
            candidates = [Box(left, top, size, _LINE, "middle") for top in tops for left in lefts]
        else:
            heights = [area.top + part / 8 * (area.height - _LINE) for part in range(9)]
            candidates = [box for top in heights for box in _beside(x0, top, size)]
        parts.append(drawing.label(text, candidates, "note"))
    return parts


def _reference_line(drawing: Drawing, reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Give the two ends of a reference line: x positions, y positions."""
    area = drawing.area
    if reference.axis == "y":
        return np.array([area.left, area.right]), np.full(2, float(drawing.y(reference.value)))
    return np.full(2, float(drawing.x(reference.value))), np.array([area.top, area.bottom])


def _markers(drawing: Drawing) -> list[str]:
    """Draw the rings, their lines down to the x axis, and their labels."""
    names = [series.name for series in drawing.chart.series]
    parts = []
    for marker in drawing.chart.markers:
        index = names.index(marker.series)
        x, y = float(drawing.x(marker.x)), float(drawing.y(marker.y))
        parts.append(f'<path class="drop {_colour(index)}" d="M{x:.2f},{y:.2f}V{drawing.area.bottom:.2f}"/>')
        parts.append(f'<circle class="ring {_colour(index)}" cx="{x:.2f}" cy="{y:.2f}" r="6"/>')
        text = _fitted(marker.label, drawing.area.width)
        parts.append(drawing.label(text, _around(marker, drawing, text_width(text, _FONT)), _colour(index)))
    return parts


def _around(marker: Marker, drawing: Drawing, size: float) -> list[Box]:
    """Give places for a marker's label: beside the line down, then beside the ring."""
    x, y = float(drawing.x(marker.x)), float(drawing.y(marker.y))
    bottom = drawing.area.bottom
    tops = [y + 10 + part / 5 * max(0.0, bottom - _LINE - 14 - y) for part in range(6)]
    tops.append(y - _LINE - 8)
    return [box for top in tops for box in _beside(x, top, size)]


def _beside(x: float, top: float, size: float) -> tuple[Box, Box]:
    """Give the places for a label to the right and to the left of a vertical line."""
    return Box(x + 6, top, size, _LINE), Box(x - 6 - size, top, size, _LINE, "end")


def _end_labels(drawing: Drawing) -> list[str]:
    """Write each series' name and last value beside its end."""
    if drawing.narrow:
        return []
    area, parts = drawing.area, []
    at_edge: list[tuple[int, float, float]] = []
    for index, (x, y) in enumerate(drawing.lines):
        finite = np.flatnonzero(np.isfinite(y))
        end_x, end_y = (x[finite[-1]], y[finite[-1]]) if finite.size else (area.right, area.bottom)
        end_y = min(max(end_y, area.top), area.bottom)
        if end_x > area.right - 40:
            at_edge.append((index, end_x, end_y))
            continue
        text = _end_text(drawing.chart, index)
        size = text_width(text, _FONT)
        candidates = [Box(end_x + 10, end_y - _LINE / 2, size, _LINE)]
        for top in (end_y + shift * _LINE for shift in (0.45, -1.45, 1.45, -2.45, 2.45)):
            candidates.append(Box(end_x - size / 2, top, size, _LINE, "middle"))
            candidates.extend(_beside(end_x, top, size))
        parts.append(drawing.label(text, candidates, f"name {_colour(index)}"))
    heights = spread([y for _, _, y in at_edge], _LINE, area.top + 4, area.bottom - 4)
    for (index, end_x, end_y), height in zip(at_edge, heights):
        left = area.right + 16
        drawn = np.isfinite(drawing.lines[index][1]).any()
        if drawn and (abs(height - end_y) > 3 or end_x < area.right - 3):
            leader = f"M{end_x + 6:.2f},{end_y:.2f}L{left - 3:.2f},{height:.2f}"
            parts.append(f'<path class="leader {_colour(index)}" d="{leader}"/>')
        parts.append(_text(_end_text(drawing.chart, index), left, height + 4.5, f"name {_colour(index)}"))
    return parts


def _end_text(chart: Chart, index: int) -> str:
    """Give a series' name with its last value, or with the news that this is not finite."""
    name = shorten(printable(chart.series[index].name), _LABEL_COLUMNS)
    _, y = chart.curve(index)
    if not y.size:
        return f"{name} (no data)"
    return f"{name} {chart.write_y(float(y[-1]))}" if math.isfinite(y[-1]) else f"{name} (not finite)"


def _legend_entries(chart: Chart, width: float) -> list[str]:
    """Give the texts of a legend: the series, then the lines to compare with."""
    names = [_end_text(chart, index) for index in range(len(chart.series))]
    return names + [_fitted(reference.label, width - 28) for reference in chart.references]


def _legend_rows(chart: Chart, width: float) -> list[list[int]]:
    """Break the entries of the legend into rows that fit."""
    rows: list[list[int]] = [[]]
    room = width
    for index, text in enumerate(_legend_entries(chart, width)):
        needed = 28 + text_width(text, _FONT)
        if rows[-1] and needed > room:
            rows.append([])
            room = width
        rows[-1].append(index)
        room -= needed
    return rows


def _legend(drawing: Drawing) -> list[str]:
    """Write the legend of a narrow picture, between the y title and the plot."""
    if not drawing.narrow:
        return []
    parts = []
    entries = _legend_entries(drawing.chart, drawing.width)
    for number, row in enumerate(_legend_rows(drawing.chart, drawing.width)):
        x, y = 2.0, 14 + _LINE * (number + 1) + 2
        for index in row:
            named = index < len(drawing.chart.series)
            kind = f"key {_colour(index)}" if named else "reference"
            parts.append(f'<path class="{kind}" d="M{x:.2f},{y - 4.5:.2f}h16"/>')
            if named:
                parts.append(f'<path class="point {_colour(index)}" d="{_shape(index, x + 8, y - 4.5)}"/>')
            parts.append(_text(entries[index], x + 22, y, f"name {_colour(index)}" if named else "note"))
            x += 28 + text_width(entries[index], _FONT)
    return parts


def _shape(index: int, x: float, y: float) -> str:
    """Outline a point: circle, square, triangle or diamond, so that not colour alone tells series apart."""
    outlines = (
        "m-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
        "m-3.6,-3.6h7.2v7.2h-7.2z",
        "m0,-5l4.6,8h-9.2z",
        "m0,-5.2l5.2,5.2l-5.2,5.2l-5.2,-5.2z",
    )
    return f"M{x:.2f},{y:.2f}{outlines[index % len(outlines)]}"


def _colour(index: int) -> str:
    """Name the colour class of a series; a second round through the palette is dashed."""
    return f"s{index % COLOURS}" + (" again" if index >= COLOURS else "")


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """Give path data through the points, interrupted where y is NaN; a lone point becomes a dot."""
    parts: list[str] = []
    pen_down = False
    for at, (left, top) in enumerate(zip(x.tolist(), y.tolist())):
        if math.isnan(top):
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{left:.2f},{top:.2f}")
        alone = not pen_down and (at + 1 == len(x) or math.isnan(y[at + 1]))
        if alone:
            parts.append("h0")
        pen_down = True
    return "".join(parts)


def _fitted(label: str, width: float) -> str:
    """Cut a label that is wider than its room in pixels."""
    text = printable(label)
    return shorten(text, int(width / text_width("x", _FONT)))


def _text(text: str, x: float, y: float, kind: str) -> str:
    """Write one line of text with its base line at y."""
    return f'<text class="{kind}" x="{x:.2f}" y="{y:.2f}">{escape(text)}</text>'


def _rectangle(box: Box) -> str:
    """Write a rectangle."""
    return f'<rect x="{box.left:.2f}" y="{box.top:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"/>'
