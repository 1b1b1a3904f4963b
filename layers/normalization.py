"""The normalizations: BatchNorm with its running statistics, and LayerNorm."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from minigrad import functional as F
from minigrad import ops
from minigrad.backend import Array, Device, accumulation_dtype, as_array
from minigrad.errors import ArgumentError, ShapeError, StateError
from minigrad.functional.arguments import whole_number
from minigrad.layers.module import Module
from minigrad.layers.statistics import StatsUpdate, nonfinite_channels
from minigrad.modes import current, layer_path
from minigrad.op import value
from minigrad.tensor import Buffer, Parameter

__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "LayerNorm"]


class BatchNorm(Module):
    """Normalize each channel over the batch and all places; input (N, C) or (N, C, …).

        y = γ·(x − μ) / √(σ² + ε) + β                          (Ioffe & Szegedy, arXiv:1502.03167)

    In training μ and σ² are the mean and the *biased* variance of the batch, and the layer then moves its running
    averages towards them, with the *unbiased* variance (see `StatsUpdate.applied`). In evaluation μ and σ² are the
    running averages, and nothing is written.

    Parameters
    ----------
    num_features : int
        C, at least 1.
    eps : float
        ε ≥ 0, under the root.
    momentum : float or None
        The weight of the *new* batch in the running averages, from 0 to 1. (Keras calls the weight of the old average
        momentum: its 0.99 is 0.01 here.) None makes them the plain average over all batches.
    affine : bool
        Whether there are γ (`weight`, at first 1) and β (`bias`, at first 0).
    track_running_stats : bool
        Whether there are running statistics. Without them the batch's are used in evaluation as well.
    device, dtype
        Where, and of which type, the parameters are. Running statistics are float32 at least.
    bias : bool
        Whether an affine layer has β.

    Attributes
    ----------
    running_mean, running_var : Buffer of shape (C,), or None
        At first 0 and 1. Every update binds new arrays to them, so graphs recorded earlier stay right.
    num_batches_tracked : Buffer, int64 without axes, or None
        The number of updates.
    dropped_updates : int
        The number of batches whose statistics were not finite, or too large for the buffers. They change nothing, and
        the first one warns.

    Raises
    ------
    ShapeError
        When called: the rank or number of channels is wrong, or in training there is only one value per channel. It
        names the layer, and the running statistics stay as they are.

    Notes
    -----
    Whether the running statistics are updated depends on the mode of the layer alone: not on `no_grad`, nor on whether
    parameters are frozen. An empty batch is let through and updates nothing; neither does a forward pass that is only
    repeated to recompute values.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> from minigrad.layers import BatchNorm1d
    >>> norm = BatchNorm1d(1)
    >>> norm(Tensor([[1.0], [3.0]])).tolist()
    [[-0.9999949932098389], [0.9999949932098389]]
    >>> round(norm.running_mean.item(), 6), round(norm.running_var.item(), 6)    # 0.9·0 + 0.1·2 and 0.9·1 + 0.1·2
    (0.2, 1.1)
    """

    ranks: ClassVar[Container[int]] = range(2, 65)
    shape_text: ClassVar[str] = "(N, C) or (N, C, …)"
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: str | Device | None = None, dtype: Any = np.float32, *,
                 bias: bool = True) -> None:
        super().__init__()
        num_features = whole_number(num_features, type(self).__name__, "num_features")
        if not eps >= 0:
            raise ArgumentError(type(self).__name__, got=f"eps={eps}", wanted="eps ≥ 0")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ArgumentError(type(self).__name__, got=f"momentum={momentum}", wanted="from 0 to 1, or None")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.dropped_updates = 0
        ones, zeros = np.ones(num_features, dtype), np.zeros(num_features, dtype)
        self.register_parameter("weight", Parameter(ones, device=device) if affine else None)
        self.register_parameter("bias", Parameter(zeros, device=device) if affine and bias else None)
        wide = accumulation_dtype(dtype)
        starts = {"running_mean": zeros.astype(wide), "running_var": ones.astype(wide),
                  "num_batches_tracked": np.zeros((), np.int64)}
        for name, start in starts.items():
            self.register_buffer(name, Buffer(start, device=device) if track_running_stats else None)

    @property
    def affine(self) -> bool:
        """Whether there is γ."""
        return self.weight is not None

    @property
    def track_running_stats(self) -> bool:
        """Whether there are running statistics: decided when the layer is made, so that it cannot be half switched."""
        return self.running_mean is not None and self.running_var is not None

    @track_running_stats.setter
    def track_running_stats(self, track: bool) -> None:
        raise ArgumentError(f"{type(self).__name__}.track_running_stats", got=f"{track} for an existing layer",
                            wanted="the argument of the constructor",
                            hint="To use the batch's statistics alone, set running_mean and running_var to None; "
                                 "to leave the running ones as they are, call eval()")

    def forward(self, x: Any) -> Any:
        """Normalize `x`; in training, update the running statistics afterwards."""
        shape = x.shape
        if len(shape) not in self.ranks or shape[1] != self.num_features:
            raise ShapeError("forward", got=f"input of shape {tuple(shape)}",
                             wanted=f"{self.shape_text} with C = {self.num_features}")
        if not self.training and self.running_mean is not None and self.running_var is not None:
            return ops.batch_norm_inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        y, mean, variance, _ = ops.batch_norm(x, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None and not current().recomputing:
            count = value(y).size // self.num_features
            if count:  # an empty batch says nothing
                self._commit(StatsUpdate(value(mean).reshape(-1), value(variance).reshape(-1), count))
        return y

    def _commit(self, update: StatsUpdate) -> None:
        """Move the running averages towards a batch, or drop it if they would not be finite."""
        mean, variance, seen = self.running_mean, self.running_var, self.num_batches_tracked
        if mean is None or variance is None:
            return
        batches = None if seen is None else as_array(seen.data + 1)  # the sum of 0-dimensional arrays is a number
        momentum = self.momentum
        if momentum is None:
            if batches is None:
                raise StateError("num_batches_tracked", got="None", wanted="a count, for the average over all batches")
            momentum = 1 / int(batches)
        new_mean, new_variance = update.applied(mean.data, variance.data, momentum)
        bad = nonfinite_channels(new_mean, new_variance)
        if bad:
            self._drop(bad)
            return
        mean.data, variance.data = new_mean, new_variance
        if seen is not None:
            seen.data = batches

    def _drop(self, channels: list[int]) -> None:
        """Count a batch that is not averaged, and warn of the first."""
        self.dropped_updates += 1
        if self.dropped_updates == 1:
            more = f" and {len(channels) - 10} more" if len(channels) > 10 else ""
            where = layer_path(current().scope) or type(self).__name__
            shown = ", ".join(map(str, channels[:10])) + more
            warnings.warn(
                f"{where}: the statistics of this batch are not finite, or too large for the buffers, in channels "
                f"{shown}; the running statistics stay as they are. Further batches of this kind are only counted, in "
                f"dropped_updates.", RuntimeWarning, stacklevel=2)

    @property
    def optional_state(self) -> tuple[str, ...]:
        """Checkpoints of PyTorch before 0.4.1 lack the number of batches, which only a cumulative average needs."""
        return () if self.momentum is None else ("num_batches_tracked",)

    def _dtype_for(self, name: str, dtype: Any) -> Any:
        return dtype if name in ("weight", "bias") else accumulation_dtype(dtype)

    def reset_running_stats(self) -> None:
        """Start the running statistics again: mean 0, variance 1, no batches."""
        for buffer, start in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.data = _filled_like(buffer.data, start)

    def reset_parameters(self) -> None:
        """Start again: γ = 1, β = 0, and `reset_running_stats`."""
        self.reset_running_stats()
        if self.weight is not None:
            self.weight.assign(1)
        if self.bias is not None:
            self.bias.assign(0)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


def _filled_like(array: Array, fill: float) -> Array:
    """A new array of the same shape, dtype and device."""
    new = array.copy()
    new[...] = fill
    return new


class BatchNorm1d(BatchNorm):
    """`BatchNorm` for features (N, C) and sequences (N, C, L)."""

    ranks = (2, 3)
    shape_text = "(N, C) or (N, C, L)"


class BatchNorm2d(BatchNorm):
    """`BatchNorm` for images (N, C, H, W)."""

    ranks = (4,)
    shape_text = "(N, C, H, W)"


class LayerNorm(Module):
    """Normalize each example over its last axes (Ba, Kiros & Hinton, arXiv:1607.06450); input (…, *normalized_shape).

        y = γ·(x − μ) / √(σ² + ε) + β        with μ and the biased σ² over the last axes

    Batches play no part: training and evaluation are the same.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The lengths of the last axes.
    eps : float
        ε ≥ 0, under the root.
    elementwise_affine : bool
        Whether there are γ (`weight`, at first 1) and β (`bias`, at first 0), of shape `normalized_shape`.
    bias : bool
        Whether an affine layer has β.
    device, dtype
        Where, and of which type, the parameters are.

    Raises
    ------
    ShapeError
        When called: the last axes of the input are not `normalized_shape`.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> from minigrad.layers import LayerNorm
    >>> LayerNorm(2)(Tensor([[1.0, 3.0], [0.0, 200.0]])).numpy().round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, device: str | Device | None = None, dtype: Any = np.float32) -> None:
        super().__init__()
        lengths = normalized_shape if isinstance(normalized_shape, Iterable) else [normalized_shape]
        shape = tuple(whole_number(length, "LayerNorm", "normalized_shape") for length in lengths)
        if not shape:
            raise ArgumentError("LayerNorm", got="normalized_shape=()", wanted="at least one length")
        if not eps >= 0:
            raise ArgumentError("LayerNorm", got=f"eps={eps}", wanted="eps ≥ 0")
        self.normalized_shape, self.eps = shape, eps
        affine = elementwise_affine
        self.register_parameter("weight", Parameter(np.ones(shape, dtype), device=device) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(shape, dtype), device=device) if affine and bias else None)

    @property
    def elementwise_affine(self) -> bool:
        """Whether there is γ."""
        return self.weight is not None

    def forward(self, x: Any) -> Any:
        """Normalize `x`."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def reset_parameters(self) -> None:
        """Start again: γ = 1, β = 0."""
        if self.weight is not None:
            self.weight.assign(1)
        if self.bias is not None:
            self.bias.assign(0)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")
