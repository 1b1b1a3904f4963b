"""How far a model in training mode is from the same model in evaluation, and what to do about it.

In training a BatchNorm normalizes by the statistics of the batch, in evaluation by running averages. The two networks
that result differ for two reasons, which ask for different remedies:

* noise: the statistics of a small batch scatter around those of the data, by about 1/√m;
* lag: the running averages are not those of the data, because there were too few batches, the weights have moved since,
  or the data are others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.backend import to_numpy
from minigrad.errors import ArgumentError
from minigrad.layers.batch_norm import Tracked
from minigrad.layers.calibration import batch_statistics, first_of, tracked_layers
from minigrad.layers.module import Module
from minigrad.layers.statistics import withhold_statistics
from minigrad.modes import no_grad
from minigrad.tensor import Tensor

__all__ = ["Discrepancy", "LayerDiscrepancy", "discrepancy"]

LARGE = 0.1  # of the output's own size, or of a standard deviation


@dataclass
class LayerDiscrepancy:
    """One layer, at one batch size.

    Attributes
    ----------
    local : float
        mean |y_batch − y_running| ÷ mean |y_running| of this layer's output alone, its input being that of evaluation.
    lag : float
        How far the batches' statistics are from the running ones on average: of |mean difference| in running standard
        deviations and of |½·ln variance ratio|, the larger, averaged over the channels.
    noise : float
        How far they scatter around their own average, measured alike.
    values : float
        m, the number of values per channel in a batch.
    """

    local: float
    lag: float
    noise: float
    values: float


@dataclass
class Discrepancy:
    """What `discrepancy` has measured. Print it for the table and the advice.

    Attributes
    ----------
    sizes : tuple of int
        Batch sizes, ascending.
    end_to_end : dict from int to float
        By batch size: mean |output in training mode − output in evaluation| ÷ mean |output in evaluation|.
    layers : dict from str to dict from int to LayerDiscrepancy
        By path and batch size.
    never_updated : list of str
        Paths of layers whose running statistics are still those they started with.
    """

    sizes: tuple[int, ...]
    end_to_end: dict[int, float] = field(default_factory=dict)
    layers: dict[str, dict[int, LayerDiscrepancy]] = field(default_factory=dict)
    never_updated: list[str] = field(default_factory=list)

    @property
    def lagging(self) -> list[str]:
        """Paths of layers whose running statistics lag: at the largest size, lag exceeds what noise explains."""
        large = self.sizes[-1]
        return [name for name, by_size in self.layers.items()
                if by_size[large].lag > LARGE and by_size[large].lag > 2 * by_size[large].noise]

    def advice(self) -> list[str]:
        """What to do, most important first."""
        said = []
        unusable = [size for size in self.sizes if not math.isfinite(self.end_to_end[size])]
        if unusable:
            said.append(f"Outputs at batch size {', '.join(map(str, unusable))} are not finite: look for NaN and "
                        f"overflow in the weights and the data first.")
        if self.never_updated:
            said.append(f"The running statistics of {_listed(self.never_updated)} were never updated: evaluation is "
                        f"meaningless. Train, or call recalibrate(model, batches).")
        lagging = [name for name in self.lagging if name not in self.never_updated]
        if lagging:
            said.append(f"The running statistics of {_listed(lagging)} are not those of these data: call "
                        f"recalibrate(model, batches) with training data, and measure again. A larger momentum makes "
                        f"them follow faster. If these are other data than those trained on, that is the reason.")
        noisy = [size for size in self.sizes if self.end_to_end[size] > LARGE]
        if noisy and not said:
            fine = [size for size in self.sizes if self.end_to_end[size] <= LARGE]
            enough = f"from {fine[0]} on it is below {LARGE:.0%}" if fine else "all sizes measured are too small"
            said.append(f"Up to batch size {noisy[-1]} the batch's statistics are too noisy for the network to be the "
                        f"same in both modes; {enough}. Train with larger batches (accumulating gradients is no "
                        f"substitute: every micro-batch is normalized by itself), or use GroupNorm or LayerNorm, which "
                        f"know no batch, or fine-tune with freeze(model).")
        if not said:
            said.append(f"Nothing: training and evaluation agree within {max(self.end_to_end.values()):.1%} at every "
                        f"batch size measured.")
        return said

    def __str__(self) -> str:
        width = max([len("layer"), *(len(n or "the model") for n in (*self.layers, "end to end"))])
        head = f"{'layer':<{width}}" + "".join(f"{f'batch {size}':>11}" for size in self.sizes) + "       lag     noise"
        lines = [head]
        for name, by_size in self.layers.items():
            last = by_size[self.sizes[-1]]
            lines.append(f"{name or 'the model':<{width}}" + "".join(f"{by_size[s].local:>11.3f}" for s in self.sizes)
                         + f"{last.lag:>10.3f}{last.noise:>10.3f}")
        lines.append(f"{'end to end':<{width}}" + "".join(f"{self.end_to_end[s]:>11.3f}" for s in self.sizes))
        return "\n".join([*lines, *(f"→ {line}" for line in self.advice())])


def _listed(names: list[str]) -> str:
    shown = [name or "the model" for name in names[:4]]
    return ", ".join(shown) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def discrepancy(model: Module, data: Any, batch_sizes: Sequence[int] = (4, 8, 16, 32, 64, 128), batches: int = 8,
                output: Callable[[Tensor], Tensor] | None = None) -> Discrepancy:
    """Measure how far a model in training mode is from itself in evaluation, per layer and end to end, by batch size.

    Nothing of the model changes: running statistics are withheld, modes are put back, and nothing is recorded. Layers
    other than those with running statistics (dropout) stay in evaluation mode throughout, so that only these count.

    Parameters
    ----------
    model : Module
        With BatchNorm or InstanceNorm layers that have running statistics.
    data : Tensor or array (N, …), or iterable of batches
        Inputs to draw the batches from, in order; of (input, …) tuples the first element counts. Use shuffled data.
    batch_sizes : sequence of int
        Sizes of which the data do not give a single batch are left out.
    batches : int
        At most so many batches are measured of each size.
    output : callable, optional
        What to compare at the end, as a function of the model's output: ``lambda y: softmax(y, 1)`` compares class
        probabilities.

    Returns
    -------
    Discrepancy

    Raises
    ------
    ArgumentError
        The model has no running statistics, or the data are fewer than the smallest batch.
    """
    layers = tracked_layers(model)
    if not layers:
        raise ArgumentError("discrepancy", got=f"{type(model).__name__} without running statistics",
                            wanted="at least one BatchNorm: without, training and evaluation are the same")
    x = _gathered(data, max(batch_sizes) * batches)
    sizes = tuple(sorted({size for size in batch_sizes if 1 < size <= len(x)}))
    if not sizes:
        raise ArgumentError("discrepancy", got=f"{len(x)} inputs for batches of {tuple(batch_sizes)}",
                            wanted="at least one batch of two or more")
    result = Discrepancy(sizes, layers={name: {} for name in layers})
    result.never_updated = [name for name, layer in layers.items() if _as_at_the_start(layer)]
    for size in sizes:
        meters = {name: _Meter(layer) for name, layer in layers.items()}
        distances = [_measure(model, meters, x[i * size : (i + 1) * size], output)
                     for i in range(min(batches, len(x) // size))]
        result.end_to_end[size] = float(np.mean(distances))
        for name, meter in meters.items():
            result.layers[name][size] = meter.result()
    return result


def _as_at_the_start(layer: Tracked) -> bool:
    """Whether the running statistics are 0 and 1. The count does not tell: statistics from elsewhere may lack it."""
    mean, variance = layer.running_mean, layer.running_var
    return mean is not None and variance is not None and not mean.numpy().any() and bool((variance.numpy() == 1).all())


def _gathered(data: Any, wanted: int) -> np.ndarray:
    """Up to `wanted` inputs, in one array."""
    if isinstance(data, Tensor) or hasattr(data, "dtype"):
        return to_numpy(data.data if isinstance(data, Tensor) else data)[:wanted]
    parts: list[np.ndarray] = []
    for batch in data if isinstance(data, Iterable) else ():
        parts.append(first_of(batch).numpy())
        if sum(map(len, parts)) >= wanted:
            break
    return np.concatenate(parts)[:wanted] if parts else np.empty((0,))


def _relative(found: np.ndarray, reference: np.ndarray) -> float:
    """mean |difference| ÷ mean |reference|."""
    scale = float(np.abs(reference).mean())
    return float(np.abs(found - reference).mean()) / (scale or 1.0)


class _Meter:
    """Collects, for one layer, its local distance and the statistics of its batches."""

    def __init__(self, layer: Tracked) -> None:
        self.layer = layer
        self.local: list[float] = []
        self.means: list[np.ndarray] = []
        self.spreads: list[np.ndarray] = []
        self.values = 0.0

    def __call__(self, layer: Any, inputs: Any, y: Any) -> None:
        """As a forward hook, in evaluation: the same input once more, by the statistics of its batch."""
        frozen, layer.training, layer.frozen = layer.frozen, True, False
        with withhold_statistics(layer) as held:
            again = layer.forward(*inputs)
        layer.training, layer.frozen = False, frozen
        self.local.append(_relative(again.numpy().astype(np.float64), y.numpy().astype(np.float64)))
        for update, _ in held.updates.values():
            mean, variance = (to_numpy(b.data).astype(np.float64) for b in (layer.running_mean, layer.running_var))
            m = float(np.mean(to_numpy(update.count) if hasattr(update.count, "dtype") else update.count))
            of_batch = to_numpy(update.variance).astype(np.float64) * (m / (m - 1))
            self.means.append((to_numpy(update.mean) - mean) / np.sqrt(variance + layer.eps))
            self.spreads.append(0.5 * np.log((of_batch + layer.eps) / (variance + layer.eps)))
            self.values = m

    def result(self) -> LayerDiscrepancy:
        if not self.means:
            return LayerDiscrepancy(float(np.mean(self.local or [0.0])), 0.0, 0.0, 0.0)
        both = np.stack([self.means, self.spreads])  # (kind, batch, channel)
        lag = np.abs(both.mean(1)).max(0).mean()
        noise = both.std(1).max(0).mean()
        return LayerDiscrepancy(float(np.mean(self.local)), float(lag), float(noise), self.values)


def _measure(model: Module, meters: dict[str, _Meter], x: np.ndarray,
             output: Callable[[Tensor], Tensor] | None) -> float:
    """The end-to-end distance on one batch; the meters hear the pass in evaluation."""
    device = next((p.device for p in model.parameters()), None)
    given = Tensor(x, device=device)
    found = []
    with no_grad(), withhold_statistics():
        for use in (False, True):
            with batch_statistics(model, use):
                removers = [] if use else [m.layer.register_forward_hook(m) for m in meters.values()]
                try:
                    y = model(given)
                finally:
                    for remove in removers:
                        remove()
            found.append((y if output is None else output(y)).numpy().astype(np.float64))
    return _relative(found[1], found[0])
