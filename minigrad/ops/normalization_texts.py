"""The normalizations: one family, one text.

Elements that share statistics form a set S of m values: for BatchNorm a channel of the batch, for LayerNorm the last
axes of one example, for InstanceNorm a channel of one example, for GroupNorm a group of its channels. With ⟨·⟩ the mean
over S,

    μ = ⟨x⟩    σ² = ⟨(x − μ)²⟩    r = (σ² + ε)^−½    x̂ = (x − μ)·r    y = γ·x̂ + β

and for gradients gy, gμ, gσ², gr of all four outputs, with ĝ = γ·gy,

    gx = r·(ĝ − ⟨ĝ⟩ − x̂·⟨ĝ·x̂⟩) + gμ/m + 2(x − μ)·gσ²/m − r²·x̂·gr/m        gγ = Σ gy·x̂        gβ = Σ gy

(Ioffe & Szegedy, arXiv:1502.03167, section 3, here with the statistics as outputs.) Being complete in the gradients of
μ, σ² and r is what makes every higher derivative right: backward uses them as ordinary values of the graph.

RMSNorm does not centre: x̂ = x·r with r = (⟨x²⟩ + ε)^−½, and the terms with μ and ⟨ĝ⟩ are absent. With a mask, ⟨·⟩ and
m are those of the elements that count; the others get y = 0 and gx = 0.
"""

from __future__ import annotations

from typing import Any, ClassVar

from minigrad.backend import accumulation_dtype, namespace
from minigrad.op import Op, apply, inputs, outputs, value
from minigrad.ops.activation import ReLU, Sigmoid
from minigrad.ops.elementwise import cast
from minigrad.ops.statistics import (
    inverse_std,
    kept_where,
    mean_square,
    moments,
    normalize,
    scale_shift,
    share,
    sum_rows,
)

__all__ = ["ACTIVATIONS", "ActivatedBatchNorm", "BatchNorm", "BatchNormInference", "GroupNorm", "InstanceNorm",
           "LayerNorm", "MaskedNorm", "Normalization", "RMSNorm", "ResidualBatchNorm"]


class _Family(Op):
    """What all share: the axes of statistics, the shape of the parameters, ε, and the way back through statistics."""

    __slots__ = ("axes", "param_shape", "eps", "_parameter", "_plan")
    _parameter: tuple[int, ...]
    _plan: Any  # what a kernel has worked out from shapes alone, for its next call
    promotes = True
    widens = True
    centred: ClassVar[bool] = True

    def __init__(self, axes, param_shape, eps):
        self.axes, self.param_shape, self.eps, self._plan = axes, param_shape, eps, None

    def _remember(self, weight, bias):
        """The shape of γ and β, for their gradients: the same whenever one object is used again."""
        parameter = bias if weight is None else weight
        self._parameter = () if parameter is None else parameter.shape

    def absent(self, i):
        """Whether input i is known to have been None, for `minigrad.expansion`, which finds no array for it."""
        return i in (1, 2) and self._parameter == ()

    def _gradients(self, x, weight, mean, rstd, mask, needs, gy, gmean, gvariance, grstd):
        """gx, gγ and gβ by the formulas at the head of this file; μ is None where nothing is centred."""
        gx = gweight = gbias = None
        if gy is not None:
            gy = kept_where(cast(gy, accumulation_dtype(value(gy).dtype)), mask)
            if needs[0] or needs[1]:
                wide = cast(x, rstd.dtype)
                xhat = kept_where(wide * rstd if mean is None else normalize(wide, mean, rstd), mask)
            if needs[0]:
                gx = self._through_y(gy, xhat, weight, rstd, mask)
            if needs[1]:
                gweight = self._to_parameter(gy * xhat)
            if needs[2]:
                gbias = self._to_parameter(gy)
        if needs[0]:
            gx = self._through_statistics(gx, x, mean, rstd, mask, gmean, gvariance, grstd)
            gx = gx if gx is None else cast(kept_where(gx, mask), value(x).dtype)
        return gx, gweight, gbias

    def _through_y(self, gy, xhat, weight, rstd, mask):
        """r·(ĝ − ⟨ĝ⟩ − x̂·⟨ĝ·x̂⟩), without ⟨ĝ⟩ where nothing is centred: symmetric in ĝ, and the whole family's."""
        xp = namespace(gy)
        k = share(gy, self.axes, mask)
        if weight is not None:
            gy = gy * xp.reshape(weight, self.param_shape)
        mean_gx = xp.sum(gy * xhat, axis=self.axes, keepdims=True) * k
        if self.centred:
            gy = gy - xp.sum(gy, axis=self.axes, keepdims=True) * k
        return rstd * (gy - xhat * mean_gx)

    def _through_statistics(self, gx, x, mean, rstd, mask, gmean, gvariance, grstd):
        """gx with gμ/m + 2(x − μ)·gσ²/m − r²·x̂·gr/m added, as far as those gradients exist; μ is None for 0."""
        k = share(x, self.axes, mask)
        if gmean is not None:
            spread = namespace(gmean).broadcast_to(gmean * k, x.shape)
            gx = spread if gx is None else gx + spread
        if gvariance is not None:
            term = (x if mean is None else x - mean) * (gvariance * (2 * k))
            gx = term if gx is None else gx + term
        if grstd is not None:
            term = (x if mean is None else x - mean) * (rstd * rstd * rstd * grstd * -k)
            gx = term if gx is None else gx + term
        return gx

    def _to_parameter(self, g):
        """Sum to the shape of γ and β."""
        return namespace(g).reshape(sum_rows(g, self.param_shape), self._parameter)


