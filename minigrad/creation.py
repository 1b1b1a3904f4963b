"""New Tensors: filled, counted, random, or around foreign memory. Where no dtype is named, it is float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.backend import Device, as_device, transfer
from minigrad.ops.random import Generator, default_generator
from minigrad.tensor import Tensor

__all__ = ["arange", "empty", "eye", "from_dlpack", "full", "linspace", "ones", "rand", "randint", "randn", "randperm",
           "tensor", "zeros"]

Shape = int | Sequence[int]
DeviceLike = str | Device | None


def tensor(data: Any, dtype: Any = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data`; `Tensor(data)` shares the memory of an array instead."""
    made = Tensor(data, dtype=dtype, device=device)
    made.data = made.data.copy()
    return made.requires_grad_(requires_grad)


def full(shape: Shape, fill: float, dtype: Any = None, device: DeviceLike = None,
         requires_grad: bool = False) -> Tensor:
    """`fill` everywhere: float32 for a float, int64 for an int, bool for a bool, unless a dtype is given."""
    return Tensor(np.full(shape, fill, dtype or _dtype_of(fill)), requires_grad, device=device)


def zeros(*shape: Any, dtype: Any = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Zeros."""
    return Tensor(np.zeros(_shape(shape), dtype or np.float32), requires_grad, device=device)


def ones(*shape: Any, dtype: Any = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Ones."""
    return Tensor(np.ones(_shape(shape), dtype or np.float32), requires_grad, device=device)


def empty(*shape: Any, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Whatever was in memory."""
    return Tensor(np.empty(_shape(shape), dtype or np.float32), device=device)


def arange(*bounds: float, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Numbers from start to stop (excluded) by step: ``arange(stop)`` or ``arange(start, stop, step)``."""
    return Tensor(np.arange(*bounds, dtype=dtype or _dtype_of(*bounds)), device=device)


def linspace(start: float, stop: float, num: int, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """`num` evenly spaced numbers from start to stop, both included."""
    return Tensor(np.linspace(start, stop, num, dtype=dtype or np.float32), device=device)


def eye(n: int, m: int | None = None, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Ones on the diagonal, zeros elsewhere: (n, m), or (n, n)."""
    return Tensor(np.eye(n, m, dtype=dtype or np.float32), device=device)


def randn(*shape: Any, generator: Generator | None = None, dtype: Any = None, device: DeviceLike = None,
          requires_grad: bool = False) -> Tensor:
    """Independent standard normal numbers."""
    stream, place = _stream(generator, device)
    return Tensor(_cast(stream.standard_normal(_shape(shape)), dtype or np.float32, place), requires_grad)


def rand(*shape: Any, generator: Generator | None = None, dtype: Any = None, device: DeviceLike = None,
         requires_grad: bool = False) -> Tensor:
    """Independent numbers, uniform in [0, 1)."""
    stream, place = _stream(generator, device)
    return Tensor(_cast(stream.random(_shape(shape)), dtype or np.float32, place), requires_grad)


def randint(low: int, high: int, shape: Shape, generator: Generator | None = None, dtype: Any = None,
            device: DeviceLike = None) -> Tensor:
    """Independent integers, uniform in [low, high)."""
    stream, place = _stream(generator, device)
    return Tensor(_cast(stream.integers(low, high, size=shape), dtype or np.int64, place))


def randperm(n: int, generator: Generator | None = None) -> Tensor:
    """The numbers 0 to n − 1 in random order (int64)."""
    return Tensor((generator or default_generator).stream().permutation(n))


def from_dlpack(x: Any) -> Tensor:
    """A Tensor that shares the memory of another library's array or tensor, through DLPack."""
    if x.__dlpack_device__()[0] == 1:
        return Tensor(np.from_dlpack(x))
    import cupy

    return Tensor(cupy.from_dlpack(x))


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Lengths given one by one or as one sequence."""
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape


def _dtype_of(*numbers: Any) -> Any:
    """The dtype of new Tensors of such numbers: bool, int64 or float32."""
    if all(isinstance(n, (bool, np.bool_)) for n in numbers):
        return np.bool_
    return np.int64 if all(isinstance(n, (int, np.integer)) for n in numbers) else np.float32


def _stream(generator: Generator | None, device: DeviceLike) -> tuple[Any, Device]:
    place = as_device(device or "cpu")
    return (generator or default_generator).stream(place), place


def _cast(array: Any, dtype: Any, place: Device) -> Any:
    return transfer(np.asarray(array) if place.type == "cpu" else array, place).astype(dtype, copy=False)
