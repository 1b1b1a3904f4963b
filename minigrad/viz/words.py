"""Shapes, bytes, times and gradients in words, for all renderers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from minigrad.run.text import format_number, printable

__all__ = ["attribute_text", "bytes_text", "count_text", "name_text", "shape_text", "size_text", "time_text"]


def shape_text(shape: Sequence[int]) -> str:
    """``64×128``; ``scalar`` without axes. Axes of length 1 around a row of statistics say nothing and are left out."""
    long = [n for n in shape if n != 1]
    shown = long if len(shape) > 1 and len(long) == 1 else list(shape)
    return "×".join(map(str, shown)) if shown else "scalar"


def size_text(shape: Sequence[int], dtype: str) -> str:
    """Shape with every axis, and dtype."""
    return f"{' × '.join(map(str, shape)) or 'scalar'} {dtype}".strip()


def bytes_text(n: int) -> str:
    """``196 KiB``."""
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.3g} {unit}"
        size /= 1024
    return ""


def time_text(us: float | None) -> str:
    """``13 µs``, ``1.2 ms``."""
    if us is None:
        return ""
    return f"{us:.0f} µs" if us < 1000 else f"{us / 1000:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def count_text(n: int, word: str) -> str:
    """``1 operation``, ``3 operations``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def number_text(x: float | None, digits: int = 3) -> str:
    """A number in few digits; a dash for none."""
    return "–" if x is None else format_number(x, digits)


def attribute_text(attrs: dict[str, Any]) -> str:
    """Hyper-parameters in a line."""
    said = []
    for name, value in attrs.items():
        shown = "×".join(map(str, value)) if isinstance(value, list) and value and all(
            isinstance(v, int) for v in value) and "shape" in name else value
        if isinstance(value, float):
            shown = f"{value:.4g}"
        elif isinstance(value, list) and shown is value:
            shown = ",".join(map(str, value))
        said.append(f"{name}={shown}")
    return printable(", ".join(said))


@lru_cache(maxsize=1 << 14)
def name_text(name: str, most: int = 34) -> str:
    """A name on one line, its middle cut out where it is long."""
    name = printable(name)
    return name if len(name) <= most else f"{name[:most // 2]}…{name[-(most - most // 2 - 1):]}"
