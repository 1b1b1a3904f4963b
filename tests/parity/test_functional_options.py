"""minigrad.functional against torch.nn.functional: values, gradients of first and second order, refusals."""

import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import oracle  # noqa: E402
import torch.nn.functional as T  # noqa: E402
from oracle import agree, draw  # noqa: E402

import minigrad  # noqa: E402
import minigrad.functional as F  # noqa: E402
from minigrad.errors import MinigradError  # noqa: E402

LAYOUTS = pytest.mark.parametrize("layout", [None, oracle.strided], ids=["contiguous", "strided"])


def both(name, arrays, *args, layout=None, orders=2, **options):
    agree(lambda *xs: getattr(F, name)(*xs, *args, **options), lambda *xs: getattr(T, name)(*xs, *args, **options),
          arrays, layout=layout, orders=orders)


CONVOLUTIONS = [
    (1, (2, 4, 9), (6, 4, 3), {}), (1, (4, 9), (6, 4, 3), {"stride": 2}),
    (1, (2, 4, 9), (6, 2, 4), {"padding": "same", "groups": 2}),
    (1, (2, 4, 9), (6, 4, 3), {"stride": (2,), "padding": (3,), "dilation": (2,)}), (1, (0, 4, 9), (6, 4, 3), {}),
    (1, (2, 4, 9), (4, 1, 2), {"padding": "same", "groups": 4, "dilation": 3}),
    (1, (1, 1, 3), (1, 1, 3), {"padding": "valid"}),
    (2, (2, 4, 5, 6), (2, 2, 3, 2), {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2}),
    (2, (4, 5, 6), (2, 4, 2, 2), {"padding": "same"}), (2, (1, 2, 5, 5), (2, 2, 1, 1), {"stride": 3}),
    (2, (2, 2, 3, 5), (3, 2, 5, 1), {"padding": (2,)}),
    (3, (1, 2, 3, 4, 3), (3, 2, 2, 2, 2), {}), (3, (2, 3, 4, 3), (2, 1, 2, 2, 1), {"groups": 2}),
    (3, (2, 2, 4, 4, 3), (2, 2, 2, 3, 2), {"stride": (2, 1, 2), "padding": (1, 0, 1), "dilation": (1, 1, 2)}),
    (3, (1, 2, 3, 3, 3), (2, 2, 2, 2, 3), {"padding": "same"}),
]


@LAYOUTS
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("axes", "x", "w", "options"), CONVOLUTIONS, ids=str)
def test_convolution(axes, x, w, options, bias, layout):
    both(f"conv{axes}d", [draw(*x), draw(*w, seed=1), draw(w[0], seed=2)][: 2 + bias], **options, layout=layout)


TRANSPOSED = [
    (1, (2, 4, 5), (4, 3, 3), {}), (1, (4, 5), (4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    (1, (2, 4, 5), (4, 3, 2), {"dilation": 4, "output_padding": 3, "padding": 1, "groups": 2}),
    (1, (0, 2, 3), (2, 1, 2), {}),
    (1, (1, 1, 3), (1, 1, 2), {"stride": 4, "output_padding": 3}), (1, (1, 2, 4), (2, 2, 3), {"padding": 2}),
    (2, (2, 4, 3, 2), (4, 1, 3, 2), {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2), "groups": 2}),
    (2, (2, 3, 2), (2, 3, 2, 2), {"dilation": (2, 1)}), (2, (1, 2, 3, 3), (2, 2, 3, 3), {"padding": 1}),
    (3, (1, 2, 2, 3, 2), (2, 3, 2, 1, 2), {"stride": 2}), (3, (2, 2, 2, 2), (2, 1, 2, 2, 2),
                                                           {"groups": 2, "padding": 1}),
    (3, (1, 2, 2, 2, 2), (2, 2, 2, 2, 2), {"stride": (1, 2, 3), "output_padding": (0, 1, 2), "dilation": (2, 1, 1)}),
]


@LAYOUTS
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("axes", "x", "w", "options"), TRANSPOSED, ids=str)
def test_transposed_convolution(axes, x, w, options, bias, layout):
    outs = w[1] * options.get("groups", 1)
    both(f"conv_transpose{axes}d", [draw(*x), draw(*w, seed=1), draw(outs, seed=2)][: 2 + bias], **options,
         layout=layout)


