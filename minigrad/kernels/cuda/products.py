"""Products of matrices on a GPU by cuBLAS, where CuPy's way to it is slow or none.

CuPy 14 multiplies stacks of matrices one by one where one factor is shared by all, those of float16 in float32, and for
bfloat16 it has kernels of integers alone, which do not compile. So a linear map is one product of all rows, for which
CuPy has every dtype and tensor cores, and stacks of bfloat16 are multiplied in float32 and rounded once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import namespace
from minigrad.kernels.registry import accelerates
from minigrad.modes import current
from minigrad.ops.matmul import Linear, MatMul

__all__ = ["product"]


def _stacks(*arrays: Any) -> bool:
    """Whether these are stacks of bfloat16 that CuPy itself has to multiply: a recorder of steps has its own way."""
    return (current().graph is None and any(a.ndim > 2 for a in arrays)
            and all(a.dtype.name == "bfloat16" for a in arrays))


def product(a: Any, b: Any) -> Any:
    """The product over the last two axes, leading axes broadcast; while a step is recorded, one that can be."""
    matmul = namespace(a).matmul
    if _stacks(a, b):
        return matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
    return matmul(a, b)


@accelerates(MatMul, "forward", device="cuda", when=lambda op, x, y: _stacks(x, y))
def matmul(op: Any, x: Any, y: Any) -> Any:
    """z, as the text gives it."""
    return product(x, y)


@accelerates(MatMul, "backward", device="cuda", when=lambda op, saved, needs, gz: _stacks(gz))
def matmul_backward(op: Any, saved: Any, needs: Any, gz: Any) -> Any:
    """(gx, gy), as the text gives them."""
    wide = [None if a is None else a.astype(np.float32) for a in (*saved, gz)]
    return tuple([None if g is None else g.astype(gz.dtype) for g in op.backward(wide[:2], needs, wide[2])])


def _rows(x: Any) -> Any:
    """(…, n) as a matrix."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@accelerates(Linear, "forward", device="cuda", when=lambda op, x, w, b: x.ndim > 2)
def linear(op: Any, x: Any, w: Any, b: Any) -> Any:
    """y, as the text gives it."""
    return op.forward(_rows(x), w, b).reshape(*x.shape[:-1], w.shape[0])


@accelerates(Linear, "backward", device="cuda", when=lambda op, saved, needs, gy: gy.ndim > 2)
def linear_backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """(gx, gw, gb), as the text gives them."""
    x, w = saved
    gx, gw, gb = op.backward((None if x is None else _rows(x), w), needs, _rows(gy))
    return None if gx is None else gx.reshape(*gy.shape[:-1], w.shape[1]), gw, gb
