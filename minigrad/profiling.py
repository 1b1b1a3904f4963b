"""Where the time of a training step goes: by operation and layer, optimizer, data loading and the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from minigrad.data import Dataset
from minigrad.errors import ArgumentError
from minigrad.examples._setup import Settings, Split, Trainer, whole
from minigrad.graph import Node
from minigrad.modes import STEP
from minigrad.observers import Observer, observe, wait_for
from minigrad.run import Record, Table

__all__ = ["Profile", "profile", "profile_command"]

#: Steps before the measured ones: kernels are compiled, memory is taken.
WARMUP = 3
OPTIMIZER, LOADING, REST = "optimizer", "data loading", "the rest"


@dataclass
class Row:
    """calls : of the forward pass; forward, backward : seconds, both over all steps"""

    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0


@dataclass
class Profile:
    """Seconds of some training steps.

    steps : how many were measured
    rows : by the names of operation and layer; of what is no operation, the layer is empty and the time is `forward`'s
    seconds : of all steps together, by one clock that does not stop
    unwatched : seconds of as many steps with no observer, where BatchNorm and an activation may run as one operation
    """

    steps: int
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    seconds: float = 0.0
    unwatched: float = 0.0

    def table(self) -> Table:
        """A row for each operation, the slowest first, then what is none; times are those of one step."""
        def took(item: tuple[tuple[str, str], Row]) -> float:
            return item[1].forward + item[1].backward

        operations = [item for item in self.rows.items() if item[1].calls]
        others = [item for item in self.rows.items() if not item[1].calls]
        cells = []
        for (name, layer), row in sorted(operations, key=took, reverse=True) + others:
            forward, backward = (f"{1e3 * each / self.steps:.3f}" for each in (row.forward, row.backward))
            share = f"{100 * (row.forward + row.backward) / self.seconds:.1f} %"
            if row.calls:
                cells.append((name, layer, f"{row.calls / self.steps:g}", forward, backward, share))
            else:
                cells.append((name, "", "", forward, "", share))
        step, alone = (f"{1e3 * each / self.steps:.3f}" for each in (self.seconds, self.unwatched))
        return Table(("operation", "layer", "calls per step", "forward, ms", "backward, ms", "share"), cells,
                     f"{self.steps} steps of {step} ms; {alone} ms with nobody looking on", "llrrrr")


class _Clock(Observer, Record):
    """Told of all that happens in a training loop, it charges the time since the event before to each: nothing is lost
    and nothing counts twice.
    """

    def __init__(self, steps: int) -> None:
        Record.__init__(self)
        self.profile = Profile(steps)
        self._measured, self._begun, self._last = -WARMUP, 0.0, 0.0

    def charge(self, name: str, layer: str = "", backward: bool = False, calls: int = 0) -> None:
        """Charge the time since the event before."""
        now = time.perf_counter()
        if self._measured >= 0:
            row = self.profile.rows.setdefault((name, layer), Row())
            row.calls += calls
            if backward:
                row.backward += now - self._last
            else:
                row.forward += now - self._last
        self._last = now

    def forward(self, op: Any, node: Node | None, scope: Any, inputs: Any, outputs: Any) -> None:
        """An operation has run."""
        wait_for(outputs)
        self.charge(op.name, _layer_kind(scope), calls=1)

    def backward(self, node: Node, output_gradients: Any, input_gradients: Any) -> None:
        """A node's backward has run."""
        wait_for(input_gradients)
        self.charge(node.op.name, _layer_kind(node.scope), backward=True)

    def check(self, loss: Any, compute: Any, *batch: Any) -> None:
        """Gradients are there; what came after the last operation belongs to none."""
        self.charge(REST)

    def step(self, loss: Any, evaluate: Any) -> None:
        """The optimizer has stepped; the loop is left after enough steps."""
        wait_for([loss])
        self.charge(OPTIMIZER)
        self._measured += 1
        if self._measured == 0:
            self._begun = self._last
        if self._measured == self.profile.steps:
            self.profile.seconds = self._last - self._begun
            raise _EnoughError


class _EnoughError(Exception):
    """Leaves a training loop."""


class _Timed(Dataset):
    """A data set whose reading is charged."""

    def __init__(self, data: Dataset, clock: _Clock) -> None:
        self.data, self.clock = data, clock

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        return self.data[index]

    def batch(self, indices: Any) -> Any:
        self.clock.charge(REST)
        found = self.data.batch(indices)
        self.clock.charge(LOADING)
        return found


def _layer_kind(scope: Any) -> str:
    """The class of the innermost layer."""
    while scope is not None and scope[2] == STEP:
        scope = scope[0]
    return "" if scope is None else str(scope[2])


def profile(trainer: Trainer, given: Settings, data: Split, steps: int) -> Profile:
    """Measure steps of a trainer's own loop, after a few that are not counted.

    The time of an operation is that from the end of the one before, Python in between included.

    Parameters
    ----------
    trainer : Trainer
    given : Settings
        Its `epochs` has no meaning here.
    data : Split
    steps : int

    Raises
    ------
    ArgumentError
        `steps` is below 1, or batches are prepared by threads, whose time is not the loop's.
    """
    if steps < 1:
        raise ArgumentError("profile", got=f"{steps} steps", wanted="at least 1")
    if given.workers:
        raise ArgumentError("profile", got=f"{given.workers} workers", wanted="0: time in threads is not the loop's")
    per_epoch = max(1, len(data.train) // given.batch_size)
    given = dataclasses.replace(given, epochs=math.ceil((steps + WARMUP) / per_epoch))
    clocks = [_Clock(steps), _Clock(steps)]
    blocks: tuple[Any, ...] = (contextlib.nullcontext(), observe(clocks[1]))
    for clock, around in zip(clocks, blocks):
        with around, contextlib.suppress(_EnoughError):
            trainer.train(given, data._replace(train=_Timed(data.train, clock)), clock)
    alone, found = (clock.profile for clock in clocks)
    found.unwatched = alone.seconds
    return found


def profile_command(arguments: Sequence[str], trainer: Trainer) -> str:
    """``minigrad profile NETWORK [options]``, with the trainer's options and ``--steps``; returns what to print."""
    def parser(prog: str | None) -> Any:
        made = trainer.parser(prog)
        made.description = f"Measure where the time goes in {trainer.name}'s training steps, by operation."
        made.add_argument("--steps", type=whole(1), default=20, help="steps to measure (default: 20)")
        return made

    given, data = dataclasses.replace(trainer, parser=parser).ready(list(arguments), f"minigrad profile {trainer.name}")
    return profile(trainer, Settings.of(given), data, given.steps).table().text()
