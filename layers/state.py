"""Writing the state of a module out as named Tensors, and reading it back: everything fits, or nothing changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minigrad.backend import Array, as_array, astype, copied, memory, transfer
from minigrad.errors import StateError
from minigrad.tensor import Parameter, Tensor

if TYPE_CHECKING:
    from minigrad.layers.module import Module

__all__ = ["LoadedKeys", "load_state", "named_state"]


class LoadedKeys(NamedTuple):
    """What `load_state_dict` did not find, and what it did not know. Both are empty if everything fitted."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def named_state(module: Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers under their full names; shared ones under each of their names.

    A module's own parameters come first, then its own buffers, then its children in the order of registration.
    """
    for path, part in module.named_modules(remove_duplicate=False):
        for name, tensor in part._own_state():
            yield (f"{path}.{name}" if path else name), tensor


def _dispensable(module: Module) -> set[str]:
    """Full names that a state may lack."""
    parts = module.named_modules(remove_duplicate=False)
    return {f"{path}.{name}" if path else name for path, part in parts for name in part.optional_state}


def _problem(tensor: Tensor, array: Array) -> str:
    """Why `array` cannot be loaded into `tensor`; empty if it can."""
    if tuple(array.shape) != tensor.shape:
        return f"has shape {tuple(array.shape)} for {tensor.shape}"
    numbers = array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"
    if not numbers or not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        return f"has dtype {array.dtype} for {tensor.dtype}"
    if isinstance(tensor, Parameter) and isinstance(tensor.data, np.ndarray) and not tensor.data.flags.writeable:
        return "would be written to read-only memory"
    return ""


def load_state(module: Module, state: Mapping[str, Any], strict: bool) -> LoadedKeys:
    """Load `state` into `module`: see `Module.load_state_dict`."""
    where = f"load_state_dict of {type(module).__name__}"
    if not isinstance(state, Mapping):
        raise StateError(where, got=f"a {type(state).__name__}", wanted="a mapping from names to Tensors or arrays",
                         hint="model.state_dict() gives one, and minigrad.io.load reads one from a file")
    own = dict(named_state(module))
    arrays = {name: as_array(x.data if isinstance(x, Tensor) else x) for name, x in state.items() if name in own}
    needed = own.keys() - _dispensable(module)
    found = LoadedKeys([name for name in own if name in needed and name not in state],
                       [name for name in state if name not in own])
    problems = [f"{name!r} {why}" for name, array in arrays.items() if (why := _problem(own[name], array))]
    if strict:
        problems[:0] = [f"{what} {', '.join(map(repr, names))}"
                        for what, names in (("missing", found[0]), ("unexpected", found[1])) if names]
    if problems:
        raise StateError(where, got="; ".join(problems),
                         wanted="exactly the names and shapes of this module" if strict else "shapes that fit",
                         hint="Nothing was changed")
    _write(own, arrays)
    return found


def _write(own: dict[str, Tensor], arrays: dict[str, Array]) -> None:
    """Give each Tensor its new values. All conversions precede the first write, so a failing one changes nothing."""
    owners = {id(memory(tensor.data)[0]) for tensor in own.values()}
    ready = {}
    for name, array in arrays.items():
        tensor = own[name]
        converted = astype(transfer(array, tensor.device), tensor.dtype)
        # Buffers keep the array, so it must be theirs alone. One that lies in the memory of this module (its own
        # state, perhaps with names exchanged) would change under the writes to come.
        mine = converted is array and (not isinstance(tensor, Parameter) or id(memory(array)[0]) in owners)
        ready[name] = copied(converted) if mine else converted
    for name, array in ready.items():
        if isinstance(own[name], Parameter):
            own[name].assign(array)
        else:
            own[name].data = array
