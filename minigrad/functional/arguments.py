"""Arguments in torch's forms (one number for all axes, names for paddings and reductions), checked and made plain."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.errors import ArgumentError, ShapeError
from minigrad.op import value as array_of
from minigrad.ops.shape import broadcasts_to, whole_number

__all__ = ["batched", "check_reduction", "paddings", "per_axis", "reduced", "same_shape", "weight_fits",
           "whole_number"]


def per_axis(given: int | Sequence[int], axes: int, where: str, name: str) -> tuple[int, ...]:
    """One whole number per spatial axis, from one for all (alone or in a sequence) or one each.

    Raises
    ------
    ArgumentError
        Not whole numbers, or not as many as there are axes.
    """
    each: tuple[Any, ...] = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    each = each * axes if len(each) == 1 else each
    if len(each) != axes or not all(hasattr(v, "__index__") for v in each):
        raise ArgumentError(where, got=f"{name}={given!r}", wanted=f"a whole number, or {axes} of them")
    return tuple(operator.index(v) for v in each)


def paddings(padding: int | str | Sequence[int], kernel: tuple[int, ...], stride: tuple[int, ...],
             dilation: tuple[int, ...], where: str) -> tuple[tuple[int, int], ...]:
    """(before, after) per spatial axis. ``"same"`` keeps the length, with the odd one after, as torch does.

    Raises
    ------
    ArgumentError
        An unknown name, or ``"same"`` with a stride.
    """
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ArgumentError(where, got=f"padding='same', stride={stride}", wanted="stride 1 with padding='same'")
        spans = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return tuple((span // 2, span - span // 2) for span in spans)
    if isinstance(padding, str):
        raise ArgumentError(where, got=f"padding={padding!r}", wanted="'same', 'valid' or whole numbers")
    return tuple((p, p) for p in per_axis(padding, len(kernel), where, "padding"))


def batched(x: Any, axes: int, where: str) -> tuple[Any, bool]:
    """`x` with a batch axis, and whether it was added: spatial functions take (C, …) as well as (N, C, …).

    Raises
    ------
    ShapeError
        The rank fits neither.
    """
    if x.ndim == axes + 2:
        return x, False
    if x.ndim == axes + 1:
        return ops.expand_dims(x, 0), True
    raise ShapeError(where, got=f"input of shape {tuple(x.shape)}",
                     wanted=f"(N, C, …) or (C, …) with {axes} spatial axes")


def reduced(losses: Any, reduction: str, where: str) -> Any:
    """Losses as they are ("none"), their mean or their sum.

    Raises
    ------
    ArgumentError
        An unknown reduction.
    """
    check_reduction(reduction, where)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return ops.sum(losses)
    return ops.mean(losses) if array_of(losses).size else ops.sum(losses) * math.nan  # the mean of nothing, as in torch


def same_shape(where: str, input: Any, target: Any) -> None:
    """Refuse a target of another shape. (torch broadcasts, which turns (N, 1) against (N,) into N² losses.)"""
    if tuple(input.shape) != tuple(target.shape):
        raise ShapeError(where, got=f"input {tuple(input.shape)}, target {tuple(target.shape)}", wanted="equal shapes")


def weight_fits(where: str, name: str, weight: Any, input: Any) -> None:
    """Refuse a weight of elements that does not broadcast to the input's shape, or would make more of them."""
    if not broadcasts_to(np.shape(array_of(weight)), tuple(input.shape)):
        raise ShapeError(where, got=f"{name} {np.shape(array_of(weight))}, input {tuple(input.shape)}",
                         wanted=f"a {name} that broadcasts to the input's shape")


def check_reduction(reduction: str, where: str) -> None:
    """Refuse an unknown reduction."""
    if reduction not in ("none", "mean", "sum"):
        raise ArgumentError(where, got=f"reduction={reduction!r}", wanted="'none', 'mean' or 'sum'")
