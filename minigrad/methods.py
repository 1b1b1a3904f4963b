"""The visible table of Tensor's methods and operators: which function each of them is."""

from __future__ import annotations

from typing import Any

from minigrad import ops

__all__ = ["Methods"]


class Methods:
    """Everything here is a function of `minigrad.ops`, taking the Tensor as its first argument."""

    __slots__ = ()

    __add__ = ops.add
    __sub__ = ops.subtract
    __mul__ = ops.multiply
    __truediv__ = ops.divide
    __floordiv__ = ops.floor_divide
    __mod__ = ops.remainder
    __pow__ = ops.power
    __matmul__ = ops.matmul
    __neg__ = ops.negative
    __abs__ = ops.abs
    __gt__ = ops.greater
    __ge__ = ops.greater_equal
    __lt__ = ops.less
    __le__ = ops.less_equal
    __eq__ = ops.equal
    __ne__ = ops.not_equal
    __and__ = ops.logical_and
    __or__ = ops.logical_or
    __invert__ = ops.logical_not
    __getitem__ = ops.getitem
    __hash__ = object.__hash__

    def __pos__(self) -> Any:
        return self

    def __radd__(self, other: Any) -> Any:
        return ops.add(other, self)

    def __rsub__(self, other: Any) -> Any:
        return ops.subtract(other, self)

    def __rmul__(self, other: Any) -> Any:
        return ops.multiply(other, self)

    def __rtruediv__(self, other: Any) -> Any:
        return ops.divide(other, self)

    def __rfloordiv__(self, other: Any) -> Any:
        return ops.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Any:
        return ops.remainder(other, self)

    def __rpow__(self, other: Any) -> Any:
        return ops.power(other, self)

    def __rmatmul__(self, other: Any) -> Any:
        return ops.matmul(other, self)

    def __rand__(self, other: Any) -> Any:
        return ops.logical_and(other, self)

    def __ror__(self, other: Any) -> Any:
        return ops.logical_or(other, self)

    abs = ops.abs
    exp = ops.exp
    expm1 = ops.expm1
    log = ops.log
    log1p = ops.log1p
    sqrt = ops.sqrt
    rsqrt = ops.rsqrt
    square = ops.square
    reciprocal = ops.reciprocal
    floor = ops.floor
    ceil = ops.ceil
    round = ops.round
    nan_to_num = ops.nan_to_num
    sign = ops.sign
    sin = ops.sin
    cos = ops.cos
    tanh = ops.tanh
    erf = ops.erf
    sigmoid = ops.sigmoid
    relu = ops.relu
    isnan = ops.isnan
    isfinite = ops.isfinite
    isinf = ops.isinf
    clip = ops.clip
    maximum = ops.maximum
    minimum = ops.minimum
    softmax = ops.softmax
    log_softmax = ops.log_softmax

    sum = ops.sum
    mean = ops.mean
    var = ops.var
    std = ops.std
    max = ops.max
    min = ops.min
    logsumexp = ops.logsumexp
    prod = ops.prod
    norm = ops.norm
    any = ops.any
    all = ops.all
    argmax = ops.argmax
    argmin = ops.argmin
    cumsum = ops.cumsum
    cumprod = ops.cumprod
    argsort = ops.argsort
    sort = ops.sort
    topk = ops.topk

    astype = ops.cast
    clone = ops.clone
    swapaxes = ops.swapaxes
    moveaxis = ops.moveaxis
    expand_dims = ops.expand_dims
    squeeze = ops.squeeze
    flatten = ops.flatten
    matmul = ops.matmul
    take = ops.take
    take_along_axis = ops.take_along_axis
    gather = ops.gather
    scatter_add = ops.scatter_add
    split = ops.split
    unstack = ops.unstack
    flip = ops.flip
    roll = ops.roll
    repeat = ops.repeat
    tile = ops.tile
    tril = ops.tril
    triu = ops.triu

    def reshape(self, *shape: Any) -> Any:
        """`minigrad.reshape`; the lengths may be given one by one."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def permute_dims(self, *axes: Any) -> Any:
        """`minigrad.permute_dims`; the axes may be given one by one."""
        return ops.permute_dims(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)

    def broadcast_to(self, *shape: Any) -> Any:
        """`minigrad.broadcast_to`; the lengths may be given one by one."""
        return ops.broadcast_to(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    @property
    def T(self) -> Any:
        """The axes in reverse order."""
        return ops.permute_dims(self, tuple(reversed(range(self.ndim))))  # type: ignore[attr-defined]

    @property
    def mT(self) -> Any:
        """The last two axes exchanged."""
        return ops.matrix_transpose(self)
