"""BatchNorm, and the base of all normalizations with running statistics."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Container
from typing import Any, ClassVar

import numpy as np

from minigrad import ops
from minigrad.backend import Array, Device, accumulation_dtype, as_array, namespace, number, parameter_dtype
from minigrad.errors import ArgumentError, GraphError, ShapeError, StateError
from minigrad.functional.arguments import whole_number
from minigrad.layers.linear import Linear
from minigrad.layers.normalization import Normalization
from minigrad.layers.statistics import StatsUpdate, deliver, nonfinite_channels
from minigrad.modes import current, layer_path, switch
from minigrad.op import beside, value
from minigrad.ops.averages import all_finite_pair, moved_on_device
from minigrad.ops.normalization import counts
from minigrad.tensor import Buffer

__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Tracked", "joins"]


class Tracked(Normalization):
    """Base of the normalizations that keep running statistics: when they are used, and how they are updated."""

    ranks: ClassVar[Container[int]] = range(2, 65)
    shape_text: ClassVar[str] = "(N, C) or (N, C, …)"
    eps: float
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def __init__(self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
                 device: str | Device | None, dtype: Any, bias: bool, nonfinite: str, debias: bool) -> None:
        super().__init__()
        kind = type(self).__name__
        num_features = whole_number(num_features, kind, "num_features")
        self._check_eps(eps)
        if momentum is not None and not 0 <= momentum <= 1:
            raise ArgumentError(kind, got=f"momentum={momentum}", wanted="from 0 to 1, or None")
        if nonfinite not in ("skip", "raise"):
            raise ArgumentError(kind, got=f"nonfinite={nonfinite!r}", wanted="'skip' or 'raise'")
        if debias and not momentum:
            raise ArgumentError(kind, got=f"debias=True with momentum={momentum}", wanted="a momentum above 0",
                                hint="momentum=None, the average over all batches, has no bias to correct")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.nonfinite, self.debias = nonfinite, debias
        self.dropped_updates = 0
        self.frozen = False
        self._trained_before: tuple[bool, bool] = (True, True)
        self._add_parameters((num_features,), affine, affine and bias, device, dtype)
        wide = accumulation_dtype(parameter_dtype(dtype))
        starts = {"running_mean": np.zeros(num_features, wide), "running_var": np.ones(num_features, wide),
                  "num_batches_tracked": np.zeros((), np.int64)}
        for name, start in starts.items():
            self.register_buffer(name, Buffer(start, device=device) if track_running_stats else None)

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

    def _check_shape(self, where: str, shape: tuple[int, ...]) -> None:
        if len(shape) not in self.ranks or shape[1] != self.num_features:
            raise ShapeError(where, got=f"input of shape {tuple(shape)}",
                             wanted=f"{self.shape_text} with C = {self.num_features}")

    # ---------------------------------------------------------------- which statistics

    @property
    def uses_running_stats(self) -> bool:
        """Whether a call now normalizes by the running statistics: in evaluation, or frozen, if there are any."""
        return (self.frozen or not self.training) and self.track_running_stats

    def freeze(self, parameters: bool = True) -> None:
        """Normalize by the running statistics from now on, in training too, and leave them as they are.

        Unlike `eval()`, this survives ``model.train()``. `unfreeze` ends it.

        Parameters
        ----------
        parameters : bool
            Freeze γ and β as well.

        Raises
        ------
        ArgumentError
            There are no running statistics to normalize by.
        """
        if not self.track_running_stats:
            raise ArgumentError("freeze", got=f"{type(self).__name__} without running statistics",
                                wanted="track_running_stats=True")
        if not self.frozen:
            self._trained_before = tuple(p is None or p.requires_grad for p in (self.weight, self.bias))  # type: ignore[assignment]
        self.frozen = True
        for p in (self.weight, self.bias):
            if parameters and p is not None:
                p.requires_grad_(False)

    def unfreeze(self) -> None:
        """Undo `freeze`: statistics by mode again, γ and β trained if they were before."""
        if self.frozen:
            self.frozen = False
            for p, trained in zip((self.weight, self.bias), self._trained_before):
                if p is not None:
                    p.requires_grad_(trained)

    # ---------------------------------------------------------------- updates

    def _updated_by(self, update: StatsUpdate) -> None:
        """Hand an update to whoever receives it, and tell the observers."""
        mode = current()
        if mode.statistics:
            deliver(self, update)
        else:
            self.commit(update)
        if mode.observers:
            with switch(recording=False, observers=()):  # what they compute is neither recorded nor observed
                for observer in mode.observers:
                    observer.statistics(self, mode.scope, update)

    def _weight_of_new(self, count: Array | None, read: Callable[[Array], Any]) -> Any:
        """The weight of a batch after which `count` were seen: a number, or a 0-d array if `read` gives one."""
        if self.momentum is not None and not self.debias:
            return self.momentum
        if count is None:
            raise StateError("num_batches_tracked", got="None", wanted="a count, for the average over all batches")
        batches = read(count)
        if self.momentum is None:
            return 1 / batches
        return self.momentum / (1 - (1 - self.momentum) ** batches)

    def _next(self, update: StatsUpdate, momentum: float | None,
              batches: int) -> tuple[Array, Array, bool, Array | None]:
        """New running mean and variance, whether both are finite, and the new number of batches."""
        mean, variance, count = self._known(batches)
        if momentum is None:
            momentum = self._weight_of_new(count, number)
        return (*update.moved(mean, variance, momentum), count)

    def _known(self, batches: int) -> tuple[Array, Array, Array | None]:
        """Running mean and variance as they are, and the number of batches once `batches` more are counted."""
        mean, variance, seen = self.running_mean, self.running_var, self.num_batches_tracked
        if mean is None or variance is None:
            raise StateError("commit", got=f"{type(self).__name__} without running statistics", wanted="some to update")
        return mean.data, variance.data, None if seen is None else _raised(seen.data, batches)

    def previewed(self, update: StatsUpdate, momentum: float | None = None, batches: int = 1) -> tuple[Array, Array]:
        """The running mean and variance that `commit` would bring. Nothing changes."""
        return self._next(update, momentum, batches)[:2]

    def commit(self, update: StatsUpdate, momentum: float | None = None, batches: int = 1) -> bool:
        """Move the running averages by an update, unless they would not be finite.

        Parameters
        ----------
        update : StatsUpdate
        momentum : float, optional
            The weight of the update, in place of the layer's own.
        batches : int
            By how much `num_batches_tracked` grows.

        Returns
        -------
        bool
            Whether they were moved.

        Raises
        ------
        StateError
            They would not be finite, and `nonfinite` is "raise".
        """
        if current().graph is not None:
            return self._commit_on_device(update, momentum, batches)
        mean, variance, finite, count = self._next(update, momentum, batches)
        if not finite:
            self._left_out(mean, variance)
            return False
        self._bind(mean, variance, count)
        return True

    def _bind(self, mean: Array, variance: Array, count: Array | None) -> None:
        """Bind new running statistics: graphs recorded earlier keep the old ones and stay right.

        While a step is recorded as a CUDA graph, which knows arrays by their addresses, the step ends by copying the
        new elements back into the old arrays.
        """
        graph = current().graph
        for buffer, array in ((self.running_mean, mean), (self.running_var, variance),
                              (self.num_batches_tracked, count)):
            if buffer is not None:
                if graph is not None:
                    graph.rebound(buffer)
                buffer.data = array

    def _commit_on_device(self, update: StatsUpdate, momentum: float | None, batches: int) -> bool:
        """As `commit`, where nobody may look at numbers: what is not finite is left out by the device itself.

        Batches that are left out in a recorded step are not counted in `dropped_updates`, and there is no warning.
        """
        if self.nonfinite == "raise":
            raise GraphError("running statistics", got="nonfinite='raise' in a step that is being recorded",
                             wanted="nonfinite='skip'", hint="A recorded step cannot raise")
        mean, variance, count = self._known(batches)
        weight = self._weight_of_new(count, lambda held: held) if momentum is None else momentum
        moved, spread, finite = moved_on_device(mean, variance, update.mean, update.variance, weight,
                                                update.count / (update.count - 1))
        if count is not None:
            count = namespace(moved).where(finite, count, count - batches)
        self._bind(moved, spread, count)
        return True

    def acceptable(self, update: StatsUpdate) -> bool:
        """Whether an update is finite; if not, it is refused or counted, by `nonfinite`."""
        if all_finite_pair(update.mean, update.variance):
            return True
        self._left_out(update.mean, update.variance)
        return False

    def _left_out(self, mean: Array, variance: Array) -> None:
        """Refuse or count a batch whose statistics are not finite."""
        channels = nonfinite_channels(mean, variance)
        more = f" and {len(channels) - 10} more" if len(channels) > 10 else ""
        shown = ", ".join(map(str, channels[:10])) + more
        if self.nonfinite == "raise":
            raise StateError("running statistics", got=f"a batch whose statistics are not finite, or too large for the "
                                                       f"buffers, in channels {shown}",
                             wanted="finite numbers",
                             hint="nonfinite='skip' leaves such batches out. Nothing was changed")
        self.dropped_updates += 1
        if self.dropped_updates == 1:
            where = layer_path(current().scope) or type(self).__name__
            warnings.warn(
                f"{where}: the statistics of this batch are not finite, or too large for the buffers, in channels "
                f"{shown}; the running statistics stay as they are. Further batches of this kind are only counted, in "
                f"dropped_updates.", RuntimeWarning, stacklevel=2)

    # ---------------------------------------------------------------- state

    @property
    def optional_state(self) -> tuple[str, ...]:
        """Checkpoints of PyTorch before 0.4.1 lack the number of batches, which only some averages need."""
        return () if self.momentum is None or self.debias else ("num_batches_tracked",)

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
        super().reset_parameters()

    def extra_repr(self) -> str:
        """Hyper-parameters; those that torch does not have where they differ from their defaults."""
        text = (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")
        for name, usual in (("nonfinite", "skip"), ("debias", False), ("frozen", False)):
            text += f", {name}={getattr(self, name)!r}" if getattr(self, name) != usual else ""
        return text


def _filled_like(array: Array, fill: float) -> Array:
    """A new array of the same shape, dtype and device."""
    return namespace(array).full_like(array, fill)


def _raised(count: Array, batches: int) -> Array:
    """A new array without axes: a count, and `batches` more."""
    if count.__class__ is np.ndarray:
        return np.array(count.item() + batches, count.dtype)  # NumPy's own sum takes five times as long
    return as_array(count + batches)


@functools.cache
def _of_channels(ndim: int) -> tuple[Any, ...]:
    """The key that makes (C,) of statistics of shape (1, C, 1, …)."""
    return 0, slice(None), *[0] * (ndim - 2)


def joins(linear: Linear) -> bool:
    """Whether a Linear does what its class says, and autocast, which has a type for either, does not come between."""
    return linear.__class__ is Linear and "forward" not in linear.__dict__ and current().autocast is None


class BatchNorm(Tracked):
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
    nonfinite : "skip" or "raise"
        What becomes of a batch whose statistics are not finite, or too large for the buffers: it is left out, or
        StateError is raised. It is never stored.
    debias : bool
        Weight the batches so that the start (mean 0, variance 1) has no part in the averages, as in Adam: the k-th
        batch gets momentum / (1 − (1 − momentum)ᵏ), the first one 1.

    Attributes
    ----------
    running_mean, running_var : Buffer of shape (C,), or None
        At first 0 and 1. Every update binds new arrays to them, so graphs recorded earlier stay right.
    num_batches_tracked : Buffer, int64 without axes, or None
        The number of updates.
    dropped_updates : int
        The number of batches that were left out by ``nonfinite="skip"``; the first one warns.
    frozen : bool
        Whether `freeze` was called: running statistics are used and kept, whatever the mode.

    Raises
    ------
    ShapeError
        When called: the rank or number of channels is wrong, or in training there is only one value per channel. It
            names the layer, and the running statistics stay as they are.

    Notes
    -----
    Whether the running statistics are updated depends on the mode of the layer alone: not on `no_grad`, nor on whether
    parameters are frozen. An empty batch is let through and updates nothing; neither does a forward pass that is only
    repeated to recompute values. `frozen_statistics`, `accumulate_statistics` and `withhold_statistics` decide for a
    block what becomes of updates.

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

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: str | Device | None = None, dtype: Any = np.float32, *,
                 bias: bool = True, nonfinite: str = "skip", debias: bool = False) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias, nonfinite,
                         debias)

    def forward(self, x: Any, mask: Any = None, activation: str | None = None, residual: Any = None,
                linear: Linear | None = None) -> Any:
        """Normalize `x`; in training, update the running statistics afterwards.

        Parameters
        ----------
        x : (N, C) or (N, C, …)
        mask : bool, (N, …) without the channels or broadcastable to x, optional
            Which elements count: the others (padding) stay out of all statistics, give 0 and receive no gradient.
        activation : "relu" or "sigmoid", optional
            Applied to the result; in training, by the same operation. Not with a mask.
        residual : shape of x, optional
            Added before the activation; in training, by the same operation where there is one. Not with a mask.
        linear : Linear, optional
            Applied to `x` first; in training, to x (N, in) and with an activation alone, by the same operation. Its own
            hooks are not called.
        """
        if linear is not None and (activation is None or mask is not None or residual is not None or len(x.shape) != 2
                                   or self.uses_running_stats or not joins(linear)):
            x, linear = linear.forward(x), None
        shape = x.shape if linear is None else (x.shape[0], *linear.weight.shape[:1])
        self._check_shape("forward", shape)
        if mask is not None:
            mask = beside(mask, x)
        if self.uses_running_stats:
            return ops.batch_norm_inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps,
                                            mask, activation, residual)
        if linear is not None and activation is not None:
            y, mean, variance, _ = ops.linear_batch_norm(x, linear.weight, linear.bias, self.weight, self.bias,
                                                         self.eps, activation, values=True)
        else:
            y, mean, variance, _ = ops.batch_norm(x, self.weight, self.bias, self.eps, mask, activation, residual,
                                                  values=True)
        if self.training and self.running_mean is not None and not current().recomputing:
            size = math.prod(shape)
            if size:  # an empty batch says nothing
                channel = _of_channels(len(shape))
                count = size // shape[1] if mask is None else self._counted(shape, value(mask))
                self._updated_by(StatsUpdate(mean[channel], variance[channel], count))
        return y

    def _counted(self, shape: tuple[int, ...], mask: Any) -> Any:
        """The number of values per channel: one for all, or where the mask tells channels apart one for each."""
        whole = mask if mask.ndim == len(shape) else mask[:, None]
        if whole.shape[1] == 1:
            return number(counts(whole, (shape[0], 1, *shape[2:]), tuple(range(len(shape)))))
        return counts(whole, shape, (0, *range(2, len(shape))))

    def sharing(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        self._check_shape(f"{type(self).__name__}.sharing", shape)
        return shape, (0, *range(2, len(shape)))


class BatchNorm1d(BatchNorm):
    """`BatchNorm` for features (N, C) and sequences (N, C, L)."""

    ranks = (2, 3)
    shape_text = "(N, C) or (N, C, L)"


class BatchNorm2d(BatchNorm):
    """`BatchNorm` for images (N, C, H, W)."""

    ranks = (4,)
    shape_text = "(N, C, H, W)"


class BatchNorm3d(BatchNorm):
    """`BatchNorm` for volumes (N, C, D, H, W)."""

    ranks = (5,)
    shape_text = "(N, C, D, H, W)"
