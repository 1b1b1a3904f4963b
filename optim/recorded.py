"""An optimizer's step inside a CUDA graph: what the host does before each launch in its place.

The graph repeats the arithmetic. The counts of steps, and the numbers of the formula that hang on them and on the
options, are of the host: before each launch the counts go up, the numbers are computed anew, and where they differ they
are written to where the graph reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.errors import GraphError
from minigrad.modes import current
from minigrad.optim.options import Options
from minigrad.optim.slots import Numbers, Slot

if TYPE_CHECKING:
    from minigrad.optim.optimizer import Optimizer

__all__ = ["RecordedStep"]

_AGAIN = "Record the step again: call reset() of what minigrad.cuda.replay returned"


class RecordedStep:
    """One call of `Optimizer.step` in a step that is recorded; made before it changes anything.

    Parameters
    ----------
    optimizer : Optimizer
    slots : list of Slot
        Those of the parameters that are updated.

    Raises
    ------
    GraphError
        A parameter has not been updated before: what its state begins with must not be repeated.
    """

    def __init__(self, optimizer: Optimizer, slots: list[Slot]) -> None:
        self.optimizer, self.where = optimizer, f"{type(optimizer).__name__}.step"
        owners = {slot: parameter for parameter, slot in optimizer._slots.items()}
        groups = {p: group for group in optimizer.param_groups for p in group["params"]}
        self.parts = [(slot, owners[slot], owners[slot].data, groups[owners[slot]]) for slot in slots]
        if any(slot.first or slot.array is not array for slot, _, array, _ in self.parts):
            raise GraphError(self.where, got="a parameter that no earlier step has updated, or that was moved since",
                             wanted="a step that does the same each time", hint="More warm-up calls may help")
        self.flags = [(group, self._flags(group)) for group in optimizer.param_groups
                      if any(group is own for *_, own in self.parts)]
        self.held = [dict(slot.state) for slot in slots]
        self.rooms: list[tuple[Numbers, Slot, Options]] = []
        self.known: list[tuple[float, ...]] = []

    def _flags(self, group: Options) -> Any:
        """What of a group's options decides which operations there are: it cannot change between replays."""
        options = self.optimizer._settings(group)[0]
        loop = self.optimizer.loop(options)
        return loop if loop is not None else [(name, bool(v)) for name, v in options.items() if name != "lr"]

    def numbers(self, slot: Slot, options: Options, step: int) -> Numbers:
        """Where the graph reads the numbers that some parameters share."""
        found = self.optimizer.numbers(options, step, False)
        with current().graph.outside():
            room = Numbers.room(len(found), slot.array)
        self.rooms.append((room, slot, next(group for other, _, _, group in self.parts if other is slot)))
        self.known.append(found)
        return room

    def check(self) -> None:
        """Refuse what the graph does not know of: other parameters, other states, other flags.

        Raises
        ------
        GraphError
        """
        for group, flags in self.flags:
            if self._flags(group) != flags:
                raise GraphError(self.where, got="options that switch a part of the formula on or off",
                                 wanted=f"those that were recorded, {flags}", hint=_AGAIN)
        for (slot, parameter, array, _), held in zip(self.parts, self.held):
            if self.optimizer._slots.get(parameter) is not slot or parameter.data is not array:
                raise GraphError(self.where, got="a parameter or a state that was moved or loaded since the recording",
                                 wanted="the arrays that were recorded", hint=_AGAIN)
            if any(slot.state.get(name) is not value for name, value in held.items() if name != "step"):
                raise GraphError(self.where, got="another state than was recorded", wanted="the same arrays",
                                 hint=_AGAIN)

    def undo(self) -> None:
        """Give the counts of steps back that they had before the recording."""
        for (slot, *_), held in zip(self.parts, self.held):
            if "step" in held:
                slot.state["step"] = held["step"]

    def fill(self) -> None:
        """Write the numbers that were found while recording to where the graph reads them: of the first launch."""
        for (room, *_), numbers in zip(self.rooms, self.known):
            room.vector.set(np.array(numbers, room.vector.dtype))

    def advance(self) -> None:
        """Count a step, and write the numbers that have changed to where the graph reads them: of a later launch."""
        for slot, *_ in self.parts:
            if "step" in slot.state:
                slot.state["step"] += 1
        for i, (room, slot, group) in enumerate(self.rooms):
            found = self.optimizer.numbers(self.optimizer._settings(group)[0], slot.state.get("step", 0), False)
            if found != self.known[i]:
                room.vector.set(np.array(found, room.vector.dtype))
                self.known[i] = found
