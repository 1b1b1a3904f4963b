"""The normalizations: one family, one text.

Elements that share statistics form a set S of m values: for BatchNorm a channel of the batch, for LayerNorm the last
axes of one example. With ⟨·⟩ the mean over S,

    μ = ⟨x⟩    σ² = ⟨(x − μ)²⟩    r = (σ² + ε)^−½    x̂ = (x − μ)·r    y = γ·x̂ + β

and for gradients gy, gμ, gσ², gr of all four outputs, with ĝ = γ·gy,

    gx = r·(ĝ − ⟨ĝ⟩ − x̂·⟨ĝ·x̂⟩) + gμ/m + 2(x − μ)·gσ²/m − r²·x̂·gr/m        gγ = Σ gy·x̂        gβ = Σ gy

(Ioffe & Szegedy, arXiv:1502.03167, section 3, here with the statistics as outputs.) Being complete in the gradients of
μ, σ² and r is what makes every higher derivative right: backward uses them as ordinary values of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.backend import accumulation_dtype, is_floating, namespace
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.op import Op, apply, inputs, outputs, sum_to, value
from minigrad.ops.elementwise import cast, rsqrt, stop_gradient

__all__ = ["batch_norm", "batch_norm_inference", "layer_norm", "moments", "normalize", "scale_shift"]


def moments(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Mean and biased variance over `axes`, which stay with length 1; in float32 or wider.

    The statistics are taken of x − s, with s one value of each set, held constant: any s gives the same derivatives,
    and a set of equal values gives exactly that value and variance 0. The mean is then refined by the mean of what is
    left, which is rounding error (E[x²] − E[x]² would lose all digits at a mean of 10⁴). Where a square overflows,
    float64 is used: only then is the variance of finite values not finite.
    """
    x = cast(x, accumulation_dtype(value(x).dtype))
    xp = namespace(x)
    m = math.prod(x.shape[a] for a in axes)
    if m == 0:
        nothing = xp.sum(x, axis=axes, keepdims=True)
        return nothing, nothing
    k = 1 / m
    first = stop_gradient(x)[tuple(slice(0, 1) if a in axes else slice(None) for a in range(x.ndim))]
    with np.errstate(over="ignore", invalid="ignore"):
        d = x - first
        offset = xp.sum(d, axis=axes, keepdims=True) * k
        d = d - offset
        rest = xp.sum(d, axis=axes, keepdims=True) * k
        d = d - rest
        variance = xp.sum(d * d, axis=axes, keepdims=True) * k
        mean = first + (offset + rest)
    if x.dtype != np.float64 and not _all_finite(variance) and _all_finite(x):
        return moments(cast(x, np.float64), axes)
    return mean, variance


def _all_finite(x: Any) -> bool:
    array = value(x)
    return bool(namespace(array).isfinite(array).all())


def normalize(x: Any, mean: Any, rstd: Any) -> Any:
    """x̂ = (x − μ)·r."""
    return (x - mean) * rstd


