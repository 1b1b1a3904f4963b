"""The operations: each a class with its formula, and a function of the array API's name where there is one.

This module is also the namespace that a Tensor answers with: a text that runs on NumPy arrays with NumPy's functions
runs on Tensors with these. Given arrays and no Tensor, every function computes and returns arrays.
"""

from minigrad.ops.activation import (
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
)
from minigrad.ops.arithmetic import (
    add,
    clip,
    divide,
    equal,
    floor_divide,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    not_equal,
    power,
    remainder,
    subtract,
    where,
)
from minigrad.ops.convolution import convolution
from minigrad.ops.creation import full_like, ones_like, zeros_like
from minigrad.ops.elementwise import (
    abs,
    cast,
    clone,
    cos,
    erf,
    exp,
    expm1,
    isfinite,
    isnan,
    log,
    log1p,
    move,
    negative,
    rsqrt,
    sign,
    sin,
    sqrt,
    square,
    stop_gradient,
    tanh,
)
from minigrad.ops.indexing import getitem, index_add
from minigrad.ops.local_response import local_response_norm
from minigrad.ops.loss import cross_entropy
from minigrad.ops.matmul import linear, matmul
from minigrad.ops.normalization import (
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from minigrad.ops.pooling import avg_pool, flat_indices, max_pool
from minigrad.ops.random import dropout
from minigrad.ops.reduction import logsumexp, max, mean, min, std, sum, var
from minigrad.ops.shape import (
    broadcast_to,
    concat,
    expand_dims,
    flatten,
    matrix_transpose,
    moveaxis,
    permute_dims,
    reshape,
    squeeze,
    stack,
    swapaxes,
)
from minigrad.ops.statistics import inverse_std, mean_square, moments, normalize, scale_shift

astype = cast  # the array API's name for it

__all__ = [
    "abs", "add", "astype", "avg_pool", "batch_norm", "batch_norm_inference", "broadcast_to", "cast", "clip",
    "clone", "concat", "convolution", "cos", "cross_entropy", "divide", "dropout", "equal", "erf", "exp",
    "expand_dims", "expm1", "flat_indices", "flatten", "floor_divide", "full_like", "gelu", "getitem", "greater",
    "greater_equal", "group_norm", "index_add", "instance_norm", "inverse_std", "isfinite", "isnan", "layer_norm",
    "leaky_relu", "less", "less_equal", "linear", "local_response_norm", "log", "log1p", "log_softmax",
    "logical_and", "logical_not", "logical_or", "logsumexp", "matmul", "matrix_transpose", "max", "max_pool",
    "maximum", "mean", "mean_square", "min", "minimum", "moments", "move", "moveaxis", "multiply", "negative",
    "normalize", "not_equal", "ones_like", "permute_dims", "power", "relu", "remainder", "reshape", "rms_norm",
    "rsqrt", "scale_shift", "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "sqrt", "square", "squeeze",
    "stack", "std", "stop_gradient", "subtract", "sum", "swapaxes", "tanh", "var", "where", "zeros_like",
]
