"""Compiled pooling and activations against the texts."""

import numpy as np
import pytest

import minigrad.functional as F
from minigrad import Tensor, grad, kernels, ops

pytest.importorskip("numba")

OPTIONS = [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (3, 2), "stride": (1, 2)},
    {"kernel_size": 2, "stride": 3}, {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "dilation": 2, "stride": 1}, {"kernel_size": (1, 3), "stride": 1, "padding": (0, 1)},
]


pytestmark = pytest.mark.usefixtures("threads")


def both(function, *arrays):
    """What a function and its gradients give with kernels and without."""
    found = []
    for tier in ("all", "text"):
        with kernels.tier(tier):
            tensors = [Tensor(a, a.dtype.kind == "f") for a in arrays]
            outs = function(*tensors)
            outs = outs if isinstance(outs, tuple) else (outs,)
            g = Tensor(np.random.default_rng(1).standard_normal(outs[0].shape).astype(outs[0].dtype))
            grads = grad(outs[0], [t for t in tensors if t.requires_grad], g)
            found.append([t.numpy() for t in (*outs, *grads)])
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_max_pool(options, dtype):
    x = np.random.default_rng(0).integers(-3, 4, (3, 2, 9, 8)).astype(dtype)  # many ties
    x[0, 0, 4, 3], x[1, 1, 2, 2], x[2, 0, 0, 0] = np.nan, -np.inf, np.inf
    fast, text = both(lambda t: F.max_pool2d(t, return_indices=True, **options), x)
    for a, b in zip(fast[:2], text[:2]):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b, equal_nan=True)
    # Where windows overlap, their gradients are added in another order.
    np.testing.assert_allclose(fast[2], text[2], rtol=0, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu(dtype):
    x = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(dtype)
    x[0, 0, :4] = 0.0, np.nan, np.inf, -np.inf
    fast, text = both(ops.relu, x)
    for a, b in zip(fast, text):
        assert np.array_equal(a, b, equal_nan=True)


def test_other_layouts_and_dtypes_run_as_text():
    x = np.random.default_rng(0).standard_normal((3, 4, 8, 8))
    for view in (x[:, ::2], x.swapaxes(2, 3), x.astype(np.float16), np.asfortranarray(x)):
        fast, text = both(lambda t: ops.relu(F.max_pool2d(t, 2)), view)
        assert all(np.array_equal(a, b) for a, b in zip(fast, text))


def test_empty():
    fast, text = both(lambda t: ops.relu(F.max_pool2d(t, 2)), np.zeros((0, 3, 4, 4), np.float32))
    assert all(a.shape == b.shape for a, b in zip(fast, text))
