"""Neural-network functions under torch.nn.functional's names and signatures.

They take Tensors or arrays, and are pure. Where one differs from torch's on purpose, its docstring says so.
"""

from minigrad.arraylike import takes_arrays
from minigrad.functional.activation import (
    elu,
    gelu,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from minigrad.functional.attention import scaled_dot_product_attention
from minigrad.functional.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    fold,
    unfold,
)
from minigrad.functional.dropout import dropout
from minigrad.functional.embedding import embedding, normalize, one_hot
from minigrad.functional.loss import cross_entropy, nll_loss
from minigrad.functional.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)
from minigrad.functional.padding import pad
from minigrad.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from minigrad.functional.probability import binary_cross_entropy, binary_cross_entropy_with_logits, kl_div
from minigrad.functional.regression import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from minigrad.ops import linear

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cross_entropy", "dropout", "elu", "embedding", "fold",
    "gelu", "group_norm", "hardtanh", "huber_loss", "instance_norm", "kl_div", "l1_loss", "layer_norm", "leaky_relu",
    "linear", "local_response_norm", "log_softmax", "logsigmoid", "max_pool1d", "max_pool2d", "max_pool3d", "mish",
    "mse_loss", "nll_loss", "normalize", "one_hot", "pad", "relu", "relu6", "rms_norm", "scaled_dot_product_attention",
    "sigmoid", "silu", "smooth_l1_loss", "softmax", "softplus", "tanh", "unfold",
]

for _name in __all__:  # a list in place of a Tensor is refused by the function's name
    globals()[_name] = takes_arrays(globals()[_name], __name__, _name)
