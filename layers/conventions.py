"""Conventions of Keras and how they are written here: the momentum, and the variance that is kept.

Keras calls the weight of the *old* average momentum (0.99), PyTorch and minigrad that of the *new* batch (0.01). Keras
(and Flax) keep the biased variance, PyTorch and minigrad the unbiased one: they differ by m/(m − 1), with m the number
of values per channel in a batch. And ε is 10⁻³ there, 10⁻⁵ here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import Array, as_array, to_numpy
from minigrad.errors import ArgumentError
from minigrad.layers.batch_norm import BatchNorm
from minigrad.op import value

__all__ = ["batch_norm_from_keras", "batch_norm_to_keras", "biased_variance", "momentum_from_keras",
           "momentum_to_keras", "unbiased_variance"]


def momentum_from_keras(momentum: float) -> float:
    """The weight of the new batch, from that of the old average.

    Examples
    --------
    >>> round(momentum_from_keras(0.99), 12)
    0.01
    """
    if not 0 <= momentum <= 1:
        raise ArgumentError("momentum_from_keras", got=f"momentum={momentum}", wanted="from 0 to 1")
    return 1 - momentum


def momentum_to_keras(momentum: float) -> float:
    """The weight of the old average, from that of the new batch."""
    if not 0 <= momentum <= 1:
        raise ArgumentError("momentum_to_keras", got=f"momentum={momentum}", wanted="from 0 to 1")
    return 1 - momentum


def _bessel(where: str, count: int) -> float:
    if count < 2:
        raise ArgumentError(where, got=f"count={count}", wanted="at least 2 values per channel")
    return count / (count - 1)


def unbiased_variance(variance: Array, count: int) -> Array:
    """Σ(x − μ)²/(m − 1) from Σ(x − μ)²/m, with m = `count` values per channel in a batch.

    Examples
    --------
    >>> import numpy as np
    >>> unbiased_variance(np.array([3.0]), 4)
    array([4.])
    """
    return variance * _bessel("unbiased_variance", count)


def biased_variance(variance: Array, count: int) -> Array:
    """Σ(x − μ)²/m from Σ(x − μ)²/(m − 1), with m = `count` values per channel in a batch."""
    return variance / _bessel("biased_variance", count)


def batch_norm_from_keras(moving_mean: Any, moving_variance: Any, gamma: Any = None, beta: Any = None,
                          momentum: float = 0.99, epsilon: float = 1e-3, count: int | None = None) -> BatchNorm:
    """A layer out of the weights and settings of a Keras BatchNormalization over axis 1.

    Parameters
    ----------
    moving_mean, moving_variance : (C,) arrays
    gamma, beta : (C,) arrays, optional
        None where `scale` or `center` was off. A layer with β alone has a γ of 1 that is not trained.
    momentum, epsilon : float
        As Keras has them.
    count : int, optional
        The number of values per channel in a batch, N·H·W: the variance is then made unbiased, as the layer keeps it
        when it goes on training. Without it the variance is taken over as it is, and the layer evaluates exactly as
        Keras' does.

    Returns
    -------
    BatchNorm
    """
    mean, variance = (np.asarray(to_numpy(as_array(value(a)))) for a in (moving_mean, moving_variance))
    variance = variance if count is None else unbiased_variance(variance, count)
    affine = gamma is not None or beta is not None
    layer = BatchNorm(len(mean), epsilon, momentum_from_keras(momentum), affine, dtype=mean.dtype,
                      bias=beta is not None)
    layer.load_state_dict({"running_mean": mean, "running_var": variance}, strict=False)
    for parameter, given in ((layer.weight, gamma), (layer.bias, beta)):
        if parameter is not None and given is not None:
            parameter.assign(given)
    if layer.weight is not None and gamma is None:
        layer.weight.requires_grad_(False)
    return layer


def batch_norm_to_keras(layer: BatchNorm, count: int | None = None) -> dict[str, Any]:
    """The weights and settings under Keras' names; the inverse of `batch_norm_from_keras`.

    Raises
    ------
    ArgumentError
        The layer has no running statistics, or averages over all batches, for which Keras has no momentum.
    """
    if layer.running_mean is None or layer.running_var is None or layer.momentum is None:
        raise ArgumentError("batch_norm_to_keras", got=repr(layer), wanted="running statistics and a momentum")
    variance = layer.running_var.numpy()
    return {
        "gamma": None if layer.weight is None else layer.weight.numpy(),
        "beta": None if layer.bias is None else layer.bias.numpy(),
        "moving_mean": layer.running_mean.numpy(),
        "moving_variance": variance if count is None else biased_variance(variance, count),
        "momentum": momentum_to_keras(layer.momentum),
        "epsilon": layer.eps,
    }
