"""A whole training step recorded once and replayed: what is static, what is copied back, what is refused.

A CUDA graph is a list of launches with fixed addresses. So the arguments of a step are copied into fixed arrays; what
the step binds anew (running statistics) is copied back into the arrays it was read from; what the host computes for
each step (counts, the learning rate) is written to the device before each launch; and what the host would have to look
at is refused. All that is decided here; what CUDA does is behind `Graphs`, in `minigrad.cuda`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from minigrad import versions
from minigrad.backend import Array, Device, copied, device_of, is_array
from minigrad.errors import ArgumentError, DeviceError, GraphError, MinigradError
from minigrad.modes import current, switch
from minigrad.tensor import Tensor

__all__ = ["Graphs", "Recorder", "Replay"]

WARMUP = 2  # plain calls before the recording: whatever is made once and kept is made in them


class Graphs(Protocol):
    """What CUDA does, behind one seam."""

    device: Device

    def names(self) -> Any:
        """The namespace of arrays while recording: without functions that CUDA graphs cannot hold."""

    def aside(self) -> AbstractContextManager[Any]:
        """Around a plain call on the stream that will record."""

    def recording(self) -> AbstractContextManager[Any]:
        """Around the step that is recorded, and not computed; afterwards `launch` computes it."""

    def outside(self) -> AbstractContextManager[Any]:
        """Inside `recording`, around allocations whose memory the graph must not use for anything else."""

    def launch(self) -> None:
        """Compute what was recorded."""


class Recorder:
    """What a step does that a graph cannot repeat by itself: the value of `Mode.graph` while it is recorded.

    Attributes
    ----------
    names : the namespace of arrays on the device, for texts
    """

    def __init__(self, graphs: Graphs) -> None:
        self.names, self.outside = graphs.names(), graphs.outside
        self._buffers: dict[int, tuple[Tensor, Array]] = {}  # what was bound anew, and the array it had before
        self._gradients: dict[int, tuple[Tensor, Tensor | None, Tensor | None]] = {}  # before, and after
        self._cleared: set[int] = set()  # whose gradients the step itself has cleared first
        self._written: dict[int, Array] = {}
        self._steps: list[Any] = []

    # ---------------------------------------------------------------- told by those who do it

    def rebound(self, tensor: Tensor) -> None:
        """A buffer is about to get another array."""
        self._buffers.setdefault(id(tensor), (tensor, tensor.data))

    def differentiated(self, tensors: list[Tensor]) -> None:
        """The gradients of these Tensors are about to be set, or added to."""
        for tensor in tensors:
            before = None if id(tensor) in self._cleared else tensor.grad
            self._gradients.setdefault(id(tensor), (tensor, before, None))

    def cleared(self, tensor: Tensor) -> None:
        """The gradient of this Tensor is about to be cleared."""
        if id(tensor) not in self._gradients:
            self._cleared.add(id(tensor))

    def wrote(self, arrays: tuple[Array, ...]) -> None:
        """These arrays are written in place."""
        self._written.update({id(array): array for array in arrays})

    def stepped(self, recorded: Any) -> Any:
        """An optimizer makes a step, which `recorded` knows how to repeat; returns that."""
        self._steps.append(recorded)
        return recorded

    # ---------------------------------------------------------------- the end of the recording

    def finish(self) -> None:
        """Copy what was bound anew back to where the step has read it from: the last launches of the graph."""
        for tensor, storage in self._buffers.values():
            if tensor.data is not storage:
                storage[...] = tensor.data
                tensor.data = storage
            self._written[id(storage)] = storage
        for key, (tensor, before, _) in self._gradients.items():
            after = tensor.grad
            if before is not None and after is not before:
                if after is None:
                    raise GraphError("replay", got="a step that reads a gradient of the step before, and clears it",
                                     wanted="zero_grad() before backward")
                before.data[...] = after.data
                tensor.grad = after = before
            if before is not None:
                self._written[id(before.data)] = before.data
            self._gradients[key] = tensor, before, after

    def undo(self) -> None:
        """Bring the host's side back to where it was: nothing has been computed."""
        for tensor, storage in self._buffers.values():
            tensor.data = storage
        for tensor, before, _ in self._gradients.values():
            tensor.grad = before
        for recorded in reversed(self._steps):
            recorded.undo()

    # ---------------------------------------------------------------- around each launch

    def check(self) -> None:
        """Refuse, before anything has changed, what makes the graph wrong.

        Raises
        ------
        GraphError
        """
        for recorded in self._steps:
            recorded.check()
        for key, (tensor, before, _) in self._gradients.items():
            if before is None and key not in self._cleared and tensor.grad is not None:
                raise GraphError("replay", got="a gradient to add to, where there was none when the step was recorded",
                                 wanted="none", hint="Let the step begin with zero_grad() of the optimizer or model")
        for tensor, storage in self._buffers.values():
            if tensor.data is not storage and (device_of(tensor.data) != device_of(storage)
                                               or (tensor.shape, tensor.dtype) != (storage.shape, storage.dtype)):
                raise GraphError("replay", got=f"a buffer that is now {tensor.dtype}{list(tensor.shape)} on "
                                               f"{tensor.device}",
                                 wanted=f"{storage.dtype}{list(storage.shape)} on {device_of(storage)}, as recorded",
                                 hint="Record the step again: call reset()")

    def before(self, first: bool) -> None:
        """What the host does for this launch."""
        for recorded in self._steps:
            (recorded.fill if first else recorded.advance)()
        for tensor, storage in self._buffers.values():
            if tensor.data is not storage:  # loaded, reset, or moved by a plain step in between
                storage[...] = tensor.data
                tensor.data = storage
        if first:
            return
        for tensor, before, after in self._gradients.values():
            if before is not None and tensor.grad is not None and tensor.grad is not after:
                before.data[...] = tensor.grad.data
            elif before is not None and tensor.grad is None:
                before.data[...] = 0

    def after(self) -> None:
        """What the host does once the launch is under way."""
        for tensor, _, after in self._gradients.values():
            tensor.grad = after
        if self._written:
            versions.wrote(*self._written.values())


