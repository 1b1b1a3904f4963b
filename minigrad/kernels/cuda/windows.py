"""What the kernels of pooling and convolution have in common: sliding windows over one to three axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.kernels.cuda.launch import THREADS, blocks, element_macros, element_combinations, kernel

__all__ = ["described", "run", "combinations"]

FILE = "windows"
#: The structure that the source calls Windows.
_WINDOWS = np.dtype([(name, np.int32, 3) for name in ("in", "out", "kernel", "stride", "before", "dilation")])


def described(spatial: Any, lengths: Any, kernel: Any, op: Any) -> np.ndarray[Any, Any] | None:
    """The geometry as the source takes it; None for more axes than it has loops for.

    Parameters
    ----------
    spatial, lengths : tuple of int
        Of the input without padding, and of the output.
    kernel : tuple of int
    op : Op
        Has `stride`, `padding` (before, after) and `dilation`.
    """
    if len(spatial) > 3:
        return None
    lead = (1,) * (3 - len(spatial))
    before = tuple(b for b, _ in op.padding)
    sizes = (spatial, lengths, kernel, op.stride, before, op.dilation)
    made = np.zeros(1, _WINDOWS)  # one element, which is passed by value
    for name, values in zip(_WINDOWS.names or (), sizes):
        made[name] = (*((0,) * len(lead) if name == "before" else lead), *values)
    return made


def run(name: str, like: Any, count: int, arguments: tuple[Any, ...], windows: Any = None) -> None:
    """Launch one of the source's kernels for `count` elements of its result."""
    more = () if windows is None else (windows,)
    kernel(FILE, name, **element_macros(like.dtype))(blocks(count, like), (THREADS,),
                                                     (*arguments, np.uint32(count), *more))



def combinations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every source and macros that the kernels here can ask for."""
    return element_combinations(FILE)
