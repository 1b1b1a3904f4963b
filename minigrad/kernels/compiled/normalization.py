"""The normalization family on the CPU, float32: which loops take which calls."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.ops.normalization_texts import (
    ActivatedBatchNorm,
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)

FLOAT = np.dtype(np.float32)
#: Columns of a strip where several threads share a matrix.
STRIP = 256
#: Numbers and rows of a matrix up to which it stays in the first cache while columns are worked on in registers.
SMALL, FEW_ROWS = 8192, 256
#: Plans, and arrays of equal numbers, that are kept: inputs of ever new lengths shall not fill the memory.
KEPT = 256


class Plan(NamedTuple):
    """How loops see an input.

    given : the input's shape, and the settings of this file, for which the plan holds
    loops : forward and backward
    shape : the shape that they see
    statistics : the shape of mean, variance and inverse root together
    sets : how many of each there are
    parameters : the length of γ and β
    strip : columns of a strip; None where there are no strips
    channels : whether sets are channels, whose loops know activations
    viewed : whether `shape` is another than the input's
    """

    given: tuple[Any, ...]
    loops: tuple[Any, Any]
    shape: tuple[int, ...]
    statistics: tuple[int, ...]
    sets: int
    parameters: int
    strip: int | None
    channels: bool
    viewed: bool


def _planned(op: Any, x: Any) -> Plan:
    """The plan for a call. It stays with the operation, which for most of the family is the same in the next call."""
    given = x.shape, loading.PARALLEL_FROM, STRIP
    plan = op._plan
    if plan is None or plan.given != given:
        plan = op._plan = _plan(op.__class__, op.axes, getattr(op, "activation", ""), *given)
    return plan  # type: ignore[no-any-return]


@functools.lru_cache(KEPT)
def _plan(cls: type, axes: tuple[int, ...], activation: str, shape: tuple[int, ...], limit: int, strip: int) -> Plan:
    """The plan for an operation on an input of a shape."""
    size = math.prod(shape)
    statistics = (3, *(1 if a in axes else n for a, n in enumerate(shape)))
    sets = math.prod(statistics) // 3
    width = None
    more: tuple[Any, ...] = ()
    if issubclass(cls, BatchNorm):
        places = math.prod(shape[2:])
        parameters = shape[1]
        seen: tuple[int, ...] = shape[:2] if places == 1 else (*shape[:2], places)
        file, name, more = "channels", "columns" if places == 1 else "planes", (activation,)
        parallel = size >= limit and sets >= (2 * strip if places == 1 else 2)
        if places == 1 and size <= SMALL and shape[0] <= FEW_ROWS:
            file, parallel = "register_columns", False
        elif places == 1:
            width = strip if parallel else max(1, shape[1])
    else:
        parallel = size >= limit and sets >= 2
        file, name = "rows", "rows"
        if issubclass(cls, (GroupNorm, InstanceNorm)):
            name = "groups"
            channels = shape[2] if issubclass(cls, GroupNorm) else 1
            parameters = shape[1] * channels
            seen = (sets, channels, size // sets // channels)
        else:
            parameters = size // sets
            seen = (sets, parameters)
            more = (not issubclass(cls, RMSNorm),)
    loops = loading.loops(file, name, parallel, *more)
    return Plan((shape, limit, strip), loops, seen, statistics, sets, parameters, width,
                issubclass(cls, BatchNorm), seen != shape)


@functools.lru_cache(KEPT)
def _constant(length: int, number: float) -> np.ndarray:
    """What an absent γ or β stands for. Not marked as read-only: numba would compile every loop once more for it."""
    return np.full(length, number, FLOAT)


def reads(a: Any) -> bool:
    """Whether loops can read an array."""
    dtype = a.dtype
    return bool((dtype is FLOAT or dtype == FLOAT) and a.flags.c_contiguous)


def parameter(a: Any, length: int, absent: float) -> Any:
    """γ or β as a vector; None if the loops cannot read it."""
    if a is None:
        return _constant(length, absent)
    if not reads(a):
        return None
    return a if a.ndim == 1 else a.reshape(-1)


def _forward(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    """(y, statistics (3, …)); NotImplemented where no loops fit."""
    if not reads(x) or not x.size:
        return NotImplemented
    plan = _planned(op, x)
    w, b = parameter(weight, plan.parameters, 1), parameter(bias, plan.parameters, 0)
    if w is None or b is None:
        return NotImplemented
    op._remember(weight, bias)
    y = np.empty(plan.given[0], FLOAT)
    statistics = np.empty((3, plan.sets), FLOAT)
    seen, out = (x.reshape(plan.shape), y.reshape(plan.shape)) if plan.viewed else (x, y)
    if plan.strip is None:
        plan.loops[0](seen, w, b, op.eps, out, statistics)
    else:
        plan.loops[0](seen, w, b, op.eps, out, statistics, plan.strip)
    return y, statistics.reshape(plan.statistics)


@accelerates(BatchNorm, "forward")
@accelerates(ActivatedBatchNorm, "forward")
@accelerates(LayerNorm, "forward")
@accelerates(GroupNorm, "forward")
@accelerates(InstanceNorm, "forward")
def forward(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    """(y, mean, variance, rstd), as the text gives them."""
    found = _forward(op, x, weight, bias)
    if found is NotImplemented:
        return found
    y, statistics = found
    return y, statistics[0], statistics[1], statistics[2]  # unpacking an array takes three times as long


@accelerates(RMSNorm, "forward")
def rms_forward(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    """(y, mean square, its inverse root), as the text gives them."""
    found = _forward(op, x, weight, bias)
    return found if found is NotImplemented else (found[0], *found[1][1:])


def _backward(op: Any, x: Any, y: Any, weight: Any, mean: Any, rstd: Any, needs: Any, gy: Any) -> Any:
    """(gx, gweight, gbias); NotImplemented where no loops fit. `y` is what a fused activation gave, else None."""
    if (not needs[0] or not reads(x) or not x.size or rstd.dtype != FLOAT or gy.dtype != FLOAT
            or (y is not None and not y.flags.c_contiguous)):
        return NotImplemented
    if not gy.flags.c_contiguous:  # such as one that was spread over places: copied sooner than by the text
        gy = np.ascontiguousarray(gy)
    plan = _planned(op, x)
    w = parameter(weight, plan.parameters, 1)
    if w is None:
        return NotImplemented
    gx = np.empty(plan.given[0], FLOAT)
    gweight, gbias = np.empty(plan.parameters, FLOAT), np.empty(plan.parameters, FLOAT)
    mean = _constant(plan.sets, 0) if mean is None else mean.reshape(-1)
    seen, g, out = x, gy, gx
    if plan.viewed:
        seen, g, out = x.reshape(plan.shape), gy.reshape(plan.shape), gx.reshape(plan.shape)
    if not plan.channels:
        plan.loops[1](seen, g, w, mean, rstd.reshape(-1), out, gweight, gbias)
    else:
        given = g if y is None else y.reshape(plan.shape) if plan.viewed else y
        more = () if plan.strip is None else (plan.strip,)
        plan.loops[1](seen, given, g, w, mean, rstd.reshape(-1), out, gweight, gbias, *more)
    if (needs[1] or needs[2]) and op._parameter != gweight.shape:
        gweight, gbias = gweight.reshape(op._parameter), gbias.reshape(op._parameter)
    return gx, gweight if needs[1] else None, gbias if needs[2] else None


@accelerates(BatchNorm, "backward")
@accelerates(ActivatedBatchNorm, "backward")
@accelerates(LayerNorm, "backward")
@accelerates(GroupNorm, "backward")
@accelerates(InstanceNorm, "backward")
def backward(op: Any, saved: Any, needs: Any, gy: Any, gmean: Any, gvariance: Any, grstd: Any) -> Any:
    """(gx, gweight, gbias), as the text gives them where only the first output has a gradient."""
    if gy is None or gmean is not None or gvariance is not None or grstd is not None:
        return NotImplemented
    x, weight, mean, rstd, *activated = saved
    return _backward(op, x, activated[0] if activated else None, weight, mean, rstd, needs, gy)


@accelerates(RMSNorm, "backward")
def rms_backward(op: Any, saved: Any, needs: Any, gy: Any, gsquare: Any, grstd: Any) -> Any:
    """(gx, gweight, gbias), as the text gives them where only y has a gradient."""
    if gy is None or gsquare is not None or grstd is not None:
        return NotImplemented
    x, weight, rstd = saved
    return _backward(op, x, None, weight, None, rstd, needs, gy)
