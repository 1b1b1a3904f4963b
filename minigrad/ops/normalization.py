"""The normalizations as functions: what they refuse, and the operation that each is."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.backend import accumulation_dtype, astype, is_array, is_floating, namespace, number
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.op import apply, beside, value
from minigrad.ops.arithmetic import where as _where
from minigrad.ops.normalization_texts import (
    ACTIVATIONS,
    ActivatedBatchNorm,
    BatchNorm,
    BatchNormInference,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    MaskedNorm,
    ResidualBatchNorm,
    RMSNorm,
)
from minigrad.ops.shape import reshape

__all__ = ["batch_norm", "batch_norm_inference", "group_norm", "instance_norm", "layer_norm", "rms_norm"]

# ------------------------------------------------------------------ arguments


class _Given(NamedTuple):
    """Shape and dtype of an argument. What the checks say depends on nothing else, so it is remembered by them."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def ndim(self) -> int:
        return len(self.shape)


Shape = tuple[int, ...]


def _given(dtype: Any, *shapes: Shape | None) -> tuple[Any, ...]:
    """`_Given` for every shape; None for None."""
    return tuple([None if shape is None else _Given(shape, dtype) for shape in shapes])


#: Operations with checked arguments that are remembered, of each function.
REMEMBERED = 1024


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


def _refuse_activation(activation: str | None, mask: Any, x: Any = None, residual: Any = None) -> None:
    """Refuse an activation that BatchNorm cannot apply, a residual of another shape, and both together with a mask."""
    if activation is not None and activation not in ACTIVATIONS:
        raise ArgumentError("batch_norm", got=f"activation={activation!r}", wanted=f"one of {', '.join(ACTIVATIONS)}")
    if activation is not None and mask is not None:
        raise ArgumentError("batch_norm", got=f"activation={activation!r} and a mask", wanted="one of the two")
    if residual is not None and mask is not None:
        raise ArgumentError("batch_norm", got="a residual and a mask", wanted="one of the two")
    shape = tuple(getattr(residual, "shape", ()))
    if residual is not None and shape != tuple(x.shape):
        raise ShapeError("batch_norm", got=f"residual of shape {shape} for input {tuple(x.shape)}", wanted="one shape")


def _mask(where: str, x: Any, mask: Any, without: tuple[int, ...]) -> Any:
    """A mask as an array that broadcasts against x: of x's rank, or of its shape without the axes `without`."""
    mask = beside(value(mask), x)
    if not is_array(mask) or mask.dtype != bool:
        got = f"mask of dtype {mask.dtype}" if is_array(mask) else f"mask of type {type(mask).__name__}"
        raise DtypeError(where, got=got, wanted="an array of bool", hint="Write mask != 0")
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


#: By function: of what there has to be more than one value, and what to do else.
SETS = {
    "batch_norm": ("channel in training",
                   "Drop a last batch of one (drop_last=True), call .eval(), or use layer_norm or group_norm"),
    "instance_norm": ("channel of an example", "For maps of one place use layer_norm or group_norm"),
    "group_norm": ("group", "Use fewer groups"),
}


def _refuse_single(where: str, x: Any, fewest: int) -> None:
    """Statistics of one value say nothing: its variance is 0. An empty input passes."""
    if fewest <= 1 and math.prod(x.shape):
        kind, remedy = SETS[where]
        raise ShapeError(
            where, got=f"input of shape {tuple(x.shape)} with {fewest or 'no'} value to take statistics of",
            wanted=f"more than one value per {kind}", hint=remedy)


# ------------------------------------------------------------------ the functions