class Normalization(_Family):
    """(y, μ, σ², r) = (γ·x̂ + β, ⟨x⟩, ⟨(x − μ)²⟩, (σ² + ε)^−½);   gradients: at the head of this file

    axes : the axes over which statistics are shared
    param_shape : the shape in which γ and β broadcast against x
    """

    __slots__ = ()
    n_out = 4
    keeps = inputs(0, when=(0, 1)) + inputs(1, when=0) + outputs(1, 3, when=(0, 1))

    def forward(self, x, weight, bias, mask=None):
        self._remember(weight, bias)
        mean, variance = moments(x, self.axes, mask)
        rstd = inverse_std(variance, self.eps)
        y = scale_shift(normalize(cast(x, mean.dtype), mean, rstd), weight, bias, self.param_shape)
        return cast(kept_where(y, mask), x.dtype), mean, variance, rstd

    def backward(self, saved, needs, gy, gmean, gvariance, grstd):
        x, weight, mean, rstd, *masked = saved
        mask = masked[0] if masked else None
        return (*self._gradients(x, weight, mean, rstd, mask, needs, gy, gmean, gvariance, grstd), None)[: len(needs)]


class BatchNorm(Normalization):
    """y = γ·(x − μ)·(σ² + ε)^−½ + β, with μ and σ² over the batch and all places, per channel (axis 1)"""

    __slots__ = ()


#: Activations that BatchNorm can apply itself. Their derivatives are functions of what they give.
ACTIVATIONS = {"relu": ReLU(), "sigmoid": Sigmoid()}


class ActivatedBatchNorm(BatchNorm):
    """(a(y), μ, σ², r) with y = γ·(x − μ)·r + β and a an activation;   gy through a, then as BatchNorm's"""

    __slots__ = ("activation",)
    keeps = (*Normalization.keeps, *outputs(0, when=(0, 1, 2)))

    def __init__(self, axes, param_shape, eps, activation):
        super().__init__(axes, param_shape, eps)
        self.activation = activation

    def forward(self, x, weight, bias, mask=None):
        y, *statistics = super().forward(x, weight, bias, mask)
        return apply(ACTIVATIONS[self.activation], y), *statistics

    def backward(self, saved, needs, gy, gmean, gvariance, grstd):
        *saved, y = saved
        if gy is not None:
            (gy,) = ACTIVATIONS[self.activation].backward((y,), (True,), gy)
        return super().backward(saved, needs, gy, gmean, gvariance, grstd)


class ResidualBatchNorm(ActivatedBatchNorm):
    """(a(y + z), μ, σ², r) with y = γ·(x − μ)·r + β, z the fourth input;   gz = gy through a, then as BatchNorm's"""

    __slots__ = ()
    keeps = (*Normalization.keeps, *outputs(0))

    def forward(self, x, weight, bias, residual):  # type: ignore[override]
        y, *statistics = Normalization.forward(self, x, weight, bias)
        return apply(ACTIVATIONS[self.activation], y + residual), *statistics

    def backward(self, saved, needs, gy, gmean, gvariance, grstd):
        *saved, y = saved
        if gy is not None:
            (gy,) = ACTIVATIONS[self.activation].backward((y,), (True,), gy)
        found = Normalization.backward(self, saved, needs[:3], gy, gmean, gvariance, grstd)
        return *found, gy if needs[3] else None


