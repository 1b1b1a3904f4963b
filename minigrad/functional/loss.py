"""Losses of classes under torch's names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.autocasting import in_float32
from minigrad.backend import accumulation_dtype, as_array, astype, is_array, namespace, to_numpy
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.functional.arguments import check_reduction
from minigrad.modes import current
from minigrad.op import Traced, beside, holds, value
from minigrad.ops.loss import class_coefficients

__all__ = ["cross_entropy", "nll_loss"]


def cross_entropy(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Any:
    """−ln softmax(input) at the target class, or its expectation under target probabilities.

    Parameters
    ----------
    input : (C,), (N, C) or (N, C, …), floating point
        Scores before softmax; axis 1 (axis 0 if it is the only one) is the classes.
    target : integers of shape (), (N,) or (N, …), or probabilities of the input's shape
    weight : (C,), optional
        The weight of each class.
    ignore_index : int
        Target class that counts for nothing; only with integer targets.
    reduction : "mean", "sum" or "none"
        The mean of integer targets is weighted by their classes' weights; of probabilities it is over examples.
    label_smoothing : float
        From 0 to 1: how much of each target is spread evenly over all classes (Szegedy et al., arXiv:1512.00567).

    Raises
    ------
    ShapeError, DtypeError, ArgumentError
        Shapes, dtypes or options do not fit, or a target class is out of range; in a step that `minigrad.cuda.replay`
        has recorded, which cannot raise, the loss is NaN then, and for the mean of nothing its gradient is NaN too.
    """
    check_reduction(reduction, "cross_entropy")
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError("cross_entropy", got=f"label_smoothing={label_smoothing}", wanted="a number from 0 to 1")
    target = beside(target if isinstance(target, Traced) or is_array(target) else as_array(target), input)
    weight = beside(weight, input)
    if input.ndim == 0:
        raise ShapeError("cross_entropy", got="input ()", wanted="(C,), (N, C) or (N, C, …)")
    classes = input.shape[1] if input.ndim > 1 else input.shape[0]
    if classes == 0:
        raise ShapeError("cross_entropy", got=f"input {tuple(input.shape)}", wanted="at least one class")
    if value(weight) is not None and tuple(weight.shape) != (classes,):
        raise ShapeError("cross_entropy", got=f"weight {tuple(weight.shape)}", wanted=f"({classes},)")
    single = input.ndim == 1
    if single:
        input, target = ops.expand_dims(input, 0), ops.expand_dims(target, 0)
    if tuple(target.shape) == tuple(input.shape):
        if ignore_index >= 0:
            raise ArgumentError("cross_entropy", got=f"probabilities and ignore_index={ignore_index}",
                                wanted="ignore_index with integer targets alone")
        q, counts = _from_probabilities(input, target, value(weight), reduction, label_smoothing)
    else:
        q, counts = _from_classes(input, value(target), value(weight), ignore_index, reduction, label_smoothing)
    losses = ops.cross_entropy(input, q, reduction != "none")
    if reduction == "mean" and not counts:
        return losses + math.nan  # the mean of nothing; its gradient is 0, as in torch
    return ops.squeeze(losses, 0) if single and reduction == "none" else losses


def _from_probabilities(x: Any, target: Any, weight: Any, reduction: str,
                        smoothing: float) -> tuple[Any, bool]:
    """The coefficients q of `ops.cross_entropy`, from target probabilities; and whether there are any."""
    if value(target).dtype.kind != "f":
        raise DtypeError("cross_entropy", got=f"target of dtype {target.dtype} and the input's shape",
                         wanted="floating point probabilities")
    classes = x.shape[1]
    q = target * (1 - smoothing) + smoothing / classes if smoothing else target
    if weight is not None:
        q = q * namespace(weight).reshape(weight, (classes,) + (1,) * (x.ndim - 2))
    examples = value(x).size // classes
    return (q * (1 / max(examples, 1)) if reduction == "mean" else q), examples > 0


def _counted(target: Any, classes: int, ignore_index: int, where: str) -> Any:
    """Which targets count, once they are integers, and classes unless they are ignored."""
    if target.dtype.kind not in "iu":
        raise DtypeError(where, got=f"target of dtype {target.dtype}", wanted="integers")
    counted = target != ignore_index
    outside = _outside(target, counted, classes)
    if not holds(~outside):
        raise ArgumentError(where, got=f"target class {to_numpy(target)[to_numpy(outside)][0]}",
                            wanted=f"classes from 0 to {classes - 1}, or ignore_index={ignore_index}")
    return counted


def _outside(target: Any, counted: Any, classes: int) -> Any:
    """Which targets are no class: refused, and where a recorded step cannot refuse, made NaN."""
    return counted & ((target < 0) | (target >= classes))


def _from_classes(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str,
                  smoothing: float) -> tuple[Any, bool]:
    """The coefficients q of `ops.cross_entropy`, from target classes: their weight where the class is, else 0.

    Of a mean, they are divided by the sum of the weights. Also says whether any target counts.
    """
    classes = x.shape[1]
    if tuple(target.shape) != (x.shape[0], *x.shape[2:]):
        raise ShapeError("cross_entropy", got=f"input {tuple(x.shape)}, target {tuple(target.shape)}",
                         wanted=f"target {(x.shape[0], *x.shape[2:])} of classes, or {tuple(x.shape)} of probabilities")
    xp = namespace(target)
    dtype = accumulation_dtype(value(x).dtype)
    plain = x.ndim == 2 and weight is None and not smoothing and not 0 <= ignore_index < classes
    if plain and target.size and target.dtype.kind in "iu" and current().graph is None:  # the usual case
        share = 1 / target.size if reduction == "mean" else 1.0
        q, known = class_coefficients(target, classes, share, dtype)
        if known:
            return q, True
    counted = _counted(target, classes, ignore_index, "cross_entropy")
    along = (classes,) + (1,) * (x.ndim - 2)
    wanted = xp.expand_dims(xp.where(counted, target, -1), axis=1)
    q = astype(wanted == xp.reshape(xp.arange(classes), along), dtype)
    spread = xp.ones(along, dtype=dtype) if weight is None else astype(xp.reshape(weight, along), dtype)
    if weight is not None:
        q = q * spread
    if current().graph is not None:
        q = xp.where(xp.expand_dims(_outside(target, counted, classes), axis=1), math.nan, q)
    counts = reduction != "mean" or holds(xp.any(counted))
    divisor = xp.sum(q) if reduction == "mean" and counts else None
    if smoothing:
        q = q * (1 - smoothing) + xp.expand_dims(astype(counted, dtype), axis=1) * (spread * (smoothing / classes))
    if divisor is None:
        return q, counts
    with np.errstate(invalid="ignore", divide="ignore"):
        return q / divisor, counts  # 0/0 where all that count have the weight 0: NaN, as in torch


def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """−input at the target class: of logarithms of probabilities, the negative log-likelihood.

    Parameters
    ----------
    input : (C,), (N, C) or (N, C, …), floating point
    target : integers of shape (), (N,) or (N, …)
    weight : (C,), optional
        The weight of each class.
    ignore_index : int
        Target class that counts for nothing.
    reduction : "mean", "sum" or "none"
        The mean is weighted by the classes' weights.

    Raises
    ------
    ShapeError, DtypeError, ArgumentError
        Shapes, dtypes or options do not fit, or a target class is out of range.
    """
    check_reduction(reduction, "nll_loss")
    target = beside(value(target) if isinstance(target, Traced) or is_array(target) else as_array(target), input)
    weight = beside(weight, input)
    wanted = (*input.shape[:1], *input.shape[2:]) if input.ndim > 1 else ()
    if input.ndim == 0 or tuple(target.shape) != wanted:
        raise ShapeError("nll_loss", got=f"input {tuple(input.shape)}, target {tuple(target.shape)}",
                         wanted="input (C,), (N, C) or (N, C, …) and target (), (N,) or (N, …)")
    single = input.ndim == 1
    x = ops.expand_dims(input, 0) if single else input
    if single:
        target = namespace(target).reshape(target, (1,))
    (x,) = in_float32(x)
    classes = x.shape[1]
    if value(weight) is not None and tuple(weight.shape) != (classes,):
        raise ShapeError("nll_loss", got=f"weight {tuple(weight.shape)}", wanted=f"({classes},)")
    counted = _counted(target, classes, ignore_index, "nll_loss")
    xp = namespace(target)
    outside = _outside(target, counted, classes)
    known = xp.where(counted & ~outside, target, 0)
    dtype = value(x).dtype
    share = astype(counted, dtype)
    if weight is not None:
        share = share * xp.reshape(xp.take(astype(value(weight), dtype), xp.reshape(known, (-1,)), axis=0), known.shape)
    picked = ops.squeeze(ops.take_along_axis(x, xp.expand_dims(known, axis=1), 1), 1)
    losses = -(ops.where(counted, picked, 0.0) * share)
    if current().graph is not None:
        losses = ops.where(outside, math.nan, losses)
    if reduction == "none":
        return ops.squeeze(losses, 0) if single else losses
    if reduction == "sum":
        return ops.sum(losses)
    total = xp.sum(share)
    if holds(xp.any(counted)):
        none = total == 0
        return ops.sum(losses) * xp.where(none, math.nan, 1 / xp.where(none, 1.0, total))
    return ops.sum(losses) + math.nan  # the mean of nothing; its gradient is 0, as in torch
