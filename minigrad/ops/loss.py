"""Cross-entropy of classes and of probabilities, each as one node."""

from __future__ import annotations

import math
from typing import Any

from minigrad.backend import namespace
from minigrad.errors import DtypeError, ShapeError
from minigrad.op import Op, apply, holds, inputs, total
from minigrad.ops.activation import log_softmax
from minigrad.ops.elementwise import cast, widened
from minigrad.ops.reduction import finite

__all__ = ["binary_cross_entropy", "cross_entropy"]


class CrossEntropy(Op):
    """y = −Σ_c q_c·ln softmax(x)_c over axis 1, q the target, one per example or summed over all;

    gx = gy·(softmax(x)·Σ_c q_c − q),  gq = −gy·ln softmax(x). The q_c need not sum to 1: class weights and the divisor
    of a mean are folded into them.
    """

    __slots__ = ("reduce",)
    promotes = True
    keeps = inputs(0) + inputs(1, when=0)

    def __init__(self, reduce):
        self.reduce = reduce

    def forward(self, x, target):
        logp = log_softmax(widened(x), 1)
        # 0·ln 0 is 0: a class that is ruled out.
        product = target * namespace(x).where(target == 0, finite(logp), logp)
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


class ClassCoefficients(Op):
    """q_nc = s where c is the class t_n, else 0; and whether all t_n are classes, without which q says nothing

    classes : C, the number of classes
    share : s
    dtype : of q
    """

    __slots__ = ("classes", "share", "dtype")
    differentiable = False
    n_out = 2

    def __init__(self, classes, share, dtype):
        self.classes, self.share, self.dtype = classes, share, dtype

    def forward(self, target):
        xp = namespace(target)
        q = xp.zeros((target.shape[0], self.classes), dtype=self.dtype)
        known = holds((target >= 0) & (target < self.classes))
        if known:
            q[xp.arange(target.shape[0]), target] = self.share
        return q, known


def class_coefficients(target: Any, classes: int, share: float, dtype: Any) -> tuple[Any, bool]:
    """The q of `cross_entropy` (N, C) for target classes, an integer array (N,): `share` at the class, else 0.

    The second result says whether all targets are classes, from 0 to C − 1; if not, q is of no use.
    """
    return ClassCoefficients(classes, share, dtype).run_forward(target)  # type: ignore[no-any-return]


class BinaryCrossEntropy(Op):
    """y = −(t·ln x + (1 − t)·ln(1 − x)), t the target, logarithms from −100 up

    gx = gy·(x − t) / max(x·(1 − x), 10⁻¹²),  gt = gy·(ln(1 − x) − ln x). The two bounds are torch's: they keep the
    loss and its gradient finite at x = 0 and 1.
    """

    promotes = True
    keeps = inputs(0) + inputs(1, when=0)

    def forward(self, x, target):
        a, b = _bounded_logs(widened(x))
        return cast(-(target * a + (1 - target) * b), x.dtype)

    def backward(self, saved, needs, gy):
        x, t = saved
        x = widened(x)
        gx = gt = None
        if needs[0]:
            slope = x * (1 - x)
            gx = gy * (x - t) / namespace(gy).where(slope < 1e-12, 1e-12, slope)
        if needs[1]:
            a, b = _bounded_logs(x)
            gt = gy * (b - a)
        return gx, gt


def _bounded_logs(x):
    """ln x and ln(1 − x), where they are above −100; a logarithm of 0 is never taken."""
    xp = namespace(x)
    least = math.exp(-100)
    return (xp.where(x > least, xp.log(xp.where(x > least, x, 1.0)), -100.0),
            xp.where(x < 1, xp.log1p(-xp.where(x < 1, x, 0.0)), -100.0))


def binary_cross_entropy(x: Any, t: Any) -> Any:
    """−(t·ln x + (1 − t)·ln(1 − x)) for each element, of probabilities x and t of one shape."""
    if tuple(x.shape) != tuple(t.shape):
        raise ShapeError("binary_cross_entropy", got=f"input {tuple(x.shape)}, target {tuple(t.shape)}",
                         wanted="equal shapes")
    return apply(BinaryCrossEntropy(), x, t)
