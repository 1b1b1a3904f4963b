"""Convolution over two axes by oneDNN, float32: which calls it takes."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np

from minigrad.kernels.onednn.library import Primitive, convolution_description, problem, release
from minigrad.kernels.registry import accelerates
from minigrad.ops.convolution import Convolution, ConvolutionInput, ConvolutionWeight

FLOAT = np.dtype(np.float32)
#: Inputs that each output sees, from which on oneDNN is faster than the compiled loops.
FEWEST = 16
#: Shapes for which primitives, and the memory they work in, are kept.
KEPT = 128
#: The arguments' numbers in dnnl_types.h.
SOURCE, OUTPUT, WEIGHT, BIAS = 1, 17, 33, 41
SOURCE_GRADIENT, OUTPUT_GRADIENT, WEIGHT_GRADIENT, BIAS_GRADIENT = 129, 145, 161, 169
_running = threading.Lock()  # a primitive has memory of its own: one call at a time


class _Shapes:
    """Shapes of source, weight and output as oneDNN has them, with an axis for groups, and the geometry."""

    def __init__(self, source: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...],
                 geometry: tuple[Any, ...], groups: int) -> None:
        self.source, self.output = source, output
        self.weight = weight if groups == 1 else (groups, weight[0] // groups, *weight[1:])
        stride, padding, dilation = geometry
        self.geometry = stride, [d - 1 for d in dilation], [b for b, _ in padding], [a for _, a in padding]

    def describe(self, direction: str, forward: Any = None, biased: bool = False) -> Any:
        return convolution_description(direction, (self.source, self.weight, self.output), self.geometry, forward,
                                       biased)


def _made(direction: str, source: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...],
          geometry: tuple[Any, ...], groups: int, biased: bool, before: Primitive | None = None) -> Primitive:
    shapes = _Shapes(source, weight, output, geometry, groups)
    forward = shapes.describe("forward", biased=biased)
    kept = (shapes.weight, "weight", WEIGHT, False)
    if direction == "forward":
        vector = (((output[1],), "bias", BIAS, False),) if biased else ()
        return Primitive(forward, ((source, "source", SOURCE, False), kept, *vector, (output, "output", OUTPUT, True)))
    found = shapes.describe(direction, forward, biased)
    release(forward)
    upstream = (output, "output gradient", OUTPUT_GRADIENT, False)
    if direction == "backward_data":
        return Primitive(found, (upstream, kept, (source, "source gradient", SOURCE_GRADIENT, True)))
    vector = (((output[1],), "bias gradient", BIAS_GRADIENT, True),) if biased else ()
    return Primitive(found, (upstream, (source, "source", SOURCE, False),
                             (shapes.weight, "weight gradient", WEIGHT_GRADIENT, True), *vector), before)


_primitive = functools.lru_cache(KEPT)(_made)


@functools.lru_cache(KEPT)
def _both_gradients(source: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...],
                    geometry: tuple[Any, ...], groups: int, biased: bool) -> tuple[Primitive, Primitive]:
    """The primitives for gx, and for gw and gb, to be run in this order: the second reads what the first laid out."""
    data = _made("backward_data", source, weight, output, geometry, groups, False)
    return data, _made("backward_weights", source, weight, output, geometry, groups, biased, data)


def _takes(weight: tuple[int, ...], *arrays: Any) -> bool:
    """Whether these are arrays that oneDNN reads, of a size for which it is the fastest."""
    if weight[1] * weight[2] * weight[3] < FEWEST or weight[1] == 1 or problem():
        return False
    return all(a.ndim == 4 and a.dtype == FLOAT and a.flags.c_contiguous and a.size for a in arrays)


def _run(direction: str, op: Any, source: Any, weight: Any, output: Any, *arrays: Any, biased: bool = False) -> None:
    """Run on arrays, the last of which are the results."""
    geometry = op.stride, op.padding, op.dilation
    with _running:
        _primitive(direction, source, weight, output, geometry, op.groups, biased)(*arrays)


def _run_both(op: Any, gy: Any, x: Any, w: Any, gx: Any, gw: Any, gb: Any) -> None:
    """Run for all gradients of a convolution; that of a bias may be None."""
    with _running:
        data, weights = _both_gradients(x.shape, gw.shape, gy.shape, (op.stride, op.padding, op.dilation), op.groups,
                                        gb is not None)
        data(gy, w, gx)
        weights(gy, x, gw, *(() if gb is None else (gb,)))


@accelerates(Convolution, "forward", tier="all")
def forward(op: Any, x: Any, w: Any, b: Any) -> Any:
    """y, as the text gives it."""
    if w.ndim != 4 or not _takes(w.shape, x, w) or (b is not None and (b.dtype != FLOAT or not b.flags.c_contiguous)):
        return NotImplemented
    op._spatial, op._kernel = x.shape[2:], w.shape[2:]
    y = np.empty((x.shape[0], w.shape[0], *op.lengths(op._spatial, op._kernel)), FLOAT)
    _run("forward", op, x.shape, w.shape, y.shape, x, w, *(() if b is None else (b,)), y, biased=b is not None)
    return y


@accelerates(Convolution, "backward", tier="all")
def backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """(gx, gw, gb), as the text gives them: gy is laid out once for both, and gb falls out on the way to gw."""
    x, w = saved
    if not needs[1] or x.ndim != 4 or gy.ndim != 4:
        return NotImplemented
    shape = (gy.shape[1], x.shape[1] // op.groups, *op._kernel)
    if not _takes(shape, gy, x, *(() if w is None else (w,))):
        return NotImplemented
    gw, gb = np.empty(shape, FLOAT), np.empty(shape[:1], FLOAT) if needs[2] else None
    if needs[0]:
        gx = np.empty(x.shape, FLOAT)
        _run_both(op, gy, x, w, gx, gw, gb)
        return gx, gw, gb
    _run("backward_weights", op, x.shape, shape, gy.shape, gy, x, gw, *(() if gb is None else (gb,)),
         biased=gb is not None)
    return None, gw, gb


@accelerates(ConvolutionInput, "forward", tier="all")
def to_input(op: Any, gy: Any, w: Any) -> Any:
    """gx, as the text gives it."""
    if w.ndim != 4 or not _takes(w.shape, gy, w):
        return NotImplemented
    op._kernel = w.shape[2:]
    gx = np.empty((gy.shape[0], w.shape[1] * op.groups, *op.spatial), FLOAT)
    _run("backward_data", op, gx.shape, w.shape, gy.shape, gy, w, gx)
    return gx


@accelerates(ConvolutionWeight, "forward", tier="all")
def to_weight(op: Any, gy: Any, x: Any) -> Any:
    """gw, as the text gives it."""
    if x.ndim != 4:
        return NotImplemented
    shape = (gy.shape[1], x.shape[1] // op.groups, *op.kernel)
    if not _takes(shape, gy, x):
        return NotImplemented
    op._spatial, gw = x.shape[2:], np.empty(shape, FLOAT)
    _run("backward_weights", op, x.shape, shape, gy.shape, gy, x, gw)
    return gw
