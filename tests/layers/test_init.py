"""Initial values: bounds, moments, fans and gains, and the distributions that layers start from."""

import math

import numpy as np
import pytest

import minigrad
from minigrad import layers
from minigrad.errors import ArgumentError, ShapeError
from minigrad.layers import BatchNorm1d, Conv2d, LayerNorm, Linear, Parameter, init
from minigrad.ops.random import Generator, default_generator


def make(*shape, order="C"):
    return Parameter(np.full(shape, np.nan, np.float32, order))


def fresh(seed=3):
    return Generator(seed)


def assert_uniform(values, low, high):
    """Bounds, mean and variance of a uniform distribution, within four standard errors."""
    n, width = values.size, high - low
    assert low <= values.min() < low + 0.02 * width
    assert high - 0.02 * width < values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < 4 * width / math.sqrt(12 * n)
    assert abs(values.var() / (width**2 / 12) - 1) < 4 * math.sqrt(0.8 / n)


def assert_normal(values, mean, std):
    """Mean, variance and fourth moment of a normal distribution, within four standard errors."""
    n = values.size
    assert abs(values.mean() - mean) < 4 * std / math.sqrt(n)
    assert abs(values.var() / std**2 - 1) < 4 * math.sqrt(2 / n)
    assert abs((((values - mean) / std) ** 4).mean() - 3) < 4 * math.sqrt(96 / n)


def test_constants():
    tensor = make(3, 2)
    for fill, expected in ((init.zeros_, 0.0), (init.ones_, 1.0), (lambda t: init.constant_(t, 2.5), 2.5)):
        assert fill(tensor) is tensor
        np.testing.assert_array_equal(tensor.numpy(), np.full((3, 2), expected, np.float32), strict=True)


def test_uniform_and_normal():
    assert_uniform(init.uniform_(make(100, 100), -1, 3, fresh()).numpy(), -1, 3)
    assert_uniform(init.uniform_(make(100, 100), generator=fresh()).numpy(), 0, 1)
    assert_normal(init.normal_(make(100, 100), 2, 0.5, fresh()).numpy(), 2, 0.5)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [((200, 50), 50, 200), ((40, 20, 3, 3), 180, 360)])
def test_scaled_by_fans(shape, fan_in, fan_out):
    std = 1.5 * math.sqrt(2 / (fan_in + fan_out))
    bound = math.sqrt(3) * std
    assert_uniform(init.xavier_uniform_(make(*shape), 1.5, fresh()).numpy(), -bound, bound)
    assert_normal(init.xavier_normal_(make(*shape), 1.5, fresh()).numpy(), 0, std)
    for mode, fan in (("fan_in", fan_in), ("fan_out", fan_out)):
        bound = math.sqrt(6 / fan)
        kaiming = init.kaiming_uniform_(make(*shape), mode=mode, nonlinearity="relu", generator=fresh())
        assert_uniform(kaiming.numpy(), -bound, bound)
        kaiming = init.kaiming_normal_(make(*shape), a=2, mode=mode, generator=fresh())
        assert_normal(kaiming.numpy(), 0, math.sqrt(2 / 5 / fan))


def test_the_layout_does_not_matter_and_dtypes_start_alike():
    wanted = init.normal_(make(5, 4), generator=fresh()).numpy()
    np.testing.assert_array_equal(init.normal_(make(5, 4, order="F"), generator=fresh()).numpy(), wanted)
    double = init.normal_(Parameter(np.empty((5, 4))), generator=fresh()).numpy()
    np.testing.assert_array_equal(double.astype(np.float32), wanted)


def test_gains():
    gain = init.calculate_gain
    assert gain("linear") == gain("conv2d") == gain("sigmoid") == 1
    assert gain("tanh") == 5 / 3
    assert gain("relu") == math.sqrt(2)
    assert gain("selu") == 0.75
    assert gain("leaky_relu") == math.sqrt(2 / 1.0001)
    assert gain("leaky_relu", 0) == math.sqrt(2)
    with pytest.raises(ArgumentError, match="'gelu'; wanted one of 'linear'"):
        gain("gelu")