@LAYOUTS
@pytest.mark.parametrize("x", [(2, 3, 5, 6), (3, 5, 6), (0, 3, 5, 6)], ids=str)
@pytest.mark.parametrize("options", [{}, {"dilation": 2, "padding": 1}, {"stride": (2, 1), "padding": (0, 2)}], ids=str)
def test_unfold_and_fold(x, options, layout):
    both("unfold", [draw(*x)], (2, 3), **options, layout=layout)
    columns = T.unfold(torch.ones(x), (2, 3), **options).shape
    both("fold", [draw(*columns)], (5, 6), (2, 3), **options, layout=layout)


POOLS = [((2,), {}), ((3, 2), {"padding": 1}), ((2, 1), {"ceil_mode": True}), ((3, 2, 1), {"ceil_mode": True}),
         ((3, 3), {"ceil_mode": True})]
INPUTS = {1: [(2, 3, 7), (3, 8), (0, 2, 6)], 2: [(2, 3, 7, 8), (3, 6, 5), (0, 2, 6, 6)],
          3: [(1, 2, 5, 4, 6), (2, 4, 5, 4), (0, 1, 4, 4, 4)]}


@LAYOUTS
@pytest.mark.parametrize(("axes", "x"), [(axes, x) for axes in INPUTS for x in INPUTS[axes]], ids=str)
@pytest.mark.parametrize(("args", "options"), [*POOLS, ((2, 1, 0, 2), {}), ((2, 3, 1, 2), {"ceil_mode": True})],
                         ids=str)
def test_max_pool(axes, x, args, options, layout):
    both(f"max_pool{axes}d", [draw(*x)], *args, **options, layout=layout)
    if x[0]:
        both(f"max_pool{axes}d", [draw(*x)], *args, **options, return_indices=True, layout=layout)


@LAYOUTS
@pytest.mark.parametrize(("axes", "x"), [(axes, x) for axes in INPUTS for x in INPUTS[axes]], ids=str)
@pytest.mark.parametrize(("args", "options"), [*POOLS, ((3, 2, 1), {"count_include_pad": False, "ceil_mode": True}),
                                               ((3, 1, 1), {"count_include_pad": False}),
                                               ((2,), {"divisor_override": 3})], ids=str)
def test_avg_pool(axes, x, args, options, layout):
    if axes == 1 and "divisor_override" in options:
        pytest.skip("torch's avg_pool1d has no divisor_override")
    both(f"avg_pool{axes}d", [draw(*x)], *args, **options, layout=layout)


@LAYOUTS
@pytest.mark.parametrize(("axes", "x", "size"), [
    (1, (2, 3, 7), 1), (1, (2, 3, 7), 3), (1, (3, 7), 9), (1, (2, 3, 7), 7), (3, (1, 2, 5, 4, 6), 1),
    (3, (1, 2, 5, 4, 6), (2, 3, 4)), (3, (2, 5, 4, 6), (None, 2, None)), (2, (2, 3, 7, 8), (3, None)),
    (2, (3, 7, 8), 1),
    (2, (0, 3, 7, 8), 2), ], ids=str)
def test_adaptive_avg_pool(axes, x, size, layout):
    both(f"adaptive_avg_pool{axes}d", [draw(*x)], size, layout=layout)


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d"])
def test_the_first_of_ties_and_nan(name):
    axes = int(name[-2])
    for x in (np.ones((1, 1) + (4,) * axes), np.full((1, 1) + (4,) * axes, -np.inf)):
        both(name, [x], 2, 2, orders=1)
        both(name, [x], 3, 1, 1, orders=1)
    x = np.arange(4.0**axes).reshape((1, 1) + (4,) * axes)
    x[..., 1] = np.nan
    both(name, [x], 2, orders=0)


