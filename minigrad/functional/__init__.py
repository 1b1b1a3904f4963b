"""Neural-network functions under torch.nn.functional's names and signatures.

They take Tensors or arrays, and are pure. Where one differs from torch's on purpose, its docstring says so.
"""

from minigrad.functional.activation import (
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from minigrad.functional.convolution import conv2d
from minigrad.functional.dropout import dropout
from minigrad.functional.loss import cross_entropy, mse_loss
from minigrad.functional.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)
from minigrad.functional.pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from minigrad.ops import linear

__all__ = [
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "conv2d", "cross_entropy", "dropout", "gelu", "group_norm",
    "instance_norm", "layer_norm", "leaky_relu", "linear", "local_response_norm", "log_softmax", "max_pool2d",
    "mse_loss", "relu", "rms_norm", "sigmoid", "silu", "softmax", "softplus", "tanh",
]
