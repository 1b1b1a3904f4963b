"""The layers without running statistics: what they compute, which options they pass on, and what they refuse."""

import importlib.util
import math

import numpy as np
import pytest

import minigrad
from minigrad import Tensor, layers
from minigrad import functional as F
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.ops.random import Generator


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


IMAGE, ROWS = Tensor(draw(2, 4, 7, 6)), Tensor(draw(3, 5))
CLASSES, WEIGHT = np.array([0, 4, 2]), np.array([1.0, 2.0, 0.5, 1.0, 3.0])


def test_linear():
    layer = layers.Linear(5, 2, dtype=np.float64)
    w, b = layer.weight.numpy(), layer.bias.numpy()
    assert layer.weight.shape == (2, 5)
    assert layer.weight.data.flags.f_contiguous
    np.testing.assert_allclose(layer(ROWS).numpy(), ROWS.numpy() @ w.T + b, rtol=1e-13)
    x = draw(2, 3, 4, 5)
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), np.einsum("abci,oi->abco", x, w) + b, rtol=1e-12)
    layer(ROWS).sum().backward()
    assert layer.weight.grad.data.flags.f_contiguous
    assert list(layers.Linear(5, 2, bias=False).state_dict()) == ["weight"]


def test_convolution_by_hand():
    layer = layers.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, dtype=np.float64)
    w, b = layer.weight.numpy(), layer.bias.numpy()
    assert w.shape == (6, 2, 3, 2)
    x = np.pad(IMAGE.numpy(), ((0, 0), (0, 0), (1, 1), (0, 0)))
    y = layer(IMAGE).numpy()
    assert y.shape == (2, 6, 4, 4)
    for o in range(6):
        mine = x[:, o // 3 * 2 : o // 3 * 2 + 2]
        for i in range(4):
            for j in range(4):
                window = mine[:, :, 2 * i : 2 * i + 3, j : j + 3 : 2]
                expected = (window * w[o]).sum((1, 2, 3)) + b[o]
                np.testing.assert_allclose(y[:, o, i, j], expected, rtol=1e-10, atol=1e-12)


def test_convolution_paddings_by_name():
    assert layers.Conv2d(4, 1, (3, 4), padding="same", dilation=2)(IMAGE).shape == (2, 1, 7, 6)
    assert layers.Conv2d(4, 1, (3, 4), padding="valid")(IMAGE).shape == (2, 1, 5, 3)


@pytest.mark.parametrize(("make", "text"), [
    (lambda: layers.Conv2d(4, 4, 3, padding_mode="mirror"), "padding_mode='mirror'; wanted one of 'zeros', 'reflect'"),
    (lambda: layers.Conv2d(4, 4, 3, padding="full"), "padding='full'"),
    (lambda: layers.Conv2d(4, 4, 3, padding="same", stride=2), "stride 1"),
    (lambda: layers.Conv2d(4, 6, 3, groups=4), "4 to 6 channels in 4 groups"),
    (lambda: layers.Conv2d(4, 4, 0), "kernel_size=0"),
    (lambda: layers.Conv2d(4, 4, 3, stride=0), "stride=0"),
    (lambda: layers.Conv2d(4, 4, 3, padding=-1), "padding=-1"),
    (lambda: layers.Conv2d(4, 4, (3, 3, 3)), "kernel_size="),
    (lambda: layers.Linear(-1, 2), "in_features=-1"),
    (lambda: layers.Dropout(1.5), "p=1.5"),
    (lambda: layers.GELU("erf"), "approximate='erf'"),
    (lambda: layers.LayerNorm(()), "normalized_shape"),
    (lambda: layers.LayerNorm(3, eps=-1.0), "eps=-1.0"),
    (lambda: layers.MSELoss(reduction="avg"), "reduction='avg'"),
    (lambda: layers.CrossEntropyLoss(reduction="avg"), "reduction='avg'"),
])
def test_options_are_checked_when_the_layer_is_made(make, text):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize("make", [
    layers.BatchNorm1d, layers.LayerNorm, lambda n: layers.LayerNorm((2, n)),
    lambda n: layers.Linear(n, 2), lambda n: layers.Linear(2, n), lambda n: layers.Conv2d(n, 3, 3),
    lambda n: layers.Conv2d(3, n, 3), lambda n: layers.Conv2d(3, 3, 3, groups=n), lambda n: layers.Conv2d(3, 3, n),
])
def test_sizes_are_whole_numbers_of_any_kind(make):
    assert repr(make(np.int64(3))) == repr(make(3))
    for wrong in (3.0, "3", None):
        with pytest.raises((DtypeError, ArgumentError), match=r"got .*wanted a whole number"):
            make(wrong)


def test_a_softplus_that_would_divide_by_0_is_refused():
    with pytest.raises(ArgumentError, match="beta=0"):
        layers.Softplus(beta=0)(draw(2, 3))


@pytest.mark.parametrize(("layer", "shape"), [
    (layers.Linear(5, 2), (3, 4)), (layers.Conv2d(4, 1, 3), (2, 3, 7, 7)), (layers.Conv2d(4, 1, 9), (2, 4, 7, 7)),
    (layers.LayerNorm((4, 5)), (3, 5)), (layers.MaxPool2d(9), (1, 1, 4, 4)),
])
def test_shapes_that_do_not_fit_name_the_layer(layer, shape):
    with pytest.raises(ShapeError, match=rf"in layer \({type(layer).__name__}\)"):
        layer(Tensor(np.ones(shape)))


@pytest.mark.parametrize(("layer", "expected", "x"), [
    (layers.ReLU(), lambda x: np.maximum(x, 0), ROWS),
    (layers.ReLU(inplace=True), lambda x: np.maximum(x, 0), ROWS),
    (layers.LeakyReLU(0.3), lambda x: np.where(x > 0, x, 0.3 * x), ROWS),
    (layers.LeakyReLU(), lambda x: np.where(x > 0, x, 0.01 * x), ROWS),
    (layers.SiLU(), lambda x: x / (1 + np.exp(-x)), ROWS),
    (layers.Sigmoid(), lambda x: 1 / (1 + np.exp(-x)), ROWS),
    (layers.Tanh(), np.tanh, ROWS),
    (layers.Softplus(2.0), lambda x: np.log1p(np.exp(2 * x)) / 2, ROWS),
    (layers.Softplus(threshold=-100.0), lambda x: x, ROWS),
    (layers.Softmax(0), lambda x: np.exp(x) / np.exp(x).sum(0), ROWS),
    (layers.LogSoftmax(dim=1), lambda x: x - np.log(np.exp(x).sum(1, keepdims=True)), ROWS),
    (layers.GELU("tanh"), lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))), ROWS),
    (layers.GELU(), lambda x: x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2, ROWS),
    (layers.LayerNorm(5, eps=0.1),
     lambda x: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 0.1), ROWS),
    (layers.AvgPool2d(2, 1),
     lambda x: (x[..., 1:, 1:] + x[..., :-1, 1:] + x[..., 1:, :-1] + x[..., :-1, :-1]) / 4, IMAGE),
    (layers.AdaptiveAvgPool2d(1), lambda x: x.mean((2, 3), keepdims=True), IMAGE),
    (layers.AdaptiveAvgPool2d((None, 3)), lambda x: (x[..., ::2] + x[..., 1::2]) / 2, IMAGE),
    (layers.MaxPool2d((7, 1)), lambda x: x.max(2, keepdims=True), IMAGE),
])
def test_values(layer, expected, x):
    np.testing.assert_allclose(layer(x).numpy(), expected(x.numpy()), rtol=1e-10, atol=1e-12)
    assert not list(layer.buffers())


