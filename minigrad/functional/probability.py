"""Losses of probabilities, under torch's names."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.backend import to_numpy
from minigrad.errors import ArgumentError
from minigrad.functional.arguments import check_reduction, reduced, same_shape, weight_fits
from minigrad.op import holds, value

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"]


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """−(t·ln x + (1 − t)·ln(1 − x)) of probabilities x (input) and t (target), its mean or sum.

    Logarithms are not below −100, as in torch.

    Parameters
    ----------
    weight : broadcastable to the input's shape, optional
        Of each element.

    Raises
    ------
    ShapeError
        The shapes differ, or the weight does not fit them.
    ArgumentError
        An input is no probability.
    """
    check_reduction(reduction, "binary_cross_entropy")
    same_shape("binary_cross_entropy", input, target)
    if weight is not None:
        weight_fits("binary_cross_entropy", "weight", weight, input)
    array = value(input)
    if not holds((array >= 0) & (array <= 1)):
        known = to_numpy(array)
        raise ArgumentError("binary_cross_entropy", got=f"inputs from {known.min()} to {known.max()}",
                            wanted="probabilities, from 0 to 1", hint="binary_cross_entropy_with_logits takes scores")
    losses = ops.binary_cross_entropy(input, target)
    return reduced(losses if weight is None else losses * weight, reduction, "binary_cross_entropy")


def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, reduction: str = "mean",
                                     pos_weight: Any = None) -> Any:
    """`binary_cross_entropy` of σ(input), computed without overflow: (1 − t)·x − (1 + (w − 1)·t)·ln σ(x).

    Parameters
    ----------
    weight, pos_weight : broadcastable to the input's shape, optional
        Of each element; of positive targets (w, 1 unless given).

    Raises
    ------
    ShapeError
        The shapes differ, or a weight does not fit them.
    """
    check_reduction(reduction, "binary_cross_entropy_with_logits")
    same_shape("binary_cross_entropy_with_logits", input, target)
    for name, given in (("weight", weight), ("pos_weight", pos_weight)):
        if given is not None:
            weight_fits("binary_cross_entropy_with_logits", name, given, input)
    log_likelihood = ops.logsigmoid(input)
    if pos_weight is not None:
        log_likelihood = log_likelihood * (1 + (pos_weight - 1) * target)
    losses = (1 - target) * input - log_likelihood
    return reduced(losses if weight is None else losses * weight, reduction, "binary_cross_entropy_with_logits")


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """t·(ln t − x) of probabilities t and logarithms of probabilities x, 0 where t = 0: Kullback & Leibler 1951.

    Parameters
    ----------
    reduction : "batchmean", "mean", "sum" or "none"
        "batchmean", the sum divided by the length of axis 0, is the divergence; "mean" divides by all elements.
    log_target : bool
        Whether the target is given as logarithms, too.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    if reduction != "batchmean":
        check_reduction(reduction, "kl_div")
    same_shape("kl_div", input, target)
    if log_target:
        losses = ops.exp(target) * (target - input)
    else:
        losses = target * (ops.log(ops.where(target == 0, 1.0, target)) - input)
    if reduction == "batchmean":
        return ops.sum(losses) / (input.shape[0] if input.ndim else 1)
    return reduced(losses, reduction, "kl_div")
