"""Recurrent networks: RNN, LSTM and GRU, as layers over whole sequences and as cells for single steps."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import numpy as np

from minigrad import functional as F
from minigrad import ops
from minigrad.backend import Device, namespace, parameter_dtype
from minigrad.errors import ArgumentError, ShapeError
from minigrad.functional.arguments import whole_number
from minigrad.layers import init
from minigrad.layers.module import Module
from minigrad.op import Traced, value
from minigrad.ops.random import Generator
from minigrad.tensor import Parameter

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell"]

NONLINEARITIES = {"tanh": F.tanh, "relu": F.relu}
State = tuple[Any, ...]


def _zeros(like: Any, *shape: int) -> Any:
    """Zeros of the kind, device and dtype of `like`."""
    array = value(like)
    made = namespace(array).zeros(shape, dtype=array.dtype)
    return like.constant(made) if isinstance(like, Traced) else made


class _Step:
    """What one step does with the sums that came from the input; one class per kind of network."""

    parts: ClassVar[int] = 1  # how many vectors of the hidden size the weights make
    states: ClassVar[int] = 1
    nonlinearity: str = "tanh"

    def _step(self, a: Any, state: State, weight: Any, bias: Any, projection: Any = None) -> State:
        """The next state, from `a` of the input and the state before; its first part is the output."""
        raise NotImplementedError(f"{type(self).__name__} does not say what one step does")

    def _kind(self, name: str, nonlinearity: str) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ArgumentError(name, got=f"nonlinearity={nonlinearity!r}", wanted="'tanh' or 'relu'")
        self.nonlinearity = nonlinearity


class _RNNStep(_Step):
    def _step(self, a: Any, state: State, weight: Any, bias: Any, projection: Any = None) -> State:
        return (NONLINEARITIES[self.nonlinearity](a + F.linear(state[0], weight, bias)),)


class _LSTMStep(_Step):
    parts, states = 4, 2

    def _step(self, a: Any, state: State, weight: Any, bias: Any, projection: Any = None) -> State:
        h, c = ops.lstm_step(a + F.linear(state[0], weight, bias), state[1])
        return (h if projection is None else F.linear(h, projection)), c


class _GRUStep(_Step):
    parts = 3

    def _step(self, a: Any, state: State, weight: Any, bias: Any, projection: Any = None) -> State:
        return (ops.gru_step(a, F.linear(state[0], weight, bias), state[0]),)


class _Weights(Module):
    """Parameters that all are uniform in ±1/√hidden_size at first."""

    hidden_size: int

    def _new(self, name: str, shape: tuple[int, ...], device: Any, dtype: Any) -> None:
        self.register_parameter(name, Parameter(np.empty(shape, parameter_dtype(dtype)), device=device))

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound, generator)


class _Recurrent(_Weights, _Step):
    """Layers of steps over a sequence, forwards and backwards."""

    def _build(self, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
               bidirectional: bool, proj_size: int, device: Any, dtype: Any, generator: Generator | None) -> None:
        name = type(self).__name__
        input_size = whole_number(input_size, name, "input_size")
        hidden_size = whole_number(hidden_size, name, "hidden_size")
        num_layers = whole_number(num_layers, name, "num_layers")
        if not 0 <= dropout <= 1:
            raise ArgumentError(name, got=f"dropout={dropout}", wanted="a probability, from 0 to 1")
        if not 0 <= proj_size < hidden_size:
            raise ArgumentError(name, got=f"proj_size={proj_size}", wanted="0 or more, and below hidden_size")
        if dropout and num_layers == 1:
            warnings.warn(f"{name}: dropout={dropout} is between layers and has no effect on one", UserWarning,
                          stacklevel=3)
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, float(dropout), bidirectional
        self.proj_size, self.generator = proj_size, generator
        wide = self.parts * hidden_size
        out = proj_size or hidden_size
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                seen = input_size if layer == 0 else out * (1 + bidirectional)
                self._new(f"weight_ih_{suffix}", (wide, seen), device, dtype)
                self._new(f"weight_hh_{suffix}", (wide, out), device, dtype)
                if bias:
                    self._new(f"bias_ih_{suffix}", (wide,), device, dtype)
                    self._new(f"bias_hh_{suffix}", (wide,), device, dtype)
                if proj_size:
                    self._new(f"weight_hr_{suffix}", (proj_size, hidden_size), device, dtype)
        self.reset_parameters(generator)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: 1 + self.bidirectional]

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Run over a sequence.

        Parameters
        ----------
        input : (L, N, input_size), (N, L, input_size) with `batch_first`, or (L, input_size)
        hx : initial state (num_layers·directions, N, hidden), or without N, optional
            A pair (h, c) for an LSTM. Zeros unless given.

        Returns
        -------
        output : (L, N, directions·hidden) or as the input is: what the last layer gave at each step
        state : as `hx`: the last state of every layer and direction
        """
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            raise ShapeError("forward", got=f"input {tuple(input.shape)}",
                             wanted=f"two or three axes, the last of length {self.input_size}")
        single = input.ndim == 2
        x = ops.expand_dims(input, 1) if single else ops.swapaxes(input, 0, 1) if self.batch_first else input
        if x.shape[0] == 0:
            raise ShapeError("forward", got=f"input {tuple(input.shape)}", wanted="at least one step")
        states = self._initial(x, hx, single)
        last: list[State] = []
        for layer in range(self.num_layers):
            found = []
            for backwards, suffix in enumerate(self._suffixes(layer)):
                end, output = self._direction(x, tuple(s[len(last)] for s in states), suffix, backwards)
                last.append(end)
                found.append(output)
            x = ops.concat(found, -1) if self.bidirectional else found[0]
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training, self.generator)
        final = [ops.stack([end[k] for end in last], 0) for k in range(self.states)]
        if single:
            x, final = ops.squeeze(x, 1), [ops.squeeze(s, 1) for s in final]
        elif self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        return x, (final[0] if self.states == 1 else tuple(final))

    def _direction(self, x: Any, state: State, suffix: str, backwards: int) -> tuple[State, Any]:
        """One layer in one direction: its last state, and its outputs (L, N, hidden)."""
        held = self.__dict__
        weight, bias = held[f"weight_hh_{suffix}"], held.get(f"bias_hh_{suffix}")
        projection = held.get(f"weight_hr_{suffix}")
        # What comes from the inputs is one product for all steps.
        steps = ops.unstack(F.linear(x, held[f"weight_ih_{suffix}"], held.get(f"bias_ih_{suffix}")), 0)
        outputs = []
        for a in reversed(steps) if backwards else steps:
            state = self._step(a, state, weight, bias, projection)
            outputs.append(state[0])
        return state, ops.stack(outputs[::-1] if backwards else outputs, 0)

    def _initial(self, x: Any, hx: Any, single: bool) -> list[tuple[Any, ...]]:
        """For each part of the state, that of every layer and direction, (N, size)."""
        count, n = self.num_layers * (1 + self.bidirectional), x.shape[1]
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: self.states]
        if hx is None:
            return [tuple(_zeros(x, n, size) for _ in range(count)) for size in sizes]
        given = (hx,) if self.states == 1 else tuple(hx)
        wanted = [(count, size) if single else (count, n, size) for size in sizes]
        if [tuple(s.shape) for s in given] != wanted:
            raise ShapeError("forward", got=f"an initial state {[tuple(s.shape) for s in given]}", wanted=f"{wanted}")
        return [ops.unstack(ops.expand_dims(s, 1) if single else s, 0) for s in given]

    def extra_repr(self) -> str:
        """Hyper-parameters, those alone that differ from their defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False),
                            ("dropout", 0), ("bidirectional", False)):
            text += f", {name}={getattr(self, name)}" if getattr(self, name) != usual else ""
        return text


class RNN(_Recurrent, _RNNStep):
    """Layers of h′ = tanh(W·x + b + U·h + c) over a sequence (Elman 1990); see `LSTM` for what all share.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    nonlinearity : "tanh" or "relu"
    bias, batch_first, dropout, bidirectional, device, dtype, generator
        As for `LSTM`.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 device: str | Device | None = None, dtype: Any = np.float32,
                 generator: Generator | None = None) -> None:
        super().__init__()
        self._kind("RNN", nonlinearity)
        self._build(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype,
                    generator)