@pytest.mark.parametrize(("layer", "function"), [
    (layers.MaxPool2d(3, 2, 1, 1, ceil_mode=True), lambda x: F.max_pool2d(x, 3, 2, 1, 1, ceil_mode=True)),
    (layers.MaxPool2d(2, padding=1, dilation=2), lambda x: F.max_pool2d(x, 2, 2, 1, 2)),
    (layers.AvgPool2d(3, 2, 1, True, False), lambda x: F.avg_pool2d(x, 3, 2, 1, True, False)),
    (layers.AvgPool2d(3, divisor_override=2), lambda x: F.avg_pool2d(x, 3, divisor_override=2)),
])
def test_options_are_passed_on(layer, function):
    np.testing.assert_array_equal(layer(IMAGE).numpy(), function(IMAGE).numpy())


def test_max_pool_indices():
    y, where = layers.MaxPool2d(2, return_indices=True)(IMAGE)
    found = np.take_along_axis(IMAGE.numpy().reshape(2, 4, 42), where.numpy().reshape(2, 4, 9), 2)
    np.testing.assert_array_equal(found.reshape(y.shape), y.numpy())


def test_layer_norm_over_several_axes():
    layer = layers.LayerNorm((7, 6), dtype=np.float64)
    layer.weight.assign(draw(7, 6, seed=1))
    layer.bias.assign(draw(7, 6, seed=2))
    x = IMAGE.numpy()
    xhat = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    expected = xhat * draw(7, 6, seed=1) + draw(7, 6, seed=2)
    np.testing.assert_allclose(layer(IMAGE).numpy(), expected, rtol=1e-10, atol=1e-12)
    layer.reset_parameters()
    np.testing.assert_allclose(layer(IMAGE).numpy(), xhat, rtol=1e-10, atol=1e-12)
    assert list(layers.LayerNorm(3, bias=False).state_dict()) == ["weight"]
    assert not list(layers.LayerNorm(3, elementwise_affine=False).parameters())


