"""Running statistics as objects: what a batch says (`StatsUpdate`), and who decides what becomes of it.

A normalization in training makes a `StatsUpdate` out of its batch. Ordinarily the layer commits it at once. Inside

    with frozen_statistics(model): ...                 it is discarded
    with accumulate_statistics(model): ...             updates are merged, and committed once at the end
    with withhold_statistics(model) as held: ...       they are merged and held, to be looked at, committed or dropped

so what a forward pass does to the buffers is decided by whoever calls it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minigrad.backend import Array, astype, is_array, namespace, to_numpy
from minigrad.modes import current, enter, leave
from minigrad.ops.averages import RunningAverages

__all__ = ["InstanceStatsUpdate", "StatisticsLedger", "StatsUpdate", "accumulate_statistics", "deliver",
           "frozen_statistics", "nonfinite_channels", "withhold_statistics"]


def _real(count: Any) -> Any:
    """A number of values, or an array of them, as what can be divided: the array API divides no integers."""
    return astype(count, np.float64) if is_array(count) else count


@dataclass(frozen=True)
class StatsUpdate:
    """The statistics of one batch, per channel: what goes into the running averages.

    Attributes
    ----------
    mean : (C,) array
        ⟨x⟩.
    variance : (C,) array
        The biased variance, ⟨(x − μ)²⟩: the mean of squares, divided by m.
    count : int, or (C,) integer array
        m, the number of values per channel; different ones only under a mask. At least 2 to be applied.
    """

    mean: Array
    variance: Array
    count: Any

    def applied(self, running_mean: Array, running_var: Array, momentum: float) -> tuple[Array, Array]:
        """New running averages, in new arrays of the old ones' dtypes.

        With the momentum a, the weight of this batch (Keras means 1 − a by that name),

            running_mean ← (1 − a)·running_mean + a·μ        running_var ← (1 − a)·running_var + a·σ²·m/(m − 1)

        The factor m/(m − 1) makes the variance unbiased (Bessel). What does not fit the dtype becomes infinite, without
        a warning.

        Parameters
        ----------
        running_mean, running_var : (C,) arrays
        momentum : float
            From 0 to 1.

        Examples
        --------
        >>> import numpy as np
        >>> batch = StatsUpdate(np.array([3.0]), np.array([2.0]), count=2)
        >>> batch.applied(np.array([0.0]), np.array([1.0]), momentum=0.5)
        (array([1.5]), array([2.5]))
        """
        return self.moved(running_mean, running_var, momentum)[:2]

    def moved(self, running_mean: Array, running_var: Array, momentum: float) -> tuple[Array, Array, bool]:
        """As `applied`, and whether all of the new averages are finite."""
        count = self.count
        if count.__class__ is not int:
            count = _real(count)
        averages = RunningAverages(momentum, count / (count - 1))
        return averages.run_forward(running_mean, running_var, self.mean, self.variance)  # type: ignore[no-any-return]

    def merged(self, other: StatsUpdate) -> StatsUpdate:
        """The statistics of both batches together, in float64 (Chan, Golub & LeVeque, 1979).

            n = n₁ + n₂    δ = μ₂ − μ₁    μ = μ₁ + δ·n₂/n    n·σ² = n₁·σ₁² + n₂·σ₂² + δ²·n₁·n₂/n

        Batches of one value, or none, may be merged too.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.array([[1.0], [2.0], [6.0], [7.0]])
        >>> parts = [StatsUpdate(p.mean(0), p.var(0), len(p)) for p in (x[:1], x[1:])]
        >>> parts[0].merged(parts[1])
        StatsUpdate(mean=array([4.]), variance=array([6.5]), count=4)
        """
        n = self.count + other.count
        if not is_array(n) and n == 0:
            return self
        part = _real(other.count) / (namespace(n).maximum(_real(n), 1.0) if is_array(n) else n)
        delta = astype(other.mean, np.float64) - self.mean
        variance = astype(self.variance, np.float64) * (1 - part) + astype(other.variance, np.float64) * part
        return StatsUpdate(self.mean + delta * part, variance + delta * delta * (part * (1 - part)), n)


@dataclass(frozen=True)
class InstanceStatsUpdate(StatsUpdate):
    """Statistics of each example by itself, averaged over the examples: InstanceNorm's.

    Attributes
    ----------
    examples : int
        Over how many examples `mean` and `variance` are averages; `count` is the number of values of one.
    """

    examples: int = 1

    def merged(self, other: StatsUpdate) -> StatsUpdate:
        """The averages over the examples of both batches, of the unbiased variance where their lengths differ.

        `count` is taken from the first, and the variance is such that `applied` makes it that average.
        """
        assert isinstance(other, InstanceStatsUpdate)
        n = self.examples + other.examples
        part, biased = other.examples / n, other.variance
        if other.count != self.count:
            m, own = other.count, self.count
            biased = astype(biased, np.float64) * (m / (m - 1) * (own - 1) / own)
        mean, variance = (astype(a, np.float64) * (1 - part) + b * part
                          for a, b in ((self.mean, other.mean), (self.variance, biased)))
        return InstanceStatsUpdate(mean, variance, self.count, n)


def nonfinite_channels(mean: Array, variance: Array) -> list[int]:
    """The channels in which one of two (C,) arrays is infinite or NaN."""
    xp = namespace(mean)
    finite = to_numpy(xp.isfinite(mean) & xp.isfinite(variance))
    return [int(c) for c in np.flatnonzero(~finite)]


class Tracking(Protocol):
    """A layer with running statistics, as a ledger sees it."""

    def previewed(self, update: StatsUpdate, momentum: float | None = None,
                  batches: int = 1) -> tuple[Array, Array]:
        """The running averages that a commit would bring."""

    def commit(self, update: StatsUpdate, momentum: float | None = None, batches: int = 1) -> bool:
        """Move the running averages; returns whether they were."""

    def acceptable(self, update: StatsUpdate) -> bool:
        """Whether an update is finite; if not, the layer has refused or counted it."""


def deliver(layer: Tracking, update: StatsUpdate) -> None:
    """Hand an update to the innermost block around the caller that includes the layer; without any, commit it."""
    for ledger in reversed(current().statistics):
        if ledger.takes(layer):
            ledger.receive(layer, update)
            return
    layer.commit(update)


class StatisticsLedger:
    """Receives the updates of running statistics inside its `with` block, in place of the layers.

    Made by `frozen_statistics`, `accumulate_statistics` and `withhold_statistics`. Blocks may be nested: the innermost
    one that includes a layer decides about it, and what `accumulate_statistics` commits at its end goes to the block
    around it in the layer's place. So whoever calls a training step may still freeze or withhold what it does.

    Attributes
    ----------
    updates : dict from layer to (StatsUpdate, int)
        For each layer the merged update, and the number of batches in it.
    """

    def __init__(self, model: Any = None, keep: bool = True, commit_at_end: bool = False) -> None:
        self.names = None if model is None else {layer: name for name, layer in model.named_modules()}
        self.keep, self.commit_at_end = keep, commit_at_end
        self.updates: dict[Any, tuple[StatsUpdate, int]] = {}
        self._tokens: list[Any] = []

    def __enter__(self) -> StatisticsLedger:
        mode = current()
        self._tokens.append(enter(mode.replace(statistics=(*mode.statistics, self))))
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        leave(self._tokens.pop())
        if self.commit_at_end:
            updates, self.updates = self.updates, {}
            for layer, (update, _) in updates.items() if kind is None else ():
                deliver(layer, update)

    def takes(self, layer: Any) -> bool:
        """Whether this block decides about a layer."""
        return self.names is None or layer in self.names

    def receive(self, layer: Tracking, update: StatsUpdate) -> None:
        """Merge an update with those of the same layer; one that is not finite is left out by the layer's policy."""
        if not self.keep or not layer.acceptable(update):
            return
        held = self.updates.get(layer)
        self.updates[layer] = (update, 1) if held is None else (held[0].merged(update), held[1] + 1)

    def preview(self, momentum: float | None = None) -> dict[str, tuple[Array, Array]]:
        """By layer path: the running mean and variance that `commit` would bring. Nothing changes."""
        names = self.names or {}
        return {names.get(layer, f"{type(layer).__name__} {i}"): layer.previewed(update, momentum, 1)
                for i, (layer, (update, _)) in enumerate(self.updates.items())}

    def commit(self, momentum: float | None = None, each: bool = False) -> None:
        """Move every layer's running averages by its merged update, as if it were one batch, and forget the updates.

        Parameters
        ----------
        momentum : float, optional
            The weight of the update, in place of the layer's own; 1 replaces the averages.
        each : bool
            Let `num_batches_tracked` grow by the number of batches merged, in place of 1.
        """
        updates, self.updates = self.updates, {}
        for layer, (update, batches) in updates.items():
            layer.commit(update, momentum, batches if each else 1)

    def drop(self) -> None:
        """Forget the updates."""
        self.updates = {}