@LAYOUTS
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 4)], ids=str)
@pytest.mark.parametrize(("name", "args"), [
    ("elu", ()), ("elu", (0.3,)), ("relu6", ()), ("mish", ()), ("logsigmoid", ()), ("hardtanh", ()),
    ("hardtanh", (-0.5, 0.2)),
    ("relu", ()), ("gelu", ()), ("silu", ()), ("softplus", ()), ("softplus", (3.0, 1.0)), ("leaky_relu", (0.2,)),
    ("sigmoid", ()), ("tanh", ()),
])
def test_activations(name, args, shape, layout):
    both(name, [draw(*shape) * 3], *args, layout=layout)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("name", ["elu", "relu6", "mish", "logsigmoid", "hardtanh", "silu", "softplus", "gelu"])
def test_activations_at_special_places(name):
    orders = 1 if name in ("elu", "relu6", "hardtanh") else 2
    both(name, [np.array([0.0, 6.0, -1.0, 1.0, 100.0, -100.0, 25.0, -25.0])], orders=orders)


@LAYOUTS
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "normalize"])
def test_along_a_dimension(name, dim, layout):
    both(name, [draw(3, 4, 2)], dim=dim, layout=layout)


@pytest.mark.parametrize(("shape", "dim"), [((0,), 0), ((2, 0, 3), 1), ((0, 4), 0), ((0, 4), 1), ((3, 0), 0)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_along_an_axis_without_elements(name, shape, dim):
    both(name, [draw(*shape)], dim=dim)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
def test_normalize(p):
    both("normalize", [draw(3, 4)], p, -1)
    both("normalize", [draw(3, 4) * 1e-3], p, 1, 0.1)
    both("normalize", [draw(3, 4)], p, (), 0.1)
    both("normalize", [np.zeros((2, 3))], p, 1, orders=1)


@LAYOUTS
@pytest.mark.parametrize(("pad", "mode", "value"), [
    ((1, 2), "constant", None), ((1, 0, 2, 3), "constant", 1.5), ((-1, 2, 0, -2), "constant", 0.5),
    ((0, 0, 0, 0, 1, 1), "constant", None),
    ((2, 1), "reflect", None), ((2, 3), "replicate", None), ((3, 1), "circular", None), ((1, 2, 2, 1), "reflect", None),
    ((1, 2, 5, 1), "replicate", None), ((1, 2, 2, 1), "circular", None), ((0, 0), "reflect", None),
    ((-1, 3), "reflect", None), ((2, -2), "circular", None), ((-1, 3), "circular", None), ((-2, 3), "replicate", None),
    ((), "constant", None),
], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5)], ids=str)
def test_pad(pad, mode, value, shape, layout):
    if mode != "constant" and len(pad) // 2 not in (len(shape) - 2, len(shape) - 1):
        pytest.skip("torch pads so many axes of such an input with constants alone")
    both("pad", [draw(*shape)], pad, mode, value, layout=layout)


MEAN_OF_ALL = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


