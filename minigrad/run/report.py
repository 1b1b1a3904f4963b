"""A report on training runs: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.io.files import replace_file
from minigrad.run.chart import Chart
from minigrad.run.style import COLOURS, PAGE_SCRIPT, PAGE_STYLE
from minigrad.run.svg import chart_svg
from minigrad.run.table import Table
from minigrad.run.text import escape, format_number, format_percent, printable

_MOST_ROWS = 200  # of the table below a chart; the whole data are in the run's metrics
_MOST_POINTS = 600  # per series, to be read off under the pointer


@dataclass(frozen=True)
class Picture:
    """A finished SVG picture in a report, such as `minigrad.viz.embed.embedded` makes.

    Parameters
    ----------
    title : str
        Its heading.
    svg : str
        One ``<svg>`` element without a style sheet. It goes into the page as it is: text in it has to be escaped.
    style : str
        Its style sheet; pictures that share one share it in the page.
    description : str
        A sentence below the heading.
    """

    title: str
    svg: str
    style: str = ""
    description: str = ""


@dataclass(frozen=True)
class Embed:
    """A page within the report, in a frame that can reach neither the report nor any other place.

    Parameters
    ----------
    title : str
        What it shows.
    html : str
        A whole page that carries its own styles and scripts, in elements without attributes of place.
    """

    title: str
    html: str

    def digests(self, element: str) -> list[str]:
        """Hashes of the page's inline styles or scripts, for the policy of the page around it."""
        texts = re.findall(rf"<{element}\b[^>]*>(.*?)</{element}>", self.html, re.DOTALL | re.IGNORECASE)
        return [f"'{_digest(text)}'" for text in texts]


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    finding: str,
    tables: Sequence[Table] = (),
    charts: Sequence[Chart] = (),
    notes: Sequence[str] = (),
    pictures: Sequence[Picture] = (),
    embeds: Sequence[Embed] = (),
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report as one HTML file.

    Parameters
    ----------
    path : str or path-like
        The file; replaced if it exists. Its directory has to exist.
    title, finding, tables, charts, notes, pictures, embeds, config, environment
        As for `render_report`.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    target = Path(path)
    page = render_report(
        title=title,
        finding=finding,
        tables=tables,
        charts=charts,
        notes=notes,
        pictures=pictures,
        embeds=embeds,
        config=config,
        environment=environment,
    )
    replace_file(target, page.encode("utf-8"))
    return target


