"""Losses as layers."""

from __future__ import annotations

from typing import Any

from minigrad import functional as F
from minigrad.functional.arguments import check_reduction
from minigrad.layers.module import Module
from minigrad.tensor import Buffer, Tensor

__all__ = ["BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "NLLLoss",
           "SmoothL1Loss"]


class CrossEntropyLoss(Module):
    """−ln softmax(input) at the target class, or its expectation under target probabilities.

    Parameters
    ----------
    weight : (C,) Tensor or array, optional
        The weight of each class; a buffer.
    ignore_index : int
        Target class that counts for nothing; only with integer targets.
    reduction : "mean", "sum" or "none"
        The mean of integer targets is weighted by their classes' weights; of probabilities it is over examples.
    label_smoothing : float
        From 0 to 1: how much of each target is spread evenly over all classes (Szegedy et al., arXiv:1512.00567).

    Raises
    ------
    ArgumentError
        An unknown reduction. When called also: a target class out of range.
    ShapeError, DtypeError
        When called: arguments do not fit each other.

    Notes
    -----
    Called with scores (N, C, …) before softmax, and classes (N, …) or probabilities (N, C, …).

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad import Tensor
    >>> from minigrad.layers import CrossEntropyLoss
    >>> loss = CrossEntropyLoss()(Tensor(np.zeros((5, 4))), Tensor([0, 1, 2, 3, 0]))
    >>> bool(np.isclose(loss.item(), np.log(4)))
    True
    """

    weight: Buffer | None

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_reduction(reduction, "CrossEntropyLoss")
        self.register_buffer("weight", None if weight is None else Tensor(weight))
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of scores against classes or probabilities."""
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class MSELoss(Module):
    """(input − target)², its mean or sum.

    Parameters
    ----------
    reduction : "mean", "sum" or "none"

    Raises
    ------
    ArgumentError
        An unknown reduction.
    ShapeError
        When called: the shapes differ. (torch broadcasts with a warning.)
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction, type(self).__name__)
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of `input` against `target`."""
        return F.mse_loss(input, target, self.reduction)


class L1Loss(MSELoss):
    """|input − target|, its mean or sum. The derivative where they agree is 0. Parameters as in `MSELoss`."""

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of `input` against `target`."""
        return F.l1_loss(input, target, self.reduction)


class SmoothL1Loss(MSELoss):
    """d²/2β where |d| < β, else |d| − β/2, of d = input − target; its mean or sum (Girshick, arXiv:1504.08083).

    Parameters
    ----------
    reduction : "mean", "sum" or "none"
    beta : float
        β ≥ 0.

    Raises
    ------
    ArgumentError
        An unknown reduction; when called, a negative beta.
    ShapeError
        When called: the shapes differ.
    """

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of `input` against `target`."""
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(MSELoss):
    """d²/2 where |d| ≤ δ, else δ·(|d| − δ/2), of d = input − target; its mean or sum (Huber 1964).

    Parameters
    ----------
    reduction : "mean", "sum" or "none"
    delta : float
        δ > 0.

    Raises
    ------
    ArgumentError
        An unknown reduction; when called, a delta that is not above 0.
    ShapeError
        When called: the shapes differ.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of `input` against `target`."""
        return F.huber_loss(input, target, self.reduction, self.delta)


class NLLLoss(Module):
    """−input at the target class: of logarithms of probabilities, the negative log-likelihood.

    Parameters
    ----------
    weight : (C,) Tensor or array, optional
        The weight of each class; a buffer.
    ignore_index : int
        Target class that counts for nothing.
    reduction : "mean", "sum" or "none"
        The mean is weighted by the classes' weights.

    Raises
    ------
    ArgumentError
        An unknown reduction. When called also: a target class out of range.
    ShapeError, DtypeError
        When called: arguments do not fit each other.
    """

    weight: Buffer | None

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction, "NLLLoss")
        self.register_buffer("weight", None if weight is None else Tensor(weight))
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logarithms of probabilities against classes."""
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class BCELoss(Module):
    """−(t·ln x + (1 − t)·ln(1 − x)) of probabilities x and t, its mean or sum; logarithms are not below −100.

    Parameters
    ----------
    weight : Tensor or array, optional
        Of each element, broadcastable; a buffer.
    reduction : "mean", "sum" or "none"

    Raises
    ------
    ArgumentError
        An unknown reduction; when called, an input that is no probability.
    ShapeError
        When called: the shapes differ.
    """

    weight: Buffer | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction, type(self).__name__)
        self.register_buffer("weight", None if weight is None else Tensor(weight))
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of probabilities against probabilities."""
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(BCELoss):
    """`BCELoss` of sigmoid(input), computed without overflow.

    Parameters
    ----------
    weight : Tensor or array, optional
        Of each element, broadcastable; a buffer.
    reduction : "mean", "sum" or "none"
    pos_weight : Tensor or array, optional
        Of positive targets, broadcastable; a buffer.

    Raises
    ------
    ArgumentError
        An unknown reduction.
    ShapeError
        When called: the shapes differ.
    """

    pos_weight: Buffer | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(weight, reduction=reduction)
        self.register_buffer("pos_weight", None if pos_weight is None else Tensor(pos_weight))

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of scores against probabilities."""
        return F.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class KLDivLoss(Module):
    """t·(ln t − x) of probabilities t and logarithms of probabilities x: the Kullback–Leibler divergence.

    Parameters
    ----------
    reduction : "batchmean", "mean", "sum" or "none"
        "batchmean", the sum divided by the length of axis 0, is the divergence; "mean" divides by all elements.
    log_target : bool
        Whether targets are given as logarithms, too.

    Raises
    ------
    ArgumentError
        An unknown reduction.
    ShapeError
        When called: the shapes differ.
    """

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__()
        if reduction != "batchmean":
            check_reduction(reduction, "KLDivLoss")
        self.reduction, self.log_target = reduction, log_target

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logarithms of probabilities against probabilities."""
        return F.kl_div(input, target, self.reduction, self.log_target)
