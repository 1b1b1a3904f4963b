"""Gradient clipping. Gradients are bound to new Tensors, never scaled in place.

An array of gradients may belong to two parameters, or to somebody who has given it to `backward`. Scaled in place, it
would be scaled twice, or behind somebody's back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.backend import Array, accumulation_dtype, as_array, astype, device_of, namespace, number, transfer
from minigrad.errors import ArgumentError, DtypeError
from minigrad.optim.options import at_least_zero, finite
from minigrad.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients by one number, so that their norm taken together is at most `max_norm`.

    With n the norm of all gradients as one vector, ``g ← g · min(1, max_norm / (n + 1e-6))``, as
    `torch.nn.utils.clip_grad_norm_` computes it.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient are passed over; one that comes twice counts once.
    max_norm : float
        At least 0.
    norm_type : float
        The p > 0 of ``(Σ|g|ᵖ)^(1/p)``; ``inf`` for the largest magnitude.
    error_if_nonfinite : bool
        Refuse a norm that is infinite or NaN. Otherwise such a norm makes all gradients 0 or NaN.

    Returns
    -------
    Tensor
        n, the norm before clipping; without axes, in the gradients' dtype (float32 for half precision or none).

    Raises
    ------
    ArgumentError
        A number is out of its range, or the norm is not finite and `error_if_nonfinite` is set. No gradient has
        changed then.
    DtypeError
        Something is no Tensor.

    Notes
    -----
    A norm that fits the dtype is right even where its squares do not: they are taken of g divided by its largest
    magnitude then. Clipped gradients have no history.

    Examples
    --------
    >>> from minigrad import Parameter
    >>> from minigrad.optim import clip_grad_norm_
    >>> w = Parameter([3.0, 4.0])
    >>> (w * w).sum().backward()
    >>> clip_grad_norm_([w], max_norm=1.0)
    Tensor(10., float32)
    >>> w.grad
    Tensor([0.6, 0.8], float32)
    """
    where = "clip_grad_norm_"
    limit = math.inf if max_norm == math.inf else at_least_zero(where, "max_norm", max_norm)
    order = math.inf if norm_type == math.inf else finite(where, "norm_type", norm_type)
    if order <= 0:
        raise ArgumentError(where, got=f"norm_type={norm_type}", wanted="a number above 0, or inf")
    owners = _with_gradient(where, parameters)
    total = _total([p.grad.data for p in owners], order)
    norm = number(total)
    if error_if_nonfinite and not math.isfinite(norm):
        raise ArgumentError(where, got=f"gradients with the norm {norm}", wanted="a finite norm",
                         hint="error_if_nonfinite=False lets it pass")
    scale = limit / (norm + 1e-6) if math.isfinite(limit) else 1.0
    if not scale >= 1.0:  # NaN scales too, as in torch
        for p in owners:
            p.grad = Tensor.wrap(_scaled(p.grad.data, scale))
    return Tensor.wrap(total)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every element of every gradient into [−clip_value, clip_value]; NaN stays.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient are passed over.
    clip_value : float
        At least 0.

    Raises
    ------
    ArgumentError, DtypeError
        `clip_value` is negative or not finite, or something is no Tensor.

    Examples
    --------
    >>> from minigrad import Parameter
    >>> from minigrad.optim import clip_grad_value_
    >>> w = Parameter([0.25, -4.0])
    >>> (w * w).sum().backward()
    >>> clip_grad_value_([w], 1.0)
    >>> w.grad
    Tensor([ 0.5, -1. ], float32)
    """
    limit = at_least_zero("clip_grad_value_", "clip_value", clip_value)
    for p in _with_gradient("clip_grad_value_", parameters):
        g = p.grad.data
        p.grad = Tensor.wrap(namespace(g).clip(g, -limit, limit))


def _with_gradient(where: str, parameters: Any) -> list[Any]:
    """Those of the parameters that have a gradient, each once."""
    if not isinstance(parameters, Iterable):
        raise DtypeError(where, got=f"parameters of type {type(parameters).__name__}", wanted="an iterable of Tensors",
                         hint="Of a model, pass model.parameters()")
    found = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in found:
        if not isinstance(p, Tensor):
            raise DtypeError(where, got=f"a parameter of type {type(p).__name__}", wanted="a Tensor")
        if p.grad is not None and not isinstance(p.grad, Tensor):
            raise DtypeError(where, got=f"a gradient of type {type(p.grad).__name__}", wanted="a Tensor")
    return [p for p in dict.fromkeys(found) if p.grad is not None]


def _total(gradients: list[Array], order: float) -> Array:
    """The norm of the norms, which is the norm of all: an array without axes on the first gradient's device."""
    if not gradients:
        return np.zeros((), np.float32)
    vectors = [_vector(g) for g in gradients]
    if order == 2.0:
        xp = namespace(vectors[0])
        squares = xp.sum(_gathered([xp.vdot(x, x) for x in vectors]))
        limits = xp.finfo(squares.dtype)
        if limits.smallest_normal / limits.eps < number(squares) < math.inf:
            return xp.asarray(xp.sqrt(squares))
    return namespace(vectors[0]).asarray(_norm(_gathered([_norm(x, order) for x in vectors]), order))


def _vector(x: Array) -> Array:
    """All elements in one axis, in the dtype in which they are summed."""
    return namespace(x).reshape(astype(x, accumulation_dtype(x.dtype)), (-1,))


def _gathered(numbers: list[Array]) -> Array:
    """Numbers, perhaps on several devices, as one array on the first one's."""
    xp = namespace(numbers[0])
    arrays = [as_array(number) for number in numbers]
    return xp.stack([transfer(array, device_of(arrays[0])) for array in arrays])


def _norm(x: Array, order: float) -> Array:
    """(Σ|x|ᵖ)^(1/p) of a vector, by way of magnitudes divided by the largest: no power of those overflows."""
    xp = namespace(x)
    size = xp.abs(x)
    largest = xp.max(size) if size.size else xp.sum(size)  # without elements there is no largest, but their sum is 0
    if order == math.inf or not 0 < number(largest) < math.inf:
        return largest
    return largest * xp.sum((size / largest) ** order) ** (1.0 / order)


def _scaled(gradient: Array, scale: float) -> Array:
    """The gradient times a number; half precision is multiplied in float32 and rounded once."""
    return astype(astype(gradient, accumulation_dtype(gradient.dtype)) * scale, gradient.dtype)
