"""bfloat16 stays: NumPy computes some of its results in float32 or float64, for numbers are not weak beside it."""

import numpy as np
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes")

import minigrad as mg  # noqa: E402
from minigrad import Tensor, functional, ops  # noqa: E402

CALLS = {
    "multiply": lambda x: x * 2.0, "reciprocal": lambda x: 1 / x, "power": lambda x: abs(x) ** 0.5,
    "where": lambda x: mg.where(x > 0, x, 0.0), "maximum": lambda x: mg.maximum(x, 0.0), "relu": mg.relu,
    "clip": lambda x: mg.clip(x, -1, 1), "sigmoid": mg.sigmoid, "silu": functional.silu, "gelu": functional.gelu,
    "leaky_relu": functional.leaky_relu, "softplus": functional.softplus, "softmax": mg.softmax, "var": mg.var,
    "logsumexp": mg.logsumexp, "max": mg.max, "matmul": lambda x: x @ x, "batch_norm": lambda x: ops.batch_norm(x)[0],
    "layer_norm": lambda x: ops.layer_norm(x, 3), "linear": lambda x: ops.linear(x, x), "remainder": lambda x: x % 2,
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_results_and_gradients_stay(name, create_graph, recwarn):
    values = np.array([[1, -2, 3], [0.5, 0.25, -1.5], [2, 1, -0.125]])
    x = Tensor(values.astype(ml_dtypes.bfloat16), requires_grad=True)
    y = CALLS[name](x)
    (g,) = mg.grad(y.sum(), x, create_graph=create_graph)
    assert y.dtype == g.dtype == ml_dtypes.bfloat16
    wide = Tensor(values, requires_grad=True)
    z = CALLS[name](wide)
    (h,) = mg.grad(z.sum(), wide)
    for found, wanted in ((y, z), (g, h)):
        assert np.abs(found.numpy().astype(np.float64) - wanted.numpy()).max() <= 0.06


def test_wider_operands_widen():
    x = Tensor(np.ones(2, ml_dtypes.bfloat16))
    assert (x * np.ones(2, np.float32)).dtype == np.float32
    assert x.astype(np.float32).dtype == np.float32
    assert ops.batch_norm(Tensor(np.ones((3, 2), ml_dtypes.bfloat16)))[1].dtype == np.float32