class LSTM(_Recurrent, _LSTMStep):
    """Layers of long short-term memory over a sequence (Hochreiter & Schmidhuber, Neural Computation 9, 1997).

        c′ = σ(f)·c + σ(i)·tanh g,   h′ = σ(o)·tanh c′,   with i, f, g, o = W·x + b + U·h + c side by side

    Parameters
    ----------
    input_size, hidden_size : int
    num_layers : int
        Each further layer runs over what the one before gave.
    bias : bool
    batch_first : bool
        Whether input and output are (N, L, features) instead of (L, N, features). States stay (layers, N, features).
    dropout : float
        Of what one layer hands to the next, in training.
    bidirectional : bool
        Whether every layer also runs from the end; both outputs stand side by side.
    proj_size : int
        If above 0, h′ is projected to so many features.
    device, dtype
        Where, and of which type, the parameters are.
    generator : Generator, optional
        Where initial values and dropout's choices come from; the default generator unless given.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0 : Parameter
        W, U, b, c and the projection of the first layer; ``_l1`` and so on of the others, with ``_reverse`` behind it
        of the other direction. All are uniform in ±1/√hidden_size at first.

    Raises
    ------
    ArgumentError
        An option is out of range.
    ShapeError
        When called: input or state do not fit.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import LSTM
    >>> y, (h, c) = LSTM(3, 4, num_layers=2, bidirectional=True)(minigrad.ones(7, 5, 3))
    >>> y.shape, h.shape, c.shape
    ((7, 5, 8), (4, 5, 4), (4, 5, 4))
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: str | Device | None = None, dtype: Any = np.float32,
                 generator: Generator | None = None) -> None:
        super().__init__()
        self._build(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
                    dtype, generator)


class GRU(_Recurrent, _GRUStep):
    """Layers of gated recurrent units over a sequence (Cho et al., arXiv:1406.1078); see `LSTM` for what all share.

        h′ = (1 − z)·tanh(aₙ + r·bₙ) + z·h,   r = σ(aᵣ + bᵣ),   z = σ(a_z + b_z),   a = W·x + b,   b = U·h + c

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype, generator
        As for `LSTM`.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 device: str | Device | None = None, dtype: Any = np.float32,
                 generator: Generator | None = None) -> None:
        super().__init__()
        self._build(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype,
                    generator)


