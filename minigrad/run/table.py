"""A small table of results, written as aligned text for a terminal or as HTML for a report."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from minigrad.run.text import display_width, escape, format_number, pad, printable

Cell: TypeAlias = str | int | float | np.generic | None

_ABSENT = "–"
_LOOKS_NUMERIC = re.compile(r"[+\-−±~≈<>≥≤]?\s?[.\d]|[–—∞]|-∞|nan\b")


@dataclass(frozen=True)
class Table:
    """A table whose columns of numbers stand on the right.

    Parameters
    ----------
    columns : sequence of str
        One heading per column.
    rows : sequence of sequences of str, int, float or None
        Each row has one cell per column. An int is written with grouped thousands; the floats of one column
        share their number of decimals; None is written as a dash. Text is shown as it is.
    caption : str
        A line above the table; empty for none.
    align : str
        One letter per column, ``l`` or ``r``. Empty: ``r`` for columns in which every cell is a number or
        text that starts like one (``"81.2 %"``), ``l`` for the others.

    Raises
    ------
    ValueError
        A row's length or that of `align` is not the number of columns, or `align` has another letter.
    TypeError
        A cell is of another type.

    Examples
    --------
    >>> print(Table(("network", "accuracy"), [("none", "81.2 %"), ("batch", "87.9 %")]).text())
    network  accuracy
    -------  --------
    none       81.2 %
    batch      87.9 %
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    align: str = ""

    def __post_init__(self) -> None:
        wanted = len(self.columns)
        for number, row in enumerate(self.rows):
            if len(row) != wanted:
                raise ValueError(f"Table: row {number} has {len(row)} cells; wanted {wanted}, one per column")
            for heading, cell in zip(self.columns, row):
                if not (cell is None or isinstance(cell, (str, int, float, np.number, np.bool_))):
                    raise TypeError(
                        f"Table: row {number}, column {heading!r} holds {type(cell).__name__}; "
                        "wanted str, int, float or None"
                    )
        if self.align and (len(self.align) != wanted or set(self.align) - set("lr")):
            raise ValueError(f"Table: align is {self.align!r}; wanted {wanted} letters, each 'l' or 'r'")

    def text(self) -> str:
        """Write the table for a terminal.

        Returns
        -------
        str
            Lines without a trailing newline; columns are aligned by their width on a terminal.
        """
        headings = [printable(heading) for heading in self.columns]
        cells = self._written()
        align = self._alignment(cells)
        widths = [
            max(display_width(text) for text in (heading, *(row[column] for row in cells)))
            for column, heading in enumerate(headings)
        ]
        lines = [headings, ["-" * width for width in widths], *cells]
        written = ["  ".join(map(pad, line, widths, align)).rstrip() for line in lines]
        return "\n".join([printable(self.caption), *written] if self.caption else written)

    def markdown(self) -> str:
        """Write the table for a Markdown page.

        Returns
        -------
        str
            Lines without a trailing newline; a ``|`` in a cell is escaped. There is no caption in Markdown's tables:
            it is a paragraph above.
        """
        cells = self._written()
        rules = ["---:" if letter == "r" else "---" for letter in self._alignment(cells)]
        lines = [[printable(heading) for heading in self.columns], rules, *cells]
        written = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
        return "\n".join([printable(self.caption), "", *written] if self.caption else written)

    def html(self) -> str:
        """Write the table as HTML.

        Returns
        -------
        str
            A ``<table>`` element whose text is escaped. The first column holds row headings; cells of columns
            that stand on the right have the class ``num``.
        """
        cells = self._written()
        kinds = [' class="num"' if letter == "r" else "" for letter in self._alignment(cells)]
        heads = "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for text, kind in zip(self.columns, kinds))
        body = []
        for row in cells:
            parts = [f"<td{kind}>{escape(text)}</td>" for text, kind in zip(row, kinds)]
            if parts:
                parts[0] = f'<th scope="row"{kinds[0]}>{escape(row[0])}</th>'
            body.append(f"<tr>{''.join(parts)}</tr>")
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        rows = "\n".join(body)
        return f"<table>{caption}<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"

    def _written(self) -> list[list[str]]:
        """Give every cell as printable text, row by row."""
        columns = [_write_column([row[column] for row in self.rows]) for column in range(len(self.columns))]
        return [[column[number] for column in columns] for number in range(len(self.rows))]

    def _alignment(self, cells: list[list[str]]) -> str:
        """Give one letter per column: what was asked for, else ``r`` for columns of numbers."""
        if self.align:
            return self.align
        numeric = (
            bool(cells) and all(_LOOKS_NUMERIC.match(row[column]) for row in cells)
            for column in range(len(self.columns))
        )
        return "".join("r" if each else "l" for each in numeric)


def _write_column(cells: Sequence[Cell]) -> list[str]:
    """Write one column; its floats share their decimals so that the points stand below each other."""
    plain = [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]
    decimals = _shared_decimals([cell for cell in plain if isinstance(cell, float)])
    return [_write_cell(cell, decimals) for cell in plain]


def _write_cell(cell: Cell, decimals: int | None) -> str:
    """Write one cell; `decimals` applies to finite floats."""
    if cell is None:
        return _ABSENT
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float) and decimals is not None and math.isfinite(cell):
        return f"{cell:,.{decimals}f}"
    return format_number(cell) if isinstance(cell, (int, float)) else printable(cell)


def _shared_decimals(values: Sequence[float]) -> int | None:
    """Give the decimals that show the largest value to four digits, None where these hide the smallest."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not sizes or max(sizes) >= 1e7:
        return None
    decimals = min(6, max(0, 3 - math.floor(math.log10(max(sizes)))))
    return decimals if min(sizes) >= 10.0 ** (1 - decimals) else None
