"""Tables of numbers in CSV files, such as the 8×8 handwritten digits: read without any further package."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minigrad.data.dataset import TensorDataset
from minigrad.data.files import content_of
from minigrad.errors import ArgumentError, ShapeError, StateError

__all__ = ["CSVDataset"]


class CSVDataset(TensorDataset):
    r"""The rows of a CSV file as samples ``(features, label)``.

    Parameters
    ----------
    path : str or path
        A text in UTF-8, compressed if its name ends in ``.gz``. A first line that is not all numbers (the label's
        column aside) is taken for headings. Empty lines are passed over.
    target : int or str, default -1
        The column of the label, by its position or its heading.
    shape : sequence of int, optional
        The shape of one sample's features, such as (1, 8, 8); by default they are one axis.
    delimiter : str, default ","

    Attributes
    ----------
    features : ndarray of float32, shape (n, *shape)
    labels : ndarray of int64, shape (n,)
        Positions in `classes`.
    classes : tuple of str
        The labels as they are in the file, numbers in the order of numbers, texts in that of the alphabet.
    columns : tuple of str
        The headings of the features; empty if there are none.
    source : str

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StateError
        A row has another number of cells than the first, or a cell is no finite number; the message names line and
        column.
    ArgumentError
        There is no such target column.
    ShapeError
        The features do not fit the shape.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = Path(folder.name) / "points.csv"
    >>> _ = file.write_text("x,y,kind\n1,2,cat\n3,4,dog\n5,6,cat\n")
    >>> data = CSVDataset(file, target="kind")
    >>> data.columns, data.classes, data.features.tolist(), data.labels.tolist()
    (('x', 'y'), ('cat', 'dog'), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 0])
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], target: int | str = -1, *, shape: Sequence[int] | None = None,
                 delimiter: str = ",") -> None:
        where = f"CSVDataset: {Path(path).name}"
        rows = _rows(Path(path), delimiter, where)
        headings, column = _headings(rows, target, where)
        labels = [row.pop(column) for _, row in rows]
        # Numbers are told apart by value ("1" and "1.0"), texts by their letters.
        numeric = all(_number(label) is not None for label in labels)
        self.classes = tuple(sorted(set(labels), key=float if numeric else str))
        places = {label: place for place, label in enumerate(self.classes)}
        self.labels = np.array([places[label] for label in labels], np.int64)
        self.features = np.array([_features(number, row, where) for number, row in rows], np.float32)
        self.columns = tuple(heading for place, heading in enumerate(headings) if place != column)
        if shape is not None:
            if math.prod(shape) != self.features.shape[1]:
                raise ShapeError(where, got=f"{self.features.shape[1]} features", wanted=f"the shape {tuple(shape)}")
            self.features = self.features.reshape(-1, *shape)
        self.source = f"{len(rows)} rows of {path}"
        super().__init__(self.features, self.labels)


def _rows(path: Path, delimiter: str, where: str) -> list[tuple[int, list[str]]]:
    """Line number and cells of every line that is not empty; all have the same number of cells."""
    try:
        text = content_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StateError(where, got=f"a byte at {error.start} that is no UTF-8", wanted="a text in UTF-8") from error
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    if not rows:
        raise StateError(where, got="no rows", wanted="at least one")
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width or width < 2:
            raise StateError(f"{where}, line {number}", got=f"{len(row)} cells",
                             wanted=f"{max(width, 2)}, features and a label, in every line")
    return rows


def _headings(rows: list[tuple[int, list[str]]], target: int | str, where: str) -> tuple[list[str], int]:
    """The headings, taken off the rows if there are any, and the position of the label's column."""
    first, width = rows[0][1], len(rows[0][1])
    column = first.index(target) if target in first else target
    if not isinstance(column, int) or not -width <= column < width:
        raise ArgumentError(where, got=f"target={target!r}",
                            wanted=f"one of the {width} columns, {', '.join(first):.80}")
    column %= width
    if isinstance(target, int) and all(_number(cell) is not None for i, cell in enumerate(first) if i != column):
        return [], column
    rows.pop(0)
    if not rows:
        raise StateError(where, got="headings alone", wanted="at least one row")
    return first, column


def _features(number: int, row: list[str], where: str) -> list[float]:
    values = [_number(cell) for cell in row]
    if None in values:
        place = values.index(None)
        raise StateError(f"{where}, line {number}, feature {place + 1}", got=f"{row[place]!r:.40}",
                         wanted="a finite number")
    return [value for value in values if value is not None]


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