class _Cell(_Weights, _Step):
    """One step; input (N, input_size) or (input_size,)."""

    def _build(self, input_size: int, hidden_size: int, bias: bool, device: Any, dtype: Any,
               generator: Generator | None) -> None:
        name = type(self).__name__
        self.input_size = input_size = whole_number(input_size, name, "input_size", least=0)
        self.hidden_size = hidden_size = whole_number(hidden_size, name, "hidden_size", least=0)
        self.bias = bias
        wide = self.parts * hidden_size
        self._new("weight_ih", (wide, input_size), device, dtype)
        self._new("weight_hh", (wide, hidden_size), device, dtype)
        for name in ("bias_ih", "bias_hh"):
            if bias:
                self._new(name, (wide,), device, dtype)
            else:
                self.register_parameter(name, None)
        self.reset_parameters(generator)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state, from an input and the state before; zeros unless given."""
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError("forward", got=f"input {tuple(input.shape)}",
                             wanted=f"(N, {self.input_size}) or ({self.input_size},)")
        shape = (*input.shape[:-1], self.hidden_size)
        if hx is None:
            state: State = tuple(_zeros(input, *shape) for _ in range(self.states))
        else:
            state = (hx,) if self.states == 1 else tuple(hx)
        if [tuple(s.shape) for s in state] != [shape] * self.states:
            raise ShapeError("forward", got=f"a state {[tuple(s.shape) for s in state]}",
                             wanted=f"{[shape] * self.states}")
        held = self.__dict__
        a = F.linear(input, held["weight_ih"], held["bias_ih"])
        state = self._step(a, state, held["weight_hh"], held["bias_hh"])
        return state[0] if self.states == 1 else state

    def extra_repr(self) -> str:
        """Hyper-parameters, those alone that differ from their defaults."""
        text = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
        return text + (f", nonlinearity={self.nonlinearity}" if self.nonlinearity != "tanh" else "")


class RNNCell(_Cell, _RNNStep):
    """One step of an `RNN`: h′ = tanh(W·x + b + U·h + c); parameters `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
                 device: str | Device | None = None, dtype: Any = np.float32,
                 generator: Generator | None = None) -> None:
        super().__init__()
        self._kind("RNNCell", nonlinearity)
        self._build(input_size, hidden_size, bias, device, dtype, generator)


class LSTMCell(_Cell, _LSTMStep):
    """One step of an `LSTM`; takes and returns the pair (h, c)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: str | Device | None = None,
                 dtype: Any = np.float32, generator: Generator | None = None) -> None:
        super().__init__()
        self._build(input_size, hidden_size, bias, device, dtype, generator)


class GRUCell(_Cell, _GRUStep):
    """One step of a `GRU`; parameters `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: str | Device | None = None,
                 dtype: Any = np.float32, generator: Generator | None = None) -> None:
        super().__init__()
        self._build(input_size, hidden_size, bias, device, dtype, generator)
