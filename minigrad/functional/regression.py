"""Losses of numbers against numbers, under torch's names."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.autocasting import in_float32
from minigrad.errors import ArgumentError
from minigrad.functional.arguments import check_reduction, reduced, same_shape

__all__ = ["huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"]


def _reduced(where: str, losses: Any, weight: Any, reduction: str) -> Any:
    """Losses times weights; their mean is the sum divided by the sum of the weights."""
    check_reduction(reduction, where)
    if weight is None:
        return reduced(losses, reduction, where)
    same_shape(where, losses, weight)
    losses = losses * weight
    return ops.sum(losses) / ops.sum(weight) if reduction == "mean" else reduced(losses, reduction, where)


def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """(input − target)², its mean or sum.

    Parameters
    ----------
    weight : of the input's shape, optional
        Of each element; the mean is weighted by it.

    Raises
    ------
    ShapeError
        The shapes differ. (torch broadcasts with a warning, which turns (N, 1) against (N,) into N² losses.)
    """
    same_shape("mse_loss", input, target)
    input, target = in_float32(input, target)
    losses = ops.square(input - target)
    return _reduced("mse_loss", losses, weight, reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """|input − target|, its mean or sum; arguments as in `mse_loss`. The derivative where they agree is 0."""
    same_shape("l1_loss", input, target)
    input, target = in_float32(input, target)
    losses = ops.abs(input - target)
    return _reduced("l1_loss", losses, weight, reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d²/2β where |d| < β, else |d| − β/2, of d = input − target; its mean or sum (Girshick, arXiv:1504.08083).

    Raises
    ------
    ArgumentError
        `beta` is negative. 0 gives `l1_loss`.
    ShapeError
        The shapes differ.
    """
    if not beta >= 0:
        raise ArgumentError("smooth_l1_loss", got=f"beta={beta}", wanted="0 or more")
    if beta == 0:
        return l1_loss(input, target, reduction)
    same_shape("smooth_l1_loss", input, target)
    input, target = in_float32(input, target)
    d = input - target
    size = ops.abs(d)
    losses = ops.where(size < beta, ops.square(d) * (0.5 / beta), size - 0.5 * beta)
    return reduced(losses, reduction, "smooth_l1_loss")


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """d²/2 where |d| ≤ δ, else δ·(|d| − δ/2), of d = input − target; its mean or sum (Huber 1964).

    Parameters
    ----------
    weight : of the input's shape, optional
        Of each element. The mean is that of the weighted losses, over their number, as in torch.

    Raises
    ------
    ArgumentError
        `delta` is not above 0.
    ShapeError
        The shapes differ.
    """
    if not delta > 0:
        raise ArgumentError("huber_loss", got=f"delta={delta}", wanted="above 0")
    same_shape("huber_loss", input, target)
    input, target = in_float32(input, target)
    d = input - target
    size = ops.abs(d)
    losses = ops.where(size <= delta, ops.square(d) * 0.5, (size - 0.5 * delta) * delta)
    if weight is not None:
        same_shape("huber_loss", input, weight)
        losses = losses * weight
    return reduced(losses, reduction, "huber_loss")
