"""Optimizer, the base: parameter groups, checks, the step, and its state as a dict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from minigrad.backend import Array, device_of, is_array, namespace
from minigrad.errors import ArgumentError, DeviceError, DtypeError, GraphError, ShapeError
from minigrad.kernels.cuda import updates
from minigrad.modes import KERNEL_TIERS, current, enable_grad
from minigrad.optim import checkpoint
from minigrad.optim.options import LABELS, Options, as_groups, as_parameters, described
from minigrad.optim.recorded import RecordedStep
from minigrad.optim.slots import Numbers, Scratch, Slot
from minigrad.tensor import Tensor
from minigrad.versions import place_of, wrote

__all__ = ["Optimizer"]

#: The tier of kernels from which on compiled loops may update parameters.
FUSED = KERNEL_TIERS["compiled"]
_Settings = tuple[Options, tuple[str, ...]]  # a group's options, and the names of what they ask to be remembered

class Optimizer(ABC):
    """Base of all optimizers: it writes new values into parameters, in place, from their gradients.

    A subclass gives four things; the formula stands in the docstring of `update`.

    ``checked(self, options)``
        The options of a group, each checked and in one form (Python floats, bools, tuples).
    ``initial_state(self, array, options)``
        What is remembered of one parameter with these elements, before its first update: arrays by name, made with
        `minigrad.optim.slots.zeros_like`. A number ``"step"`` in it is counted up before every update.
    ``numbers(self, options, step, first)``
        The numbers of the formula, computed once for all parameters that share them. `step` is the parameter's
        count, 1 at its first update (0 where the state has none); `first` says that the state has served no update.
    ``update(self, xp, p, g, state, scratch, options, numbers)``
        The update of one parameter `p` in place, from its gradient `g`, which must be left as it is. Large parameters
        come in blocks, so the formula has to be elementwise. `xp` has the functions for these arrays; `scratch` holds
        `scratches` arrays for intermediate results. `p` should be written last: `g` may be the same memory.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor) or of dict
        What to optimize: leaves of floating point. A dict is a group: ``{"params": [...], "lr": ...}`` with options
        that differ from the defaults; it may have a ``"name"``. The names of named parameters are kept as
        ``"param_names"``.
    defaults : dict
        The options of groups that do not say otherwise.

    Attributes
    ----------
    param_groups : list of dict
        The groups, each with all options. Options may be changed between steps, as schedules do.
    defaults : dict

    Raises
    ------
    ArgumentError
        No parameters, one of them twice, an unknown option, or one out of its range.
    DtypeError
        Something is no Tensor of floating point, or an option no number.
    GraphError
        A parameter is no leaf.

    Notes
    -----
    Half-precision parameters are updated in float32, with float32 state, and rounded once per step. Every write is
    logged: a graph that still needs a parameter's old values refuses to differentiate. A model may be moved to another
    device or dtype between steps: the state follows.
    """

    scratches: ClassVar[int] = 0
    arrays: ClassVar[tuple[str, ...]] = ()  # the names of all arrays that a state may have

    def __init__(self, params: Any, defaults: Options) -> None:
        checked = self.checked(defaults)
        self.defaults = {name: checked[name] for name in defaults}  # in the order of the declaration
        self.param_groups: list[Options] = []
        self._reset()
        for group in as_groups(type(self).__name__, params):
            self.add_param_group(group)

    def _reset(self) -> None:
        self._slots: dict[Tensor, Slot] = {}
        self._scratch = Scratch(self.scratches)
        self._checked: dict[int, tuple[list[Any], _Settings]] = {}

    # ---------------------------------------------------------------- what a subclass gives

    @abstractmethod
    def checked(self, options: Options) -> Options:
        """The options of a group, each checked and in one form."""

    @abstractmethod
    def initial_state(self, array: Array, options: Options) -> dict[str, Any]:
        """What is remembered of a parameter before its first update."""

    @abstractmethod
    def numbers(self, options: Options, step: int, first: bool) -> tuple[float, ...]:
        """The numbers of the formula."""

    @abstractmethod
    def update(self, xp: Any, p: Array, g: Array, state: dict[str, Any], scratch: tuple[Array, ...],
               options: Options, numbers: tuple[Any, ...]) -> None:
        """Update one parameter, or a block of it, in place."""

    def loop(self, options: Options) -> tuple[Any, ...] | None:
        """The compiled loop that makes the whole update in one pass: its name and what it is compiled for.

        A subclass may have one, in `minigrad.kernels.compiled.updates`: a function of the parameter, the arrays of its
        state in the order of `arrays` (the parameter again for one that is absent), the gradient, all of them vectors
        of float32 in the order of their memory, and the numbers. The outcome has to be that of `update`. On a GPU the
        rule of that name in `minigrad.kernels.cuda.updates` is used, for all parameters that share numbers at once.
        """
        return None

    # ---------------------------------------------------------------- groups

    def add_param_group(self, group: Options) -> None:
        """Add a group of parameters: a dict with ``"params"``, options, and perhaps a ``"name"``.

        Raises
        ------
        ArgumentError, DtypeError, GraphError
            As the constructor; nothing has been added then.
        """
        where = type(self).__name__
        if not isinstance(group, dict) or "params" not in group:
            raise ArgumentError(where, got=f"the group {group!r}", wanted="a dict with 'params'")
        unknown = sorted(set(group) - {"params", *self.defaults, *LABELS})
        if unknown:
            raise ArgumentError(where, got=f"the unknown options {unknown}",
                                wanted=f"some of {sorted(self.defaults)}")
        params, names = as_parameters(where, group["params"])
        known = {p for other in self.param_groups for p in other["params"]}
        for i, p in enumerate(params):
            if p in known:
                raise ArgumentError(where, got=f"parameter {names[i] if names else f'number {i}'} twice",
                                    wanted="each parameter once, in one group")
            known.add(p)
        new = {**self.defaults, **group, "params": params}
        new.update(self.checked({name: new[name] for name in self.defaults}))
        if names:
            new["param_names"] = names
        if "param_names" in new and len(new["param_names"]) != len(params):
            raise ArgumentError(where, got=f"{len(new['param_names'])} param_names for {len(params)} parameters")
        self.param_groups.append(new)

    def _settings(self, group: Options) -> _Settings:
        """The group's settings, checked again if somebody has changed them; the same object as long as nobody has."""
        values = [group[name] for name in self.defaults]
        seen = self._checked.get(id(group))
        if seen is not None and seen[0] == values:
            return seen[1]
        options = self.checked(dict(zip(self.defaults, values)))
        group.update(options)
        settings = options, tuple(self.initial_state(np.zeros(()), options))
        self._checked[id(group)] = ([group[name] for name in self.defaults], settings)
        return settings

    # ---------------------------------------------------------------- the step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradient of every parameter, or with ``set_to_none=False`` make those that are there zeros."""
        graph = current().graph
        for group in self.param_groups:
            for parameter in group["params"]:
                if graph is not None:
                    graph.cleared(parameter)
                if parameter.grad is not None:
                    parameter.grad = None if set_to_none else parameter.grad.detach().zeros_like()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, once.

        All is checked before anything is changed.

        Parameters
        ----------
        closure : callable, optional
            Called first, with recording on: computes the loss anew, calls its `backward` and returns it.

        Returns
        -------
        What `closure` has returned, else None.

        Raises
        ------
        ShapeError, DtypeError, DeviceError
            A gradient does not fit its parameter, or a parameter no longer has the shape of its state.
        GraphError
            A parameter's memory is read-only.
        ArgumentError
            A group's option was changed to a value out of its range.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        shared: dict[Any, tuple[Any, ...]] = {}
        lists: dict[Any, tuple[Any, list[Any]]] = {}
        mode = current()
        ready = self._ready()
        recorded = None if mode.graph is None else mode.graph.stepped(RecordedStep(self, [slot for slot, *_ in ready]))
        places = [slot.place if slot.array is array else place_of(array) for slot, array, _, _ in ready]
        wrote(*[array for _, array, _, _ in ready], places=places)  # first: a write that is interrupted is a write
        before: Any = None
        numbers: Any = ()
        for slot, array, gradient, settings in ready:
            options = settings[0]
            if slot.array is not array or slot.settings is not settings:
                self._prepare(slot, array, settings)
            state = slot.state
            step = state.get("step", -1) + 1
            if step:
                state["step"] = step
            key = (id(options), step, slot.first, slot.kind)
            if key != before:  # mostly all parameters share their numbers
                before, numbers = key, shared.get(key)
                if numbers is None:
                    numbers = shared[key] = (
                        _arrays(self.numbers(options, step, slot.first), slot.kind) if recorded is None
                        else recorded.numbers(slot, options, step))
            slot.first = False
            whole = mode.kernels >= FUSED and gradient.strides == slot.array.strides
            if whole and slot.fused is not None:
                slot.fused(gradient.ravel("K"), numbers.vector)
            elif whole and slot.listed is not None:
                among = slot.loop, array.dtype, device_of(array), id(numbers)
                lists.setdefault(among, (numbers, []))[1].append((array, slot.listed, gradient))
            else:
                self._write(slot, gradient, options, numbers)
        for (loop, *_), (numbers, members) in lists.items():
            updates.run(loop, members, numbers)
        return loss

    def _ready(self) -> list[tuple[Slot, Array, Array, _Settings]]:
        """Every parameter that has a gradient, checked: its slot, elements, gradient and settings."""
        ready = []
        slots = self._slots
        for group in self.param_groups:
            settings = self._settings(group)
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                slot = slots.get(parameter)
                if slot is None:
                    slot = slots[parameter] = Slot()
                array = parameter.data
                if slot.array is not array:
                    self._check_parameter(parameter, slot, group)
                g: Any = gradient.data if isinstance(gradient, Tensor) else None
                both_numpy = g.__class__ is array.__class__ is np.ndarray  # the usual case, without asking for devices
                if not both_numpy or g.shape != array.shape or g.dtype is not array.dtype:
                    self._check_gradient(parameter, group)
                ready.append((slot, array, g, settings))
        return ready

    def _check_parameter(self, parameter: Tensor, slot: Slot, group: Options) -> None:
        """Refuse a parameter that cannot be written to, or got other elements that its state does not fit."""
        array = parameter.data
        where = f"{type(self).__name__}.step for {described(group, parameter)}"
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            raise GraphError(where, got="read-only memory", wanted="an array that can be written to",
                             hint="Make the parameter from a copy of the array")
        for name, held in slot.state.items():
            if is_array(held) and held.shape != array.shape:
                raise ShapeError(where, got=f"{name} of shape {held.shape} from earlier steps",
                                 wanted="the parameter's shape", hint="Make a new optimizer")

    def _check_gradient(self, parameter: Tensor, group: Options) -> None:
        """Refuse a gradient that does not fit its parameter."""
        gradient, array = parameter.grad, parameter.data
        where = f"{type(self).__name__}.step for {described(group, parameter)}"
        if not isinstance(gradient, Tensor):
            raise DtypeError(where, got=f"a gradient of type {type(gradient).__name__}", wanted="a Tensor")
        if gradient.shape != array.shape:
            raise ShapeError(where, got=f"a gradient of shape {gradient.shape}", wanted="the parameter's shape")
        if gradient.dtype != array.dtype:
            raise DtypeError(where, got=f"a gradient of dtype {gradient.dtype}", wanted=f"{array.dtype}")
        if gradient.device != device_of(array):
            raise DeviceError(where, got=f"a gradient on {gradient.device}", wanted=f"{device_of(array)}")

    def _prepare(self, slot: Slot, array: Array, settings: _Settings) -> None:
        """Make the state that these settings ask for and that is not there yet, and cut the blocks."""
        options, names = settings
        incomplete = any(name not in slot.state for name in names)
        if incomplete:
            initial = self.initial_state(array, options)
            slot.state.update({name: value for name, value in initial.items() if name not in slot.state})
            slot.first = True
        if incomplete or slot.array is not array:
            slot.bind(array, self._scratch)
        slot.settings = settings
        slot.choose(self.loop(options), self.arrays)

    def _write(self, slot: Slot, gradient: Array, options: Options, numbers: tuple[Any, ...]) -> None:
        """Update one parameter, block by block."""
        xp = namespace(slot.array)
        # Arrays of different memory orders are slow to combine (5 ms, not 0.5, for 512 × 784): one copy is cheaper.
        copy = slot.half or gradient.strides != slot.array.strides
        for cut, p, state, scratch, (own_g, own_p) in slot.blocks:
            g = gradient if cut is None else gradient[cut]
            if copy:
                own_g[...] = g
                g = own_g
            if slot.half:
                own_p[...] = p
                self.update(xp, own_p, g, state, scratch, options, numbers)
                p[...] = own_p
            else:
                self.update(xp, p, g, state, scratch, options, numbers)

    # ---------------------------------------------------------------- its state

    @property
    def state(self) -> Mapping[Tensor, Mapping[str, Any]]:
        """What is remembered of each parameter that has been updated: a view, to look at."""
        return MappingProxyType({p: MappingProxyType(slot.state) for p, slot in self._slots.items() if slot.state})

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to continue later, in the layout of `torch.optim.Optimizer.state_dict`.

        Returns
        -------
        dict
            ``{"state": {index: {name: array or int}}, "param_groups": [{option: value, "params": [index]}]}``.
            Parameters are numbered through all groups. Arrays are copies, in NumPy; all else can be written as JSON.
        """
        return checkpoint.collect(self.param_groups, {p: slot.state for p, slot in self._slots.items()})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` has returned.

        For parameters of the same shapes and dtypes, in the same groups. Options are taken over too. Indices may be
        strings, as JSON makes them.

        Raises
        ------
        StateError
            Something is missing, left over, or of another shape or dtype. The message names it; nothing has changed.
        """
        options, states = checkpoint.fitted(self, state_dict)
        for group, new in zip(self.param_groups, options):
            group.update(new)
        self._reset()
        for parameter, state in states.items():
            self._slots[parameter] = Slot(state)

    def __getstate__(self) -> dict[str, Any]:
        # Blocks are views into parameters and states: a copy of the optimizer has to cut its own.
        derived = ("_slots", "_scratch", "_checked")
        own = {name: value for name, value in self.__dict__.items() if name not in derived}
        return {**own, "_states": [(p, slot.state) for p, slot in self._slots.items() if not slot.first]}

    def __setstate__(self, own: dict[str, Any]) -> None:
        states = own.pop("_states")
        self.__dict__.update(own)
        self._reset()
        for parameter, state in states:
            self._slots[parameter] = Slot(state)

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            options = ", ".join(f"{name}={group[name]}" for name in self.defaults)
            lines.append(f"  {group.get('name', i)}: {len(group['params'])} parameters, {options}")
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def _arrays(numbers: tuple[float, ...], kind: tuple[str, Any]) -> tuple[Any, ...]:
    """The numbers as they are fastest: arrays for NumPy, floats for CuPy."""
    device, dtype = kind
    return Numbers.views(np.array(numbers, dtype)) if device == "cpu" else numbers
