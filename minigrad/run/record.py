"""What a training loop tells of itself: to the run directory, to the screen, and to whoever goes on with it later."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from minigrad.data import DataLoader
from minigrad.errors import ArgumentError, StateError
from minigrad.ops.averages import all_finite_of
from minigrad.ops.random import default_generator
from minigrad.run.directory import Run
from minigrad.run.divergence import diverged, explain, is_finite
from minigrad.run.progress import Progress

__all__ = ["Record"]

#: What a record begins with, and the type that a checkpoint has to give back.
_STATE: dict[str, tuple[Any, type]] = {
    "steps": (0, int), "epochs": (0, int), "loss": (0.0, float), "best": (None, float), "best_step": (None, int),
    "waited": (0, int), "seconds": (0.0, float), "accuracy": (0.0, float), "measured": (-1, int)}


class Record:
    """Keep a training loop's metrics, its checkpoints and its best epoch; `Record()` keeps nothing.

    The loop calls a few methods, and remains a loop that can be read::

        record.start(epochs, loader, model=model, optimizer=optimizer)
        for epoch in record.remaining():
            for batch in loader:
                loss = gradients(*batch)                  # forward and backward
                record.check(loss, gradients, *batch)
                optimizer.step()
                record.step(loss, evaluate)
            if record.epoch(evaluate):
                break
        record.finish()

    Parameters
    ----------
    series : str
        The name of the curves.
    run : Run, optional
        Where metrics and checkpoints go.
    progress : Progress, optional
        What shows how it goes.
    every : int
        Steps between two measurements of the accuracy; the ends of epochs are measured too.
    checkpoints : bool
        Whether to write checkpoints and to go on from one: not where one run directory holds several loops.
    checkpoint_every : int, optional
        Steps between two checkpoints; one is written at the end of each epoch in any case.
    watch : callable, optional
        Makes, of the model, something that watches it: with ``after_step(step)``, ``close()`` and the two methods for
        its state, as `minigrad.viz.watch.Watch` has them. The attribute `watch` is what it has made.
    patience : int, optional
        Stop early after this many epochs without a better accuracy.

    Attributes
    ----------
    steps, epochs : int
        Steps taken and epochs finished, by earlier processes too.
    loss, accuracy : float
        The latest; the accuracy is that of the step `measured`.
    best, best_step : float or None, int or None
        The best accuracy at the end of an epoch, and its step.
    seconds : float
        The training alone: the clock stands still during evaluations and checkpoints.
    stopped_early : bool
    """

    steps: int
    epochs: int
    loss: float
    best: float | None
    best_step: int | None
    waited: int
    seconds: float
    accuracy: float
    measured: int

    def __init__(self, series: str = "", run: Run | None = None, progress: Progress | None = None, *,
                 every: int = 25, checkpoints: bool = True, checkpoint_every: int | None = None,
                 patience: int | None = None, watch: Callable[[Any], Any] | None = None) -> None:
        for name, given in (("every", every), ("checkpoint_every", checkpoint_every), ("patience", patience)):
            if given is not None and given < 1:
                raise ArgumentError("Record", got=f"{name}={given}", wanted="at least 1")
        self.series, self.run, self.progress, self.every = series, run, progress, every
        self.checkpoints = checkpoints and run is not None
        self.checkpoint_every, self.patience, self._watching = checkpoint_every, patience, watch
        self.watch: Any = None
        self.__dict__.update({name: first for name, (first, _) in _STATE.items()})
        self.total = self._wanted = 0
        self._objects: dict[str, Any] = {}
        self._random = default_generator.get_state(devices=False)
        self._since = time.perf_counter()

    @property
    def stopped_early(self) -> bool:
        """Whether there were `patience` epochs without a better accuracy."""
        return self.patience is not None and self.waited >= self.patience

    # ---------------------------------------------------------------- what the loop calls

    def start(self, epochs: int, loader: DataLoader, **objects: Any) -> None:
        """Begin, or go on where the run's newest checkpoint is.

        Parameters
        ----------
        epochs : int
            How many there will be in all.
        loader : DataLoader
            Gives the batches, one for each step.
        **objects
            All else that a step depends on or changes: ``model``, ``optimizer``, a schedule, a loss scaler, averages of
            weights. None is passed over.
        """
        self._objects = {name: each for name, each in objects.items() if each is not None}
        if self._watching is not None:
            self.watch = self._objects["watch"] = self._watching(objects["model"])
        self._objects.update(loader=loader, random=default_generator, record=self)
        if self.checkpoints and self.run is not None:
            self.run.restore(self._objects)
        self.total, self._wanted = max(self.steps, epochs * len(loader)), epochs
        if self.progress:
            self.progress.start(self.series, epochs=epochs, steps=self.total, done=self.steps)
        self._begin()

    def remaining(self) -> range:
        """The epochs that are left, counted from 1: none if the run has stopped early."""
        return range(self.epochs + 1, (self.epochs if self.stopped_early else self._wanted) + 1)

    def check(self, loss: Any, compute: Callable[..., Any], *batch: Any) -> None:
        """Make sure that loss and gradients are finite, before they change any weight.

        Parameters
        ----------
        loss : Tensor
            What ``compute(*batch)`` has returned.
        compute : callable
            The forward and backward pass; where something is not finite it is called again, under observation.
        *batch : Tensor

        Raises
        ------
        DivergedError
            Something is not finite; the text names step, operation and layer. Without a run nothing is checked.
        """
        if self.run is None or not self.checkpoints:
            return
        model = self._objects["model"]
        value = float(loss.item())
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        if math.isfinite(value) and all_finite_of(g.data for g in gradients.values()):
            return
        bad = [name for name, g in gradients.items() if not is_finite(g)]
        got = f"a loss of {value}" if not math.isfinite(value) else f"gradients of {bad[0]} that are not finite"
        default_generator.set_state(self._random)  # so that the same elements drop out again
        raise diverged(f"step {self.steps + 1}", got, explain(model, compute, *batch))

    def step(self, loss: Any, evaluate: Callable[[], float]) -> None:
        """A step was taken; at every `every`-th one and the last, the accuracy is measured too.

        Parameters
        ----------
        loss : Tensor
        evaluate : callable
            Measures the accuracy, from 0 to 1.
        """
        self.steps += 1
        if self.watch is not None:
            self.watch.after_step(self.steps)
        if self.run is None:
            return
        epoch, self.loss = self.epochs + 1, float(loss.item())
        if self.steps % self.every == 0 or self.steps == self.total:
            self._measure(epoch, evaluate)
        if self.progress:
            self.progress.update(self.series, step=self.steps, epoch=epoch, loss=self.loss)
        self._random = default_generator.get_state(devices=False)
        if self.checkpoint_every and self.steps % self.checkpoint_every == 0:
            self._save()

    def epoch(self, evaluate: Callable[[], float]) -> bool:
        """A pass over the data is done.

        Returns
        -------
        bool
            Whether to stop early.
        """
        self.epochs += 1
        if self.run is None:
            return False
        accuracy = self._measure(self.epochs, evaluate)
        if self.best is None or accuracy > self.best:
            self.best, self.best_step, self.waited = accuracy, self.steps, 0
        else:
            self.waited += 1
        if self.progress:
            self.progress.end_epoch(self.series, step=self.steps, epoch=self.epochs, loss=self.loss, accuracy=accuracy)
        self._save()
        return self.stopped_early

    def finish(self) -> None:
        """The loop is over."""
        if self.watch is not None:
            self.watch.close()
        if self.progress:
            self.progress.finish(self.series)

    # ---------------------------------------------------------------- its own state

    def state_dict(self) -> dict[str, Any]:
        """The counts, the best and the clock."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises
        ------
        StateError
            A name or a value is not as `state_dict` gives it; nothing was changed.
        """
        wrong = sorted(set(state) ^ set(_STATE)) or [name for name in _STATE if not _fits(name, state[name])]
        if wrong:
            raise StateError("Record.load_state_dict", got=f"another {', '.join(wrong)}", wanted="what it has saved")
        self.__dict__.update(state)

    def _measure(self, epoch: int, evaluate: Callable[[], float]) -> float:
        """Measure the accuracy and log it, once for each step."""
        if self.measured != self.steps and self.run is not None:
            self._stop()
            self.measured, self.accuracy = self.steps, float(evaluate())
            self.run.log(self.series, self.steps, epoch, loss=self.loss, accuracy=self.accuracy)
            self.run.log_timing(self.series, self.steps, epoch, seconds=self.seconds)
            self._begin()
        return self.accuracy

    def _save(self) -> None:
        """Write a checkpoint."""
        if self.checkpoints and self.run is not None:
            self._stop()
            self.run.save(self.steps, self._objects, best=self.best_step)
            self._begin()

    def _begin(self) -> None:
        self._since = time.perf_counter()

    def _stop(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now


def _fits(name: str, value: Any) -> bool:
    """Whether a value can be of a record's state: of the right type, and counts not below where they begin."""
    first, kind = _STATE[name]
    if value is None:
        return first is None
    if kind is int:
        return type(value) is int and value >= (first or 0)
    return type(value) is float
