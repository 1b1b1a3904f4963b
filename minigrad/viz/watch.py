"""Watching a training run: every N steps a few numbers per layer, in bounded memory.

Per layer: mean, standard deviation and the 15th, 50th and 85th percentile of its output, of all of it and of one unit
(as Figure 1(b, c) of the BatchNorm paper, arXiv:1502.03167, shows them), and the fraction that is saturated or dead.
Per parameter: the norm of its gradient, and that of its update relative to the weights. Per normalization: γ, β, and
how far the running statistics are from the batch's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.backend import copied, is_array, is_floating, namespace, to_numpy
from minigrad.errors import ArgumentError
from minigrad.layers.module import Module
from minigrad.op import value
from minigrad.run.chart import Chart, Series
from minigrad.viz.statistics import inner

__all__ = ["PERCENTILES", "Watch", "watch_charts"]

PERCENTILES = (15, 50, 85)
_SAMPLE = 1 << 16  # elements of an output that percentiles are taken of
_SATURATED = {"Sigmoid": lambda a: abs(a - 0.5) > 0.47, "Tanh": lambda a: abs(a) > 0.97}


class Watch:
    """Records statistics of a model while it is trained.

    Parameters
    ----------
    model : Module
    every : int
        Steps between two records. Steps in between cost one comparison.
    most : int
        Records kept. When there are more, every other one is dropped, and from then on half as many are made.

    Notes
    -----
    A step is a call of the model in training mode, or several: then what it gave last is recorded. `after_step` ends
    it, after the optimizer's step. A recorded step
    costs about one more pass over activations and parameters, and a copy of the parameters.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad import layers, optim
    >>> from minigrad.viz.watch import Watch
    >>> model = layers.Sequential(layers.Linear(3, 4), layers.Sigmoid())
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> with Watch(model, every=1) as watch:
    ...     model(minigrad.ones(5, 3)).sum().backward()
    ...     optimizer.step()
    ...     watch.after_step(1)
    >>> sorted(watch.arrays())[:3]
    ['0.bias/gradient', '0.bias/update', '0.weight/gradient']
    """

    def __init__(self, model: Module, every: int, most: int = 400) -> None:
        if every < 1 or most < 2:
            raise ArgumentError("Watch", got=f"every={every}, most={most}", wanted="every ≥ 1 and most ≥ 2")
        self.model, self.every, self.most = model, every, most
        self.rows: list[tuple[int, dict[str, float]]] = []
        self._steps = 0
        self._row: dict[str, float] | None = None
        self._before: dict[str, Any] = {}
        self._removers: list[Callable[[], None]] = []

    def __enter__(self) -> Watch:
        self._removers = [self.model.register_forward_pre_hook(self._begin)]
        for path, layer in self.model.named_modules():
            if path and not any(True for _ in layer.children()):
                self._removers.append(layer.register_forward_hook(self._hook(path)))
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching; what was recorded stays."""
        for remove in self._removers:
            remove()
        self._removers = []

    # ---------------------------------------------------------------- during a step

    def _begin(self, model: Module, _: Any) -> None:
        if not model.training:
            self._row = None
            return
        self._row = {} if self._steps % self.every == 0 else None
        if self._row is not None:
            self._before = {name: copied(p.data) for name, p in model.named_parameters()}

    def _hook(self, path: str) -> Callable[[Any, Any, Any], None]:
        def seen(layer: Any, inputs: Any, output: Any) -> None:
            row = self._row
            array = value(output)
            if row is None or not layer.training or not is_array(array) or not array.size:
                return
            if not is_floating(array.dtype):
                return
            row |= {f"{path}/{name}": number for name, number in _output(layer, array).items()}
            if getattr(layer, "running_mean", None) is not None and array.ndim > 1:
                row |= {f"{path}/{name}": number for name, number in _distance(layer, value(inputs[0])).items()}

        return seen

    def after_step(self, step: int) -> None:
        """The optimizer has stepped; `step` counts such steps."""
        row, self._row = self._row, None
        self._steps += 1
        if row is None:
            return
        for name, p in self.model.named_parameters():
            before = self._before.pop(name, None)
            if before is None or p.grad is None:
                continue
            size = math.sqrt(inner(before, before)) or 1.0
            moved = p.data - before
            row[f"{name}/gradient"] = math.sqrt(inner(p.grad.data, p.grad.data))
            row[f"{name}/update"] = math.sqrt(inner(moved, moved)) / size
        for path, layer in self.model.named_modules():
            if "Norm" in type(layer).__name__:
                for name in ("weight", "bias"):
                    held = getattr(layer, name, None)
                    if held is not None:
                        sample = held.numpy()
                        row[f"{path}/{name} mean"] = float(sample.mean())
                        row[f"{path}/{name} std"] = float(sample.std())
        self._before = {}
        self.rows.append((step, row))
        if len(self.rows) > self.most:
            self.rows = self.rows[::2]
            self.every *= 2

    # ---------------------------------------------------------------- afterwards

    def arrays(self) -> dict[str, np.ndarray]:
        """Per ``layer/statistic`` its values over time; ``step`` holds the steps. NaN where a value was not there."""
        names = dict.fromkeys(name for _, row in self.rows for name in row)
        found = {name: np.array([row.get(name, math.nan) for _, row in self.rows]) for name in names}
        return {"step": np.array([step for step, _ in self.rows], np.int64), **found} if self.rows else {}

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on later."""
        return {"arrays": self.arrays(), "every": self.every, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` has returned."""
        arrays = dict(state["arrays"])
        steps = arrays.pop("step", ())
        # NaN stands for what was not there, and is what `arrays` makes of that.
        self.rows = [
            (int(step), {name: float(column[i]) for name, column in arrays.items() if not math.isnan(column[i])})
            for i, step in enumerate(steps)
        ]
        self.every, self._steps = int(state["every"]), int(state["steps"])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `arrays` as an .npz file."""
        target = Path(path)
        with target.open("wb") as file:
            np.savez_compressed(file, **self.arrays())  # type: ignore[arg-type]
        return target


def _output(layer: Any, array: Any) -> dict[str, float]:
    """Statistics of what a layer gave."""
    flat = namespace(array).reshape(array, (-1,))
    sample = to_numpy(flat[::max(1, flat.shape[0] // _SAMPLE)]).astype(np.float32)
    found = {"mean": float(sample.mean()), "std": float(sample.std())}
    found |= {f"p{q}": float(v) for q, v in zip(PERCENTILES, np.percentile(sample, PERCENTILES))}
    if array.ndim > 1:
        unit = to_numpy(namespace(array).moveaxis(array, 1, 0)[0]).astype(np.float32)
        found |= {f"unit p{q}": float(v) for q, v in zip(PERCENTILES, np.percentile(unit, PERCENTILES))}
    kind = type(layer).__name__
    if kind in _SATURATED:
        found["saturated"] = float(_SATURATED[kind](sample).mean())
    elif kind == "ReLU" and array.ndim > 1:
        axes = tuple(a for a in range(array.ndim) if a != 1)
        found["dead"] = 1 - float((to_numpy(namespace(array).max(array, axis=axes)) > 0).mean())
    return found


def _distance(layer: Any, x: Any) -> dict[str, float]:
    """How far running statistics are from those of this batch: means in units of σ, variances as a ratio."""
    axes = tuple(a for a in range(x.ndim) if a != 1)
    xp = namespace(x)
    mean, variance = to_numpy(xp.mean(x, axis=axes)), to_numpy(xp.var(x, axis=axes))
    away = abs(layer.running_mean.numpy() - mean) / np.sqrt(variance + layer.eps)
    return {"running mean off by": float(away.mean()),
            "running var ratio": float((layer.running_var.numpy() / (variance + layer.eps)).mean())}


def watch_charts(arrays: dict[str, np.ndarray], label: str = "") -> list[Chart]:
    """Charts for a report: percentiles of the inputs of the last activation, gradients, updates, running statistics.

    Parameters
    ----------
    arrays : as `Watch.arrays` gives them
    label : str
        What the run is called.
    """
    if not arrays:
        return []
    step = arrays["step"]
    behind = f", {label}" if label else ""
    layers = dict.fromkeys(name.partition("/")[0] for name in arrays if name.endswith("/unit p50"))
    before = [path for path in layers if f"{path}/saturated" in arrays or f"{path}/dead" in arrays]
    ordered = list(layers)
    charts = []
    if before and ordered.index(before[-1]):
        source = ordered[ordered.index(before[-1]) - 1]
        charts.append(Chart(
            f"Inputs of one unit of the last activation{behind}", "optimizer steps",
            f"output of layer {source}, unit 0",
            [Series(f"{q}th percentile", step, arrays[f"{source}/unit p{q}"]) for q in reversed(PERCENTILES)],
            description="As Figure 1(b, c) of the BatchNorm paper: what a typical unit sees, over time."))
    weights = [name.removesuffix("/update") for name in arrays if name.endswith("weight/update")]
    several = [name for name in weights if f"{name.removesuffix('.weight')}/weight mean" not in arrays]
    for what, title, axis in (("update", "Size of updates", "update ÷ weights (norms)"),
                              ("gradient", "Size of gradients", "norm of the gradient")):
        series = [Series(name, step, np.where(arrays[f"{name}/{what}"] > 0, arrays[f"{name}/{what}"], np.nan))
                  for name in several[:6]]
        if series and any(np.isfinite(np.asarray(each.y)).any() for each in series):
            charts.append(Chart(f"{title}{behind}", "optimizer steps", axis, series, log_y=True))
    off = [name for name in arrays if name.endswith("/running mean off by")]
    if off:
        series = [Series(name.partition("/")[0], step, arrays[name]) for name in off[:6]]
        title = f"Running means against the batch's{behind}"
        charts.append(Chart(title, "optimizer steps", "distance in σ of the batch", series))
    return charts
