"""The operations: each a class with its formula, and a function of the array API's name where there is one.

This module is also the namespace that a Tensor answers with: a text that runs on NumPy arrays with NumPy's functions
runs on Tensors with these. Given arrays and no Tensor, every function computes and returns arrays.
"""

from minigrad.ops.activation import (
    elu,
    gelu,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
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
from minigrad.ops.attention import attention
from minigrad.ops.convolution import convolution, convolution_transpose, fold, unfold
from minigrad.ops.creation import full_like, ones_like, zeros_like
from minigrad.ops.cumulative import cumprod, cumsum, prod
from minigrad.ops.einsum import einsum, outer
from minigrad.ops.elementwise import (
    abs,
    cast,
    clone,
    cos,
    erf,
    exp,
    expm1,
    isfinite,
    isinf,
    isnan,
    log,
    log1p,
    move,
    negative,
    reciprocal,
    rsqrt,
    sign,
    sin,
    sqrt,
    square,
    stop_gradient,
    tanh,
)
from minigrad.ops.gathering import gather, scatter_add, take, take_along_axis
from minigrad.ops.indexing import getitem, index_add
from minigrad.ops.local_response import local_response_norm
from minigrad.ops.loss import binary_cross_entropy, cross_entropy
from minigrad.ops.matmul import linear, matmul
from minigrad.ops.norm import norm
from minigrad.ops.normalization import batch_norm, batch_norm_inference, group_norm, instance_norm, layer_norm, rms_norm
from minigrad.ops.pooling import avg_pool, flat_indices, max_pool
from minigrad.ops.random import dropout
from minigrad.ops.rearrange import flip, pad, repeat, roll, split, tile, tril, triu, unstack
from minigrad.ops.recurrent import gru_step, lstm_step
from minigrad.ops.reduction import logsumexp, max, mean, min, std, sum, var
from minigrad.ops.rounding import ceil, floor, nan_to_num, round
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
from minigrad.ops.sorting import all, any, argmax, argmin, argsort, sort, topk
from minigrad.ops.statistics import inverse_std, mean_square, moments, normalize, scale_shift

astype = cast  # the array API's name for it

__all__ = [
    "abs", "add", "all", "any", "argmax", "argmin", "argsort", "astype", "attention", "avg_pool", "batch_norm",
    "batch_norm_inference", "binary_cross_entropy", "broadcast_to", "cast", "ceil", "clip", "clone", "concat",
    "convolution", "convolution_transpose", "cos", "cross_entropy", "cumprod", "cumsum", "divide", "dropout",
    "einsum", "elu", "equal", "erf", "exp", "expand_dims", "expm1", "flat_indices", "flatten", "flip", "floor",
    "floor_divide", "fold", "full_like", "gather", "gelu", "getitem", "greater", "greater_equal", "group_norm",
    "gru_step", "hardtanh", "index_add", "instance_norm", "inverse_std", "isfinite", "isinf", "isnan", "layer_norm",
    "leaky_relu", "less", "less_equal", "linear", "local_response_norm", "log", "log1p", "log_softmax",
    "logical_and", "logical_not", "logical_or", "logsigmoid", "logsumexp", "lstm_step", "matmul",
    "matrix_transpose", "max", "max_pool", "maximum", "mean", "mean_square", "min", "minimum", "mish", "moments",
    "move", "moveaxis", "multiply", "nan_to_num", "negative", "norm", "normalize", "not_equal", "ones_like",
    "outer", "pad", "permute_dims", "power", "prod", "reciprocal", "relu", "remainder", "repeat", "reshape",
    "rms_norm", "roll", "round", "rsqrt", "scale_shift", "scatter_add", "sigmoid", "sign", "silu", "sin", "softmax",
    "softplus", "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "stop_gradient", "subtract", "sum",
    "swapaxes", "take", "take_along_axis", "tanh", "tile", "topk", "tril", "triu", "unfold", "unstack", "var",
    "where", "zeros_like",
]