@REDUCTIONS
@MEAN_OF_ALL
@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (0, 3)], ids=str)
@pytest.mark.parametrize(("name", "options"), [
    ("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.3}),
    ("smooth_l1_loss", {"beta": 0.0}),
    ("huber_loss", {}), ("huber_loss", {"delta": 0.4}), ("binary_cross_entropy_with_logits", {}),
    ("kl_div", {"log_target": True}),
])
def test_losses_of_two(name, options, shape, reduction):
    both(name, [draw(*shape), draw(*shape, seed=1)], reduction=reduction, **options)


@pytest.mark.parametrize("name", ["l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss"])
def test_where_input_and_target_agree_or_differ_by_the_threshold(name):
    both(name, [np.array([1.0, 2.0, 3.0, 0.0]), np.array([1.0, 1.0, 4.0, 3.0])], reduction="sum", orders=1)


@REDUCTIONS
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weights_of_elements(name, reduction):
    w = np.abs(draw(3, 4, seed=2))
    agree(lambda x, t, w: getattr(F, name)(x, t, reduction=reduction, weight=w),
          lambda x, t, w: getattr(T, name)(x, t, reduction=reduction, weight=w), [draw(3, 4), draw(3, 4, seed=1), w])


def probabilities(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape)


@REDUCTIONS
@pytest.mark.parametrize("weight", [None, (4,), (3, 4), (3, 1)], ids=str)
def test_binary_cross_entropy(weight, reduction):
    w = None if weight is None else np.abs(draw(*weight, seed=2))
    v = None if weight is None else torch.tensor(w)  # a constant in torch
    for name, x in (("binary_cross_entropy", probabilities(3, 4)), ("binary_cross_entropy_with_logits", draw(3, 4))):
        agree(lambda x, t, n=name: getattr(F, n)(x, t, w, reduction), lambda x, t,
              n=name: getattr(T, n)(x, t, v, reduction=reduction),
              [x, probabilities(3, 4, seed=1)])


def test_binary_cross_entropy_of_certainties():
    x, t = np.array([0.0, 1.0, 0.0, 1.0, 0.5]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    agree(lambda x: F.binary_cross_entropy(x, t), lambda x: T.binary_cross_entropy(x, torch.tensor(t)), [x], orders=1)
    far = np.array([1e3, -1e3, 1e3, -1e3, 0.0])
    agree(lambda x: F.binary_cross_entropy_with_logits(x, t),
          lambda x: T.binary_cross_entropy_with_logits(x, torch.tensor(t)), [far])


@REDUCTIONS
@pytest.mark.parametrize("shape", [(4,), (3, 1), (3, 4)], ids=str)
def test_weight_of_positives(shape, reduction):
    p = np.abs(draw(*shape))
    agree(lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction, pos_weight=p),
          lambda x, t: T.binary_cross_entropy_with_logits(x, t, reduction=reduction, pos_weight=torch.tensor(p)),
          [draw(3, 4), probabilities(3, 4)])


@MEAN_OF_ALL
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
def test_kl_div(reduction):
    logs = np.log(probabilities(3, 4))
    both("kl_div", [logs, probabilities(3, 4, seed=1)], reduction=reduction)
    target = probabilities(3, 4, seed=1)
    target[1] = 0
    agree(lambda x: F.kl_div(x, target, "sum"), lambda x: T.kl_div(x, torch.tensor(target), reduction="sum"), [logs])


WEIGHTS = np.array([1.0, 2.0, 0.5, 3.0])


@REDUCTIONS
@pytest.mark.parametrize("name", ["nll_loss", "cross_entropy"])
@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}, {"weight": True}, {"weight": True, "ignore_index": 1}],
                         ids=str)
@pytest.mark.parametrize("shape", [(4,), (6, 4), (2, 4, 3), (2, 4, 3, 2), (0, 4)], ids=str)
def test_classes(shape, options, name, reduction):
    classes = () if len(shape) == 1 else (shape[0], *shape[2:])
    target = np.asarray(np.random.default_rng(3).integers(0, 4, classes))
    weighted = options.get("weight")
    options = {k: v for k, v in options.items() if k != "weight"}
    agree(lambda x, t: getattr(F, name)(x, t, WEIGHTS if weighted else None, reduction=reduction, **options),
          lambda x, t: getattr(T, name)(x, t, torch.tensor(WEIGHTS) if weighted else None, reduction=reduction,
                                        **options),
          [draw(*shape), target])


@REDUCTIONS
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(4,), (6, 4), (2, 4, 3)], ids=str)
def test_probabilities_of_classes(shape, weighted, smoothing, reduction):
    agree(lambda x, t: F.cross_entropy(x, t, WEIGHTS if weighted else None, reduction=reduction,
                                       label_smoothing=smoothing),
          lambda x, t: T.cross_entropy(x, t, torch.tensor(WEIGHTS) if weighted else None, reduction=reduction,
                                       label_smoothing=smoothing), [draw(*shape), probabilities(*shape)])


@pytest.mark.parametrize("name", ["nll_loss", "cross_entropy"])
def test_nothing_counts_and_classes_that_are_ruled_out(name):
    target = np.array([1, 1])
    both(name, [draw(2, 4), target], ignore_index=1)
    weights = np.array([1.0, 0.0, 1.0, 1.0])
    agree(lambda x, t: getattr(F, name)(x, t, weights, ignore_index=1),
          lambda x, t: getattr(T, name)(x, t, torch.tensor(weights), ignore_index=1), [draw(2, 4), target])
    both(name, [draw(2, 4), target], ignore_index=1, reduction="sum")
    x = draw(2, 4)
    x[:, 2] = -np.inf
    both(name, [x, target], orders=1)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"scale_grad_by_freq": True}],
                         ids=str)
