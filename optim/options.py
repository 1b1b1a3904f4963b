"""Options and parameters as optimizers accept them: checked, and brought into one form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from numbers import Real
from typing import Any

from minigrad.errors import ArgumentError, DtypeError, GraphError
from minigrad.tensor import Tensor

__all__ = ["LABELS", "Options", "as_groups", "as_parameters", "at_least_zero", "betas", "described", "finite"]

Options = dict[str, Any]
#: Keys of a group that are no options: labels, for summaries and messages, and the rate before schedules changed it.
LABELS = ("name", "param_names", "initial_lr")
_PASS = "pass a list of Tensors, such as list(model.parameters())"


def finite(where: str, name: str, value: Any) -> float:
    """`value` as a Python float; a NumPy number would change the dtype of what it is multiplied with.

    Raises
    ------
    DtypeError
        It is no real number.
    ArgumentError
        It is infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise DtypeError(where, got=f"{name}={value!r} of type {type(value).__name__}", wanted="a number")
    if not math.isfinite(value):
        raise ArgumentError(where, got=f"{name}={value}", wanted="a finite number")
    return float(value)


def at_least_zero(where: str, name: str, value: Any) -> float:
    """`value` as a Python float that is 0 or more; refuses as `finite` does."""
    number = finite(where, name, value)
    if number < 0:
        raise ArgumentError(where, got=f"{name}={value}", wanted=f"{name} ≥ 0")
    return number


def betas(where: str, value: Any) -> tuple[float, float]:
    """The two decay rates of running moments, each in [0, 1)."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ArgumentError(where, got=f"betas={value!r}", wanted="two numbers, such as (0.9, 0.999)")
    first, second = (at_least_zero(where, f"betas[{i}]", beta) for i, beta in enumerate(value))
    if first >= 1 or second >= 1:
        raise ArgumentError(where, got=f"betas={value}", wanted="both in [0, 1)")
    return first, second


def as_groups(where: str, params: Any) -> list[Options]:
    """What an optimizer was given to optimize, as a list of groups: dicts with ``"params"`` and options.

    Raises
    ------
    DtypeError
        It is neither an iterable of parameters nor of dicts, or has no order.
    ArgumentError
        It is empty.
    """
    found = _listed(where, params)
    dicts = [isinstance(item, dict) for item in found]
    if any(dicts) and not all(dicts):
        raise DtypeError(where, got="groups and parameters mixed", wanted="all dicts, or none")
    return found if dicts[0] else [{"params": found}]


def _listed(where: str, params: Any) -> list[Any]:
    """The items of an ordered iterable, at least one."""
    if isinstance(params, (Tensor, Mapping, AbstractSet)) or not isinstance(params, Iterable):
        raise DtypeError(where, got=f"params of type {type(params).__name__}",
                         wanted="an ordered iterable of Tensors, of (name, Tensor) or of groups",
                         hint=f"Even for one, {_PASS}")
    found = list(params)
    if not found:
        raise ArgumentError(where, got="an empty parameter list", wanted="at least one parameter",
                            hint="A generator can be used up only once")
    return found


def as_parameters(where: str, params: Any) -> tuple[list[Tensor], list[str] | None]:
    """The parameters of one group, and their names if it was given as (name, parameter) pairs.

    Raises
    ------
    DtypeError
        Something is not a Tensor, or not of floating point.
    GraphError
        A Tensor is no leaf: it was computed, so a step would have no effect on what it was computed from.
    ArgumentError
        The group is empty, or only some of its parameters have names.
    """
    found = [params] if isinstance(params, Tensor) else _listed(where, params)
    pairs = [isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in found]
    if any(pairs) and not all(pairs):
        raise ArgumentError(where, got="parameters with and without names", wanted="names for all, or for none")
    names = [name for name, _ in found] if pairs[0] else None
    tensors = [tensor for _, tensor in found] if pairs[0] else found
    for i, tensor in enumerate(tensors):
        _check_parameter(where, tensor, names[i] if names else f"number {i}")
    return tensors, names


def _check_parameter(where: str, tensor: Any, label: str) -> None:
    """Refuse what cannot be optimized."""
    if not isinstance(tensor, Tensor):
        raise DtypeError(where, got=f"parameter {label} of type {type(tensor).__name__}", wanted="a Tensor",
                         hint=f"Please {_PASS}")
    if tensor.edge is not None:
        raise GraphError(where, got=f"parameter {label}, a result of {tensor.node.op.name}", wanted="a leaf",
                         hint="Optimize the Tensors it was computed from, or its detach()")
    if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16":
        raise DtypeError(where, got=f"parameter {label} of dtype {tensor.dtype}", wanted="floating point")


def described(group: Options, parameter: Tensor) -> str:
    """How messages call a parameter: its place in its group, its name if it has one, and its shape."""
    place = next(i for i, other in enumerate(group["params"]) if other is parameter)
    names = group.get("param_names")
    name = names[place] if names else parameter.name
    return f"parameter {place}{f' ({name})' if name else ''} of shape {parameter.shape}"
