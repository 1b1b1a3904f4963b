"""Cross-entropy on a GPU: the losses, or their sum, and the gradient for the scores, each in one pass over memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.kernels.cuda.launch import (
    NULL,
    THREADS,
    blocks,
    element_macros,
    element_combinations,
    kernel,
    takes,
)
from minigrad.kernels.registry import accelerates
from minigrad.ops.loss import CrossEntropy

FILE = "entropy"
#: Threads that share a row: a warp, and from LONG classes on a block.
SHORT_ROW, LONG_ROW, LONG = 32, 256, 1024


def _row(classes: int) -> int:
    return SHORT_ROW if classes < LONG else LONG_ROW


def _launch(kind: str, x: Any, before: tuple[Any, ...], after: tuple[Any, ...] = ()) -> None:
    """Run the kernel for rows, where classes lie side by side, or that for columns."""
    classes, length = x.shape[1], math.prod(x.shape[2:])
    count, macros = x.size // classes, element_macros(x.dtype)
    if length == 1:
        row = _row(classes)
        together = THREADS // row
        kernel(FILE, f"rows_{kind}", ROW=row, **macros)(
            (math.ceil(count / together),), (row, together), (*before, np.int32(count), np.int32(classes), *after))
    else:
        kernel(FILE, f"columns_{kind}", ROW=SHORT_ROW, **macros)(
            blocks(count, x), (THREADS,), (*before, np.int32(classes), np.int32(length), np.uint32(count), *after))


def _takes(op: Any, x: Any, q: Any) -> bool:
    return takes(x, q) and x.shape == q.shape and x.ndim >= 2


@accelerates(CrossEntropy, "forward", device="cuda", when=_takes)
def forward(op: Any, x: Any, q: Any) -> Any:
    """The losses, or their sum, as the text gives them."""
    import cupy

    shape = (x.shape[0], *x.shape[2:])
    if not op.reduce:
        losses = cupy.empty(shape, x.dtype)
        _launch("forward", x, (x, q, losses, NULL))
        return losses
    parts, loss = cupy.empty(math.prod(shape), np.float32), cupy.empty((), x.dtype)
    _launch("forward", x, (x, q, NULL, parts))
    kernel(FILE, "total", ROW=SHORT_ROW, **element_macros(x.dtype))((1,), (1024,), (parts, loss, np.int32(parts.size)))
    return loss


@accelerates(CrossEntropy, "backward", device="cuda")
def backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """gx, as the text gives it where the target needs no gradient."""
    import cupy

    x, q = saved
    if needs[1] or not _takes(op, x, q) or not takes(x, gy):
        return NotImplemented
    gx = cupy.empty_like(x)
    _launch("backward", x, (x, q, gy, gx), (np.int32(not op.reduce),))
    return gx, None


def combinations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every source and macros that the kernels here can ask for."""
    for row in (SHORT_ROW, LONG_ROW):
        yield from element_combinations(FILE, ROW=row)
