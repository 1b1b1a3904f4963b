"""oneDNN's C interface, as much of it as convolution needs, by ctypes.

The numbers are those of oneDNN 3's dnnl_types.h. An array is described by its shape and strides; what a primitive would
rather have is asked of it, and a reordering stands between the two where they differ.
"""

from __future__ import annotations

import ctypes as ct
import functools
import site
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigrad.errors import MinigradError
from minigrad.threads import apply_threads

__all__ = ["FORMAT", "Description", "Primitive", "check", "convolution_description", "installed", "problem",
           "release"]

PACKAGE = "onednn-cpu-gomp"
Handle = ct.c_void_p
_Dims = ct.c_int64 * 12
_CPU, _IN_ORDER, _FLOAT32, _ANY = 1, 1, 3, 1
_FORWARD_TRAINING, _DIRECT = 64, 1
#: What may be asked of a primitive's description: which memory, and which of several of its kind.
FORMAT = {"source": (129, 0), "source gradient": (130, 0), "weight": (131, 0), "bias": (131, 1),
          "weight gradient": (132, 0), "bias gradient": (132, 1), "output": (133, 0), "output gradient": (134, 0)}
_FROM, _TO = 1, 17


@functools.cache
def _path() -> str | None:
    """Where the package puts the library, if it is there: beside Python's own folder of libraries."""
    bases = filter(None, (sys.prefix, site.USER_BASE))
    return next((str(path) for base in bases if (path := Path(base, "lib", "libdnnl.so.3")).exists()), None)


def installed() -> bool:
    """Whether the library is there: asked at import, so nothing is loaded and no package's list is read."""
    return _path() is not None


@functools.cache
def problem() -> str:
    """Why oneDNN cannot be used here, in one line; empty if it can."""
    import importlib.metadata  # large, and not needed for an import of minigrad

    if not installed():
        return f"{PACKAGE} is not installed (pip install 'minigrad-norm[onednn]')"
    try:
        importlib.metadata.version(PACKAGE)
        _library()
    except importlib.metadata.PackageNotFoundError:
        return f"{_path()} is not from {PACKAGE}"
    except (OSError, AttributeError, MinigradError) as error:
        return f"oneDNN cannot be loaded: {error}"
    return ""


@functools.cache
def _library() -> Any:
    library = ct.CDLL(_path())
    library.dnnl_primitive_desc_query_md.restype = Handle
    apply_threads()
    return library


def check(status: int, what: str) -> None:
    """Raise what a call that did not succeed was for."""
    if status:
        raise MinigradError("oneDNN", got=f"status {status} from {what}", wanted="0")


def call(name: str, *arguments: Any) -> None:
    """Call a function of the library that returns a status."""
    check(getattr(_library(), name)(*arguments), name)


def release(description: Handle) -> None:
    """Free the description of a primitive that was asked for as a hint alone."""
    call("dnnl_primitive_desc_destroy", description)


@functools.cache
def _engine() -> tuple[Handle, Handle]:
    engine, stream = Handle(), Handle()
    call("dnnl_engine_create", ct.byref(engine), _CPU, ct.c_size_t(0))
    call("dnnl_stream_create", ct.byref(stream), engine, _IN_ORDER)
    return engine, stream


class _Owner:
    """Frees the library's objects that it has made when it goes itself."""

    def __init__(self) -> None:
        self._owned: list[tuple[Any, Handle]] = []

    def own(self, kind: str, handle: Handle) -> Handle:
        """Free an object of a kind in the end."""
        self._owned.append((getattr(_library(), f"dnnl_{kind}_destroy"), handle))
        return handle

    def __del__(self) -> None:
        for destroy, handle in reversed(self._owned):
            destroy(handle)


class Description(_Owner):
    """Shape and layout of an array: in C order, or whatever the primitive chooses."""

    def __init__(self, shape: Sequence[int], chosen: bool = False) -> None:
        super().__init__()
        self.handle = self.own("memory_desc", Handle())
        dims = _Dims(*shape)
        if chosen:
            call("dnnl_memory_desc_create_with_tag", ct.byref(self.handle), len(shape), dims, _FLOAT32, _ANY)
            return
        strides = [1]
        for n in reversed(shape[1:]):
            strides.append(strides[-1] * n)
        call("dnnl_memory_desc_create_with_strides", ct.byref(self.handle), len(shape), dims, _FLOAT32,
             _Dims(*reversed(strides)))


def _memory(description: Handle, own: bool) -> Handle:
    """Memory of a layout: its own, or to be set to an array's before each use."""
    memory = Handle()
    call("dnnl_memory_create", ct.byref(memory), description, _engine()[0], Handle(2**64 - 1 if own else None))
    return memory


class _Argument(ct.Structure):
    _fields_ = [("number", ct.c_int), ("memory", Handle)]