def test_embedding(shape, options):
    i = np.asarray(np.random.default_rng(1).integers(0, 4, shape))
    both("embedding", [i, draw(4, 3)], **options, orders=1 if "scale_grad_by_freq" in options else 2)


def test_embedding_of_limited_norm():
    """torch writes the limited rows into its table; ours stays as it is."""
    i, w = np.array([0, 2, 2, 1]), draw(4, 3) * 2
    table = torch.tensor(w, requires_grad=True)
    wanted = T.embedding(torch.tensor(i), table, max_norm=1.5, norm_type=3.0)
    (expected,) = torch.autograd.grad(wanted.square().sum(), table)
    mine = minigrad.Tensor(w.copy(), requires_grad=True)
    y = F.embedding(i, mine, max_norm=1.5, norm_type=3.0)
    oracle.close(y, wanted, "rows")
    oracle.close(minigrad.grad(y.square().sum(), mine)[0], expected, "gradient")
    np.testing.assert_array_equal(mine.numpy(), w)


def test_one_hot():
    for x, count in (([0, 2, 1], -1), ([[0, 2], [1, 1]], 5), (3, -1), ([], 4)):
        x = np.array(x, np.int64)
        both("one_hot", [x], count)


@pytest.mark.parametrize("shapes", [((2, 5, 3), (2, 4, 3), (2, 4, 6)), ((2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 4)),
                                    ((5, 3), (4, 3), (4, 2)),
                                    ((1, 1, 2), (1, 1, 2), (1, 1, 2)), ((2, 5, 3), (2, 0, 3), (2, 0, 6)),
                                    ((0, 2, 3), (0, 4, 3), (0, 4, 2))], ids=str)
@pytest.mark.parametrize("mask", [None, "bool", "numbers", "causal", "nothing seen"])
@pytest.mark.parametrize("scale", [None, 0.7])
def test_attention(shapes, mask, scale):
    q, k, v = (draw(*s, seed=i) for i, s in enumerate(shapes))
    rows, columns = q.shape[-2], k.shape[-2]
    more, options = [], {"scale": scale}
    if mask == "causal":
        options["is_causal"] = True
    elif mask == "numbers":
        more = [draw(rows, columns, seed=3)]
    elif mask:
        seen = np.random.default_rng(4).random((rows, columns)) > 0.4
        seen[:, :1] = True
        seen[-1] &= mask == "bool"
        more = [seen]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the others have no second derivative
        both("scaled_dot_product_attention", [q, k, v, *more], **options)


def test_attention_with_shared_heads():
    both("scaled_dot_product_attention", [draw(2, 4, 3, 2), draw(2, 2, 5, 2), draw(2, 2, 5, 3)], enable_gqa=True)


@pytest.mark.parametrize("name", F.__all__)
def test_signatures(name):
    """Arguments have torch's names, order and defaults; what is deprecated or writes into arguments is left out."""
    try:
        wanted = inspect.signature(getattr(T, name)).parameters
    except ValueError:
        return
    if set(wanted) == {"args", "kwargs"}:
        return
    mine = inspect.signature(getattr(F, name)).parameters
    absent = {"inplace", "size_average", "reduce", "out", "_stacklevel", "dtype"}
    renamed = {"x": "input"} if name in ("relu", "sigmoid", "silu", "tanh", "elu", "mish", "hardtanh", "leaky_relu",
                                         "linear", "layer_norm") else {}
    names = [n for n in wanted if n not in absent]
    assert [renamed.get(n, n) for n in list(mine)[: len(names)]] == names
    for n, p in zip(names, mine.values()):
        if n not in ("dim", "training"):
            assert p.default == wanted[n].default or p.default is inspect.Parameter.empty


X = np.ones((2, 3, 6, 6))


