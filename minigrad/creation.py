"""New Tensors: filled, counted, random, or around foreign memory. Where no dtype is named, it is float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import backend, ops
from minigrad.backend import Device, as_device, astype, copied, made, namespace, number, transfer
from minigrad.errors import ArgumentError, ShapeError
from minigrad.op import holds
from minigrad.ops.random import Generator, default_generator
from minigrad.ops.shape import whole_number
from minigrad.tensor import Tensor

__all__ = ["arange", "asarray", "bernoulli", "empty", "empty_like", "eye", "from_dlpack", "full", "linspace",
           "logspace", "meshgrid", "multinomial", "normal", "ones", "rand", "rand_like", "randint", "randn",
           "randn_like", "randperm", "tensor", "uniform", "zeros"]

Shape = int | Sequence[int]
DeviceLike = str | Device | None


def tensor(data: Any, dtype: Any = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data`; `Tensor(data)` shares the memory of an array instead."""
    new = Tensor(data, dtype=dtype, device=device)
    new.data = copied(new.data)
    return new.requires_grad_(requires_grad)


def asarray(data: Any, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """`data` as a Tensor: a Tensor as it is, an array shared, numbers and lists new. `tensor` copies."""
    if isinstance(data, Tensor):
        return data.to(as_device(device) if device is not None else None, dtype)
    return Tensor(data, dtype=dtype, device=device)


def full(shape: Shape, fill: float, dtype: Any = None, device: DeviceLike = None,
         requires_grad: bool = False) -> Tensor:
    """`fill` everywhere: float32 for a float, int64 for an int, bool for a bool, unless a dtype is given."""
    return Tensor(made(_place(device), "full", shape, fill, dtype=dtype or _dtype_of(fill)), requires_grad)


def zeros(*shape: Any, dtype: Any = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Zeros."""
    return Tensor(made(_place(device), "zeros", _shape(shape), dtype=dtype or np.float32), requires_grad)


def ones(*shape: Any, dtype: Any = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Ones."""
    return Tensor(made(_place(device), "ones", _shape(shape), dtype=dtype or np.float32), requires_grad)


def empty(*shape: Any, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Whatever was in memory."""
    return Tensor(made(_place(device), "empty", _shape(shape), dtype=dtype or np.float32))


def empty_like(x: Tensor, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Whatever was in memory, in the shape and, unless given, the dtype and device of `x`."""
    if device is not None:
        return empty(x.shape, dtype=dtype or x.dtype, device=device)
    return Tensor(namespace(x.data).empty_like(x.data, dtype=dtype))


def arange(*bounds: float, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Numbers from start to stop (excluded) by step: ``arange(stop)`` or ``arange(start, stop, step)``."""
    return Tensor(made(_place(device), "arange", *bounds, dtype=dtype or _dtype_of(*bounds)))


def linspace(start: float, stop: float, num: int, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """`num` evenly spaced numbers from start to stop, both included."""
    return Tensor(np.linspace(start, stop, num, dtype=dtype or np.float32), device=device)


def logspace(start: float, stop: float, num: int, base: float = 10.0, dtype: Any = None,
             device: DeviceLike = None) -> Tensor:
    """`num` numbers from base^start to base^stop, both included, whose logarithms are evenly spaced."""
    return Tensor(np.logspace(start, stop, num, base=base, dtype=dtype or np.float32), device=device)


def meshgrid(*xs: Tensor, indexing: str = "xy") -> list[Tensor]:
    """Coordinates over a grid, one Tensor for each axis; ``"xy"`` (NumPy's default) puts the second axis first.

    Raises
    ------
    ShapeError, ArgumentError
        An argument has more than one axis; an unknown indexing.
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError("meshgrid", got=f"indexing={indexing!r}", wanted="'xy' or 'ij'")
    if any(x.ndim > 1 for x in xs):
        raise ShapeError("meshgrid", got=f"shapes {[x.shape for x in xs]}", wanted="one axis each")
    lengths = tuple(x.size for x in xs)
    grids = [ops.broadcast_to(ops.reshape(x, tuple(-1 if i == axis else 1 for i in range(len(xs)))), lengths)
             for axis, x in enumerate(xs)]
    return [ops.swapaxes(g, 0, 1) for g in grids] if indexing == "xy" and len(xs) > 1 else grids


def eye(n: int, m: int | None = None, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Ones on the diagonal, zeros elsewhere: (n, m), or (n, n)."""
    return Tensor(made(_place(device), "eye", n, m, dtype=dtype or np.float32))


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


def randn_like(x: Tensor, generator: Generator | None = None, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Independent standard normal numbers in the shape and, unless given, the dtype and device of `x`."""
    return randn(x.shape, generator=generator, dtype=dtype or x.dtype, device=device or x.device)


def rand_like(x: Tensor, generator: Generator | None = None, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """Independent numbers, uniform in [0, 1), in the shape and, unless given, the dtype and device of `x`."""
    return rand(x.shape, generator=generator, dtype=dtype or x.dtype, device=device or x.device)


def normal(mean: float, std: float, shape: Shape, generator: Generator | None = None, dtype: Any = None,
           device: DeviceLike = None) -> Tensor:
    """Independent normal numbers.

    Raises
    ------
    ArgumentError
        `std` is negative.
    """
    if not std >= 0:
        raise ArgumentError("normal", got=f"std={std}", wanted="0 or more")
    stream, place = _stream(generator, device)
    return Tensor(_cast(stream.standard_normal(shape) * std + mean, dtype or np.float32, place))


def uniform(low: float, high: float, shape: Shape, generator: Generator | None = None, dtype: Any = None,
            device: DeviceLike = None) -> Tensor:
    """Independent numbers, uniform in [low, high).

    Raises
    ------
    ArgumentError
        `low` is above `high`.
    """
    if low > high:
        raise ArgumentError("uniform", got=f"low={low}, high={high}", wanted="low ≤ high")
    stream, place = _stream(generator, device)
    return Tensor(_cast(stream.random(shape) * (high - low) + low, dtype or np.float32, place))


def bernoulli(p: Tensor, generator: Generator | None = None) -> Tensor:
    """1 with these probabilities, else 0: independent, in the shape, dtype and device of `p`.

    Raises
    ------
    ArgumentError
        A probability is outside [0, 1].
    """
    p = asarray(p)
    if not holds((p.data >= 0) & (p.data <= 1)):
        raise ArgumentError("bernoulli", got="numbers outside [0, 1]", wanted="probabilities")
    stream, place = _stream(generator, p.device)
    return Tensor(_cast(stream.random(p.shape) < p.data, p.dtype, place))


def multinomial(weights: Tensor, num_samples: int, replacement: bool = False,
                generator: Generator | None = None) -> Tensor:
    """Classes drawn in proportion to weights (…, classes), which need not add up to 1: int64 (…, num_samples).

    Without replacement: the first to arrive when each takes an exponential time divided by its weight (Efraimidis &
    Spirakis, 2006), which is one draw for all rows.

    Raises
    ------
    ArgumentError
        A weight is negative or not finite, all of a row are 0, or there are fewer than are asked for.
    """
    weights = asarray(weights)
    w = weights.data
    xp = namespace(w)
    few = number(xp.min(xp.sum(astype(w > 0, np.int64), axis=-1))) if w.ndim and w.size else 0
    if not holds(xp.isfinite(w) & (w >= 0)) or few < (1 if replacement else num_samples) or num_samples < 1:
        raise ArgumentError("multinomial", got=f"{num_samples} samples of weights of which {few} are above 0",
                            wanted="weights of 0 or more, enough of them above 0, and at least one sample")
    stream, _ = _stream(generator, weights.device)
    total = xp.cumsum(astype(w, np.float64), axis=-1)
    if replacement:
        chosen = stream.random((*w.shape[:-1], num_samples)) * total[..., -1:]
        found = xp.sum(astype(xp.expand_dims(chosen, axis=-1) >= xp.expand_dims(total, axis=-2), np.int64), axis=-1)
    else:
        race = stream.standard_exponential(w.shape) / xp.where(w > 0, w, 1.0)
        found = xp.argsort(xp.where(w > 0, race, math.inf), axis=-1)[..., :num_samples]
    return Tensor(astype(found, np.int64))


def randint(low: int, high: int, shape: Shape, generator: Generator | None = None, dtype: Any = None,
            device: DeviceLike = None) -> Tensor:
    """Independent integers, uniform in [low, high)."""
    stream, place = _stream(generator, device)
    return Tensor(_cast(stream.integers(low, high, size=shape), dtype or np.int64, place))


def randperm(n: int, generator: Generator | None = None, device: DeviceLike = None) -> Tensor:
    """The numbers 0 to n − 1 in random order (int64). They are drawn on the CPU: one order for all devices."""
    order = (generator or default_generator).stream().permutation(whole_number(n, "randperm", "n", least=0))
    return Tensor(order, device=device)


def from_dlpack(x: Any) -> Tensor:
    """A Tensor that shares the memory of another library's array or tensor, through DLPack, on the same device."""
    return Tensor(backend.from_dlpack(x))


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Lengths given one by one or as one sequence."""
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape


def _dtype_of(*numbers: Any) -> Any:
    """The dtype of new Tensors of such numbers: bool, int64 or float32."""
    if all(isinstance(n, (bool, np.bool_)) for n in numbers):
        return np.bool_
    return np.int64 if all(isinstance(n, (int, np.integer)) for n in numbers) else np.float32


def _place(device: DeviceLike) -> Device:
    return as_device("cpu" if device is None else device)


def _stream(generator: Generator | None, device: DeviceLike) -> tuple[Any, Device]:
    place = _place(device)
    return (generator or default_generator).stream(place), place


def _cast(array: Any, dtype: Any, place: Device) -> Any:
    return astype(np.asarray(array) if place.type == "cpu" else transfer(array, place), np.dtype(dtype))
