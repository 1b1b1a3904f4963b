"""Normalizations under torch's names. They are pure: unlike torch's, `batch_norm` writes nothing into its arguments."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError

__all__ = ["batch_norm", "layer_norm"]

layer_norm = ops.layer_norm


def batch_norm(input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
               training: bool = False, momentum: float | None = 0.1, eps: float = 1e-5) -> Any:
    """Normalize each channel: by the statistics of this batch in training, by the running ones otherwise.

    Parameters
    ----------
    input : (N, C) or (N, C, …)
    running_mean, running_var : (C,) or None
        Used in evaluation only, and never changed: `BatchNorm` layers keep them up to date.
    weight, bias : (C,), optional
    training : bool
        Which statistics to use.
    momentum : float, optional
        There for torch's signature; without effect, as nothing is updated here.
    eps : float
        Added to the variance, under the root.

    Raises
    ------
    ArgumentError
        Evaluation without running statistics.
    ShapeError
        A shape does not fit, or training with one value per channel.
    """
    if training:
        return ops.batch_norm(input, weight, bias, eps)[0]
    if running_mean is None or running_var is None:
        raise ArgumentError("batch_norm", got="training=False without running statistics",
                            wanted="running_mean and running_var, or training=True")
    return ops.batch_norm_inference(input, running_mean, running_var, weight, bias, eps)
