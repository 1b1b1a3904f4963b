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

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from minigrad.backend import accumulation_dtype, astype, is_floating, namespace
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.op import Op, apply, inputs, outputs, value
from minigrad.ops.arithmetic import where as _where
from minigrad.ops.elementwise import cast
from minigrad.ops.shape import reshape
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

__all__ = ["batch_norm", "batch_norm_inference", "group_norm", "instance_norm", "layer_norm", "rms_norm"]


class _Family(Op):
    """What all share: the axes of statistics, the shape of the parameters, ε, and the way back through statistics."""

    __slots__ = ("axes", "param_shape", "eps", "_parameter")
    _parameter: tuple[int, ...]
    broadcasts = True  # γ and β against x, and they may differ from it and from each other in dtype
    widens = True
    centred: ClassVar[bool] = True

    def __init__(self, axes, param_shape, eps):
        self.axes, self.param_shape, self.eps = axes, param_shape, eps

    def _remember(self, weight, bias):
        """The shape of γ and β, for their gradients."""
        parameter = bias if weight is None else weight
        self._parameter = () if parameter is None else parameter.shape

    def absent(self, i):
        """Whether input i is known to have been None, for `minigrad.expansion`, which finds no array for it."""
        return i in (1, 2) and self._parameter == ()

    def _through_y(self, gy, xhat, weight, rstd, mask=None):
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
        gx = gweight = gbias = None
        if gy is not None:
            gy = kept_where(cast(gy, accumulation_dtype(value(gy).dtype)), mask)
            if needs[0] or needs[1]:
                xhat = kept_where(normalize(cast(x, mean.dtype), mean, rstd), mask)
            if needs[0]:
                gx = self._through_y(gy, xhat, weight, rstd, mask)
            if needs[1]:
                gweight = self._to_parameter(gy * xhat)
            if needs[2]:
                gbias = self._to_parameter(gy)
        if needs[0]:
            gx = self._through_statistics(gx, x, mean, rstd, mask, gmean, gvariance, grstd)
            gx = gx if gx is None else cast(kept_where(gx, mask), value(x).dtype)
        return (gx, gweight, gbias, None)[: len(needs)]


class BatchNorm(Normalization):
    """y = γ·(x − μ)·(σ² + ε)^−½ + β, with μ and σ² over the batch and all places, per channel (axis 1)"""

    __slots__ = ()


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
        gx = gweight = gbias = None
        if gy is not None:
            gy = cast(gy, accumulation_dtype(value(gy).dtype))
            if needs[0] or needs[1]:
                xhat = cast(x, rstd.dtype) * rstd
            if needs[0]:
                gx = self._through_y(gy, xhat, weight, rstd)
            if needs[1]:
                gweight = self._to_parameter(gy * xhat)
            if needs[2]:
                gbias = self._to_parameter(gy)
        if needs[0]:
            gx = self._through_statistics(gx, x, None, rstd, None, None, gsquare, grstd)
            gx = gx if gx is None else cast(gx, value(x).dtype)
        return gx, gweight, gbias


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


# ------------------------------------------------------------------ arguments


def _check(where: str, x: Any, shape: tuple[int, ...], eps: float, **arrays: Any) -> None:
    """Refuse what is not floating point, arrays that are not of `shape`, and a negative ε."""
    if not is_floating(value(x).dtype):
        raise DtypeError(where, got=f"input of dtype {x.dtype}", wanted="floating point")
    for name, a in arrays.items():
        if a is not None and tuple(a.shape) != shape:
            raise ShapeError(where, got=f"{name} of shape {tuple(a.shape)} for input {tuple(x.shape)}",
                             wanted=f"shape {shape}")
    if not eps >= 0:
        raise ArgumentError(where, got=f"eps={eps}", wanted="eps ≥ 0")


def _channels(where: str, x: Any) -> tuple[int, tuple[int, ...]]:
    """The number of channels, and the shape in which one value per channel broadcasts against x."""
    if x.ndim < 2:
        raise ShapeError(where, got=f"input of shape {tuple(x.shape)}", wanted="(N, C) or (N, C, …)")
    return x.shape[1], (1, x.shape[1]) + (1,) * (x.ndim - 2)


