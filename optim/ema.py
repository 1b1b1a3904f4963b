"""EMA: exponential moving averages of a model's weights, kept beside the model and put in its place for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad.backend import Array, accumulation_dtype, as_array, astype, copied, is_floating, to_numpy, transfer
from minigrad.errors import ArgumentError, StateError, not_while_recording
from minigrad.layers.module import Module
from minigrad.layers.state import named_state
from minigrad.tensor import Parameter, Tensor

__all__ = ["EMA"]


class EMA:
    """The exponential moving average of every weight and buffer of a model (Polyak & Juditsky, 1992).

    After the t-th update, t = 1, 2, …,

        d ← min(decay, (1 + t) / (10 + t))        average ← d·average + (1 − d)·value

    so early averages do not cling to the initial weights. Buffers with fractions (running statistics) are averaged with
    the same d: they then belong to the averaged weights as well as to the current ones, but strictly to neither; for
    statistics of exactly the averaged weights, run the training data through the model once inside `applied`, in
    training mode. Whole numbers (counts) are copied.

    Parameters
    ----------
    model : Module
        Followed from now on; the averages start at its values.
    decay : float
        d at most; from 0 to below 1. 0.999 averages over about the last 1,000 updates.

    Raises
    ------
    ArgumentError
        The decay is out of its range.

    Examples
    --------
    >>> from minigrad.layers import Linear
    >>> from minigrad.optim import EMA
    >>> model = Linear(1, 1, bias=False)
    >>> _ = model.weight.assign([[1.0]])
    >>> ema = EMA(model, decay=0.5)
    >>> _ = model.weight.assign([[2.0]])
    >>> ema.update()                                     # d = min(0.5, 2/11)
    >>> with ema.applied():
    ...     print(round(model.weight.item(), 4))
    1.8182
    >>> model.weight.item()
    2.0
    """

    def __init__(self, model: Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError("EMA", got=f"decay={decay}", wanted="from 0 to below 1")
        self.model, self.decay, self.updates = model, float(decay), 0
        self._averages = {name: _start(tensor.data) for name, tensor in named_state(model)}

    def update(self) -> None:
        """Take the model's present values into the averages; to be called after every step of the optimizer."""
        not_while_recording("EMA.update", "Call it after each replay: averages are weighted by a count on the host")
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in named_state(self.model):
            array = tensor.data
            if is_floating(array.dtype):
                average = transfer(self._averages[name], tensor.device)
                self._averages[name] = as_array(average * d + astype(array, average.dtype) * (1 - d))
            else:
                self._averages[name] = array

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """Inside the block the model has the averages; afterwards it has its own values again, bit by bit."""
        tensors = dict(named_state(self.model))
        own = {name: copied(tensor.data) for name, tensor in tensors.items()}
        _set(tensors, self._averages)
        try:
            yield self.model
        finally:
            _set(tensors, own)

    def apply(self) -> None:
        """Give the model the averages for good: after training."""
        _set(dict(named_state(self.model)), self._averages)

    def state_dict(self) -> dict[str, Any]:
        """The averages under the model's names, in ``"averages"``, and the number of updates; for `load_state_dict`."""
        averages = {name: np.array(to_numpy(array)) for name, array in self._averages.items()}
        return {"averages": averages, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` has returned.

        Raises
        ------
        StateError
            Names, shapes or dtypes are not those of the model; nothing was changed.
        """
        try:
            averages, updates = state["averages"], int(state["updates"])
            found = {name: (array.shape, array.dtype) for name, array in averages.items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError("EMA.load_state_dict", got=f"{type(error).__name__}: {error}",
                             wanted="'averages' and 'updates'") from error
        wanted = {name: (array.shape, array.dtype) for name, array in self._averages.items()}
        if found != wanted:
            wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise StateError("EMA.load_state_dict", got=f"averages that do not fit: {', '.join(wrong[:8])}",
                             wanted="the names, shapes and dtypes of the model")
        devices = {name: tensor.device for name, tensor in named_state(self.model)}
        self._averages = {name: copied(transfer(array, devices[name])) for name, array in averages.items()}
        self.updates = updates


def _start(array: Array) -> Array:
    """A copy, of at least single precision."""
    return astype(copied(array), accumulation_dtype(array.dtype)) if is_floating(array.dtype) else array


def _set(tensors: dict[str, Tensor], values: Mapping[str, Array]) -> None:
    """Write into parameters, and bind to buffers, whose old arrays may be in graphs."""
    for name, tensor in tensors.items():
        array = astype(transfer(values[name], tensor.device), tensor.dtype)
        if isinstance(tensor, Parameter):
            tensor.assign(array)
        else:
            tensor.data = copied(array)
