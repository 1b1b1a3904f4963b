"""Compiled activations and dropout against their texts in float64."""

import numpy as np
import pytest

import minigrad.functional as F
from minigrad import Tensor, grad, kernels, ops

pytest.importorskip("numba")

SHAPES = [(1,), (7, 3), (0, 4), (2, 3, 5, 4), (700, 60)]


def values(function, x, gy):
    leaf = Tensor(x, True)
    y = function(leaf)
    return [y.numpy(), grad(y, leaf, Tensor(gy))[0].numpy()]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "silu"])
def test_activations(name, shape, threads):
    rng = np.random.default_rng(0)
    x, gy = ((rng.standard_normal(shape) * 3).astype(np.float32) for _ in range(2))
    function = getattr(F, name)
    with kernels.disabled():
        wanted = values(function, x.astype(np.float64), gy.astype(np.float64))
    for a, b in zip(values(function, x, gy), wanted):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "silu"])
def test_what_is_not_finite(name):
    x = np.array([np.nan, np.inf, -np.inf, 200, -200, 0, -0.0], np.float32)
    function = getattr(F, name)
    with kernels.disabled(), np.errstate(all="ignore"):
        wanted = values(function, x, np.ones_like(x))
    for a, b in zip(values(function, x, np.ones_like(x)), wanted):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "silu"])
@pytest.mark.parametrize("layout", [lambda a: a[:, ::2], np.asfortranarray, lambda a: np.broadcast_to(a[:1], a.shape)],
                         ids=["gaps", "Fortran", "broadcast"])
def test_layouts_of_inputs_and_gradients(name, layout):
    rng = np.random.default_rng(1)
    x, gy = (layout(rng.standard_normal((6, 8)).astype(np.float32)) for _ in range(2))
    function = getattr(F, name)
    with kernels.disabled():
        wanted = values(function, x.astype(np.float64), gy.astype(np.float64))
    for a, b in zip(values(function, x, gy), wanted):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dropout(shape, threads):
    rng = np.random.default_rng(2)
    x, gy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    kept = rng.random(shape) < 0.7
    y, gx = values(lambda t: ops.dropout(t, kept, 0.3), x, gy)
    scale = np.float32(1 / 0.7)
    np.testing.assert_array_equal(y, np.where(kept, x * scale, 0))
    np.testing.assert_array_equal(gx, np.where(kept, gy * scale, 0))
