"""JSON lines and plain settings: what the files of a run directory are made of."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Number", "dump", "integer", "number", "plain", "read_rows"]

Number: TypeAlias = int | float | np.generic

_NON_FINITE: dict[str, float] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a file of JSON lines as `Run` writes them.

    Parameters
    ----------
    path : str or path-like
        For example ``runs/…/metrics.jsonl``.

    Returns
    -------
    list of dict
        One per line. ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` are floats again, except as the series'
        name.

    Raises
    ------
    ValueError
        A line is not a JSON object with a series and a step. A last line without its newline is left out
        instead: it is what a process leaves that was killed while writing.
    OSError
        The file cannot be read.
    """
    rows = []
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    # What follows the last newline is empty, or a line cut short.
    for at, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{Path(path).name}, line {at}: not JSON ({error}); got {line[:60]!r}") from error
        if not isinstance(row, dict) or not {"series", "step"} <= row.keys():
            raise ValueError(
                f"{Path(path).name}, line {at}: got {line[:60]!r}; wanted an object with 'series' and 'step'"
            )
        rows.append({key: value if key == "series" else _finite_or_not(value) for key, value in row.items()})
    return rows


def dump(value: Any, indent: int | None = None) -> str:
    """Write JSON that every parser reads: UTF-8, no NaN literals."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def integer(value: object, where: str) -> int:
    """Give a Python int."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"{where}: got {value!r} of type {type(value).__name__}; wanted an integer")


def number(value: object, where: str) -> int | float | str:
    """Give a number as JSON holds it; the non-finite ones, which JSON lacks, as strings."""
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, int)):
        return int(value)
    if not isinstance(value, float):
        raise TypeError(f"{where}: got {type(value).__name__}; wanted one number")
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _finite_or_not(value: Any) -> Any:
    """Undo `number`."""
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def plain(value: Any, where: str) -> Any:
    """Give a setting as JSON holds it; `where` is its dotted name, for the error."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, PurePath)):
        return _without_home(str(value))
    if isinstance(value, Mapping):
        return {str(key): plain(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, np.ndarray) and value.ndim:
        value = value.tolist()
    if isinstance(value, Iterable) and isinstance(value, (list, tuple, range)):
        return [plain(each, f"{where}[{index}]") for index, each in enumerate(value)]
    try:
        return number(value, where)
    except TypeError:
        raise TypeError(
            f"Run: {where} is {type(value).__name__}; wanted str, number, bool, None, path, list or mapping"
        ) from None


def _without_home(text: str) -> str:
    """Write a path below the home directory from ``~``: runs are shared, user names need not be."""
    home = str(Path.home())
    if len(home) > 1 and (text == home or text.startswith((home + "/", home + os.sep))):
        return "~" + text[len(home) :]
    return text