def frozen_statistics(model: Any = None) -> StatisticsLedger:
    """Inside the block, training passes leave the running statistics as they are.

    Parameters
    ----------
    model : Module, optional
        Concern only the layers of this model; else all.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import BatchNorm1d, frozen_statistics
    >>> norm = BatchNorm1d(2)
    >>> with frozen_statistics():
    ...     y = norm(minigrad.ones(4, 2))
    >>> norm.num_batches_tracked.item()
    0
    """
    return StatisticsLedger(model, keep=False)


def accumulate_statistics(model: Any = None) -> StatisticsLedger:
    """Inside the block, updates are merged per layer; at its end they are committed once, as those of one large batch.

    For gradient accumulation: k micro-batches then move the running statistics of a layer exactly as one batch of all
    their inputs would. (The *outputs* are still those of micro-batches: each was normalized by itself.) If the block
    ends by an exception, nothing is committed.

    Parameters
    ----------
    model : Module, optional
        Concern only the layers of this model; else all.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import BatchNorm1d, accumulate_statistics
    >>> norm = BatchNorm1d(1, momentum=1.0)
    >>> with accumulate_statistics(norm):
    ...     for micro_batch in ([[0.0], [2.0]], [[4.0], [6.0]]):
    ...         y = norm(minigrad.tensor(micro_batch))
    >>> norm.running_mean.item(), norm.num_batches_tracked.item()
    (3.0, 1)
    """
    return StatisticsLedger(model, commit_at_end=True)


def withhold_statistics(model: Any = None) -> StatisticsLedger:
    """Inside the block, updates are merged and held. Afterwards the ledger can `preview`, `commit` or `drop` them.

    For steps that may be thrown away, such as one whose loss overflowed under a loss scaler.

    Parameters
    ----------
    model : Module, optional
        Concern only the layers of this model; else all.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import BatchNorm1d, withhold_statistics
    >>> norm = BatchNorm1d(1, momentum=1.0)
    >>> with withhold_statistics(norm) as held:
    ...     y = norm(minigrad.tensor([[0.0], [2.0]]))
    >>> norm.running_mean.item(), held.preview()[""][0].tolist()
    (0.0, [1.0])
    >>> held.drop()
    """
    return StatisticsLedger(model)