def batch_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, mask: Any = None,
               activation: str | None = None, residual: Any = None,
               values: bool = False) -> tuple[Any, Any, Any, Any]:
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
    activation : "relu" or "sigmoid", optional
        Applied to y by the same operation. Not with a mask.
    residual : shape of x, optional
        Added to y before the activation, and by the same operation where there is one. Not with a mask.
    values : bool
        Give mean, variance and rstd as plain arrays: for a caller that will not differentiate them.

    Returns
    -------
    y : shape and dtype of x
    mean, variance, rstd : (1, C, 1, …), float32 or wider
        The biased variance, and (variance + eps)^−½. All four may be differentiated.

    Raises
    ------
    ShapeError
        A shape does not fit, or there is only one value per channel (a ValueError): its variance says nothing.
    ArgumentError
        ε is negative, or the activation is another.
    """
    if mask is None:
        op = checked_batch_norm(x.shape, x.dtype, None if weight is None else weight.shape,
                                None if bias is None else bias.shape, eps, activation, residual is not None)
        if residual is None:
            return apply(op, x, weight, bias, first=values)  # type: ignore[no-any-return]
        _refuse_activation(activation, mask, x, residual)
        if activation is not None:
            return apply(op, x, weight, bias, residual, first=values)  # type: ignore[no-any-return]
        y, mean, variance, rstd = apply(op, x, weight, bias, first=values)
        return y + residual, mean, variance, rstd
    channels, shape = _channels("batch_norm", x)
    _check("batch_norm", x, (channels,), eps, weight=weight, bias=bias)
    _refuse_activation(activation, mask, x, residual)
    mask = _mask("batch_norm", x, mask, (1,))
    axes = (0, *range(2, x.ndim))
    counted = counts(mask, x.shape, axes)
    _refuse_single("batch_norm", x, number(namespace(counted).min(counted)) if channels else 0)
    return apply(MaskedNorm(axes, shape, eps), x, weight, bias, mask, first=values)  # type: ignore[no-any-return]


@functools.lru_cache(REMEMBERED)
def checked_batch_norm(shape_of_x: Shape, dtype: Any, shape_of_weight: Shape | None, shape_of_bias: Shape | None,
                       eps: float, activation: str | None, residual: bool) -> BatchNorm:
    """The operation without a mask, once all has been checked. The same object for the same arguments."""
    x, weight, bias = _given(dtype, shape_of_x, shape_of_weight, shape_of_bias)
    channels, shape = _channels("batch_norm", x)
    _check("batch_norm", x, (channels,), eps, weight=weight, bias=bias)
    _refuse_single("batch_norm", x, math.prod(x.shape) // max(channels, 1))
    axes = (0, *range(2, x.ndim))
    if activation is None:
        return BatchNorm(axes, shape, eps)
    _refuse_activation(activation, None)
    return (ResidualBatchNorm if residual else ActivatedBatchNorm)(axes, shape, eps, activation)


def batch_norm_inference(x: Any, mean: Any, variance: Any, weight: Any = None, bias: Any = None,
                         eps: float = 1e-5, mask: Any = None, activation: str | None = None,
                         residual: Any = None) -> Any:
    """Normalize each channel by given statistics: an affine map, differentiable in all five arguments.

    Parameters
    ----------
    x : (N, C) or (N, C, …), floating point
    mean, variance : (C,)
    weight, bias : (C,) or None
    eps : float
        Added to the variance, under the root.
    mask : bool, optional
    activation : "relu" or "sigmoid", optional
    residual : shape of x, optional
        As for `batch_norm`; the sum and the activation are operations of their own.
    """
    _refuse_activation(activation, mask, x, residual)
    channels, shape = _channels("batch_norm", x)
    _check("batch_norm", x, (channels,), eps, running_mean=mean, running_var=variance, weight=weight, bias=bias)
    if mask is None:
        y = apply(BatchNormInference(shape, eps), x, mean, variance, weight, bias)
        y = y if residual is None else y + residual
        return y if activation is None else apply(ACTIVATIONS[activation], y)
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
    last = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else normalized_shape
    op = _layer_norm(x.shape, x.dtype, None if weight is None else weight.shape, None if bias is None else bias.shape,
                     last, eps)
    if mask is None:
        return apply(op, x, weight, bias, first=True)[0]
    masked = MaskedNorm(op.axes, op.param_shape, eps)
    return apply(masked, x, weight, bias, _mask("layer_norm", x, mask, op.axes))[0]


@functools.lru_cache(REMEMBERED)
def _layer_norm(shape_of_x: Shape, dtype: Any, shape_of_weight: Shape | None, shape_of_bias: Shape | None,
                normalized_shape: int | tuple[int, ...], eps: float) -> LayerNorm:
    """The operation without a mask, once all has been checked."""
    x, weight, bias = _given(dtype, shape_of_x, shape_of_weight, shape_of_bias)
    shape = _last_axes("layer_norm", x, normalized_shape)
    _check("layer_norm", x, shape, eps, weight=weight, bias=bias)
    return LayerNorm(tuple(range(x.ndim - len(shape), x.ndim)), shape, eps)


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