@pytest.mark.parametrize(("name", "arrays", "args", "options"), [
    ("conv1d", [(2, 3, 6), (4, 2, 3)], (), {}), ("conv1d", [(6,), (4, 3, 3)], (), {}),
    ("conv3d", [(2, 3, 6, 6), (4, 3, 3)], (), {}),
    ("conv2d", [(2, 3, 6, 6), (4, 3, 7, 1)], (), {}), ("conv2d", [(2, 3, 6, 6), (4, 3, 2, 2)], (), {"stride": 0}),
    ("conv2d", [(2, 3, 6, 6), (4, 3, 2, 2)], (), {"padding": "same", "stride": 2}),
    ("conv2d", [(2, 3, 6, 6), (4, 3, 2, 2)], (), {"padding": -1}),
    ("conv1d", [(1, 2, 3), (4, 2, 0)], (), {}), ("conv3d", [(1, 1, 4, 4, 4), (1, 1, 2, 0, 2)], (), {}),
    ("conv1d", [(1, 1, 0), (1, 1, 1)], (), {"padding": 1}), ("conv1d", [(1, 2, 3), (0, 2, 1)], (), {}),
    ("conv_transpose1d", [(1, 2, 3), (2, 1, 0)], (), {}), ("conv_transpose1d", [(1, 2, 3), (2, 0, 1)], (), {}),
    ("max_pool1d", [(1, 0, 4)], (2,), {}), ("avg_pool2d", [(1, 0, 4, 4)], (2,), {}),
    ("max_pool2d", [(1, 2, 0, 3)], (2,), {"padding": 1}), ("avg_pool3d", [(2, 0, 3, 3)], (2,), {"padding": 1}),
    ("adaptive_avg_pool2d", [(2, 3, 6, 6)], (None,), {}), ("adaptive_avg_pool2d", [(2, 3, 0, 6)], (2,), {}),
    ("unfold", [(1, 0, 3, 3)], (2,), {}), ("unfold", [(1, 2, 0, 3)], (2,), {"padding": 1}),
    ("softmax", [(2, 3)], ((0,),), {}), ("log_softmax", [(2, 3)], (1.5,), {}),
    ("batch_norm", [(2, 3), (2,), (3,)], (), {"training": True}),
    ("instance_norm", [(2, 3, 4), (3,), (4,)], (), {}),
    ("conv2d", [(2, 3, 6, 6), (4, 3, 2, 2), (3,)], (), {}), ("conv2d", [(2, 3, 6, 6), (4, 3, 2, 2)], (),
                                                             {"dilation": 0}),
    ("conv_transpose2d", [(2, 3, 6, 6), (2, 3, 2, 2)], (), {}),
    ("conv_transpose2d", [(2, 3, 6, 6), (3, 3, 2, 2)], (), {"output_padding": 1}),
    ("conv_transpose2d", [(2, 3, 1, 1), (3, 3, 2, 2)], (), {"padding": 3}),
    ("conv_transpose1d", [(2, 3, 4), (3, 2, 2)], (), {"groups": 2}),
    ("max_pool1d", [(2, 3, 6)], (7,), {}), ("max_pool1d", [(2, 3, 6)], (2, 1, 2), {}),
    ("max_pool3d", [(3, 6, 6)], (2,), {}),
    ("avg_pool3d", [(1, 1, 4, 4, 4)], (2,), {"divisor_override": 0}), ("avg_pool1d", [(2, 3, 6)], (3, 1, 2), {}),
    ("adaptive_avg_pool1d", [(2, 3, 6)], (-1,), {}), ("unfold", [(2, 3, 4, 4)], (5,), {}),
    ("fold", [(2, 5, 4)], ((3, 3), 2), {}),
    ("fold", [(2, 8, 5)], ((3, 3), 2), {}), ("pad", [(2, 3)], ((1,),), {}),
    ("pad", [(2, 3)], ((1, 1, 1, 1, 1, 1),), {}),
    ("pad", [(2, 3, 4)], ((4, 4), "reflect"), {}), ("pad", [(2, 3, 4)], ((5, 0), "circular"), {}),
    ("pad", [(2, 3)], ((-2, -2),), {}),
    ("pad", [(2, 3)], ((1, 1), "mirror"), {}), ("hardtanh", [(2,)], (1.0, -1.0), {}),
    ("binary_cross_entropy", [(2,), (3,)], (), {}), ("binary_cross_entropy_with_logits", [(2,), (3,)], (), {}),
    ("smooth_l1_loss", [(2,), (2,)], (), {"beta": -1.0}), ("huber_loss", [(2,), (2,)], (), {"delta": 0.0}),
    ("mse_loss", [(2,), (2,)], (), {"reduction": "avg"}),
    ("scaled_dot_product_attention", [(2, 3), (4, 2), (4, 2)], (), {}),
    ("scaled_dot_product_attention", [(1, 2, 3), (1, 4, 3), (1, 4, 3), (5, 2, 4)], (), {}),
    ("scaled_dot_product_attention", [(2, 3), (4, 3), (4, 3), (1, 2, 4)], (), {}),
    ("scaled_dot_product_attention", [(2, 3), (4, 3), (3, 2)], (), {}),
    ("scaled_dot_product_attention", [(2, 3), (4, 3), (4, 2), (3, 4)], (), {}),
    ("scaled_dot_product_attention", [(2, 3), (4, 3), (4, 2), (2, 4)], (), {"is_causal": True}),
], ids=str)
def test_what_torch_refuses_we_refuse(name, arrays, args, options):
    with pytest.raises((RuntimeError, ValueError, IndexError, AssertionError, NotImplementedError, TypeError)):
        getattr(T, name)(*(torch.ones(s) for s in arrays), *args, **options)
    with pytest.raises(MinigradError, match="got"):
        getattr(F, name)(*(minigrad.ones(s) for s in arrays), *args, **options)