def test_dropout():
    layer = layers.Dropout(0.25, generator=Generator(0))
    x = minigrad.ones(20000)
    y = layer(x).numpy()
    assert set(y.tolist()) == {0.0, float(np.float32(1 / 0.75))}
    assert abs((y == 0).mean() - 0.25) < 4 * (0.25 * 0.75 / 20000) ** 0.5
    assert not np.array_equal(layer(x).numpy(), y)
    np.testing.assert_array_equal(layers.Dropout(0.25, generator=Generator(0))(x).numpy(), y)
    assert layer.eval()(x) is x
    np.testing.assert_array_equal(layers.Dropout(1.0)(x).numpy(), np.zeros(20000))


def test_losses():
    x = ROWS.numpy()
    logp = x - np.log(np.exp(x).sum(1, keepdims=True))
    picked = -logp[np.arange(3), CLASSES]
    loss = layers.CrossEntropyLoss()(ROWS, Tensor(CLASSES)).item()
    np.testing.assert_allclose(loss, picked.mean(), rtol=1e-12)
    weighted = layers.CrossEntropyLoss(WEIGHT)
    w = WEIGHT[CLASSES]
    np.testing.assert_allclose(weighted(ROWS, Tensor(CLASSES)).item(), (w * picked).sum() / w.sum(), rtol=1e-12)
    assert list(weighted.state_dict()) == ["weight"]
    ignoring = layers.CrossEntropyLoss(ignore_index=4, reduction="sum")
    np.testing.assert_allclose(ignoring(ROWS, Tensor(CLASSES)).item(), picked[0] + picked[2], rtol=1e-12)
    smooth = layers.CrossEntropyLoss(reduction="none", label_smoothing=0.2)(ROWS, Tensor(CLASSES)).numpy()
    np.testing.assert_allclose(smooth, 0.8 * picked - 0.2 * logp.mean(1), rtol=1e-12)
    target = draw(3, 5, seed=1)
    for reduction, expected in (("mean", np.mean), ("sum", np.sum), ("none", lambda a: a)):
        got = layers.MSELoss(reduction=reduction)(ROWS, Tensor(target)).numpy()
        np.testing.assert_allclose(got, expected((x - target) ** 2), rtol=1e-12)


def test_losses_take_no_positional_leftovers_of_older_signatures():
    with pytest.raises(TypeError):
        layers.CrossEntropyLoss(None, None, -100)
    with pytest.raises(TypeError):
        layers.MSELoss("sum")


@pytest.mark.parametrize(("layer", "text"), [
    (layers.Linear(2, 3), "Linear(in_features=2, out_features=3, bias=True)"),
    (layers.Conv2d(2, 4, 3, 2, 1, 2, 2),
     "Conv2d(2, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(2, 2), groups=2)"),
    (layers.LayerNorm(3), "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True)"),
    (layers.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
    (layers.AvgPool2d(2, 1), "AvgPool2d(kernel_size=2, stride=1, padding=0)"),
    (layers.AdaptiveAvgPool2d((2, None)), "AdaptiveAvgPool2d(output_size=(2, None))"),
    (layers.Softplus(), "Softplus(beta=1.0, threshold=20.0)"),
    (layers.LogSoftmax(1), "LogSoftmax(dim=1)"),
    (layers.GELU(), "GELU(approximate='none')"),
    (layers.LeakyReLU(), "LeakyReLU(negative_slope=0.01)"),
    (layers.SiLU(True), "SiLU(inplace=True)"),
    (layers.ReLU(True), "ReLU(inplace=True)"),
    (layers.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
])
def test_repr(layer, text):
    assert repr(layer) == text


def test_the_bare_name_is_refused():
    spec = importlib.util.spec_from_file_location("layers", layers.__file__)
    with pytest.raises(ImportError, match=r"installed as minigrad\.layers"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
