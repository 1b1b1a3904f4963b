"""minigrad: a small autograd framework on NumPy, and on CuPy where there is a GPU, built around normalization."""

__version__ = "0.1.0"

from minigrad import creation, cuda, errors, kernels, ops
from minigrad.arraylike import takes_lists
from minigrad.autocasting import autocast
from minigrad.backend import Device
from minigrad.creation import (
    arange,
    asarray,
    bernoulli,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    linspace,
    logspace,
    meshgrid,
    multinomial,
    normal,
    ones,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    uniform,
    zeros,
)
from minigrad.derivatives import hessian, hvp, jacobian
from minigrad.engine import grad, jvp, vjp
from minigrad.memory import keep_freed_memory, release_memory
from minigrad.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minigrad.observers import Observer, detect_anomaly, observe
from minigrad.op import Op, apply, inputs, outputs
from minigrad.ops import (
    abs,
    add,
    all,
    any,
    argmax,
    argmin,
    argsort,
    astype,
    broadcast_to,
    ceil,
    clip,
    concat,
    cos,
    cumprod,
    cumsum,
    divide,
    einsum,
    equal,
    erf,
    exp,
    expand_dims,
    expm1,
    flatten,
    flip,
    floor,
    floor_divide,
    full_like,
    gather,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log_softmax,
    logical_and,
    logical_not,
    logical_or,
    logsumexp,
    matmul,
    matrix_transpose,
    max,
    maximum,
    mean,
    min,
    minimum,
    moveaxis,
    multiply,
    nan_to_num,
    negative,
    norm,
    not_equal,
    ones_like,
    outer,
    pad,
    permute_dims,
    power,
    prod,
    reciprocal,
    relu,
    remainder,
    repeat,
    reshape,
    roll,
    round,
    rsqrt,
    scatter_add,
    sigmoid,
    sign,
    sin,
    softmax,
    sort,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    subtract,
    sum,
    swapaxes,
    take,
    take_along_axis,
    tanh,
    tile,
    topk,
    tril,
    triu,
    unstack,
    var,
    where,
    zeros_like,
)
from minigrad.ops.random import Generator, manual_seed
from minigrad.recomputation import recompute
from minigrad.tensor import Buffer, Parameter, Tensor
from minigrad.threads import get_num_threads, set_num_threads

for _module in (ops, creation):  # lists are welcome, as to NumPy's functions; operators and methods never meet any
    for _name in _module.__all__:
        if globals().get(_name) is getattr(_module, _name):
            globals()[_name] = takes_lists(getattr(_module, _name), __name__, _name)

keep_freed_memory()