@pytest.mark.parametrize(("name", "arrays", "options"), [
    ("nll_loss", (np.ones((2, 3)), np.array([0, 3])), {}), ("nll_loss", (np.ones((2, 3)), np.array([0, -1])), {}),
    ("nll_loss", (np.ones((2, 3)), np.array([0])), {}), ("nll_loss", (np.ones((2, 3)), np.array([0.0, 1.0])), {}),
    ("nll_loss", (np.ones((2, 3)), np.array([0, 1]), np.ones(2)), {}),
    ("cross_entropy", (np.ones((2, 3)), np.array([0, 3])), {}),
    ("cross_entropy", (np.ones((2, 3)), np.ones((2, 3))), {"ignore_index": 1}),
    ("linear", (np.ones((2, 3)), np.ones(3), np.ones(2)), {}),
    ("binary_cross_entropy", (np.ones((2, 4)), np.ones((2, 4)), np.ones((1, 2, 4))), {}),
    ("binary_cross_entropy", (np.ones((2, 4)), np.ones((2, 4)), np.ones(3)), {}),
    ("binary_cross_entropy_with_logits", (np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 3))), {}),
    ("cross_entropy", (np.ones((2, 3)), np.array([0, 1])), {"label_smoothing": 1.5}),
    ("embedding", (np.array([4]), np.ones((4, 2))), {}),
    ("embedding", (np.array([-1]), np.ones((4, 2))), {}), ("embedding", (np.array([1]), np.ones((4, 2))),
                                                           {"padding_idx": 4}),
    ("embedding", (np.array([1.0]), np.ones((4, 2))), {}), ("one_hot", (np.array([-1]),), {}),
    ("one_hot", (np.array([3]), 3), {}),
    ("one_hot", (np.array([], int),), {}), ("one_hot", (np.array([1.0]),), {}),
    ("binary_cross_entropy", (np.array([1.5]), np.array([1.0])), {}),
], ids=str)
def test_arguments_that_torch_refuses_we_refuse(name, arrays, options):
    def tensors(kind):
        return [kind(a) if isinstance(a, np.ndarray) else a for a in arrays]

    with pytest.raises((RuntimeError, ValueError, IndexError, AssertionError)):
        getattr(T, name)(*tensors(torch.tensor), **options)
    with pytest.raises(MinigradError, match=f"^{name}: got"):
        getattr(F, name)(*tensors(minigrad.Tensor), **options)


def test_weights_of_positives_that_make_more_elements_are_refused():
    x, w = np.ones((2, 1)), np.ones((2, 3))
    with pytest.raises(RuntimeError):
        T.binary_cross_entropy_with_logits(torch.tensor(x), torch.tensor(x), pos_weight=torch.tensor(w))
    with pytest.raises(MinigradError, match=r"pos_weight \(2, 3\), input \(2, 1\)"):
        F.binary_cross_entropy_with_logits(x, x, pos_weight=w)
