"""Matrix products by cuBLAS while a CUDA graph is recorded, where CuPy refuses to call it.

cuBLAS itself can be recorded if it has its workspace beforehand (cuBLAS documentation, "CUDA Graphs Support"); CuPy 14
only has not opened that way. So it is called here, with a handle and a workspace of our own, as CuPy's own product
calls it: cublasGemmStridedBatchedEx, sums in float32 for half types, no TF32.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from minigrad.backend import Array
from minigrad.errors import DeviceError, DtypeError

__all__ = ["Blas"]

#: cudaDataType_t and cublasComputeType_t by dtype.
_TYPES = {"float16": (2, 68), "bfloat16": (14, 68), "float32": (0, 68), "float64": (1, 70)}
_DEFAULT_ALGORITHM = 99  # CUBLAS_GEMM_DEFAULT_TENSOR_OP, as CuPy asks for
_WORKSPACE = 32 << 20  # bytes: what cuBLAS recommends for Hopper
_NAMES = ("libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so")


def _library() -> Any:
    """cuBLAS as CuPy has loaded it, from wherever that is: what is loaded is found by its name alone."""
    import cupy

    cupy.cuda.get_cublas_handle()  # CuPy loads it for its first product, and there may have been none
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise DeviceError("replay", got=f"none of {', '.join(_NAMES)}", wanted="cuBLAS, which comes with CUDA")


class Blas:
    """A handle of cuBLAS with its workspace, bound to one stream.

    Parameters
    ----------
    stream : int
        The stream that will record.
    library : object, optional
        What has cuBLAS' functions; cuBLAS unless given.
    """

    def __init__(self, stream: int, library: Any = None) -> None:
        import cupy

        self._cupy = cupy
        self._library = _library() if library is None else library
        self._handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        self._workspace = cupy.empty(_WORKSPACE, dtype=np.uint8)
        self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
        self._call("cublasSetWorkspace_v2", self._handle, ctypes.c_void_p(int(self._workspace.data.ptr)),
                   ctypes.c_size_t(_WORKSPACE))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise DeviceError(name, got=f"status {status} from cuBLAS", wanted="0")

    def close(self) -> None:
        """Free the handle; graphs that were recorded with it need the workspace alone."""
        if self._handle:
            self._call("cublasDestroy_v2", self._handle)
            self._handle = ctypes.c_void_p()

    def matmul(self, a: Array, b: Array) -> Array:
        """The product over the last two axes with leading axes broadcast, as `cupy.matmul` gives it.

        Raises
        ------
        DtypeError
            The elements are not floating point.
        """
        xp = self._cupy
        dtype = a.dtype if a.dtype == b.dtype else np.result_type(a.dtype, b.dtype)
        if dtype.name not in _TYPES:
            raise DtypeError("matmul", got=f"{a.dtype} and {b.dtype} in a step that is being recorded",
                             wanted="floating point")
        a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
        m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
        if b.shape[-2] != k:
            raise ValueError(f"matmul: {a.shape} and {b.shape} have different inner lengths")
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        out = xp.empty((*lead, m, n), dtype=dtype)
        if out.size == 0 or k == 0:
            out.fill(0)
            return out
        if math.prod(b.shape[:-2]) == 1 and a.flags.c_contiguous and lead == a.shape[:-2]:  # one product of all rows
            self._gemm(a.reshape(1, -1, k), b.reshape(1, k, n), out.reshape(1, -1, n))
            return out
        count = math.prod(lead)
        self._gemm(_batched(xp, a, lead, count), _batched(xp, b, lead, count), out.reshape(count, m, n))
        return out

    def _gemm(self, a: Array, b: Array, out: Array) -> None:
        """out = a·b for (batch, rows, columns); a batch of one serves all.

        cuBLAS has columns side by side: what it is told is outᵀ = bᵀ·aᵀ.
        """
        count, m, n = out.shape
        k = a.shape[-1]
        kind, compute = _TYPES[out.dtype.name]
        number = ctypes.c_double if compute == 70 else ctypes.c_float
        one, zero = number(1), number(0)
        (b, across_b, width_b, step_b), (a, across_a, width_a, step_a) = _laid_out(b), _laid_out(a)
        integer, long = ctypes.c_int, ctypes.c_longlong
        self._call(
            "cublasGemmStridedBatchedEx", self._handle, integer(across_b), integer(across_a), integer(n), integer(m),
            integer(k), ctypes.byref(one), _pointer(b), integer(kind), integer(width_b), long(step_b), _pointer(a),
            integer(kind), integer(width_a), long(step_a), ctypes.byref(zero), _pointer(out), integer(kind), integer(n),
            long(m * n), integer(count), integer(compute), integer(_DEFAULT_ALGORITHM))


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(int(array.data.ptr))


def _batched(xp: Any, x: Array, lead: tuple[int, ...], count: int) -> Array:
    """(batch, rows, columns): a batch of one if all matrices are the same, else one matrix for each product."""
    rows, columns = x.shape[-2:]
    if math.prod(x.shape[:-2]) == 1:
        return x.reshape(1, rows, columns)
    if x.shape[:-2] != lead:
        x = xp.broadcast_to(x, (*lead, rows, columns))
    if len(lead) != 1 and not x.flags.c_contiguous:
        x = xp.ascontiguousarray(x)
    return x.reshape(count, rows, columns)


def _laid_out(x: Array) -> tuple[Array, int, int, int]:
    """The matrices, copied if they have no layout that cuBLAS knows; whether they lie transposed; the elements from one
    row to the next (or column, if transposed), and from one matrix to the next.
    """
    size = x.itemsize
    _, rows, columns = x.shape
    step, down, across = x.strides
    if step % size == 0 and (across == size or columns == 1) and (down >= columns * size or rows == 1):
        return x, 0, max(columns, down // size if rows > 1 else 0), step // size if x.shape[0] > 1 else 0
    if step % size == 0 and (down == size or rows == 1) and (across >= rows * size or columns == 1):
        return x, 1, max(rows, across // size if columns > 1 else 0), step // size if x.shape[0] > 1 else 0
    return _laid_out(x.copy(order="C"))
