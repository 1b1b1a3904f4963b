"""Normalizations under torch's names. They are pure: unlike torch's, none writes anything into its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError, ShapeError

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]


def batch_norm(input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
               training: bool = False, momentum: float | None = 0.1, eps: float = 1e-5, *, mask: Any = None,
               activation: str | None = None, residual: Any = None) -> Any:
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
    mask : bool, (N, …) without the channels or broadcastable to the input, optional
        Which elements count: the others (padding) stay out of the statistics, give 0 and receive no gradient.
    activation : "relu" or "sigmoid", optional
        Applied to the result, in training by the same operation. Not with a mask.
    residual : shape of the input, optional
        Added before the activation, in training by the same operation where there is one. Not with a mask.

    Raises
    ------
    ArgumentError
        Evaluation without running statistics, or another activation.
    ShapeError
        A shape does not fit, or training with one value per channel.
    """
    _fit("batch_norm", input, running_mean=running_mean, running_var=running_var)
    if training:
        return ops.batch_norm(input, weight, bias, eps, mask, activation, residual)[0]
    if running_mean is None or running_var is None:
        raise ArgumentError("batch_norm", got="training=False without running statistics",
                            wanted="running_mean and running_var, or training=True")
    return ops.batch_norm_inference(input, running_mean, running_var, weight, bias, eps, mask, activation,
                                    residual)


def _fit(where: str, input: Any, **statistics: Any) -> None:
    """Refuse running statistics of another length than the channels, used or not."""
    for name, given in statistics.items():
        if given is not None and input.ndim > 1 and tuple(given.shape) != (input.shape[1],):
            raise ShapeError(where, got=f"{name} {tuple(given.shape)} for input {tuple(input.shape)}",
                             wanted=f"({input.shape[1]},)")


def instance_norm(input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
                  use_input_stats: bool = True, momentum: float | None = 0.1, eps: float = 1e-5) -> Any:
    """Normalize each channel of each example: by its own statistics, or by the running ones.

    Parameters
    ----------
    input : (N, C, …) with at least one axis of places
    running_mean, running_var : (C,) or None
        Used without `use_input_stats` only, and never changed: `InstanceNorm` layers keep them up to date.
    weight, bias : (C,), optional
    use_input_stats : bool
        Which statistics to use.
    momentum : float, optional
        There for torch's signature; without effect, as nothing is updated here.
    eps : float
        Added to the variance, under the root.

    Raises
    ------
    ArgumentError
        ``use_input_stats=False`` without running statistics.
    ShapeError
        A shape does not fit, or a channel has one value per example and its statistics are wanted.
    """
    _fit("instance_norm", input, running_mean=running_mean, running_var=running_var)
    if use_input_stats:
        return ops.instance_norm(input, weight, bias, eps)[0]
    if running_mean is None or running_var is None:
        raise ArgumentError("instance_norm", got="use_input_stats=False without running statistics",
                            wanted="running_mean and running_var, or use_input_stats=True")
    return ops.batch_norm_inference(input, running_mean, running_var, weight, bias, eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalize groups of neighbouring channels of each example (see `minigrad.ops.group_norm`).

    Parameters
    ----------
    input : (N, C) or (N, C, …)
    num_groups : int
        Divides C.
    weight, bias : (C,), optional
    eps : float
        Added to the variance, under the root.
    """
    return ops.group_norm(input, num_groups, weight, bias, eps)


def layer_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None,
               eps: float = 1e-5, *, mask: Any = None) -> Any:
    """Normalize each example over its last axes.

    Parameters
    ----------
    input : (…, *normalized_shape)
    normalized_shape : int or sequence of int
        The lengths of the axes that share statistics.
    weight, bias : of shape normalized_shape, optional
    eps : float
        Added to the variance, under the root.
    mask : bool, of the input's shape without the last axes or broadcastable to it, optional
        Which elements count: the others (padding) stay out of the statistics, give 0 and receive no gradient.
    """
    return ops.layer_norm(input, normalized_shape, weight, bias, eps, mask)


def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """Divide each example by the root of its mean square over its last axes.

    Parameters
    ----------
    input : (…, *normalized_shape)
    normalized_shape : int or sequence of int
    weight : of shape normalized_shape, optional
    eps : float, optional
        Added to the mean square, under the root. None means the spacing of the dtype in which it is taken, at 1.
    """
    return ops.rms_norm(input, normalized_shape, weight, eps)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """input / (k + alpha·⟨input²⟩)^beta, with the mean over `size` neighbouring channels.

    Parameters
    ----------
    input : (N, C) or (N, C, …)
    size : int
        The number of channels in a window, missing ones counting as 0.
    alpha, beta, k : float
    """
    return ops.local_response_norm(input, size, alpha, beta, k)
