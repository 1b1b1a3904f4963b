"""Compiled activations and dropout against their texts in float64."""

import numpy as np
import pytest

import minigrad.functional as F
from minigrad import Tensor, grad, kernels, ops

pytest.importorskip("numba")

SHAPES = [(1,), (7, 3), (0, 4), (2, 3, 5, 4), (700, 60)]

FUNCTIONS = {
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "logsigmoid": F.logsigmoid,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 1.3),
    "hardtanh": lambda x: F.hardtanh(x, -2.0, 1.5),
    "softplus": lambda x: F.softplus(x, 2.0, 10.0),
}
#: Where a text multiplies 0 by an infinity, and the loops do not.
BETTER = {("gelu_tanh", np.inf), ("gelu_tanh", -np.inf), ("mish", np.inf)}


def values(function, x, gy):
    leaf = Tensor(x, True)
    y = function(leaf)
    return [y.numpy(), grad(y, leaf, Tensor(gy))[0].numpy()]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(name, shape):
    same_as_text(name, shape)


@pytest.mark.parametrize("name", ["relu", "gelu", "softplus"])  # all are functions of one loop
def test_activations_with_and_without_threads(name, threads):
    same_as_text(name, (700, 60))


def same_as_text(name, shape):
    rng = np.random.default_rng(0)
    x, gy = ((rng.standard_normal(shape) * 3).astype(np.float32) for _ in range(2))
    function = FUNCTIONS[name]
    with kernels.disabled():
        wanted = values(function, x.astype(np.float64), gy.astype(np.float64))
    for a, b in zip(values(function, x, gy), wanted):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_finite(name):
    x = np.array([np.nan, np.inf, -np.inf, 200, -200, 0, -0.0], np.float32)
    function = FUNCTIONS[name]
    with kernels.disabled(), np.errstate(all="ignore"):
        wanted = values(function, x, np.ones_like(x))
    same = [(name, v) not in BETTER for v in x.tolist()]
    y, gx = values(function, x, np.ones_like(x))
    np.testing.assert_allclose(y, wanted[0], atol=1e-6)
    np.testing.assert_allclose(gx[same], wanted[1][same], atol=1e-6)
    assert np.isfinite(gx[np.isinf(x) & ~np.array(same)]).all()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("layout", [lambda a: a[:, ::2], np.asfortranarray, lambda a: np.broadcast_to(a[:1], a.shape)],
                         ids=["gaps", "Fortran", "broadcast"])
def test_layouts_of_inputs_and_gradients(name, layout):
    rng = np.random.default_rng(1)
    x, gy = (layout(rng.standard_normal((6, 8)).astype(np.float32)) for _ in range(2))
    function = FUNCTIONS[name]
    with kernels.disabled():
        wanted = values(function, x.astype(np.float64), gy.astype(np.float64))
    for a, b in zip(values(function, x, gy), wanted):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "mish", "logsigmoid", "elu", "softplus", "silu", "sigmoid"])
def test_accuracy_over_the_range(name):
    """Within rounding of float64 everywhere, and to the value's own digits where it is not tiny."""
    x = np.concatenate([np.linspace(-25, 25, 50001), np.linspace(-1e-3, 1e-3, 101)]).astype(np.float32)
    function = FUNCTIONS[name]
    with kernels.disabled():
        y, gx = values(function, x.astype(np.float64), np.ones(x.shape))
    found, slope = values(function, x, np.ones_like(x))
    np.testing.assert_allclose(slope, gx, rtol=3e-7, atol=3e-7)
    np.testing.assert_allclose(found, y, rtol=3e-7, atol=6e-7)
    large = np.abs(y) > 1e-3
    assert (np.abs(found - y)[large] / np.abs(y)[large]).max() < 2e-6


@pytest.mark.parametrize("tier", ["text", "all"])
@pytest.mark.parametrize("function", [lambda x: F.leaky_relu(x, np.float64(0.2)), lambda x: F.elu(x, np.float64(1.3)),
                                      lambda x: F.softplus(x, np.float64(2.0), np.float64(10.0))],
                         ids=["leaky_relu", "elu", "softplus"])
def test_settings_that_are_numbers_of_numpy_change_no_dtype(function, tier):
    with kernels.tier(tier):
        y, gx = values(function, np.array([-1, 0.5], np.float32), np.ones(2, np.float32))
    assert y.dtype == gx.dtype == np.float32


def test_the_lower_tail_of_gelu_has_its_digits():
    """x·Φ(x) far below 0, where 1 + erf(x/√2) has none left, against Φ by its asymptotic series."""
    x = np.linspace(-12, -8, 50).astype(np.float32)
    wide = x.astype(np.float64)
    series = 1 - 1 / wide**2 + 3 / wide**4 - 15 / wide**6 + 105 / wide**8
    tail = np.exp(-(wide**2) / 2) / (-wide * np.sqrt(2 * np.pi)) * series
    np.testing.assert_allclose(F.gelu(Tensor(x)).numpy(), wide * tail, rtol=2e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_dtypes_run_as_text(name, dtype, ran):
    rng = np.random.default_rng(0)
    x, gy = (rng.standard_normal((5, 6)).astype(dtype) for _ in range(2))
    with kernels.disabled():
        wanted = values(FUNCTIONS[name], x, gy)
    with kernels.tier("compiled"):
        got = values(FUNCTIONS[name], x, gy)
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=0, atol=4 * np.finfo(dtype).eps)
    assert not ran


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dropout(shape, threads):
    rng = np.random.default_rng(2)
    x, gy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    kept = rng.random(shape) < 0.7
    y, gx = values(lambda t: ops.dropout(t, kept, 0.3), x, gy)
    scale = np.float32(1 / 0.7)
    np.testing.assert_array_equal(y, np.where(kept, x * scale, 0))
    np.testing.assert_array_equal(gx, np.where(kept, gy * scale, 0))
