"""Compiling and launching CUDA sources through CuPy. Nothing here imports CuPy before a GPU array is met."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

__all__ = ["ELEMENTS", "NULL", "compute_capability", "forget", "kernel", "multiprocessors", "pointer", "shared_limit",
           "source", "vector"]

NULL = np.intp(0)
#: What the sources call the dtypes they take.
ELEMENTS = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}


@functools.cache
def source(name: str) -> str:
    """The text of one of the .cu files beside this one, with the headers from here that it includes in their places."""
    return re.sub(r'^#include "(\w+\.cuh)"$', lambda found: _text(found[1]), _text(f"{name}.cu"), flags=re.MULTILINE)


def _text(file: str) -> str:
    from importlib import resources  # not needed for an import of minigrad

    return resources.files("minigrad.kernels.cuda").joinpath(file).read_text(encoding="utf-8")


@functools.cache
def kernel(file: str, name: str, shared_bytes: int = 0, **macros: Any) -> Any:
    """A kernel of a source compiled with these macros; compiled once in a process, and cached on disk by CuPy.

    Parameters
    ----------
    file : str
        The source, without its ending.
    name : str
        The kernel in it.
    shared_bytes : int
        How much dynamic shared memory it may ask for at a launch.
    **macros
        ``THREADS=256`` becomes ``-DTHREADS=256``.
    """
    import cupy

    options = ("-std=c++17", *(f"-D{key}={value}" for key, value in sorted(macros.items())))
    found = cupy.RawModule(code=source(file), options=options).get_function(name)
    if shared_bytes > 40 * 1024:  # with what it declares itself, more than the 48 KiB that need no asking
        found.max_dynamic_shared_size_bytes = shared_bytes
    return found


@functools.cache
def _properties(device: int) -> dict[str, Any]:
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(device)  # type: ignore[no-any-return]


def forget() -> None:
    """Forget what was compiled and what is known of the devices: another module stands for CuPy from here on."""
    kernel.cache_clear()
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


def pointer(array: Any) -> Any:
    """An argument for a pointer parameter that may be absent."""
    return NULL if array is None else array


def vector(length: int, *arrays: Any) -> int:
    """How many elements a thread can take in one access of 16 bytes, if rows of `length` elements allow it; else 1."""
    wide = 16 // arrays[0].itemsize
    return wide if length % wide == 0 and all(a.data.ptr % 16 == 0 for a in arrays) else 1
