"""Max pooling of windows that lie on the input, a few images at a time: masks are bytes, nothing branches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.blocked.slabs import shared
from minigrad.kernels.registry import accelerates
from minigrad.ops.pooling import MaxPool, Scatter

#: Elements of a slab: with what is worked out about it, it fits a second cache of 1 MiB.
PIECE = 1 << 16


def _inside(op: Any, x: Any) -> bool:
    """Whether all windows lie on an input of floating point, with few enough places to be counted in a byte."""
    return bool(x.dtype.kind == "f" and x.itemsize >= 4 and x.size > 0 and math.prod(op.kernel) <= 127
                and not any(before or after for before, after in op.padding))


def _images(x: Any) -> int:
    """How many images make a slab."""
    return max(1, PIECE * int(x.shape[0]) // int(x.size))


@accelerates(MaxPool, "forward", tier="numpy")
def forward(op: Any, x: Any) -> Any:
    """(y, which), as the text gives them."""
    if not _inside(op, x):
        return NotImplemented
    op._spatial = x.shape[2:]
    shape = *x.shape[:2], *op.lengths
    y, which, step = np.empty(shape, x.dtype), np.empty(shape, np.int32), _images(x)

    def work(begin: int, end: int) -> None:
        for low in range(begin, end, step):
            cut = slice(low, min(low + step, end))
            part, best = x[cut], y[cut]
            places = [part[place] for place in op.places()]
            best[...] = places[0]
            candidate, larger = np.empty_like(best), np.empty(best.shape, bool)
            found, here = np.zeros(best.shape, np.int8), np.empty(best.shape, np.int8)
            for k, place in enumerate(places[1:], 1):
                candidate[...] = place  # once: what lies apart is slow to read
                np.greater(candidate, best, out=larger)
                np.maximum(best, candidate, out=best)
                np.multiply(larger.view(np.int8), np.int8(k), out=here)
                np.maximum(found, here, out=found)
            which[cut] = found
            if np.isnan(np.min(best)):  # no comparison tells where a NaN came from
                best[...], which[cut] = op.forward(part)

    shared(work, x.shape[0], x.size)
    return y, which


@accelerates(Scatter, "forward", tier="numpy")
def scatter(op: Any, g: Any, which: Any) -> Any:
    """Each gradient at the place that its window chose, where no two windows meet."""
    if not _inside(op, g) or any(s < (k - 1) * d + 1 for s, k, d in zip(op.stride, op.kernel, op.dilation)):
        return NotImplemented
    out, step = np.zeros((*g.shape[:2], *op.spatial), g.dtype), _images(g)
    bits = np.dtype(f"i{g.itemsize}")

    def work(begin: int, end: int) -> None:
        for low in range(begin, end, step):
            cut = slice(low, min(low + step, end))
            chosen, part, target = which[cut], g[cut].view(bits), out[cut].view(bits)
            for k, place in enumerate(op.places()):
                mask = np.equal(chosen, k).astype(bits)
                np.negative(mask, mask)
                target[place] = np.bitwise_and(mask, part, mask)  # a product would make NaN of 0·∞

    shared(work, g.shape[0], out.size)
    return out
