"""The operations: each a class with its formula, and a function of the array API's name where there is one.

This module is also the namespace that a Tensor answers with: a text that runs on NumPy arrays with NumPy's functions
runs on Tensors with these. Given arrays and no Tensor, every function computes and returns arrays.
"""

from minigrad.ops.activation import (
    gelu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax, softplus,
)
from minigrad.ops.arithmetic import (
    add, clip, divide, equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or, maximum,
    minimum, multiply, not_equal, power, subtract, where,
)
from minigrad.ops.convolution import convolution
from minigrad.ops.creation import full_like, ones_like, zeros_like
from minigrad.ops.elementwise import (
    abs, cast, clone, erf, exp, expm1, isfinite, isnan, log, log1p, move, negative, rsqrt, sign, sqrt, square,
    stop_gradient, tanh,
)
from minigrad.ops.indexing import getitem, index_add
from minigrad.ops.loss import cross_entropy
from minigrad.ops.matmul import linear, matmul
from minigrad.ops.normalization import batch_norm, batch_norm_inference, layer_norm, moments, normalize, scale_shift
from minigrad.ops.pooling import avg_pool, flat_indices, max_pool
from minigrad.ops.random import Generator, default_generator, dropout, manual_seed
from minigrad.ops.reduction import logsumexp, max, mean, min, std, sum, var
from minigrad.ops.shape import (
    broadcast_to, concat, expand_dims, flatten, matrix_transpose, moveaxis, permute_dims, reshape, squeeze, stack,
    swapaxes,
)

astype = cast

__all__ = [name for name in globals() if not name.startswith("_")]
