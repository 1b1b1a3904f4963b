"""A linear map, BatchNorm and an activation as one operation: the step that networks of features repeat."""

from __future__ import annotations

from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ShapeError
from minigrad.op import Op, apply, inputs, outputs
from minigrad.ops.elementwise import cast
from minigrad.ops.matmul import LINEAR, Linear
from minigrad.ops.normalization import checked_batch_norm
from minigrad.ops.normalization_texts import ActivatedBatchNorm

__all__ = ["linear_batch_norm"]


class LinearBatchNorm(Op):
    """(a(y), μ, σ², r, z, ⟨z⟩) with z = x·wᵀ, y = γ·(z − ⟨z⟩)·r + β, μ = ⟨z⟩ + b and a an activation;

    gradients as those of `ActivatedBatchNorm`, then of `Linear`;  gb = Σ gμ. What b adds to z is in its mean and so
    subtracted again: it is not added in the first place, and where nothing hangs on μ its gradient is 0, not the
    rounding of a sum that is 0. Where b is not finite y is NaN, as it would be.

    norm : BatchNorm and the activation, an operation
    """

    __slots__ = ("norm", "_given", "_like_bias")
    _given: tuple[bool, ...]  # which inputs there are
    _like_bias: Any  # shape and dtype of b, for its gradient
    n_out = 6
    promotes = True
    widens = True
    keeps = (inputs(0, when=1) + inputs(1, when=0) + inputs(3, when=(0, 1)) + outputs(0, when=(0, 1, 3, 4))
             + outputs(3, 4, when=(0, 1, 3)) + outputs(5, when=(0, 1, 2, 3)))

    def __init__(self, norm):
        self.norm = norm

    def absent(self, i):
        """Whether input i is known to have been None, for `minigrad.expansion`, which finds no array for it."""
        return not self._given[i]

    def remember(self, b, weight, bias):
        """Which inputs there are, and shape and dtype of b, for its gradient."""
        self._given = True, True, b is not None, weight is not None, bias is not None
        self._like_bias = None if b is None else (b.shape, b.dtype)

    def shift(self, b, bias):
        """β, made NaN where b is not finite: that may not be hidden by leaving b out."""
        if b is None:
            return bias
        nothing = b - b
        return nothing if bias is None else bias + nothing

    def forward(self, x, w, b, weight, bias):
        self.remember(b, weight, bias)
        z = apply(LINEAR, x, w, None)
        z = cast(z, x.dtype) if x.dtype == w.dtype else z  # of bfloat16 arrays, NumPy's product is float32
        y, near, variance, rstd = apply(self.norm, z, weight, self.shift(b, bias))
        return y, near if b is None else near + b, variance, rstd, z, near

    def backward(self, saved, needs, gy, gmean, gvariance, grstd, gz, gnear):
        x, w, weight, y, rstd, z, near = saved
        through = needs[0] or needs[1]
        gb = self.to_bias(near, gy, gmean) if needs[2] else None
        if gmean is not None:
            gnear = gmean if gnear is None else gnear + gmean
        gx = gw = found = gweight = gbias = None
        arrives = any(g is not None for g in (gy, gnear, gvariance, grstd))
        if arrives and (through or needs[3] or needs[4]):
            found, gweight, gbias = ActivatedBatchNorm.backward(
                self.norm, (z, weight, near, rstd, y), (through, *needs[3:]), gy, gnear, gvariance, grstd)
        if through:
            gz = found if gz is None else gz if found is None else gz + found
            gx, gw, _ = Linear.backward(LINEAR, (x, w), (*needs[:2], False), gz)
        return gx, gw, gb, gweight, gbias

    def to_bias(self, near, gy, gmean):
        """gb: Σ gμ, or zeros if y has a gradient and μ has none."""
        shape, dtype = self._like_bias
        if gmean is None and gy is None:
            return None
        xp = namespace(near)
        return cast(xp.reshape(xp.zeros_like(near) if gmean is None else gmean, shape), dtype)


def linear_batch_norm(x: Any, w: Any, b: Any, weight: Any, bias: Any, eps: float, activation: str,
                      values: bool = False) -> tuple[Any, Any, Any, Any]:
    """activation(γ·(z − μ)·(σ² + ε)^−½ + β) with z = x·wᵀ + b and its statistics over the batch, as one operation.

    Parameters
    ----------
    x : (N, in), floating point
    w : (out, in)
    b, weight, bias : (out,) or None
        The linear map's bias, γ and β.
    eps : float
        Added to the variance, under the root.
    activation : "relu" or "sigmoid"
    values : bool
        Give mean, variance and rstd as plain arrays: for a caller that will not differentiate them.

    Returns
    -------
    y : (N, out), of the dtype of x·wᵀ
    mean, variance, rstd : (1, out), float32 or wider
        Of z; the biased variance, and (variance + eps)^−½. All four may be differentiated.

    Raises
    ------
    ShapeError
        A shape does not fit, or N is 1.
    ArgumentError
        ε is negative, or the activation is another.
    """
    of_x, of_w, of_b = x.shape, w.shape, None if b is None else b.shape
    if len(of_x) != 2 or len(of_w) != 2 or of_x[1] != of_w[1] or (of_b is not None and of_b != of_w[:1]):
        raise ShapeError("linear_batch_norm", got=f"input {tuple(of_x)}, weight {tuple(of_w)}, bias {of_b}",
                         wanted="input (N, in), weight (out, in), bias (out,) or None")
    norm = checked_batch_norm((of_x[0], of_w[0]), x.dtype, None if weight is None else weight.shape,
                              None if bias is None else bias.shape, eps, activation, False)
    found = apply(LinearBatchNorm(norm), x, w, b, weight, bias, first=values)
    return found[0], found[1], found[2], found[3]
