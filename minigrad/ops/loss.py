"""Cross-entropy, as one node."""

from __future__ import annotations

from typing import Any

from minigrad.backend import namespace
from minigrad.errors import DtypeError
from minigrad.op import Op, apply, inputs, total
from minigrad.ops.activation import log_softmax
from minigrad.ops.elementwise import cast, widened

__all__ = ["cross_entropy"]


class CrossEntropy(Op):
    """y = −Σ_c q_c·ln softmax(x)_c over axis 1, one per example or summed over all;

    gx = gy·(softmax(x)·Σ_c q_c − q),  gq = −gy·ln softmax(x). The q_c need not sum to 1: class weights and the divisor
    of a mean are folded into them.
    """

    __slots__ = ("reduce",)
    broadcasts = True  # not in shape, but x and q may differ in dtype
    keeps = inputs(0) + inputs(1, when=0)

    def __init__(self, reduce):
        self.reduce = reduce

    def forward(self, x, q):
        product = q * log_softmax(widened(x), 1)
        axes = tuple(range(x.ndim)) if self.reduce else (1,)
        return cast(-total(product, axes, False), x.dtype)

    def backward(self, saved, needs, gy):
        x, q = saved
        xp = namespace(x)
        if not self.reduce:
            gy = xp.expand_dims(gy, axis=1)
        logp = log_softmax(widened(x), 1)
        gx = cast(gy * (xp.exp(logp) * xp.sum(q, axis=1, keepdims=True) - q), x.dtype) if needs[0] else None
        return gx, (-(gy * logp) if needs[1] else None)


def cross_entropy(x: Any, q: Any, reduce: bool) -> Any:
    """−Σ_c q_c·ln softmax(x)_c over axis 1: one number per example, or with `reduce` their sum.

    Parameters
    ----------
    x : (N, C, …) or with reduce any shape whose axis 1 is the classes
    q : of the same shape

    Raises
    ------
    DtypeError
        x is of integers.
    """
    if x.dtype.kind in "biu":
        raise DtypeError("cross_entropy", got=f"input of dtype {x.dtype}", wanted="floating point")
    return apply(CrossEntropy(reduce), x, q)
