"""Rows for every function of `minigrad.functional` and every layer, as `cases` has them for operations.

PyTorch has the same names and arguments, so a row says at once what to compare with. A new function or layer is one
row (`tests/layers/test_rows.py` fails for one without):

    Row("elu", [normal(3, 4)], (0.5,))                                         a function: inputs, further arguments
    Row("ELU", [normal(3, 4)], (0.5,))                                         a layer: inputs, arguments to make it
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cases import Input, as_tuple, boolean, grid, normal, whole

from minigrad import Tensor, grad, layers
from minigrad import functional as F

#: Names that are modules, but not layers with a result of their own.
NOT_LAYERS = {"Module", "ModuleList", "Sequential"}


@dataclass(frozen=True)
class Row:
    """One function or layer with inputs for it.

    name : of both, here and in torch
    inputs : how to draw what it is called with
    args : for a function the arguments after the inputs; for a layer those that make it, or a function that gives
        them, of the namespace that the layers are in
    options : the same, by name
    order : the highest order of derivative to check; 0 if there is none
    like : its name in torch, if it is another
    """

    name: str
    inputs: list[Input]
    args: Any = ()
    options: dict[str, Any] = field(default_factory=dict)
    order: int = 2
    like: str = ""

    def __str__(self) -> str:
        said = [repr(a) for a in (self.args if isinstance(self.args, tuple) else ())]
        said += [f"{k}={v if not isinstance(v, np.ndarray) else 'array'}" for k, v in self.options.items()]
        return f"{self.name}({', '.join(said)})"

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer, by the capital letter."""
        return self.name[0].isupper()

    def draw(self, seed: int = 0) -> list[np.ndarray]:
        """The inputs."""
        rng = np.random.default_rng(seed)
        return [np.asarray(i.draw(rng, i.shape)) for i in self.inputs]

    def arguments(self, namespace: Any, array: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What stands after the inputs, or makes the layer, with arrays as `array` gives them."""
        args = self.args(namespace) if callable(self.args) else self.args
        return (tuple(array(a) if isinstance(a, np.ndarray) else a for a in args),
                {k: array(v) if isinstance(v, np.ndarray) else v for k, v in self.options.items()})

    def made(self, dtype: Any = np.float64) -> Any:
        """The layer in `dtype`, with all its parameters drawn, those of normalizations too."""
        args, options = self.arguments(layers, lambda a: a)
        layer = getattr(layers, self.name)(*args, **options).to(dtype=dtype)
        rng = np.random.default_rng(1)
        for parameter in layer.parameters():
            parameter.assign(rng.normal(size=parameter.shape).astype(dtype))
        return layer

    def pure(self, dtype: Any = np.float64, device: str = "cpu") -> tuple[Any, list[np.ndarray]]:
        """A function of the inputs and, for a layer, of its parameters; and arrays for all of them, in `dtype`.

        What else a layer or a call holds is on `device`.
        """
        arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in self.draw()]
        if not self.is_layer:
            args, options = self.arguments(F, lambda a: Tensor(a.astype(dtype), device=device))
            return lambda *xs: flat(getattr(F, self.name)(*xs, *args, **options)), arrays
        layer, count = self.made(dtype).to(device), len(arrays)
        places = [path.rpartition(".") for path, _ in layer.named_parameters()]

        def call(*xs: Any) -> tuple[Any, ...]:
            for (owner, _, name), x in zip(places, xs[count:], strict=True):
                vars(layer.get_submodule(owner) if owner else layer)[name] = x if isinstance(x, Tensor) else Tensor(x)
            return flat(layer(*xs[:count]))

        return call, [*arrays, *(p.numpy().copy() for p in layer.parameters())]


def flat(result: Any) -> tuple[Any, ...]:
    """The floating-point arrays or Tensors in what a call returned."""
    if isinstance(result, (tuple, list)):
        return tuple(y for part in result for y in flat(part))
    return (result,) if result is not None and result.dtype.kind == "f" else ()


def gradients(call: Any, arrays: list[np.ndarray], device: str = "cpu") -> list[np.ndarray]:
    """The gradients of Σ u·y of all results by all floating-point arrays, u drawn in multiples of 1/8."""
    rng = np.random.default_rng(7)
    xs = [Tensor(a, device=device, requires_grad=a.dtype.kind == "f") for a in arrays]
    ys = [y for y in as_tuple(call(*xs)) if y.requires_grad]
    leaves = [x for x in xs if x.requires_grad]
    us = [np.asarray(rng.integers(-16, 17, y.shape) / 8, y.dtype) for y in ys]
    found = grad(ys, leaves, us, allow_unused=True) if ys else ()
    return [np.zeros(x.shape, x.dtype) if g is None else g.numpy() for x, g in zip(leaves, found)]


def probabilities(*shape):
    return Input(lambda rng, s: rng.uniform(0.05, 0.95, s), shape)


def logarithms(*shape):
    return Input(lambda rng, s: np.log(rng.uniform(0.05, 0.95, s)), shape)


WEIGHTS = np.array([1.0, 2.0, 0.5, 3.0])
X, IMAGES, VOLUMES = normal(3, 4), normal(2, 4, 5, 6), normal(1, 2, 4, 3, 4)
UNEQUAL = grid(2, 3, 6, 5), grid(1, 2, 4, 4, 4)  # for maxima: no ties, no near ones
KINKED = grid(3, 4)

FUNCTIONS = [
    Row("relu", [KINKED]), Row("relu6", [KINKED]), Row("elu", [KINKED], (0.5,)), Row("leaky_relu", [KINKED], (0.2,)),
    Row("hardtanh", [KINKED], (-0.3, 0.4)), Row("sigmoid", [X]), Row("tanh", [X]), Row("silu", [X]), Row("mish", [X]),
    Row("gelu", [X]), Row("gelu", [X], options={"approximate": "tanh"}), Row("softplus", [X], (2.0, 1.5)),
    Row("logsigmoid", [X]), Row("softmax", [X], options={"dim": 0}), Row("log_softmax", [X], options={"dim": -1}),
    Row("normalize", [X]), Row("normalize", [X], (3.0, 0)), Row("dropout", [X], (0.5, False)),
    Row("linear", [normal(2, 3, 4), normal(5, 4), normal(5)]), Row("linear", [normal(4), normal(5, 4)]),
    Row("conv1d", [normal(2, 4, 9), normal(6, 2, 3), normal(6)], options={"stride": 2, "padding": 1, "groups": 2}),
    Row("conv2d", [IMAGES, normal(3, 4, 3, 2), normal(3)], options={"padding": "same", "dilation": (1, 2)}),
    Row("conv2d", [normal(4, 5, 6), normal(4, 1, 2, 2)], options={"stride": (2, 1), "groups": 4}),
    Row("conv3d", [VOLUMES, normal(2, 2, 2, 1, 2), normal(2)], options={"padding": (1, 0, 1)}),
    Row("conv_transpose1d", [normal(2, 4, 5), normal(4, 2, 3), normal(4)], options={
        "stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    Row("conv_transpose2d", [normal(1, 2, 3, 4), normal(2, 3, 2, 3)], options={"dilation": 2, "padding": (0, 1)}),
    Row("conv_transpose3d", [normal(1, 2, 2, 3, 2), normal(2, 2, 2, 1, 2), normal(2)], options={"stride": 2}),
    Row("unfold", [normal(2, 3, 4, 5)], ((2, 3),), {"padding": 1, "stride": 2}),
    Row("fold", [normal(2, 8, 4)], ((4, 4), 2), {"stride": 2}),
    Row("max_pool1d", [grid(2, 3, 9)], (3, 2, 1)), Row("max_pool2d", [UNEQUAL[0]], (2,), {"ceil_mode": True}),
    Row("max_pool2d", [UNEQUAL[0]], (2, 1, 0, 2), {"return_indices": True}), Row("max_pool3d", [UNEQUAL[1]], (2,)),
    Row("avg_pool1d", [normal(2, 3, 8)], (3, 2, 1), {"count_include_pad": False}),
    Row("avg_pool2d", [IMAGES], ((3, 2), 2, 1), {"ceil_mode": True}),
    Row("avg_pool3d", [VOLUMES], (2,), {"divisor_override": 3}),
    Row("adaptive_avg_pool1d", [normal(2, 3, 7)], (3,)), Row("adaptive_avg_pool2d", [IMAGES], ((3, None),)),
    Row("adaptive_avg_pool3d", [VOLUMES], (2,)),
    Row("pad", [normal(2, 3, 4)], ((1, 2, -1, 1), "constant", 1.5)), Row("pad", [normal(2, 3, 4)], ((2, 1), "reflect")),
    Row("pad", [normal(2, 3, 4)], ((2, 1), "replicate")), Row("pad", [normal(2, 3, 4)], ((2, 3), "circular")),
    Row("batch_norm", [normal(4, 3, 2)], (None, None), {"training": True}),
    Row("batch_norm", [normal(4, 3, 2)], (np.array([0.5, 0.0, -1.0]), WEIGHTS[:3])),
    Row("instance_norm", [normal(2, 3, 4)]), Row("group_norm", [IMAGES], (2,)), Row("layer_norm", [X], ((4,),)),
    Row("rms_norm", [X], ((4,),)), Row("local_response_norm", [normal(2, 5, 3)], (3,), {"alpha": 0.5}),
    Row("mse_loss", [X, X]), Row("l1_loss", [KINKED, grid(3, 4, start=0.1)], (), {"reduction": "sum"}),
    Row("smooth_l1_loss", [KINKED, grid(3, 4, start=0.12)], (), {"beta": 0.3}),
    Row("huber_loss", [KINKED, grid(3, 4, start=0.12)], (), {"delta": 0.5, "reduction": "none"}),
    Row("binary_cross_entropy", [probabilities(3, 4), probabilities(3, 4)]),
    Row("binary_cross_entropy_with_logits", [X, probabilities(3, 4)], (), {"pos_weight": WEIGHTS}),
    Row("kl_div", [logarithms(3, 4), probabilities(3, 4)], (), {"reduction": "batchmean"}),
    Row("cross_entropy", [normal(5, 4), whole(0, 4, 5)], (), {
        "weight": WEIGHTS, "label_smoothing": 0.1, "ignore_index": 2}),
    Row("cross_entropy", [normal(2, 4, 3), probabilities(2, 4, 3)]),
    Row("nll_loss", [normal(5, 4), whole(0, 4, 5)], (), {"weight": WEIGHTS, "reduction": "sum"}),
    Row("embedding", [whole(0, 4, 2, 3), normal(4, 3)], (), {"max_norm": 100.0}),
    Row("one_hot", [whole(0, 4, 2, 3)], (5,), order=0),
    Row("scaled_dot_product_attention", [normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 3), boolean(2, 3, 5)]),
    Row("scaled_dot_product_attention", [normal(2, 3, 4), normal(2, 3, 4), normal(2, 3, 4)], (), {"is_causal": True}),
]

SEQUENCES = normal(3, 2, 4)
LAYERS = [
    Row("Identity", [X]), Row("Flatten", [normal(2, 3, 2)]), Row("Dropout", [X], (0.0,)),
    Row("ReLU", [KINKED]), Row("ReLU6", [KINKED]), Row("ELU", [KINKED], (0.5,)), Row("LeakyReLU", [KINKED]),
    Row("Hardtanh", [KINKED], (-0.3, 0.4)), Row("Sigmoid", [X]), Row("Tanh", [X]), Row("SiLU", [X]), Row("Mish", [X]),
    Row("GELU", [X]), Row("Softplus", [X]), Row("LogSigmoid", [X]), Row("Softmax", [X], (1,)),
    Row("LogSoftmax", [X], (0,)), Row("Linear", [normal(2, 3, 4)], (4, 5)),
    Row("Conv1d", [normal(2, 4, 9)], (4, 6, 3), {"groups": 2, "stride": 2}),
    Row("Conv2d", [normal(2, 2, 5, 5)], (2, 3, 3), {"padding": 1, "padding_mode": "reflect"}),
    Row("Conv3d", [VOLUMES], (2, 2, 2), {"bias": False}),
    Row("ConvTranspose1d", [normal(2, 4, 5)], (4, 2, 3), {"stride": 2, "output_padding": 1}),
    Row("ConvTranspose2d", [normal(1, 2, 3, 4)], (2, 3, 2), {"padding": 1}),
    Row("ConvTranspose3d", [normal(1, 2, 2, 3, 2)], (2, 2, 2)),
    Row("Unfold", [normal(2, 3, 4, 4)], (2,), {"padding": 1}),
    Row("Fold", [normal(2, 8, 4)], ((4, 4), 2), {"stride": 2}),
    Row("MaxPool1d", [grid(2, 3, 9)], (2,)), Row("MaxPool2d", [UNEQUAL[0]], (3, 2, 1)),
    Row("MaxPool3d", [UNEQUAL[1]], (2,)), Row("AvgPool1d", [normal(2, 3, 8)], (3,)),
    Row("AvgPool2d", [IMAGES], (2,)), Row("AvgPool3d", [VOLUMES], (2,)),
    Row("AdaptiveAvgPool1d", [normal(2, 3, 7)], (3,)), Row("AdaptiveAvgPool2d", [IMAGES], ((3, 2),)),
    Row("AdaptiveAvgPool3d", [VOLUMES], (1,)),
    Row("BatchNorm", [normal(4, 3, 2)], (3,), like="BatchNorm1d"), Row("BatchNorm1d", [normal(4, 3)], (3,)),
    Row("BatchNorm2d", [IMAGES], (4,)), Row("BatchNorm3d", [VOLUMES], (2,)),
    Row("InstanceNorm", [normal(2, 3, 4)], (3,), like="InstanceNorm1d"),
    Row("InstanceNorm1d", [normal(2, 3, 4)], (3,), {"affine": True}), Row("InstanceNorm2d", [IMAGES], (4,)),
    Row("InstanceNorm3d", [VOLUMES], (2,)), Row("GroupNorm", [IMAGES], (2, 4)), Row("LayerNorm", [X], (4,)),
    Row("RMSNorm", [X], (4,)), Row("LocalResponseNorm", [normal(2, 5, 3)], (3, 0.5)),
    Row("Embedding", [whole(0, 5, 2, 3)], (5, 3)),
    Row("RNN", [SEQUENCES], (4, 3, 2), {"bidirectional": True}), Row("LSTM", [SEQUENCES], (4, 3), {"proj_size": 2}),
    Row("GRU", [SEQUENCES], (4, 3), {"batch_first": True}), Row("RNNCell", [X], (4, 3)), Row("LSTMCell", [X], (4, 3)),
    Row("GRUCell", [X], (4, 3)),
    Row("MultiheadAttention", [normal(3, 2, 4), normal(5, 2, 4), normal(5, 2, 4)], (4, 2), {"add_bias_kv": True}),
    Row("TransformerEncoderLayer", [SEQUENCES], (4, 2, 5, 0.0, "gelu"), {"norm_first": True}),
    Row("TransformerEncoder", [SEQUENCES], lambda nn: (nn.TransformerEncoderLayer(4, 2, 5, 0.0, "gelu"), 2)),
    Row("MSELoss", [X, X]), Row("L1Loss", [KINKED, grid(3, 4, start=0.1)]),
    Row("SmoothL1Loss", [KINKED, grid(3, 4, start=0.12)], (), {"beta": 0.3}),
    Row("HuberLoss", [KINKED, grid(3, 4, start=0.12)], (), {"delta": 0.5}),
    Row("BCELoss", [probabilities(3, 4), probabilities(3, 4)], (WEIGHTS,)),
    Row("BCEWithLogitsLoss", [X, probabilities(3, 4)], (), {"pos_weight": WEIGHTS}),
    Row("KLDivLoss", [logarithms(3, 4), probabilities(3, 4)], (), {"reduction": "batchmean"}),
    Row("NLLLoss", [normal(5, 4), whole(0, 4, 5)], (WEIGHTS,)),
    Row("CrossEntropyLoss", [normal(5, 4), whole(0, 4, 5)], (WEIGHTS,), {"label_smoothing": 0.2}),
]
ROWS = FUNCTIONS + LAYERS