class _Execution(_Owner):
    """A primitive with its arguments."""

    def __init__(self, description: Handle, arguments: Sequence[tuple[int, Handle]]) -> None:
        super().__init__()
        self.primitive, self.count = self.own("primitive", Handle()), len(arguments)
        call("dnnl_primitive_create", ct.byref(self.primitive), description)
        self.arguments = (_Argument * self.count)(*[_Argument(*argument) for argument in arguments])

    def run(self) -> None:
        """Run, on what its memories hold."""
        call("dnnl_primitive_execute", self.primitive, _engine()[1], self.count, self.arguments)


class _Port(_Owner):
    """Between an array in C order and the layout that a primitive wants."""

    def __init__(self, plain: Description, wanted: Handle, output: bool) -> None:
        super().__init__()
        self.output, self.reordering, self.wanted = output, None, wanted
        self.user = self.inner = self.own("memory", _memory(plain.handle, own=False))
        if not _library().dnnl_memory_desc_equal(plain.handle, wanted):
            self.inner, way, engine = self.own("memory", _memory(wanted, own=True)), Handle(), _engine()[0]
            ends = (wanted, plain.handle) if output else (plain.handle, wanted)
            call("dnnl_reorder_primitive_desc_create", ct.byref(way), ends[0], engine, ends[1], engine, None)
            memories = (self.inner, self.user) if output else (self.user, self.inner)
            self.reordering = _Execution(self.own("primitive_desc", way), ((_FROM, memories[0]), (_TO, memories[1])))

    def bind(self, array: Any) -> None:
        """Take this array; lay it out as wanted if it is an input."""
        call("dnnl_memory_set_data_handle", self.user, Handle(array.ctypes.data))
        if self.reordering is not None and not self.output:
            self.reordering.run()

    def finish(self) -> None:
        """Lay an output out as the array is."""
        if self.reordering is not None and self.output:
            self.reordering.run()


class Primitive(_Owner):
    """A primitive that takes and gives arrays in C order, float32.

    Parameters
    ----------
    description : Handle
        From `convolution_description`; freed with this.
    ports : sequence of (shape, format, argument, whether it is an output)
        `format` is a key of `FORMAT`; `argument` is the number by which the primitive knows it.
    before : Primitive, optional
        One that runs before this each time, with the same first array: that is laid out once if both want it alike.
    """

    def __init__(self, description: Handle, ports: Sequence[tuple[Sequence[int], str, int, bool]],
                 before: Primitive | None = None) -> None:
        super().__init__()
        self.own("primitive_desc", description)
        query = _library().dnnl_primitive_desc_query_md
        self.before = before
        self.ports = [_Port(Description(shape), Handle(query(description, *FORMAT[kind])), output)
                      for shape, kind, _, output in ports]
        self.bound = self.ports
        if before is not None and _library().dnnl_memory_desc_equal(before.ports[0].wanted, self.ports[0].wanted):
            self.ports, self.bound = [before.ports[0], *self.ports[1:]], self.ports[1:]
        numbers = [argument for _, _, argument, _ in ports]
        self.execution = _Execution(description, list(zip(numbers, [port.inner for port in self.ports])))

    def __call__(self, *arrays: Any) -> None:
        """Run on arrays in the order of `ports`; outputs are written."""
        for port, array in zip(self.ports, arrays):
            if port in self.bound:
                port.bind(array)
        self.execution.run()
        for port in self.ports:
            port.finish()


def convolution_description(direction: str, shapes: Sequence[Sequence[int]], geometry: Sequence[Sequence[int]],
                            forward: Handle | None = None, biased: bool = False) -> Handle:
    """The description of a convolution, or of one of its two gradients.

    Parameters
    ----------
    direction : "forward", "backward_data" or "backward_weights"
    shapes : of source, weight and output
    geometry : strides, dilations (0 for neighbours), paddings before and after
    forward : Handle, for the gradients
        The description of the convolution itself.
    biased : bool
        Whether there is a bias, or its gradient.
    """
    descriptions = [Description(shape, chosen=True) for shape in (*shapes, shapes[2][1:2])]
    source, weight, output, vector = (each.handle for each in descriptions)
    bias = vector if biased else None
    description, engine = Handle(), _engine()[0]
    dims = [_Dims(*numbers) for numbers in geometry]
    name = f"dnnl_convolution_{direction}_primitive_desc_create"
    if direction == "forward":
        call(name, ct.byref(description), engine, _FORWARD_TRAINING, _DIRECT, source, weight, bias, output, *dims, None)
    elif direction == "backward_data":
        call(name, ct.byref(description), engine, _DIRECT, source, weight, output, *dims, forward, None)
    else:
        call(name, ct.byref(description), engine, _DIRECT, source, weight, bias, output, *dims, forward, None)
    return description