def test_what_is_refused():
    with pytest.raises(ShapeError, match=r"shape \(3,\)"):
        init.kaiming_normal_(make(3))
    with pytest.raises(ArgumentError, match="'fan_avg'"):
        init.kaiming_uniform_(make(3, 3), mode="fan_avg")
    result = make(2, 2) * 2
    with pytest.raises(minigrad.errors.GraphError):
        init.zeros_(result)


def test_a_graph_recorded_before_refuses():
    weight = Parameter(np.ones((2, 2)))
    y = (weight * weight).sum()
    init.zeros_(weight)
    with pytest.raises(minigrad.errors.GraphError, match="changed in place"):
        y.backward()


def test_empty_weights_are_left_alone():
    assert init.kaiming_uniform_(make(3, 0)).shape == (3, 0)
    assert init.xavier_normal_(make(0, 0)).shape == (0, 0)


# ------------------------------------------------------------------ layers


def test_linear_and_convolution_start_uniform_in_one_over_the_root_of_the_fan():
    layer = Linear(64, 400, generator=fresh())
    assert_uniform(layer.weight.numpy(), -1 / 8, 1 / 8)
    assert_uniform(layer.bias.numpy(), -1 / 8, 1 / 8)
    layer = Conv2d(32, 400, (3, 6), groups=8, generator=fresh())  # fan_in 4·18 = 72
    bound = 72**-0.5
    assert_uniform(layer.weight.numpy(), -bound, bound)
    assert_uniform(layer.bias.numpy(), -bound, bound)


def test_normalizations_start_as_the_identity():
    for layer in (BatchNorm1d(3), LayerNorm(3)):
        np.testing.assert_array_equal(layer.weight.numpy(), np.ones(3, np.float32), strict=True)
        np.testing.assert_array_equal(layer.bias.numpy(), np.zeros(3, np.float32), strict=True)


@pytest.mark.parametrize("make_layer", [lambda **o: Linear(3, 4, **o), lambda **o: Conv2d(3, 4, 2, **o)])
def test_generators_and_dtypes(make_layer):
    one, same, other = (make_layer(generator=fresh(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.weight.numpy(), same.weight.numpy())
    np.testing.assert_array_equal(one.bias.numpy(), same.bias.numpy())
    assert not np.array_equal(one.weight.numpy(), other.weight.numpy())
    assert make_layer(dtype="float64").weight.dtype == np.float64
    state = default_generator.get_state()
    first = make_layer().weight.numpy().copy()
    default_generator.set_state(state)
    np.testing.assert_array_equal(make_layer().weight.numpy(), first)


@pytest.mark.parametrize("make", [
    lambda **k: layers.Linear(2, 3, **k), lambda **k: layers.Conv2d(2, 3, 1, **k), lambda **k: layers.LSTM(2, 3, **k),
    lambda **k: layers.ConvTranspose1d(2, 3, 1, **k), lambda **k: layers.GRUCell(2, 3, **k),
    lambda **k: layers.Embedding(2, 3, **k), lambda **k: layers.MultiheadAttention(4, 2, **k),
    lambda **k: layers.BatchNorm1d(3, **k), lambda **k: layers.InstanceNorm2d(3, affine=True, **k),
    lambda **k: layers.LayerNorm(3, **k), lambda **k: layers.GroupNorm(1, 3, **k), lambda **k: layers.RMSNorm(3, **k),
])
def test_no_dtype_is_the_usual_one(make):
    """torch's layers pass None on as "the default"; to NumPy it says float64."""
    kinds = {name: t.dtype for name, t in make(dtype=None).state_dict().items()}
    assert kinds == {name: t.dtype for name, t in make().state_dict().items()}
    assert np.float32 in kinds.values()
