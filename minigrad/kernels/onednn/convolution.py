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
SOURCE, OUTPUT, WEIGHT, SOURCE_GRADIENT, OUTPUT_GRADIENT, WEIGHT_GRADIENT = 1, 17, 33, 129, 145, 161
_running = threading.Lock()  # a primitive has memory of its own: one call at a time


class _Shapes:
    """Shapes of source, weight and output as oneDNN has them, with an axis for groups, and the geometry."""

    def __init__(self, source: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...],
                 geometry: tuple[Any, ...], groups: int) -> None:
        self.source, self.output = source, output
        self.weight = weight if groups == 1 else (groups, weight[0] // groups, *weight[1:])
        stride, padding, dilation = geometry
        self.geometry = stride, [d - 1 for d in dilation], [b for b, _ in padding], [a for _, a in padding]

    def describe(self, direction: str, forward: Any = None) -> Any:
        return convolution_description(direction, (self.source, self.weight, self.output), self.geometry, forward)


@functools.lru_cache(KEPT)
def _primitive(direction: str, source: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...],
               geometry: tuple[Any, ...], groups: int) -> Primitive:
    shapes = _Shapes(source, weight, output, geometry, groups)
    forward = shapes.describe("forward")
    if direction == "forward":
        return Primitive(forward, ((source, "source", SOURCE, False), (shapes.weight, "weight", WEIGHT, False),
                                   (output, "output", OUTPUT, True)))
    found = shapes.describe(direction, forward)
    release(forward)
    upstream = (output, "output gradient", OUTPUT_GRADIENT, False)
    if direction == "backward_data":
        return Primitive(found, (upstream, (shapes.weight, "weight", WEIGHT, False),
                                 (source, "source gradient", SOURCE_GRADIENT, True)))
    return Primitive(found, (upstream, (source, "source", SOURCE, False),
                             (shapes.weight, "weight gradient", WEIGHT_GRADIENT, True)))


def _takes(weight: tuple[int, ...], *arrays: Any) -> bool:
    """Whether these are arrays that oneDNN reads, of a size for which it is the fastest."""
    if weight[1] * weight[2] * weight[3] < FEWEST or weight[1] == 1 or problem():
        return False
    return all(a.ndim == 4 and a.dtype == FLOAT and a.flags.c_contiguous and a.size for a in arrays)


def _run(direction: str, op: Any, source: Any, weight: Any, output: Any, *arrays: Any) -> Any:
    """Run on arrays, of which the last is the result."""
    geometry = op.stride, op.padding, op.dilation
    with _running:
        _primitive(direction, source, weight, output, geometry, op.groups)(*arrays)
    return arrays[-1]


@accelerates(Convolution, "forward", tier="all")
def forward(op: Any, x: Any, w: Any, b: Any) -> Any:
    """y, as the text gives it."""
    if w.ndim != 4 or not _takes(w.shape, x, w) or (b is not None and b.dtype != FLOAT):
        return NotImplemented
    op._spatial, op._kernel = x.shape[2:], w.shape[2:]
    shape = (x.shape[0], w.shape[0], *op.lengths(op._spatial, op._kernel))
    y = _run("forward", op, x.shape, w.shape, shape, x, w, np.empty(shape, FLOAT))
    if b is not None:
        y += b.reshape(-1, 1, 1)
    return y


@accelerates(ConvolutionInput, "forward", tier="all")
def to_input(op: Any, gy: Any, w: Any) -> Any:
    """gx, as the text gives it."""
    if w.ndim != 4 or not _takes(w.shape, gy, w):
        return NotImplemented
    op._kernel = w.shape[2:]
    shape = (gy.shape[0], w.shape[1] * op.groups, *op.spatial)
    return _run("backward_data", op, shape, w.shape, gy.shape, gy, w, np.empty(shape, FLOAT))


@accelerates(ConvolutionWeight, "forward", tier="all")
def to_weight(op: Any, gy: Any, x: Any) -> Any:
    """gw, as the text gives it."""
    if x.ndim != 4:
        return NotImplemented
    shape = (gy.shape[1], x.shape[1] // op.groups, *op.kernel)
    if not _takes(shape, gy, x):
        return NotImplemented
    op._spatial = x.shape[2:]
    return _run("backward_weights", op, x.shape, shape, gy.shape, gy, x, np.empty(shape, FLOAT))