def scale_shift(x: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    """γ·x̂ + β, with γ and β (either may be None) viewed in `shape`, which broadcasts against x̂."""
    if weight is not None:
        x = namespace(weight).reshape(weight, shape) * x
    return x if bias is None else x + namespace(bias).reshape(bias, shape)


class Normalization(Op):
    """(y, μ, σ², r) = (γ·x̂ + β, ⟨x⟩, ⟨(x − μ)²⟩, (σ² + ε)^−½);   gradients: at the head of this file

    axes : the axes over which statistics are shared
    param_shape : the shape in which γ and β broadcast against x
    """

    __slots__ = ("axes", "param_shape", "eps", "_parameter")
    _parameter: tuple[int, ...]
    n_out = 4
    widens = True
    broadcasts = True  # γ and β against x, and they may differ from it and from each other in dtype
    keeps = inputs(0, when=(0, 1)) + inputs(1, when=0) + outputs(1, 3, when=(0, 1))

    def __init__(self, axes, param_shape, eps):
        self.axes, self.param_shape, self.eps = axes, param_shape, eps

    def forward(self, x, weight, bias):
        parameter = bias if weight is None else weight
        self._parameter = () if parameter is None else parameter.shape
        mean, variance = moments(x, self.axes)
        rstd = rsqrt(variance + self.eps)
        y = scale_shift(normalize(cast(x, mean.dtype), mean, rstd), weight, bias, self.param_shape)
        return cast(y, x.dtype), mean, variance, rstd

    def backward(self, saved, needs, gy, gmean, gvariance, grstd):
        x, weight, mean, rstd = saved
        gx = gweight = gbias = None
        if gy is not None:
            wide = cast(gy, accumulation_dtype(value(gy).dtype))
            if needs[0] or needs[1]:
                xhat = normalize(cast(x, mean.dtype), mean, rstd)
            if needs[0]:
                gx = self._through_y(wide, xhat, weight, rstd)
            if needs[1]:
                gweight = self._to_parameter(wide * xhat)
            if needs[2]:
                gbias = self._to_parameter(wide)
        if needs[0]:
            gx = self._through_statistics(gx, x, mean, rstd, gmean, gvariance, grstd)
        return gx, gweight, gbias

    def _weight_of_one(self, shape):
        """1/m; any number does where there is no element."""
        return 1 / max(1, math.prod(shape[a] for a in self.axes))

    def _through_y(self, gy, xhat, weight, rstd):
        """r·(ĝ − ⟨ĝ⟩ − x̂·⟨ĝ·x̂⟩): symmetric in ĝ, and shared by the whole family."""
        xp = namespace(gy)
        k = self._weight_of_one(gy.shape)
        if weight is not None:
            gy = gy * xp.reshape(weight, self.param_shape)
        mean_g = xp.sum(gy, axis=self.axes, keepdims=True) * k
        mean_gx = xp.sum(gy * xhat, axis=self.axes, keepdims=True) * k
        return rstd * (gy - mean_g - xhat * mean_gx)

    def _through_statistics(self, gx, x, mean, rstd, gmean, gvariance, grstd):
        """gx with gμ/m + 2(x − μ)·gσ²/m − r²·x̂·gr/m added, as far as those gradients exist."""
        k = self._weight_of_one(x.shape)
        if gmean is not None:
            spread = namespace(gmean).broadcast_to(gmean * k, x.shape)
            gx = spread if gx is None else gx + spread
        if gvariance is not None:
            term = (x - mean) * (gvariance * (2 * k))
            gx = term if gx is None else gx + term
        if grstd is not None:
            term = (x - mean) * (rstd * rstd * rstd * grstd * -k)
            gx = term if gx is None else gx + term
        return gx

    def _to_parameter(self, g):
        """Sum to the shape of γ and β."""
        return namespace(g).reshape(sum_to(g, self.param_shape), self._parameter)


class BatchNorm(Normalization):
    """Statistics over the batch and all places, per channel (axis 1): formulas at the head of this file."""

    __slots__ = ()


class LayerNorm(Normalization):
    """Statistics over the last axes, per example (Ba et al., arXiv:1607.06450): formulas at the head of this file."""

    __slots__ = ()


class BatchNormInference(Op):
    """y = γ·(x − μ)·r + β with given μ and σ², r = (σ² + ε)^−½: an affine map of x

    gx = gy·γ·r    gμ = −Σ gx    gσ² = −½·r²·Σ gx·(x − μ)    gγ = Σ gy·(x − μ)·r    gβ = Σ gy
    """

    __slots__ = ("param_shape", "eps")
    keeps = inputs(0, when=(2, 3)) + inputs(1, when=(2, 3)) + inputs(2) + inputs(3, when=(0, 1, 2))
    broadcasts = True

    def __init__(self, param_shape, eps):
        self.param_shape, self.eps = param_shape, eps

    def _view(self, a):
        return namespace(a).reshape(a, self.param_shape)

    def forward(self, x, mean, variance, weight, bias):
        wide = cast(x, accumulation_dtype(value(x).dtype))
        y = normalize(wide, self._view(mean), rsqrt(self._view(variance) + self.eps))
        return cast(scale_shift(y, weight, bias, self.param_shape), x.dtype)

    def backward(self, saved, needs, gy):
        x, mean, variance, weight = saved
        gx = gmean = gvariance = gweight = gbias = None
        wide = cast(gy, accumulation_dtype(value(gy).dtype))
        rstd = rsqrt(self._view(variance) + self.eps)
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
        return (gx if needs[0] else None), gmean, gvariance, gweight, gbias

    def _to_parameter(self, g):
        return namespace(g).reshape(sum_to(g, self.param_shape), (-1,))


# ------------------------------------------------------------------ the functions


def _check(where: str, x: Any, shape: tuple[int, ...], **arrays: Any) -> None:
    """Refuse what is not floating point, and arrays that are not of `shape`."""
    if not is_floating(value(x).dtype):
        raise DtypeError(where, got=f"input of dtype {x.dtype}", wanted="floating point")
    for name, a in arrays.items():
        if a is not None and tuple(a.shape) != shape:
            raise ShapeError(where, got=f"{name} of shape {tuple(a.shape)} for input {tuple(x.shape)}",
                             wanted=f"shape {shape}")


def _check_eps(where: str, eps: float) -> None:
    if not eps >= 0:
        raise ArgumentError(where, got=f"eps={eps}", wanted="eps ≥ 0")


def _channels(where: str, x: Any) -> tuple[int, tuple[int, ...]]:
    """The number of channels, and the shape in which one value per channel broadcasts against x."""
    if x.ndim < 2:
        raise ShapeError(where, got=f"input of shape {tuple(x.shape)}", wanted="(N, C) or (N, C, …)")
    return x.shape[1], (1, x.shape[1]) + (1,) * (x.ndim - 2)


def batch_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> tuple[Any, Any, Any, Any]:
    """Normalize each channel by the statistics of this batch. Pure: nothing is updated.

    Parameters
    ----------
    x : (N, C) or (N, C, …), floating point
    weight, bias : (C,) or None
        γ and β.
    eps : float
        Added to the variance, under the root.

    Returns
    -------
    y : shape and dtype of x
    mean, variance, rstd : (1, C, 1, …), float32 or wider
        The biased variance, and (variance + eps)^−½. All four may be differentiated.

    Raises
    ------
    ShapeError
        A shape does not fit, or there is only one value per channel (a ValueError): its variance says nothing.
    """
    channels, shape = _channels("batch_norm", x)
    _check("batch_norm", x, (channels,), weight=weight, bias=bias)
    _check_eps("batch_norm", eps)
    if math.prod(x.shape) == channels:
        raise ShapeError(
            "batch_norm", got=f"input of shape {tuple(x.shape)}", wanted="more than one value per channel in training",
            hint="Drop a last batch of one (drop_last=True), switch to evaluation (.eval()), or use layer_norm")
    axes = (0, *range(2, x.ndim))
    y, mean, variance, rstd = apply(BatchNorm(axes, shape, eps), x, weight, bias)
    return y, mean, variance, rstd


def batch_norm_inference(x: Any, mean: Any, variance: Any, weight: Any = None, bias: Any = None,
                         eps: float = 1e-5) -> Any:
    """Normalize each channel by given statistics: an affine map, differentiable in all five arguments.

    Parameters
    ----------
    x : (N, C) or (N, C, …), floating point
    mean, variance : (C,)
    weight, bias : (C,) or None
    eps : float
        Added to the variance, under the root.
    """
    channels, shape = _channels("batch_norm", x)
    _check("batch_norm", x, (channels,), running_mean=mean, running_var=variance, weight=weight, bias=bias)
    _check_eps("batch_norm", eps)
    return apply(BatchNormInference(shape, eps), x, mean, variance, weight, bias)


def layer_norm(x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None,
               eps: float = 1e-5) -> Any:
    """Normalize each example over its last axes.

    Parameters
    ----------
    x : (…, *normalized_shape), floating point
    normalized_shape : int or tuple of int
        The lengths of the axes that share statistics.
    weight, bias : of shape normalized_shape, or None
    eps : float
        Added to the variance, under the root.

    Returns
    -------
    y : shape and dtype of x
    """
    shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not shape or tuple(x.shape[x.ndim - len(shape) :]) != shape or x.ndim < len(shape):
        raise ShapeError("layer_norm", got=f"input of shape {tuple(x.shape)}", wanted=f"last axes of {shape}")
    _check("layer_norm", x, shape, weight=weight, bias=bias)
    _check_eps("layer_norm", eps)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return apply(LayerNorm(axes, shape, eps), x, weight, bias)[0]
