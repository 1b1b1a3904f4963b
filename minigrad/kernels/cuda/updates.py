"""Optimizers' updates on a GPU: one launch for all parameters of a group, whatever their number and sizes.

Numbers that change between steps (the learning rate, corrections that hang on the count of steps) are passed by value,
or read from a vector in device memory where they come with one: that is how a recorded step gets new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigrad.kernels.cuda.launch import ELEMENTS, NULL, THREADS, element_combinations, element_macros, kernel

__all__ = ["fit", "run", "combinations"]

FILE = "updates"
#: As in the source: parameters of one launch, elements of one block, numbers of a formula.
MOST, CHUNK, NUMBERS = 64, 2048, 8
_MEMBERS = np.dtype([("p", np.uint64, MOST), ("g", np.uint64, MOST), ("state", np.uint64, (3, MOST)),
                     ("size", np.int64, MOST), ("first", np.int32, MOST), ("wide", np.int32, MOST),
                     ("count", np.int32), ("flags", np.int32)], align=True)
_NUMBERS = np.dtype([("v", np.float32, NUMBERS)])
#: The flags of a rule, in the order in which an optimizer's `loop` gives them.
_FLAGS = {"sgd": {"decayed": 1, "moving": 4, "damped": 8, "nesterov": 16, "maximize": 2},
          "adam": {"decayed": 1, "decoupled": 32, "amsgrad": 64, "maximize": 2}}


def fit(rule: tuple[Any, ...], array: Any, states: Sequence[Any]) -> bool:
    """Whether there is such a rule, and a parameter and its state may be among the members: dense, in one order."""
    return bool(rule[0] in _FLAGS and array.dtype.name in ELEMENTS and array.size > 0
                and (array.flags.c_contiguous or array.flags.f_contiguous)
                and all(s.dtype == np.float32 and s.shape == array.shape and _order(s) == _order(array)
                        for s in states))


def _order(array: Any) -> tuple[int, ...]:
    """Strides in elements."""
    return tuple([stride // array.itemsize for stride in array.strides])


def run(rule: tuple[Any, ...], members: Sequence[tuple[Any, Sequence[Any], Any]], numbers: Any) -> None:
    """Update parameters in place, `MOST` of them in a launch.

    Parameters
    ----------
    rule : tuple
        What the optimizer's `loop` gave: a name, and flags.
    members : sequence of (parameter, arrays of its state, gradient)
        Of one dtype, on one device; each `fit`, the gradient of the parameter's dtype, shape and strides.
    numbers : sequence of float
        Of the formula; with an attribute `vector`, they are read from that float32 array on the device by the launch.
    """
    name, *given = rule
    flags = sum(bit for bit, on in zip(_FLAGS[name].values(), given) if on)
    recorded = getattr(numbers, "vector", None)
    values = np.zeros(1, _NUMBERS)
    if recorded is None:
        values["v"][0, : len(numbers)] = numbers
    import cupy

    with cupy.cuda.Device(members[0][0].device.id):  # which need not be the current one: nobody else sees to it here
        launch = kernel(FILE, name, **element_macros(members[0][0].dtype))
        for start in range(0, len(members), MOST):
            table, blocks = _table(members[start : start + MOST], flags)
            launch((blocks,), (THREADS,),
                   (table, values, NULL if recorded is None else recorded, np.int32(len(numbers))))


def _table(members: Sequence[tuple[Any, Sequence[Any], Any]], flags: int) -> tuple[np.ndarray[Any, Any], int]:
    """What the source calls Members, and the number of blocks."""
    table = np.zeros(1, _MEMBERS)
    row, blocks = table[0], 0
    for i, (p, states, g) in enumerate(members):
        addresses = [a.data.ptr for a in (p, g, *states)]
        row["p"][i], row["g"][i] = addresses[:2]
        for s, address in enumerate(addresses[2:]):
            row["state"][s, i] = address
        row["size"][i], row["first"][i] = p.size, blocks
        row["wide"][i] = p.size % 4 == 0 and all(address % 16 == 0 for address in addresses)
        blocks += -(-p.size // CHUNK)
    row["count"], row["flags"] = len(members), flags
    return table, blocks


def combinations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every source and macros that the kernels here can ask for."""
    return element_combinations(FILE)
