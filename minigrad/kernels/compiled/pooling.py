"""Pooling over one or two axes on the CPU: one pass over the windows, not one over the image for each place."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels.compiled import loading
from minigrad.kernels.compiled.loading import accelerates
from minigrad.ops.pooling import MaxPool, Scatter, Spread, SumPool

Pair = tuple[int, int]


def _takes(op: Any, x: Any, *others: Any) -> bool:
    return (x.ndim in (3, 4) and x.size > 0 and x.dtype in (np.float32, np.float64)
            and x.flags.c_contiguous and all(a.flags.c_contiguous and a.dtype == np.int32 for a in others))


class _Windows(NamedTuple):
    """The geometry of an operation as the loops see it, over two axes, of which the first may be one that was added.

    planes : how many images of one channel there are
    spatial, lengths : of the input and of the output
    before : the padding at the lower ends
    inside : whether all windows lie on the input
    parallel : whether there is enough to do for several threads
    """

    planes: int
    spatial: Pair
    lengths: Pair
    kernel: Pair
    stride: Pair
    before: Pair
    dilation: Pair
    inside: bool
    parallel: bool

    def small(self) -> bool:
        """Whether loops for just this size are worth compiling."""
        return self.inside and max(*self.kernel, *self.stride) <= 3 and self.dilation == (1, 1)

    def apart(self) -> bool:
        """Whether windows touch, do not overlap, and lie on the input."""
        return self.inside and self.stride == self.kernel

    def lanes(self) -> int:
        """How many windows of a row are worked on together: 4, 8 or 16, the first that holds a row, else 16."""
        return 4 if self.lengths[1] <= 4 else 8 if self.lengths[1] <= 8 else 16

    def input(self, x: Any) -> Any:
        """An array of the input's shape as the loops see it."""
        return x.reshape(self.planes, *self.spatial)

    def output(self, y: Any) -> Any:
        """An array of the output's shape as the loops see it."""
        return y.reshape(self.planes, *self.lengths)


def _windows(op: Any, x: Any, spatial: tuple[int, ...]) -> _Windows:
    """What the loops see of a call with an array x of the input's or of the output's shape."""

    def pair(given: Any, added: int) -> Any:
        return (added, *given) if len(given) == 1 else tuple(given)

    planes = x.shape[0] * x.shape[1]
    before = pair([b for b, _ in op.padding], 0)
    return _Windows(planes, pair(spatial, 1), pair(op.lengths, 1), pair(op.kernel, 1), pair(op.stride, 1), before,
                    pair(op.dilation, 1), not any(b or a for b, a in op.padding),
                    planes * math.prod(spatial) >= loading.PARALLEL_FROM)


@accelerates(MaxPool, "forward", when=_takes)
def forward(op: Any, x: Any) -> tuple[Any, Any]:
    """(y, which), as the text gives them."""
    op._spatial = x.shape[2:]
    see, shape = _windows(op, x, x.shape[2:]), (*x.shape[:2], *op.lengths)
    y, which = np.empty(shape, x.dtype), np.empty(shape, np.int32)
    if see.small():
        run = loading.loops("pooling_loops", "max_pool_inside", see.parallel, *see.kernel, *see.stride, see.lanes())
        run(see.input(x), see.output(y), see.output(which))
        return y, which
    run = loading.loops("pooling_loops", "max_pool", see.parallel)
    run(see.input(x), see.kernel, see.stride, see.before, see.dilation, see.output(y), see.output(which))
    return y, which


@accelerates(Scatter, "forward", when=_takes)
def scatter(op: Any, g: Any, which: Any) -> Any:
    """Each gradient at the place that its window chose."""
    see, shape = _windows(op, g, op.spatial), (*g.shape[:2], *op.spatial)
    if see.small() and see.apart():
        out = np.empty(shape, g.dtype)
        run = loading.loops("pooling_loops", "scatter_apart", see.parallel, *see.kernel, see.lanes())
        run(see.output(g), see.output(which), see.input(out))
        return out
    out = np.zeros(shape, g.dtype)
    run = loading.loops("pooling_loops", "scatter", see.parallel)
    run(see.output(g), see.output(which), see.kernel, see.stride, see.before, see.dilation, see.input(out))
    return out


def _known(stride: int) -> int:
    """A stride that loops are compiled for, or 0 for any."""
    return stride if stride <= 3 else 0


@accelerates(SumPool, "forward", when=_takes)
def sum_pool(op: Any, x: Any) -> Any:
    """The sum under each window."""
    see = _windows(op, x, x.shape[2:])
    if see.dilation != (1, 1):
        return NotImplemented
    op._spatial = x.shape[2:]
    y = np.empty((*x.shape[:2], *op.lengths), x.dtype)
    run = loading.loops("pooling_sums", "sum_pool", see.parallel, _known(see.stride[1]))
    run(see.input(x), see.kernel, see.stride, see.before, see.output(y))
    return y


@accelerates(Spread, "forward", when=_takes)
def spread(op: Any, g: Any) -> Any:
    """Each element at every place of its window, added up."""
    see = _windows(op, g, op.spatial)
    if see.dilation != (1, 1):
        return NotImplemented
    out = np.empty((*g.shape[:2], *op.spatial), g.dtype)
    run = loading.loops("pooling_sums", "spread", see.parallel, _known(see.stride[1]), see.apart())
    run(see.output(g), see.kernel, see.stride, see.before, see.input(out))
    return out
