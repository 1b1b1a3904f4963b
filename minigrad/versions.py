"""One clock for forward operations and in-place writes, and the log of those writes.

A graph may hold an array that is later written in place (an optimizer's step, `Tensor.assign`); its backward would then
be silently wrong. Each node carries the tick at which it was made, and each write logs the tick at which it happened,
under the object that owns the memory and the range of bytes. A saved array is stale if a write that overlaps it is
newer than its node. Forward pays nothing for this; backward pays one comparison of integers per node, because the
newest tick of all writes is looked at first. Views and `detach()` need no care of their own: they have the same owner.
Writes through raw arrays (``tensor.numpy()[...] = 1``) are not seen.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any

from minigrad.backend import Array, memory
from minigrad.modes import current

__all__ = ["Place", "place_of", "tick", "written", "wrote"]

tick = itertools.count(1).__next__
newest = 0  #: the tick of the newest write of all; 0 before the first
_log: dict[int, tuple[Any, dict[tuple[int, int], int]]] = {}  # id(owner) -> (weak reference to it, {bytes: tick})
_writing = threading.Lock()
Place = tuple[dict[tuple[int, int], int], tuple[int, int]]  # {bytes: tick} of an owner, and which of its bytes


def place_of(array: Array) -> Place:
    """Where the writes to an array are logged: known as long as its memory lives, and good for `wrote`."""
    owner, low, high = memory(array)
    with _writing:  # else two threads could each make a log for one owner
        entry = _log.get(id(owner))
        if entry is None or entry[0]() is not owner:
            entry = _log[id(owner)] = (weakref.ref(owner, partial(_forget, id(owner))), {})
        return entry[1], (low, high)


def wrote(*arrays: Array, places: Iterable[Place] | None = None) -> None:
    """Log that the elements of these arrays were changed in place just now.

    `places` are what `place_of` has said of them, if the caller has kept it: finding them takes most of the time.
    """
    global newest  # noqa: PLW0603 - one clock for the process, as for `tick`
    graph = current().graph
    if graph is not None:
        graph.wrote(arrays)
    if places is None:
        places = [place_of(array) for array in arrays]
    with _writing:  # else a thread could set the clock back
        newest = now = tick()
        for ticks, span in places:
            ticks[span] = now


def _forget(key: int, _: Any) -> None:
    """Drop what was logged of memory that is gone, unless its number stands for other memory already."""
    entry = _log.get(key)
    if entry is not None and entry[0]() is None:
        del _log[key]


def written(array: Array) -> int:
    """The tick of the newest logged write that overlaps the memory of `array`; 0 if there was none."""
    owner, low, high = memory(array)
    entry = _log.get(id(owner))
    if entry is None:
        return 0
    return max((at for (lo, hi), at in list(entry[1].items()) if lo < high and low < hi), default=0)
