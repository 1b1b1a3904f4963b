"""Normalization in training on a GPU: channels shared by a cluster of blocks, rows in registers, columns by strips.

The statistics are float32 for float32 and half inputs, as the text's, and never wider: at |x| above 1e19, where the
text goes over to float64, y and the gradients are still right (sums are taken in double), and the variance, which does
not fit float32, comes back as infinity.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.cuda.launch import (
    ELEMENTS,
    compute_capability,
    kernel,
    multiprocessors,
    pointer,
    shared_limit,
    vector,
)
from minigrad.kernels.registry import accelerates
from minigrad.ops.normalization_texts import BatchNorm, LayerNorm

FILE = "normalization"
COMFORTABLE = 100 * 1024  # bytes of shared memory that let two blocks run on one multiprocessor
CHANNEL_THREADS = 512


def _plain(*arrays: Any) -> bool:
    """Whether all are C-contiguous, of a dtype that the source takes, and not empty."""
    return all(a.flags.c_contiguous and a.size for a in arrays) and arrays[0].dtype.name in ELEMENTS


def _parameters(*arrays: Any) -> bool:
    return all(a is None or (a.dtype == np.float32 and a.flags.c_contiguous) for a in arrays)


def _takes_forward(op: Any, x: Any, weight: Any, bias: Any) -> bool:
    return _plain(x) and _parameters(weight, bias) and _layout(op, x) is not None


def _takes_backward(op: Any, saved: Any, needs: Any, gy: Any, *others: Any) -> bool:
    if gy is None or not needs[0] or any(g is not None for g in others):
        return False
    x, weight, mean, _ = saved
    return (_plain(x, gy) and gy.dtype == x.dtype and mean.dtype == np.float32 and _parameters(weight)
            and _layout(op, x) is not None)


def _layout(op: Any, x: Any) -> str | None:
    """Which kernels fit: "channel", "column", "row", or none."""
    if isinstance(op, BatchNorm):
        if math.prod(x.shape[2:]) == 1:
            return "column"
        return "channel" if compute_capability(x) >= 90 and x.size < 2**31 else None
    length = _row_length(op, x)
    fits = x.size // length < 2**31 and _row_shared(x, length, 2) <= shared_limit(x) - 4096
    return "row" if fits and _row_shape(x, length) is not None else None


def _row_length(op: Any, x: Any) -> int:
    return int(math.prod(x.shape[a] for a in op.axes))


def _row_shape(x: Any, length: int, *more: Any) -> tuple[int, int, int] | None:
    """(elements in one access, accesses of a thread, threads) for rows of a length; None if they are too long."""
    wide = vector(length, x, *more)
    packs = length // wide
    for accesses in (1, 2, 4, 8):
        threads = 32 * math.ceil(packs / accesses / 32)
        if threads <= (256 if accesses < 8 else 1024):
            return wide, accesses, threads
    return None


def _row_shared(x: Any, length: int, arrays: int) -> int:
    """Bytes of shared memory for a row of as many arrays, and for their float parameters: both forward, γ backward."""
    return int(length * (arrays * x.itemsize + 4 * (3 - arrays)))


def _row_blocks(x: Any, rows: int, shared: int, threads: int) -> int:
    """As many blocks as the device holds at a time."""
    held = min(2048 // threads, 32, shared_limit(x) // (shared + 2048))
    return min(rows, multiprocessors(x) * max(1, held))


def _clusters(x: Any, arrays: int) -> tuple[int, int, int, int]:
    """(elements in one access, blocks for one channel, packs kept by a block, bytes of shared memory; 0 to reread).

    As few blocks as leave the shares small enough for two on a multiprocessor, and give every multiprocessor work.
    """
    count, channels, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    wide = vector(length, x)
    for blocks in (1, 2, 4, 8):
        kept = math.ceil(count / blocks) * (length // wide)
        size = kept * wide * x.itemsize * arrays
        if (size <= COMFORTABLE and blocks * channels >= multiprocessors(x)) or 2 * blocks > min(8, count):
            break
    return wide, blocks, kept, size if size <= shared_limit(x) - 4096 else 0


def _statistics(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    import cupy

    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    room = cupy.empty((3, *shape), np.float32)
    return room[0], room[1], room[2]


@accelerates(BatchNorm, "forward", device="cuda", when=_takes_forward)
@accelerates(LayerNorm, "forward", device="cuda", when=_takes_forward)
def forward(op: Any, x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any, Any]:
    """(y, mean, variance, rstd), as the text gives them."""
    import cupy

    op._remember(weight, bias)
    y = cupy.empty_like(x)
    mean, variance, rstd = _statistics(x, op.axes)
    arguments = (x, pointer(weight), pointer(bias), y, mean, variance, rstd)
    element, half, layout = ELEMENTS[x.dtype.name], int(x.itemsize == 2), _layout(op, x)
    if layout == "channel":
        wide, blocks, kept, shared = _clusters(x, 1)
        threads = CHANNEL_THREADS if kept >= 2048 else 128
        packs = math.prod(x.shape[2:]) // wide
        run = kernel(FILE, f"channel_forward_{'staged' if shared else 'reread'}", shared, ELEMENT=element, HALF=half,
                     VEC=wide, BLOCKS=blocks, THREADS=threads)
        run((x.shape[1] * blocks,), (threads,),
            (*arguments, np.int32(x.shape[0]), np.int32(x.shape[1]), np.int32(packs), op.eps), shared_mem=shared)
    elif layout == "column":
        threads = _column_threads(x)
        run = kernel(FILE, "column_forward", ELEMENT=element, HALF=half, VEC=1, COLUMNS=1, THREADS=threads)
        run((math.ceil(x.shape[1] / 32),), (32, threads // 32),
            (*arguments, np.int32(x.shape[0]), np.int32(x.shape[1]), op.eps))
    else:
        length = _row_length(op, x)
        wide, accesses, threads = _row_shape(x, length)  # type: ignore[misc]
        rows, shared = x.size // length, _row_shared(x, length, 1)
        run = kernel(FILE, "row_forward", shared, ELEMENT=element, HALF=half, VEC=wide, EPT=accesses, THREADS=threads)
        run((_row_blocks(x, rows, shared, threads),), (threads,),
            (*arguments, np.int32(rows), np.int32(length // wide), op.eps), shared_mem=shared)
    return y, mean, variance, rstd


@accelerates(BatchNorm, "backward", device="cuda", when=_takes_backward)
@accelerates(LayerNorm, "backward", device="cuda", when=_takes_backward)
def backward(op: Any, saved: Any, needs: Any, gy: Any, *others: Any) -> tuple[Any, Any, Any]:
    """(gx, gweight, gbias), as the text gives them where only y has a gradient."""
    import cupy

    x, weight, mean, rstd = saved
    gx = cupy.empty_like(x)
    layout = _layout(op, x)
    element, half = ELEMENTS[x.dtype.name], int(x.itemsize == 2)
    if layout == "row":
        gweight, gbias = _row_backward(op, x, gy, weight, mean, rstd, gx, needs)
    else:
        gweight, gbias = (cupy.empty(x.shape[1], np.float32) if need else None for need in needs[1:])
        arguments = (x, gy, pointer(weight), mean, rstd, gx, pointer(gweight), pointer(gbias))
        sizes = np.int32(x.shape[0]), np.int32(x.shape[1])
        if layout == "channel":
            wide, blocks, kept, shared = _clusters(x, 2)
            threads = CHANNEL_THREADS if kept >= 2048 else 128
            packs = math.prod(x.shape[2:]) // wide
            run = kernel(FILE, f"channel_backward_{'staged' if shared else 'reread'}", shared, ELEMENT=element,
                         HALF=half, VEC=wide, BLOCKS=blocks, THREADS=threads)
            run((x.shape[1] * blocks,), (threads,), (*arguments, *sizes, np.int32(packs), np.int32(kept)),
                shared_mem=shared)
        else:
            threads = _column_threads(x)
            run = kernel(FILE, "column_backward", ELEMENT=element, HALF=half, VEC=1, COLUMNS=1, THREADS=threads)
            run((math.ceil(x.shape[1] / 32),), (32, threads // 32), (*arguments, *sizes))
    return gx, *(None if g is None else g.reshape(op._parameter) for g in (gweight, gbias))


def _column_threads(x: Any) -> int:
    """More rows of threads for taller columns."""
    return 1024 if x.shape[0] >= 256 else 256


def _row_backward(op: Any, x: Any, gy: Any, weight: Any, mean: Any, rstd: Any, gx: Any,
                  needs: Any) -> tuple[Any, Any]:
    """The row kernel, and the sum of what its blocks found for the parameters."""
    import cupy

    length = _row_length(op, x)
    wide, accesses, threads = _row_shape(x, length, gy)  # type: ignore[misc]
    rows, shared = x.size // length, _row_shared(x, length, 2)
    blocks = _row_blocks(x, rows, shared, threads)
    partial = cupy.empty((2, blocks, length), np.float32) if needs[1] or needs[2] else None
    run = kernel(FILE, "row_backward", shared, ELEMENT=ELEMENTS[x.dtype.name], HALF=int(x.itemsize == 2), VEC=wide,
                 EPT=accesses, THREADS=threads)
    run((blocks,), (threads,), (x, gy, pointer(weight), mean, rstd, gx, pointer(partial), np.int32(rows),
                                np.int32(length // wide)), shared_mem=shared)
    if partial is None:
        return None, None
    sums = partial.sum(axis=1)
    return (sums[0] if needs[1] else None), (sums[1] if needs[2] else None)
