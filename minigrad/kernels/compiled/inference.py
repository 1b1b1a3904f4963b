"""BatchNorm with given statistics on the CPU, float32: which loops take which calls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.kernels.compiled.normalization import FLOAT, parameter, reads
from minigrad.ops.normalization_texts import BatchNormInference


def _loops(x: Any) -> tuple[Any, tuple[int, ...]]:
    """The loops for an input, and the shape that they see."""
    places = math.prod(x.shape[2:])
    shape = x.shape[:2] if places == 1 else (*x.shape[:2], places)
    name = "columns" if places == 1 else "planes"
    return loading.loops("inference_loops", name, x.size >= loading.PARALLEL_FROM), shape


@accelerates(BatchNormInference, "forward")
def forward(op: Any, x: Any, mean: Any, variance: Any, weight: Any, bias: Any) -> Any:
    """y, as the text gives it."""
    w, b = parameter(weight, x.shape[1], 1), parameter(bias, x.shape[1], 0)
    if not (reads(x) and reads(mean) and reads(variance)) or not x.size or w is None or b is None:
        return NotImplemented
    y, (loops, shape) = np.empty(x.shape, FLOAT), _loops(x)
    loops[0](x.reshape(shape), mean, variance, w, b, op.eps, y.reshape(shape))
    return y


@accelerates(BatchNormInference, "backward")
def backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """The five gradients, as the text gives them; each but gx follows from two sums over the channel."""
    x, mean, variance, weight = saved
    w = parameter(weight, gy.shape[1], 1)
    given = [a for a in (x, mean) if a is not None]
    if not needs[0] or w is None or not gy.size or gy.dtype != FLOAT or not all(map(reads, (variance, *given))):
        return NotImplemented
    gy = np.ascontiguousarray(gy)
    x = gy if x is None else x  # not kept: Σ gy·(x − μ) is not wanted
    mean = np.zeros_like(variance) if mean is None else mean
    gx, sums, (loops, shape) = np.empty(gy.shape, FLOAT), np.empty((2, gy.shape[1]), FLOAT), _loops(gy)
    loops[1](x.reshape(shape), gy.reshape(shape), mean, variance, w, op.eps, gx.reshape(shape), sums)
    gmean = gvariance = None
    if needs[1] or needs[2]:
        r = 1 / np.sqrt(variance + FLOAT.type(op.eps))
        gmean, gvariance = -sums[0] * w * r, sums[1] * w * (r * r) * FLOAT.type(-0.5)
    return (gx, gmean if needs[1] else None, gvariance if needs[2] else None, sums[1] if needs[3] else None,
            sums[0] if needs[4] else None)
