"""minigrad.functional against torch.nn.functional: the same names, arguments and defaults give the same."""

import inspect
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cases import grid, normal, positive, whole  # noqa: E402
from oracle import same  # noqa: E402

from minigrad import functional  # noqa: E402

F = torch.nn.functional


def draw(*inputs):
    rng = np.random.default_rng(0)
    return [np.asarray(i.draw(rng, i.shape)) for i in inputs]


#: Where torch keeps a signature to be read.
ELSEWHERE = {"tanh": torch.tanh, **{f"max_pool{n}d": getattr(F, f"max_pool{n}d_with_indices") for n in (1, 2, 3)}}


#: Arguments that torch does not have: by keyword alone.
OURS = ("generator", "mask", "activation", "residual")


@pytest.mark.parametrize("name", functional.__all__)
def test_arguments_have_torchs_names_and_order(name):
    """torch may have more of them; the docstrings say which are left out."""
    function = ELSEWHERE.get(name) or getattr(F, name)
    try:
        theirs = list(inspect.signature(function).parameters)
    except ValueError:  # implemented in C: the signature stands in the first line of the docstring
        text = function.__doc__.strip().split("(", 1)[1].split(")")[0]
        theirs = [part.split("=")[0].strip() for part in text.split(",") if part.strip() != "*"]
    ours = [p for p in inspect.signature(getattr(functional, name)).parameters if p not in OURS]
    if ours[0] == "x":
        ours[0] = "input"
    assert ours == [p for p in theirs if p in ours]


ACTIVATIONS = {
    "relu": {}, "sigmoid": {}, "tanh": {}, "silu": {}, "leaky_relu": {"negative_slope": 0.3}, "gelu": {},
    "softplus": {"beta": 2, "threshold": 1}, "softmax": {"dim": 1}, "log_softmax": {"dim": 0},
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    options = ACTIVATIONS[name]
    same(lambda x: getattr(functional, name)(x, **options), lambda t: getattr(F, name)(t, **options), *draw(grid(3, 4)))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate):
    same(lambda x: functional.gelu(x, approximate), lambda t: F.gelu(t, approximate=approximate), *draw(normal(3, 4)))


CONVOLUTIONS = [
    {}, {"stride": 2}, {"padding": 1}, {"padding": (2, 0)}, {"dilation": 2}, {"padding": "same"}, {"padding": "valid"},
    {"padding": "same", "dilation": (1, 2)}, {"stride": (1, 2), "padding": 1, "dilation": (2, 1), "groups": 2},
    {"stride": [2, 1]},
]


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("kernel", [(3, 2), (1, 1), (2, 4)], ids=str)
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch copies the input for odd paddings, and says so
def test_conv2d(options, kernel, batched):
    x, w, b = draw(normal(2, 4, 7, 8), normal(6, 4 // options.get("groups", 1), *kernel), normal(6))
    x = x if batched else x[0]
    same(lambda *xs: functional.conv2d(*xs, **options), lambda *ts: F.conv2d(*ts, **options), x, w, b)
    same(lambda *xs: functional.conv2d(*xs, **options), lambda *ts: F.conv2d(*ts, **options), x, w)


POOLS = list(itertools.product([2, (3, 2)], [None, 1, (2, 3)], [0, 1], [False, True]))


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil"), POOLS, ids=str)
def test_pooling(kernel, stride, padding, ceil):
    (x,) = draw(grid(2, 3, 7, 6))
    for array in (x, x[0]):
        for dilation in (1, 2):
            arguments = (kernel, stride, padding, dilation, ceil, True)
            same(lambda x, a=arguments: functional.max_pool2d(x, *a), lambda t, a=arguments: F.max_pool2d(t, *a), array)
        for include, divisor in ((True, None), (False, None), (True, 3), (False, 3)):
            arguments = (kernel, stride, padding, ceil, include, divisor)
            same(lambda x, a=arguments: functional.avg_pool2d(x, *a), lambda t, a=arguments: F.avg_pool2d(t, *a), array)


@pytest.mark.parametrize("size", [1, 2, 3, (1, 4), (None, 2), (7, 6), (5, 5), (9, 8)], ids=str)
def test_adaptive_avg_pool2d(size):
    (x,) = draw(normal(2, 3, 7, 6))
    for array in (x, x[0]):
        same(lambda x: functional.adaptive_avg_pool2d(x, size), lambda t: F.adaptive_avg_pool2d(t, size), array)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 5), (2, 3, 4, 5)], ids=str)