class LayerNorm(Normalization):
    """y = γ·(x − μ)·(σ² + ε)^−½ + β, with μ and σ² over the last axes, per example (Ba et al., arXiv:1607.06450)"""

    __slots__ = ()


class GroupNorm(Normalization):
    """y = γ·(x − μ)·(σ² + ε)^−½ + β, with μ and σ² over a group of channels and all places, per example

    x is viewed as (N, groups, channels of a group, …) (Wu & He, arXiv:1803.08494).
    """

    __slots__ = ()


class InstanceNorm(Normalization):
    """y = γ·(x − μ)·(σ² + ε)^−½ + β, with μ and σ² over all places, per example and channel (arXiv:1607.08022)"""

    __slots__ = ()


class MaskedNorm(Normalization):
    """y = γ·(x − μ)·(σ² + ε)^−½ + β, with μ and σ² over what a mask, the fourth input, counts; else 0"""

    __slots__ = ()
    keeps = (*Normalization.keeps, *inputs(3))
    # Its own, so that kernels for the family, which know of no mask, do not serve it.
    forward = Normalization.forward
    backward = Normalization.backward


class RMSNorm(_Family):
    """(y, q, r) = (γ·x·r + β, ⟨x²⟩, (q + ε)^−½)        (Zhang & Sennrich, arXiv:1910.07467)

    gx = r·(ĝ − x̂·⟨ĝ·x̂⟩) + 2x·gq/m − r²·x̂·gr/m    gγ = Σ gy·x̂    gβ = Σ gy        with x̂ = x·r and ĝ = γ·gy
    """

    __slots__ = ()
    n_out = 3
    keeps = inputs(0, when=(0, 1)) + inputs(1, when=0) + outputs(2, when=(0, 1))
    centred = False

    def forward(self, x, weight, bias):
        self._remember(weight, bias)
        square = mean_square(x, self.axes)
        rstd = inverse_std(square, self.eps)
        y = scale_shift(cast(x, square.dtype) * rstd, weight, bias, self.param_shape)
        return cast(y, x.dtype), square, rstd

    def backward(self, saved, needs, gy, gsquare, grstd):
        x, weight, rstd = saved
        return self._gradients(x, weight, None, rstd, None, needs, gy, None, gsquare, grstd)


class BatchNormInference(Op):
    """y = γ·(x − μ)·r + β with given μ and σ², r = (σ² + ε)^−½: an affine map of x

    gx = gy·γ·r    gμ = −Σ gx    gσ² = −½·r²·Σ gx·(x − μ)    gγ = Σ gy·(x − μ)·r    gβ = Σ gy
    """

    __slots__ = ("param_shape", "eps")
    keeps = inputs(0, when=(2, 3)) + inputs(1, when=(2, 3)) + inputs(2) + inputs(3, when=(0, 1, 2))
    promotes = True

    def __init__(self, param_shape, eps):
        self.param_shape, self.eps = param_shape, eps

    def _view(self, a):
        return namespace(a).reshape(a, self.param_shape)

    def forward(self, x, mean, variance, weight, bias):
        wide = cast(x, accumulation_dtype(value(x).dtype))
        y = normalize(wide, self._view(mean), inverse_std(self._view(variance), self.eps))
        return cast(scale_shift(y, weight, bias, self.param_shape), x.dtype)

    def backward(self, saved, needs, gy):
        x, mean, variance, weight = saved
        gx = gmean = gvariance = gweight = gbias = None
        wide = cast(gy, accumulation_dtype(value(gy).dtype))
        rstd = inverse_std(self._view(variance), self.eps)
        if needs[0] or needs[1] or needs[2]:
            gx = wide * (rstd if weight is None else self._view(weight) * rstd)
        if needs[2] or needs[3]:
            deviation = x - self._view(mean)
        if needs[1]:
            gmean = -self._to_parameter(gx)
        if needs[2]:
            gvariance = self._to_parameter(gx * deviation * (rstd * rstd) * -0.5)
        if needs[3]:
            gweight = self._to_parameter(wide * (deviation * rstd))
        if needs[4]:
            gbias = self._to_parameter(wide)
        return (cast(gx, value(gy).dtype) if needs[0] else None), gmean, gvariance, gweight, gbias

    def _to_parameter(self, g):
        return namespace(g).reshape(sum_rows(g, self.param_shape), (-1,))
