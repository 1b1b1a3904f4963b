"""Where arrays live: NumPy on the CPU, CuPy on a GPU. The only file on the default path that knows of CuPy.

CuPy is imported when a GPU is first asked for, never at `import minigrad`; an array's class alone says where it lives.
"""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

from minigrad.errors import DeviceError
from minigrad.modes import current

__all__ = [
    "Device", "accumulation_dtype", "as_array", "as_device", "astype", "copied", "cuda_problem", "device_of",
    "from_dlpack", "is_array", "is_floating", "is_number", "made", "memory", "namespace", "number", "parameter_dtype",
    "random_stream", "restore_stream", "stream_state", "synchronize", "to_numpy", "transfer",
]

Array = Any  # a NumPy or CuPy array: the texts use only what both have
ndarray = np.ndarray


@dataclass(frozen=True)
class Device:
    """A place for arrays: ``Device("cpu")`` or ``Device("cuda", 0)``. Prints as ``cpu`` or ``cuda:0``."""

    type: str
    index: int = 0

    def __str__(self) -> str:
        return self.type if self.type == "cpu" else f"{self.type}:{self.index}"


CPU = Device("cpu")


def _cupy() -> ModuleType | None:
    """CuPy if somebody has imported it: an array of its cannot exist before."""
    return sys.modules.get("cupy")


def namespace(*xs: Any) -> Any:
    """The functions that fit the first argument which is no plain number.

    NumPy for its arrays and scalars, CuPy's array API for its arrays, and `minigrad.ops` for a Tensor, whose
    ``__array_namespace__`` says so. A text that asks here for its functions runs on all three.
    """
    for x in xs:
        kind = x.__class__
        if kind is ndarray:
            return np
        if kind is float or kind is int or kind is bool or x is None:
            continue
        if isinstance(x, np.generic):
            return np
        cupy = _cupy()
        if cupy is not None and isinstance(x, cupy.ndarray):
            graph = current().graph
            return _names_of(cupy) if graph is None else graph.names
        return x.__array_namespace__()
    return np


@functools.cache
def _names_of(cupy: ModuleType) -> Any:
    """CuPy's functions under the array API's names and with its arguments, as array-api-compat gives them."""
    try:
        import array_api_compat.cupy as names
    except ImportError:
        # CuPy 14 has the names that the texts use itself, and their arguments but for one. So a machine that has CuPy
        # alone, without a network to fetch more, computes the same.
        return _OwnNames(cupy)
    return names


class _OwnNames:
    """CuPy's own namespace, with the arguments of the array API where it has others."""

    def __init__(self, cupy: ModuleType) -> None:
        self._cupy = cupy

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cupy, name)
        setattr(self, name, found)  # found at once the next time
        return found

    def argsort(self, x: Array, /, *, axis: int = -1, stable: bool = True) -> Array:
        return self._cupy.argsort(x, axis=axis, kind="stable" if stable else None)


def is_array(x: Any) -> bool:
    """Whether `x` is an array of a known device (not a Tensor, list, number or NumPy scalar)."""
    if x.__class__ is ndarray:
        return True
    cupy = _cupy()
    return isinstance(x, ndarray) or (cupy is not None and isinstance(x, cupy.ndarray))


def as_array(x: Any) -> Array:
    """`x` as an array: arrays unchanged (subclasses of `numpy.ndarray` viewed as the base class), the rest by NumPy."""
    return x if x.__class__ is ndarray or (is_array(x) and not isinstance(x, ndarray)) else np.asarray(x)


def device_of(array: Array) -> Device:
    """Where an array lives."""
    if isinstance(array, (ndarray, np.generic)):
        return CPU
    return Device("cuda", int(array.device.id))