def test_batch_norm(shape, training):
    x, w, b, mean, variance = draw(normal(*shape), normal(3), normal(3), normal(3), positive(3))
    running = [torch.tensor(mean), torch.tensor(variance)]
    same(lambda x, w, b: functional.batch_norm(x, mean, variance, w, b, training, 0.1, 1e-3),
         lambda t, v, a: F.batch_norm(t, *(r.clone() for r in running), v, a, training, 0.1, 1e-3), x, w, b)
    same(lambda x: functional.batch_norm(x, mean, variance, training=training),
         lambda t: F.batch_norm(t, *(r.clone() for r in running), training=training), x)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)], ids=str)
def test_layer_norm(shape):
    x, w, b = draw(normal(2, 3, 4), normal(*shape), normal(*shape))
    same(lambda x, w, b: functional.layer_norm(x, shape, w, b), lambda t, v, a: F.layer_norm(t, shape, v, a), x, w, b)
    same(lambda x: functional.layer_norm(x, shape, eps=0.1), lambda t: F.layer_norm(t, shape, eps=0.1), x)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (4,), (3, 2)], ids=str)
def test_mse_loss(shape, reduction):
    same(lambda x, y: functional.mse_loss(x, y, reduction=reduction),
         lambda t, u: F.mse_loss(t, u, reduction=reduction), *draw(normal(*shape), normal(*shape)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 4, 3), (2, 4, 3, 2)], ids=str)
def test_cross_entropy(shape, reduction, smoothing, weighted):
    x, weight, probabilities = draw(normal(*shape), positive(4), positive(*shape))
    options = {"reduction": reduction, "label_smoothing": smoothing}
    targets = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    (classes,) = draw(whole(0, 4, *targets))
    ignored = np.where(np.arange(classes.size).reshape(targets) == 1, 2, classes)
    w = weight if weighted else None
    t_weight = torch.tensor(weight) if weighted else None
    for ignore in (-100, 2) if shape != (4,) else (-100,):
        same(lambda x, y, i=ignore: functional.cross_entropy(x, y, w, ignore_index=i, **options),
             lambda t, u, i=ignore: F.cross_entropy(t, u, t_weight, ignore_index=i, **options), x, ignored)
    same(lambda x, q: functional.cross_entropy(x, q, w, **options),
         lambda t, p: F.cross_entropy(t, p, t_weight, **options), x, probabilities)


def test_cross_entropy_of_targets_that_are_all_ignored():
    x = np.ones((2, 3))
    targets = np.array([-100, -100])
    assert np.isnan(functional.cross_entropy(x, targets))
    assert torch.isnan(F.cross_entropy(torch.tensor(x), torch.tensor(targets)))
    same(lambda x: functional.cross_entropy(x, targets, reduction="sum"),
         lambda t: F.cross_entropy(t, torch.tensor(targets), reduction="sum"), x)


def test_linear_and_dropout_at_rest():
    same(functional.linear, F.linear, *draw(normal(3, 4), normal(2, 4), normal(2)))
    for p, training in ((0.5, False), (0.0, True), (1.0, True)):
        same(lambda x, p=p, t=training: functional.dropout(x, p, t), lambda x, p=p, t=training: F.dropout(x, p, t),
             *draw(normal(3, 4)))


def test_dropout_keeps_the_mean():
    x = np.ones(200_000)
    for p in (0.1, 0.5, 0.9):
        ours = functional.dropout(x, p)
        theirs = F.dropout(torch.tensor(x), p).numpy()
        assert set(np.unique(ours)) == {0.0, 1 / (1 - p)}
        assert np.unique(theirs).tolist() == pytest.approx(np.unique(ours).tolist())
        assert ours.mean() == pytest.approx(1, abs=0.03)
