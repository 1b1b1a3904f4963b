"""What an optimizer keeps for one parameter: its state, and the blocks in which it is updated.

An update is a dozen array operations over the same few arrays. Block by block they work in the cache and not in main
memory, and what they need for intermediate results is bounded, whatever the size of the parameter. A block is a piece
of the parameter along the axis with the largest stride, so every memory order is served without a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minigrad.backend import Array, accumulation_dtype, device_of, is_array, namespace, transfer
from minigrad.kernels.compiled import loading
from minigrad.kernels.cuda import updates
from minigrad.versions import place_of

__all__ = ["Block", "Numbers", "Scratch", "Slot", "following", "laid_out", "zeros_like"]

#: What a block needs besides: arrays for intermediate results; and two for its gradient and itself, should the gradient
#: have another memory order, or both half precision. The last is None in full precision.
Spare = tuple[tuple[Array, ...], tuple[Array, Array]]

#: (where to cut the gradient, parameter, state, and what `Spare` says); None cuts nothing off.
Block = tuple[Any, Array, dict[str, Any], tuple[Array, ...], tuple[Array, Array]]

#: Elements of a block. On the CPU, six float32 arrays of this size fit the caches of one core; a GPU has its own order
#: of work, and larger blocks keep the cost of launching small.
CPU_BLOCK, GPU_BLOCK = 1 << 16, 1 << 22
#: Elements from which compiled loops update a parameter in several threads. The products of matrices that come next
#: have threads of their own, which wait until these have gone to sleep.
PARALLEL_FROM = 300_000


def zeros_like(array: Array) -> Array:
    """Zeros in the shape and memory order of a parameter, in the dtype in which its update is computed."""
    return namespace(array).zeros_like(array, dtype=accumulation_dtype(array.dtype))


def following(held: Array, array: Array) -> Array:
    """An array of the state in the dtype and on the device that fit the parameter: itself if it fits already."""
    if held.dtype == accumulation_dtype(array.dtype) and device_of(held) == device_of(array):
        return held
    return laid_out(held, array)


def laid_out(held: Array, array: Array) -> Array:
    """A copy of an array of the state, as `zeros_like` would make it for the parameter's elements."""
    new = zeros_like(array)
    new[...] = transfer(held, device_of(array))
    return new


class Numbers(tuple[Array, ...]):  # noqa: SLOT001 - a tuple with an attribute cannot have slots
    """The numbers of a formula as arrays without axes, and as the vector that these are views of.

    NumPy computes with such arrays in half the time that it takes with floats. A CUDA graph repeats the arguments of
    its launches, so there numbers that change, such as the learning rate and what hangs on the count of steps, are read
    from memory that is filled before each launch.
    """

    vector: Array

    @classmethod
    def views(cls, vector: Array) -> Numbers:
        """The elements of a vector."""
        made = cls([vector[i, ...] for i in range(vector.size)])
        made.vector = vector
        return made

    @classmethod
    def room(cls, count: int, array: Array) -> Numbers:
        """Room for `count` numbers of the formula for a parameter with these elements."""
        return cls.views(namespace(array).empty(count, dtype=accumulation_dtype(array.dtype)))


class Scratch:
    """Arrays whose content lasts for one block, shared by all of one shape, memory order, dtype and device."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._arrays: dict[Any, Spare] = {}

    def like(self, block: Array) -> Spare:
        """Arrays like a block: `count` for intermediate results, and the others that `Spare` has."""
        dtype = accumulation_dtype(block.dtype)
        key = (block.shape, block.strides, block.dtype, device_of(block))
        if key not in self._arrays:
            xp = namespace(block)
            *scratch, own_g, own_p = [xp.empty_like(block, dtype=dtype) for _ in range(self.count + 2)]
            self._arrays[key] = tuple(scratch), (own_g, None if dtype == block.dtype else own_p)
        return self._arrays[key]


class Slot:
    """One parameter's place in an optimizer.

    array : the elements that the blocks are cut from; None before the first update
    settings : of its group, those that the state was made for
    state : what the optimizer remembers of the parameter, arrays and numbers
    blocks : the pieces in which it is updated
    loop : the compiled loop that `fused` runs, with what it was compiled for
    fused : the update of all of it in one pass, from a gradient in the order of its memory and the vector of numbers;
        None where there is none
    listed : the arrays of its state, if one launch on a GPU may update it with others; else None
    kind : dtype and device of the numbers in the formula, as a key
    half : the update is computed in float32 and rounded once
    first : the state has served no update yet
    place : where writes to `array` are logged
    """

    __slots__ = ("array", "settings", "state", "blocks", "loop", "fused", "listed", "kind", "half", "first", "place")

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.array: Array = None
        self.settings: Any = None
        self.state: dict[str, Any] = {} if state is None else state
        self.blocks: tuple[Block, ...] = ()
        self.loop: Any = None
        self.fused: Callable[..., None] | None = None
        self.listed: tuple[Array, ...] | None = None
        self.kind = ("", np.dtype(np.float32))
        self.half = False
        self.first = state is None
        self.place: Any = None

    def bind(self, array: Array, scratch: Scratch) -> None:
        """Cut blocks from the elements of the parameter and from its state, which follows to its dtype and device."""
        self.array, self.loop, self.fused, self.listed = array, None, None, None
        self.place = place_of(array)
        self.state.update({name: following(held, array) for name, held in self.state.items() if is_array(held)})
        on_cpu = isinstance(array, np.ndarray)
        self.kind = ("cpu" if on_cpu else "gpu", accumulation_dtype(array.dtype))
        self.half = self.kind[1] != array.dtype
        cuts = _cuts(array, CPU_BLOCK if on_cpu else GPU_BLOCK)
        self.blocks = tuple([self._block(cut, scratch) for cut in cuts])

    def choose(self, loop: tuple[Any, ...] | None, names: tuple[str, ...]) -> None:
        """Have `fused` run a loop of `minigrad.kernels.compiled.updates` on all of it, if that is possible.

        On a GPU have it `listed` for `minigrad.kernels.cuda.updates`, which has rules of the same names.
        """
        if loop == self.loop:
            return
        self.loop, self.fused, self.listed = loop, None, None
        if loop is not None and not isinstance(self.array, np.ndarray):
            states = tuple([self.state[name] for name in names if name in self.state])
            self.listed = states if updates.fit(loop, self.array, states) else None
            return
        arrays = [self.array, *(self.state.get(name, self.array) for name in names)]
        if loop is None or not loading.INSTALLED or not all(
                isinstance(a, np.ndarray) and a.dtype == np.float32 and a.flags.forc and a.strides == self.array.strides
                for a in arrays):
            return
        name, *flags = loop
        run = loading.loops("updates", name, self.array.size >= PARALLEL_FROM, *flags)
        self.fused = partial(run, *[a.ravel("K") for a in arrays])  # contiguous, so these are views

    def _block(self, cut: Any, scratch: Scratch) -> Block:
        if cut is None:
            return None, self.array, self.state, *scratch.like(self.array)
        state = {name: value[cut] for name, value in self.state.items() if is_array(value)}
        return cut, self.array[cut], state, *scratch.like(self.array[cut])


def _cuts(array: Array, limit: int) -> list[Any]:
    """Indices that cut an array into blocks of about `limit` elements; None for one that is small enough."""
    if array.size <= limit:
        return [None]
    axis = int(np.argmax(np.abs(array.strides)))
    length = array.shape[axis]
    rows = max(1, limit // (array.size // length))
    lead = (slice(None),) * axis
    return [(*lead, slice(start, start + rows)) for start in range(0, length, rows)]