def cuda_problem() -> str:
    """Why CUDA cannot be used here, in one line; empty if it can."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed (pip install 'minigrad-norm[cuda13]', or [cuda12] for CUDA 12)"
    try:
        if cupy.cuda.is_available():
            return ""
    except cupy.cuda.runtime.CUDARuntimeError as error:  # a driver that does not answer; its text may have lines
        return f"CuPy is installed, but CUDA fails: {' '.join(str(error).split())}"
    return "CuPy is installed, but it finds no usable NVIDIA GPU and driver"


def as_device(spec: str | Device) -> Device:
    """Turn ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"`` (CUDA where it works, else the CPU) into a `Device`.

    Raises
    ------
    DeviceError
        The name is unknown, or CUDA was asked for and cannot be used; the message says what is missing.
    """
    if isinstance(spec, Device):
        return spec
    if spec == "auto":
        return CPU if cuda_problem() else Device("cuda")
    if spec == "cpu":
        return CPU
    found = re.fullmatch(r"cuda(?::(\d+))?", str(spec))
    if not found:
        raise DeviceError("device", got=repr(spec), wanted="'cpu', 'cuda', 'cuda:N' or 'auto'")
    problem = cuda_problem()
    if problem:
        raise DeviceError("device", got=repr(spec), wanted="a machine where CUDA works", hint=problem)
    index = int(found[1] or 0)
    count = _gpus() if index else 1
    if index >= count:
        raise DeviceError("device", got=repr(spec), wanted=f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0",
                          hint=f"There {'is' if count == 1 else 'are'} {count} here")
    return Device("cuda", index)


def _gpus() -> int:
    """How many GPUs CuPy finds."""
    import cupy

    return int(cupy.cuda.runtime.getDeviceCount())


def transfer(array: Array, device: Device) -> Array:
    """The array on `device`: itself if it is there already, else a copy."""
    if device_of(array) == device:
        return array
    if device.type == "cpu":
        return to_numpy(array)
    import cupy

    with cupy.cuda.Device(device.index):
        return cupy.asarray(array)


#: Streams of CuPy's generator on a GPU: fixed, so that one seed gives the same numbers on every model of GPU.
_STREAMS = 1 << 17


def random_stream(device: Device, seed: int) -> Any:
    """A generator of random numbers on a GPU: CuPy's, which has the methods of NumPy's that are used here.

    Its state is on the device, and drawing moves it there: numbers go on between replays of a recorded step.
    """
    import cupy

    with cupy.cuda.Device(device.index):
        return cupy.random.Generator(cupy.random.XORWOW(seed, size=_STREAMS))


def stream_state(stream: Any) -> np.ndarray:
    """The state of a `random_stream`, as bytes in host memory. CuPy has it, without a public name."""
    return to_numpy(stream.bit_generator._state)


def restore_stream(stream: Any, state: np.ndarray) -> bool:
    """Let a `random_stream` go on from a state; whether it is of the right length."""
    own = stream.bit_generator._state
    if own.shape != state.shape or own.dtype != state.dtype:
        return False
    own.set(state)
    return True


def to_numpy(array: Array) -> np.ndarray:
    """The array in host memory: itself if it is there already, else a copy."""
    return array if isinstance(array, ndarray) else np.asarray(array.get() if hasattr(array, "get") else array)


def made(device: Device, name: str, *args: Any, **options: Any) -> Array:
    """A new array on `device`, by the function of this name that needs no array: ``made(device, "zeros", (2, 3))``."""
    if device.type == "cpu":
        return getattr(np, name)(*args, **options)
    import cupy

    with cupy.cuda.Device(device.index):
        return getattr(_names_of(cupy), name)(*args, **options)


def from_dlpack(x: Any) -> Array:
    """An array that shares the memory of another library's, on the device where that is."""
    if x.__dlpack_device__()[0] == 1:  # kDLCPU
        return np.from_dlpack(x)
    import cupy

    return cupy.from_dlpack(x)


def synchronize(array: Array) -> None:
    """Wait until all work of the stream that computes `array` is done; on the CPU it is done already."""
    if not isinstance(array, ndarray):
        import cupy

        with cupy.cuda.Device(array.device.id):
            cupy.cuda.get_current_stream().synchronize()


def number(array: Any) -> Any:
    """The only element of an array, as a Python number. On a GPU this waits for all work before it to end.

    The one way in which a text may ask for a value: where it is absent, nothing waits.
    """
    return array.item() if isinstance(array, (ndarray, np.generic)) else to_numpy(array).item()


def astype(array: Array, dtype: Any) -> Array:
    """The array in another dtype: itself if it has that dtype already, else a copy."""
    if array.dtype == dtype:
        return array
    return array.astype(dtype) if isinstance(array, ndarray) else namespace(array).astype(array, dtype)


def copied(array: Array, order: Literal["C", "K"] = "C") -> Array:
    """A copy of the array in memory of its own, in this order."""
    return array.copy(order)


def is_floating(dtype: Any) -> bool:
    """Whether elements of `dtype` are floating point; bfloat16 (from `ml_dtypes`) has kind ``V``."""
    return bool(dtype.kind == "f" or dtype.name == "bfloat16")


def is_number(dtype: Any) -> bool:
    """Whether a Tensor may have elements of `dtype`: bool, integers, floating point."""
    return dtype.kind in "biuf" or is_floating(dtype)


def parameter_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype of a layer's parameters: float32 for None, which NumPy would take for float64."""
    return np.dtype(np.float32 if dtype is None else dtype)


def accumulation_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype in which sums over elements of `dtype` are taken: float32 for half types, else `dtype` itself.

    bfloat16 (from `ml_dtypes`) has kind ``V``, so the test is by size.
    """
    dtype = np.dtype(dtype)
    half = dtype.itemsize <= 2 and dtype.kind in "fV"
    return np.dtype(np.float32) if half else dtype


def memory(array: Array) -> tuple[Any, int, int]:
    """The array that owns an array's memory, and the bytes [low, high) of it that the array may touch.

    An array that owns its memory touches all of it: [0, 2⁶³), for asking where it lies would cost a microsecond.
    """
    owner = array
    while owner.base is not None and is_array(owner.base):
        owner = owner.base
    if array.size == 0:
        return owner, 0, 0
    if owner is array:
        return owner, 0, sys.maxsize
    low = high = array.__array_interface__["data"][0] if isinstance(array, ndarray) else int(array.data.ptr)
    if array.flags.c_contiguous:
        return owner, low, low + array.nbytes
    for n, stride in zip(array.shape, array.strides):
        low, high = (low, high + (n - 1) * stride) if stride > 0 else (low + (n - 1) * stride, high)
    return owner, low, high + array.itemsize
