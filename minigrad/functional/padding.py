"""Padding under torch's name and order of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError, ShapeError

__all__ = ["pad"]

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """More (or with negative numbers fewer) elements at the ends of the last axes.

    Parameters
    ----------
    pad : sequence of int
        (before, after) of the last axis, then of the one before it, and so on, in one row.
    mode : "constant", "reflect", "replicate" or "circular"
        The new elements are `value`; the input mirrored without its end; its end; the input begun anew.
    value : float, optional
        0 unless given; with mode "constant" alone.

    Raises
    ------
    ArgumentError, ShapeError
        An unknown mode, an odd number of widths, more of them than axes, or more new elements than the mode can make.
    """
    widths = [(pad[i], pad[i + 1]) for i in range(0, len(pad) - 1, 2)]
    if mode not in MODES or (mode != "constant" and value):
        raise ArgumentError("pad", got=f"mode={mode!r}, value={value}",
                            wanted=f"one of {', '.join(map(repr, MODES))}, a value with 'constant' alone")
    if len(pad) % 2 or len(widths) > input.ndim:
        raise ShapeError("pad", got=f"pad={tuple(pad)}, input {tuple(input.shape)}",
                         wanted="a pair for each of the last axes")
    full = [(0, 0)] * (input.ndim - len(widths)) + widths[::-1]
    limits = {"reflect": [n - 1 for n in input.shape], "circular": list(input.shape)}.get(mode)
    if limits and any(w > n for pair, n in zip(full, limits) for w in pair):
        raise ShapeError("pad", got=f"pad={tuple(pad)}, mode={mode!r}, input {tuple(input.shape)}",
                         wanted="less padding than there are elements to repeat")
    wide = tuple((max(b, 0), max(a, 0)) for b, a in full)
    if any(max(-b, 0) + max(-a, 0) > n for n, (b, a) in zip(input.shape, full)):
        raise ShapeError("pad", got=f"pad={tuple(pad)}, input {tuple(input.shape)}",
                         wanted="a length of 0 or more left")
    mirror = mode == "reflect"  # elements that a negative width takes away are still mirrored, as in torch
    if mirror and input.ndim:
        input = ops.pad(input, wide, MODES[mode])
    kept = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(input.shape, full))
    x = input[kept] if any(w < 0 for pair in full for w in pair) else input
    return x if mirror or not input.ndim else ops.pad(x, wide, MODES[mode], 0.0 if value is None else value)
