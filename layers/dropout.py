"""Dropout."""

from __future__ import annotations

from typing import Any

from minigrad import functional as F
from minigrad.errors import ArgumentError
from minigrad.layers.module import Module
from minigrad.ops.random import Generator

__all__ = ["Dropout"]


class Dropout(Module):
    """In training, set each element to 0 with probability p and divide the others by 1 − p; in evaluation, nothing.

    (Srivastava et al., JMLR 15, 2014.) The division keeps the expected value.

    Parameters
    ----------
    p : float
        From 0 to 1.
    inplace : bool
        There for torch's signature; without effect, as Tensors are values.
    generator : Generator, optional
        Where the choice comes from; the default generator unless given.

    Raises
    ------
    ArgumentError
        `p` is out of range.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import Dropout
    >>> y = Dropout(0.5)(minigrad.ones(1000))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError("Dropout", got=f"p={p}", wanted="a probability, from 0 to 1")
        self.p, self.inplace, self.generator = p, inplace, generator

    def forward(self, x: Any) -> Any:
        """Drop elements of `x`, in training."""
        return F.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"p={self.p}, inplace={self.inplace}"
