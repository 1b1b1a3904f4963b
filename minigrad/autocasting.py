"""`autocast`: matrix products and convolutions in half precision, around float32 weights, statistics and losses.

The casts are operations on the tape, so a float32 weight receives a float32 gradient, and derivatives of every order
are those of the casts and of the operations between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import as_device, device_of
from minigrad.errors import ArgumentError
from minigrad.modes import Mode, current, switch
from minigrad.op import Traced
from minigrad.ops.activation import LogSoftmax, Softmax
from minigrad.ops.attention import Attention
from minigrad.ops.convolution import Convolution, ConvolutionInput, ConvolutionWeight
from minigrad.ops.cumulative import CumProd, CumSum, Prod
from minigrad.ops.elementwise import Exp, Expm1, Log, Log1p, Reciprocal, Rsqrt, Square, cast
from minigrad.ops.loss import BinaryCrossEntropy, CrossEntropy
from minigrad.ops.matmul import Linear, MatMul
from minigrad.ops.norm import Norm
from minigrad.ops.reduction import LogSumExp, Mean, Sum
from minigrad.versions import written

__all__ = ["HALF_OPERATIONS", "WIDE_OPERATIONS", "autocast", "half_dtype", "in_float32"]

#: Products, which tensor cores compute; they sum in float32.
HALF_OPERATIONS = frozenset((MatMul, Linear, Convolution, ConvolutionInput, ConvolutionWeight, Attention))
#: What overflows or loses too much in half precision: sums over many elements, exponentials, softmax, losses.
WIDE_OPERATIONS = frozenset((
    Softmax, LogSoftmax, CrossEntropy, BinaryCrossEntropy, Sum, Mean, LogSumExp, Norm, CumSum, CumProd, Prod, Exp,
    Expm1, Log, Log1p, Reciprocal, Rsqrt, Square))


def half_dtype(name: str) -> np.dtype[Any]:
    """The dtype of a half type by its name.

    Raises
    ------
    ArgumentError
        It is neither, or `ml_dtypes`, which gives NumPy bfloat16, is not installed.
    """
    if name == "float16":
        return np.dtype(np.float16)
    if name != "bfloat16":
        raise ArgumentError("autocast", got=f"dtype {name!r}", wanted="'float16' or 'bfloat16'")
    try:
        import ml_dtypes
    except ImportError:
        raise ArgumentError("autocast", got="'bfloat16' without ml_dtypes, which gives NumPy that type",
                            wanted="'float16', or ml_dtypes installed (pip install ml_dtypes)") from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


class autocast(switch):
    """Inside the block, compute products in half precision and what needs it in float32.

    * linear maps, matrix products, convolutions and attention take their float32 arguments in `dtype`,
    * sums, means, norms, exponentials, logarithms, softmax and losses take half arguments in float32,
    * everything else computes in what it is given; normalizations take half inputs, and their statistics, γ and β are
      float32; where half meets float32 in arithmetic, the result is float32.

    Parameters stay float32, and so do their gradients. A parameter that several operations use is cast once in a block,
    unless it is written to meanwhile. The backward pass computes in the types of the forward pass, whether `backward`
    is called inside the block or, as is usual, after it. float64 is left alone.

    Parameters
    ----------
    dtype : "float16" or "bfloat16"
        float16 has 3 digits and ends at 65504, so losses have to be scaled (`minigrad.optim.GradScaler`); bfloat16 has
        2 digits and the range of float32. On the CPU both work and neither is fast.
    device : str, optional
        ``"cpu"`` or ``"cuda"``: only there; everywhere unless given.
    enabled : bool
        False leaves everything as it is, also inside another block.

    Raises
    ------
    ArgumentError
        The dtype is no half type, or bfloat16 is not to be had.
    DeviceError
        The device is unknown or absent.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad import layers
    >>> model = layers.Linear(3, 2)
    >>> with minigrad.autocast("float16"):
    ...     y = model(minigrad.ones(4, 3))
    ...     loss = y.sum()
    >>> loss.backward()
    >>> y.dtype, loss.dtype, model.weight.grad.dtype
    (dtype('float16'), dtype('float32'), dtype('float32'))
    """

    def __init__(self, dtype: str = "float16", device: str | None = None, *, enabled: bool = True) -> None:
        super().__init__()
        self.dtype, self.enabled = half_dtype(dtype), enabled
        self.device = None if device is None else as_device(device).type

    def changed(self, mode: Mode) -> Mode:
        return mode.replace(autocast=_Casts(self.dtype, self.device) if self.enabled else None)


class _Casts:
    """The casts of one block, and the parameters that it has cast."""

    def __init__(self, dtype: np.dtype[Any], device: str | None) -> None:
        self.dtype, self.device = dtype, device
        self._cast: dict[tuple[int, bool], tuple[Any, Any, int, Any]] = {}

    def inputs(self, op: Any, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of an operation in the dtypes that it is to compute in. Calls without a Tensor stay."""
        kind = type(op)
        dtypes: tuple[np.dtype[Any], ...]
        if kind in HALF_OPERATIONS:
            dtypes, to = (np.dtype(np.float32),), self.dtype
        elif kind in WIDE_OPERATIONS:
            dtypes, to = (np.dtype(np.float16), self.dtype), np.dtype(np.float32)
        else:
            return xs
        if not any(isinstance(x, Traced) for x in xs):
            return xs
        return tuple([self._in(x, to) if getattr(x, "dtype", None) in dtypes and self._here(x) else x for x in xs])

    def _here(self, x: Any) -> bool:
        return self.device is None or device_of(x.data if isinstance(x, Traced) else x).type == self.device

    def _in(self, x: Any, to: np.dtype[Any]) -> Any:
        """One argument, cast; a leaf with a gradient, which is a parameter, once for all its uses."""
        if not isinstance(x, Traced):
            return x.astype(to)
        if not x.requires_grad or x.edge is not None:
            return cast(x, to)
        key = id(x), current().recording
        known = self._cast.get(key)
        if known is not None:
            tensor, array, tick, made = known
            if tensor is x and array is x.data and written(array) == tick:
                return made
        made = cast(x, to)
        self._cast[key] = x, x.data, written(x.data), made
        return made


def in_float32(*tensors: Any) -> tuple[Any, ...]:
    """Arguments as they are, and inside `autocast` half ones in float32: for losses made of several operations."""
    casts = current().autocast
    if casts is None:
        return tensors
    half = (np.dtype(np.float16), casts.dtype)
    return tuple([cast(t, np.float32) if getattr(t, "dtype", None) in half else t for t in tensors])