def render_report(
    *,
    title: str,
    finding: str,
    tables: Sequence[Table] = (),
    charts: Sequence[Chart] = (),
    notes: Sequence[str] = (),
    pictures: Sequence[Picture] = (),
    embeds: Sequence[Embed] = (),
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> str:
    """Give a report as HTML.

    The page carries its style, its script and its pictures. Its Content-Security-Policy allows these two by
    their hashes and forbids everything else, every request included. It follows the reader's choice of light
    or dark.

    Parameters
    ----------
    title : str
        What was done.
    finding : str
        What came out, in one sentence.
    tables : sequence of Table
        The results.
    charts : sequence of Chart
        Each is drawn with a read-out under the pointer and a table of its data to open.
    notes : sequence of str
        Paragraphs of plain text: how the measurement was made.
    pictures : sequence of Picture
        Shown after the charts.
    embeds : sequence of Embed
        Pages shown within this one, each to be opened.
    config, environment : mapping, optional
        Settings and environment as in a `Run`; nested mappings are written with dotted names.

    Returns
    -------
    str
        The page. All text in it is escaped.
    """
    results = "".join(f'<div class="scroll results">{table.html()}</div>\n' for table in tables)
    facts = _section("Settings", _facts(config)) + _section("Environment", _facts(environment))
    parts = [
        f'<header><h1>{escape(title)}</h1><button type="button" hidden>Light / dark</button></header>',
        f'<p class="finding">{escape(finding)}</p>',
        results,
        *(_figure(chart, f"chart-{number}") for number, chart in enumerate(charts, start=1)),
        *(_picture(each) for each in pictures),
        _section("Graphs", "".join(map(_frame, embeds))),
        _section("How this was measured", "".join(f"<p>{escape(note)}</p>\n" for note in notes)),
        '<div class="pair">' + facts + "</div>" if facts else "",
    ]
    body = "\n".join(part for part in parts if part)
    # Names of standard policy words, not of places: 'none' forbids, the hashes allow just these two texts.
    style = PAGE_STYLE + "".join(dict.fromkeys(each.style for each in pictures))
    # A page in a frame obeys this policy besides its own, so its styles and scripts are allowed here too.
    styles, scripts = (
        " ".join(dict.fromkeys([f"'{_digest(own)}'", *(d for each in embeds for d in each.digests(element))]))
        for element, own in (("style", style), ("script", PAGE_SCRIPT))
    )
    policy = f"default-src 'none'; style-src {styles}; script-src {scripts}; base-uri 'none'; form-action 'none'"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>{PAGE_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _digest(text: str) -> str:
    """Give the hash by which a policy allows an inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _frame(embed: Embed) -> str:
    """Show a page in a frame. Without a name of its own ('sandbox'), its scripts cannot touch this page."""
    page = html.escape(embed.html, quote=True)
    return (
        f'<details class="embed"><summary>{escape(embed.title)}</summary>'
        f'<iframe title="{escape(embed.title)}" sandbox="allow-scripts" loading="lazy" srcdoc="{page}"></iframe>'
        "</details>\n"
    )


def _section(heading: str, content: str) -> str:
    """Put a heading over some content, if there is any."""
    return f"<section><h2>{heading}</h2>\n{content}</section>" if content else ""


def _figure(chart: Chart, key: str) -> str:
    """Draw a chart for wide and for narrow windows, with its data for the read-out and as a table."""
    description = f"<p>{escape(chart.description)}</p>" if chart.description else ""
    if chart.smooth > 1:
        description += f"<p>Lines: mean of {chart.smooth} neighbouring points. Pale: the points themselves.</p>"
    wide = chart_svg(chart, width=920, height=400, key=f"{key}-wide")
    narrow = chart_svg(chart, width=360, height=330, key=f"{key}-narrow")
    pictures = f'<div class="wide">{wide}</div>\n<div class="narrow">{narrow}</div>'
    data = _data_table(chart)
    note = f'<p class="soft">{data.caption}</p>' if data.caption else ""
    table = Table(data.columns, data.rows, align=data.align).html()
    return (
        f"<figure><figcaption><h3>{escape(chart.title)}</h3>{description}</figcaption>\n"
        f'<div class="plot">{pictures}\n<div class="readout" role="status" hidden></div></div>\n'
        f'<script type="application/json">{_data_json(chart)}</script>\n'
        f"<details><summary>Data of this chart</summary>{note}"
        f'<div class="scroll tall">{table}</div></details></figure>'
    )


def _picture(picture: Picture) -> str:
    """Put a heading over a finished picture; a wide one can be scrolled."""
    said = f'<p class="soft">{escape(picture.description)}</p>' if picture.description else ""
    return (
        f"<section><h2>{escape(picture.title)}</h2>{said}\n"
        f'<div class="scroll">{picture.svg}</div></section>'
    )


def _data_json(chart: Chart) -> str:
    """Give what the read-out needs, with ``<`` as an escape, so that no text can end the script element."""
    series = []
    for index, each in enumerate(chart.series):
        x, y = (column[_some(len(column), _MOST_POINTS)] for column in chart.curve(index))
        values = [value if math.isfinite(value) else None for value in y.tolist()]
        colour = f"s{index % COLOURS}"
        series.append({"name": printable(each.name), "colour": colour, "x": x.tolist(), "y": values})
    data = {"x_label": printable(chart.x_label), "percent": chart.percent, "series": series}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _data_table(chart: Chart) -> Table:
    """Tabulate a chart's data: one column per series where these share their x, else one row per point."""
    every = [each.points() for each in chart.series]
    names = [each.name for each in chart.series]
    columns: tuple[str, ...]
    if every and all(np.array_equal(x, every[0][0]) for x, _ in every):
        total = len(every[0][0])
        shown = _some(total, _MOST_ROWS)
        columns = (chart.x_label, *names)
        rows = [[_plain(every[0][0][at]), *(_precise(chart, y[at]) for _, y in every)] for at in shown]
        align = "r" * len(columns)
    else:
        points = [(name, x, y) for name, (xs, ys) in zip(names, every) for x, y in zip(xs, ys)]
        total = len(points)
        shown = _some(total, _MOST_ROWS)
        columns = ("series", chart.x_label, chart.y_label)
        rows = [[points[at][0], _plain(points[at][1]), _precise(chart, points[at][2])] for at in shown]
        align = "lrr"
    caption = "" if len(shown) == total else f"{len(shown)} of {total:,} rows, evenly spaced."
    return Table(columns, rows, caption=caption, align=align)


def _some(total: int, most: int) -> np.ndarray:
    """Give at most `most` indices below `total`, evenly spaced, with the first and the last."""
    if total <= most:
        return np.arange(total)
    return np.unique(np.linspace(0, total - 1, most).round().astype(np.int64))


def _precise(chart: Chart, y: float) -> str:
    """Write a y with one digit more than the chart does."""
    return format_percent(float(y), 2) if chart.percent else format_number(float(y), 5)


def _plain(value: float) -> str:
    """Write an x: whole numbers without decimals."""
    return format_number(int(value) if float(value).is_integer() else float(value), 5)


def _facts(values: Mapping[str, Any] | None) -> str:
    """Write settings as a table of two columns."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n' for name, value in flat(values or {})
    )
    return f'<div class="scroll facts"><table><tbody>\n{rows}</tbody></table></div>' if rows else ""


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Give (dotted name, text) for every setting."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((f"{prefix}{name}", ", ".join(map(_setting, value))))
        else:
            rows.append((f"{prefix}{name}", _setting(value)))
    return rows


def _setting(value: Any) -> str:
    """Write one setting."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    return str(value)
