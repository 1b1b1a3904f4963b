"""The state of an optimizer as a dict of arrays and plain values, and back: checked before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.backend import Array, accumulation_dtype, as_array, is_array, to_numpy
from minigrad.errors import MinigradError, StateError
from minigrad.op import value
from minigrad.optim.options import LABELS, Options, at_least_zero
from minigrad.optim.slots import laid_out
from minigrad.tensor import Tensor

if TYPE_CHECKING:
    from minigrad.optim.optimizer import Optimizer

__all__ = ["collect", "fitted"]

States = dict[Tensor, dict[str, Any]]
SHOWN = 8  # of the things that do not fit


def collect(groups: list[Options], states: Mapping[Tensor, dict[str, Any]]) -> dict[str, Any]:
    """The groups and the states with parameters replaced by their numbers, and arrays by copies on the CPU."""
    parameters = [p for group in groups for p in group["params"]]
    index = {p: i for i, p in enumerate(parameters)}
    saved = {i: {name: _copy(held) for name, held in states[p].items()} for p, i in index.items() if states.get(p)}
    return {
        "state": saved,
        "param_groups": [{**group, "params": [index[p] for p in group["params"]]} for group in groups],
    }


def _copy(held: Any) -> Any:
    return np.array(to_numpy(held), order="C") if is_array(held) else held


def fitted(optimizer: Optimizer, saved: Mapping[str, Any]) -> tuple[list[Options], States]:
    """New options of every group and new states, ready to be taken over.

    Raises
    ------
    StateError
        Naming all that does not fit.
    """
    where = f"{type(optimizer).__name__}.load_state_dict"
    if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= set(saved):
        raise StateError(where, got=f"{sorted(saved) if isinstance(saved, Mapping) else type(saved).__name__}",
                         wanted="a dict with 'state' and 'param_groups'")
    entries = (saved["state"], *saved["param_groups"]) if isinstance(saved["param_groups"], (list, tuple)) else (None,)
    if not all(isinstance(entry, Mapping) for entry in entries):
        raise StateError(where, got="another layout", wanted="a dict as 'state' and a list of dicts as 'param_groups'")
    problems: list[str] = []
    options = _groups(optimizer, saved["param_groups"], problems)
    states: States = {}
    if not problems:
        states = _states(optimizer, saved, options, problems)
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise StateError(where, got="; ".join(problems[:SHOWN]) + more,
                         wanted="the state of an optimizer like this one", hint="Nothing was loaded")
    return options, states


def _groups(optimizer: Optimizer, saved: Any, problems: list[str]) -> list[Options]:
    """The options that were saved for each group."""
    groups = optimizer.param_groups
    if len(saved) != len(groups):
        problems.append(f"{len(saved)} groups where the optimizer has {len(groups)}")
        return []
    found = []
    for i, (group, other) in enumerate(zip(groups, saved)):
        have, want = set(other) - {"params", *LABELS}, set(optimizer.defaults)
        problems += [f"group {i} lacks {name!r}" for name in sorted(want - have)]
        problems += [f"group {i} has the unknown option {name!r}" for name in sorted(have - want)]
        _compare_parameters(i, group, other, problems)
        if have == want:
            try:
                found.append(optimizer.checked({name: other[name] for name in optimizer.defaults}))
                if "initial_lr" in other:
                    found[-1]["initial_lr"] = at_least_zero(f"group {i}", "initial_lr", other["initial_lr"])
            except MinigradError as error:
                problems.append(f"group {i}: {error}")
    return found


def _compare_parameters(i: int, group: Options, other: Mapping[str, Any], problems: list[str]) -> None:
    """The number of parameters in a group, and their names where both sides have them."""
    wanted, got = len(group["params"]), len(other.get("params", ()))
    if got != wanted:
        problems.append(f"group {i} with {got} parameters where the optimizer has {wanted}")
        return
    names, others = group.get("param_names"), other.get("param_names")
    if names and others:
        problems += [f"group {i}: parameter {their!r} where the optimizer has {our!r}"
                     for our, their in zip(names, others) if our != their]


def _states(optimizer: Optimizer, saved: Mapping[str, Any], options: list[Options], problems: list[str]) -> States:
    """The saved state of every parameter, in arrays laid out and placed as the parameter."""
    held = {str(index): state for index, state in saved["state"].items()}
    states: States = {}
    for group, other, chosen in zip(optimizer.param_groups, saved["param_groups"], options):
        for parameter, index in zip(group["params"], other["params"]):
            state = held.pop(str(index), None)
            if state:
                states[parameter] = _state(optimizer, parameter.data, state, chosen, f"state {index}", problems)
    problems += [f"state {index}, of no parameter in any group" for index in sorted(held)]
    return states


def _state(optimizer: Optimizer, array: Array, saved: Any, options: Options, label: str,
           problems: list[str]) -> dict[str, Any]:
    """One parameter's state."""
    if not isinstance(saved, Mapping):
        problems.append(f"{label} of type {type(saved).__name__}")
        return {}
    fresh = optimizer.initial_state(array, options)
    problems += [f"{label} lacks {name!r}" for name in fresh if name not in saved]
    known = {*fresh, *optimizer.arrays}
    problems += [f"{label} has the unknown {name!r}" for name in saved if name not in known]
    state: dict[str, Any] = {}
    for name in (*fresh, *(name for name in optimizer.arrays if name not in fresh)):
        if name not in saved:
            continue
        got = value(saved[name])
        if name == "step":
            state[name] = _count(got, label, problems)
            continue
        source, dtype = as_array(got), accumulation_dtype(array.dtype)
        if source.shape != array.shape or source.dtype != dtype:
            problems.append(f"{label} has {name} of shape {source.shape} and dtype {source.dtype}, "
                            f"not {array.shape} and {dtype}")
        else:
            state[name] = laid_out(source, array)
    return state


def _count(got: Any, label: str, problems: list[str]) -> int:
    """A number of steps, whichever kind of number it was saved as."""
    try:
        count = int(got)
    except (TypeError, ValueError):
        count = -1
    if count < 0 or count != got:
        problems.append(f"{label} has step {got!r}")
    return count