class Replay:
    """A training step that is recorded once and replayed; made by `minigrad.cuda.replay`, which says how to use it."""

    def __init__(self, step: Callable[..., Any], graphs: Callable[[], Graphs], warmup: int = WARMUP) -> None:
        if not isinstance(warmup, int) or warmup < 1:
            raise ArgumentError("replay", got=f"warmup={warmup!r}", wanted="a whole number of at least 1",
                                hint="What is made once and kept has to be made before the recording")
        self.step, self.warmup, self._make = step, warmup, graphs
        self.reset()

    def reset(self) -> None:
        """Forget the recording and its memory: the next calls warm up and record again."""
        self.calls = 0
        self._graphs: Graphs | None = None
        self._recorder: Recorder | None = None
        self._known: tuple[Any, ...] | None = None
        self._inputs: list[Array] = []
        self._outputs: Any = None

    @property
    def recorded(self) -> bool:
        """Whether the step has been recorded: from the call after the warm-up on."""
        return self._recorder is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make one step.

        Raises
        ------
        GraphError
            While recording, the step does what a graph cannot hold. Then nothing has changed.
        ArgumentError
            The arguments are not like those of the first call. Nothing has changed.
        DeviceError
            An argument is not on the device.
        """
        if current().graph is not None:
            raise GraphError("replay", got="a replayed step inside a step that is being recorded", wanted="one of them")
        leaves: list[Any] = []
        structure = _flattened((args, kwargs), leaves)
        if self._graphs is None:
            self._graphs = self._make()
        self._check_arguments(structure, leaves)
        self.calls += 1
        if self.calls <= self.warmup:
            with self._graphs.aside():
                return _copied(self.step(*args, **kwargs))
        arrays = [leaf.data if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        first = self._recorder is None
        if first:
            try:
                self._record(structure, leaves, arrays)
            except BaseException:
                self.calls -= 1
                raise
        recorder = self._recorder
        assert recorder is not None
        if not first:
            recorder.check()
            for static, array in zip(self._inputs, arrays):
                static[...] = array
        recorder.before(first)
        self._graphs.launch()
        recorder.after()
        return _copied(self._outputs)

    def _check_arguments(self, structure: Any, leaves: list[Any]) -> None:
        """Refuse arguments that are not on the device, or not like those of the first call."""
        assert self._graphs is not None
        device = self._graphs.device
        for leaf in leaves:
            array = leaf.data if isinstance(leaf, Tensor) else leaf
            if device_of(array) != device:
                raise DeviceError("replay", got=f"an argument on {device_of(array)}", wanted=f"all of them on {device}",
                                  hint="Move them with .to(device), or let the DataLoader do it: device='cuda'")
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                raise GraphError("replay", got="an argument that requires a gradient", wanted="constants",
                                 hint="detach() it; parameters are taken by the step itself")
        known = structure, *[(type(leaf), tuple(leaf.shape), leaf.dtype) for leaf in leaves]
        if self._known is None:
            self._known = known
        elif not _same(self._known, known):
            raise ArgumentError("replay", got=_described(known),
                                wanted=f"{_described(self._known)}, as in the first call",
                                hint="A recorded step has fixed shapes, dtypes and options: make another replay(), or "
                                     "drop_last=True in the DataLoader")

    def _record(self, structure: Any, leaves: list[Any], arrays: list[Array]) -> None:
        """Run the step once without computing it, on arrays that stay."""
        assert self._graphs is not None
        static = [copied(array) for array in arrays]
        held = [Tensor.wrap(array) if isinstance(leaf, Tensor) else array for leaf, array in zip(leaves, static)]
        args, kwargs = _rebuilt(structure, iter(held))
        recorder = Recorder(self._graphs)
        try:
            with self._graphs.recording(), switch(graph=recorder):
                outputs = _detached(self.step(*args, **kwargs))
                recorder.finish()
        except MinigradError:
            recorder.undo()
            raise
        except Exception as error:
            recorder.undo()
            raise GraphError("replay", got=f"{type(error).__name__} while the step was recorded: {error}",
                             wanted="a step that nothing on the host has to wait for",
                             hint="No .item(), no `if` on values, no arrays from the host inside the step; nothing was "
                                  "changed") from error
        except BaseException:
            recorder.undo()
            raise
        self._inputs, self._outputs, self._recorder = static, outputs, recorder


# ------------------------------------------------------------------ arguments and results


class _Leaf:
    """The place of an array in nested arguments."""

    def __repr__(self) -> str:
        return "·"


_LEAF = _Leaf()


def _flattened(x: Any, leaves: list[Any]) -> Any:
    """The nesting of tuples, lists and dicts with `_LEAF` for Tensors and arrays, which are added to `leaves`."""
    if isinstance(x, Tensor) or is_array(x):
        leaves.append(x)
        return _LEAF
    if type(x) in (tuple, list):
        return type(x)([_flattened(part, leaves) for part in x])
    if type(x) is dict:
        return {key: _flattened(part, leaves) for key, part in x.items()}
    return x


def _rebuilt(structure: Any, leaves: Any) -> Any:
    """The reverse of `_flattened`."""
    if structure is _LEAF:
        return next(leaves)
    if type(structure) in (tuple, list):
        return type(structure)([_rebuilt(part, leaves) for part in structure])
    if type(structure) is dict:
        return {key: _rebuilt(part, leaves) for key, part in structure.items()}
    return structure


def _same(a: Any, b: Any) -> bool:
    """Whether two nestings are equal, constants in them too: by value and type, or the same object."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) in (tuple, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    if type(a) is dict:
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    return isinstance(a, (int, float, str, bytes, type, np.dtype, np.generic)) and bool(a == b)


def _described(known: tuple[Any, ...]) -> str:
    (args, kwargs), *leaves = known
    shapes = ", ".join(f"{dtype}{list(shape)}" for _, shape, dtype in leaves)
    more = "" if all(a is _LEAF for a in args) and not kwargs else f" in {args!r}{kwargs if kwargs else ''}"
    return f"{shapes or 'no arrays'}{more}"


def _detached(x: Any) -> Any:
    """What a step returns, without its history: Tensors, numbers and None, nested."""
    leaves: list[Any] = []
    structure = _flattened(x, leaves)
    return _rebuilt(structure, iter([leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]))


def _copied(x: Any) -> Any:
    """What a step returns, in memory of its own: the next call computes into the same arrays."""
    leaves: list[Any] = []
    structure = _flattened(x, leaves)
    return _rebuilt(structure, iter([Tensor.wrap(copied(leaf.data)) if isinstance(leaf, Tensor) else copied(leaf)
                                     for leaf in leaves]))
