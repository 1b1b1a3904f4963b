"""Compiling and launching CUDA sources through CuPy. Nothing here imports CuPy before a GPU array is met."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["ELEMENTS", "MOST", "NULL", "THREADS", "blocks", "compute_capability", "element_combinations",
           "element_macros", "forget", "here", "kernel", "multiprocessors", "options", "pointer", "shared_limit",
           "source", "takes", "vector"]

NULL = np.intp(0)
#: Sources whose results have to be, bit for bit, those of their texts.
EXACT = {"updates"}
#: Elements of the largest array that is taken: 32 bits count them, and a block's threads beyond.
MOST = 2**31 - 2**20
#: Threads of a block, where nothing asks for another number.
THREADS = 256
#: What the sources call the dtypes they take.
ELEMENTS = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}


@functools.cache
def source(name: str) -> str:
    """The text of one of the .cu files beside this one, with the headers from here that it includes in their places."""
    return _text(f"{name}.cu")


def _text(file: str) -> str:
    from importlib import resources  # not needed for an import of minigrad

    text = resources.files("minigrad.kernels.cuda").joinpath(file).read_text(encoding="utf-8")
    return re.sub(r'^#include "(\w+\.cuh)"$', lambda found: _text(found[1]), text, flags=re.MULTILINE)


def options(file: str, macros: dict[str, Any]) -> tuple[str, ...]:
    """What the compiler is told: ``THREADS=256`` becomes ``-DTHREADS=256``."""
    exact = ("--fmad=false",) if file in EXACT else ()  # no product is joined with a sum
    return "-std=c++17", *exact, *(f"-D{key}={value}" for key, value in sorted(macros.items()))


def kernel(file: str, name: str, shared_bytes: int = 0, **macros: Any) -> Any:
    """A kernel of a source compiled with these macros; compiled once in a process, and cached on disk by CuPy.

    It is launched on CuPy's current device and stream, and asks for its shared memory on each device by itself.

    Parameters
    ----------
    file : str
        The source, without its ending.
    name : str
        The kernel in it.
    shared_bytes : int
        How much dynamic shared memory it may ask for at a launch.
    **macros
        See `options`.
    """
    import cupy

    return _kernel(cupy.cuda.runtime.getDevice(), file, name, shared_bytes, **macros)


@functools.cache
def _kernel(device: int, file: str, name: str, shared_bytes: int, **macros: Any) -> Any:
    """`kernel` for the current device."""
    found = _module(file, options(file, macros)).get_function(name)
    # With what it declares itself, more than the 48 KiB that need no asking; other launches may have asked for more.
    if shared_bytes > max(40 * 1024, found.max_dynamic_shared_size_bytes):
        found.max_dynamic_shared_size_bytes = shared_bytes
    return found


@functools.cache
def _module(file: str, options: tuple[str, ...]) -> Any:
    """A source, compiled: for all its kernels, whatever the size of their launches."""
    import cupy

    return cupy.RawModule(code=source(file), options=options)


@functools.cache
def _properties(device: int) -> dict[str, Any]:
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(device)  # type: ignore[no-any-return]


def forget() -> None:
    """Forget what was compiled and what is known of the devices: another module stands for CuPy from here on."""
    _kernel.cache_clear()
    _module.cache_clear()
    _properties.cache_clear()


def multiprocessors(array: Any) -> int:
    """How many multiprocessors the array's device has."""
    return int(_properties(array.device.id)["multiProcessorCount"])


def shared_limit(array: Any) -> int:
    """Bytes of shared memory that one block may have on the array's device."""
    return int(_properties(array.device.id)["sharedMemPerBlockOptin"])


def compute_capability(array: Any) -> int:
    """90 for 9.0."""
    properties = _properties(array.device.id)
    return 10 * int(properties["major"]) + int(properties["minor"])


def element_macros(dtype: Any) -> dict[str, Any]:
    """The macros by which a source knows the dtype of its elements."""
    return {"ELEMENT": ELEMENTS[dtype.name], "HALF": int(dtype.itemsize == 2)}


def element_combinations(file: str, **macros: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """A source with given macros, for every dtype: part of what a module of kernels may ask to be compiled."""
    for element in ELEMENTS.values():
        yield file, {"ELEMENT": element, "HALF": int(element != "float"), **macros}


def here(*arrays: Any) -> bool:
    """Whether all are absent or arrays of CuPy's current device: a launch takes addresses, and asks for nothing.

    Others are left to the texts, for which CuPy says what is wrong with them.
    """
    import cupy

    device = cupy.cuda.runtime.getDevice()
    return all(a is None or (isinstance(a, cupy.ndarray) and a.data.device_id == device) for a in arrays)


def takes(*arrays: Any) -> bool:
    """Whether all are `here`, C-contiguous, of one dtype that the sources know, neither empty nor beyond `MOST`."""
    return here(*arrays) and arrays[0].dtype.name in ELEMENTS and all(
        a.dtype == arrays[0].dtype and a.flags.c_contiguous and 0 < a.size <= MOST for a in arrays)


def blocks(count: int, like: Any, threads: int = THREADS) -> tuple[int]:
    """A grid for `count` threads in all, none of which is left waiting for a place on the array's device for long."""
    return (max(1, min(math.ceil(count / threads), multiprocessors(like) * 32)),)


def pointer(array: Any) -> Any:
    """An argument for a pointer parameter that may be absent."""
    return NULL if array is None else array


def vector(length: int, *arrays: Any) -> int:
    """How many elements a thread can take in one access of 16 bytes, if rows of `length` elements allow it; else 1."""
    wide = 16 // arrays[0].itemsize
    return wide if length % wide == 0 and all(a.data.ptr % 16 == 0 for a in arrays) else 1