def _last_axes(where: str, x: Any, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """`normalized_shape` as a tuple that fits the last axes of x."""
    shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not shape or x.ndim < len(shape) or tuple(x.shape[x.ndim - len(shape) :]) != shape:
        raise ShapeError(where, got=f"input of shape {tuple(x.shape)}", wanted=f"last axes of {shape}")
    return shape


def _mask(where: str, x: Any, mask: Any, without: tuple[int, ...]) -> Any:
    """A mask as an array that broadcasts against x: of x's rank, or of its shape without the axes `without`."""
    mask = value(mask)
    if mask.dtype != bool:
        raise DtypeError(where, got=f"mask of dtype {mask.dtype}", wanted="bool", hint="Write mask != 0")
    short = tuple(n for i, n in enumerate(x.shape) if i not in without)
    if tuple(mask.shape) == short:
        mask = reshape(mask, tuple(1 if i in without else n for i, n in enumerate(x.shape)))
    if mask.ndim != x.ndim or any(n not in (1, wanted) for n, wanted in zip(mask.shape, x.shape)):
        raise ShapeError(where, got=f"mask of shape {tuple(mask.shape)} for input {tuple(x.shape)}",
                         wanted=f"{short}, or a shape of the input's rank that broadcasts to it")
    return mask


def counts(mask: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """How many elements of every set a mask counts, over `axes` of an array of `shape`, as an integer array."""
    xp = namespace(mask)
    return xp.sum(astype(xp.broadcast_to(mask, shape), np.int64), axis=axes)


def _refuse_single(where: str, x: Any, fewest: int) -> None:
    """Statistics of one value say nothing: its variance is 0. An empty input passes."""
    if fewest <= 1 and math.prod(x.shape):
        raise ShapeError(
            where, got=f"input of shape {tuple(x.shape)} with {fewest} values to take statistics of",
            wanted="more than one value per channel in training",
            hint="Drop a last batch of one (drop_last=True), switch to evaluation (.eval()), or use layer_norm "
                 "or group_norm")


# ------------------------------------------------------------------ the functions


def batch_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               mask: Any = None) -> tuple[Any, Any, Any, Any]:
    """Normalize each channel by the statistics of this batch. Pure: nothing is updated.

    Parameters
    ----------
    x : (N, C) or (N, C, …), floating point
    weight, bias : (C,) or None
        γ and β.
    eps : float
        Added to the variance, under the root.
    mask : bool, (N, …) without the channels or broadcastable to x, optional
        Which elements count: the others (padding) stay out of the statistics, give 0 and receive no gradient.

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
    _check("batch_norm", x, (channels,), eps, weight=weight, bias=bias)
    axes = (0, *range(2, x.ndim))
    if mask is None:
        _refuse_single("batch_norm", x, math.prod(x.shape) // max(channels, 1))
        y, mean, variance, rstd = apply(BatchNorm(axes, shape, eps), x, weight, bias)
        return y, mean, variance, rstd
    mask = _mask("batch_norm", x, mask, (1,))
    per_channel = counts(mask, x.shape, axes)
    _refuse_single("batch_norm", x, int(namespace(mask).min(per_channel)) if channels else 0)
    y, mean, variance, rstd = apply(MaskedNorm(axes, shape, eps), x, weight, bias, mask)
    return y, mean, variance, rstd


def batch_norm_inference(x: Any, mean: Any, variance: Any, weight: Any = None, bias: Any = None,
                         eps: float = 1e-5, mask: Any = None) -> Any:
    """Normalize each channel by given statistics: an affine map, differentiable in all five arguments.

    Parameters
    ----------
    x : (N, C) or (N, C, …), floating point
    mean, variance : (C,)
    weight, bias : (C,) or None
    eps : float
        Added to the variance, under the root.
    mask : bool, optional
        As for `batch_norm`.
    """
    channels, shape = _channels("batch_norm", x)
    _check("batch_norm", x, (channels,), eps, running_mean=mean, running_var=variance, weight=weight, bias=bias)
    if mask is None:
        return apply(BatchNormInference(shape, eps), x, mean, variance, weight, bias)
    mask = _mask("batch_norm", x, mask, (1,))
    # Before as well as after: what stands in padding may not even be a number.
    y = apply(BatchNormInference(shape, eps), _where(mask, x, 0.0), mean, variance, weight, bias)
    return _where(mask, y, 0.0)


def instance_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> tuple[Any, Any, Any, Any]:
    """Normalize each channel of each example by its own statistics.

    Parameters
    ----------
    x : (N, C, …) with at least one axis of places, floating point
    weight, bias : (C,) or None
        γ and β.
    eps : float
        Added to the variance, under the root.

    Returns
    -------
    y : shape and dtype of x
    mean, variance, rstd : (N, C, 1, …), float32 or wider
        The biased variance, and (variance + eps)^−½. All four may be differentiated.

    Raises
    ------
    ShapeError
        A shape does not fit, or a channel of an example has only one value.
    """
    channels, shape = _channels("instance_norm", x)
    if x.ndim < 3:
        raise ShapeError("instance_norm", got=f"input of shape {tuple(x.shape)}", wanted="(N, C, …) with places")
    _check("instance_norm", x, (channels,), eps, weight=weight, bias=bias)
    _refuse_single("instance_norm", x, math.prod(x.shape[2:]))
    y, mean, variance, rstd = apply(InstanceNorm(tuple(range(2, x.ndim)), shape, eps), x, weight, bias)
    return y, mean, variance, rstd


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalize groups of neighbouring channels of each example.

    Parameters
    ----------
    x : (N, C) or (N, C, …), floating point
    num_groups : int
        Divides C; group g has the channels g·C/G to (g + 1)·C/G − 1.
    weight, bias : (C,) or None
        γ and β.
    eps : float
        Added to the variance, under the root.

    Returns
    -------
    y : shape and dtype of x

    Raises
    ------
    ArgumentError
        The number of groups does not divide the number of channels; the message lists those that do.
    ShapeError
        A shape does not fit, or the whole batch has one value per group, as in torch.
    """
    channels, _ = _channels("group_norm", x)
    check_groups("group_norm", num_groups, channels)
    _check("group_norm", x, (channels,), eps, weight=weight, bias=bias)
    n, places, size = x.shape[0], tuple(x.shape[2:]), channels // num_groups
    _refuse_single("group_norm", x, n * size * math.prod(places))
    op = GroupNorm(tuple(range(2, x.ndim + 1)), (1, num_groups, size, *(1,) * len(places)), eps)
    y = apply(op, reshape(x, (n, num_groups, size, *places)), weight, bias)[0]
    return reshape(y, tuple(x.shape))


def check_groups(where: str, num_groups: int, channels: int) -> None:
    """Refuse a number of groups that does not divide the number of channels."""
    if num_groups < 1 or channels % num_groups:
        valid = ", ".join(str(g) for g in range(1, channels + 1) if channels % g == 0)
        raise ArgumentError(where, got=f"{num_groups} groups for {channels} channels",
                            wanted=f"a number that divides {channels}: {valid}")


def layer_norm(x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None,
               eps: float = 1e-5, mask: Any = None) -> Any:
    """Normalize each example over its last axes.

    Parameters
    ----------
    x : (…, *normalized_shape), floating point
    normalized_shape : int or tuple of int
        The lengths of the axes that share statistics.
    weight, bias : of shape normalized_shape, or None
    eps : float
        Added to the variance, under the root.
    mask : bool, of x's shape without the last axes or broadcastable to x, optional
        Which elements count: the others (padding) stay out of the statistics, give 0 and receive no gradient.

    Returns
    -------
    y : shape and dtype of x
    """
    shape = _last_axes("layer_norm", x, normalized_shape)
    _check("layer_norm", x, shape, eps, weight=weight, bias=bias)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    if mask is None:
        return apply(LayerNorm(axes, shape, eps), x, weight, bias)[0]
    return apply(MaskedNorm(axes, shape, eps), x, weight, bias, _mask("layer_norm", x, mask, axes))[0]


def rms_norm(x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """Divide each example by the root of its mean square over the last axes.

    Parameters
    ----------
    x : (…, *normalized_shape), floating point
    normalized_shape : int or tuple of int
    weight : of shape normalized_shape, or None
    eps : float, optional
        Added to the mean square, under the root. None means the spacing of the dtype in which it is taken, at 1.

    Returns
    -------
    y : shape and dtype of x
    """
    shape = _last_axes("rms_norm", x, normalized_shape)
    _check("rms_norm", x, shape, 0.0 if eps is None else eps, weight=weight)
    if eps is None:
        eps = float(np.finfo(accumulation_dtype(value(x).dtype)).eps)
    return apply(RMSNorm(tuple(range(x.ndim - len(shape), x.ndim)), shape, eps), x, weight, None)[0]
