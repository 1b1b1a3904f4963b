"""Losses as layers."""

from __future__ import annotations

from typing import Any

from minigrad import functional as F
from minigrad.functional.arguments import check_reduction
from minigrad.layers.module import Module
from minigrad.tensor import Buffer, Tensor

__all__ = ["CrossEntropyLoss", "MSELoss"]


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
        check_reduction(reduction, "MSELoss")
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of `input` against `target`."""
        return F.mse_loss(input, target, self.reduction)
